//! What an engine offers inside one transaction: the statements, and nothing of the protocol.

use std::collections::HashMap;

use bytes::Bytes;

use super::acceptor::AcceptorRow;
use super::beat::Beats;
use super::upkeep::{ConflictPlace, Expired, Mark, Stride, Sum};
use super::{Entry, Get, Identity, Jump, ReseedNumber, Result};
use crate::record::{Key, Record, Space};
use crate::version::{Epoch, PartitionId, RunId, Seq, SetId, Version};

/// The one row of table `clock`, without the names of set and partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// The id of the partition, written once.
    pub partition: PartitionId,
    /// Fencing number; never goes down.
    pub epoch: Epoch,
    /// The last sequence given; never goes down.
    pub seq: Seq,
    /// The server run of the last opening.
    pub run: RunId,
    /// How often the partition was reseeded; never goes down.
    pub reseed: u64,
    /// Whether a reseed is under way.
    pub reseeding: bool,
}

/// A row of table `cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorRow {
    /// Whose log.
    pub origin: PartitionId,
    /// How far this partition has it; unused for the partition's own id.
    pub cursor: Version,
    /// Up to where it may have been trimmed here.
    pub floor: Version,
}

/// A stretch of one space in key order.
#[derive(Clone, Debug)]
pub struct Stretch<'a> {
    /// Which table.
    pub space: Space,
    /// Keys that begin so; empty: all.
    pub prefix: &'a Bytes,
    /// Keys above this one only.
    pub after: Option<&'a Bytes>,
    /// At most so many rows.
    pub rows_max: usize,
    /// Values of at most so many bytes are read; of a larger one only its size. `None`: no value is
    /// read, and all come back empty.
    pub value_bytes_max: Option<usize>,
}

/// An entry of the ledger, and when it was noted: milliseconds since 1970 UTC.
pub type Noted = (Record, i64);

/// What was read of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The row.
    Row(Record),
    /// Its value has more bytes than asked for.
    Large(usize),
    /// It is not what was stored.
    Damaged,
}

/// A point read in one statement: the cells, and what decides whether they may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// In the order of the keys; `None`: no row at all.
    pub cells: Vec<Option<Cell>>,
    /// The partition's own time: milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The clock row's reseed number.
    pub reseed: ReseedNumber,
    /// The clock row's flag.
    pub reseeding: bool,
}

/// The statements about table `topology`, inside one open transaction.
pub trait AcceptorTable {
    /// Its one row.
    fn acceptor(&mut self) -> Result<AcceptorRow>;
    /// Writes the row, whatever stands.
    fn put_acceptor(&mut self, row: &AcceptorRow) -> Result<()>;
}

/// The statements of an engine inside one open transaction. In a writing transaction
/// [`Tables::clock`] locks: two writing transactions of one partition are one after the other.
pub trait Tables: AcceptorTable + Beats {
    /// The identity written by `found`; `None` where the database is empty.
    fn identity(&mut self) -> Result<Option<Identity>>;
    /// Creates the schema where it is missing.
    fn create(&mut self) -> Result<()>;
    /// Writes the identity, but for the topology, into an empty schema.
    fn set_identity(&mut self, identity: &Identity, run: RunId) -> Result<()>;

    /// Gives what stands to another set.
    fn rename(&mut self, set: SetId) -> Result<()>;

    /// The run of the server that this transaction is in.
    fn run(&mut self) -> Result<RunId>;
    /// The database's own time: milliseconds since 1970 UTC.
    fn now_ms(&mut self) -> Result<i64>;

    /// The clock row, locked in a writing transaction.
    fn clock(&mut self) -> Result<ClockRow>;
    /// Writes the clock row.
    fn set_clock(&mut self, clock: &ClockRow) -> Result<()>;
    /// Fence and sequence: takes `count` sequence numbers, unless the clock is at another epoch
    /// than `fence`, a reseed is under way, or the numbers are used up. An engine does it in one
    /// statement where it can. Returns the sequence before the first number taken.
    fn take(&mut self, fence: Option<Epoch>, count: u64) -> Result<Option<Seq>> {
        let clock = self.clock()?;
        let fenced = fence.is_some_and(|epoch| epoch != clock.epoch);
        match clock.seq.advanced(count) {
            Some(seq) if !fenced && !clock.reseeding => {
                self.set_clock(&ClockRow { seq, ..clock })?;
                Ok(Some(clock.seq))
            }
            Some(_) | None => Ok(None),
        }
    }
    /// The id of this partition, which never changes.
    fn partition(&mut self) -> Result<PartitionId> {
        Ok(self.clock()?.partition)
    }
    /// Notes a jump of the sequence: (last before, first after).
    fn note_jump(&mut self, before: Seq, after: Seq) -> Result<()>;
    /// All jumps, in their order.
    fn jumps(&mut self) -> Result<Vec<Jump>>;
    /// A small write outside `clock`, for a barrier.
    fn touch(&mut self) -> Result<()>;

