//! Changes of ownership and of the voters: who fences whom, in which order, and why that is safe.
//!
//! Every function here is one run of one change, over whatever connections its caller has
//! ([`Reach`]). It has no memory of its own, may be killed between any two steps, and any number of
//! front ends may run any of them at once: what decides is the register, where one of two changes
//! of one document wins and the other is told so.
//!
//! # The course of a loss
//!
//! 1. *Detection* ([`detect`]): a master has committed nothing for the patience, and more than half
//!    of the front ends that run say so. That may be wrong; nothing below rests on it.
//! 2. *Fencing* ([`fence`]): enough clocks are raised above the lost master's epoch.
//! 3. *Catching up* ([`catch_up`]): the successor gets what any of those has that were fenced.
//! 4. *The document* ([`ownership`]): the slots have another master, and a *cut* says up to where
//!    it had the lost master's log.
//! 5. *Early rows*: what was pushed ahead of a log whose origin is gone gets a version of the
//!    successor's own.
//! 6. *Late rows* and the *ledger*: what the lost master alone has comes along when it is back.
//! 7. *Old cuts* ([`cuts`]) are dropped.
//!
//! Where too few can be asked nothing is done, and nothing acknowledged: with a majority away
//! nobody can tell what it has promised. Once it is back the same course is taken, by whoever is
//! first.
//!
//! # Ownership ([`ownership`])
//!
//! A change *fences first*, under an epoch above every clock that can be seen: planned, at the old
//! master; unplanned, at so many data voters other than the lost master that every write which a
//! majority has acknowledged is on one of them ([`fence`]). From then on nobody acknowledges
//! anything under the old document there. The successor *catches up* ([`catch_up`]) until it covers
//! all that were fenced, for all origins, early rows included. Only then is the document changed;
//! an unplanned change notes with a `cut` how far the successor had the lost master's log. Whoever
//! was fenced further meanwhile, or whose proposal lost, starts again.
//!
//! The first transaction of a lane under a new epoch gives early rows versions of the new master's
//! own ([`crate::lane::batch::begin`]); then it serves.
//!
//! # Late rows, the ledger, and its end
//!
//! A front end that is cut off together with the lost master goes on writing there: those who ask
//! for one acknowledgement are given it, those who ask for a majority never are. What it writes is
//! *late* ([`crate::topology::cut`]). It travels in its origin's log once that is back, and wins
//! where nothing newer stands. Wherever something newer keeps it from being, or staying, its key's
//! current row, it is written to the *conflict ledger*, in that same transaction (LOSS-1). So is
//! what verify drops, and what a retired partition alone had. Every partition is given the entries
//! of all others, and each is kept for as long as `sync.ledger_retention` says
//! ([`crate::sync::ledger`]); what goes then is counted.
//!
//! The lost master is marked as down by the takeover, and as active again once it commits. From its
//! first contact with the new document on, its clock is at the takeover's epoch: it makes no more
//! late rows. The cut goes when nobody can meet a late row any more that was not judged ([`cuts`]).
//!
//! # Un-fencing goes forward
//!
//! Whoever fenced may have died, and clocks never go down. A front end that meets a clock above its
//! topology reads the register; if that is lower, too, it proposes the same assignment under the
//! clock's epoch ([`ownership::unfence`]). The proposal of whoever fenced is based on the document
//! before and loses.
//!
//! # Voters ([`voters`])
//!
//! One change at a time, by majorities of the voters before and after, each *settled* before the
//! next: all data voters are at its epoch, and each has what all of them had then. Until then a
//! takeover fences enough of those before as well. A partition that joins holds trimming back from
//! the epoch of its joining, and counts for nothing until it is admitted. It is made once, before
//! that: whoever comes late to make it is refused, since it may count by then. An id that was
//! retired is never used again: what its partition holds beyond the others goes to the ledger, and
//! the database is emptied.
//!
//! What these majorities cost: while one of *three* voters is retired, the change needs both of the
//! two that stay. If one of them is lost before the change is chosen, an acceptor may hold a
//! document of which nobody can tell whether the lost one has accepted it, too; so the register
//! stands still, as does every change of ownership, until that one is back. Until a change is
//! settled a takeover has to fence enough of the voters before it as well, and the retired one
//! counts as out of reach. With a witness the register goes on; the takeover still waits, since the
//! lost and the retired one may be all who hold what a majority has acknowledged (K5). So let
//! another one join *before* one of three is retired, where that one still answers.

