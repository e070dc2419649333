//! What an operator can set, typed and checked before anything is opened.
//!
//! Three layers, the later one winning key by key: the defaults of this module, a file, the
//! environment (`DATASTORE__SECTION__KEY`, for a partition `DATASTORE__PARTITION__NAME__KEY`). The
//! file is the one that `--config` names, which must exist, or `configuration.toml` in the working
//! directory where there is one. There is one exception to *key by key*: a configuration that names
//! any partition has no default ones, or an operator who lists two would run five.
//!
//! [`raw`] reads the layers and knows which keys there are; [`validate`] makes the values typed.
//! Both collect what is wrong instead of stopping at the first mistake, and say it in the
//! operator's words: key, place, value, limit and fix ([`error::Problem`]). A key that nobody knows
//! is an error, because a misspelt limit is a limit that is not there.
//!
//! This is also the only module that reads the environment.

pub mod error;
pub mod partition;
mod raw;
pub mod scaling;
pub mod schedule;
mod validate;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::error::ConfigError;
use self::partition::{PartitionConfig, PartitionUrl};
use self::scaling::{ChaosConfig, ScalingConfig, Secret};
use self::schedule::Schedule;
use crate::topology::{Role, Topology, TopologyError};

/// The file that is read from the working directory when no other one is named.
pub const FILE_NAME: &str = "configuration.toml";
/// More than every key of as many partitions as there may be, with a page on each.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[server]`.
    pub server: ServerConfig,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[partition.NAME]`, by name.
    pub partitions: BTreeMap<String, PartitionConfig>,
    /// `[sync]`.
    pub sync: SyncConfig,
    /// `[embedded_copy]`.
    pub embedded_copy: EmbeddedCopy,
    /// `[orchestrator]`.
    pub orchestrator: OrchestratorConfig,
    /// `[scaling]`.
    pub scaling: ScalingConfig,
    /// `[chaos]`.
    pub chaos: ChaosConfig,
    /// `orchestrator.key_file`: what passwords of added databases are sealed with.
    pub key: Option<Secret>,
}

/// `[server]`: how this front end talks to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names that requests may carry besides the loopback ones, in lower case.
    pub hosts: Vec<String>,
    /// How long a request may take.
    pub deadline: Duration,
    /// How many bytes of request bodies may be held at once, over all requests.
    pub body_budget_bytes: usize,
    /// How many may follow the changes at once.
    pub followers_max: usize,
    /// How often this front end tells the others that it runs.
    pub heartbeat: Duration,
    /// How long `/readyz` fails before the listener closes, so that a balancer notices first.
    pub drain_delay: Duration,
    /// How long requests in flight may go on after the listener has closed.
    pub shutdown_deadline: Duration,
}

/// `[store]`: limits of keys and values, and where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where relative paths start.
    pub root: PathBuf,
    /// The longest key.
    pub key_bytes_max: usize,
    /// The largest value.
    pub value_bytes_max: usize,
    /// How long a write waits for other partitions than its master to hold it.
    pub ack_timeout: Duration,
    /// Comes before the name of every database, so that test runs keep to their own.
    pub database_prefix: String,
}

/// `[sync]`: how changes travel between partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// When a round starts by itself.
    pub schedule: Schedule,
    /// Whether a write wakes a round.
    pub eager: bool,
    /// How long log entries are kept once every voter is past them.
    pub log_retention: Duration,
    /// How long entries of the ledger are kept; `None`: for ever.
    pub ledger_retention: Option<Duration>,
}

/// `[orchestrator]`: whether slots of a lost master are taken over without being told, how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// Whether this front end takes over, and tends the voters.
    pub enabled: bool,
    /// How often it looks.
    pub interval: Duration,
    /// How long a master may commit nothing before it is suspected.
    pub patience: Duration,
    /// How long after a takeover the next one waits.
    pub cooldown: Duration,
}

/// `[embedded_copy]`: the read copy inside this front end, by its engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmbeddedCopy {
    /// There is none.
    #[default]
    None,
    /// In this process's memory: seeded at every start.
    Memory,
    /// In a file under the data root: warm after a restart.
    Sqlite,
}

impl EmbeddedCopy {
    /// Its name in answers, reports and logs: no partition can have it.
    pub const NAME: &str = "embedded_copy";

    /// The engine of this name.
    fn named(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "memory" => Some(Self::Memory),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let partitions = (1..=3)
            .map(|n| {
                let path = PathBuf::from(format!("data/store_{n}.db"));
                let url = PartitionUrl::Sqlite { path };
                (format!("store_{n}"), PartitionConfig { url, role: Role::Master })
            })
            .collect();
        Self {
            server: ServerConfig::default(),
            store: StoreConfig::default(),
            partitions,
            sync: SyncConfig::default(),
            embedded_copy: EmbeddedCopy::default(),
            orchestrator: OrchestratorConfig::default(),
            scaling: ScalingConfig::default(),
            chaos: ChaosConfig::default(),
            key: None,
        }
    }
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(1),
            patience: Duration::from_secs(3),
            cooldown: Duration::from_secs(30),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            hosts: Vec::new(),
            deadline: Duration::from_secs(5),
            body_budget_bytes: 256 * 1024 * 1024,
            followers_max: 16_384,
            heartbeat: Duration::from_secs(5),
            drain_delay: Duration::ZERO,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("."),
            key_bytes_max: 255,
            value_bytes_max: 8 * 1024 * 1024,
            ack_timeout: Duration::from_secs(1),
            database_prefix: String::new(),
        }
    }
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::every_five_seconds(),
            eager: true,
            log_retention: Duration::from_secs(60 * 60),
            ledger_retention: Some(Duration::from_secs(30 * 24 * 60 * 60)),
        }
    }
}

/// What `RUST_LOG` asks to be shown in the log, if it is set.
pub fn log_filter() -> Option<String> {
    let value = std::env::var_os("RUST_LOG")?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

impl Config {
    /// Reads and checks the three layers. `file`: the one that the operator named, if any.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, required) = match file {
            Some(path) => (path, true),
            None => (Path::new(FILE_NAME), false),
        };
        let text = match read_bounded(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => None,
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        let environment = raw::environment(std::env::vars_os())?;
        Self::from_layers(text.as_deref().map(|text| (path, text)), &environment)
    }

    /// Checks a file's text and the variables that begin with `DATASTORE__`.
    fn from_layers(
        file: Option<(&Path, &str)>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let layered = raw::read(file, environment)?;
        validate::config(layered).map_err(ConfigError::Wrong)
    }

    /// The file of the embedded copy, where it lives in one.
    pub fn embedded_copy_path(&self) -> PathBuf {
        let name = format!("{}{}.db", self.store.database_prefix, EmbeddedCopy::NAME);
        self.store.root.join("data").join(name)
    }

    /// The topology that this configuration founds.
    pub fn topology(&self) -> Result<Topology, TopologyError> {
        Topology::found(
            &self.partitions.iter().map(|(name, config)| (name.clone(), config.role)).collect(),
        )
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it has more than {FILE_BYTES_MAX} bytes: no configuration is so long");
        return Err(io::Error::other(what));
    }
    Ok(text)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
