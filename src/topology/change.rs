//! Changes of the topology: pure, each from one document to the next.
//!
//! A change of ownership or of the voters takes the epoch that its fences were raised to; any other
//! keeps the epoch. Every change has the next revision. A role follows from what a partition owns:
//! whoever has slots is a master, whoever has none a replica; a witness stays one.
//!
//! The voters change one at a time: while [`Topology::previous`] names the voters before a change,
//! no other one begins, until [`Topology::settle`].

use super::cut::{Cut, SlotSet};
use super::slots::Move;
use super::voter::{Address, Incarnation, Role, State, Voter};
use super::{Slot, Topology, VOTERS_MAX};
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, Version};

/// Why a document does not change so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Fences rest on a rising epoch.
    #[error("epoch {asked} is not above {standing}")]
    EpochNotNew {
        /// The epoch of the change.
        asked: Epoch,
        /// The epoch of the document.
        standing: Epoch,
    },
    /// The last change of the voters is not settled yet.
    #[error("the last change of the voters is not settled yet")]
    Unsettled,
    /// No such voter.
    #[error("there is no partition {id}")]
    Unknown {
        /// The id that was asked for.
        id: PartitionId,
    },
    /// The name is taken.
    #[error("there is a partition `{name}` already")]
    NameTaken {
        /// Which name.
        name: String,
    },
    /// Above the limit.
    #[error("there are {VOTERS_MAX} partitions, which is the limit")]
    TooManyVoters,
    /// Ids are given once.
    #[error("all partition ids have been given out")]
    IdsExhausted,
    /// The table of states has no such way.
    #[error("partition {id} is {from}, which does not become {to}")]
    State {
        /// Which partition.
        id: PartitionId,
        /// Its state.
        from: State,
        /// The state that was asked for.
        to: State,
    },
    /// It cannot own slots as it is.
    #[error("partition {id} cannot take slots: it is {state}, role {role}")]
    CannotOwn {
        /// Which partition.
        id: PartitionId,
        /// Its state.
        state: State,
        /// Its role.
        role: Role,
    },
    /// It owns slots.
    #[error("partition {id} still owns {slots} slots")]
    OwnsSlots {
        /// Which partition.
        id: PartitionId,
        /// How many.
        slots: usize,
    },
    /// The slots are not that partition's.
    #[error("partition {id} does not own all of the slots to be moved")]
    NotTheOwner {
        /// Which partition.
        id: PartitionId,
    },
}

/// A partition that is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its name.
    pub name: String,
    /// Replica or witness: slots are moved to it once it is active.
    pub holds_data: bool,
    /// The life of its acceptor.
    pub acceptor: Incarnation,
    /// How to reach it; `None`: the configuration says.
    pub address: Option<Address>,
}

impl Topology {
    /// The same assignment under a later epoch: what a front end proposes that meets a clock above
    /// its topology.
    #[must_use]
    pub fn at_epoch(&self, epoch: Epoch) -> Self {
        Self { epoch, ..self.changed() }
    }

    /// Gives `slots` to a partition: a planned change of ownership.
    pub fn promote(&self, moved: &Move, epoch: Epoch) -> Result<Self, ChangeError> {
        let mut next = self.under(epoch)?;
        let to = self.known(moved.to)?;
        if !(to.role.holds_data() && to.state.gains_slots()) {
            return Err(ChangeError::CannotOwn { id: to.id, state: to.state, role: to.role });
        }
        if moved.slots.iter().any(|slot| self.owner_of(slot) != moved.from) {
            return Err(ChangeError::NotTheOwner { id: moved.from });
        }
        next.give(&moved.slots, moved.to);
        Ok(next)
    }

    /// Gives all slots of a lost master to its successor, which has its log up to `upto`.
    pub fn take_over(
        &self,
        lost: PartitionId,
        successor: PartitionId,
        upto: Version,
        epoch: Epoch,
    ) -> Result<Self, ChangeError> {
        let slots = self.owned_by(lost);
        let moved = Move { from: lost, to: successor, slots };
        let mut next = self.promote(&moved, epoch)?;
        let state = self.known(lost)?.state;
        if state == State::Active {
            next.set_state(lost, State::Down)?;
        }
        if !slots.is_empty() {
            next.cuts.push(Cut { epoch, origin: lost, upto, slots });
        }
        Ok(next)
    }

    /// Lets a new partition join; returns its id. Logs are kept for it from here on.
    pub fn join(
        &self,
        joining: &Joining,
        epoch: Epoch,
    ) -> Result<(Self, PartitionId), ChangeError> {
        let mut next = self.under(epoch)?;
        if self.voter_named(&joining.name).is_some() {
            return Err(ChangeError::NameTaken { name: joining.name.clone() });
        }
        if self.voters.len() >= VOTERS_MAX {
            return Err(ChangeError::TooManyVoters);
        }
        let id = self.next_id()?;
        next.voters.push(Voter {
            id,
            name: joining.name.clone(),
            role: if joining.holds_data { Role::Replica } else { Role::Witness },
            state: State::Joining,
            acceptor: joining.acceptor,
            address: joining.address.clone(),
        });
        next.voters.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((next, id))
    }

