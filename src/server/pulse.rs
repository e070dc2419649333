//! The heartbeat of a front end: it looks at every partition once a second, so that `/readyz` tells
//! the present, and tells the service manager that it is alive.
//!
//! The manager is told from here on purpose. A beat needs the runtime's timers, the store's locks
//! and the lanes' queues; where one of them hangs, the beat stops, and a restart is the remedy. A
//! partition that does not answer is not: every look ends by its deadline, the beat goes on, and no
//! restart would bring it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::systemd;
use crate::store::Store;

/// How old what `/readyz` says may be; also far more often than a service manager asks for.
const PERIOD: Duration = Duration::from_secs(1);

/// Beats for ever.
pub async fn beat(store: Arc<Store>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        store.probe().await;
        systemd::alive();
    }
}
