//! From the configuration to partitions that may be used: engines by their URLs, and the set that
//! [`crate::founding`] finds in them.
//!
//! The voters are opened as the set's topology names them ([`crate::roster`]), whether the
//! configuration does or not. One that could not be asked is asked at its first connection.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::partition::PartitionUrl;
use crate::failover::service::Ways;
use crate::feed::FeedSource;
use crate::founding::history::History;
use crate::founding::restored::begin_restored;
use crate::founding::{Configured, Founding, FoundingError, OpenSet, Unreachable, open_set};
use crate::lane::Connect;
use crate::partition::PartitionError;
use crate::partition::mysql::ServerSettings;
use crate::roster::open::{Database, OpenVoter, Opener, OpenerParts, OpeningError, SmallPackets};
use crate::secret::Sealer;
use crate::store::Served;
use crate::store::answer::Serving;
use crate::sync::round::Member;
use crate::topology::{TopologyError, Voter};
use crate::version::SetId;

/// Why the partitions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not where a database can be.
    #[error("the url of partition `{name}` cannot be used")]
    Url {
        /// Which partition.
        name: String,
        /// Why.
        #[source]
        source: OpeningError,
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
            Self::Url { .. }
            | Self::PacketTooSmall { .. }
            | Self::Topology(_)
            | Self::Random(_) => false,
        }
    }

    /// Whether somebody has to change the configuration or the databases first.
    pub const fn is_misconfigured(&self) -> bool {
        match self {
            Self::Url { .. } | Self::PacketTooSmall { .. } | Self::Topology(_) => true,
            Self::Founding(error) => !error.may_pass(),
            Self::Random(_) => false,
        }
    }
}

/// The configured partitions, not yet connected to.
pub struct Engines {
    clock: Arc<dyn Clock>,
    databases: BTreeMap<String, Database>,
}

impl Engines {
    /// Those that the configuration names, in the order of their names.
    pub fn new(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, OpenError> {
        let mut databases = BTreeMap::new();
        for (name, partition) in &config.partitions {
            let database = Database::at(partition.url.clone(), clock);
            let database =
                database.map_err(|source| OpenError::Url { name: name.clone(), source })?;
            databases.insert(name.clone(), database);
        }
        Ok(Self { clock: Arc::clone(clock), databases })
    }

    /// What the servers among them say of themselves; those that cannot be asked are left out.
    /// Refuses one whose packets are too small for the configured values.
    pub fn servers(&self, config: &Config) -> Result<Vec<(&str, ServerSettings)>, OpenError> {
        let value = config.store.value_bytes_max;
        let mut told = Vec::new();
        for (name, database) in &self.databases {
            let Ok(Some(settings)) = database.settings() else { continue };
            if let Some(SmallPackets { packet, needed }) = SmallPackets::of(&settings, value) {
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
        let set = open_set(&self.configured(), &config.topology()?, founding, new_set)?;
        Ok(self.opened(config, set))
    }

    /// Begins a new set with what the partition `name` holds; the others are emptied, and marked as
    /// reseeding until they are made anew.
    pub fn begin_restored(&self, config: &Config, name: &str) -> Result<Opened, OpenError> {
        let topology = config.topology()?;
        let set = begin_restored(&self.configured(), &topology, name, SetId(random_id()?))?;
        Ok(self.opened(config, set))
    }

    fn configured(&self) -> Vec<Configured> {
        let one = |(name, database): (&String, &Database)| Configured {
            name: name.clone(),
            engine: Arc::clone(&database.engine),
        };
        self.databases.iter().map(one).collect()
    }

    /// Those of a set that hold data, as far as this front end knows where they are. An older copy
    /// of one is named like one that cannot be asked.
    fn opened(&self, config: &Config, mut set: OpenSet) -> Opened {
        let (history, ways) = (Arc::<History>::default(), Arc::<Ways>::default());
        let opener = Arc::new(Opener::new(
            set.set,
            OpenerParts {
                configured: self.databases.clone(),
                standby: config.scaling.standby.clone(),
                sealer: config.key.as_ref().map(|key| Sealer::new(&key.0)),
                root: config.store.root.clone(),
                clock: Arc::clone(&self.clock),
                history: Arc::clone(&history),
            },
        ));
        let made = Arc::clone(&opener);
        ways.made_by(move |voter| {
            made.way(voter).map_err(|error| PartitionError::Unreachable(error.into()))
        });
        set.unreachable.retain(|one| set.topology.voter_named(&one.name).is_some());
        let mut partitions = Vec::new();
        for voter in set.topology.voters().iter().filter(|voter| voter.role.holds_data()) {
            match opener.open(voter) {
                Ok(open) => partitions.push(open),
                Err(error) => {
                    let (name, error) = (voter.name.clone(), error.into());
                    let error = PartitionError::Unreachable(error);
                    set.unreachable.push(Unreachable { name, error });
                }
            }
        }
        // Twice: only then is known what the last of them have of the first.
        for judged in [false, true] {
            for open in &partitions {
                let connected = open.connect().connect();
                let refused = PartitionError::is_foreign;
                if let Some(error) = connected.err().filter(|error| judged && refused(error)) {
                    let name = open.serving().name.to_string();
                    set.unreachable.push(Unreachable { name, error });
                }
            }
        }
        Opened { set, history, ways, opener, partitions }
    }
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
    /// How its voters are opened.
    pub opener: Arc<Opener>,
    partitions: Vec<OpenVoter>,
}

impl Opened {
    /// The data partitions, for lanes.
    pub fn served(&self) -> Vec<Served> {
        self.partitions.iter().map(OpenVoter::served).collect()
    }

    /// The data partitions, for rounds.
    pub fn members(&self) -> Vec<Member> {
        self.partitions.iter().map(OpenVoter::member).collect()
    }

    /// The data partitions, for the feed.
    pub fn sources(&self) -> Vec<FeedSource> {
        self.partitions.iter().map(OpenVoter::source).collect()
    }

    /// The data partitions, for heartbeats.
    pub fn connects(&self) -> Vec<(Arc<str>, Arc<dyn Connect>)> {
        let one = |open: &OpenVoter| (Arc::clone(&open.serving().name), open.connect());
        self.partitions.iter().map(one).collect()
    }

    /// The data partitions, for the roster.
    pub fn voters(&self) -> Vec<Serving> {
        self.partitions.iter().map(|open| open.serving().clone()).collect()
    }

    /// Where the database of a voter is, without secrets, as far as that is known here.
    pub fn url(&self, voter: &Voter) -> String {
        self.opener.shown(voter)
    }

    /// `store_1 (sqlite, master), ...`: for the log.
    pub fn describe(&self) -> String {
        let one = |open: &OpenVoter| {
            let Serving { id, name } = open.serving();
            let role = self.set.topology.voter(*id).map(|voter| voter.role.to_string());
            format!("{name} ({}, {})", open.engine().kind(), role.unwrap_or_default())
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
