//! The sync job: rounds, whoever asks for them.
//!
//! A wake-up carries nothing: the cron schedule, a write (`sync.eager`), an admin request and a
//! session read that waits all call [`SyncJob::wake`], and any number of wake-ups while a pass runs
//! make one more pass. Whoever waits, waits for a round *begun after* it asked, so that its own
//! writes are in.
//!
//! Each target has a thread of its own, so that one that is slow, far behind or away holds up no
//! other: it makes a pass for each wake-up, and a round has come to its end when all of them have
//! made theirs and logs were trimmed. A read copy that is being seeded is not waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::sync::report::Report;
use crate::sync::round::Round;
use crate::sync::target::Target;
use crate::sync::trim::Trimmer;
use crate::version::PartitionId;

/// How far the job has come: which wake-up the last finished round began after, and its report.
#[derive(Clone, Debug, Default)]
struct Progress {
    done: u64,
    report: Option<Arc<Report>>,
}

#[derive(Debug, Default)]
struct Wanted {
    wakeups: u64,
    /// By target: which wake-up its last pass began after.
    passed: BTreeMap<PartitionId, u64>,
    stopping: bool,
}

impl Wanted {
    /// Which wake-up all targets have made a pass for.
    fn passed_by_all(&self) -> u64 {
        self.passed.values().copied().min().unwrap_or(self.wakeups)
    }
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

    /// Waits until there is something to do; `None`: stop.
    fn next(&self, done: u64, upto: impl Fn(&Wanted) -> u64) -> Option<u64> {
        let idle = |wanted: &mut Wanted| upto(wanted) == done && !wanted.stopping;
        let wanted = self.changed.wait_while(self.lock(), idle);
        let wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        (!wanted.stopping).then(|| upto(&wanted))
    }

    fn pass_made(&self, target: PartitionId, wakeup: u64) {
        self.lock().passed.insert(target, wakeup);
        self.changed.notify_all();
    }
}

/// The handle of the job; dropping it ends its threads, each at its next page.
pub struct SyncJob {
    shared: Arc<Shared>,
    round: Arc<Round>,
    progress: watch::Receiver<Progress>,
    started_ms: i64,
    threads: Vec<JoinHandle<()>>,
}

impl SyncJob {
    /// Starts the job's threads. They make a pass for each wake-up, none before the first.
    pub fn start(round: Round) -> std::io::Result<Self> {
        let (shared, round) = (Arc::new(Shared::default()), Arc::new(round));
        let (publish, progress) = watch::channel(Progress::default());
        shared.lock().passed = round.members().iter().map(|member| (member.id, 0)).collect();
        let started_ms = round.clock().wall_ms();
        let mut job = Self { shared, round, progress, started_ms, threads: Vec::new() };
        for member in job.round.members() {
            let mut target = Target::new(Arc::clone(&job.round), member.clone());
            let (shared, id) = (Arc::clone(&job.shared), member.id);
            let work = move || {
                let mut done = 0;
                while let Some(begun) = shared.next(done, |wanted| wanted.wakeups) {
                    target.pass(|| shared.pass_made(id, begun));
                    done = begun;
                    shared.pass_made(id, begun);
                }
            };
            let thread = std::thread::Builder::new().name(format!("sync-{}", member.name));
            job.threads.push(thread.spawn(work)?);
        }
        let mut trimmer = Trimmer::new(Arc::clone(&job.round));
        let (shared, round) = (Arc::clone(&job.shared), Arc::clone(&job.round));
        let work = move || {
            let mut done = 0;
            while let Some(passed) = shared.next(done, Wanted::passed_by_all) {
                trimmer.trim();
                done = passed;
                let report = Some(Arc::new(round.finish()));
                publish.send_replace(Progress { done, report });
            }
        };
        job.threads.push(std::thread::Builder::new().name("sync".into()).spawn(work)?);
        Ok(job)
    }

    /// Asks for a round. Returns the number of the wake-up, for [`SyncJob::finished`].
    pub fn wake(&self) -> u64 {
        let mut wanted = self.shared.lock();
        wanted.wakeups += 1;
        self.shared.changed.notify_all();
        wanted.wakeups
    }

    /// Waits for the report of a round begun after this call; `None` when `wait` is over first. The
    /// round goes on all the same.
    pub async fn run(&self, wait: Duration) -> Option<Arc<Report>> {
        let wakeup = self.wake();
        self.finished(wakeup, wait).await
    }

    /// Waits until a round that began after wake-up number `wakeup` has finished; `None` when
    /// `wait` is over first.
    pub async fn finished(&self, wakeup: u64, wait: Duration) -> Option<Arc<Report>> {
        let mut progress = self.progress.clone();
        let finished = progress.wait_for(|progress| progress.done >= wakeup);
        let progress = tokio::time::timeout(wait, finished).await.ok()?.ok()?;
        progress.report.clone()
    }

    /// What is known of wake-up number `wakeup`: `None`: it was never made; else the report of a
    /// round begun after it, once there is one.
    pub fn outcome(&self, wakeup: u64) -> Option<Option<Arc<Report>>> {
        if wakeup == 0 || wakeup > self.shared.lock().wakeups {
            return None;
        }
        let progress = self.progress.borrow();
        let report = progress.report.as_ref().filter(|_| progress.done >= wakeup);
        Some(report.map(Arc::clone))
    }

    /// The report of the last finished round.
    pub fn last(&self) -> Option<Arc<Report>> {
        self.progress.borrow().report.clone()
    }

    /// What the last passes did, and those under way have done so far.
    pub fn current(&self) -> Report {
        self.round.report()
    }

    /// The monotonic time of the job's clock, which reports count by.
    pub fn now(&self) -> Duration {
        self.round.clock().monotonic()
    }

    /// When the job was started: milliseconds since 1970 UTC.
    pub const fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// The named target, or all, pull nothing from now on, or pull again. `false`: there is none of
    /// that name.
    pub fn pause(&self, target: Option<&str>, paused: bool) -> bool {
        let known = self.round.pause(target, paused);
        if known && !paused {
            self.wake();
        }
        known
    }
}

impl Drop for SyncJob {
    fn drop(&mut self) {
        self.round.stop();
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the job was reported when it happened.
            drop(thread.join());
        }
    }
}
