//! Where the suite gets its partitions from, and short words for what it does with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use datastore::clock::Manual;
use datastore::partition::engine::Engine;
use datastore::partition::memory::Memory;
use datastore::partition::sqlite::Sqlite;
use datastore::partition::{
    Entry, Fetched, Found, Get, Identity, Origins, Page, PageRequest, Partition, PartitionError,
    Push, Refusal, ReseedNumber, ReseedStep, Result, SCHEMA_VERSION,
};
use datastore::record::{Body, Key, Record, Space};
use datastore::topology::cut::Cuts;
use datastore::topology::{Role, Topology};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, RunId, Seq, SetId, Version};
use datastore::write::Write;

use crate::support::mariadb::Server;
use crate::support::meddle::Meddle;

/// The wall clock that every test starts at.
pub const NOW_MS: i64 = 1_000_000;

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Sqlite,
    Mariadb,
}

/// Empty databases of one engine, gone with it and the last [`Home`] in it.
pub struct Bed {
    kind: Kind,
    pub clock: Arc<Manual>,
    pub directory: Arc<tempfile::TempDir>,
    /// Names given here, and those that the server has for them.
    databases: Mutex<BTreeMap<String, String>>,
    memories: Mutex<BTreeMap<String, Memory>>,
}

impl Bed {
    pub fn new(kind: Kind) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self {
            kind,
            clock: Arc::new(Manual::at(NOW_MS)),
            directory,
            databases: Mutex::default(),
            memories: Mutex::default(),
        }
    }

    /// Gives a row of `data` another value behind the partition's back.
    pub fn tamper(&self, name: &str, wanted: &str, value: &'static str) {
        let meddle = match self.kind {
            Kind::Memory => Meddle::Memory(self.memories.lock().unwrap()[name].clone()),
            Kind::Sqlite => Meddle::Sqlite(self.directory.path().join(name)),
            Kind::Mariadb => Meddle::Mariadb(self.databases.lock().unwrap()[name].clone()),
        };
        meddle.tamper(wanted, value);
    }

    /// An empty database.
    pub fn database(&self, name: &str) -> Box<dyn Engine> {
        let clock = Arc::clone(&self.clock);
        match self.kind {
            Kind::Memory => {
                let mut memories = self.memories.lock().unwrap();
                let memory = memories.entry(name.to_owned());
                Box::new(memory.or_insert_with(|| Memory::new(RunId(7), clock)).clone())
            }
            Kind::Sqlite => Box::new(Sqlite::new(self.directory.path().join(name), clock).unwrap()),
            Kind::Mariadb => {
                let server = Server::shared();
                let name = self
                    .databases
                    .lock()
                    .unwrap()
                    .entry(name.to_owned())
                    .or_insert_with(|| server.database())
                    .clone();
                Box::new(server.engine(&name).with_clock(clock))
            }
        }
    }

    /// A founded partition, its lane open: 1, 2 or 3 of the same set.
    pub fn partition(&self, id: u16) -> Home {
        let engine = self.database(&format!("store_{id}.db"));
        let mut connection = engine.connect().unwrap();
        connection.found(&identity(id)).unwrap();
        connection.open_lane().unwrap();
        self.home(engine, connection)
    }

    /// A database of this bed that is open.
    pub fn home(&self, engine: Box<dyn Engine>, connection: Box<dyn Partition + Send>) -> Home {
        Home { engine, connection, _directory: Arc::clone(&self.directory) }
    }
}

/// A partition with a connection to it.
pub struct Home {
    pub engine: Box<dyn Engine>,
    pub connection: Box<dyn Partition + Send>,
    _directory: Arc<tempfile::TempDir>,
}

/// Three masters, `store_1` to `store_3`.
pub fn topology() -> Topology {
    let roles: BTreeMap<String, Role> =
        (1..=3).map(|n| (format!("store_{n}"), Role::Master)).collect();
    Topology::found(&roles).unwrap()
}

pub fn identity(id: u16) -> Identity {
    Identity {
        set: SetId(0xfeed),
        partition: PartitionId(id),
        schema: SCHEMA_VERSION,
        topology: topology(),
    }
}

