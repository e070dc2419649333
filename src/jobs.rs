//! The sync job: rounds, whoever asks for them.
//!
//! A wake-up carries nothing: the cron schedule, an admin request and a session read that waits all
//! call [`SyncJob::wake`], and any number of wake-ups while a pass runs make one more pass. Whoever
//! waits, waits for a round *begun after* it asked, so that its own writes are in.
//!
//! Writes (`sync.eager`) call [`SyncJob::wrote`]. Nobody waits for that, and there may be tens of
//! thousands a second, so it costs a write next to nothing, and they share passes: after each, a
//! target rests for as long as the pass took before it makes another one for writes. The first
//! write in a while is passed on at once; under load a target spends half of its time on passes at
//! most, and each brings more. Such passes are no rounds: nothing is trimmed or told after them.
//!
//! Each target has a thread of its own, so that one that is slow, far behind or away holds up no
//! other: it makes a pass for each wake-up, and a round has come to its end when all of them have
//! made theirs and logs were trimmed. A read copy that is being seeded is not waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::sync::barrier::Barriers;
use crate::sync::report::Report;
use crate::sync::round::{Member, Round};
use crate::sync::target::Target;
use crate::sync::trim::Trimmer;
use crate::version::PartitionId;

/// The longest rest of a target between passes for writes: a pass that took long had much to bring,
/// or waited for somebody who is away.
const REST_MAX: Duration = Duration::from_millis(100);

/// How far the job has come: which wake-up the last finished round began after, and its report.
#[derive(Clone, Debug, Default)]
struct Progress {
    done: u64,
    report: Option<Arc<Report>>,
}

#[derive(Debug, Default)]
struct Wanted {
    wakeups: u64,
    /// By target that takes part: which wake-up its last pass began after.
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
    /// Writes that were told of.
    writes: AtomicU64,
    /// How many targets wait for a write, too: what a write has to wake anybody for.
    parked: AtomicUsize,
    /// The same as [`Wanted::passed`], for those who wait for one target's pass.
    told: watch::Sender<BTreeMap<PartitionId, u64>>,
}

/// What a target's last pass began after, and until when it rests from writes.
#[derive(Debug, Default)]
struct Done {
    wakeups: u64,
    writes: u64,
    rested_at: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all targets have made another pass; `None`: stop.
    fn next_round(&self, done: u64) -> Option<u64> {
        let idle = |wanted: &mut Wanted| wanted.passed_by_all() == done && !wanted.stopping;
        let wanted = self.changed.wait_while(self.lock(), idle);
        let wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        (!wanted.stopping).then(|| wanted.passed_by_all())
    }

