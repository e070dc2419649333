//! From the configuration to partitions that may be used: engines by their URLs, and the set that
//! [`crate::founding`] finds in them.
//!
//! Whoever connects later, lanes and rounds alike, goes through [`Checked`]: what a URL leads to
//! may have changed since the start, and a partition that could not be asked then is asked at its
//! first connection.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::partition::PartitionUrl;
use crate::failover::service::Ways;
use crate::feed::FeedSource;
use crate::founding::history::History;
use crate::founding::restored::begin_restored;
use crate::founding::{Configured, Founding, FoundingError, OpenSet, Unreachable, open_set};
use crate::lane::checked::Checked;
use crate::lane::pool::Pool;
use crate::lane::{Connect, LaneLimits};
use crate::partition::PartitionError;
use crate::partition::engine::Engine;
use crate::partition::memory::Memory;
use crate::partition::mysql::{Mysql, Patience, ServerSettings};
use crate::partition::sqlite::{PathError, Sqlite};
use crate::store::Served;
use crate::store::answer::Serving;
use crate::store::route::Part;
use crate::sync::round::Member;
use crate::topology::TopologyError;
use crate::version::{RunId, SetId};

/// Why the partitions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a file's name.
    #[error("the url of partition `{name}` cannot be used")]
    Path {
        /// Which partition.
        name: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A value of the configured size would not fit a packet.
    #[error(
        "the server of partition `{name}` takes packets of {packet} bytes, and \
         store.value_bytes_max = {value} needs {needed}; raise max_allowed_packet there, or lower \
         store.value_bytes_max"
    )]
    PacketTooSmall {
        /// Which partition.
        name: String,
        /// The server's `max_allowed_packet`.
        packet: usize,
        /// The configured largest value.
        value: usize,
        /// What a statement with such a value takes.
        needed: usize,
    },
    /// The configured roles make no set.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The databases are not those that were meant.
    #[error(transparent)]
    Founding(Box<FoundingError>),
    /// Ids are drawn at random.
    #[error("the operating system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

impl From<FoundingError> for OpenError {
    fn from(error: FoundingError) -> Self {
        Self::Founding(Box::new(error))
    }
}

impl OpenError {
    /// Whether it may be otherwise a moment later, without anybody's doing.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Founding(error) => error.may_pass(),
            Self::Path { .. }
            | Self::PacketTooSmall { .. }
            | Self::Topology(_)
            | Self::Random(_) => false,
        }
    }

    /// Whether somebody has to change the configuration or the databases first.
    pub const fn is_misconfigured(&self) -> bool {
        match self {
            Self::Path { .. } | Self::PacketTooSmall { .. } | Self::Topology(_) => true,
            Self::Founding(error) => !error.may_pass(),
            Self::Random(_) => false,
        }
    }
}

/// What a statement holds besides the value of its row: key, content type, columns, framing.
const PACKET_BYTES_BESIDE: usize = 64 << 10;

/// See [`way_to`]. A page of a drain has to come within this.
const WAY_PATIENCE: Patience = Patience {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(3),
    whole: Duration::from_secs(30),
    lock: Duration::from_secs(2),
    idle: Duration::from_secs(5),
};

/// The configured partitions, not yet connected to.
pub struct Engines {
    clock: Arc<dyn Clock>,
    configured: Vec<Configured>,
    servers: Vec<(String, Arc<Mysql>)>,
}