pub fn key(bytes: impl Into<Bytes>) -> Key {
    Key::stored(Space::Data, bytes)
}

pub fn system_key(bytes: impl Into<Bytes>) -> Key {
    Key::stored(Space::System, bytes)
}

pub fn body(value: impl Into<Bytes>) -> Body {
    Body { value: value.into(), content_type: "text/plain".into(), expires_at: None }
}

pub fn set(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::set(key(name), body(value))
}

pub fn delete(name: impl Into<Bytes>) -> Write {
    Write::delete(key(name))
}

pub fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

pub fn version(epoch_number: u32, seq: u64) -> Version {
    Version::new(epoch(epoch_number), Seq::new(seq).unwrap())
}

pub fn vector(places: &[(u16, Version)]) -> Vector {
    places.iter().map(|&(id, version)| (PartitionId(id), version)).collect()
}

/// A row as another partition made it.
pub fn row(
    name: &'static str,
    origin: u16,
    version: Version,
    value: Option<&'static str>,
) -> Record {
    Record::new(key(name), version, PartitionId(origin), value.map(body))
}

pub fn entry(row: &Record) -> Entry {
    Entry { origin: row.origin, version: row.version, key: row.key.clone() }
}

pub fn push(row: Record) -> Push {
    Push { rows: vec![row], epoch: Epoch::FIRST, reseed: ReseedNumber(0), cuts: Cuts::NONE }
}

/// Everything above `from`, early entries and rows included.
pub fn ask(from: Vector) -> PageRequest {
    PageRequest {
        from,
        origins: Origins::AllBut(None),
        early: true,
        rows: true,
        entries_max: 1_000,
        bytes_max: 1 << 20,
    }
}

/// The refusal, or a panic with whatever came instead.
pub fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Refusal {
    match result {
        Err(PartitionError::Refused(refusal)) => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

impl Home {
    /// Commits under the first epoch; the last version that this gave.
    pub fn write(&mut self, writes: &[Write]) -> Version {
        let outcomes = self.connection.commit(Epoch::FIRST, writes).unwrap();
        outcomes.iter().filter_map(|outcome| outcome.version()).max().unwrap_or(Version::ZERO)
    }

    /// Empties a voter, as if it were still to be made: one that was made is never emptied.
    pub fn begin_reseed(&mut self) -> ReseedNumber {
        self.connection.set_aside().unwrap();
        self.connection.reseed(ReseedNumber(0), &ReseedStep::Begin).unwrap()
    }

    pub fn fetch(&mut self, keys: &[Key]) -> Fetched {
        self.connection.get(&Get { keys, inline_bytes_max: usize::MAX }).unwrap()
    }

    /// The row, tombstone or not.
    pub fn row(&mut self, wanted: &Key) -> Option<Record> {
        match self.fetch(std::slice::from_ref(wanted)).rows.remove(0)? {
            Found::Row(row) => Some(row),
            Found::Large { bytes } => panic!("{bytes} bytes are not too large here"),
            Found::Damaged => panic!("{wanted:?} is damaged"),
        }
    }

    /// The value of a live row.
    pub fn value(&mut self, name: impl Into<Bytes>) -> Option<Bytes> {
        Some(self.row(&key(name))?.body?.value)
    }

    pub fn vector(&mut self) -> Vector {
        self.connection.status().unwrap().vector
    }

    pub fn page(&mut self, from: Vector) -> Page {
        self.connection.page(&ask(from)).unwrap()
    }

    /// All entries that are still in the log.
    pub fn log(&mut self) -> Vec<Entry> {
        let floors = self.connection.status().unwrap().floors;
        let request = PageRequest { rows: false, ..ask(floors) };
        self.connection.page(&request).unwrap().entries
    }

    /// All rows, both spaces, tombstones included.
    pub fn rows(&mut self) -> Vec<Record> {
        self.connection.scan(None, usize::MAX, usize::MAX).unwrap().rows
    }

    /// One whole pass from `source` to here.
    pub fn pull(&mut self, source: &mut Self) {
        let page = source.page(self.vector());
        assert!(!page.cut);
        let reseed = self.connection.status().unwrap().reseed;
        self.connection.apply(&page, reseed).unwrap();
    }
}
