//! Who takes the writes of which key: the immutable document that every front end routes by.
//!
//! Until the register exists the topology comes from the configuration: `init` founds it, every
//! partition stores it with a digest, and a front end whose configuration says otherwise refuses to
//! start. Ownership therefore does not change yet; the epoch, the fence and the slot table are here
//! because versions, lanes and trimming already rest on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::record::Key;
use crate::version::{Epoch, PartitionId};

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

    /// Its place in the slot table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a voter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns slots: takes their writes.
    Master,
    /// Holds all data, owns no slot.
    Replica,
    /// Votes and holds no data.
    Witness,
}

impl Role {
    /// Whether the partition holds a full copy.
    pub const fn holds_data(self) -> bool {
        match self {
            Self::Master | Self::Replica => true,
            Self::Witness => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
            Self::Witness => "witness",
        })
    }
}

/// A partition of the configured set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Given once, never used again.
    pub id: PartitionId,
    /// As the configuration names it: lower case.
    pub name: String,
    /// What it is for.
    pub role: Role,
}

/// The document. Immutable: a change makes another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    epoch: Epoch,
    voters: Vec<Voter>,
    /// The master of each slot.
    slots: Vec<PartitionId>,
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
            .map(|(id, (name, &role))| Voter { id: PartitionId(id), name: name.clone(), role })
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
        Ok(Self { epoch: Epoch::FIRST, voters, slots })
    }

    /// The same assignment under a later epoch: what a front end proposes that meets a clock above
    /// its topology.
    #[must_use]
    pub fn at_epoch(&self, epoch: Epoch) -> Self {
        Self { epoch, ..self.clone() }
    }

    /// Checks a document that came from a partition.
    pub fn check(&self) -> Result<(), TopologyError> {
        let ids: BTreeSet<PartitionId> = self.voters.iter().map(|voter| voter.id).collect();
        if self.slots.len() != usize::from(SLOTS) {
            return Err(TopologyError::Damaged("the slot table has not 1024 entries"));
        }
        if ids.len() != self.voters.len() || self.voters.len() > VOTERS_MAX {
            return Err(TopologyError::Damaged("two voters have one id, or there are too many"));
        }
        if ids.iter().any(|id| id.is_copy()) {
            return Err(TopologyError::Damaged("a voter has the id of a read copy"));
        }
        if !self.slots.iter().all(|owner| self.voter(*owner).is_some_and(|v| v.role.holds_data())) {
            return Err(TopologyError::Damaged("a slot belongs to no data voter"));
        }
        Ok(())
    }

    /// The fencing number.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// All voters, in the order of their names.
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The voters that hold data: masters and replicas.
    pub fn data_voters(&self) -> impl Iterator<Item = &Voter> {
        self.voters.iter().filter(|voter| voter.role.holds_data())
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
mod tests {
    use super::*;
    use crate::record::Space;

    fn found(roles: &[(&str, Role)]) -> Result<Topology, TopologyError> {
        Topology::found(&roles.iter().map(|&(name, role)| (name.to_owned(), role)).collect())
    }

    #[test]
    fn masters_share_the_slots_evenly() {
        let topology = found(&[
            ("c", Role::Master),
            ("a", Role::Master),
            ("b", Role::Replica),
            ("d", Role::Master),
            ("w", Role::Witness),
        ])
        .unwrap();
        let slots: Vec<usize> = topology.voters().iter().map(|v| topology.slots_of(v.id)).collect();
        assert_eq!(slots, [342, 0, 341, 341, 0]);
        assert_eq!(topology.majority(), 3);
        assert_eq!(topology.check(), Ok(()));
    }

    #[test]
    fn a_set_needs_a_master() {
        assert_eq!(found(&[("a", Role::Replica)]), Err(TopologyError::NoMaster));
    }

    #[test]
    fn the_digest_tells_names_roles_and_slots_but_not_the_epoch() {
        let base = found(&[("a", Role::Master), ("b", Role::Master)]).unwrap();
        assert_eq!(base.digest(), base.at_epoch(base.epoch().next()).digest());
        for other in [
            found(&[("a", Role::Master), ("c", Role::Master)]).unwrap(),
            found(&[("a", Role::Master), ("b", Role::Replica)]).unwrap(),
            found(&[("a", Role::Master)]).unwrap(),
        ] {
            assert_ne!(base.digest(), other.digest());
        }
    }

    #[test]
    fn every_key_has_a_master() {
        let topology = found(&[("a", Role::Master), ("b", Role::Master)]).unwrap();
        let key = Key::stored(Space::Data, "colour");
        assert_eq!(topology.master_of(&key), topology.slots[Slot::of(&key).index()]);
    }
}
