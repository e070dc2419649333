//! One partition: a database that holds a full copy, whatever its engine.
//!
//! # Contract
//!
//! A [`Partition`] is one open connection. Each method is one transaction: all of it or nothing
//! happens, and what it read is one snapshot. When a mutating method returns `Ok`, its effect is
//! durable; while it runs, and after an error other than [`PartitionError::Refused`] and
//! [`PartitionError::Unreachable`], the effect may be visible, durable, or neither.
//!
//! What the transactions do is written once, in [`transaction`], over the handful of statements
//! that an engine offers inside a transaction ([`tables::Tables`]). So the code that the simulation
//! attacks over the memory engine is the code that runs on the others.
//!
//! # Words
//!
//! *vector*: per origin, how far this partition has that origin's log; for its own id, its clock.
//! *floor*: per origin, up to here the log may have been trimmed and tombstones collected. *early*:
//! a log entry above the cursor of its origin, brought by a push or carried by a page.
//!
//! # Invariants
//!
//! LOG-1 (no row above its origin's floor without its log entry), CUR-1 (a cursor moves with the
//! rows and entries that it covers), VER-1 (a version is given once), FENCE-1 (no write below the
//! clock's epoch) hold after every transaction; VEC-1 follows.

pub mod acceptor;
pub mod beat;
pub mod engine;
mod error;
pub mod memory;
pub mod mysql;
pub mod sqlite;
pub mod tables;
pub mod transaction;
pub mod upkeep;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use self::acceptor::{Acceptor, Ballot};
use self::beat::Beat;
pub use self::error::{PUT_BACK, PartitionError, Refusal, Source};
use self::upkeep::{
    Conflict, ConflictPlace, Digest, Expired, Inspection, Lost, Repair, Repaired, Stride, Survey,
};
use crate::record::{Key, Record, Space};
use crate::topology::cut::{Cuts, SlotSet};
use crate::topology::{Incarnation, Topology};
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, RunId, Seq, SetId, Version};
use crate::write::{Outcome, Write};

/// The schema that this binary reads and writes.
pub const SCHEMA_VERSION: u32 = 2;

/// How far the first opening in a server run raises the sequence: more than any crash can have
/// taken back, since a lane's batch has at most a few hundred rows and only one is in flight.
pub const OPENING_JUMP: u64 = 65_536;

/// By how much more, at most: how much is drawn by the server run. So a database and an older copy
/// of it, opened at the same sequence, go different ways (ADR 0007), and what others hold of one
/// shows that it is not the other.
pub const OPENING_SPREAD: u64 = 1 << 20;

/// How often a partition was reseeded; it only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReseedNumber(pub u64);

/// A jump of a partition's sequence, made at the first opening in a server run: what lies between
/// the two may have been seen, was lost in a crash before it was durable, and is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The last sequence that was durable.
    pub before: Seq,
    /// Where it went.
    pub after: Seq,
}

impl Jump {
    /// Whether a sequence lies in it.
    pub fn contains(&self, seq: Seq) -> bool {
        self.before < seq && seq < self.after
    }
}

/// Whose database this is, as written into it by `init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The set that it belongs to.
    pub set: SetId,
    /// Its own id in that set.
    pub partition: PartitionId,
    /// The schema that it was created with.
    pub schema: u32,
    /// The topology that it stores.
    pub topology: Topology,
}

/// What a partition of a new set begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// What it holds.
    Backup,
    /// Nothing: it is made anew from the one that has the backup.
    Nothing,
}

/// What a partition says of itself, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its own id.
    pub partition: PartitionId,
    /// The server run that it lives in.
    pub run: RunId,
    /// Its clock.
    pub epoch: Epoch,
    /// The last sequence that it gave.
    pub seq: Seq,
    /// How far it has every origin's log; its own: (epoch, seq).
    pub vector: Vector,
    /// Up to where it may have trimmed.
    pub floors: Vector,
    /// The newest log entry of every origin, early ones included.
    pub heads: Vector,
    /// How often it was reseeded.
    pub reseed: ReseedNumber,
    /// Whether a reseed is under way: it serves nothing and is nobody's source.
    pub reseeding: bool,
}

