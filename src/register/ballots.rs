//! The pure half of the register: who has to agree, and what follows from what they say.
//!
//! Written over any [`Document`], so that the model checker plays with these very functions.

use std::collections::{BTreeMap, BTreeSet};

use crate::partition::acceptor::Ballot;
use crate::rules::Rule;
use crate::topology::{Incarnation, Topology, Voter};
use crate::version::PartitionId;

/// An acceptor in one of its lives.
pub type Seat = (PartitionId, Incarnation);

/// Those of whom a majority has to agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Electorate(BTreeSet<Seat>);

impl Electorate {
    /// Made of these seats.
    pub fn of(seats: impl IntoIterator<Item = Seat>) -> Self {
        Self(seats.into_iter().collect())
    }

    /// Whether `ayes` are more than half.
    pub fn agrees(&self, ayes: &BTreeSet<Seat>) -> bool {
        self.0.intersection(ayes).count() * 2 > self.0.len()
    }
}

/// What the register holds.
pub trait Document: Clone + PartialEq {
    /// Rises with every change.
    fn revision(&self) -> u64;
    /// The voters, and until a change of them is settled those before: a majority of each has to
    /// agree.
    fn electorates(&self) -> Vec<Electorate>;
}

impl Document for Topology {
    fn revision(&self) -> u64 {
        self.revision()
    }

    fn electorates(&self) -> Vec<Electorate> {
        let seats = |voters: &[Voter]| {
            let counting = voters.iter().filter(|voter| voter.state.counts());
            Electorate::of(counting.map(|voter| (voter.id, voter.acceptor)))
        };
        let mut all = vec![seats(self.voters())];
        if !self.previous().is_empty() && Rule::OwnElectorate.in_force() {
            all.push(seats(self.previous()));
        }
        all
    }
}

/// Whether a majority of each electorate of `document` is among `ayes`.
pub fn all_agree<D: Document>(document: &D, ayes: &BTreeSet<Seat>) -> bool {
    document.electorates().iter().all(|electorate| electorate.agrees(ayes))
}

/// What an acceptor had accepted when it promised or was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vote<D> {
    /// Under which ballot; [`Ballot::NONE`]: nothing.
    pub accepted: Ballot,
    /// The document.
    pub document: D,
}

/// What follows from the promises given to one ballot, where `known` is who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<D> {
    /// This value goes on: no other can have been chosen under a lower ballot.
    Free(D),
    /// The value names other voters: they have to promise, too.
    Ask(D),
    /// Too few have promised.
    NoQuorum,
}

/// Judges the promises of one ballot.
pub fn judge<D: Document>(known: &D, promises: &BTreeMap<Seat, Vote<D>>) -> Verdict<D> {
    let ayes: BTreeSet<Seat> = promises.keys().copied().collect();
    if !all_agree(known, &ayes) {
        return Verdict::NoQuorum;
    }
    let voted = promises.values().filter(|vote| vote.accepted > Ballot::NONE);
    let Some(best) = voted.max_by_key(|vote| vote.accepted) else { return Verdict::NoQuorum };
    if all_agree(&best.document, &ayes) || !Rule::OwnElectorate.in_force() {
        Verdict::Free(best.document.clone())
    } else {
        Verdict::Ask(best.document.clone())
    }
}

/// The document that reading alone shows to be chosen: accepted under one ballot by a majority of
/// each of its electorates.
pub fn chosen<D: Document>(votes: &BTreeMap<Seat, Vote<D>>) -> Option<(Ballot, D)> {
    let best = votes.values().max_by_key(|vote| vote.accepted)?;
    if best.accepted == Ballot::NONE {
        return None;
    }
    let same = votes.iter().filter(|(_, vote)| vote.accepted == best.accepted);
    let ayes = same.map(|(seat, _)| *seat).collect();
    all_agree(&best.document, &ayes).then(|| (best.accepted, best.document.clone()))
}
