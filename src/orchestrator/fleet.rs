//! One front end's read copies: opened, fed and kept as the records say.
//!
//! Every front end reads the records again and again ([`Fleet::look`]) and does what they ask of
//! it; nothing is remembered that a restart could lose. What takes long (a server that starts,
//! reads that are answered before a copy goes) runs beside, and is looked for at the next look.
//!
//! | record | whoever keeps the copy | the others that can reach it |
//! |---|---|---|
//! | joining | provides, opens, feeds; writes `active` once it was seeded | nothing |
//! | active | the same, and again where the server ended | open it for reading; make nothing |
//! | draining | closes, waits until nobody reads from it, takes the database away, removes the record | close it |

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn, spawn_blocking};

use super::copies::CopyRecord;
use super::kept::{self, Kept, KeptError, Standing};
use super::opened::{OpenCopy, OpenCopyParts};
use super::provisioner::{Provided, ProvisionError, Provisioners, remove_database};
use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::frontends::{Frontends, INTERVALS_MAX};
use crate::jobs::SyncJob;
use crate::lane::disposable::Discard;
use crate::partition::PartitionError;
use crate::partition::engine::Engine;
use crate::partition::mysql::Mysql;
use crate::partition::sqlite::Sqlite;
use crate::store::Store;
use crate::store::route::Part;
use crate::sync::round::chain;
use crate::topology::State;
use crate::version::PartitionId;

/// How long it takes at most until what failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long reads that were asked of a copy are waited for before it goes: above the deadline of
/// any request but the most patient.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What a fleet works with.
#[derive(Clone)]
pub struct FleetParts {
    /// What it serves.
    pub store: Arc<Store>,
    /// What feeds the copies.
    pub sync: Arc<SyncJob>,
    /// Who else runs.
    pub frontends: Arc<Frontends>,
    /// Where databases come from.
    pub provisioners: Arc<Provisioners>,
    /// Rung when something that runs beside has ended.
    pub woken: Arc<Notify>,
}

/// The copies that this front end has to do with.
pub struct Fleet {
    parts: FleetParts,
    entries: BTreeMap<String, Entry>,
}

/// What runs beside.
enum Beside {
    Provide(JoinHandle<Result<Provided, ProvisionError>>),
    Withdraw(JoinHandle<Result<(), ProvisionError>>),
    Close(JoinHandle<()>),
}

struct Entry {
    record: Kept<CopyRecord>,
    open: Option<Open>,
    beside: Option<Beside>,
    retry_at: Duration,
}

/// What this front end has open of it.
struct Open {
    id: PartitionId,
    provided: Provided,
    /// Whether this front end copies to it.
    feeds: bool,
}

impl Fleet {
    /// Nothing is open yet.
    pub const fn new(parts: FleetParts) -> Self {
        Self { parts, entries: BTreeMap::new() }
    }

    /// Whether this front end has to do with none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Does what these records ask of this front end.
    pub async fn look(&mut self, records: Vec<Kept<CopyRecord>>) {
        let home = self.parts.provisioners.home();
        let names: BTreeSet<String> =
            records.iter().map(|kept| kept.value.copy.name.clone()).collect();
        for kept in records {
            if !kept.value.is_within_reach(home.as_deref()) {
                continue;
            }
            let name = kept.value.copy.name.clone();
            let entry = self.entries.entry(name).or_insert_with(|| Entry {
                record: kept.clone(),
                open: None,
                beside: None,
                retry_at: Duration::ZERO,
            });
            entry.record = kept;
            entry.look(&self.parts).await;
        }
        for (_, entry) in self.entries.iter_mut().filter(|(name, _)| !names.contains(*name)) {
            // What came of it does not matter any more.
            entry.beside.take_if(|beside| beside.is_finished());
            entry.close(&self.parts);
        }
        self.entries.retain(|name, entry| {
            names.contains(name) || entry.open.is_some() || entry.beside.is_some()
        });
    }

    /// This front end ends: no server of its own stays behind.
    pub async fn release(&mut self) {
        let own = self.parts.frontends.id();
        for (_, entry) in std::mem::take(&mut self.entries) {
            if let Some(beside) = entry.beside {
                beside.end().await;
            }
            let record = entry.record.value;
            if record.keeper != own {
                continue;
            }
            let provisioners = Arc::clone(&self.parts.provisioners);
            let name = record.copy.name.clone();
            let released =
                spawn_blocking(move || provisioners.of(&record.copy.source).release(&record));
            if let Ok(Err(error)) = released.await {
                tracing::warn!(partition = %name, error = chain(&error), "left running");
            }
        }
    }
}

impl Beside {
    fn is_finished(&self) -> bool {
        match self {
            Self::Provide(task) => task.is_finished(),
            Self::Withdraw(task) => task.is_finished(),
            Self::Close(task) => task.is_finished(),
        }
    }