/// Rows pushed ahead of the log, for acknowledgements by more than the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The rows as they were committed at their masters, in any order; of one key there may be
    /// several.
    pub rows: Vec<Record>,
    /// The epoch of the topology that the pusher acts under.
    pub epoch: Epoch,
    /// The target's reseed number when the push began.
    pub reseed: ReseedNumber,
    /// The cuts of that topology: which rows are late.
    pub cuts: Cuts,
}

/// A point read.
#[derive(Clone, Debug)]
pub struct Get<'a> {
    /// The keys, each at most once.
    pub keys: &'a [Key],
    /// Values above this many bytes are left behind: [`Found::Large`].
    pub inline_bytes_max: usize,
}

/// What a point read found, a place per key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// In the order of the keys; `None`: no row at all.
    pub rows: Vec<Option<Found>>,
    /// The partition's own time, which judges expiry: milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// How often the partition was reseeded: a vector known from before a reseed is not its vector.
    pub reseed: ReseedNumber,
}

/// A row, or the news that it is too large for this read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The row, tombstones and expired ones included.
    Row(Record),
    /// The value has this many bytes: read it alone, off the fast path.
    Large {
        /// The size of the value.
        bytes: usize,
    },
    /// The row is not what was stored: its checksum does not match. It is never served.
    Damaged,
}

/// A list of keys of one space in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose keys.
    pub space: Space,
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Only keys above this one.
    pub after: Option<Bytes>,
    /// At most so many visible keys.
    pub keys_max: usize,
    /// At most so many rows are looked at, tombstones included.
    pub scanned_max: usize,
    /// Values are returned and cut off at this many bytes in all; `None`: keys only.
    pub value_bytes_max: Option<usize>,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The visible rows; without their values unless asked for.
    pub rows: Vec<Record>,
    /// Where to read on; `None`: that was all.
    pub next: Option<Bytes>,
    /// How often the partition was reseeded: a vector known from before a reseed is not its vector.
    pub reseed: ReseedNumber,
}

/// One log entry: this write touched this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who assigned the version.
    pub origin: PartitionId,
    /// Which write.
    pub version: Version,
    /// Which key.
    pub key: Key,
}

/// Which origins' logs to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All, but that of the reader itself.
    AllBut(Option<PartitionId>),
    /// These.
    Only(BTreeSet<PartitionId>),
}

impl Origins {
    /// Whether `origin` is among them.
    pub fn contain(&self, origin: PartitionId) -> bool {
        match self {
            Self::AllBut(left_out) => *left_out != Some(origin),
            Self::Only(origins) => origins.contains(&origin),
        }
    }
}

/// Asks for what lies above a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The position: entries above it, per origin.
    pub from: Vector,
    /// Which logs.
    pub origins: Origins,
    /// Whether entries above the source's own cursors are wanted: a pass carries them, a feed
    /// waits.
    pub early: bool,
    /// Whether the current rows of the keys are wanted, or only the entries.
    pub rows: bool,
    /// At most so many entries.
    pub entries_max: usize,
    /// Rows are cut off at this weight, but for the first.
    pub bytes_max: usize,
}

/// What one origin's log adds to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose log.
    pub origin: PartitionId,
    /// Where reading started.
    pub from: Version,
    /// Where it ended: the last entry, or the source's cursor.
    pub end: Version,
    /// Up to here the page is complete for whoever stands at `from`: where its cursor may go.
    pub claim: Version,
}

/// What a source has above a position, in one snapshot, with the current rows of the keys named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The source's own description, from the same snapshot.
    pub source: Status,
    /// One per origin that was read.
    pub segments: Vec<Segment>,
    /// The entries, per origin in version order.
    pub entries: Vec<Entry>,
    /// The current rows of the keys named, whatever their version and origin.
    pub rows: Vec<Record>,
    /// Whether the limits cut it: there is more to read.
    pub cut: bool,
    /// The cuts of the topology that it is carried under: which rows are late. None are known where
    /// it is read.
    pub cuts: Cuts,
}

