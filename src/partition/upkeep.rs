//! What keeps a partition in order: expiry, comparing and mending rows, the ledger.
//!
//! Rows are compared by *fingerprints*, made by the database itself over what it stores: a stretch
//! of keys is told in a few bytes however large its values are ([`Digest`]), and only where two
//! partitions tell differently is a stretch told row by row ([`Survey`]), and only what differs
//! there is read ([`Inspection`]). All of them come with the partition's own description from the
//! same snapshot, so that what is merely on its way can be told from what is wrong
//! ([`crate::sync::verify`]).

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{ReseedNumber, Status};
use crate::record::{KEY_BYTES_WIDTH, Key, Record, Space};
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// A row whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// When it expired, by whose clock ever: milliseconds since 1970 UTC.
    pub expires_at: i64,
    /// Which key.
    pub key: Key,
    /// Which write of it.
    pub version: Version,
}

/// Where the expired rows of a space go on after `after`, where all are in the order of time, then
/// space, then key: at those of that time and a greater key, or of a later time.
pub(super) fn expired_after(after: Option<&Expired>, space: Space) -> (i64, Bytes) {
    match after {
        None => (i64::MIN, Bytes::new()),
        Some(after) => match after.key.space().cmp(&space) {
            Ordering::Less => (after.expires_at, Bytes::new()),
            Ordering::Equal => (after.expires_at, after.key.bytes().clone()),
            Ordering::Greater => (after.expires_at.saturating_add(1), Bytes::new()),
        },
    }
}

/// A stretch of keys of one space, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stride {
    /// Which table.
    pub space: Space,
    /// Its first possible key; empty: from the beginning.
    pub from: Bytes,
    /// Its last possible key.
    pub upto: Bytes,
    /// At most so many rows are looked at, tombstones included.
    pub rows_max: usize,
}

impl Stride {
    /// All keys of a space, in steps of `rows_max`.
    pub fn all(space: Space, rows_max: usize) -> Self {
        Self { space, from: Bytes::new(), upto: last_key(), rows_max }
    }

    /// One key alone.
    pub fn of(key: &Key) -> Self {
        let bytes = key.bytes();
        Self { space: key.space(), from: bytes.clone(), upto: bytes.clone(), rows_max: 1 }
    }

    /// What of this stretch comes after the key `last`; `None`: nothing.
    #[must_use]
    pub fn after(&self, last: &Bytes) -> Option<Self> {
        // The least key above `last` is `last` and a zero byte.
        let from: Bytes = [last.as_ref(), &[0]].concat().into();
        (from <= self.upto).then(|| Self { from, ..self.clone() })
    }
}

/// No key is greater: as many of the greatest bytes as fit the column.
fn last_key() -> Bytes {
    vec![u8::MAX; KEY_BYTES_WIDTH].into()
}

/// What a partition holds in a stretch, told in one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The partition's own description, from the same snapshot.
    pub source: Status,
    /// The digest itself.
    pub sum: Sum,
    /// The last key that it tells of: that of the stretch, or, where `rows_max` cut it, an earlier
    /// one.
    pub upto: Bytes,
}

/// The sum over the live rows of a stretch. Tombstones are left out: each partition collects its
/// own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub rows: u64,
    /// The exclusive-or of their fingerprints, which are as good as random: two different sets of
    /// rows have the same with a chance of 1 in 2^64.
    pub fingerprints: u64,
}

impl Sum {
    /// Adds a row, if it lives.
    pub fn add(&mut self, mark: &Mark) {
        if !mark.deleted {
            self.rows += 1;
            self.fingerprints ^= mark.fingerprint;
        }
    }
}

/// What a partition says of one row without reading it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which key.
    pub key: Key,
    /// Which write of it, as its columns say; zero where they say what cannot be.
    pub version: Version,
    /// Who assigned the version, as its columns say.
    pub origin: PartitionId,
    /// Whether it is a tombstone, as its columns say.
    pub deleted: bool,
    /// [`fingerprint`] of its columns.
    pub fingerprint: u64,
}

/// The rows of a stretch in key order, tombstones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The partition's own description, from the same snapshot.
    pub source: Status,
    /// At most `rows_max` of them.
    pub marks: Vec<Mark>,
}

/// One key as a partition holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The partition's own description, from the same snapshot.
    pub source: Status,
    /// The row; `None`: there is none.
    pub row: Option<Inspected>,
}

/// A row that was read to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What its columns say.
    pub mark: Mark,
    /// The row; `None`: it is damaged, its checksum does not match.
    pub row: Option<Record>,
}

