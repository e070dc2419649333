//! Masters in databases of one kind, and a store over them: what a front end has below HTTP. It
//! syncs on request only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, Manual};
use datastore::config::partition::PartitionUrl;
use datastore::failover::service::{Ownership, OwnershipParts, Ways};
use datastore::feed::{Feed, FeedLimits, FeedParts, FeedSource};
use datastore::jobs::SyncJob;
use datastore::lane::pool::Pool;
use datastore::lane::{Connect, LaneLimits, Topologies};
use datastore::partition::engine::{Engine, EngineKind};
use datastore::partition::memory::Memory;
use datastore::partition::sqlite::Sqlite;
use datastore::partition::{Identity, Partition, PartitionError, SCHEMA_VERSION, Status};
use datastore::record::{Key, Space};
use datastore::roster::open::{Database, Opener, OpenerParts};
use datastore::store::answer::Serving;
use datastore::store::route::Part;
use datastore::store::{Served, Store, StoreParts};
use datastore::sync::round::{Member, Round};
use datastore::sync::sweep::sweep;
use datastore::topology::{Role, Topology, Voter};
use datastore::upkeep::Upkeep;
use datastore::version::{PartitionId, RunId, SetId};

use super::mariadb::Server;
use super::meddle::Meddle;

/// Whose partitions these are.
pub const SET: SetId = SetId(1);

/// The names of the masters, unless a test wants others.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// The name of the embedded copy, where there is one.
pub const COPY: &str = "copy";

/// The wall clock that every store starts at.
pub const NOW_MS: i64 = 1_000_000_000_000;

/// How long entries of the ledger are kept.
pub const LEDGER_RETENTION: Duration = Duration::from_secs(3600);

/// Small enough that tests reach them.
pub const FEED_LIMITS: FeedLimits = FeedLimits {
    followers_max: 50,
    ring_bytes_max: 1 << 20,
    heartbeat: Duration::from_secs(1),
    deadline: Duration::from_secs(5),
};

/// What the databases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Sqlite,
    /// Databases of the server that the tests of a process share.
    Mariadb,
}

/// A partition that can be taken away.
struct Switched {
    id: PartitionId,
    engine: Box<dyn Engine>,
    meddle: Meddle,
    up: AtomicBool,
    /// Whether whoever wants a connection waits, and how many do.
    held: Mutex<(bool, usize)>,
    released: Condvar,
}

impl Connect for Switched {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        let mut held = self.held.lock().unwrap();
        held.1 += 1;
        let mut held = self.released.wait_while(held, |held| held.0).unwrap();
        held.1 -= 1;
        drop(held);
        if self.up.load(Ordering::SeqCst) {
            self.engine.connect()
        } else {
            Err(PartitionError::Unreachable("no route to 10.9.8.7, user root".into()))
        }
    }
}

impl Engine for Switched {
    fn kind(&self) -> EngineKind {
        self.engine.kind()
    }

    fn is_local(&self) -> bool {
        self.engine.is_local()
    }

    fn locator(&self) -> String {
        self.engine.locator()
    }

    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        Connect::connect(self)
    }
}

/// A store over its masters.
pub struct Masters {
    pub store: Arc<Store>,
    pub sync: Arc<SyncJob>,
    pub feed: Arc<Feed>,
    pub upkeep: Arc<Upkeep>,
    pub clock: Arc<Manual>,
    pub topology: Topology,
    /// The topology in use.
    pub shared: Arc<ArcSwap<Topology>>,
    kind: Kind,
    databases: BTreeMap<String, Arc<Switched>>,
    directory: tempfile::TempDir,
}

impl Masters {
    /// The masters [`NAMES`].
    pub fn over(kind: Kind) -> Self {
        Self::named(kind, &NAMES)
    }

    /// Masters of these names.
    pub fn named(kind: Kind, names: &[&str]) -> Self {
        let roles: Vec<(&str, Role)> = names.iter().map(|&name| (name, Role::Master)).collect();
        Self::with_roles(kind, &roles)
    }

    /// Voters of these names and roles.
    pub fn with_roles(kind: Kind, roles: &[(&str, Role)]) -> Self {
        let roles = roles.iter().map(|&(name, role)| (name.to_owned(), role)).collect();
        let topology = Topology::found(&roles).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self::start(kind, Arc::new(Manual::at(NOW_MS)), topology, BTreeMap::new(), directory)
    }

    /// The same databases with an embedded copy, [`COPY`], and another store over all.
    pub fn with_copy(mut self) -> Self {
        let id = PartitionId::EMBEDDED_COPY;
        let (topology, clock, directory) = (&self.topology, &self.clock, &self.directory);
        let database = founded(Kind::Memory, id, COPY, topology, clock, directory);
        self.databases.insert(COPY.to_owned(), database);
        Self::start(self.kind, self.clock, self.topology, self.databases, self.directory)
    }

