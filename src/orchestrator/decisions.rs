//! What was decided, by front ends or by operators, and why: one list of all kinds.
//!
//! Decisions on ownership are kept here. What scaling decides it keeps itself, with the figures
//! that it rests on ([`super::scaling`]); the list tells of it in the words of the others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::{self, KeptError, Standing};
use super::scaling;
use crate::store::Store;

/// What the names of the records begin with.
const PREFIX: &str = "decision/";
/// How long they are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How many are listed.
pub const LISTED_MAX: usize = 1000;

/// What a decision is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// A master that was lost, or is back: decided by front ends.
    #[default]
    Failover,
    /// A master that was made: asked for by an operator.
    Promotion,
    /// How many read copies there are.
    Scaling,
}

impl About {
    /// Its name outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Promotion => "promotion",
            Self::Scaling => "scaling",
        }
    }
}

/// Something that was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What it is about.
    #[serde(default)]
    pub kind: About,
    /// When: milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Which front end decided, or carried it out.
    pub by: String,
    /// About which partition; empty: none by name.
    pub partition: String,
    /// What was done: `take over`, `came back`, `promote`, `scale 1 to 2`.
    pub action: String,
    /// Why, and who asked for it.
    pub reason: String,
    /// What came of it.
    pub outcome: String,
    /// The epoch of the topology after it; `None`: it was not done.
    pub epoch: Option<u32>,
}

impl From<scaling::DecisionRecord> for Decision {
    fn from(record: scaling::DecisionRecord) -> Self {
        let done = record.is_carried_out();
        Self {
            kind: About::Scaling,
            at_ms: record.at_ms,
            by: record.by,
            partition: String::new(),
            action: format!("scale {} to {}", record.copies, record.wanted),
            reason: record.reason,
            outcome: record.outcome,
            epoch: u32::try_from(record.epoch).ok().filter(|_| done),
        }
    }
}

/// Writes one down. `number` tells it from others of the same moment.
pub async fn record(store: &Store, decision: &Decision, number: &str) {
    let name = format!("{PREFIX}{:015}-{number}", decision.at_ms);
    let written = kept::write(store, &name, decision, Standing::Anything, Some(KEPT)).await;
    if let Err(error) = written {
        tracing::warn!(%error, "a decision could not be written down");
    }
}

/// What was decided, the latest first.
pub async fn decisions(store: &Store) -> Result<Vec<Decision>, KeptError> {
    // What was decided a moment ago is told, too; where a master is away, what has been copied.
    let by_masters = store.health().iter().all(|one| one.slots == 0 || one.writable);
    let mut all: Vec<Decision> = kept::latest(store, PREFIX, by_masters, LISTED_MAX).await?;
    let scaled = scaling::records(store, by_masters, LISTED_MAX).await?;
    all.extend(scaled.into_iter().map(Decision::from));
    // Those of one moment stay as they were.
    all.sort_by_key(|decision| std::cmp::Reverse(decision.at_ms));
    all.truncate(LISTED_MAX);
    Ok(all)
}
