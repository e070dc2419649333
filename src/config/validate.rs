//! From text to types: every limit and every check that spans keys.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::error::{Place, Problem, ProblemKind, Problems};
use super::partition::{NAME_BYTES_MAX, PartitionConfig, PartitionUrl, UrlError, redacted};
use super::raw::{
    Layered, RawEmbeddedCopy, RawOrchestrator, RawPartition, RawScaling, RawServer, RawStore,
    RawSync,
};
use super::scaling::{ChaosConfig, Provision, ScalingConfig, Secret};
use super::{Config, EmbeddedCopy, OrchestratorConfig, ServerConfig, StoreConfig, SyncConfig};
use crate::duration;
use crate::partition::mysql::MysqlUrl;
use crate::record::KEY_BYTES_WIDTH;
use crate::topology::Role;

/// Half a GiB: SQLite holds no row of 1,000,000,000 bytes, and a value is in memory several times.
const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bodies in flight may fill a large machine's memory, no more.
const BODY_BUDGET_BYTES_MAX: usize = 64 * 1024 * 1024 * 1024;
/// Shorter than one fsync of a slow disk: nothing would ever be answered.
const DEADLINE_MIN: Duration = Duration::from_millis(10);
/// Longer than any client, proxy or balancer waits.
const DEADLINE_MAX: Duration = Duration::from_secs(10 * 60);
/// A beat is a write in every partition, so not too often; whoever stops is missed after three.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// A day: who wants longer wants no takeovers.
const COOLDOWN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// More than any process has file descriptors for.
const FOLLOWERS_MAX: usize = 1_000_000;
/// A log of a year is a mistake in the unit.
const LOG_RETENTION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const LEDGER_RETENTION_MAX: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);
/// As many as there may be in all.
const COPIES_MAX: usize = 64;
/// Shorter, and a few reads more or less would count for much; longer, and nothing would follow
/// them.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than any password, and than what else stands in its file by mistake.
const PASSWORD_FILE_BYTES_MAX: u64 = 64 * 1024;
/// How much of a value a complaint repeats.
const SHOWN_CHARS_MAX: usize = 100;
/// As long as a partition's name.
const PREFIX_BYTES_MAX: usize = NAME_BYTES_MAX;

/// Checks everything; what is wrong is told all at once.
pub(super) fn config(layered: Layered) -> Result<Config, Problems> {
    let mut check = Check { places: layered.places, problems: layered.problems };
    let raw = layered.raw;
    let store = check.store(&raw.store);
    let server = check.server(&raw.server, &store);
    let sync = check.sync(&raw.sync);
    let partitions = if raw.partition.is_empty() {
        check.default_partitions(&store)
    } else {
        check.partitions(&raw.partition, &store)
    };
    let embedded_copy = check.embedded_copy(&raw.embedded_copy, &partitions);
    let orchestrator = check.orchestrator(&raw.orchestrator);
    let key = check.key(&raw.orchestrator, &store);
    let scaling = check.scaling(&raw.scaling, &store);
    let chaos = ChaosConfig {
        enabled: check.flag("chaos.enabled", &raw.chaos.enabled, ChaosConfig::default().enabled),
    };
    let config = Config {
        server,
        store,
        partitions,
        sync,
        embedded_copy,
        orchestrator,
        key,
        scaling,
        chaos,
    };
    check.own_file(&config);
    // With a partition left out for another mistake, complaints about the set would only confuse.
    if check.problems.is_empty()
        && let Err(error) = config.topology()
    {
        check.problem("partition", ProblemKind::Topology(error));
    }
    if check.problems.is_empty() { Ok(config) } else { Err(Problems(check.problems)) }
}

/// The first line of a file that others cannot read.
fn read_password(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o004 != 0 {
        return Err(io::Error::other("everybody may read it (chmod o-r)"));
    }
    let mut text = String::new();
    file.take(PASSWORD_FILE_BYTES_MAX).read_to_string(&mut text)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(password.to_owned()) }
}

