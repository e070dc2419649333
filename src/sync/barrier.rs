//! BAR-1: nothing leaves a partition before it is durable there.
//!
//! A server may show a commit before it has flushed it. Whoever copies a page elsewhere first
//! commits something small in the same server run: a commit that was flushed makes all before it
//! durable. None is needed while the source's own clock, epoch included, has not moved since the
//! last one: what it holds of other origins is durable there already. So partitions that master
//! nothing, and idle ones, never pay. (The epoch counts: a raise that a crash takes back would
//! leave cursors above the clock, and the versions given next would be taken for known.
//! `docs/adr/0002-barrier-and-epoch.md`.)

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::{Partition, Result, Status};
use crate::rules::Rule;
use crate::version::{PartitionId, RunId, Version};

/// What this front end knows to be durable.
#[derive(Debug, Default)]
pub struct Barriers(Mutex<HashMap<PartitionId, (RunId, Version)>>);

impl Barriers {
    /// Makes durable what `partition` showed when it said `seen` of itself.
    pub fn pass(&self, partition: &mut dyn Partition, seen: &Status) -> Result<()> {
        if !Rule::Barrier.in_force() || self.is_durable(seen) {
            return Ok(());
        }
        partition.barrier(seen.run)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = (seen.run, clock(seen));
        let place = known.entry(seen.partition).or_insert(durable);
        if place.0 != seen.run || place.1 < clock(seen) {
            *place = durable;
        }
        Ok(())
    }

    fn is_durable(&self, seen: &Status) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&seen.partition).is_some_and(|(run, upto)| {
            let reached = if Rule::BarrierOfEpoch.in_force() {
                *upto >= clock(seen)
            } else {
                upto.seq() >= seen.seq
            };
            *run == seen.run && reached
        })
    }
}

fn clock(seen: &Status) -> Version {
    seen.vector.get(seen.partition)
}
