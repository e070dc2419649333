//! What a round of passes did: a row per pair of partitions.

use std::sync::Arc;
use std::time::Duration;

/// Something that went wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What, in words that anybody may read.
    pub what: &'static str,
    /// When: milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// One pair: a target and a source that it may pull from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who pulled.
    pub target: Arc<str>,
    /// From whom; `None`: the target itself could not be reached.
    pub source: Option<Arc<str>>,
    /// Rows that were newer than what stood.
    pub rows: usize,
    /// Their weight in bytes.
    pub bytes: usize,
    /// How long it took.
    pub took: Duration,
    /// Writes of the source that the target still lacked afterwards; 0 = caught up.
    pub lag: u64,
    /// The latest monotonic instant at which the source was asked how far it is and the target was
    /// seen since to have all of that: what the source has written the target lacks at most since
    /// then. `None`: never seen.
    pub covered_at: Option<Duration>,
    /// What went wrong with this pair in this pass; the others went on.
    pub error: Option<&'static str>,
    /// What went wrong last, in whichever pass.
    pub last_error: Option<Trouble>,
    /// Whether nothing is pulled, because somebody asked for that.
    pub paused: bool,
    /// Whether the target is being made anew from this source; it serves nothing until then.
    pub seeding: bool,
}

/// One round: every target once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which round of this process, from 1.
    pub round: u64,
    /// When it began: milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// How long it took.
    pub took: Duration,
    /// Ordered by target, then source.
    pub pairs: Vec<Pair>,
}

impl Report {
    /// Whether every pair did what it should and nothing is left behind.
    pub fn is_clean(&self) -> bool {
        let clean = |pair: &Pair| pair.error.is_none() && pair.lag == 0 && !pair.seeding;
        self.pairs.iter().all(clean)
    }
}
