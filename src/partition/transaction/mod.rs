//! The protocol's transactions, written once over [`Tables`]: whoever can [`Transact`] is a
//! [`Partition`].
//!
//! Flow of a write: [`commit`] at the master. Flow of a copy: [`page`] at the source, a barrier
//! there, [`apply`](page::apply) at the target. [`trim`] and [`reseed`] keep logs short and copies
//! possible; [`upkeep`] compares rows and puts them right. The conditions named by [`Rule`] are the
//! protective ones; each stands exactly once.

mod accept;
mod commit;
mod late;
mod ledger;
mod page;
mod read;
mod reseed;
mod trim;
mod upkeep;

use std::time::Duration;

use super::acceptor::{Acceptor, AcceptorRow, Ballot};
use super::beat::{self, Beat};
use super::tables::{ClockRow, CursorRow, Tables, Transact};
use super::upkeep::{
    Conflict, ConflictPlace, Digest, Expired, Inspection, Lost, Repair, Repaired, Stride, Survey,
};
use super::{
    Applied, Beginning, Chunk, Entry, Fetched, Get, Identity, Jump, Listing, OPENING_JUMP,
    OPENING_SPREAD, Page, PageRequest, Partition, PartitionError, Push, Range, Refusal, Reissued,
    ReseedNumber, ReseedStep, Result, Status, Trim, Trimmed,
};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::topology::cut::{Cuts, SlotSet};
use crate::topology::{Incarnation, State, Topology};
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, RunId, Version};
use crate::write::{Outcome, Write};

impl<T: Transact> Partition for T {
    fn identity(&mut self) -> Result<Option<Identity>> {
        self.reading(|tables| tables.identity())
    }

    fn found(&mut self, identity: &Identity) -> Result<Identity> {
        self.writing(|tables| {
            tables.create()?;
            if let Some(standing) = tables.identity()? {
                return Ok(standing);
            }
            let run = tables.run()?;
            tables.set_identity(identity, run)?;
            if identity.partition.is_copy() || joins(identity) {
                // It serves nothing until it was seeded for the first time.
                let clock = tables.clock()?;
                tables.set_clock(&ClockRow { reseeding: true, ..clock })?;
            }
            tables.put_acceptor(&AcceptorRow::founded(identity))?;
            Ok(identity.clone())
        })
    }

    fn status(&mut self) -> Result<Status> {
        self.reading(status)
    }

    fn open_lane(&mut self) -> Result<Epoch> {
        if !Rule::OpeningAlone.in_force() {
            let clock = self.reading(|tables| {
                let run = tables.run()?;
                Ok(tables.clock()?).map(|clock| (clock.run == run).then_some(clock))
            })?;
            if let Some(clock) = clock {
                return Ok(clock.epoch);
            }
        }
        self.writing(open_lane)
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        self.reading(|tables| tables.jumps())
    }

    fn raise(&mut self, epoch: Epoch) -> Result<()> {
        self.writing(|tables| {
            let clock = tables.clock()?;
            if clock.epoch < epoch {
                tables.set_clock(&ClockRow { epoch, ..clock })?;
            }
            Ok(())
        })
    }

    fn commit(&mut self, epoch: Epoch, writes: &[Write]) -> Result<Vec<Outcome>> {
        self.commit_telling(epoch, writes, &mut || {})
    }

    fn commit_telling(
        &mut self,
        epoch: Epoch,
        writes: &[Write],
        sealed: &mut dyn FnMut(),
    ) -> Result<Vec<Outcome>> {
        self.writing_telling(sealed, |tables| commit::commit(tables, epoch, writes))
    }

    fn reissue(&mut self, epoch: Epoch, slots: &SlotSet) -> Result<Reissued> {
        // Nearly always there is none: then nobody is locked out.
        let found = self.reading(|tables| late::early_rows(tables, slots))?;
        if found.is_empty() {
            return Ok(Reissued::default());
        }
        self.writing(|tables| late::reissue(tables, epoch, slots))
    }

    fn push(&mut self, push: &Push) -> Result<()> {
        self.writing(|tables| commit::push(tables, push))
    }

    fn get(&mut self, get: &Get<'_>) -> Result<Fetched> {
        match self.points(get) {
            Some(points) => read::from_points(points?),
            None => self.reading(|tables| read::get(tables, get)),
        }
    }

    fn keep_points(&mut self, bytes_max: usize) -> Result<()> {
        Transact::keep_points(self, bytes_max)
    }

    fn list(&mut self, range: &Range) -> Result<Listing> {
        self.reading(|tables| read::list(tables, range))
    }