impl Page {
    /// Whether there is nothing in it: no entry, and no cursor that it could move.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.segments.iter().all(|segment| segment.claim <= segment.from)
    }

    /// The greatest epoch among its rows.
    pub fn newest_epoch(&self) -> Option<Epoch> {
        self.rows.iter().map(|row| row.version.epoch()).max()
    }
}

/// What an applied page changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that were newer than what stood.
    pub rows: usize,
    /// Their weight in bytes.
    pub bytes: usize,
    /// Whether anything at all was written.
    pub changed: bool,
}

/// What came of re-issuing early rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reissued {
    /// Rows that have a version of this partition's own now.
    pub rows: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// Moves the floors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The epoch of the topology under which the voters' cursors were read.
    pub epoch: Epoch,
    /// The floor that all voters allow.
    pub floor: Vector,
    /// At most so many log entries in this transaction.
    pub entries_max: usize,
}

/// What a trim removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Log entries.
    pub entries: usize,
    /// Tombstones.
    pub tombstones: usize,
    /// Whether the limit cut it: there is more to remove.
    pub cut: bool,
}

/// A chunk of rows in key order, both spaces, tombstones included, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The source's own description, from the same snapshot.
    pub source: Status,
    /// The rows.
    pub rows: Vec<Record>,
    /// Whether rows remain after the last one.
    pub more: bool,
}

/// One step of a reseed, each a transaction at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReseedStep {
    /// Empties data, logs and cursors, draws a new number, sets the flag; refused at a voter that
    /// was made already.
    Begin,
    /// Copies rows; each brings its log entry.
    Rows(Vec<Record>),
    /// Copies log entries.
    Log(Vec<Entry>),
    /// Sets floors and cursors, raises the clock, clears the flag.
    End {
        /// The vector that was noted before the first row was read.
        noted: Vector,
        /// The source's floors, from the snapshot of its last log entries.
        floors: Vector,
    },
}

/// The result of a transaction.
pub type Result<T, E = PartitionError> = std::result::Result<T, E>;

/// One open connection to a partition; see the module's contract.
pub trait Partition {
    /// Whose database it is; `None` where nothing was founded yet.
    fn identity(&mut self) -> Result<Option<Identity>>;

    /// Creates the schema and writes `identity` where nothing stands; returns what stands then. Of
    /// two at once the first wins.
    fn found(&mut self, identity: &Identity) -> Result<Identity>;

    /// What it says of itself.
    fn status(&mut self) -> Result<Status>;

    /// OPEN-1: the first transaction of a write lane's connection. In a new server run it jumps
    /// over [`OPENING_JUMP`] sequences at least and notes the gap; it commits in any case. Returns
    /// the clock's epoch.
    fn open_lane(&mut self) -> Result<Epoch>;

    /// The jumps of its sequence, in the order in which they were made.
    fn jumps(&mut self) -> Result<Vec<Jump>>;

    /// Raises the clock to `epoch` at least; clocks never go down.
    fn raise(&mut self, epoch: Epoch) -> Result<()>;

    /// Group commit under `epoch`: fence and sequence, evaluation in order, rows and log entries.
    /// An outcome per write.
    fn commit(&mut self, epoch: Epoch, writes: &[Write]) -> Result<Vec<Outcome>>;

    /// The same, and calls `sealed` once whatever begins to commit here from then on comes after
    /// it, while it may still be on its way to the disk. An engine where nothing is gained by
    /// beginning then does not call it.
    fn commit_telling(
        &mut self,
        epoch: Epoch,
        writes: &[Write],
        _sealed: &mut dyn FnMut(),
    ) -> Result<Vec<Outcome>> {
        self.commit(epoch, writes)
    }

    /// Gives early rows of `slots` that are still current versions of its own, under `epoch`: what
    /// was acknowledged by a majority and is in no log of a living origin is in this one from here
    /// on (H11). At most some hundred at once.
    fn reissue(&mut self, epoch: Epoch, slots: &SlotSet) -> Result<Reissued>;

    /// Takes rows ahead of the log, with their entries; returns once all of them, or what is newer,
    /// are held here.
    fn push(&mut self, push: &Push) -> Result<()>;

