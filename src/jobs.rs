//! The sync job: rounds, one at a time, whoever asks for them.
//!
//! A wake-up carries nothing: the cron schedule, a write (`sync.eager`), an admin request and a
//! session read that waits all call [`SyncJob::wake`], and any number of wake-ups while a round
//! runs make one more round. Whoever waits, waits for a round *begun after* it asked, so that its
//! own writes are in.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::sync::report::Report;
use crate::sync::round::Round;

/// How far the job has come: which wake-up the last finished round began after, and its report.
#[derive(Clone, Debug, Default)]
struct Progress {
    done: u64,
    report: Option<Arc<Report>>,
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

/// The handle of the job; dropping it lets the running round finish and ends the thread.
pub struct SyncJob {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl SyncJob {
    /// Starts the job's thread. It runs a round for each wake-up, none before the first.
    pub fn start(mut round: Round) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (publish, progress) = watch::channel(Progress::default());
        let own = Arc::clone(&shared);
        let work = move || {
            let mut done = 0;
            while let Some(begun) = next(&own, done) {
                let report = Arc::new(round.run());
                done = begun;
                publish.send_replace(Progress { done, report: Some(report) });
            }
        };
        let thread = std::thread::Builder::new().name("sync".into()).spawn(work)?;
        Ok(Self { shared, progress, thread: Some(thread) })
    }

    /// Asks for a round. Returns the number of the wake-up, for [`SyncJob::finished`].
    pub fn wake(&self) -> u64 {
        let mut wanted = self.shared.lock();
        wanted.wakeups += 1;
        self.shared.changed.notify_one();
        wanted.wakeups
    }

    /// Waits for the report of a round begun after this call; `None` when `wait` is over first. The
    /// round goes on all the same.
    pub async fn run(&self, wait: Duration) -> Option<Arc<Report>> {
        let wakeup = self.wake();
        tokio::time::timeout(wait, self.finished(wakeup)).await.ok().flatten()
    }

    /// Waits until a round that began after wake-up number `wakeup` has finished.
    async fn finished(&self, wakeup: u64) -> Option<Arc<Report>> {
        let mut progress = self.progress.clone();
        let progress = progress.wait_for(|progress| progress.done >= wakeup).await.ok()?;
        progress.report.clone()
    }

    /// The report of the last finished round.
    pub fn last(&self) -> Option<Arc<Report>> {
        self.progress.borrow().report.clone()
    }
}

impl Drop for SyncJob {
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
