//! Engine `memory`: a partition in the process's own memory.
//!
//! It is gone with its process, thus for embedded copies, tests and trials; and it is what the
//! simulation attacks the protocol over.
//!
//! A state is never changed once it is shown: a writing transaction works on a clone that shares
//! what it does not change ([`tree`]), and what it commits takes the place of the state before. So
//! whoever reads has one snapshot and waits for nobody, however large a transaction is; those who
//! write are one after the other; and what failed is dropped.

mod rows;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use self::rows::Rows;
pub use self::tree::Tree;
use super::acceptor::AcceptorRow;
use super::beat::{Beat, Beats};
use super::engine::{Engine, EngineKind};
use super::tables::{
    AcceptorTable, Cell, ClockRow, CursorRow, Noted, Points, Stretch, Tables, Transact,
};
use super::upkeep::{ConflictPlace, Expired, Mark, Stride, fingerprint_of};
use super::{Entry, Get, Identity, Jump, Partition, Refusal, ReseedNumber, Result};
use crate::clock::Clock;
use crate::record::{Key, Record, StoredAt};
use crate::version::{PartitionId, RunId, Seq, SetId, Version};

/// Everything that a partition holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    identity: Option<Arc<Identity>>,
    acceptor: Option<Arc<AcceptorRow>>,
    clock: Option<ClockRow>,
    jumps: Vec<Jump>,
    touches: u64,
    beats: BTreeMap<String, Beaten>,
    cursors: BTreeMap<PartitionId, CursorRow>,
    change: Tree<(PartitionId, Version), Key>,
    rows: Rows,
    /// The checksums of rows that were changed behind the partition's back, as they were stored:
    /// those of all others match.
    torn: BTreeMap<Key, u64>,
    conflicts: Tree<ConflictPlace, (Record, i64)>,
}

/// A row of table `frontend`.
#[derive(Clone, Debug)]
struct Beaten {
    beats: u64,
    at_ms: i64,
    document: String,
}

impl State {
    /// Changes a row behind the partition's back, as a fault of the machine would: its checksum
    /// stays what it was. For tests.
    pub fn tamper(&mut self, row: Record) {
        let stored = self.torn.get(&row.key).copied();
        let stored = stored.or_else(|| Some(self.rows.get(&row.key)?.checksum()));
        self.torn.insert(row.key.clone(), stored.unwrap_or_default());
        self.rows.insert(row);
    }

    /// Removes a row behind the partition's back. For tests.
    pub fn lose(&mut self, key: &Key) {
        self.rows.remove(key);
        self.torn.remove(key);
    }

    /// The ledger.
    pub fn conflicts(&self) -> impl Iterator<Item = &Record> {
        self.conflicts.values().map(|(row, _)| row)
    }

    fn checksum(&self, row: &Record) -> u64 {
        self.torn.get(&row.key).copied().unwrap_or_else(|| row.checksum())
    }

    /// Whether the row is what was stored.
    pub fn is_sound(&self, row: &Record) -> bool {
        self.torn.is_empty() || self.checksum(row) == row.checksum()
    }

    /// The row of a key, or its size where its value has more bytes than asked for.
    fn point(&self, key: &Key, value_bytes_max: usize) -> Option<Cell> {
        let row = self.rows.get(key)?;
        let bytes = row.body.as_ref().map_or(0, |body| body.value.len());
        if bytes > value_bytes_max || !self.is_sound(row) {
            return Some(self.cell(row, value_bytes_max));
        }
        Some(Cell::Row(rows::read(row, key)))
    }

    /// A row, or its size where its value has more bytes than asked for.
    fn cell(&self, row: &Record, value_bytes_max: usize) -> Cell {
        let bytes = row.body.as_ref().map_or(0, |body| body.value.len());
        match bytes <= value_bytes_max {
            true if self.is_sound(row) => Cell::Row(row.clone()),
            true => Cell::Damaged,
            false => Cell::Large(bytes),
        }
    }

    /// The rows, in key order.
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The log entries: (origin, version) to key.
    pub fn log(&self) -> &Tree<(PartitionId, Version), Key> {
        &self.change
    }
}

#[derive(Debug)]
enum Access<'a> {
    Shared(&'a State),
    Exclusive(&'a mut State),
}

/// One open transaction over a [`State`].
#[derive(Debug)]
pub struct Transaction<'a> {
    access: Access<'a>,
    run: RunId,
    now_ms: i64,
}

impl<'a> Transaction<'a> {
    /// A transaction that only reads.
    pub const fn reading(state: &'a State, run: RunId, now_ms: i64) -> Self {
        Self { access: Access::Shared(state), run, now_ms }
    }