    async fn end(self) {
        match self {
            Self::Provide(task) => drop(task.await),
            Self::Withdraw(task) => drop(task.await),
            Self::Close(task) => drop(task.await),
        }
    }
}

impl Entry {
    async fn look(&mut self, parts: &FleetParts) {
        let is_busy = self.beside.as_ref().is_some_and(|beside| !beside.is_finished());
        if is_busy {
            return;
        }
        if let Some(beside) = self.beside.take() {
            self.take_in(beside, parts).await;
        }
        let keeps = self.record.value.keeper == parts.frontends.id();
        match (self.record.value.state, keeps) {
            (State::Joining | State::Active, true) => self.keep(parts).await,
            (State::Active, false) => self.follow(parts),
            (State::Draining, true) => self.withdraw(parts).await,
            (State::Joining | State::Draining | State::Down, _)
            | (State::Quarantined | State::Retired, _) => self.close(parts),
        }
    }

    /// What ran beside has ended.
    async fn take_in(&mut self, beside: Beside, parts: &FleetParts) {
        match beside {
            Beside::Provide(task) => match task.await {
                Ok(Ok(provided)) => self.provided(provided, parts).await,
                Ok(Err(error)) => self.failed(&error, parts).await,
                Err(_) => {}
            },
            Beside::Withdraw(task) => match task.await {
                Ok(Ok(())) => self.gone(parts).await,
                Ok(Err(error)) => self.failed(&error, parts).await,
                Err(_) => {}
            },
            Beside::Close(task) => drop(task.await),
        }
    }

    /// Provides the database, opens and feeds it, and says so once it can be read.
    async fn keep(&mut self, parts: &FleetParts) {
        if self.beside.is_some() {
            return;
        }
        let record = &self.record.value;
        let is_up = parts.provisioners.of(&record.copy.source).is_up(record);
        let is_open = self.open.as_ref().is_some_and(|open| open.feeds);
        if is_open && is_up {
            if record.state == State::Joining && parts.store.is_seeded(record.copy.id) {
                let now = parts.store.clock().wall_ms();
                let active = record.clone().become_at(State::Active, now);
                tracing::info!(partition = %record.copy.name, "the read copy is active");
                self.write(active, parts).await;
            }
            return;
        }
        if parts.store.clock().monotonic() < self.retry_at {
            return;
        }
        let (provisioners, record) = (Arc::clone(&parts.provisioners), record.clone());
        let woken = Arc::clone(&parts.woken);
        self.beside = Some(Beside::Provide(spawn_blocking(move || {
            let provided = provisioners.of(&record.copy.source).provide(&record);
            woken.notify_one();
            provided
        })));
    }

