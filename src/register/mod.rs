//! The topology register: one value, changed by compare-and-set, over partitions that fail.
//!
//! CASPaxos: the acceptors are the voters, one row each ([`crate::partition::acceptor`]); a
//! proposal asks for promises under a ballot, takes over the value with the greatest ballot that
//! it is told of, and has it, or the next one, accepted. Any front end may propose, any number at
//! once, and each may die anywhere.
//!
//! # What holds
//!
//! - **One value a revision.** A document is *chosen* once a majority of each of its electorates
//!   has accepted it under one ballot: of its voters and, while a change of them is not settled, of
//!   those before. From then on no other document of its revision is ever chosen.
//! - **Acted on only when chosen** (H18): [`Proposer::read`] returns nothing else. What a single
//!   acceptor holds may never be chosen; it serves as a hint of whom to ask, and no more.
//! - **A change starts from a chosen value**: [`Proposer::change`] compares with the value that was
//!   read, and has it chosen first where that is in doubt. So whatever an acceptor holds rests on a
//!   chosen value. It may name voters that nobody decided on: where they are no majority, those who
//!   answered say whom to ask.
//! - **An acceptor that forgot does not vote**: the document lists the incarnation of each.
//! - **Fence with the row**: whoever accepts a document of epoch `e` raises its own clock to `e` in
//!   the same transaction.
//!
//! # Reading without a ballot
//!
//! A read asks every acceptor for its row. If a majority of each electorate shows one document
//! accepted under one ballot, that is chosen, and nothing newer was before the read began: it would
//! have been accepted by one of those asked. A row may be visible and not yet durable, so what is
//! not known to be durable passes a barrier first (BAR-1). Only where they differ a ballot is spent
//! on having the value accepted again (an identity change). A quiet set is read and never written.

pub mod ballots;

use std::collections::{BTreeMap, BTreeSet};

use self::ballots::{Seat, Verdict, Vote, all_agree, chosen, judge};
use crate::partition::acceptor::{Acceptor, Ballot};
use crate::partition::{Partition, PartitionError, Refusal};
use crate::rules::Rule;
use crate::topology::{Topology, Voter};
use crate::version::{PartitionId, RunId};

/// Ballots that one call spends before it gives up: others propose, too.
const ATTEMPTS: u32 = 8;

/// How partitions are reached: the register and changes of ownership go over whatever connections
/// their caller has.
pub trait Reach {
    /// Runs `work` over a connection to `voter`.
    fn with(
        &mut self,
        voter: &Voter,
        work: &mut dyn FnMut(&mut dyn Partition) -> Result<(), PartitionError>,
    ) -> Result<(), PartitionError>;

    /// Whether the voter answered when it was last asked: who did not is asked after all others.
    fn seems_well(&self, _: &Voter) -> bool {
        true
    }
}

/// Asks one partition, over `reach`.
pub fn ask<T>(
    reach: &mut dyn Reach,
    voter: &Voter,
    mut what: impl FnMut(&mut dyn Partition) -> Result<T, PartitionError>,
) -> Result<T, PartitionError> {
    let mut answer = None;
    reach.with(voter, &mut |partition| {
        answer = Some(what(partition)?);
        Ok(())
    })?;
    answer.ok_or_else(|| PartitionError::Unreachable("the partition was not asked".into()))
}

/// Why the register gave no value, or did not change.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Too few acceptors answered; what was proposed may be chosen later.
    #[error("no majority of the voters answers")]
    NoQuorum,
    /// Others proposed at the same time, again and again.
    #[error("others change the topology at the same time")]
    Contended,
    /// The value is another one by now.
    #[error("the topology has changed meanwhile, to revision {}", .0.revision())]
    Lost(Box<Topology>),
}

/// One who reads and changes the register.
#[derive(Debug)]
pub struct Proposer {
    id: u64,
    round: u64,
    /// Whom to ask: the newest value read, or a hint, which may never be chosen.
    known: Topology,
    /// The newest value that is known to be chosen.
    chosen: Option<Topology>,
    /// Under which ballot an acceptor's row is known to be durable.
    durable: BTreeMap<PartitionId, (RunId, Ballot)>,
}

impl Proposer {
    /// A proposer with a random id, which begins with asking the voters of `hint`: whatever any
    /// acceptor holds will do.
    pub const fn new(id: u64, hint: Topology) -> Self {
        Self { id, round: 1, known: hint, chosen: None, durable: BTreeMap::new() }
    }

