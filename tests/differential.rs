//! One random list of operations on engine `memory` and on another engine gives one result, step by
//! step: the same answers, the same refusals, the same status, the same rows and logs.
//!
//! Each list is made from a seed, which a failure prints; [`run`] with that seed plays it again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datastore::clock::Manual;
use datastore::merge::Patch;
use datastore::partition::engine::Engine;
use datastore::partition::memory::Memory;
use datastore::partition::sqlite::Sqlite;
use datastore::partition::{
    Found, Get, Identity, Origins, Page, PageRequest, Partition, PartitionError, Push, Range,
    Refusal, ReseedNumber, ReseedStep, Result, SCHEMA_VERSION, Status, Trim,
};
use datastore::record::{Body, Key, Record, Space};
use datastore::topology::cut::Cuts;
use datastore::topology::{Role, Topology};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Seq, SetId, Version};
use datastore::write::{Change, Condition, Expected, Write};
use fastrand::Rng;
use mysql::prelude::Queryable;
use tempfile::TempDir;

use crate::support::mariadb::Server;

const PARTITIONS: u16 = 3;
/// Lists played on SQLite, and on MariaDB, where each step takes many round trips.
const LISTS: u64 = 300;
const LISTS_AT_A_SERVER: u64 = 80;
const STEPS: usize = 40;
const NOW_MS: i64 = 1_000_000;

/// The engine that is compared with memory: it makes new partitions for each list.
enum Other {
    /// Copies of founded files, which spares most of the flushing.
    Sqlite { founded: tempfile::TempDir },
    /// Databases that are emptied before each list, which spares making tables.
    Mariadb { databases: Vec<String> },
}

impl Other {
    fn sqlite() -> Self {
        let founded = tempfile::tempdir().unwrap();
        for id in 1..=PARTITIONS {
            let path = founded.path().join(format!("{id}.db"));
            let sqlite = Sqlite::new(path, Arc::new(Manual::at(NOW_MS))).unwrap();
            sqlite.connect().unwrap().found(&identity(id)).unwrap();
        }
        Self::Sqlite { founded }
    }

    fn mariadb() -> Self {
        let server = Server::shared();
        let found = |id| {
            let name = server.database();
            server.engine(&name).connect().unwrap().found(&identity(id)).unwrap();
            name
        };
        Self::Mariadb { databases: (1..=PARTITIONS).map(found).collect() }
    }

    /// After how many steps everything is compared, besides the answers to each.
    const fn steps_between_looks(&self) -> usize {
        match self {
            Self::Sqlite { .. } => 1,
            Self::Mariadb { .. } => 8,
        }
    }

    /// A new partition; files stand in `directory`.
    fn partition(&self, id: u16, directory: &TempDir, clock: &Arc<Manual>) -> Box<dyn Engine> {
        let clock = Arc::clone(clock);
        match self {
            Self::Sqlite { founded } => {
                let file = format!("{id}.db");
                let path = directory.path().join(&file);
                std::fs::copy(founded.path().join(&file), &path).unwrap();
                Box::new(Sqlite::new(path, clock).unwrap())
            }
            Self::Mariadb { databases } => {
                let (server, name) = (Server::shared(), &databases[usize::from(id - 1)]);
                let tables = ["data", "system", "change", "clock", "jump", "cursor", "topology"];
                let mut admin = server.admin_of(name);
                for table in tables {
                    admin.query_drop(format!("DELETE FROM `{table}`")).unwrap();
                }
                Box::new(server.engine(name).with_clock(clock))
            }
        }
    }
}

/// A partition in both engines.
struct Pair {
    memory: Box<dyn Partition + Send>,
    other: Box<dyn Partition + Send>,
}

impl Pair {
    /// Asks both the same and requires one answer.
    fn ask<T: PartialEq + Debug>(
        &mut self,
        what: &dyn Debug,
        question: impl Fn(&mut dyn Partition) -> Result<T>,
    ) -> Result<T, Refusal> {
        let memory = refused(question(self.memory.as_mut()));
        let other = refused(question(self.other.as_mut()));
        assert_eq!(memory, other, "memory and the other engine answer differently to {what:?}");
        memory
    }