    fn page(&mut self, request: &PageRequest) -> Result<Page> {
        let page = self.reading(|tables| page::page(tables, request))?;
        if Rule::SnapshotBound.in_force() {
            return Ok(page);
        }
        let later = self.status()?;
        Ok(page::reaching(page, later))
    }

    fn barrier(&mut self, run: RunId) -> Result<()> {
        if T::VISIBLE_IS_DURABLE {
            return Ok(());
        }
        self.writing(|tables| {
            if tables.run()? != run {
                return Err(Refusal::RunEnded.into());
            }
            tables.touch()
        })
    }

    fn apply(&mut self, page: &Page, reseed: ReseedNumber) -> Result<Applied> {
        self.writing(|tables| page::apply(tables, page, reseed))
    }

    fn trim(&mut self, trim: &Trim) -> Result<Trimmed> {
        self.writing(|tables| trim::trim(tables, trim))
    }

    fn scan(&mut self, after: Option<&Key>, rows_max: usize, bytes_max: usize) -> Result<Chunk> {
        self.reading(|tables| read::scan(tables, after, rows_max, bytes_max))
    }

    fn beat(&mut self, frontend: &str, document: Option<&str>) -> Result<()> {
        self.writing(|tables| beat::beat(tables, frontend, document))
    }

    fn beats(&mut self) -> Result<Vec<Beat>> {
        self.reading(|tables| tables.beats())
    }

    fn reseed(&mut self, number: ReseedNumber, step: &ReseedStep) -> Result<ReseedNumber> {
        self.writing(|tables| reseed::step(tables, number, step))
    }

    fn expired(&mut self, after: Option<&Expired>, max: usize) -> Result<Vec<Expired>> {
        self.reading(|tables| upkeep::expired(tables, after, max))
    }

    fn digest(&mut self, stride: &Stride) -> Result<Digest> {
        self.reading(|tables| upkeep::digest(tables, stride))
    }

    fn survey(&mut self, stride: &Stride) -> Result<Survey> {
        self.reading(|tables| upkeep::survey(tables, stride))
    }

    fn inspect(&mut self, key: &Key) -> Result<Inspection> {
        self.reading(|tables| upkeep::inspect(tables, key))
    }

    fn repair(&mut self, repair: &Repair) -> Result<Repaired> {
        self.writing(|tables| upkeep::repair(tables, repair))
    }

    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Conflict>> {
        self.reading(|tables| ledger::read(tables, after, max))
    }

    fn keep(&mut self, lost: &[Lost]) -> Result<()> {
        self.writing(|tables| ledger::keep(tables, lost))
    }

    fn forget_conflicts(&mut self, places: &[ConflictPlace], retention: Duration) -> Result<usize> {
        self.writing(|tables| ledger::forget(tables, places, retention))
    }

    fn begin_anew(&mut self, identity: &Identity, from: Beginning) -> Result<()> {
        self.writing(|tables| reseed::begin_anew(tables, identity, from))
    }

    fn forget(&mut self, id: PartitionId) -> Result<()> {
        self.writing(|tables| {
            if tables.clock()?.partition != id {
                return Err(Refusal::Empty.into());
            }
            tables.clear()?;
            tables.erase()
        })
    }

    fn set_aside(&mut self) -> Result<()> {
        self.writing(|tables| {
            let clock = tables.clock()?;
            // As if a reseed had begun, which stops whatever began before it, and would never end.
            let reseed = clock.reseed + 1;
            tables.set_clock(&ClockRow { reseed, reseeding: true, ..clock })
        })
    }

    fn acceptor(&mut self) -> Result<Acceptor> {
        self.reading(accept::acceptor)
    }

    fn promise(&mut self, incarnation: Incarnation, ballot: Ballot) -> Result<Acceptor> {
        self.writing(|tables| accept::promise(tables, incarnation, ballot))
    }

    fn accept(
        &mut self,
        incarnation: Incarnation,
        ballot: Ballot,
        document: &Topology,
    ) -> Result<()> {
        self.writing(|tables| accept::accept(tables, incarnation, ballot, document))
    }
}

/// Whether a partition is founded that is still to be made from another one.
fn joins(identity: &Identity) -> bool {
    let voter = identity.topology.voter(identity.partition);
    voter.is_some_and(|voter| voter.state == State::Joining && voter.role.holds_data())
}

/// OPEN-1, K11: a committed transaction of the connection's own, before any key is written.
fn open_lane(tables: &mut dyn Tables) -> Result<Epoch> {
    let clock = tables.clock()?;
    let run = tables.run()?;
    if clock.run == run {
        tables.touch()?;
        return Ok(clock.epoch);
    }
    // A crash may have taken back writes that somebody has seen: no version is ever given twice.
    let seq = if Rule::OpeningJump.in_force() {
        let jump = OPENING_JUMP + run.0 % OPENING_SPREAD;
        clock.seq.advanced(jump).ok_or(Refusal::SequenceExhausted)?
    } else {
        clock.seq
    };
    if seq > clock.seq {
        tables.note_jump(clock.seq, seq)?;
    }
    tables.set_clock(&ClockRow { seq, run, ..clock })?;
    Ok(clock.epoch)
}