    /// One with the same knowledge under another id: two that run at once never share one.
    #[must_use]
    pub fn again(&self, id: u64) -> Self {
        let Self { round, known, chosen, durable, .. } = self;
        let (known, chosen, durable) = (known.clone(), chosen.clone(), durable.clone());
        Self { id, round: *round, known, chosen, durable }
    }

    /// The newest value that this proposer knows to be chosen.
    pub const fn chosen(&self) -> Option<&Topology> {
        self.chosen.as_ref()
    }

    /// Follows a newer value that an acceptor was seen to hold.
    pub fn hint(&mut self, document: &Topology) {
        if document.revision() > self.known.revision() {
            self.known = document.clone();
        }
    }

    /// The value that is chosen, no older than any that was when the call began.
    pub fn read(&mut self, reach: &mut dyn Reach) -> Result<Topology, RegisterError> {
        if let Some(value) = self.look(reach) {
            return Ok(self.learn(value));
        }
        self.propose(reach, None)
    }

    /// Replaces `base`, which was read, by `next`.
    pub fn change(
        &mut self,
        reach: &mut dyn Reach,
        base: &Topology,
        next: &Topology,
    ) -> Result<(), RegisterError> {
        let settled = self.propose(reach, Some((base, next)))?;
        if settled == *next { Ok(()) } else { Err(RegisterError::Lost(Box::new(settled))) }
    }

    fn learn(&mut self, value: Topology) -> Topology {
        self.known = value.clone();
        self.chosen = Some(value.clone());
        value
    }

    /// Goes on with whom those who answered name: `known` may never be chosen, and whom it names
    /// may be gone. Any document will do that no chosen one has replaced, also an older one: what
    /// was chosen after it, a majority of its electorates had to accept.
    fn follow(&mut self, document: Topology) {
        if self.chosen.as_ref().is_none_or(|chosen| chosen.revision() <= document.revision()) {
            self.known = document;
        }
    }

    /// Reading without a ballot; `None` where that leaves a doubt.
    fn look(&mut self, reach: &mut dyn Reach) -> Option<Topology> {
        if !Rule::QuorumRead.in_force() {
            let mut voters = asked(&self.known, reach).into_iter();
            return voters.find_map(|voter| Some(read(reach, &voter).ok()?.row.document));
        }
        for _ in 0..ATTEMPTS {
            let asked = asked(&self.known, reach);
            let mut votes = BTreeMap::new();
            let mut rows = BTreeMap::new();
            for voter in &asked {
                let Ok(acceptor) = read(reach, voter) else { continue };
                self.round = self.round.max(acceptor.row.promised.round);
                if acceptor.row.incarnation == voter.acceptor {
                    votes.insert(seat(voter), vote(&acceptor));
                    rows.insert(seat(voter), (voter, acceptor));
                }
                // Nobody else has to be asked once enough have said the same.
                if let Some((ballot, value)) = chosen(&votes)
                    && self.chosen.as_ref().is_none_or(|known| known.revision() <= value.revision())
                    && self.is_durable(reach, ballot, &rows)
                {
                    return Some(value);
                }
            }
            let newest = votes.into_values().max_by_key(|vote| vote.document.revision())?;
            if newest.document.revision() <= self.known.revision() {
                return None;
            }
            self.known = newest.document;
        }
        None
    }

    /// Whether all who show `ballot` cannot lose it any more.
    fn is_durable(
        &mut self,
        reach: &mut dyn Reach,
        ballot: Ballot,
        rows: &BTreeMap<Seat, (&Voter, Acceptor)>,
    ) -> bool {
        let shown = rows.values().filter(|(_, acceptor)| acceptor.row.accepted == ballot);
        for (voter, acceptor) in shown {
            let durable = (acceptor.run, ballot);
            if self.durable.get(&voter.id) == Some(&durable) {
                continue;
            }
            if ask(reach, voter, |partition| partition.barrier(acceptor.run)).is_err() {
                return false;
            }
            self.durable.insert(voter.id, durable);
        }
        true
    }

    /// Spends ballots until a value is chosen: the next one, where the standing one is its base,
    /// else the standing one.
    fn propose(
        &mut self,
        reach: &mut dyn Reach,
        change: Option<(&Topology, &Topology)>,
    ) -> Result<Topology, RegisterError> {
        let mut followed = self.known.clone();
        for _ in 0..ATTEMPTS {
            self.round += 1;
            let ballot = Ballot { round: self.round, proposer: self.id };
            let Some(standing) = self.standing(reach, ballot) else {
                // Somebody has promised more to another one: a higher ballot may do.
                if self.round > ballot.round {
                    continue;
                }
                // Those who answered name nobody else.
                if self.known == followed {
                    return Err(RegisterError::NoQuorum);
                }
                followed = self.known.clone();
                continue;
            };
            self.hint(&standing);
            let wanted = change.filter(|(base, _)| **base == standing).map(|(_, next)| next);
            // A change starts from a value that is chosen for certain.
            let is_chosen = self.chosen.as_ref() == Some(&standing);
            let value = if is_chosen { wanted.unwrap_or(&standing) } else { &standing };
            match self.accept(reach, ballot, value)? {
                true => {
                    let value = self.learn(value.clone());
                    if wanted.is_none_or(|next| *next == value) {
                        return Ok(value);
                    }
                }
                // Somebody else came in between.
                false => continue,
            }
        }
        Err(RegisterError::Contended)
    }