    fn status(&mut self) -> Status {
        self.ask(&"status", |partition| partition.status()).unwrap()
    }

    /// Everything that can be seen, where it can.
    fn compare(&mut self) {
        let status = self.status();
        let _ = self
            .ask(&"all rows", |partition| Ok(partition.scan(None, usize::MAX, usize::MAX)?.rows));
        let log = PageRequest { rows: false, ..everything(status.floors) };
        let _ = self.ask(&"all entries", |partition| partition.page(&log));
    }
}

/// Anything but a refusal is a failure of the engine.
fn refused<T>(result: Result<T>) -> Result<T, Refusal> {
    match result {
        Ok(value) => Ok(value),
        Err(PartitionError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error:?}"),
    }
}

fn everything(from: Vector) -> PageRequest {
    PageRequest {
        from,
        origins: Origins::AllBut(None),
        early: true,
        rows: true,
        entries_max: 10_000,
        bytes_max: 1 << 20,
    }
}

fn identity(id: u16) -> Identity {
    let roles: BTreeMap<String, Role> =
        (1..=PARTITIONS).map(|n| (format!("store_{n}"), Role::Master)).collect();
    Identity {
        set: SetId(1),
        partition: PartitionId(id),
        schema: SCHEMA_VERSION,
        topology: Topology::found(&roles).unwrap(),
    }
}

/// Partitions, what goes on between them, and the dice.
struct World {
    rng: Rng,
    clock: Arc<Manual>,
    pairs: Vec<Pair>,
    /// Pages on their way, with their target and the reseed number they were asked under.
    pages: Vec<(usize, Page, ReseedNumber)>,
    /// What happened at least once.
    seen: BTreeSet<&'static str>,
    _directory: TempDir,
}

