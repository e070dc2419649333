//! The heartbeat of a front end: it tells the service manager that it is alive, and looks at every
//! partition, and reads the topology, again and again, so that ages, `/readyz` and the order of
//! reads tell the present.
//!
//! The manager is told from here on purpose. A beat needs the runtime's timers, the store's locks
//! and the lanes' queues; where one of them hangs, the beat stops, and a restart is the remedy. A
//! partition that does not answer is not: every look ends by its deadline, and no restart would
//! bring it back.
//!
//! Each partition is looked at in a task of its own, as long as it is served: every [`TICK`], and
//! every [`BRISK`] while logs grow and a copy inside this process has to follow them closely. A
//! look is one small read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::systemd;
use crate::failover::service::Ownership;
use crate::store::Store;
use crate::version::PartitionId;

/// How often the service manager hears of us; far more often than it asks for.
const BEAT: Duration = Duration::from_secs(1);
/// How much older than the truth an age is told at most, and how soon a partition that has come
/// back is noticed.
const TICK: Duration = Duration::from_millis(100);
/// A tenth of that, where somebody else's write is to be read here a moment later.
const BRISK: Duration = Duration::from_millis(10);
/// For how many brisk looks after the last change logs count as growing: a second.
const BRISK_LOOKS: u64 = 100;

/// Beats and looks for ever.
pub async fn beat(store: Arc<Store>, ownership: Arc<Ownership>) {
    // Ends with this task: whoever aborts it ends the looks as well.
    let mut looks = JoinSet::new();
    let growing = Arc::new(AtomicU64::new(0));
    let mut looked_at = BTreeSet::new();
    // Beside the looks: this one never ends.
    let mut readings = JoinSet::new();
    readings.spawn(read(Arc::clone(&store), ownership, Arc::clone(&growing)));
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        // A beat needs the store's locks, too.
        drop(store.health());
        systemd::alive();
        while let Some(gone) = looks.try_join_next() {
            looked_at.remove(&gone.unwrap_or(PartitionId::EMBEDDED_COPY));
        }
        for id in store.partition_ids() {
            if looked_at.insert(id) {
                looks.spawn(look(Arc::clone(&store), id, Arc::clone(&growing)));
            }
        }
    }
}

/// Reads the topology by quorum for ever, as often as partitions are looked at: what a master
/// masters itself is as of then at most. A fence that was left behind is passed forward.
async fn read(store: Arc<Store>, ownership: Arc<Ownership>, growing: Arc<AtomicU64>) {
    let period = if store.follows_closely() { BRISK } else { TICK };
    let looks_per_tick = TICK.as_millis() / period.as_millis();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for nth in 0_u128.. {
        ticks.tick().await;
        if !nth.is_multiple_of(looks_per_tick) && growing.load(Ordering::Relaxed) == 0 {
            continue;
        }
        store.tell_losses();
        let (met, ownership) = (store.greatest_epoch(), Arc::clone(&ownership));
        let read = spawn_blocking(move || {
            if let Err(error) = ownership.read() {
                tracing::debug!(%error, "the topology cannot be read");
            }
            ownership.met(met);
        });
        // A panic was reported when it happened.
        drop(read.await);
    }
}

/// Looks at one partition as long as it is served; returns which one. `growing`: for how many more
/// looks all of them are brisk.
async fn look(store: Arc<Store>, id: PartitionId, growing: Arc<AtomicU64>) -> PartitionId {
    let follows = store.follows_closely();
    let period = if follows { BRISK } else { TICK };
    let looks_per_tick = TICK.as_millis() / period.as_millis();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for nth in 0_u128.. {
        ticks.tick().await;
        if !store.serves(id) {
            break;
        }
        let is_brisk = growing.load(Ordering::Relaxed) > 0;
        if !nth.is_multiple_of(looks_per_tick) && !is_brisk {
            continue;
        }
        if store.look_at(id).await && follows {
            growing.store(BRISK_LOOKS, Ordering::Relaxed);
        } else if is_brisk {
            // Several looks count at once: the second is a fraction of one, which is as good.
            growing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
        }
    }
    id
}
