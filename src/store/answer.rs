//! What the store is asked and what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::partition::PartitionError;
use crate::record::Record;
use crate::vector::{Token, Vector};
use crate::version::{PartitionId, Version};
use crate::write::Outcome;

/// Where a read may be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// By any partition.
    #[default]
    Anywhere,
    /// By the key's master; a list: by each master what it has of its own.
    Master,
    /// By the partition of this name.
    At(String),
}

/// What a read needs; by default nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Where it may be served.
    pub place: Place,
    /// What the answering partition's vector has to cover: what a session has seen.
    pub covers: Vector,
    /// How old the answer may be.
    pub max_age: Option<Duration>,
    /// How old it should be, if that can be had.
    pub prefers: Option<Duration>,
}

impl Need {
    /// Any partition that can serve.
    pub fn any() -> Self {
        Self::default()
    }

    /// A partition whose vector covers this one.
    pub fn session(covers: Vector) -> Self {
        Self { covers, ..Self::default() }
    }

    /// A partition that is no older than this.
    pub fn bounded(max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..Self::default() }
    }

    /// The key's master, whose vector covers this one.
    pub fn master(covers: Vector) -> Self {
        Self { place: Place::Master, covers, ..Self::default() }
    }

    /// The partition of this name, as it is.
    pub fn at(name: impl Into<String>) -> Self {
        Self { place: Place::At(name.into()), ..Self::default() }
    }
}

/// How many data voters have to hold a write before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The master.
    One,
    /// A majority of all data voters, those that are down included.
    Majority,
    /// All data voters, those that are down included.
    All,
    /// The master, and whoever of the others can be reached.
    Reachable,
}

/// How many data voters hold a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acks {
    /// How many hold it for certain.
    pub held: usize,
    /// How many had to.
    pub needed: usize,
    /// How many there are.
    pub voters: usize,
}

impl Acks {
    /// Whether it is acknowledged as was asked.
    pub const fn is_met(&self) -> bool {
        self.held >= self.needed
    }
}

/// The partition that an answer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The partition's id.
    pub id: PartitionId,
    /// The partition's name.
    pub name: Arc<str>,
}

/// The answer to a point read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The visible row, if any.
    pub record: Option<Record>,
    /// Who served it.
    pub served_by: Serving,
    /// How old it may be; `None`: not known.
    pub age: Option<Duration>,
    /// What the reader has seen now: the token that came in, joined with the row or tombstone seen.
    pub session: Token,
}

/// The answer to a list.
#[derive(Clone, Debug)]
pub struct List {
    /// Visible rows in key order; values are there if they were asked for.
    pub rows: Vec<Record>,
    /// The last key looked at, where there is more.
    pub next: Option<bytes::Bytes>,
    /// Who served it: one partition, or every master its own keys.
    pub served_by: Vec<Serving>,
    /// How old it may be; `None`: not known.
    pub age: Option<Duration>,
    /// What the reader has seen now.
    pub session: Token,
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// What became of it.
    pub outcome: Outcome,
    /// The master that judged it.
    pub served_by: Serving,
    /// What the writer has seen now: the token that came in, joined with what was written.
    pub session: Token,
    /// Who holds what was written; `None`: nothing was.
    pub acks: Option<Acks>,
}

/// Why the store has no answer. Nothing here knows HTTP.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No partition has this name.
    #[error("no partition is named {name:?}")]
    NoSuchPartition {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<Arc<str>>,
    },
    /// The token is of another set.
    #[error("the session token belongs to another set of partitions")]
    ForeignToken,
    /// No partition covers the token in time.
    #[error("no partition has yet what the session has seen of origin {origin}: {version}")]
    TooStale {
        /// The first origin that is not covered.
        origin: PartitionId,
        /// The version that the session has seen.
        version: Version,
    },
    /// No partition is known to be as young as was asked for.
    #[error("{}", too_old(*.age, *.max_age))]
    TooOld {
        /// The least age of those that could have served; `None`: not known.
        age: Option<Duration>,
        /// What was asked for.
        max_age: Duration,
    },
    /// A version that no partition can have any more.
    #[error("what the session has seen of origin {origin} is lost: {version}")]
    SessionLost {
        /// Whose write it was.
        origin: PartitionId,
        /// Which write.
        version: Version,
    },
    /// Certainly nothing was written; the request may be repeated.
    #[error("the write was not made")]
    NotWritten {
        /// The master that would have taken it.
        partition: Arc<str>,
        /// Why.
        #[source]
        source: Arc<PartitionError>,
    },
    /// The write stands at its master, and fewer hold it than was asked for.
    #[error("the write stands at its master, and too few others confirmed it in time")]
    AckUnmet(Box<Written>),
    /// The write may stand or not.
    #[error("the write was sent and no answer came: it may stand or not")]
    OutcomeUnknown {
        /// The master that was asked.
        partition: Arc<str>,
    },
    /// The read did not come through.
    #[error("no partition could serve the read")]
    Unreadable {
        /// The partition that was asked last.
        partition: Arc<str>,
        /// Why.
        #[source]
        source: Arc<PartitionError>,
    },
    /// Too much is waiting already; nothing was done.
    #[error("too many requests are waiting for partition {partition}")]
    Overloaded {
        /// Whose queue is full.
        partition: Arc<str>,
    },
    /// The deadline passed before it was begun; nothing was done.
    #[error("the deadline passed while the request waited for partition {partition}")]
    DeadlinePassed {
        /// Whose queue it waited in.
        partition: Arc<str>,
    },
    /// The service is draining; nothing was done.
    #[error("the service is shutting down")]
    Stopping,
}

fn too_old(age: Option<Duration>, max_age: Duration) -> String {
    let max_age = max_age.as_millis();
    match age {
        Some(age) => {
            let age = age.as_millis();
            format!("what can be read may be {age} ms old, and {max_age} ms were asked for")
        }
        None => format!("nobody can tell how old what can be read is; {max_age} ms were asked for"),
    }
}