impl Engines {
    /// Those that the configuration names, in the order of their names.
    pub fn new(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, OpenError> {
        let (mut configured, mut servers) = (Vec::new(), Vec::new());
        for (name, partition) in &config.partitions {
            let engine: Arc<dyn Engine> = match &partition.url {
                PartitionUrl::Sqlite { path } => Arc::new(
                    Sqlite::new(path, Arc::clone(clock))
                        .map_err(|source| OpenError::Path { name: name.clone(), source })?,
                ),
                PartitionUrl::Mysql(url) => {
                    let server = Arc::new(Mysql::new(url.clone()));
                    servers.push((name.clone(), Arc::clone(&server)));
                    server
                }
                PartitionUrl::Memory => {
                    Arc::new(Memory::new(RunId(getrandom::u64()?), Arc::clone(clock)))
                }
            };
            configured.push(Configured { name: name.clone(), engine });
        }
        Ok(Self { clock: Arc::clone(clock), configured, servers })
    }

    /// What the servers among them say of themselves; those that cannot be asked are left out.
    /// Refuses one whose packets are too small for the configured values.
    pub fn servers(&self, config: &Config) -> Result<Vec<(&str, ServerSettings)>, OpenError> {
        let mut told = Vec::new();
        for (name, server) in &self.servers {
            let Ok(settings) = server.settings() else { continue };
            let (packet, value) = (settings.max_allowed_packet, config.store.value_bytes_max);
            let needed = value + PACKET_BYTES_BESIDE;
            if packet < needed {
                let name = name.clone();
                return Err(OpenError::PacketTooSmall { name, packet, value, needed });
            }
            told.push((name.as_str(), settings));
        }
        Ok(told)
    }

    /// Opens the set, and founds it if it may and all partitions are empty.
    pub fn open(&self, config: &Config, founding: Founding) -> Result<Opened, OpenError> {
        let new_set = SetId(random_id()?);
        let set = open_set(&self.configured, &config.topology()?, founding, new_set)?;
        Ok(self.opened(config, set))
    }

    /// Begins a new set with what the partition `name` holds; the others are emptied, and marked as
    /// reseeding until they are made anew.
    pub fn begin_restored(&self, config: &Config, name: &str) -> Result<Opened, OpenError> {
        let topology = config.topology()?;
        let set = begin_restored(&self.configured, &topology, name, SetId(random_id()?))?;
        Ok(self.opened(config, set))
    }

    /// Those of a set that hold data. An older copy of one is named like one that cannot be asked.
    fn opened(&self, config: &Config, mut set: OpenSet) -> Opened {
        let history = Arc::<History>::default();
        let (mut partitions, ways) = (Vec::new(), Arc::<Ways>::default());
        for Configured { name, engine } in &self.configured {
            let voter = set.topology.voter_named(name);
            let (Some(voter), Some(expected)) = (voter, set.expected(name)) else { continue };
            let (engine, history) = (Arc::clone(engine), Arc::clone(&history));
            let losses = AtomicU64::default();
            let checked = Arc::new(Checked { engine, expected, history, losses });
            let connect = Arc::clone(&checked) as Arc<dyn Connect>;
            let limits = LaneLimits::default();
            let way = Pool::new(way_to(config, &checked), Arc::clone(&self.clock), limits);
            ways.put(voter.id, Arc::new(way));
            // A witness holds no data: neither lanes nor rounds have anything to do with it.
            if !voter.role.holds_data() {
                continue;
            }
            // Of their own: every target of a round may read from every partition at once.
            let wide = LaneLimits { read_threads: self.configured.len(), ..limits };
            let rounds = Pool::new(Arc::clone(&connect), Arc::clone(&self.clock), wide);
            let pool = Pool::new(connect, Arc::clone(&self.clock), limits);
            partitions.push(Open {
                serving: Serving { id: voter.id, name: name.as_str().into() },
                url: config.partitions[name].url.to_string().into(),
                checked,
                pool: Arc::new(pool),
                rounds: Arc::new(rounds),
            });
        }
        // Twice: only then is known what the last of them have of the first.
        for judged in [false, true] {
            for Open { serving, checked, .. } in &partitions {
                let connected = checked.connect();
                let refused = PartitionError::is_foreign;
                if let Some(error) = connected.err().filter(|error| judged && refused(error)) {
                    set.unreachable.push(Unreachable { name: serving.name.to_string(), error });
                }
            }
        }
        Opened { set, history, ways, partitions }
    }
}

/// How the register and changes of ownership reach a partition: sooner at the end of their patience
/// than requests are, so that one that hangs keeps nobody from being replaced.
fn way_to(config: &Config, checked: &Arc<Checked>) -> Arc<dyn Connect> {
    let Some(partition) = config.partitions.get(&checked.expected.name) else {
        return Arc::clone(checked) as Arc<dyn Connect>;
    };
    let engine: Arc<dyn Engine> = match &partition.url {
        PartitionUrl::Mysql(url) => Arc::new(Mysql::new(url.clone()).with_patience(WAY_PATIENCE)),
        PartitionUrl::Sqlite { .. } | PartitionUrl::Memory => Arc::clone(&checked.engine),
    };
    let (expected, history) = (checked.expected.clone(), Arc::clone(&checked.history));
    Arc::new(Checked { engine, expected, history, losses: AtomicU64::default() })
}

fn random_id() -> Result<u128, getrandom::Error> {
    Ok(u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?))
}