    /// Reads from what somebody else keeps, where and as long as that is there.
    fn follow(&mut self, parts: &FleetParts) {
        let record = &self.record.value;
        match parts.provisioners.of(&record.copy.source).locate(record) {
            Ok(Some(provided)) => self.open(provided, false, parts),
            // Away for a moment: reads go elsewhere by themselves.
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(partition = %record.copy.name, %error, "cannot be read here");
            }
        }
    }

    async fn provided(&mut self, provided: Provided, parts: &FleetParts) {
        self.retry_at = Duration::ZERO;
        self.open(provided.clone(), true, parts);
        let url = Some(provided.url.to_string());
        let record = &self.record.value;
        let told = (&record.url, record.pid, record.failures, record.trouble.as_deref());
        if told != (&url, provided.pid, 0, None) {
            let (pid, failures, trouble) = (provided.pid, 0, None);
            self.write(CopyRecord { url, pid, failures, trouble, ..record.clone() }, parts).await;
        }
    }

    async fn failed(&mut self, error: &ProvisionError, parts: &FleetParts) {
        let record = &self.record.value;
        let failures = record.failures.saturating_add(1);
        let wait = Duration::from_secs(1 << failures.min(5));
        self.retry_at = parts.store.clock().monotonic() + wait.min(RETRY_MAX);
        tracing::warn!(partition = %record.copy.name, failures, error = chain(error), "read copy");
        let trouble = Some(error.to_string());
        self.write(CopyRecord { failures, trouble, ..record.clone() }, parts).await;
    }

    /// Serves the copy from here on, as it was provided.
    fn open(&mut self, provided: Provided, feeds: bool, parts: &FleetParts) {
        if let Some(open) = &mut self.open {
            if open.provided.url == provided.url && open.feeds == feeds {
                open.provided = provided;
                return;
            }
            self.close(parts);
            return;
        }
        let record = &self.record.value;
        let opened = open_copy(record, &provided.url, feeds, &parts.store).and_then(|copy| {
            parts.store.add(copy.served())?;
            if feeds { parts.sync.add(&copy.member()) } else { Ok(()) }
        });
        match opened {
            Ok(()) => self.open = Some(Open { id: record.copy.id, provided, feeds }),
            Err(error) => {
                tracing::warn!(partition = %record.copy.name, %error, "cannot be opened");
            }
        }
    }

    /// Serves the copy no longer: beside, since what was asked of it is answered first.
    fn close(&mut self, parts: &FleetParts) {
        let Some(open) = self.open.take() else { return };
        let leaving = parts.store.remove(open.id);
        let (sync, woken) = (Arc::clone(&parts.sync), Arc::clone(&parts.woken));
        let close = async move {
            let removed = spawn_blocking(move || {
                if open.feeds {
                    sync.remove(open.id);
                }
            });
            drop(removed.await);
            if let Some(leaving) = leaving {
                leaving.drain(DRAIN_MAX).await;
            }
            woken.notify_one();
        };
        self.beside = Some(Beside::Close(spawn(close)));
    }

    /// Takes the copy away, once nobody reads from it.
    async fn withdraw(&mut self, parts: &FleetParts) {
        if self.open.is_some() {
            return self.close(parts);
        }
        let now = parts.store.clock().monotonic();
        if self.beside.is_some() || now < self.retry_at || self.is_read_elsewhere(parts).await {
            return;
        }
        let (provisioners, record) = (Arc::clone(&parts.provisioners), self.record.value.clone());
        let woken = Arc::clone(&parts.woken);
        self.beside = Some(Beside::Withdraw(spawn_blocking(move || {
            let withdrawn = provisioners.of(&record.copy.source).withdraw(&record);
            woken.notify_one();
            withdrawn
        })));
    }

    /// Whether another front end said lately that it serves the copy. One that does not see the
    /// record cannot hold it for ever.
    async fn is_read_elsewhere(&self, parts: &FleetParts) -> bool {
        let record = &self.record.value;
        let since = parts.store.clock().wall_ms().saturating_sub(record.since_ms);
        let patience = i64::try_from(parts.frontends.interval().as_millis()).unwrap_or(i64::MAX);
        if since > patience.saturating_mul(INTERVALS_MAX) {
            return false;
        }
        let running = parts.frontends.running().await;
        let mut others = running.iter().filter(|one| !one.is_self);
        others.any(|one| one.about.serves.iter().any(|at| at.partition == record.copy.name))
    }

    /// Nothing is left of the copy.
    async fn gone(&self, parts: &FleetParts) {
        let name = &self.record.value.copy.name;
        match kept::remove(&parts.store, &self.record.name).await {
            Ok(()) => tracing::info!(partition = %name, "the read copy is gone"),
            Err(error) => tracing::warn!(partition = %name, %error, "its record stays"),
        }
    }

    /// Writes the record, if it is still as it was read.
    async fn write(&mut self, record: CopyRecord, parts: &FleetParts) {
        let standing = Standing::Version(self.record.version);
        let written: Result<_, KeptError> =
            kept::write(&parts.store, &self.record.name, &record, standing, None).await;
        match written {
            Ok(Some(version)) => {
                self.record.version = version;
                self.record.value = record;
            }
            // Somebody else has changed it: judged anew at the next look.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(partition = %record.copy.name, %error, "its record stays as it was");
            }
        }
    }
}

/// The copy in the database at `url`; whether this front end keeps it.
fn open_copy(
    record: &CopyRecord,
    url: &PartitionUrl,
    keeps: bool,
    store: &Store,
) -> io::Result<OpenCopy> {
    let clock: &Arc<dyn Clock> = store.clock();
    let (engine, discard): (Box<dyn Engine>, Discard) = match url {
        PartitionUrl::Sqlite { path } => {
            let file = Sqlite::new(path, Arc::clone(clock)).map_err(io::Error::other)?;
            let path = path.clone();
            let discard = move || {
                remove_database(&path).map_err(|error| PartitionError::Unreachable(error.into()))
            };
            let file = file.replaceable();
            (Box::new(if keeps { file } else { file.made_elsewhere() }), Box::new(discard))
        }
        PartitionUrl::Mysql(url) => {
            let server = Mysql::new(url.clone());
            (
                Box::new(server),
                Box::new({
                    let url = url.clone();
                    move || Mysql::new(url.clone()).discard()
                }),
            )
        }
        PartitionUrl::Memory => {
            return Err(io::Error::other("memory is inside one process, and no copy of many"));
        }
    };
    let parts = OpenCopyParts {
        id: record.copy.id,
        name: &record.copy.name,
        part: Part::Copy,
        url: url.to_string(),
        engine,
        discard: keeps.then_some(discard),
        set: store.set_id(),
        topology: store.topology().as_ref().clone(),
    };
    Ok(OpenCopy::new(parts, clock))
}
