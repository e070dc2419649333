//! Pages of the change feed: a snapshot, then what changes, resumable anywhere.
//!
//! A follower holds a [`Position`] and gets, page by page, the current rows of the keys that the
//! logs name above it. An event may therefore carry a newer state than its entry; a repeated event
//! has the same version; a follower keeps the greater version of a key. FEED-1: such a follower
//! ends with the store's state, whatever partition it moves to: a page is served only where the
//! vector covers the position, after the barrier, and never across a floor.

use crate::partition::{Origins, PageRequest, Partition, PartitionError, Refusal, Result, Status};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::vector::Vector;

/// How far a follower has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nothing yet: begin with a snapshot.
    Start,
    /// Inside a snapshot that began at `vector`; keys up to `after` have been given.
    Snapshot {
        /// Where the tail begins once the snapshot is through.
        vector: Vector,
        /// The last key given.
        after: Option<Key>,
    },
    /// Following the logs.
    Tail(Vector),
}

/// Events, and where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// Rows, tombstones included.
    pub rows: Vec<Record>,
    /// The position after them.
    pub next: Position,
    /// Whether more is there already.
    pub more: bool,
}

/// Why a partition has no page for a position.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Its vector does not cover the position: wait, or ask another.
    #[error("the partition has not yet what the follower has seen")]
    NotCovered,
    /// The position is below a floor: the follower has to begin again.
    #[error("the log has been trimmed past the position")]
    Reset,
    /// The partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// The page after `position` at this partition.
pub fn page(
    partition: &mut dyn Partition,
    position: &Position,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    match position {
        Position::Start => snapshot(partition, None, None, barriers, limits),
        Position::Snapshot { vector, after } => {
            snapshot(partition, Some(vector), after.as_ref(), barriers, limits)
        }
        Position::Tail(vector) => tail(partition, vector, barriers, limits),
    }
}

fn snapshot(
    partition: &mut dyn Partition,
    began: Option<&Vector>,
    after: Option<&Key>,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    let chunk = partition.scan(after, limits.entries_max, limits.bytes_max)?;
    let vector = began.unwrap_or(&chunk.source.vector).clone();
    covered(&chunk.source, &vector)?;
    if !vector.covers(&chunk.source.floors) && Rule::AboveFloors.in_force() {
        return Err(FeedError::Reset);
    }
    barriers.pass(partition, &chunk.source)?;
    let next = if chunk.more {
        let after = chunk.rows.last().map(|row| row.key.clone());
        Position::Snapshot { vector, after }
    } else {
        Position::Tail(vector)
    };
    Ok(FeedPage { rows: chunk.rows, next, more: chunk.more })
}

fn tail(
    partition: &mut dyn Partition,
    position: &Vector,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    let request = PageRequest {
        from: position.clone(),
        origins: Origins::AllBut(None),
        early: false,
        rows: true,
        entries_max: limits.entries_max,
        bytes_max: limits.bytes_max,
    };
    let page = match partition.page(&request) {
        Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => return Err(FeedError::Reset),
        page => page?,
    };
    covered(&page.source, position)?;
    barriers.pass(partition, &page.source)?;
    let mut next = position.clone();
    for segment in &page.segments {
        next.raise(segment.origin, segment.claim);
    }
    Ok(FeedPage { rows: page.rows, next: Position::Tail(next), more: page.cut })
}

fn covered(source: &Status, position: &Vector) -> Result<(), FeedError> {
    if source.vector.covers(position) || !Rule::FeedCovered.in_force() {
        Ok(())
    } else {
        Err(FeedError::NotCovered)
    }
}
