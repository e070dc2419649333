//! What a write lane does with its connection: opening it, and committing a batch.
//!
//! Threads, queues and deadlines stand in [`super::write`]; here is only what has to be right
//! whenever another front end, a crash or a stall comes in between.

use std::sync::Arc;

use crate::partition::{Partition, PartitionError, Refusal, Result};
use crate::rules::Rule;
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId};
use crate::write::{Outcome, Write};

/// Why a write of a batch was not carried out, or not for certain.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    /// The slot has another master under the lane's topology: route again.
    #[error("partition {partition} is not the master of this key")]
    Moved {
        /// The partition that was asked.
        partition: PartitionId,
    },
    /// The clock is above the topology: refresh it, route again.
    #[error("fenced: the partition's clock is at epoch {clock}")]
    Fenced {
        /// The epoch of the clock.
        clock: Epoch,
    },
    /// Certainly not written.
    #[error("not written")]
    NotWritten(#[source] Arc<PartitionError>),
    /// Sent, and no answer came: it may stand or not.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Arc<PartitionError>),
}

impl From<PartitionError> for BatchError {
    fn from(error: PartitionError) -> Self {
        if let PartitionError::Refused(Refusal::Fenced { clock }) = error {
            Self::Fenced { clock }
        } else if error.is_without_effect() {
            Self::NotWritten(Arc::new(error))
        } else {
            Self::OutcomeUnknown(Arc::new(error))
        }
    }
}

/// OPEN-1: opens a new connection for writing under `topology`, which was read since it was made.
pub fn open(partition: &mut dyn Partition, topology: &Topology) -> Result<()> {
    let clock = partition.open_lane()?;
    if clock < topology.epoch() && Rule::RaiseClock.in_force() {
        partition.raise(topology.epoch())?;
    }
    Ok(())
}

/// Commits `writes` at the partition `id`, an answer for each. Where the clock is above the
/// topology, it is refreshed once, over the same connection, and the writes are tried once more.
pub fn commit_refreshing(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    writes: &[Write],
    refresh: impl FnOnce(&mut dyn Partition) -> Option<Arc<Topology>>,
) -> Vec<Result<Outcome, BatchError>> {
    let answers = commit(partition, id, topology, writes);
    let fenced =
        |answer: &Result<Outcome, BatchError>| matches!(answer, Err(BatchError::Fenced { .. }));
    if !answers.iter().any(fenced) {
        return answers;
    }
    match refresh(partition) {
        // A batch is one transaction: fenced means that nothing of it was written.
        Some(fresh) if fresh.epoch() > topology.epoch() => commit(partition, id, &fresh, writes),
        Some(_) | None => answers,
    }
}

/// Commits `writes` at the partition `id` in one transaction under `topology`; an answer for each.
pub fn commit(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    writes: &[Write],
) -> Vec<Result<Outcome, BatchError>> {
    let is_ours = |write: &Write| topology.master_of(&write.key) == id || !Rule::Route.in_force();
    let (ours, strays): (Vec<&Write>, Vec<&Write>) = writes.iter().partition(|w| is_ours(w));
    if strays.is_empty() {
        return commit_ours(partition, topology, writes);
    }
    let ours: Vec<Write> = ours.into_iter().cloned().collect();
    let mut committed = commit_ours(partition, topology, &ours).into_iter();
    let answer = |write: &Write| {
        let moved = Err(BatchError::Moved { partition: id });
        if is_ours(write) { committed.next().unwrap_or(moved) } else { moved }
    };
    writes.iter().map(answer).collect()
}

fn commit_ours(
    partition: &mut dyn Partition,
    topology: &Topology,
    writes: &[Write],
) -> Vec<Result<Outcome, BatchError>> {
    if writes.is_empty() {
        return Vec::new();
    }
    match commit_raising(partition, topology.epoch(), writes) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = BatchError::from(error);
            writes.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

/// A clock below the topology is raised, in a transaction of its own, before the first write under
/// it.
fn commit_raising(
    partition: &mut dyn Partition,
    epoch: Epoch,
    writes: &[Write],
) -> Result<Vec<Outcome>> {
    match partition.commit(epoch, writes) {
        Err(PartitionError::Refused(Refusal::Fenced { clock }))
            if clock < epoch && Rule::RaiseClock.in_force() =>
        {
            partition.raise(epoch)?;
            partition.commit(epoch, writes)
        }
        result => result,
    }
}