/// A set of partitions that is as configured.
pub struct Opened {
    /// What founding says of it.
    pub set: OpenSet,
    /// What its partitions have of each other.
    pub history: Arc<History>,
    /// How its voters are reached, witnesses included.
    pub ways: Arc<Ways>,
    partitions: Vec<Open>,
}

struct Open {
    serving: Serving,
    url: Arc<str>,
    checked: Arc<Checked>,
    pool: Arc<Pool>,
    rounds: Arc<Pool>,
}

impl Opened {
    /// The data partitions, for lanes.
    pub fn served(&self) -> Vec<Served> {
        let one = |open: &Open| Served {
            serving: open.serving.clone(),
            url: Arc::clone(&open.url),
            part: Part::Voter,
            engine: open.checked.engine.kind(),
            is_local: open.checked.engine.is_local(),
            connect: Arc::clone(&open.checked) as Arc<dyn Connect>,
            pool: Arc::clone(&open.pool),
        };
        self.partitions.iter().map(one).collect()
    }

    /// The data partitions, for rounds.
    pub fn members(&self) -> Vec<Member> {
        let one = |open: &Open| Member {
            id: open.serving.id,
            name: Arc::clone(&open.serving.name),
            connect: Arc::clone(&open.rounds) as Arc<dyn Connect>,
        };
        self.partitions.iter().map(one).collect()
    }

    /// The data partitions, for the feed.
    pub fn sources(&self) -> Vec<FeedSource> {
        let one = |open: &Open| FeedSource {
            id: open.serving.id,
            name: Arc::clone(&open.serving.name),
            is_local: open.checked.engine.is_local(),
            is_voter: self.set.topology.voter(open.serving.id).is_some(),
            connect: Arc::clone(&open.checked) as Arc<dyn Connect>,
        };
        self.partitions.iter().map(one).collect()
    }

    /// The data partitions, for heartbeats.
    pub fn connects(&self) -> Vec<(Arc<str>, Arc<dyn Connect>)> {
        let one = |open: &Open| {
            let connect = Arc::clone(&open.checked) as Arc<dyn Connect>;
            (Arc::clone(&open.serving.name), connect)
        };
        self.partitions.iter().map(one).collect()
    }

    /// `store_1 (sqlite, master), ...`: for the log.
    pub fn describe(&self) -> String {
        let one = |open: &Open| {
            let role = self.set.topology.voter(open.serving.id).map(|voter| voter.role.to_string());
            let (name, engine) = (&open.serving.name, open.checked.engine.kind());
            format!("{name} ({engine}, {})", role.unwrap_or_default())
        };
        self.partitions.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// What there is of the configured databases, without touching any: the names of those that are not
/// there yet. Memory never is.
pub fn missing(config: &Config) -> Vec<&str> {
    let is_missing = |url: &PartitionUrl| match url {
        PartitionUrl::Sqlite { path } => !Path::new(path).exists(),
        PartitionUrl::Memory => true,
        // Known only by asking the server.
        PartitionUrl::Mysql(_) => false,
    };
    let missing = config.partitions.iter().filter(|(_, partition)| is_missing(&partition.url));
    missing.map(|(name, _)| name.as_str()).collect()
}
