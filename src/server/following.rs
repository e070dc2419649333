//! What keeps followers and other front ends told, looks at the logs and heartbeats, opens and
//! closes voters as the topology says, and does this front end's part of what the service is told.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::spawn;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::pulse;
use crate::feed::Feed;
use crate::orchestrator::Orchestrator;
use crate::orchestrator::losses::Watch;
use crate::roster::Roster;
use crate::store::Store;

/// How long a write of another front end may go unnoticed. Nothing is asked while nobody follows.
const LOOK: Duration = Duration::from_millis(50);

/// Everything that a front end does again and again besides answering.
pub struct Loops([JoinHandle<()>; 5]);

impl Loops {
    /// Starts them, inside the runtime that this is called in.
    pub fn start(
        store: &Arc<Store>,
        orchestrator: &Arc<Orchestrator>,
        roster: &Arc<Roster>,
        watch: &Arc<Watch>,
    ) -> Self {
        Self([
            spawn(pulse::beat(Arc::clone(store), Arc::clone(roster.ownership()))),
            spawn(look(Arc::clone(store.feed()))),
            spawn(Arc::clone(roster).follow()),
            spawn(Arc::clone(watch).run()),
            spawn(Arc::clone(orchestrator).run()),
        ])
    }

    /// Ends them; from here on they hold nothing.
    pub async fn stop(self) {
        for task in self.0 {
            task.abort();
            // Cancelled, as it should be.
            drop(task.await);
        }
    }
}

/// Looks for what other front ends have written, for ever.
async fn look(feed: Arc<Feed>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        feed.look();
    }
}
