//! What keeps followers and other front ends told: looks at the logs, and heartbeats.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::feed::Feed;
use crate::frontends::Frontends;

/// How long a write of another front end may go unnoticed. Nothing is asked while nobody follows.
const LOOK: Duration = Duration::from_millis(50);

/// Looks for what other front ends have written, for ever.
pub async fn look(feed: Arc<Feed>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        feed.look();
    }
}

/// Tells the other front ends that this one runs, for ever.
pub async fn beat(frontends: Arc<Frontends>) {
    let mut ticks = interval(frontends.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        frontends.beat().await;
    }
}
