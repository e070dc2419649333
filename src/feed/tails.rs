//! The tails of a feed: one for each origin whose log may go on, whoever that is.
//!
//! An origin is followed from when it is served here, or from when any partition is seen to have
//! something of it: one that has joined since, or one that is away for good and whose late rows
//! others bring. Read copies give no versions and have none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::service::{Hub, Sources};
use super::tail::Tail;
use crate::sync::barrier::Barriers;
use crate::vector::Vector;
use crate::version::PartitionId;

/// The tails, by origin.
pub(super) struct Tails {
    running: Mutex<BTreeMap<PartitionId, Tail>>,
    sources: Arc<Sources>,
    hub: Arc<Hub>,
    barriers: Arc<Barriers>,
}

impl Tails {
    /// None yet; they read from `sources`, as these are at the time.
    pub(super) fn new(sources: Arc<Sources>, hub: Arc<Hub>, barriers: Arc<Barriers>) -> Self {
        Self { running: Mutex::default(), sources, hub, barriers }
    }

    /// Follows the log of `origin` from now on.
    pub(super) fn add(&self, origin: PartitionId) -> std::io::Result<()> {
        if let Entry::Vacant(place) = self.lock().entry(origin) {
            let (sources, hub) = (Arc::clone(&self.sources), Arc::clone(&self.hub));
            place.insert(Tail::start(origin, sources, hub, Arc::clone(&self.barriers))?);
        }
        Ok(())
    }

    /// Follows the logs of all origins that somebody has something of.
    pub(super) fn add_seen(&self, heads: &Vector) {
        let unknown: Vec<PartitionId> = {
            let running = self.lock();
            let seen = heads.iter().map(|(origin, _)| origin);
            seen.filter(|origin| !running.contains_key(origin)).collect()
        };
        for origin in unknown {
            match self.add(origin) {
                Ok(()) => tracing::info!(%origin, "the feed follows another log"),
                // It is tried again at the next look.
                Err(error) => tracing::warn!(%origin, %error, "a log cannot be followed"),
            }
        }
    }

    /// Whose logs are followed.
    pub(super) fn origins(&self) -> Vec<PartitionId> {
        self.lock().keys().copied().collect()
    }

    /// The log of `origin` may have grown.
    pub(super) fn wake(&self, origin: PartitionId) {
        if let Some(tail) = self.lock().get(&origin) {
            tail.wake();
        }
    }

    /// Any log may have grown.
    pub(super) fn wake_all(&self) {
        self.lock().values().for_each(Tail::wake);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Tail>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
