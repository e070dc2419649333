//! Upkeep: the sweep, the watch for copies that were put back, verify passes and the ledger, over
//! the partitions of one front end.
//!
//! Both jobs are single-flight and woken without payload, like rounds of sync
//! ([`crate::jobs`]): whoever waits, waits for a run *begun after* it asked. Any number of front
//! ends may run theirs at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::founding::history::History;
use crate::partition::upkeep::{Conflict, ConflictPlace};
use crate::partition::{Partition, PartitionError, Status};
use crate::sync::barrier::Barriers;
use crate::sync::ledger;
use crate::sync::round::{Member, chain};
use crate::sync::sweep::sweep;
use crate::sync::verify::{Findings, Side, verify};
use crate::topology::Topology;
use crate::version::{PartitionId, Version};

/// What a verify pass did, or has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Which pass of this process, from 1.
    pub pass: u64,
    /// When it began: milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// How long it took, or takes already.
    pub took: Duration,
    /// Whether it has come to its end.
    pub is_done: bool,
    /// What it found.
    pub findings: Findings,
    /// Who was compared, and why somebody was left out, in words that anybody may read.
    pub partitions: Vec<(Arc<str>, Option<&'static str>)>,
}

impl VerifyReport {
    /// Whether all partitions were compared and hold the same rows now.
    pub fn is_clean(&self) -> bool {
        self.findings.left == 0 && self.partitions.iter().all(|(_, error)| error.is_none())
    }
}

/// An entry of the ledger, with the names of those that keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptConflict {
    /// What lost.
    pub conflict: Conflict,
    /// Who keeps it.
    pub kept_by: Vec<Arc<str>>,
}

/// What runs over the partitions, and what it works with.
#[derive(Clone)]
struct Parts {
    members: Arc<ArcSwap<Vec<Member>>>,
    topology: Arc<ArcSwap<Topology>>,
    clock: Arc<dyn Clock>,
    history: Arc<History>,
    ledger_retention: Option<Duration>,
    /// What went out of the ledgers, by partition.
    expired: Arc<Mutex<BTreeMap<Arc<str>, u64>>>,
}

/// The handle of the jobs; dropping it lets what runs finish and ends their threads.
pub struct Upkeep {
    parts: Parts,
    verify: Job<VerifyReport>,
    sweep: Job<usize>,
}

impl Upkeep {
    /// Starts the threads over the data partitions. Nothing runs before it is asked for.
    /// `ledger_retention`: how long entries of the ledger are kept; `None`: for ever.
    pub fn start(
        members: Vec<Member>,
        topology: Arc<ArcSwap<Topology>>,
        clock: Arc<dyn Clock>,
        history: Arc<History>,
        ledger_retention: Option<Duration>,
    ) -> std::io::Result<Self> {
        let (members, expired) = (Arc::new(ArcSwap::from_pointee(members)), Arc::default());
        let parts = Parts { members, topology, clock, history, ledger_retention, expired };
        let own = parts.clone();
        let barriers = Barriers::default();
        let mut passes = 0;
        let verify = Job::start("verify", move |tell: &dyn Fn(VerifyReport)| {
            passes += 1;
            own.verify(passes, &barriers, tell)
        })?;
        let own = parts.clone();
        let sweep = Job::start("sweep", move |_: &dyn Fn(usize)| own.sweep())?;
        Ok(Self { parts, verify, sweep })
    }

    /// One more takes part from the next run on. One of the same id is replaced.
    pub fn add(&self, member: &Member) {
        self.parts.members.rcu(|members| {
            let others = members.iter().filter(|one| one.id != member.id);
            others.chain([member]).cloned().collect::<Vec<_>>()
        });
    }

    /// One takes part no longer, from the next run on.
    pub fn remove(&self, id: PartitionId) {
        self.parts
            .members
            .rcu(|members| members.iter().filter(|one| one.id != id).cloned().collect::<Vec<_>>());
    }

    /// Asks for a sweep, and for a look whether an older copy of a database was put back.
    pub fn wake_sweep(&self) {
        self.sweep.wake();
    }

    /// Waits for the report of a verify pass begun after this call; `None` when `wait` is over
    /// first. The pass goes on all the same.
    pub async fn verify(&self, wait: Duration) -> Option<VerifyReport> {
        self.verify.run(wait).await
    }

    /// The verify pass that runs, or the last one.
    pub fn last_verify(&self) -> Option<VerifyReport> {
        self.verify.last()
    }

    /// The last verify pass once none is going on, or as far as it is when `wait` is over.
    pub async fn settled_verify(&self, wait: Duration) -> Option<VerifyReport> {
        let mut progress = self.verify.progress.clone();
        let settled = progress
            .wait_for(|progress| progress.told.as_ref().is_none_or(|report| report.is_done));
        // In time or not: what there is by then is told.
        drop(tokio::time::timeout(wait, settled).await);
        self.last_verify()
    }