    /// Waits until a target has something to do that it has not `done`; `None`: stop, or it takes
    /// part no longer.
    fn next_pass(&self, target: PartitionId, done: &Done, clock: &dyn Clock) -> Option<Done> {
        let mut wanted = self.lock();
        let mut timed_out = false;
        loop {
            // Parked before it is looked whether there was a write, as a write is counted before it
            // is looked whether anybody is parked: one of the two sees the other.
            self.parked.fetch_add(1, Ordering::SeqCst);
            let writes = self.writes.load(Ordering::SeqCst);
            let rest = done.rested_at.saturating_sub(clock.monotonic());
            let is_rested = timed_out || rest.is_zero();
            let for_writes = writes != done.writes;
            let ends = wanted.stopping || !wanted.passed.contains_key(&target);
            if ends || wanted.wakeups != done.wakeups || (for_writes && is_rested) {
                self.parked.fetch_sub(1, Ordering::SeqCst);
                let begun = Done { wakeups: wanted.wakeups, writes, rested_at: Duration::ZERO };
                return (!ends).then_some(begun);
            }
            if for_writes {
                // By the system's time, also where the clock that was handed in stands still.
                self.parked.fetch_sub(1, Ordering::SeqCst);
                let waited = self.changed.wait_timeout(wanted, rest);
                let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (wanted, timed_out) = (guard, timeout.timed_out());
            } else {
                let waited = self.changed.wait(wanted);
                wanted = waited.unwrap_or_else(PoisonError::into_inner);
                self.parked.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            // Whoever is parked holds the lock until it waits.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn pass_made(&self, target: PartitionId, wakeup: u64) {
        let is_new = match self.lock().passed.get_mut(&target) {
            Some(passed) => std::mem::replace(passed, wakeup) != wakeup,
            None => false,
        };
        if is_new {
            self.changed.notify_all();
            self.told.send_modify(|passed| {
                passed.insert(target, wakeup);
            });
        }
    }
}

/// The handle of the job; dropping it ends its threads, each at its next page.
pub struct SyncJob {
    shared: Arc<Shared>,
    round: Arc<Round>,
    progress: watch::Receiver<Progress>,
    started_ms: i64,
    targets: Mutex<BTreeMap<PartitionId, JoinHandle<()>>>,
    trimmer: Option<JoinHandle<()>>,
}

impl SyncJob {
    /// Starts the job's threads. They make a pass for each wake-up, none before the first.
    pub fn start(round: Round) -> std::io::Result<Self> {
        let (shared, round) = (Arc::new(Shared::default()), Arc::new(round));
        let (publish, progress) = watch::channel(Progress::default());
        let started_ms = round.clock().wall_ms();
        let targets = Mutex::default();
        let mut job = Self { shared, round, progress, started_ms, targets, trimmer: None };
        for member in job.round.members().iter() {
            job.spawn(member)?;
        }
        let mut trimmer = Trimmer::new(Arc::clone(&job.round));
        let (shared, round) = (Arc::clone(&job.shared), Arc::clone(&job.round));
        let work = move || {
            let mut done = 0;
            while let Some(passed) = shared.next_round(done) {
                trimmer.trim();
                done = passed;
                let report = Some(Arc::new(round.finish()));
                publish.send_replace(Progress { done, report });
            }
        };
        job.trimmer = Some(std::thread::Builder::new().name("sync".into()).spawn(work)?);
        Ok(job)
    }

    /// One more takes part from now on.
    pub fn add(&self, member: &Member) -> std::io::Result<()> {
        self.round.add(member)?;
        self.spawn(member)?;
        self.wake();
        Ok(())
    }

    /// One takes part no longer: from the return on nothing is copied to or from it here. Waits for
    /// the page under way.
    pub fn remove(&self, id: PartitionId) {
        self.round.remove(id);
        self.shared.lock().passed.remove(&id);
        self.shared.changed.notify_all();
        if let Some(thread) = self.targets().remove(&id) {
            // A panic of the job was reported when it happened.
            drop(thread.join());
        }
        self.round.forget(id);
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<PartitionId, JoinHandle<()>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, member: &Member) -> std::io::Result<()> {
        let mut target = Target::new(Arc::clone(&self.round), member.clone());
        let (shared, id) = (Arc::clone(&self.shared), member.id);
        let clock = Arc::clone(self.round.clock());
        let mut wanted = self.shared.lock();
        let mut done = Done { wakeups: wanted.wakeups, ..Done::default() };
        let begun = wanted.wakeups;
        wanted.passed.insert(id, begun);
        drop(wanted);
        let work = move || {
            while let Some(mut begun) = shared.next_pass(id, &done, clock.as_ref()) {
                let at = clock.monotonic();
                target.pass(|| shared.pass_made(id, begun.wakeups));
                shared.pass_made(id, begun.wakeups);
                let now = clock.monotonic();
                begun.rested_at = now + now.saturating_sub(at).min(REST_MAX);
                done = begun;
            }
        };
        let thread = std::thread::Builder::new().name(format!("sync-{}", member.name));
        self.targets().insert(id, thread.spawn(work)?);
        Ok(())
    }

    /// Asks for a round. Returns the number of the wake-up, for [`SyncJob::finished`].
    pub fn wake(&self) -> u64 {
        let mut wanted = self.shared.lock();
        wanted.wakeups += 1;
        self.shared.changed.notify_all();
        wanted.wakeups
    }

    /// A write was made through this front end: whoever lacks it pulls it soon.
    pub fn wrote(&self) {
        if self.round.members().len() < 2 {
            return;
        }
        self.shared.wrote();
    }

    /// What this front end knows to be durable where.
    pub fn barriers(&self) -> &Arc<Barriers> {
        self.round.barriers()
    }

    /// Waits for the report of a round begun after this call; `None` when `wait` is over first. The
    /// round goes on all the same.
    pub async fn run(&self, wait: Duration) -> Option<Arc<Report>> {
        let wakeup = self.wake();
        self.finished(wakeup, wait).await
    }

    /// Asks for a round, and waits until one target has made its pass in it, for `wait` at most:
    /// who reads there need not wait for the others.
    pub async fn pass(&self, target: PartitionId, wait: Duration) {
        let mut passed = self.shared.told.subscribe();
        let wakeup = self.wake();
        let made = passed.wait_for(|passed| passed.get(&target).is_some_and(|at| *at >= wakeup));
        // In time or not: the reader looks for itself.
        drop(tokio::time::timeout(wait, made).await);
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
        let targets = std::mem::take(&mut *self.targets()).into_values();
        for thread in targets.chain(self.trimmer.take()) {
            // A panic of the job was reported when it happened.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;

    const HOUR: Duration = Duration::from_secs(3600);
    const ONE: PartitionId = PartitionId(1);

    /// With one target.
    fn shared() -> Shared {
        let shared = Shared::default();
        shared.lock().passed.insert(ONE, 0);
        shared
    }

    #[test]
    fn the_first_write_in_a_while_is_passed_on_at_once_and_one_wake_up_does_for_many() {
        let (shared, clock) = (shared(), Manual::at(0));
        clock.advance_ms(10);
        for _ in 0..1000 {
            shared.wrote();
        }
        let done = Done { rested_at: Duration::from_millis(10), ..Done::default() };
        let begun = shared.next_pass(ONE, &done, &clock).unwrap();
        assert_eq!((begun.wakeups, begun.writes), (0, 1000));
    }

    #[test]
    fn a_resting_target_leaves_writes_waiting_and_wake_ups_not() {
        let (shared, clock) = (shared(), Manual::at(0));
        let resting = Done { rested_at: HOUR, ..Done::default() };
        std::thread::scope(|scope| {
            let pass = scope.spawn(|| shared.next_pass(ONE, &resting, &clock));
            shared.wrote();
            shared.lock().wakeups += 1;
            shared.changed.notify_all();
            let begun = pass.join().unwrap().unwrap();
            assert_eq!(begun.wakeups, 1, "an hour of rest is not over");
        });
        // A rest that is over by the system's time is over.
        shared.wrote();
        let short = Duration::from_millis(1);
        let resting = Done { wakeups: 1, rested_at: short, ..Done::default() };
        assert!(shared.next_pass(ONE, &resting, &clock).unwrap().writes > 0);
    }

    #[test]
    fn no_write_is_slept_through() {
        let (shared, clock) = (shared(), Manual::at(0));
        std::thread::scope(|scope| {
            let target = scope.spawn(|| {
                let mut done = Done::default();
                while done.writes < 1000 {
                    done = shared.next_pass(ONE, &done, &clock).unwrap();
                }
            });
            for _ in 0..1000 {
                shared.wrote();
            }
            target.join().unwrap();
        });
        assert_eq!(shared.parked.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_target_that_takes_part_no_longer_has_nothing_to_do() {
        let (shared, clock) = (shared(), Manual::at(0));
        shared.lock().wakeups += 1;
        shared.lock().passed.remove(&ONE);
        assert!(shared.next_pass(ONE, &Done::default(), &clock).is_none());
        shared.pass_made(ONE, 1);
        assert!(shared.lock().passed.is_empty(), "rounds do not wait for it again");
    }

    #[test]
    fn an_end_ends_the_rest() {
        let (shared, clock) = (shared(), Manual::at(0));
        shared.wrote();
        shared.lock().stopping = true;
        let resting = Done { rested_at: HOUR, ..Done::default() };
        assert!(shared.next_pass(ONE, &resting, &clock).is_none());
    }
}