struct Check {
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Check {
    fn server(&mut self, raw: &RawServer, store: &StoreConfig) -> ServerConfig {
        let default = ServerConfig::default();
        let deadlines = DEADLINE_MIN..=DEADLINE_MAX;
        let deadline =
            self.duration("server.deadline", &raw.deadline, default.deadline, deadlines.clone());
        let shutdown_deadline = self.duration(
            "server.shutdown_deadline",
            &raw.shutdown_deadline,
            default.shutdown_deadline.max(deadline),
            deadlines,
        );
        if shutdown_deadline < deadline {
            let why = format!("is shorter than server.deadline ({})", duration::format(deadline));
            let fix = "a shutdown would cut requests that are still in time; raise it";
            let value = duration::format(shutdown_deadline);
            self.value("server.shutdown_deadline", value, why, fix);
        }
        let body_budget_bytes = self.number(
            "server.body_budget_bytes",
            &raw.body_budget_bytes,
            default.body_budget_bytes.max(store.value_bytes_max),
            1..=BODY_BUDGET_BYTES_MAX,
        );
        if body_budget_bytes < store.value_bytes_max {
            let why = format!("is less than store.value_bytes_max ({})", store.value_bytes_max);
            let fix = "a value of that size could never be stored; raise it";
            self.value("server.body_budget_bytes", body_budget_bytes, why, fix);
        }
        ServerConfig {
            listen: self.listen(&raw.listen, default.listen),
            hosts: self.hosts(raw),
            deadline,
            body_budget_bytes,
            followers_max: self.number(
                "server.followers_max",
                &raw.followers_max,
                default.followers_max,
                1..=FOLLOWERS_MAX,
            ),
            heartbeat: self.duration(
                "server.heartbeat",
                &raw.heartbeat,
                default.heartbeat,
                HEARTBEAT_MIN..=HEARTBEAT_MAX,
            ),
            drain_delay: self.duration(
                "server.drain_delay",
                &raw.drain_delay,
                default.drain_delay,
                Duration::ZERO..=DEADLINE_MAX,
            ),
            shutdown_deadline,
        }
    }

    fn listen(&mut self, text: &Option<String>, default: SocketAddr) -> SocketAddr {
        let why = "is not an address with a port";
        let fix = "write for example 127.0.0.1:8080 or [::1]:8080, not a name";
        self.parsed("server.listen", text, default, |text| text.parse().ok(), why, fix)
    }

    fn hosts(&mut self, raw: &RawServer) -> Vec<String> {
        let items = raw.hosts.as_ref().map(super::raw::RawList::items).unwrap_or_default();
        let mut hosts = Vec::new();
        for item in items {
            let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            let address = item.trim_start_matches('[').trim_end_matches(']');
            if address.parse::<std::net::Ipv6Addr>().is_ok() {
                hosts.push(format!("[{}]", address.to_lowercase()));
            } else if !item.is_empty() && item.len() <= 253 && item.chars().all(name) {
                hosts.push(item.to_lowercase());
            } else {
                let fix = "write the name or address as clients do, without scheme, port or path";
                self.value("server.hosts", item, "is not a host name".to_owned(), fix);
            }
        }
        hosts
    }

    fn store(&mut self, raw: &RawStore) -> StoreConfig {
        let default = StoreConfig::default();
        let root = raw.root.as_ref().map_or(default.root, PathBuf::from);
        if root.as_os_str().is_empty() {
            let fix = "write . for the working directory";
            self.value("store.root", "", "is no path".to_owned(), fix);
        }
        let prefix = |text: &str| {
            let good = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
            (text.len() <= PREFIX_BYTES_MAX && text.chars().all(good)).then(|| text.to_owned())
        };
        StoreConfig {
            root,
            key_bytes_max: self.number(
                "store.key_bytes_max",
                &raw.key_bytes_max,
                default.key_bytes_max,
                1..=KEY_BYTES_WIDTH,
            ),
            value_bytes_max: self.number(
                "store.value_bytes_max",
                &raw.value_bytes_max,
                default.value_bytes_max,
                1..=VALUE_BYTES_MAX,
            ),
            ack_timeout: self.duration(
                "store.ack_timeout",
                &raw.ack_timeout,
                default.ack_timeout,
                DEADLINE_MIN..=DEADLINE_MAX,
            ),
            database_prefix: self.parsed(
                "store.database_prefix",
                &raw.database_prefix,
                default.database_prefix,
                prefix,
                "is more than 32 bytes, or has others than a-z, 0-9 and _",
                "write for example test_",
            ),
        }
    }

    fn sync(&mut self, raw: &RawSync) -> SyncConfig {
        let default = SyncConfig::default();
        let schedule = match raw.schedule.as_deref().map(FromStr::from_str) {
            None => default.schedule,
            Some(Ok(schedule)) => schedule,
            Some(Err(error)) => {
                let value = raw.schedule.as_deref().unwrap_or_default();
                let error: super::schedule::ScheduleError = error;
                let fix = "write second minute hour day month weekday, for example */5 * * * * *";
                self.value("sync.schedule", value, error.to_string(), fix);
                default.schedule
            }
        };
        SyncConfig {
            schedule,
            eager: self.flag("sync.eager", &raw.eager, default.eager),
            log_retention: self.duration(
                "sync.log_retention",
                &raw.log_retention,
                default.log_retention,
                Duration::ZERO..=LOG_RETENTION_MAX,
            ),
            ledger_retention: Some(self.duration(
                "sync.ledger_retention",
                &raw.ledger_retention,
                default.ledger_retention.unwrap_or_default(),
                Duration::ZERO..=LEDGER_RETENTION_MAX,
            ))
            .filter(|retention| !retention.is_zero()),
        }
    }

    fn embedded_copy(
        &mut self,
        raw: &RawEmbeddedCopy,
        partitions: &BTreeMap<String, PartitionConfig>,
    ) -> EmbeddedCopy {
        let (key, fix) = ("embedded_copy.engine", "write none, memory or sqlite");
        let default = EmbeddedCopy::default();
        let engine =
            self.parsed(key, &raw.engine, default, EmbeddedCopy::named, "is no engine of it", fix);
        if engine != EmbeddedCopy::None && partitions.contains_key(EmbeddedCopy::NAME) {
            let value = raw.engine.as_deref().unwrap_or_default();
            let why = format!("is not possible: a partition is named {}", EmbeddedCopy::NAME);
            self.value(key, value, why, "give the partition another name, or write none");
        }
        engine
    }

    fn orchestrator(&mut self, raw: &RawOrchestrator) -> OrchestratorConfig {
        let default = OrchestratorConfig::default();
        OrchestratorConfig {
            enabled: self.flag("orchestrator.enabled", &raw.enabled, default.enabled),
            interval: self.duration(
                "orchestrator.interval",
                &raw.interval,
                default.interval,
                HEARTBEAT_MIN..=HEARTBEAT_MAX,
            ),
            patience: self.duration(
                "orchestrator.patience",
                &raw.patience,
                default.patience,
                HEARTBEAT_MIN..=DEADLINE_MAX,
            ),
            cooldown: self.duration(
                "orchestrator.cooldown",
                &raw.cooldown,
                default.cooldown,
                Duration::ZERO..=COOLDOWN_MAX,
            ),
        }
    }

    /// The embedded copy's file is no partition's: it is thrown away when it does not fit.
    fn own_file(&mut self, config: &Config) {
        let url = PartitionUrl::Sqlite { path: config.embedded_copy_path() };
        let has_it = |(_, partition): &(&String, &PartitionConfig)| partition.url == url;
        if config.embedded_copy == EmbeddedCopy::Sqlite
            && let Some((other, _)) = config.partitions.iter().find(has_it)
        {
            let (value, other) = (url.to_string(), other.clone());
            self.problem("embedded_copy.engine", ProblemKind::SameDatabase { value, other });
        }
    }

    /// The default partitions, under the root and with the prefix that were set.
    fn default_partitions(&mut self, store: &StoreConfig) -> BTreeMap<String, PartitionConfig> {
        let raw = Config::default()
            .partitions
            .into_iter()
            .map(|(name, partition)| {
                let url = Some(partition.url.to_string());
                let role = Some(partition.role.to_string());
                (name, RawPartition { url, password_file: None, role })
            })
            .collect();
        self.partitions(&raw, store)
    }

    fn partitions(
        &mut self,
        raw: &BTreeMap<String, RawPartition>,
        store: &StoreConfig,
    ) -> BTreeMap<String, PartitionConfig> {
        let mut partitions: BTreeMap<String, PartitionConfig> = BTreeMap::new();
        for (name, raw) in raw {
            let role = self.role(&format!("partition.{name}.role"), &raw.role);
            let key = format!("partition.{name}.url");
            let Some(url) = self.url(name, raw, store) else { continue };
            let other = partitions
                .iter()
                .find(|(_, other)| other.url == url && url != PartitionUrl::Memory);
            if let Some((other, _)) = other {
                let (value, other) = (url.to_string(), other.clone());
                self.problem(&key, ProblemKind::SameDatabase { value, other });
                continue;
            }
            partitions.insert(name.clone(), PartitionConfig { url, role });
        }
        partitions
    }

    fn role(&mut self, key: &str, text: &Option<String>) -> Role {
        let role = |text: &str| match text {
            "master" => Some(Role::Master),
            "replica" => Some(Role::Replica),
            "witness" => Some(Role::Witness),
            _ => None,
        };
        let why = "is no role";
        self.parsed(key, text, Role::Master, role, why, "write master, replica or witness")
    }

    fn url(&mut self, name: &str, raw: &RawPartition, store: &StoreConfig) -> Option<PartitionUrl> {
        let key = format!("partition.{name}.url");
        let Some(text) = &raw.url else {
            // At the partition's own place: the key itself has none.
            let at = format!("partition.{name}");
            let place = self.places.get(&at).cloned().unwrap_or(Place::Default);
            self.problems.push(Problem { key, place, kind: ProblemKind::NoUrl });
            return None;
        };
        match PartitionUrl::parse(text, &store.root, &store.database_prefix) {
            Ok(url) => self.with_password(name, url, raw, store),
            Err(error) => {
                let fix = match error {
                    UrlError::LeavesRoot => {
                        "write a path under store.root, or an absolute one, without .."
                    }
                    UrlError::Mysql(_) => {
                        "write mysql://user@host:3306/database, and the password in a \
                         password_file"
                    }
                    UrlError::EngineUnknown | UrlError::NoFile | UrlError::NotAFile => {
                        "write mysql://user@host:3306/database, sqlite:PATH, for example \
                         sqlite:data/a.db, or memory:"
                    }
                };
                self.value(&key, text, error.to_string(), fix);
                None
            }
        }
    }

    /// The password from its file: one line, not readable by everybody.
    fn with_password(
        &mut self,
        name: &str,
        url: PartitionUrl,
        raw: &RawPartition,
        store: &StoreConfig,
    ) -> Option<PartitionUrl> {
        let file = raw.password_file.as_ref().filter(|file| !file.is_empty());
        let Some(file) = file else { return Some(url) };
        let key = format!("partition.{name}.password_file");
        let PartitionUrl::Mysql(server) = url else {
            let why = "is of use for a mysql: url only".to_owned();
            self.value(&key, file, why, "leave it out");
            return None;
        };
        if server.has_password() {
            let why = "is a second password: the url has one".to_owned();
            self.value(&key, file, why, "keep one of the two");
            return None;
        }
        let path = store.root.join(file);
        match read_password(&path) {
            Ok(password) => Some(PartitionUrl::Mysql(server.with_password(password))),
            Err(error) => {
                let fix =
                    "name a file that holds the password alone and that its owner alone reads";
                self.value(&key, path.display(), format!("cannot be used: {error}"), fix);
                None
            }
        }
    }

    fn key(&mut self, raw: &RawOrchestrator, store: &StoreConfig) -> Option<Secret> {
        let file = raw.key_file.as_ref().filter(|file| !file.is_empty());
        let path = store.root.join(file?);
        match read_password(&path) {
            Ok(key) => Some(Secret(key)),
            Err(error) => {
                let fix =
                    "name a file that holds a line of random text, that its owner alone reads";
                let why = format!("cannot be used: {error}");
                self.value("orchestrator.key_file", path.display(), why, fix);
                None
            }
        }
    }

    fn scaling(&mut self, raw: &RawScaling, store: &StoreConfig) -> ScalingConfig {
        let default = ScalingConfig::default();
        let max = self.number("scaling.max", &raw.max, default.max, 0..=COPIES_MAX);
        let min = self.number("scaling.min", &raw.min, default.min.min(max), 0..=COPIES_MAX);
        if min > max {
            let why = format!("is greater than scaling.max ({max})");
            self.value("scaling.min", min, why, "lower it, or raise scaling.max");
        }
        let reads = 1..=1_000_000_000;
        let reads_per_copy = self.number(
            "scaling.reads_per_copy",
            &raw.reads_per_copy,
            default.reads_per_copy,
            reads,
        );
        let windows = WINDOW_MIN..=WINDOW_MAX;
        let cooldowns = Duration::ZERO..=WINDOW_MAX;
        let fix = "write sqlite, mariadb or standby";
        ScalingConfig {
            enabled: self.flag("scaling.enabled", &raw.enabled, default.enabled),
            dry_run: self.flag("scaling.dry_run", &raw.dry_run, default.dry_run),
            min,
            max,
            reads_per_copy,
            window: self.duration("scaling.window", &raw.window, default.window, windows),
            cooldown: self.duration("scaling.cooldown", &raw.cooldown, default.cooldown, cooldowns),
            hysteresis_percent: self.number(
                "scaling.hysteresis_percent",
                &raw.hysteresis_percent,
                default.hysteresis_percent,
                0..=100,
            ),
            provisioner: self.parsed(
                "scaling.provisioner",
                &raw.provisioner,
                default.provisioner,
                Provision::named,
                "is no provisioner",
                fix,
            ),
            standby: self.standby(raw, store),
        }
    }

    fn standby(&mut self, raw: &RawScaling, store: &StoreConfig) -> Vec<MysqlUrl> {
        let items = raw.standby.as_ref().map(super::raw::RawList::items).unwrap_or_default();
        let mut urls: Vec<MysqlUrl> = Vec::new();
        for item in items {
            match PartitionUrl::parse(item, &store.root, &store.database_prefix) {
                Ok(PartitionUrl::Mysql(url)) => urls.push(url),
                Ok(PartitionUrl::Sqlite { .. } | PartitionUrl::Memory) | Err(_) => {
                    let why = "is no url of a database on a server".to_owned();
                    let fix = "write mysql://user:password@host:3306/database";
                    self.value("scaling.standby", item, why, fix);
                }
            }
        }
        urls
    }

    fn flag(&mut self, key: &str, text: &Option<String>, default: bool) -> bool {
        let (why, fix) = ("is neither true nor false", "write true or false");
        self.parsed(key, text, default, |text| text.parse().ok(), why, fix)
    }

    fn duration(
        &mut self,
        key: &str,
        text: &Option<String>,
        default: Duration,
        limits: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(text) = text else { return default };
        let fix = format!("write for example {}", duration::format(default));
        match duration::parse(text) {
            Ok(value) if limits.contains(&value) => return value,
            Ok(_) => {
                let [min, max] =
                    [limits.start(), limits.end()].map(|limit| duration::format(*limit));
                self.value(key, text, format!("is not within {min} to {max}"), fix);
            }
            Err(error) => self.value(key, text, format!("is no duration ({error})"), fix),
        }
        default
    }

    fn number(
        &mut self,
        key: &str,
        text: &Option<String>,
        default: usize,
        limits: RangeInclusive<usize>,
    ) -> usize {
        let why = format!("is not a whole number from {} to {}", limits.start(), limits.end());
        let fix = format!("write for example {default}");
        let number = |text: &str| text.parse().ok().filter(|number| limits.contains(number));
        self.parsed(key, text, default, number, &why, &fix)
    }

    /// A value by `parse`; where it says `None`, the default, and a problem is noted.
    fn parsed<T>(
        &mut self,
        key: &str,
        text: &Option<String>,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
        why: &str,
        fix: &str,
    ) -> T {
        let Some(text) = text else { return default };
        parse(text).unwrap_or_else(|| {
            self.value(key, text, why.to_owned(), fix);
            default
        })
    }

    fn value(&mut self, key: &str, value: impl Display, why: String, fix: impl Into<String>) {
        // An address may have come under the wrong key.
        let value = redacted(&value.to_string());
        let value = match value.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}...", &value[..end]),
            None => value,
        };
        let kind = ProblemKind::Value { value, why, fix: fix.into() };
        self.problem(key, kind);
    }

    fn problem(&mut self, key: &str, kind: ProblemKind) {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        self.problems.push(Problem { key: key.to_owned(), place, kind });
    }
}