    /// All cursors and floors.
    fn cursors(&mut self) -> Result<Vec<CursorRow>>;
    /// Writes cursors and floors.
    fn put_cursors(&mut self, cursors: &[CursorRow]) -> Result<()>;

    /// The newest log entry of an origin; [`Version::ZERO`] where there is none.
    fn head(&mut self, origin: PartitionId) -> Result<Version>;
    /// Log entries of an origin above `after`, in version order.
    fn entries(&mut self, origin: PartitionId, after: Version, max: usize) -> Result<Vec<Entry>>;
    /// Adds log entries; one that stands already is left alone.
    fn put_entries(&mut self, entries: &[Entry]) -> Result<()>;
    /// Adds the log entries of versions that were taken in this transaction: none of them stands
    /// (VER-1). It asks for nothing after them: an engine may send them together with the end.
    fn put_new_entries(&mut self, entries: &[Entry]) -> Result<()> {
        self.put_entries(entries)
    }
    /// Removes the entries of an origin up to and including `upto`.
    fn remove_entries(&mut self, origin: PartitionId, upto: Version) -> Result<()>;

    /// The rows of these keys that exist, each whole, or only its size where the value has more
    /// than `value_bytes_max` bytes.
    fn cells(&mut self, keys: &[&Key], value_bytes_max: usize) -> Result<HashMap<Key, Cell>>;
    /// The rows of these keys that exist, their values left empty: thus with no checksum compared.
    fn outlines(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Cell>>;
    /// The versions of these keys' rows that exist.
    fn versions(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Version>>;
    /// Origin and version of those of these keys' rows that are tombstones.
    fn tombstones(&mut self, keys: &[&Key]) -> Result<HashMap<Key, (PartitionId, Version)>>;
    /// Writes rows, whatever stands.
    fn put_rows(&mut self, rows: &[&Record]) -> Result<()>;
    /// Removes rows.
    fn remove_rows(&mut self, keys: &[&Key]) -> Result<()>;
    /// Rows in key order, tombstones included.
    fn stretch(&mut self, stretch: &Stretch<'_>) -> Result<Vec<(Key, Cell)>>;

    /// Rows whose time is over at `now_ms`, by time, then space and key: at most `max` after
    /// `after`.
    fn expired(&mut self, now_ms: i64, after: Option<&Expired>, max: usize)
    -> Result<Vec<Expired>>;

    /// What the columns of the rows of a stretch say, in key order, at most `rows_max`.
    fn marks(&mut self, stride: &Stride) -> Result<Vec<Mark>>;
    /// The sum over a stretch, and up to which key it goes: that of the last of `rows_max` rows, or
    /// the stretch's own. An engine that is far away makes it where the rows are.
    fn sum(&mut self, stride: &Stride) -> Result<(Sum, Bytes)> {
        let marks = self.marks(stride)?;
        let mut sum = Sum::default();
        marks.iter().for_each(|mark| sum.add(mark));
        let cut = marks.last().filter(|_| marks.len() >= stride.rows_max);
        Ok((sum, cut.map_or(&stride.upto, |mark| mark.key.bytes()).clone()))
    }

    /// Adds a row to the ledger, noted at `noted_ms`; one that stands there already is left alone.
    fn put_conflict(&mut self, row: &Record, noted_ms: i64) -> Result<()>;
    /// The ledger in the order of spaces, keys and versions: at most `max` after `after`.
    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Noted>>;
    /// Removes an entry of the ledger that was noted at `noted_max` or before; whether it did.
    fn remove_conflict(&mut self, place: &ConflictPlace, noted_max: i64) -> Result<bool>;

    /// Removes all rows, log entries and cursors; the ledger stays.
    fn clear(&mut self) -> Result<()>;
    /// Removes whatever [`Tables::clear`] leaves: the ledger, and whose database it is.
    fn erase(&mut self) -> Result<()>;
}

/// A connection that can run transactions. Whoever offers this is a [`super::Partition`].
pub trait Transact {
    /// Whether whatever a transaction shows is durable: then a barrier has nothing to do.
    const VISIBLE_IS_DURABLE: bool;

    /// Runs `work` on one snapshot.
    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T>;

    /// Answers a point read in a way of the engine's own, in one statement, thus one snapshot;
    /// `None`: it has none, and the general way will do.
    fn points(&mut self, _get: &Get<'_>) -> Option<Result<Points>> {
        None
    }

    /// Point reads are what this connection is for; nothing has to follow from it.
    fn keep_points(&mut self, _bytes_max: usize) -> Result<()> {
        Ok(())
    }

    /// Runs `work` in one transaction, alone; an error rolls it back. Durable when it returns.
    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T>;

    /// The same, and calls `sealed` once nothing but its end is left, where another transaction can
    /// work while this one is made durable. An engine where none can does not call it.
    fn writing_telling<T>(
        &mut self,
        _sealed: &mut dyn FnMut(),
        work: impl FnOnce(&mut dyn Tables) -> Result<T>,
    ) -> Result<T> {
        self.writing(work)
    }
}