pub mod catch_up;
pub mod cuts;
pub mod detect;
pub mod fence;
pub mod ownership;
pub mod service;
pub mod voters;

use crate::partition::PartitionError;
use crate::register::{Reach, RegisterError, ask};
use crate::sync::pass::PullError;
use crate::sync::reseed::ReseedError;
use crate::topology::change::ChangeError;
use crate::topology::{Topology, Voter};
use crate::version::{Epoch, PartitionId};

/// Why a change was not made. What was fenced for it may stay fenced until somebody un-fences
/// forward.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// The register cannot be read, or did not change.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The document does not change so.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A partition that is needed failed.
    #[error("partition `{name}` failed")]
    Partition {
        /// Which one.
        name: String,
        /// Why.
        #[source]
        source: PartitionError,
    },
    /// A partition could not be brought to where another one is.
    #[error("`{target}` does not get what `{from}` has")]
    Behind {
        /// Who lacks something.
        target: String,
        /// Who has it.
        from: String,
        /// Why.
        #[source]
        source: Box<PullError>,
    },
    /// Too few data voters can be fenced: a write that a majority has acknowledged may be on none
    /// of them.
    #[error(
        "{fenced} data voters besides the lost one can be asked, and {needed} have to be: writes \
         that were acknowledged by a majority might be lost"
    )]
    TooFew {
        /// How many can.
        fenced: usize,
        /// How many have to.
        needed: usize,
    },
    /// None of those that can be asked may be a master.
    #[error("no partition that can be asked may take the slots")]
    NoSuccessor,
    /// It masters nothing.
    #[error("partition {id} masters nothing")]
    NothingToMove {
        /// Which one.
        id: PartitionId,
    },
    /// Somebody else has fenced further: that change goes first.
    #[error("another change of ownership is under way")]
    Overtaken,
    /// A partition that joins was not made yet, or one that everybody has to have reached is not.
    #[error("partition `{name}` does not have all that it should have yet")]
    NotCaughtUp {
        /// Which one.
        name: String,
    },
    /// A partition that joins could not be made from another one.
    #[error("`{name}` could not be made from `{from}`")]
    Seed {
        /// Which one.
        name: String,
        /// From whom.
        from: String,
        /// Why.
        #[source]
        source: Box<ReseedError>,
    },
    /// The database is not that of the partition that was meant.
    #[error("the database of `{name}` is not the one that was meant")]
    OtherDatabase {
        /// Whose.
        name: String,
    },
}

impl FailoverError {
    /// Whether the same may succeed a moment later, without anybody's doing.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Register(_)
            | Self::Partition { .. }
            | Self::Behind { .. }
            | Self::TooFew { .. }
            | Self::NoSuccessor
            | Self::Overtaken
            | Self::NotCaughtUp { .. }
            | Self::Seed { .. } => true,
            Self::Change(_) | Self::NothingToMove { .. } | Self::OtherDatabase { .. } => false,
        }
    }
}

/// An error of a partition, with its name.
fn failed(voter: &Voter) -> impl FnOnce(PartitionError) -> FailoverError {
    let name = voter.name.clone();
    move |source| FailoverError::Partition { name, source }
}

/// The greatest epoch that can be seen anywhere.
fn greatest_epoch(reach: &mut dyn Reach, topology: &Topology, but: Option<PartitionId>) -> Epoch {
    let asked: Vec<&Voter> = topology
        .voters()
        .iter()
        .filter(|voter| Some(voter.id) != but && reach.seems_well(voter))
        .collect();
    let told = asked
        .into_iter()
        .filter_map(|voter| ask(reach, voter, |partition| Ok(partition.status()?.epoch)).ok());
    told.fold(topology.epoch(), Epoch::max)
}

/// Raises the clock of everybody who can be asked; whoever cannot is raised by whoever writes
/// there next.
pub fn raise_all(reach: &mut dyn Reach, topology: &Topology) {
    // Who is not well would only keep those waiting who are.
    let well: Vec<&Voter> =
        topology.voters().iter().filter(|voter| reach.seems_well(voter)).collect();
    for voter in well {
        let raised = ask(reach, voter, |partition| {
            let below = partition.status()?.epoch < topology.epoch();
            if below { partition.raise(topology.epoch()) } else { Ok(()) }
        });
        if let Err(error) = raised {
            tracing::debug!(partition = %voter.name, %error, "its clock was not raised");
        }
    }
}