    /// First phase: the value that goes on; `None` where too few have promised.
    fn standing(&mut self, reach: &mut dyn Reach, ballot: Ballot) -> Option<Topology> {
        let mut promises = BTreeMap::new();
        self.collect(reach, ballot, &self.known.clone(), &mut promises);
        let best = match judge(&self.known, &promises) {
            Verdict::Free(value) => return Some(value),
            Verdict::Ask(value) => value,
            Verdict::NoQuorum => {
                let newest = promises.into_values().max_by_key(|vote| vote.document.revision())?;
                self.follow(newest.document);
                return None;
            }
        };
        self.collect(reach, ballot, &best, &mut promises);
        match judge(&best, &promises) {
            Verdict::Free(value) => Some(value),
            Verdict::Ask(newer) => {
                self.hint(&newer);
                None
            }
            Verdict::NoQuorum => {
                self.hint(&best);
                None
            }
        }
    }

    fn collect(
        &mut self,
        reach: &mut dyn Reach,
        ballot: Ballot,
        known: &Topology,
        promises: &mut BTreeMap<Seat, Vote<Topology>>,
    ) {
        for voter in asked(known, reach) {
            let ayes: BTreeSet<Seat> = promises.keys().copied().collect();
            if promises.contains_key(&seat(&voter)) || all_agree(known, &ayes) {
                continue;
            }
            let promise = ask(reach, &voter, |partition| partition.promise(voter.acceptor, ballot));
            match promise {
                Ok(acceptor) => drop(promises.insert(seat(&voter), vote(&acceptor))),
                Err(error) => self.note_outbid(&error),
            }
        }
    }

    /// Second phase: whether `value` is chosen; `false`: outbid.
    fn accept(
        &mut self,
        reach: &mut dyn Reach,
        ballot: Ballot,
        value: &Topology,
    ) -> Result<bool, RegisterError> {
        let mut ayes = BTreeSet::new();
        let mut outbid = false;
        for voter in asked(value, reach) {
            // It is chosen by now: who does not answer takes it over when it is back.
            if all_agree(value, &ayes) && !reach.seems_well(&voter) {
                continue;
            }
            let accepted =
                ask(reach, &voter, |partition| partition.accept(voter.acceptor, ballot, value));
            match accepted {
                Ok(()) => drop(ayes.insert(seat(&voter))),
                Err(error) => {
                    outbid |= matches!(&error, PartitionError::Refused(Refusal::Outbid { .. }));
                    self.note_outbid(&error);
                }
            }
        }
        match all_agree(value, &ayes) {
            true => Ok(true),
            false if outbid => Ok(false),
            false => Err(RegisterError::NoQuorum),
        }
    }

    fn note_outbid(&mut self, error: &PartitionError) {
        if let PartitionError::Refused(Refusal::Outbid { promised }) = error {
            // Of two in one round the other one may have the greater id.
            self.round = self.round.max(promised.round + 1);
        }
    }
}

fn read(reach: &mut dyn Reach, voter: &Voter) -> Result<Acceptor, PartitionError> {
    ask(reach, voter, |partition| partition.acceptor())
}

fn vote(acceptor: &Acceptor) -> Vote<Topology> {
    Vote { accepted: acceptor.row.accepted, document: acceptor.row.document.clone() }
}

const fn seat(voter: &Voter) -> Seat {
    (voter.id, voter.acceptor)
}

/// Whom a document has asked for votes: its voters and, until a change of them is settled, those
/// before; each life of an acceptor once, who seems well first.
fn asked(document: &Topology, reach: &dyn Reach) -> Vec<Voter> {
    let mut seats = BTreeSet::new();
    let all = document.voters().iter().chain(document.previous());
    let mut asked: Vec<Voter> =
        all.filter(|voter| voter.state.votes() && seats.insert(seat(voter))).cloned().collect();
    asked.sort_by_cached_key(|voter| !reach.seems_well(voter));
    asked
}
