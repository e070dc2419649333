//! Voters: roles, states, and what a partition in a state may do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::version::PartitionId;

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

/// Where a partition stands in its life. The table is closed: [`State::may_become`] names every
/// way, and each decision that depends on a state is one of the predicates here.
///
/// ```text
/// joining → active → draining → retired
///           active ⇄ down → retired          joining → retired
///           active, draining, down → quarantined → retired
/// ```
///
/// A lost voter is retired from `down` and one that never came up from `joining`: there is nobody
/// to drain. What joins serves nothing and counts for nothing, so there is nothing to quarantine.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Is being made from another one: holds trimming back and counts for nothing.
    Joining,
    /// Does everything that its role says.
    #[default]
    Active,
    /// Gives its slots away, then retires.
    Draining,
    /// Does not answer, or has lost its slots while it did not; counts all the same.
    Down,
    /// Holds something that cannot be: serves nothing, is nobody's source or target. It leaves to
    /// be retired, emptied, and to join as a new partition.
    Quarantined,
    /// Is no voter any more, and its id is never used again.
    Retired,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Joining, Self::Active, Self::Draining, Self::Down, Self::Quarantined, Self::Retired];

    /// Whether a change of topology may lead from here to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Joining => matches!(next, Self::Active | Self::Retired),
            Self::Active => matches!(next, Self::Draining | Self::Down | Self::Quarantined),
            Self::Draining => matches!(next, Self::Retired | Self::Quarantined),
            Self::Down => matches!(next, Self::Active | Self::Retired | Self::Quarantined),
            Self::Quarantined => matches!(next, Self::Retired),
            Self::Retired => false,
        }
    }

    /// Whether it counts for majorities, acknowledgements and fences. One that is down counts: a
    /// majority is one of all.
    pub const fn counts(self) -> bool {
        match self {
            Self::Active | Self::Draining | Self::Down | Self::Quarantined => true,
            Self::Joining | Self::Retired => false,
        }
    }

    /// Whether it may be asked for its vote: what a quarantined one says cannot be believed.
    pub const fn votes(self) -> bool {
        match self {
            Self::Active | Self::Draining | Self::Down => true,
            Self::Joining | Self::Quarantined | Self::Retired => false,
        }
    }

    /// Whether logs are kept until it has them.
    pub const fn holds_back(self) -> bool {
        match self {
            Self::Joining | Self::Active | Self::Draining | Self::Down | Self::Quarantined => true,
            Self::Retired => false,
        }
    }

    /// Whether clients read there, as far as it answers.
    pub const fn serves(self) -> bool {
        match self {
            Self::Active | Self::Draining | Self::Down => true,
            Self::Joining | Self::Quarantined | Self::Retired => false,
        }
    }

    /// Whether others may pull from it. One that is down may have come back with late rows.
    pub const fn is_source(self) -> bool {
        match self {
            Self::Joining | Self::Active | Self::Draining | Self::Down => true,
            Self::Quarantined | Self::Retired => false,
        }
    }

    /// Whether it pulls from others, and takes pushes.
    pub const fn is_target(self) -> bool {
        match self {
            Self::Joining | Self::Active | Self::Draining | Self::Down => true,
            Self::Quarantined | Self::Retired => false,
        }
    }

    /// Whether slots may be given to it.
    pub const fn gains_slots(self) -> bool {
        match self {
            Self::Active => true,
            Self::Joining | Self::Draining | Self::Down | Self::Quarantined | Self::Retired => {
                false
            }
        }
    }

    /// Whether slots that it has may stay its own until they are moved or taken over.
    pub const fn keeps_slots(self) -> bool {
        match self {
            Self::Active | Self::Draining | Self::Down | Self::Quarantined => true,
            Self::Joining | Self::Retired => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        })
    }
}

/// Names one life of an acceptor. A database that was emptied or restored has forgotten what it
/// promised: it has another incarnation, and does not vote until the document lists that one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

/// How to reach a partition that was added while the set was running; those of the configuration
/// are reached as that says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its URL, without the password.
    pub url: String,
    /// The password, sealed with a key of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A partition of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Given once, never used again.
    pub id: PartitionId,
    /// As the configuration names it: lower case.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Where it stands in its life.
    #[serde(default)]
    pub state: State,
    /// The life of its acceptor that votes.
    #[serde(default)]
    pub acceptor: Incarnation,
    /// How to reach it, if it was added while the set was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl Voter {
    /// An active one that the configuration says how to reach.
    pub const fn new(id: PartitionId, name: String, role: Role) -> Self {
        let acceptor = Incarnation(0);
        Self { id, name, role, state: State::Active, acceptor, address: None }
    }

    /// Whether it counts as a holder of data: for acknowledgements and fences.
    pub const fn counts_as_holder(&self) -> bool {
        self.role.holds_data() && self.state.counts()
    }
}
