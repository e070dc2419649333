//! A partition as an acceptor of the topology register: one row, which promises and accepts.
//!
//! What an acceptor may do is written here once, as values; [`super::transaction`] runs it in a
//! transaction that holds the lock on the clock. The protocol over many of them is
//! `crate::register`.

use super::{Identity, Refusal};
use crate::rules::Rule;
use crate::topology::{Incarnation, State, Topology};
use crate::version::{PartitionId, RunId};

/// Orders the proposals for the register: by round, then by who proposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Rises with each attempt.
    pub round: u64,
    /// Drawn at random by each proposer.
    pub proposer: u64,
}

impl Ballot {
    /// Nothing was promised or accepted yet.
    pub const NONE: Self = Self { round: 0, proposer: 0 };
    /// What founding accepts at every partition.
    pub const FOUNDING: Self = Self { round: 1, proposer: 0 };
}

/// The row of table `topology`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptorRow {
    /// The life of this acceptor.
    pub incarnation: Incarnation,
    /// No lower ballot is promised or accepted any more.
    pub promised: Ballot,
    /// The ballot that the document was accepted under; [`Ballot::NONE`]: it only came along when
    /// the partition joined.
    pub accepted: Ballot,
    /// The document.
    pub document: Topology,
}

impl AcceptorRow {
    /// What founding writes: the first document is accepted everywhere under one ballot. A
    /// partition that joins later has accepted nothing.
    pub fn founded(identity: &Identity) -> Self {
        let voter = identity.topology.voter(identity.partition);
        let joins = voter.is_some_and(|voter| voter.state == State::Joining);
        let ballot = if joins { Ballot::NONE } else { Ballot::FOUNDING };
        Self {
            incarnation: voter.map(|voter| voter.acceptor).unwrap_or_default(),
            promised: ballot,
            accepted: ballot,
            document: identity.topology.clone(),
        }
    }

    /// Promises to take part in nothing below `ballot`.
    pub fn promise(&mut self, incarnation: Incarnation, ballot: Ballot) -> Result<(), Refusal> {
        self.same_life(incarnation)?;
        if ballot <= self.promised || ballot <= self.accepted {
            return Err(self.outbid());
        }
        self.promised = ballot;
        Ok(())
    }

    /// Accepts a document, unless a higher ballot was promised since.
    pub fn accept(
        &mut self,
        incarnation: Incarnation,
        ballot: Ballot,
        document: &Topology,
    ) -> Result<(), Refusal> {
        self.same_life(incarnation)?;
        if ballot < self.promised || ballot < self.accepted {
            return Err(self.outbid());
        }
        self.promised = ballot;
        self.accepted = ballot;
        self.document = document.clone();
        Ok(())
    }

    fn outbid(&self) -> Refusal {
        Refusal::Outbid { promised: self.promised.max(self.accepted) }
    }

    /// An acceptor that has forgotten what it promised does not vote (H18).
    fn same_life(&self, incarnation: Incarnation) -> Result<(), Refusal> {
        if self.incarnation != incarnation && Rule::SameIncarnation.in_force() {
            return Err(Refusal::OtherIncarnation);
        }
        Ok(())
    }
}

/// What an acceptor says of itself, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptor {
    /// The partition.
    pub partition: PartitionId,
    /// The server run that it lives in: what it shows may not be durable yet.
    pub run: RunId,
    /// Its row.
    pub row: AcceptorRow,
}
