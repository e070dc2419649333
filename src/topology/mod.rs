//! Who takes the writes of which key: the immutable document that every front end routes by.
//!
//! A change makes another document ([`change`]), which the register commits ([`crate::register`]);
//! nothing is ever changed in place. Each has a *revision*, which rises with every change, and an
//! *epoch*, which rises with every change of ownership or of the voters: what fences rest on.
//!
//! The document says: the voters with their roles and states ([`voter`]), the master of each slot,
//! the ids that were retired and are never used again, the *cuts* of takeovers ([`cut`]), and,
//! until a change of the voters is settled, the voters before it.

pub mod change;
pub mod cut;
pub mod slots;
pub mod voter;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use self::cut::{Cut, Cuts, SlotSet};
pub use self::voter::{Incarnation, Role, State, Voter};
use crate::record::Key;
use crate::version::{Epoch, PartitionId, SetId};

/// Hash slots of every set.
pub const SLOTS: u16 = 1024;
/// More voters than anybody runs; bounds vectors, tokens and threads.
pub const VOTERS_MAX: usize = 64;

/// One of [`SLOTS`] hash slots: `xxh3_64(key) mod 1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder below 1024")]
    pub fn of(key: &Key) -> Self {
        Self((key.hash() % u64::from(SLOTS)) as u16)
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// Its place in the slot table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The document. Immutable: a change makes another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    epoch: Epoch,
    /// Rises with every change.
    #[serde(default)]
    revision: u64,
    voters: Vec<Voter>,
    /// The master of each slot.
    slots: Vec<PartitionId>,
    /// Ids that are never used again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    retired: BTreeSet<PartitionId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cuts: Vec<Cut>,
    /// The voters before the last change of them; none: that change is settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    previous: Vec<Voter>,
}

/// What cannot be a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Nobody would take writes.
    #[error("no partition has role = \"master\": nobody would take writes")]
    NoMaster,
    /// Above the limit.
    #[error("{voters} partitions are configured; the limit is {VOTERS_MAX}")]
    TooManyVoters {
        /// How many were configured.
        voters: usize,
    },
    /// A stored document that contradicts itself.
    #[error("the stored topology is damaged: {0}")]
    Damaged(&'static str),
}

impl Topology {
    /// The first topology of a new set: ids in the order of names, slots shared evenly by the
    /// masters.
    pub fn found(roles: &BTreeMap<String, Role>) -> Result<Self, TopologyError> {
        if roles.len() > VOTERS_MAX {
            return Err(TopologyError::TooManyVoters { voters: roles.len() });
        }
        let voters: Vec<Voter> = (1..)
            .zip(roles)
            .map(|(id, (name, &role))| Voter::new(PartitionId(id), name.clone(), role))
            .collect();
        let masters: Vec<PartitionId> = voters
            .iter()
            .filter(|voter| voter.role == Role::Master)
            .map(|voter| voter.id)
            .collect();
        if masters.is_empty() {
            return Err(TopologyError::NoMaster);
        }
        let slots = masters.iter().copied().cycle().take(usize::from(SLOTS)).collect();
        Ok(Self {
            epoch: Epoch::FIRST,
            revision: 0,
            voters,
            slots,
            retired: BTreeSet::new(),
            cuts: Vec::new(),
            previous: Vec::new(),
        })
    }

    /// The first topology of `set`: the acceptors have the incarnations that founding gives them,
    /// whichever of two founders at once it is.
    #[must_use]
    pub fn seeded(&self, set: SetId) -> Self {
        let mut seeded = self.clone();
        for voter in &mut seeded.voters {
            let mut hash = Xxh3::new();
            hash.update(&set.0.to_be_bytes());
            hash.update(&voter.id.0.to_be_bytes());
            voter.acceptor = Incarnation(hash.digest());
        }
        seeded
    }

