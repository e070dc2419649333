//! The change feed: a snapshot, then what changes, resumable at any front end.
//!
//! A follower holds a [`Position`] and gets, page by page, the current rows of the keys that the
//! logs name above it. An event may therefore carry a newer state than its entry; a repeated event
//! has the same version; a follower keeps the greater version of a key.
//!
//! # FEED-1
//!
//! *Such a follower ends with the store's state, whatever front end or partition it moves to.* For
//! every key and origin it holds at least every version that its position covers, as a partition
//! does (VEC-1). A page keeps that: it is read where the log stands up to its end, so that the rows
//! are no older than their entries; it leaves only after the barrier (BAR-1), so that no crash
//! takes back what was given; and never across a floor, below which entries and tombstones are
//! gone. Each origin's log stands for itself: a position may be moved forward in one of them, read
//! wherever it is known. Only a snapshot has to be read where *all* of its vector is covered, since
//! its rows are not read again.
//!
//! # Flow
//!
//! Each origin has a [`tail`]: a thread that reads the origin's log at the origin itself, or where
//! others stand in for it, as soon as somebody says that it has grown ([`Feed::wrote`],
//! [`Feed::look`]), and puts what it reads on the [`ring`], once for all followers. It reads only
//! while somebody follows. An origin that joins, or is seen in others' vectors, gets one as well
//! ([`tails`]; `docs/adr/0006-a-feed-reads-each-log-by-itself.md`). A [`follower`] takes from the
//! ring what comes after its position. Whoever is not within the ring, since it has just come or
//! has been slow, is caught up from the tables, over lanes of their own; nothing is kept for it.
//!
//! Bounds (BOUND-1): the ring has a size in bytes; a follower holds one batch at most; there are so
//! many followers and no more.

mod follower;
mod gone;
mod position;
mod ring;
mod service;
mod tail;
mod tails;

use std::collections::BTreeSet;

use bytes::Bytes;

pub use self::follower::{Follower, Kind, Listed, Step};
pub use self::gone::Gone;
pub use self::position::{Mark, ParseMarkError, Position};
pub use self::ring::{Batch, Event};
pub use self::service::{Feed, FeedFailure, FeedLimits, FeedParts, FeedSource, Paged};
use crate::partition::{Origins, PageRequest, Partition, PartitionError, Refusal, Result, Status};
use crate::record::{KEY_BYTES_WIDTH, Key, Record, Space};
use crate::rules::Rule;
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::vector::Vector;
use crate::version::PartitionId;

/// What a page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only keys that begin so; a snapshot reads no others, of the logs they are left out.
    pub prefix: Bytes,
    /// Whose logs are read; a snapshot is of all of them.
    pub origins: BTreeSet<PartitionId>,
}

/// Events, and where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// Rows of clients' keys, tombstones included.
    pub rows: Vec<Record>,
    /// The position after them.
    pub next: Position,
    /// Whether more is there already.
    pub more: bool,
    /// Where the partition stands.
    pub source: Vector,
}

/// Why a partition has no page for a position.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Its vector does not cover the position: wait, or ask another.
    #[error("the partition has not yet what the follower has seen")]
    NotCovered,
    /// The position is below a floor, or beyond what its origin ever gave: begin again.
    #[error("the log has been trimmed past the position, or what the follower has seen is lost")]
    Reset,
    /// The partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// The page after `position` at this partition.
pub fn page(
    partition: &mut dyn Partition,
    position: &Position,
    selection: &Selection,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    match position {
        Position::Start => snapshot(partition, None, None, selection, barriers, limits),
        Position::Snapshot { vector, after } => {
            snapshot(partition, Some(vector), after.as_ref(), selection, barriers, limits)
        }
        Position::Tail(vector) => tail_page(partition, vector, selection, barriers, limits),
    }
}

