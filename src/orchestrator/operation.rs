//! Operations: what takes longer than a request, one at a time.
//!
//! An operation is driven by the front end that took it, and taken over by another one if that
//! ends: all of them only bring the partitions nearer to what was asked for, so that one that is
//! begun anew goes on where it was. It can be asked for while it runs and for a week after.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::copies::NewCopy;
use super::promotion::Promotion;
use super::voters::NewVoter;
use crate::topology::Voter;

/// What the names of ended operations' records begin with.
pub const PREFIX: &str = "operation/";
/// What ids begin with.
pub const ID: &str = "op-";
/// How long an ended operation can be asked for, and its key refuses another one.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest `Idempotency-Key`.
pub const KEY_BYTES_MAX: usize = 255;

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Deletes every key.
    Clear,
    /// Has read copies made.
    Add {
        /// Which ones.
        copies: Vec<NewCopy>,
    },
    /// Has read copies taken away.
    Remove {
        /// Their names.
        names: Vec<String>,
    },
    /// Has a voter join.
    Join {
        /// Which one.
        voter: Box<NewVoter>,
    },
    /// Has a voter leave.
    Retire {
        /// As it was.
        voter: Box<Voter>,
    },
    /// Gives slots to a voter.
    Promote {
        /// Which ones, to whom.
        promotion: Box<Promotion>,
    },
}

impl Kind {
    /// Its name outside.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Add { .. } => "add",
            Self::Remove { .. } => "remove",
            Self::Join { .. } => "join",
            Self::Retire { .. } => "retire",
            Self::Promote { .. } => "promote",
        }
    }

    /// The partitions that it is about.
    pub fn partitions(&self) -> Vec<&str> {
        match self {
            Self::Clear => Vec::new(),
            Self::Add { copies } => copies.iter().map(|copy| copy.name.as_str()).collect(),
            Self::Remove { names } => names.iter().map(String::as_str).collect(),
            Self::Join { voter } => vec![&voter.name],
            Self::Retire { voter } => vec![&voter.name],
            Self::Promote { promotion } => vec![&promotion.name],
        }
    }

    /// What may be lost by it.
    pub fn warning(&self) -> Option<&str> {
        match self {
            Self::Promote { promotion } => promotion.warning.as_deref(),
            Self::Clear
            | Self::Add { .. }
            | Self::Remove { .. }
            | Self::Join { .. }
            | Self::Retire { .. } => None,
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Under way.
    Running,
    /// It did what it was asked for.
    Done,
    /// It did not.
    Failed,
}

impl Phase {
    /// Its name outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// How an operation came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did what it was asked for, in words.
    Done(String),
    /// It did not, and left nothing behind.
    Failed(String),
    /// It did not, and left something behind.
    Stuck(String),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// What it does.
    #[serde(flatten)]
    pub kind: Kind,
    /// A digest of the request that it came from.
    pub request: u64,
    /// The front end that drives it.
    pub by: String,
    /// When it began: milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How far it is.
    pub phase: Phase,
    /// What came of it, in words.
    pub message: String,
}

impl Operation {
    /// One that begins.
    pub fn new(id: String, kind: Kind, by: &str, started_ms: i64, request: u64) -> Self {
        let by = by.to_owned();
        let (ended_ms, phase, message) = (None, Phase::Running, String::new());
        Self { id, kind, request, by, started_ms, ended_ms, phase, message }
    }

    /// What it is, in a few words.
    pub fn summary(&self) -> String {
        let about = self.kind.partitions().join(", ");
        format!("{} {about} ({})", self.kind.name(), self.id).replace("  ", " ")
    }

    /// It has come to its end.
    pub(super) fn end(&mut self, ended: Ended, at_ms: i64) {
        self.ended_ms = Some(at_ms);
        (self.phase, self.message) = match ended {
            Ended::Done(what) => (Phase::Done, what),
            Ended::Failed(why) | Ended::Stuck(why) => (Phase::Failed, why),
        };
    }
}

/// The id of an operation: of the `Idempotency-Key`, so that a request that is repeated meets the
/// operation that it has begun, or drawn at random.
pub fn id(key: Option<&str>, random: u128) -> String {
    let number = key.map_or(random, |key| xxh3_128(key.as_bytes()));
    format!("{ID}{number:032x}")
}
