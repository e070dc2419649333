//! BAR-1: nothing leaves a partition before it is durable there.
//!
//! A server may show a commit before it has flushed it. Whoever copies a page elsewhere first
//! commits something small in the same server run: a commit that was flushed makes all before it
//! durable. None is needed while the source's own clock, epoch included, has not moved since the
//! last one: what it holds of other origins is durable there already. So partitions that master
//! nothing, and idle ones, never pay. Nor do those that only this front end writes to: a commit of
//! its own that came back was flushed, and with it all up to its version, whichever run that was
//! in, since no version is given twice. (The epoch counts: a raise that a crash takes back would
//! leave cursors above the clock, and the versions given next would be taken for known.
//! `docs/adr/0002-barrier-and-epoch.md`.)

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::{Partition, Result, Status};
use crate::rules::Rule;
use crate::vector::Vector;
use crate::version::{PartitionId, RunId, Version};

/// What this front end knows to be durable.
#[derive(Debug, Default)]
pub struct Barriers {
    /// By barriers: in which run, and up to where.
    passed: Mutex<HashMap<PartitionId, (RunId, Version)>>,
    /// By commits of its own that came back.
    flushed: Mutex<Vector>,
}

impl Barriers {
    /// A write that got this version was acknowledged by its partition.
    pub fn flushed(&self, partition: PartitionId, version: Version) {
        self.flushed.lock().unwrap_or_else(PoisonError::into_inner).raise(partition, version);
    }

    /// Makes durable what `partition` showed when it said `seen` of itself.
    pub fn pass(&self, partition: &mut dyn Partition, seen: &Status) -> Result<()> {
        if !Rule::Barrier.in_force() || self.is_durable(seen) {
            return Ok(());
        }
        partition.barrier(seen.run)?;
        let mut known = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = (seen.run, clock(seen));
        let place = known.entry(seen.partition).or_insert(durable);
        if place.0 != seen.run || place.1 < clock(seen) {
            *place = durable;
        }
        Ok(())
    }

    fn is_durable(&self, seen: &Status) -> bool {
        let flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        if flushed.get(seen.partition) >= clock(seen) {
            return true;
        }
        drop(flushed);
        let known = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ReseedNumber;
    use crate::version::{Epoch, Seq};

    const ONE: PartitionId = PartitionId(1);

    fn version(epoch: u32, seq: u64) -> Version {
        Version::new(Epoch::new(epoch).unwrap(), Seq::new(seq).unwrap())
    }

    fn at(epoch: u32, seq: u64) -> Status {
        Status {
            partition: ONE,
            run: RunId(7),
            epoch: Epoch::new(epoch).unwrap(),
            seq: Seq::new(seq).unwrap(),
            vector: [(ONE, version(epoch, seq))].into_iter().collect(),
            floors: Vector::new(),
            heads: Vector::new(),
            reseed: ReseedNumber(0),
            reseeding: false,
        }
    }

    #[test]
    fn a_commit_that_came_back_makes_durable_what_came_before_it_and_nothing_after() {
        let barriers = Barriers::default();
        assert!(!barriers.is_durable(&at(1, 1)));
        barriers.flushed(ONE, version(1, 5));
        barriers.flushed(ONE, version(1, 3));
        barriers.flushed(PartitionId(2), version(1, 9));
        for (epoch, seq, is_durable) in [(1, 4, true), (1, 5, true), (1, 6, false), (2, 5, false)] {
            assert_eq!(barriers.is_durable(&at(epoch, seq)), is_durable, "{epoch}.{seq}");
        }
    }
}