/// The greatest key that a column holds below all that begin with `prefix`.
fn before(prefix: &Bytes) -> Option<Key> {
    let (last, head) = prefix.split_last()?;
    let mut bytes = head.to_vec();
    if let Some(less) = last.checked_sub(1) {
        bytes.push(less);
        bytes.resize(KEY_BYTES_WIDTH.max(bytes.len()), u8::MAX);
    }
    (!bytes.is_empty()).then(|| Key::stored(Space::Data, bytes))
}

fn snapshot(
    partition: &mut dyn Partition,
    began: Option<&Vector>,
    after: Option<&Key>,
    selection: &Selection,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    let first = before(&selection.prefix);
    let chunk = partition.scan(after.or(first.as_ref()), limits.entries_max, limits.bytes_max)?;
    let vector = began.unwrap_or(&chunk.source.vector).clone();
    if chunk.source.vector.first_uncovered(&vector).is_some() && Rule::FeedCovered.in_force() {
        return Err(FeedError::NotCovered);
    }
    if !vector.covers(&chunk.source.floors) && Rule::AboveFloors.in_force() {
        return Err(FeedError::Reset);
    }
    barriers.pass(partition, &chunk.source)?;
    let mut more = chunk.more;
    let mut rows = chunk.rows;
    let selected = |row: &Record| {
        row.key.space() == Space::Data && row.key.bytes().starts_with(&selection.prefix)
    };
    if let Some(end) = rows.iter().position(|row| !selected(row)) {
        rows.truncate(end);
        more = false;
    }
    let next = if more {
        let after = rows.last().map(|row| row.key.clone());
        Position::Snapshot { vector, after }
    } else {
        Position::Tail(vector)
    };
    // A follower begins with nothing, so there is nothing that a tombstone would take away.
    rows.retain(|row| !row.is_tombstone());
    Ok(FeedPage { rows, next, more, source: chunk.source.vector })
}

fn tail_page(
    partition: &mut dyn Partition,
    position: &Vector,
    selection: &Selection,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<FeedPage, FeedError> {
    let request = PageRequest {
        from: position.clone(),
        origins: Origins::Only(selection.origins.clone()),
        early: false,
        rows: true,
        entries_max: limits.entries_max,
        bytes_max: limits.bytes_max,
    };
    let page = match partition.page(&request) {
        Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => return Err(FeedError::Reset),
        page => page?,
    };
    reaches(&page.source, position, &selection.origins)?;
    barriers.pass(partition, &page.source)?;
    let mut next = position.clone();
    for segment in &page.segments {
        next.raise(segment.origin, segment.claim);
    }
    let mut rows = page.rows;
    rows.retain(|row| {
        row.key.space() == Space::Data && row.key.bytes().starts_with(&selection.prefix)
    });
    Ok(FeedPage { rows, next: Position::Tail(next), more: page.cut, source: page.source.vector })
}

/// Whether the logs that are asked for stand here as far as the position. Nobody but an origin
/// itself knows that it has never given what the position covers: a restored copy, an earlier life.
fn reaches(
    source: &Status,
    position: &Vector,
    origins: &BTreeSet<PartitionId>,
) -> Result<(), FeedError> {
    let short = |origin: &&PartitionId| source.vector.get(**origin) < position.get(**origin);
    let mut short = origins.iter().filter(short).peekable();
    if short.peek().is_none() || !Rule::FeedCovered.in_force() {
        Ok(())
    } else if short.any(|origin| *origin == source.partition) {
        Err(FeedError::Reset)
    } else {
        Err(FeedError::NotCovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before_text(prefix: &'static [u8]) -> Option<Vec<u8>> {
        before(&Bytes::from_static(prefix)).map(|key| key.bytes().to_vec())
    }

    #[test]
    fn a_snapshot_of_a_prefix_begins_right_below_it() {
        assert_eq!(before_text(b""), None);
        assert_eq!(before_text(b"\0"), None);
        assert_eq!(before_text(b"a\0"), Some(b"a".to_vec()));
        let below = before_text(b"ab").unwrap();
        assert_eq!(below.len(), KEY_BYTES_WIDTH);
        assert!(below.starts_with(b"aa\xff"));
        assert!(below.as_slice() < &b"ab"[..]);
    }
}