    /// Point reads.
    fn get(&mut self, get: &Get<'_>) -> Result<Fetched>;

    /// Point reads, again and again, are what this connection is for: it may keep up to so many
    /// bytes of what it reads in memory.
    fn keep_points(&mut self, _bytes_max: usize) -> Result<()> {
        Ok(())
    }

    /// Keys of one space in byte order.
    fn list(&mut self, range: &Range) -> Result<Listing>;

    /// What stands above a position. Not yet durable: see [`Partition::barrier`].
    fn page(&mut self, request: &PageRequest) -> Result<Page>;

    /// BAR-1: makes durable whatever was visible here, over the same server run, before the call.
    fn barrier(&mut self, run: RunId) -> Result<()>;

    /// Applies a page that was asked for under the reseed number `reseed`.
    fn apply(&mut self, page: &Page, reseed: ReseedNumber) -> Result<Applied>;

    /// Moves floors, trims logs, collects tombstones.
    fn trim(&mut self, trim: &Trim) -> Result<Trimmed>;

    /// Rows in key order above `after`, for a reseed.
    fn scan(&mut self, after: Option<&Key>, rows_max: usize, bytes_max: usize) -> Result<Chunk>;

    /// Says that a front end lives, and what it does; without a document that it leaves.
    fn beat(&mut self, frontend: &str, document: Option<&str>) -> Result<()>;

    /// The front ends that have beaten here, those that stopped not long ago included.
    fn beats(&mut self) -> Result<Vec<Beat>>;

    /// One step of a reseed under `number` (which [`ReseedStep::Begin`] ignores and draws anew).
    /// Returns the number that stands.
    fn reseed(&mut self, number: ReseedNumber, step: &ReseedStep) -> Result<ReseedNumber>;

    /// Rows of both spaces whose time is over by the partition's own clock, the earliest first, at
    /// most `max` after `after`; tombstones left out.
    fn expired(&mut self, after: Option<&Expired>, max: usize) -> Result<Vec<Expired>>;

    /// What it holds in a stretch of keys, told in one number.
    fn digest(&mut self, stride: &Stride) -> Result<Digest>;

    /// What it holds in a stretch of keys, told row by row.
    fn survey(&mut self, stride: &Stride) -> Result<Survey>;

    /// One row as it stands, damaged or not.
    fn inspect(&mut self, key: &Key) -> Result<Inspection>;

    /// Puts one row right, if what was seen still stands.
    fn repair(&mut self, repair: &Repair) -> Result<Repaired>;

    /// The ledger, in the order of keys and versions: at most `max` after `after`.
    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Conflict>>;

    /// Adds writes to the ledger; one that stands there already is left alone.
    fn keep(&mut self, lost: &[Lost]) -> Result<()>;

    /// Removes these entries from the ledger, but for those that are younger than `retention` by
    /// the partition's own clock. Returns how many it has removed.
    fn forget_conflicts(&mut self, places: &[ConflictPlace], retention: Duration) -> Result<usize>;

    /// Makes it part of a new set, whatever it was part of: as the backup that the set begins with,
    /// or emptied under the set's name and marked as reseeding, to be made anew from that.
    fn begin_anew(&mut self, identity: &Identity, from: Beginning) -> Result<()>;

    /// Sets it aside: from here on it serves nothing and takes nothing until it begins anew.
    fn set_aside(&mut self) -> Result<()>;

    /// Forgets all it holds and whose it is, if it still is partition `id`: an empty database
    /// stays, which may be founded anew.
    fn forget(&mut self, id: PartitionId) -> Result<()>;

    /// What its acceptor has promised and accepted. Not yet durable: see [`Partition::barrier`].
    fn acceptor(&mut self) -> Result<Acceptor>;

    /// First phase of the register: promises to take part in nothing below `ballot`; returns what
    /// was accepted before.
    fn promise(&mut self, incarnation: Incarnation, ballot: Ballot) -> Result<Acceptor>;

    /// Second phase: accepts `document` and raises the clock to its epoch.
    fn accept(
        &mut self,
        incarnation: Incarnation,
        ballot: Ballot,
        document: &Topology,
    ) -> Result<()>;
}
