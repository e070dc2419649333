//! Heartbeats: each front end keeps a row in every partition, and rewrites it at a calm pace.
//!
//! A row says that its front end lives and what it does; how long it has been silent is told by the
//! partition that holds it, by that partition's own clock, so that no two machines' clocks are ever
//! compared. The rows are no data: they are in no log, and no pass carries them. Like every
//! committed write a beat is a barrier, too (BAR-1).

use super::Result;
use super::tables::Tables;

/// A front end that has been silent for longer is forgotten by the next beat of another one.
pub const FORGET_MS: i64 = 60 * 60 * 1000;

/// What a partition knows of a front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The front end's id, drawn at its start.
    pub frontend: String,
    /// How often it has beaten here.
    pub beats: u64,
    /// How long ago the last time was, by the partition's own clock.
    pub silent_ms: i64,
    /// What it said of itself then: JSON, and nothing to the partition.
    pub document: String,
}

/// The statements of an engine about heartbeats, inside one open transaction.
pub trait Beats {
    /// All rows but the barrier's.
    fn beats(&mut self) -> Result<Vec<Beat>>;
    /// Writes the row of a front end.
    fn put_beat(&mut self, frontend: &str, document: &str) -> Result<()>;
    /// Removes the row of a front end.
    fn remove_beat(&mut self, frontend: &str) -> Result<()>;
}

/// One beat; without a document the last one, which leaves nothing behind.
pub(super) fn beat(tables: &mut dyn Tables, frontend: &str, document: Option<&str>) -> Result<()> {
    match document {
        Some(document) => tables.put_beat(frontend, document)?,
        None => tables.remove_beat(frontend)?,
    }
    let known = tables.beats()?;
    for gone in known.iter().filter(|beat| beat.silent_ms > FORGET_MS) {
        tables.remove_beat(&gone.frontend)?;
    }
    Ok(())
}
