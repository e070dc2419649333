//! What a round of passes did: a row per pair of partitions.

use std::sync::Arc;
use std::time::Duration;

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
    /// Writes of the source that the target still lacked afterwards; 0 = caught up.
    pub lag: u64,
    /// What went wrong with this pair, in words that anybody may read; the others went on.
    pub error: Option<&'static str>,
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
        self.pairs.iter().all(|pair| pair.error.is_none() && pair.lag == 0)
    }
}