    /// Checks a document that came from a partition.
    pub fn check(&self) -> Result<(), TopologyError> {
        let ids: BTreeSet<PartitionId> = self.voters.iter().map(|voter| voter.id).collect();
        let names: BTreeSet<&str> = self.voters.iter().map(|voter| voter.name.as_str()).collect();
        if self.slots.len() != usize::from(SLOTS) {
            return Err(TopologyError::Damaged("the slot table has not 1024 entries"));
        }
        if ids.len() != self.voters.len() || self.voters.len() > VOTERS_MAX {
            return Err(TopologyError::Damaged("two voters have one id, or there are too many"));
        }
        if ids.iter().any(|id| id.is_copy()) {
            return Err(TopologyError::Damaged("a voter has the id of a read copy"));
        }
        if names.len() != self.voters.len() {
            return Err(TopologyError::Damaged("two voters have one name"));
        }
        if !ids.is_disjoint(&self.retired) {
            return Err(TopologyError::Damaged("a voter has a retired id"));
        }
        let owns = |owner: &PartitionId| {
            self.voter(*owner).is_some_and(|v| v.role.holds_data() && v.state.keeps_slots())
        };
        if !self.slots.iter().all(owns) {
            return Err(TopologyError::Damaged("a slot belongs to no data voter"));
        }
        Ok(())
    }

    /// The fencing number.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many changes led here.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// All voters, joining ones included, in the order of their names.
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The voters before the last change of them, until that is settled; else none.
    pub fn previous(&self) -> &[Voter] {
        &self.previous
    }

    /// The voters that hold data and count: masters and replicas, down ones included.
    pub fn data_voters(&self) -> impl Iterator<Item = &Voter> {
        self.voters.iter().filter(|voter| voter.counts_as_holder())
    }

    /// The voters that logs are kept for: data voters, and those that are joining.
    pub fn holding_back(&self) -> impl Iterator<Item = &Voter> {
        let waits = |voter: &&Voter| voter.role.holds_data() && voter.state.holds_back();
        self.voters.iter().filter(waits)
    }

    /// Ids that are never used again.
    pub const fn retired(&self) -> &BTreeSet<PartitionId> {
        &self.retired
    }

    /// What takeovers wrote down, oldest first.
    pub fn cuts(&self) -> Cuts {
        Cuts::of(&self.cuts)
    }

    /// The master of a slot.
    pub fn owner_of(&self, slot: Slot) -> PartitionId {
        self.slots[slot.index()]
    }

    /// The slots of a partition.
    pub fn owned_by(&self, id: PartitionId) -> SlotSet {
        Slot::all().filter(|slot| self.owner_of(*slot) == id).collect()
    }

    /// The voter with this id.
    pub fn voter(&self, id: PartitionId) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.id == id)
    }

    /// The voter with this name.
    pub fn voter_named(&self, name: &str) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.name == name)
    }

    /// The partition that takes the writes of `key`.
    pub fn master_of(&self, key: &Key) -> PartitionId {
        self.slots[Slot::of(key).index()]
    }

    /// How many slots a partition owns.
    pub fn slots_of(&self, id: PartitionId) -> usize {
        self.slots.iter().filter(|&&owner| owner == id).count()
    }

    /// How many data voters make a majority: more than half of all, down ones included.
    pub fn majority(&self) -> usize {
        self.data_voters().count() / 2 + 1
    }

    /// Names, ids, roles and slot table in 64 bits; neither the epoch nor anything that a front end
    /// may set for itself (URLs, tuning).
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        for voter in &self.voters {
            hash.update(&voter.id.0.to_be_bytes());
            hash.update(&(voter.name.len() as u64).to_be_bytes());
            hash.update(voter.name.as_bytes());
            hash.update(voter.role.to_string().as_bytes());
        }
        for owner in &self.slots {
            hash.update(&owner.0.to_be_bytes());
        }
        hash.digest()
    }
}

#[cfg(test)]
mod tests;