    /// A transaction that may write.
    pub const fn writing(state: &'a mut State, run: RunId, now_ms: i64) -> Self {
        Self { access: Access::Exclusive(state), run, now_ms }
    }

    /// Runs `work`; an error takes back what it wrote.
    pub fn run<T>(mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        let before = match &self.access {
            Access::Shared(_) => None,
            Access::Exclusive(state) => Some(State::clone(state)),
        };
        let result = work(&mut self);
        if let (Err(_), Some(before), Access::Exclusive(state)) = (&result, before, self.access) {
            *state = before;
        }
        result
    }

    fn state(&self) -> &State {
        match &self.access {
            Access::Shared(state) => state,
            Access::Exclusive(state) => state,
        }
    }

    fn edit<T>(&mut self, step: impl FnOnce(&mut State) -> T) -> T {
        match &mut self.access {
            Access::Shared(_) => unreachable!("a reading transaction does not write"),
            Access::Exclusive(state) => step(state),
        }
    }

    fn set_row(&mut self, key: &Key, row: Option<&Record>) {
        let stored_at = StoredAt(self.now_ms);
        self.edit(|state| {
            state.torn.remove(key);
            match row {
                Some(row) => state.rows.insert(Record { stored_at, ..row.clone() }),
                None => state.rows.remove(key),
            }
        });
    }
}

impl Beats for Transaction<'_> {
    fn beats(&mut self) -> Result<Vec<Beat>> {
        let now_ms = self.now_ms;
        let beat = |(frontend, beaten): (&String, &Beaten)| Beat {
            frontend: frontend.clone(),
            beats: beaten.beats,
            silent_ms: now_ms - beaten.at_ms,
            document: beaten.document.clone(),
        };
        Ok(self.state().beats.iter().map(beat).collect())
    }

    fn put_beat(&mut self, frontend: &str, document: &str) -> Result<()> {
        let at_ms = self.now_ms;
        self.edit(|state| {
            let beats = state.beats.get(frontend).map_or(0, |beaten| beaten.beats) + 1;
            let beaten = Beaten { beats, at_ms, document: document.to_owned() };
            state.beats.insert(frontend.to_owned(), beaten)
        });
        Ok(())
    }

    fn remove_beat(&mut self, frontend: &str) -> Result<()> {
        self.edit(|state| state.beats.remove(frontend));
        Ok(())
    }
}

impl AcceptorTable for Transaction<'_> {
    fn acceptor(&mut self) -> Result<AcceptorRow> {
        self.state().acceptor.as_deref().cloned().ok_or_else(|| Refusal::Empty.into())
    }

    fn put_acceptor(&mut self, row: &AcceptorRow) -> Result<()> {
        self.edit(|state| state.acceptor = Some(Arc::new(row.clone())));
        Ok(())
    }
}