    /// A page of the ledger of all partitions that can be asked, in the order of keys and versions.
    pub fn conflicts(
        &self,
        after: Option<&ConflictPlace>,
        max: usize,
    ) -> Result<Vec<KeptConflict>, PartitionError> {
        let mut all: BTreeMap<ConflictPlace, KeptConflict> = BTreeMap::new();
        let mut failed = None;
        let mut is_asked = false;
        for member in self.parts.members.load().iter() {
            let asked = member.connect.connect();
            match asked.and_then(|mut partition| partition.conflicts(after, max)) {
                Ok(conflicts) => {
                    is_asked = true;
                    for conflict in conflicts {
                        let place = ConflictPlace::of(&conflict.row);
                        let kept = KeptConflict { conflict, kept_by: Vec::new() };
                        let kept = all.entry(place).or_insert(kept);
                        kept.kept_by.push(Arc::clone(&member.name));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if !is_asked => Err(error),
            Some(_) | None => Ok(all.into_values().take(max).collect()),
        }
    }

    /// How long entries of the ledger are kept; `None`: for ever.
    pub const fn ledger_retention(&self) -> Option<Duration> {
        self.parts.ledger_retention
    }

    /// How many entries this front end has removed from the ledger of each partition since its
    /// start, because they had been kept for long enough.
    pub fn expired_conflicts(&self) -> Vec<(Arc<str>, u64)> {
        let expired = self.parts.expired();
        let count = |member: &Member| expired.get(&member.name).copied().unwrap_or_default();
        self.parts.members.load().iter().map(|one| (Arc::clone(&one.name), count(one))).collect()
    }

    /// One entry of the ledger, if any partition that can be asked keeps it.
    pub fn conflict(&self, place: &ConflictPlace) -> Result<Option<KeptConflict>, PartitionError> {
        // Asked for by what comes before it: versions are whole numbers.
        let before = Version::from_packed(place.version.packed() - 1).unwrap_or(Version::ZERO);
        let before = ConflictPlace { key: place.key.clone(), version: before };
        let first = self.conflicts(Some(&before), 1)?.into_iter().next();
        let is_it = |kept: &KeptConflict| {
            let row = &kept.conflict.row;
            row.key == place.key && row.version == place.version
        };
        Ok(first.filter(is_it))
    }
}

/// Buries what has expired at every partition that masters keys.
pub fn sweep_all(members: &[Member], topology: &Topology) -> usize {
    let masters = members.iter().filter(|member| topology.slots_of(member.id) > 0);
    let mut buried = 0;
    for member in masters {
        let swept = member.connect.connect().map_err(Into::into);
        match swept.and_then(|mut master| sweep(master.as_mut(), member.id, topology)) {
            Ok(rows) => buried += rows,
            // The next one is soon; whoever is away is told of by sync.
            Err(error) => {
                tracing::debug!(partition = %member.name, error = chain(&error), "no sweep");
            }
        }
    }
    buried
}

impl Parts {
    /// Looks for copies that were put back, and sets them aside: from then on they serve and take
    /// nothing, at any front end.
    fn watch(&self) {
        let asked = |member: &Member| {
            let mut partition = member.connect.connect()?;
            Ok::<_, PartitionError>((partition.status()?, partition.jumps()?))
        };
        let members = self.members.load_full();
        let mut standing = Vec::new();
        for member in members.iter() {
            match asked(member) {
                Ok((status, jumps)) => {
                    self.history.note(&status);
                    self.history.note_jumps(&status, jumps);
                    standing.push((member, Some(status)));
                }
                Err(PartitionError::PutBack(_)) => standing.push((member, None)),
                Err(_) => {}
            }
        }
        // Now that all is known: over the connection that there was, or refused already.
        let shows = |status: &Option<Status>| {
            status.as_ref().is_none_or(|status| self.history.beyond(status).is_some())
        };
        for (member, _) in standing.into_iter().filter(|(_, status)| shows(status)) {
            match member.connect.set_aside_if_put_back() {
                Ok(Some(error)) => {
                    tracing::error!(partition = %member.name, error = chain(&error), "set aside");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(partition = %member.name, error = chain(&error), "not set aside");
                }
            }
        }
    }

    fn expired(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u64>> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every partition that answers what the ledgers of the others keep, and removes what has
    /// been kept for long enough.
    fn tend_ledger(&self) {
        let (mut names, mut open) = (Vec::new(), Vec::new());
        let members = self.members.load_full();
        for member in members.iter().filter(|member| !member.id.is_copy()) {
            if let Ok(connection) = member.connect.connect() {
                names.push(Arc::clone(&member.name));
                open.push(connection);
            }
        }
        let mut partitions: Vec<&mut dyn Partition> = Vec::new();
        for connection in &mut open {
            partitions.push(connection.as_mut());
        }
        let tended = match ledger::tend(&mut partitions, self.ledger_retention) {
            Ok(tended) => tended,
            Err(error) => {
                tracing::debug!(error = chain(&error), "the ledger is tended later");
                return;
            }
        };
        if tended.given > 0 {
            tracing::info!(entries = tended.given, "entries of the ledger were copied");
        }
        let gone = names.into_iter().zip(tended.expired).filter(|(_, entries)| *entries > 0);
        for (partition, entries) in gone {
            tracing::info!(%partition, entries, "entries of the ledger have expired");
            *self.expired().entry(partition).or_default() += entries;
        }
    }

    fn sweep(&self) -> usize {
        self.watch();
        self.tend_ledger();
        sweep_all(&self.members.load(), &self.topology.load())
    }

    fn verify(&self, pass: u64, barriers: &Barriers, tell: &dyn Fn(VerifyReport)) -> VerifyReport {
        let (began, started_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let mut partitions: Vec<(Arc<str>, Option<&'static str>)> = Vec::new();
        let mut open: Vec<(usize, Box<dyn Partition + Send>)> = Vec::new();
        let members = self.members.load_full();
        for (nth, member) in members.iter().enumerate() {
            let connection = member.connect.connect();
            let error = connection.as_ref().err().map(PartitionError::in_public);
            partitions.push((Arc::clone(&member.name), error));
            open.extend(connection.ok().map(|connection| (nth, connection)));
        }
        let mut sides: Vec<Side<'_>> = open
            .iter_mut()
            .map(|(nth, connection)| Side {
                id: members[*nth].id,
                partition: connection.as_mut(),
                trouble: None,
            })
            .collect();
        let mut report = VerifyReport {
            pass,
            started_ms,
            took: Duration::ZERO,
            is_done: false,
            findings: Findings::default(),
            partitions,
        };
        let topology = self.topology.load_full();
        let clock = self.clock.as_ref();
        let findings = verify(&mut sides, &topology, barriers, clock, |findings| {
            let took = clock.monotonic().saturating_sub(began);
            tell(VerifyReport { took, findings: findings.clone(), ..report.clone() });
        });
        for side in sides {
            let Some(error) = side.trouble else { continue };
            let name = members.iter().position(|member| member.id == side.id);
            if let Some(place) = name.and_then(|nth| report.partitions.get_mut(nth)) {
                tracing::warn!(partition = %place.0, error = chain(&error), "left out of verify");
                place.1 = Some(error.in_public());
            }
        }
        report.took = clock.monotonic().saturating_sub(began);
        report.is_done = true;
        report.findings = findings;
        report
    }
}

/// How far a job has come: which wake-up the last finished run began after, and what is told of it.
#[derive(Clone, Debug)]
struct Progress<R> {
    done: u64,
    told: Option<R>,
}

#[derive(Debug, Default)]
struct Wanted {
    wakeups: u64,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that does one thing whenever it is woken.
struct Job<R> {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress<R>>,
    thread: Option<JoinHandle<()>>,
}

impl<R: Clone + Send + Sync + 'static> Job<R> {
    fn start(
        name: &str,
        mut work: impl FnMut(&dyn Fn(R)) -> R + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (publish, progress) = watch::channel(Progress { done: 0, told: None });
        let own = Arc::clone(&shared);
        let run = move || {
            let mut done = 0;
            while let Some(begun) = next(&own, done) {
                let told = |told| drop(publish.send_replace(Progress { done, told: Some(told) }));
                let result = work(&told);
                done = begun;
                publish.send_replace(Progress { done, told: Some(result) });
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { shared, progress, thread: Some(thread) })
    }

    fn wake(&self) -> u64 {
        let mut wanted = self.shared.lock();
        wanted.wakeups += 1;
        self.shared.changed.notify_one();
        wanted.wakeups
    }

    async fn run(&self, wait: Duration) -> Option<R> {
        let wakeup = self.wake();
        let mut progress = self.progress.clone();
        let finished = progress.wait_for(|progress| progress.done >= wakeup);
        let finished = tokio::time::timeout(wait, finished).await.ok()?.ok()?;
        finished.told.clone()
    }

    fn last(&self) -> Option<R> {
        self.progress.borrow().told.clone()
    }
}

impl<R> Drop for Job<R> {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the job was reported when it happened.
            drop(thread.join());
        }
    }
}

/// Waits for a wake-up after number `done`; `None`: stop.
fn next(shared: &Shared, done: u64) -> Option<u64> {
    let idle = |wanted: &mut Wanted| wanted.wakeups == done && !wanted.stopping;
    let wanted = shared.changed.wait_while(shared.lock(), idle);
    let wanted = wanted.unwrap_or_else(PoisonError::into_inner);
    (!wanted.stopping).then_some(wanted.wakeups)
}
