//! Partitions that come and go while the store serves.
//!
//! One that comes is served at once: until it has what a read needs it is skipped, as any other.
//! One that goes is asked by nobody who comes after; what was asked before is answered. The feed
//! follows the log of a voter from when it comes, and reads no copies.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;

use super::lanes::Lanes;
use super::{AllLanes, Served, Store};
use crate::feed::FeedSource;
use crate::version::PartitionId;

/// How often it is looked whether all that was asked is answered.
const STEP: Duration = Duration::from_millis(10);

/// A partition that is no longer served.
pub struct Leaving(Arc<Lanes>);

impl Leaving {
    /// Waits until what was asked of it is answered, for so long at most, and ends its lanes.
    /// Whether everything was answered.
    pub async fn drain(self, patience: Duration) -> bool {
        let Self(lanes) = self;
        let answered = async {
            let mut steps = interval(STEP);
            while Arc::strong_count(&lanes) > 1 {
                steps.tick().await;
            }
        };
        let answered = tokio::time::timeout(patience, answered).await.is_ok();
        // The lanes' threads come to the end of what they do first.
        drop(spawn_blocking(move || drop(lanes)).await);
        answered
    }
}

impl Store {
    /// Serves one more partition. One of the same id is replaced.
    pub fn add(&self, served: Served) -> std::io::Result<()> {
        let id = served.serving.id;
        if served.part.is_voter() {
            self.feed.serve(FeedSource {
                id,
                name: Arc::clone(&served.serving.name),
                is_local: served.is_local,
                is_voter: true,
                connect: Arc::clone(&served.connect),
            })?;
        }
        let lanes = Lanes::start(served, &self.topologies, &self.clock, self.limits)?;
        let lanes = Arc::new(lanes);
        self.lanes.rcu(|all| {
            let mut all = AllLanes::clone(all);
            all.insert(id, Arc::clone(&lanes));
            all
        });
        Ok(())
    }

    /// Serves a partition no longer; `None`: it was not served.
    pub fn remove(&self, id: PartitionId) -> Option<Leaving> {
        let lanes = self.lanes_at(id)?;
        self.lanes.rcu(|all| {
            let mut all = AllLanes::clone(all);
            all.remove(&id);
            all
        });
        let mut ages = self.ages();
        ages.forget(id);
        self.seen.store(Arc::new(ages.seen().clone()));
        self.feed.leave(id);
        Some(Leaving(lanes))
    }

    /// Whether a partition is served.
    pub fn serves(&self, id: PartitionId) -> bool {
        self.lanes.load().contains_key(&id)
    }

    /// Whether it was seen to answer, and to be whole.
    pub fn is_seeded(&self, id: PartitionId) -> bool {
        let is_well = self.lanes_at(id).is_some_and(|lanes| lanes.is_well());
        is_well && self.seen.load().sight(id).is_some_and(|sight| !sight.reseeding)
    }

    pub(super) fn lanes_at(&self, id: PartitionId) -> Option<Arc<Lanes>> {
        self.lanes.load().get(&id).map(Arc::clone)
    }
}