impl Tables for Transaction<'_> {
    fn identity(&mut self) -> Result<Option<Identity>> {
        let State { identity, acceptor, .. } = self.state();
        let Some(identity) = identity.as_deref().cloned() else { return Ok(None) };
        let topology = acceptor.as_ref().map(|row| row.document.clone());
        Ok(Some(Identity { topology: topology.unwrap_or(identity.topology.clone()), ..identity }))
    }

    fn create(&mut self) -> Result<()> {
        Ok(())
    }

    fn set_identity(&mut self, identity: &Identity, run: RunId) -> Result<()> {
        let clock = ClockRow {
            partition: identity.partition,
            epoch: identity.topology.epoch(),
            seq: Seq::ZERO,
            run,
            reseed: 0,
            reseeding: false,
        };
        self.edit(|state| state.identity = Some(Arc::new(identity.clone())));
        self.edit(|state| state.clock = Some(clock));
        Ok(())
    }

    fn rename(&mut self, set: SetId) -> Result<()> {
        let identity = self.state().identity.as_deref().cloned().ok_or(Refusal::Empty)?;
        self.edit(|state| state.identity = Some(Arc::new(Identity { set, ..identity })));
        Ok(())
    }

    fn run(&mut self) -> Result<RunId> {
        Ok(self.run)
    }

    fn now_ms(&mut self) -> Result<i64> {
        Ok(self.now_ms)
    }

    fn clock(&mut self) -> Result<ClockRow> {
        self.state().clock.ok_or_else(|| Refusal::Empty.into())
    }

    fn set_clock(&mut self, clock: &ClockRow) -> Result<()> {
        self.edit(|state| state.clock = Some(*clock));
        Ok(())
    }

    fn note_jump(&mut self, before: Seq, after: Seq) -> Result<()> {
        self.edit(|state| state.jumps.push(Jump { before, after }));
        Ok(())
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        Ok(self.state().jumps.clone())
    }

    fn touch(&mut self) -> Result<()> {
        self.edit(|state| state.touches += 1);
        Ok(())
    }

    fn cursors(&mut self) -> Result<Vec<CursorRow>> {
        Ok(self.state().cursors.values().copied().collect())
    }

    fn put_cursors(&mut self, cursors: &[CursorRow]) -> Result<()> {
        for row in cursors {
            self.edit(|state| state.cursors.insert(row.origin, *row));
        }
        Ok(())
    }

    fn head(&mut self, origin: PartitionId) -> Result<Version> {
        let upto = (origin, Version::from_packed(i64::MAX).unwrap_or_default());
        let newest = self.state().change.last_upto(&upto).map(|(place, _)| *place);
        Ok(newest.filter(|(o, _)| *o == origin).map_or(Version::ZERO, |(_, version)| version))
    }

    fn entries(&mut self, origin: PartitionId, after: Version, max: usize) -> Result<Vec<Entry>> {
        let log = self.state().change.from(Bound::Excluded(&(origin, after)));
        let log = log.take_while(|((o, _), _)| *o == origin);
        let entry = |(&(origin, version), key): (&(PartitionId, Version), &Key)| Entry {
            origin,
            version,
            key: key.clone(),
        };
        Ok(log.take(max).map(entry).collect())
    }

    fn put_entries(&mut self, entries: &[Entry]) -> Result<()> {
        for entry in entries {
            let place = (entry.origin, entry.version);
            self.edit(|state| state.change.insert(place, entry.key.clone()));
        }
        Ok(())
    }

    fn remove_entries(&mut self, origin: PartitionId, upto: Version) -> Result<()> {
        let log = self.state().change.from(Bound::Included(&(origin, Version::ZERO)));
        let places = log.map(|(&place, _)| place).take_while(|place| *place <= (origin, upto));
        let places: Vec<_> = places.collect();
        for place in places {
            self.edit(|state| state.change.remove(&place));
        }
        Ok(())
    }

    fn cells(&mut self, keys: &[&Key], value_bytes_max: usize) -> Result<HashMap<Key, Cell>> {
        let state = self.state();
        let found = |key: &&Key| {
            let row = state.rows.get(key)?;
            Some(((*key).clone(), state.cell(row, value_bytes_max)))
        };
        Ok(keys.iter().filter_map(found).collect())
    }

    fn outlines(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Cell>> {
        let rows = &self.state().rows;
        let found = |key: &&Key| Some(((*key).clone(), outline(rows.get(key)?)));
        Ok(keys.iter().filter_map(found).collect())
    }

    fn versions(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Version>> {
        let rows = &self.state().rows;
        Ok(keys.iter().filter_map(|key| Some(((*key).clone(), rows.get(key)?.version))).collect())
    }

    fn tombstones(&mut self, keys: &[&Key]) -> Result<HashMap<Key, (PartitionId, Version)>> {
        let rows = keys.iter().filter_map(|key| self.state().rows.get(key));
        let dead = rows.filter(|row| row.is_tombstone());
        Ok(dead.map(|row| (row.key.clone(), (row.origin, row.version))).collect())
    }

    fn put_rows(&mut self, rows: &[&Record]) -> Result<()> {
        for row in rows {
            self.set_row(&row.key, Some(row));
        }
        Ok(())
    }

    fn remove_rows(&mut self, keys: &[&Key]) -> Result<()> {
        for key in keys {
            self.set_row(key, None);
        }
        Ok(())
    }

    fn stretch(&mut self, stretch: &Stretch<'_>) -> Result<Vec<(Key, Cell)>> {
        let first = Key::stored(stretch.space, stretch.prefix.clone());
        let from = match stretch.after {
            Some(after) if after >= stretch.prefix => {
                Bound::Excluded(Key::stored(stretch.space, after.clone()))
            }
            Some(_) | None => Bound::Included(first),
        };
        let state = self.state();
        let rows = state.rows.from(from.as_ref());
        let within = rows.take_while(|(key, _)| {
            key.space() == stretch.space && key.bytes().starts_with(stretch.prefix)
        });
        let found = |(key, row): (&Key, &Record)| {
            let cell = match stretch.value_bytes_max {
                Some(max) => state.cell(row, max),
                None => outline(row),
            };
            (key.clone(), cell)
        };
        Ok(within.take(stretch.rows_max).map(found).collect())
    }

    fn expired(
        &mut self,
        now_ms: i64,
        after: Option<&Expired>,
        max: usize,
    ) -> Result<Vec<Expired>> {
        let expired = self.state().rows.values().filter_map(|row| {
            let expires_at = row.body.as_ref()?.expires_at.filter(|at| *at <= now_ms)?;
            Some(Expired { expires_at, key: row.key.clone(), version: row.version })
        });
        let place = |expired: &Expired| (expired.expires_at, expired.key.clone());
        let mut expired: Vec<Expired> =
            expired.filter(|one| after.is_none_or(|after| place(one) > place(after))).collect();
        expired.sort_unstable_by_key(place);
        expired.truncate(max);
        Ok(expired)
    }

    fn marks(&mut self, stride: &Stride) -> Result<Vec<Mark>> {
        let state = self.state();
        let from = Key::stored(stride.space, stride.from.clone());
        let upto = Key::stored(stride.space, stride.upto.clone());
        let mark = |(key, row): (&Key, &Record)| Mark {
            key: key.clone(),
            version: row.version,
            origin: row.origin,
            deleted: row.is_tombstone(),
            fingerprint: fingerprint_of(row, state.checksum(row)),
        };
        let rows = state.rows.from(Bound::Included(&from)).take_while(|(key, _)| **key <= upto);
        Ok(rows.take(stride.rows_max).map(mark).collect())
    }

    fn put_conflict(&mut self, row: &Record, noted_ms: i64) -> Result<()> {
        let place = ConflictPlace::of(row);
        if !self.state().conflicts.contains_key(&place) {
            self.edit(|state| state.conflicts.insert(place, (row.clone(), noted_ms)));
        }
        Ok(())
    }

    fn remove_conflict(&mut self, place: &ConflictPlace, noted_max: i64) -> Result<bool> {
        let noted = self.state().conflicts.get(place).map(|(_, noted_ms)| *noted_ms);
        let is_old = noted.is_some_and(|noted_ms| noted_ms <= noted_max);
        if is_old {
            self.edit(|state| state.conflicts.remove(place));
        }
        Ok(is_old)
    }

    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Noted>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.state().conflicts.from(from);
        Ok(range.take(max).map(|(_, conflict)| conflict.clone()).collect())
    }

    fn clear(&mut self) -> Result<()> {
        self.edit(|state| {
            state.cursors.clear();
            state.change = Tree::default();
            state.rows = Rows::default();
            state.torn.clear();
        });
        Ok(())
    }

    fn erase(&mut self) -> Result<()> {
        self.edit(|state| *state = State::default());
        Ok(())
    }
}