fn status(tables: &mut dyn Tables) -> Result<Status> {
    let clock = tables.clock()?;
    let places = Places::read(tables, &clock)?;
    let mut heads = Vector::new();
    for (origin, _) in places.vector.iter() {
        heads.set(origin, tables.head(origin)?);
    }
    // An origin of which only early entries are known stands at zero and has a head all the same.
    for row in &places.rows {
        heads.set(row.origin, tables.head(row.origin)?);
    }
    Ok(Status {
        partition: clock.partition,
        run: tables.run()?,
        epoch: clock.epoch,
        seq: clock.seq,
        vector: places.vector,
        floors: places.floors,
        heads,
        reseed: ReseedNumber(clock.reseed),
        reseeding: clock.reseeding,
    })
}

/// The cursors and floors of a partition inside a transaction.
struct Places {
    rows: Vec<CursorRow>,
    vector: Vector,
    floors: Vector,
}

impl Places {
    fn read(tables: &mut dyn Tables, clock: &ClockRow) -> Result<Self> {
        let rows = tables.cursors()?;
        let mut vector: Vector = rows
            .iter()
            .filter(|row| row.origin != clock.partition)
            .map(|row| (row.origin, row.cursor))
            .collect();
        // A read copy gives no versions: it has no place of its own in any vector.
        if !clock.partition.is_copy() {
            vector.set(clock.partition, Version::new(clock.epoch, clock.seq));
        }
        let floors = rows.iter().map(|row| (row.origin, row.floor)).collect();
        Ok(Self { rows, vector, floors })
    }

    /// Rows of table `cursor` for origins that are new here, so that [`status`] finds their heads.
    fn unknown(&self, origins: impl Iterator<Item = PartitionId>) -> Vec<CursorRow> {
        let mut new: Vec<PartitionId> =
            origins.filter(|origin| self.rows.iter().all(|row| row.origin != *origin)).collect();
        new.sort_unstable();
        new.dedup();
        let row = |origin| CursorRow { origin, cursor: Version::ZERO, floor: Version::ZERO };
        new.into_iter().map(row).collect()
    }
}

/// The reseed under which a page, a push or a trim began has to stand, and no other be under way.
fn same_reseed(rule: Rule, clock: &ClockRow, began: ReseedNumber) -> Result<(), Refusal> {
    if rule.in_force() && (clock.reseeding || clock.reseed != began.0) {
        return Err(Refusal::Reseeding);
    }
    Ok(())
}

/// A reseeding partition serves nothing and is nobody's source (K2).
fn serving(reseeding: bool) -> Result<(), Refusal> {
    if reseeding && Rule::ReseedSilent.in_force() {
        return Err(Refusal::Reseeding);
    }
    Ok(())
}

/// A row that cannot be left out and cannot be given.
fn damaged_row(key: &Key) -> PartitionError {
    let what = "its checksum does not match".to_owned();
    PartitionError::DamagedRow { key: key.clone(), what }
}

/// Stores the rows that are newer than what stands, with their log entries (LOG-1); returns those.
///
/// A tombstone at or below the floor is collected already and stays away. A late row that is
/// replaced, or does not come to stand, goes to the ledger.
fn store_newer<'a>(
    tables: &mut dyn Tables,
    clock: &ClockRow,
    (floors, cuts): (&Vector, &Cuts),
    rows: &'a [Record],
    with_entries: bool,
) -> Result<Vec<&'a Record>> {
    let keys: Vec<&Key> = rows.iter().map(|row| &row.key).collect();
    let standing = tables.versions(&keys)?;
    late::keep(tables, cuts, rows, &standing)?;
    let newer: Vec<&Record> = rows
        .iter()
        .filter(|row| !(row.is_tombstone() && row.version <= floors.get(row.origin)))
        .filter(|row| {
            let stands = standing.get(&row.key).copied().unwrap_or(Version::ZERO);
            row.version > stands || (row.version != stands && !Rule::GreaterVersion.in_force())
        })
        .collect();
    tables.put_rows(&newer)?;
    if with_entries {
        let entries: Vec<Entry> = newer
            .iter()
            .filter(|row| row.origin != clock.partition && row.version > floors.get(row.origin))
            .map(|row| Entry { origin: row.origin, version: row.version, key: row.key.clone() })
            .collect();
        tables.put_entries(&entries)?;
    }
    Ok(newer)
}