    /// The same databases, and another store over all.
    pub fn again(self) -> Self {
        let topology = self.topology.clone();
        self.again_under(topology)
    }

    /// The same for a front end that knows of the partitions of `topology` only.
    pub fn again_under(self, topology: Topology) -> Self {
        Self::start(self.kind, self.clock, topology, self.databases, self.directory)
    }

    /// The same databases with a new one, which masters nothing yet, and another store over all.
    pub fn joined_by(self, name: &str) -> Self {
        let id = self.topology.voters().iter().map(|voter| voter.id).max().unwrap();
        let id = PartitionId(id.0 + 1);
        let voter = Voter::new(id, name.to_owned(), Role::Master);
        let mut document = serde_json::to_value(&self.topology).unwrap();
        document["voters"].as_array_mut().unwrap().push(serde_json::to_value(voter).unwrap());
        let topology: Topology = serde_json::from_value(document).unwrap();
        topology.check().unwrap();
        Self::start(self.kind, self.clock, topology, self.databases, self.directory)
    }

    /// Founds the databases that are not there yet, and starts a store over all.
    fn start(
        kind: Kind,
        clock: Arc<Manual>,
        topology: Topology,
        mut databases: BTreeMap<String, Arc<Switched>>,
        directory: tempfile::TempDir,
    ) -> Self {
        let (mut partitions, mut members, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for voter in topology.voters() {
            databases.entry(voter.name.clone()).or_insert_with(|| {
                founded(kind, voter.id, &voter.name, &topology, &clock, &directory)
            });
        }
        for (name, database) in &databases {
            let (engine, is_local) = (database.engine.kind(), database.engine.is_local());
            let connect: Arc<dyn Connect> = database.clone();
            let (id, name) = (database.id, Arc::from(name.as_str()));
            let is_voter = topology.voter(id).is_some();
            let part = if is_voter { Part::Voter } else { Part::EmbeddedCopy };
            let limits = LaneLimits::default();
            let pool = Pool::new(Arc::clone(&connect), Arc::clone(&clock) as _, limits);
            let pool = Arc::new(pool);
            members.push(Member { id, name: Arc::clone(&name), connect: Arc::clone(&pool) as _ });
            sources.push(FeedSource {
                id,
                name: Arc::clone(&name),
                is_local,
                is_voter,
                connect: Arc::clone(&pool) as _,
            });
            let (serving, url) = (Serving { id, name }, "memory:".into());
            partitions.push(Served { serving, url, part, engine, is_local, connect, pool });
        }
        let shared = Arc::new(ArcSwap::from_pointee(topology.clone()));
        let time: Arc<dyn Clock> = clock.clone();
        let retention = Duration::from_secs(60);
        let (all, kept) = (members.clone(), Some(LEDGER_RETENTION));
        let upkeep =
            Upkeep::start(all, Arc::clone(&shared), Arc::clone(&time), Arc::default(), kept);
        let round = Round::start(members, Arc::clone(&shared), Arc::clone(&time), retention);
        let sync = Arc::new(SyncJob::start(round.unwrap()).unwrap());
        let feed = Feed::start(FeedParts {
            set: SET,
            sources,
            clock: Arc::clone(&time),
            sync: Arc::clone(&sync),
            limits: FEED_LIMITS,
        });
        let feed = Arc::new(feed.unwrap());
        let store = Store::start(StoreParts {
            set: SET,
            topologies: Arc::clone(&shared) as Arc<dyn Topologies>,
            topology: Arc::clone(&shared),
            partitions,
            clock: time,
            deadline: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(1),
            sync: Arc::clone(&sync),
            feed: Arc::clone(&feed),
            eager: false,
            limits: LaneLimits::default(),
            history: Arc::default(),
        });
        let store = Arc::new(store.unwrap());
        let upkeep = Arc::new(upkeep.unwrap());
        Self { store, sync, feed, upkeep, clock, topology, shared, kind, databases, directory }
    }

    /// Takes all partitions away from whoever has no connection yet.
    pub fn cut_off(&self) {
        for database in self.databases.values() {
            database.up.store(false, Ordering::SeqCst);
        }
    }

    /// Takes one partition away from whoever has no connection yet, or gives it back.
    pub fn set_up(&self, partition: &str, up: bool) {
        self.databases[partition].up.store(up, Ordering::SeqCst);
    }

    /// Lets whoever wants a connection to a partition wait, or goes on with it.
    pub fn hold(&self, partition: &str, holds: bool) {
        let database = &self.databases[partition];
        database.held.lock().unwrap().0 = holds;
        database.released.notify_all();
    }

    /// How many wait for a connection to a partition.
    pub fn waiting_at(&self, partition: &str) -> usize {
        self.databases[partition].held.lock().unwrap().1
    }

    /// The name of the partition that takes the writes of `key`.
    pub fn master_of(&self, key: &str) -> String {
        let key = Key::stored(Space::Data, key.to_owned());
        self.topology.voter(self.topology.master_of(&key)).unwrap().name.clone()
    }

    /// A key that this partition masters.
    pub fn key_of(&self, partition: &str) -> String {
        let mut keys = (0..).map(|n| format!("k{n}"));
        keys.find(|key| self.master_of(key) == partition).unwrap()
    }

    /// The partitions as another part of a front end reaches them.
    pub fn connects(&self) -> Vec<(Arc<str>, Arc<dyn Connect>)> {
        let one = |(name, database): (&String, &Arc<Switched>)| {
            (Arc::from(name.as_str()), Arc::clone(database) as Arc<dyn Connect>)
        };
        self.databases.iter().map(one).collect()
    }

    /// One more who changes the voters, over ways of its own, and who opens them.
    pub fn own(&self) -> (Arc<Ownership>, Arc<Opener>) {
        let time: Arc<dyn Clock> = self.clock.clone();
        let one = |(name, database): (&String, &Arc<Switched>)| {
            let engine: Arc<dyn Engine> = database.clone();
            (name.clone(), Database::over(PartitionUrl::Memory, engine))
        };
        let parts = OpenerParts {
            configured: self.databases.iter().map(one).collect(),
            standby: Vec::new(),
            sealer: None,
            root: self.directory.path().to_owned(),
            clock: Arc::clone(&time),
            history: Arc::default(),
        };
        let opener = Arc::new(Opener::new(SET, parts));
        let (ways, made) = (Arc::<Ways>::default(), Arc::clone(&opener));
        ways.made_by(move |voter| {
            made.way(voter).map_err(|error| PartitionError::Unreachable(error.into()))
        });
        let topology = Arc::clone(&self.shared);
        let random = fastrand::u64(..);
        let parts = OwnershipParts { set: SET, ways, topology, clock: time, random };
        (Arc::new(Ownership::new(parts)), opener)
    }

    /// Whose database it is, as it says itself.
    pub fn identity(&self, partition: &str) -> Option<Identity> {
        self.databases[partition].engine.connect().unwrap().identity().unwrap()
    }

    /// A path below the data root.
    pub fn database_path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    /// The voters that the store serves.
    pub fn voters(&self) -> Vec<Serving> {
        let voters = self.topology.voters().iter();
        voters.map(|voter| Serving { id: voter.id, name: voter.name.as_str().into() }).collect()
    }

    /// Gives a row another value behind the partition's back.
    pub fn tamper(&self, partition: &str, key: &str, value: &'static str) {
        self.databases[partition].meddle.tamper(key, value);
    }

    /// Removes a row behind the partition's back.
    pub fn lose(&self, partition: &str, key: &str) {
        self.databases[partition].meddle.lose(key);
    }

    /// What all partitions say of themselves.
    pub fn statuses(&self) -> Vec<Status> {
        let status =
            |database: &Arc<Switched>| database.engine.connect().unwrap().status().unwrap();
        self.databases.values().map(status).collect()
    }

    /// Buries what has expired, everywhere, once.
    pub fn sweep(&self) {
        for (name, database) in &self.databases {
            let mut partition = database.engine.connect().unwrap();
            sweep(partition.as_mut(), database.id, &self.topology).expect(name);
        }
    }

    /// Runs one round of passes, which has to be clean; further ones while a copy is seeded, which
    /// no round waits for.
    pub async fn round(&self) {
        loop {
            let report = self.sync.run(Duration::from_secs(60)).await.expect("a round");
            if report.is_clean() {
                return;
            }
            assert!(report.pairs.iter().any(|pair| pair.seeding), "{report:?}");
        }
    }
}

/// A database that was founded as this partition.
fn founded(
    kind: Kind,
    id: PartitionId,
    name: &str,
    topology: &Topology,
    clock: &Arc<Manual>,
    directory: &tempfile::TempDir,
) -> Arc<Switched> {
    let clock: Arc<dyn Clock> = clock.clone();
    let (engine, meddle): (Box<dyn Engine>, Meddle) = match kind {
        Kind::Memory => {
            let memory = Memory::new(RunId(u64::from(id.0)), clock);
            (Box::new(memory.clone()), Meddle::Memory(memory))
        }
        Kind::Sqlite => {
            let path = directory.path().join(name);
            (Box::new(Sqlite::new(&path, clock).unwrap()), Meddle::Sqlite(path))
        }
        Kind::Mariadb => {
            let server = Server::shared();
            let database = server.database();
            let engine = server.engine(&database).with_clock(clock);
            (Box::new(engine), Meddle::Mariadb(database))
        }
    };
    let topology = topology.clone();
    let identity = Identity { set: SET, partition: id, schema: SCHEMA_VERSION, topology };
    engine.connect().unwrap().found(&identity).unwrap();
    let (held, released) = (Mutex::default(), Condvar::new());
    Arc::new(Switched { id, engine, meddle, up: AtomicBool::new(true), held, released })
}