/// A row with an empty value.
fn outline(row: &Record) -> Cell {
    let mut row = row.clone();
    if let Some(body) = &mut row.body {
        body.value.clear();
    }
    Cell::Row(row)
}

/// One partition in memory; every connection sees the same.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
    run: RunId,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shared {
    /// What transactions see.
    committed: ArcSwap<State>,
    /// Held by whoever writes. The state before the last one is kept until there is another one:
    /// who reads it is done by then, so that no reader is the last to hold a state, and takes the
    /// time to free it.
    before: Mutex<Arc<State>>,
}

impl Memory {
    /// An empty one. `run` should be drawn at random: it names the life of this memory.
    pub fn new(run: RunId, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::default(), run, clock }
    }

    /// Does something to what it holds behind the partition's back. For tests.
    pub fn meddle(&self, work: impl FnOnce(&mut State)) -> Result<()> {
        self.change(|state| {
            work(state);
            Ok(())
        })
    }

    /// Changes a clone of what stands, and shows it if that succeeds.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        // A panic of another writer left nothing behind: its clone is gone.
        let mut before = self.shared.before.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.shared.committed.load());
        let value = work(&mut state)?;
        *before = self.shared.committed.swap(Arc::new(state));
        Ok(value)
    }
}

impl Engine for Memory {
    fn kind(&self) -> EngineKind {
        EngineKind::Memory
    }

    fn is_local(&self) -> bool {
        true
    }

    fn locator(&self) -> String {
        format!("memory:{:p}", Arc::as_ptr(&self.shared))
    }

    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Ok(Box::new(self.clone()))
    }
}

impl Transact for Memory {
    /// What the process shows lives exactly as long as the process.
    const VISIBLE_IS_DURABLE: bool = true;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        let state = self.shared.committed.load();
        Transaction::reading(&state, self.run, self.clock.wall_ms()).run(work)
    }

    /// A state is one snapshot: no transaction has to be opened around it.
    fn points(&mut self, get: &Get<'_>) -> Option<Result<Points>> {
        let state = self.shared.committed.load();
        let found = |key| state.point(key, get.inline_bytes_max);
        let points = |clock: &ClockRow| Points {
            cells: get.keys.iter().map(found).collect(),
            now_ms: self.clock.wall_ms(),
            reseed: ReseedNumber(clock.reseed),
            reseeding: clock.reseeding,
        };
        Some(state.clock.as_ref().map(points).ok_or_else(|| Refusal::Empty.into()))
    }

    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        let (run, now_ms) = (self.run, self.clock.wall_ms());
        self.change(|state| Transaction::writing(state, run, now_ms).run(work))
    }
}
