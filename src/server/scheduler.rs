//! The clockwork of the sync job: a cron expression wakes it, and a watchdog wakes it where the
//! clockwork has stopped.
//!
//! `tokio-cron-scheduler` is a trigger and nothing more. It looks at the wall clock twice a second,
//! starts a run beside one that is still going, drops ticks where its own channel is full, and may
//! stop for ever; none of that matters to a job that is single-flight and is woken without payload,
//! but for the last. So every tick passes through [`watch`], which counts on monotonic time: no
//! tick within two periods of the expression, and it wakes the job itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::warn;

use crate::clock::Clock;
use crate::config::schedule::Schedule;
use crate::duration;

/// The trigger looks twice a second, so each tick comes up to half a second late.
const SLACK: Duration = Duration::from_secs(1);

/// A running trigger with its watchdog.
pub struct Scheduler {
    trigger: JobScheduler,
    watchdog: JoinHandle<()>,
}

impl Scheduler {
    /// Calls `wake` as `schedule` says, from inside the runtime that this is called in.
    pub async fn start(
        schedule: Schedule,
        clock: Arc<dyn Clock>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, JobSchedulerError> {
        let ticks = Arc::new(Notify::new());
        let ticked = Arc::clone(&ticks);
        let trigger = JobScheduler::new().await?;
        trigger.add(Job::new(schedule.as_str(), move |_, _| ticked.notify_one())?).await?;
        trigger.start().await?;
        let patience = move || schedule.two_periods_from(clock.wall_ms()) + SLACK;
        let watchdog = tokio::spawn(async move { watch(&ticks, patience, wake).await });
        Ok(Self { trigger, watchdog })
    }

    /// Wakes nobody any more.
    pub async fn stop(mut self) {
        self.watchdog.abort();
        // Cancelled, as it should be; from here on it holds nothing.
        drop(self.watchdog.await);
        if let Err(error) = self.trigger.shutdown().await {
            warn!(%error, "the cron trigger did not stop");
        }
    }
}

/// Wakes for each tick, and where no tick has come for longer than `patience`. Never returns.
async fn watch(ticks: &Notify, patience: impl Fn() -> Duration, wake: impl Fn()) {
    loop {
        let patience = patience();
        if timeout(patience, ticks.notified()).await.is_err() {
            let silent = duration::format(patience);
            warn!(%silent, "the cron trigger was silent for {silent}; sync is woken without it");
        }
        wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock;

    /// More than any of these tests needs on a slow machine.
    const BOUND: Duration = Duration::from_secs(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_silent_trigger_is_replaced() {
        let woken = Notify::new();
        let ticks = Notify::new();
        let watch = watch(&ticks, || Duration::from_millis(5), || woken.notify_one());
        runtime().block_on(async {
            tokio::select! {
                () = watch => panic!("a watchdog has no end"),
                woken = timeout(BOUND, woken.notified()) => woken.unwrap(),
            }
        });
    }

    #[test]
    fn a_tick_wakes_once() {
        let count = AtomicU32::new(0);
        let ticks = Notify::new();
        let watch = watch(
            &ticks,
            || BOUND,
            || {
                count.fetch_add(1, Ordering::SeqCst);
            },
        );
        runtime().block_on(async {
            ticks.notify_one();
            assert!(timeout(Duration::from_millis(20), watch).await.is_err());
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_trigger_ticks() {
        runtime().block_on(async {
            let woken = Arc::new(Notify::new());
            let wake = Arc::clone(&woken);
            let clock = Arc::new(clock::System::new());
            let schedule = "* * * * * *".parse().unwrap();
            let scheduler =
                Scheduler::start(schedule, clock, move || wake.notify_one()).await.unwrap();
            timeout(BOUND, woken.notified()).await.unwrap();
            scheduler.stop().await;
        });
    }
}