impl World {
    /// New partitions.
    fn new(seed: u64, other: &Other) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Manual::at(NOW_MS));
        let pairs = (1..=PARTITIONS).map(|id| {
            let mut other = other.partition(id, &directory, &clock).connect().unwrap();
            other.found(&identity(id)).unwrap();
            // The run that the other one lives in, so that statuses are equal.
            let run = other.status().unwrap().run;
            let memory = Memory::new(run, Arc::clone(&clock) as _);
            let mut pair = Pair { memory: memory.connect().unwrap(), other };
            pair.ask(&"found", |partition| partition.found(&identity(id))).unwrap();
            pair
        });
        let pairs = pairs.collect();
        let rng = Rng::with_seed(seed);
        Self { rng, clock, pairs, pages: Vec::new(), seen: BTreeSet::new(), _directory: directory }
    }

    fn saw<T>(&mut self, result: Result<T, Refusal>, what: impl Fn(T) -> Option<&'static str>) {
        self.seen.extend(match result {
            Ok(value) => what(value),
            Err(Refusal::Fenced { .. }) => Some("fenced"),
            Err(Refusal::CursorMoved { .. }) => Some("cursor moved"),
            Err(Refusal::SourceBelowFloor { .. }) => Some("source below floor"),
            Err(Refusal::BelowFloor { .. }) => Some("below floor"),
            Err(Refusal::Reseeding) => Some("reseeding"),
            Err(Refusal::Made) => Some("made already"),
            Err(Refusal::Outbid { .. } | Refusal::OtherIncarnation) => None,
            Err(Refusal::RunEnded | Refusal::SequenceExhausted | Refusal::Empty) => None,
        });
    }

    fn somebody(&mut self) -> usize {
        self.rng.usize(..self.pairs.len())
    }

    fn step(&mut self) {
        let at = self.somebody();
        match self.rng.u32(..100) {
            0..30 => self.commit(at),
            30..38 => self.push(at),
            38..58 => self.page(at),
            58..70 => self.apply(),
            70..76 => self.trim(at),
            76..80 => self.reseed(at),
            80..82 => self.reseed_step(at),
            82..88 => self.get(at),
            88..94 => self.list(at),
            94..97 => self.raise(at),
            97..98 => self.clock.advance_ms(5),
            _ => drop(self.pairs[at].ask(&"open", |partition| partition.open_lane())),
        }
    }

    fn compare(&mut self) {
        for pair in &mut self.pairs {
            pair.compare();
        }
    }

    fn key(&mut self) -> Key {
        const KEYS: [&[u8]; 10] =
            [b"a", b"A", b"a ", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\0", b"\xc3\x28"];
        let space = if self.rng.u8(..8) == 0 { Space::System } else { Space::Data };
        let nth = self.rng.usize(..KEYS.len());
        Key::stored(space, KEYS[nth])
    }

    fn body(&mut self) -> Body {
        let bytes = if self.rng.u8(..10) == 0 { 5_000 } else { self.rng.usize(..40) };
        let value: Vec<u8> = (0..bytes).map(|_| self.rng.u8(..)).collect();
        let expires_at = (self.rng.u8(..5) == 0).then(|| NOW_MS + i64::from(self.rng.i8(-3..20)));
        let content_type = ["", "text/plain", "text/plain; charset=utf-8"][self.rng.usize(..3)];
        Body { value: value.into(), content_type: content_type.into(), expires_at }
    }

    /// A version that the partition has for the key, or one that nobody ever gave.
    fn expected(&mut self, at: usize, key: &Key) -> Expected {
        if self.rng.bool() {
            return Expected::Any;
        }
        let current = self.row(at, key).map(|row| row.version);
        let other = Version::new(Epoch::FIRST, Seq::new(self.rng.u64(1..30)).unwrap());
        Expected::OneOf(if self.rng.bool() { vec![other] } else { current.into_iter().collect() })
    }

    fn row(&mut self, at: usize, key: &Key) -> Option<Record> {
        let keys = [key.clone()];
        let get = Get { keys: &keys, inline_bytes_max: usize::MAX };
        match self.pairs[at].ask(&get, |partition| partition.get(&get)).ok()?.rows.remove(0)? {
            Found::Row(row) => Some(row),
            Found::Large { bytes } => panic!("{bytes} bytes are not too large here"),
            Found::Damaged => panic!("damaged"),
        }
    }

    fn write(&mut self, at: usize) -> Write {
        let key = self.key();
        let change = match self.rng.u8(..8) {
            0..3 => Change::Set(self.body()),
            3 => Change::Set(Body { value: "{\"a\": 1}".into(), ..self.body() }),
            4 => Change::Update(self.body()),
            5 => Change::Merge {
                patch: Patch::parse("{\"b\": 2}".into()).unwrap(),
                value_bytes_max: 100,
            },
            _ => Change::Delete,
        };
        let mut condition = Condition::NONE;
        match self.rng.u8(..6) {
            0 => condition.if_match = Some(self.expected(at, &key)),
            1 => condition.if_none_match = Some(self.expected(at, &key)),
            _ => {}
        }
        let ttl = self.rng.bool().then(|| Duration::from_millis(self.rng.u64(1..50)));
        Write { key, change, condition, ttl, tell_created: self.rng.bool() }
    }

    /// Mostly the epoch of the clock, else one beside it.
    fn epoch(&mut self, at: usize) -> Epoch {
        let number = self.pairs[at].status().epoch.number();
        let number = match self.rng.u8(..10) {
            0 => number + 1,
            1 => number.saturating_sub(1),
            _ => number,
        };
        Epoch::new(number).unwrap()
    }

    /// Mostly the reseed number that stands.
    fn number(&mut self, at: usize) -> ReseedNumber {
        let standing = self.pairs[at].status().reseed;
        if self.rng.u8(..10) == 0 { ReseedNumber(self.rng.u64(..3)) } else { standing }
    }

    fn commit(&mut self, at: usize) {
        let writes: Vec<Write> = (0..self.rng.usize(..6)).map(|_| self.write(at)).collect();
        let epoch = self.epoch(at);
        let result = self.pairs[at].ask(&writes, |partition| partition.commit(epoch, &writes));
        self.saw(result, |_| Some("commit"));
    }

    fn push(&mut self, to: usize) {
        let (from, key) = (self.somebody(), self.key());
        let Some(row) = self.row(from, &key) else { return };
        let rows = vec![row];
        let push = Push { rows, epoch: self.epoch(to), reseed: self.number(to), cuts: Cuts::NONE };
        let result = self.pairs[to].ask(&push, |partition| partition.push(&push));
        self.saw(result, |()| Some("push"));
    }

    /// Asks a source for a page, from where the target stands or, at times, from somewhere else.
    fn page(&mut self, target: usize) {
        let source = self.somebody();
        let status = self.pairs[target].status();
        let mut from = status.vector;
        if self.rng.u8(..8) == 0 {
            from = self.pairs[source].status().floors;
        }
        let request = PageRequest {
            from,
            origins: match self.rng.u8(..3) {
                0 => Origins::AllBut(None),
                1 => Origins::AllBut(Some(status.partition)),
                _ => Origins::Only([PartitionId(self.rng.u16(1..=PARTITIONS))].into()),
            },
            early: self.rng.u8(..5) != 0,
            rows: true,
            entries_max: if self.rng.bool() { 1_000 } else { self.rng.usize(1..5) },
            bytes_max: if self.rng.bool() { 1 << 20 } else { self.rng.usize(..2_000) },
        };
        let page = self.pairs[source].ask(&request, |partition| partition.page(&request));
        self.pages.extend(page.iter().cloned().map(|page| (target, page, status.reseed)));
        self.saw(page, |page| page.cut.then_some("cut page"));
        if self.rng.bool() {
            self.apply_nth(self.pages.len().wrapping_sub(1));
        }
    }

    fn apply(&mut self) {
        if !self.pages.is_empty() {
            let nth = self.rng.usize(..self.pages.len());
            self.apply_nth(nth);
        }
    }

    /// Applies a page that is on its way; at times it comes once more later.
    fn apply_nth(&mut self, nth: usize) {
        let Some((target, page, number)) = self.pages.get(nth).cloned() else { return };
        if self.rng.u8(..4) != 0 {
            self.pages.swap_remove(nth);
        }
        let result = self.pairs[target].ask(&page, |partition| partition.apply(&page, number));
        self.saw(result, |applied| (applied.rows > 0).then_some("rows applied"));
    }

    fn trim(&mut self, at: usize) {
        let vectors: Vec<Vector> = self.pairs.iter_mut().map(|pair| pair.status().vector).collect();
        let floor = match self.rng.u8(..4) {
            0 => vectors[at].clone(),
            1 => vectors[self.rng.usize(..vectors.len())].clone(),
            _ => vectors.iter().skip(1).fold(vectors[0].clone(), |floor, v| floor.meet(v)),
        };
        let entries_max = if self.rng.bool() { 1_000 } else { self.rng.usize(1..5) };
        let trim = Trim { epoch: self.epoch(at), floor, entries_max };
        let result = self.pairs[at].ask(&trim, |partition| partition.trim(&trim));
        self.saw(result, |trimmed| match (trimmed.tombstones, trimmed.cut) {
            (_, true) => Some("cut trim"),
            (0, false) => None,
            (_, false) => Some("tombstones collected"),
        });
    }

    /// A whole reseed, which may be broken off anywhere.
    fn reseed(&mut self, at: usize) {
        let source = self.somebody();
        // One that was made is never emptied.
        if self.rng.u8(..10) > 0 {
            self.pairs[at].ask(&"set aside", |partition| partition.set_aside()).unwrap();
        }
        let begin = self.reseed_with(at, ReseedNumber(0), ReseedStep::Begin);
        let number = match begin {
            Ok(number) => number,
            Err(refusal) => return self.saw(Err::<(), _>(refusal), |()| None),
        };
        let noted = self.pairs[source].status().vector;
        let mut after: Option<Key> = None;
        loop {
            let rows_max = self.rng.usize(1..6);
            let chunk = self.pairs[source]
                .ask(&after, |partition| partition.scan(after.as_ref(), rows_max, 3_000));
            let Ok(chunk) = chunk else { return };
            after = chunk.rows.last().map(|row| row.key.clone()).or(after);
            if self.reseed_with(at, number, ReseedStep::Rows(chunk.rows)).is_err()
                || self.rng.u8(..20) == 0
            {
                return;
            }
            if !chunk.more {
                break;
            }
        }
        let floors = self.pairs[source].status().floors;
        let log = PageRequest { rows: false, ..everything(floors.clone()) };
        let Ok(log) = self.pairs[source].ask(&log, |partition| partition.page(&log)) else {
            return;
        };
        let _ = self.reseed_with(at, number, ReseedStep::Log(log.entries));
        let result = self.reseed_with(at, number, ReseedStep::End { noted, floors });
        self.saw(result, |_| Some("reseeded"));
    }

    /// One step alone, whether it fits or not.
    fn reseed_step(&mut self, at: usize) {
        let other = self.somebody();
        let status = self.pairs[other].status();
        let step = match self.rng.u8(..3) {
            0 => ReseedStep::Rows(Vec::new()),
            1 => ReseedStep::Log(Vec::new()),
            _ => ReseedStep::End { noted: status.vector, floors: status.floors },
        };
        let number = self.number(at);
        let _ = self.reseed_with(at, number, step);
    }

    fn reseed_with(
        &mut self,
        at: usize,
        number: ReseedNumber,
        step: ReseedStep,
    ) -> Result<ReseedNumber, Refusal> {
        self.pairs[at].ask(&step, |partition| partition.reseed(number, &step))
    }

    fn get(&mut self, at: usize) {
        let mut keys: Vec<Key> = (0..self.rng.usize(..8)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        self.rng.shuffle(&mut keys);
        let inline_bytes_max = if self.rng.bool() { 1 << 20 } else { self.rng.usize(..50) };
        let get = Get { keys: &keys, inline_bytes_max };
        let _ = self.pairs[at].ask(&get, |partition| partition.get(&get));
    }

    fn list(&mut self, at: usize) {
        let prefixes: [&[u8]; 6] = [b"", b"", b"a", b"a\xff", b"\xff", b"zz"];
        let prefix = Bytes::from_static(prefixes[self.rng.usize(..prefixes.len())]);
        let after = self.rng.bool().then(|| self.key().bytes().clone());
        let range = Range {
            space: Space::Data,
            prefix,
            after,
            keys_max: self.rng.usize(1..8),
            scanned_max: self.rng.usize(1..12),
            value_bytes_max: self.rng.bool().then(|| self.rng.usize(..6_000)),
        };
        let _ = self.pairs[at].ask(&range, |partition| partition.list(&range));
    }

    fn raise(&mut self, at: usize) {
        let epoch = self.epoch(at);
        self.pairs[at].ask(&epoch, |partition| partition.raise(epoch)).unwrap();
    }
}

/// Plays the list of operations that the seed makes; tells what happened in it.
fn run(seed: u64, other: &Other) -> BTreeSet<&'static str> {
    let mut world = World::new(seed, other);
    for step in 0..STEPS {
        let played = std::panic::AssertUnwindSafe(|| {
            world.step();
            if step % other.steps_between_looks() == 0 || step + 1 == STEPS {
                world.compare();
            }
        });
        if let Err(panic) = std::panic::catch_unwind(played) {
            eprintln!("seed {seed}, step {step}");
            std::panic::resume_unwind(panic);
        }
    }
    world.seen
}

fn engines_agree(other: &Other, seeds: impl Iterator<Item = u64>) {
    let seen: BTreeSet<&str> = seeds.flat_map(|seed| run(seed, other)).collect();
    let all = [
        "below floor",
        "commit",
        "cursor moved",
        "cut page",
        "cut trim",
        "fenced",
        "made already",
        "push",
        "reseeded",
        "reseeding",
        "rows applied",
        "source below floor",
        "tombstones collected",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all, "the dice missed something");
}

// In halves, for two processors.

#[test]
fn sqlite_agrees_on_even_seeds() {
    engines_agree(&Other::sqlite(), (0..LISTS).filter(|seed| seed % 2 == 0));
}

#[test]
fn sqlite_agrees_on_odd_seeds() {
    engines_agree(&Other::sqlite(), (0..LISTS).filter(|seed| seed % 2 == 1));
}

#[test]
fn mariadb_agrees() {
    engines_agree(&Other::mariadb(), 0..LISTS_AT_A_SERVER);
}