    /// Makes a joined partition a voter that counts.
    pub fn activate(&self, id: PartitionId, epoch: Epoch) -> Result<Self, ChangeError> {
        let voter = self.known(id)?;
        if voter.state != State::Joining {
            return Err(ChangeError::State { id, from: voter.state, to: State::Active });
        }
        let mut next = self.changing_voters(epoch)?;
        next.set_state(id, State::Active)?;
        Ok(next)
    }

    /// Removes a voter that owns nothing; its id is never used again.
    pub fn retire(&self, id: PartitionId, epoch: Epoch) -> Result<Self, ChangeError> {
        let voter = self.known(id)?;
        if !voter.state.may_become(State::Retired) {
            return Err(ChangeError::State { id, from: voter.state, to: State::Retired });
        }
        let slots = self.slots_of(id);
        if slots > 0 {
            return Err(ChangeError::OwnsSlots { id, slots });
        }
        // One that never counted changes no majority.
        let counts = voter.state.counts();
        let mut next = if counts { self.changing_voters(epoch)? } else { self.under(epoch)? };
        next.voters.retain(|voter| voter.id != id);
        next.retired.insert(id);
        Ok(next)
    }

    /// Lets an acceptor vote that has forgotten what it promised.
    pub fn readmit(
        &self,
        id: PartitionId,
        acceptor: Incarnation,
        epoch: Epoch,
    ) -> Result<Self, ChangeError> {
        self.known(id)?;
        let mut next = self.changing_voters(epoch)?;
        for voter in next.voters.iter_mut().filter(|voter| voter.id == id) {
            voter.acceptor = acceptor;
        }
        Ok(next)
    }

    /// Marks a voter: drained, down, active again, quarantined. Changes no majority.
    pub fn mark(&self, id: PartitionId, state: State) -> Result<Self, ChangeError> {
        let from = self.known(id)?.state;
        if from.counts() != state.counts() {
            return Err(ChangeError::State { id, from, to: state });
        }
        let mut next = self.changed();
        next.set_state(id, state)?;
        Ok(next)
    }

    /// The last change of the voters is settled: everybody is at its epoch, and has what everybody
    /// had then.
    #[must_use]
    pub fn settle(&self) -> Self {
        Self { previous: Vec::new(), ..self.changed() }
    }

    /// Drops the cuts whose late rows everybody has judged who stands at `covered` at least, and
    /// those of retired origins, whose rows everybody has once that is settled.
    #[must_use]
    pub fn without_old_cuts(&self, covered: &Vector) -> Self {
        let is_old = |cut: &Cut| cut.is_old(covered) || self.retired.contains(&cut.origin);
        let cuts = self.cuts.iter().filter(|cut| !is_old(cut)).cloned().collect();
        Self { cuts, ..self.changed() }
    }

    fn changed(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    fn under(&self, epoch: Epoch) -> Result<Self, ChangeError> {
        if epoch <= self.epoch {
            return Err(ChangeError::EpochNotNew { asked: epoch, standing: self.epoch });
        }
        Ok(self.at_epoch(epoch))
    }

    fn changing_voters(&self, epoch: Epoch) -> Result<Self, ChangeError> {
        if !self.previous.is_empty() {
            return Err(ChangeError::Unsettled);
        }
        Ok(Self { previous: self.voters.clone(), ..self.under(epoch)? })
    }

    fn known(&self, id: PartitionId) -> Result<&Voter, ChangeError> {
        self.voter(id).ok_or(ChangeError::Unknown { id })
    }

    fn next_id(&self) -> Result<PartitionId, ChangeError> {
        let given = self.voters.iter().map(|voter| voter.id).chain(self.retired.iter().copied());
        let last = given.max().map_or(0, |id| id.0);
        last.checked_add(1).map(PartitionId).ok_or(ChangeError::IdsExhausted)
    }

    fn set_state(&mut self, id: PartitionId, to: State) -> Result<(), ChangeError> {
        let voter = self.voters.iter_mut().find(|voter| voter.id == id);
        let voter = voter.ok_or(ChangeError::Unknown { id })?;
        if !voter.state.may_become(to) {
            return Err(ChangeError::State { id, from: voter.state, to });
        }
        voter.state = to;
        Ok(())
    }

    fn give(&mut self, slots: &SlotSet, to: PartitionId) {
        for slot in Slot::all().filter(|slot| slots.contains(*slot)) {
            self.slots[slot.index()] = to;
        }
        let owners: std::collections::BTreeSet<PartitionId> = self.slots.iter().copied().collect();
        for voter in self.voters.iter_mut().filter(|voter| voter.role.holds_data()) {
            let owns = owners.contains(&voter.id);
            voter.role = if owns { Role::Master } else { Role::Replica };
        }
    }
}