/// What is to stand under a key instead of what was seen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which key.
    pub key: Key,
    /// The fingerprint of the row that was seen; `None`: there was none. Where another stands by
    /// now, nothing is done.
    pub seen: Option<u64>,
    /// What is right: a row, or none at all.
    pub right: Option<Record>,
    /// The vector of whoever says so, from the snapshot in which it did.
    pub source: Vector,
    /// The partition's reseed number when the row was seen.
    pub reseed: ReseedNumber,
    /// Whether the row that stood goes to the ledger.
    pub keep: bool,
}

/// What came of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It was made.
    Done,
    /// Another row stands by now, or the partition has collected what the source never saw: nothing
    /// was done.
    Overtaken,
}

/// A write that lost against another, kept in the ledger (LOSS-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What lost.
    pub row: Record,
    /// When that was noted, by the partition's own clock: milliseconds since 1970 UTC, for people.
    pub noted_ms: i64,
    /// How long ago that is, by the same clock.
    pub age: Duration,
}

/// A write for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What lost.
    pub row: Record,
    /// How long ago that was noted first. Ages travel, not instants: clocks differ.
    pub age: Duration,
}

impl Lost {
    /// One that is noted now.
    pub const fn now(row: Record) -> Self {
        Self { row, age: Duration::ZERO }
    }
}

impl From<Conflict> for Lost {
    fn from(conflict: Conflict) -> Self {
        Self { row: conflict.row, age: conflict.age }
    }
}

/// Which entry of the ledger, and where the reading of it goes on: after this key and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConflictPlace {
    /// Which key.
    pub key: Key,
    /// Which write of it.
    pub version: Version,
}

impl ConflictPlace {
    /// That of a row.
    pub fn of(row: &Record) -> Self {
        Self { key: row.key.clone(), version: row.version }
    }
}

/// All that a stored row says, but for the time of its storing, which differs from partition to
/// partition.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Column `id`.
    pub key: &'a [u8],
    /// Column `version`.
    pub version: i64,
    /// Column `origin`.
    pub origin: i64,
    /// Column `deleted`.
    pub deleted: i64,
    /// Column `expires_at`.
    pub expires_at: Option<i64>,
    /// Column `checksum`.
    pub checksum: i64,
    /// Column `content_type`.
    pub content_type: &'a [u8],
    /// Column `value`.
    pub value: &'a [u8],
}

/// The fingerprint of a stored row: the first eight bytes of a SHA-256, which every server can make
/// by itself. In SQL it stands beside the statements of the engine; the two are the same.
pub fn fingerprint(columns: &Columns<'_>) -> u64 {
    let Columns { key, version, origin, deleted, expires_at, checksum, content_type, value } =
        columns;
    let expires_at = expires_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let (key_bytes, type_bytes) = (key.len(), content_type.len());
    let mut hash = Sha256::new();
    hash.update(format!(
        "{version} {origin} {deleted} {expires_at} {checksum} {key_bytes} {type_bytes} "
    ));
    hash.update(key);
    hash.update(content_type);
    // The value's own hash instead of the value: a server builds what it hashes in one packet.
    hash.update(format!("{:x}", Sha256::digest(value)));
    hash.finalize().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The fingerprint of a row that is stored as it should be.
pub fn fingerprint_of(row: &Record, checksum: u64) -> u64 {
    let body = row.body.as_ref();
    fingerprint(&Columns {
        key: row.key.bytes(),
        version: row.version.packed(),
        origin: row.origin.0.into(),
        deleted: row.is_tombstone().into(),
        expires_at: body.and_then(|body| body.expires_at),
        checksum: checksum.cast_signed(),
        content_type: body.map_or(&[], |body| body.content_type.as_bytes()),
        value: body.map_or(&[], |body| body.value.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_goes_on_after_a_key_and_ends() {
        let all = Stride::all(Space::Data, 10);
        let rest = all.after(&"a".into()).unwrap();
        assert_eq!(rest.from, &b"a\0"[..]);
        assert_eq!(rest.after(&all.upto), None);
        let one = Stride::of(&Key::stored(Space::Data, "a"));
        assert_eq!(one.after(&one.upto), None);
    }

    #[test]
    fn a_fingerprint_tells_columns_apart() {
        let plain = Columns {
            key: b"k",
            version: 1,
            origin: 1,
            deleted: 0,
            expires_at: None,
            checksum: 7,
            content_type: b"ab",
            value: b"c",
        };
        let others = [
            Columns { key: b"l", ..plain },
            Columns { version: 11, origin: 1, ..plain },
            Columns { version: 1, origin: 11, ..plain },
            Columns { deleted: 1, ..plain },
            Columns { expires_at: Some(0), ..plain },
            Columns { checksum: -7, ..plain },
            Columns { content_type: b"a", value: b"bc", ..plain },
            Columns { value: b"", ..plain },
        ];
        let mut seen = vec![fingerprint(&plain)];
        for other in others {
            let other = fingerprint(&other);
            assert!(!seen.contains(&other));
            seen.push(other);
        }
    }
}
