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

/// Whether early rows of the partition's slots can be those of somebody who had them before.
pub fn may_reissue(id: PartitionId, topology: &Topology) -> bool {
    topology.epoch() > Epoch::FIRST && topology.slots_of(id) > 0 && Rule::Reissue.in_force()
}

/// What comes before the first write under an epoch that is new to a connection: early rows of the
/// partition's slots, which may be in no log of a living origin, are given versions of its own
/// (H11). Costs one small read where there are none. Returns how many there were.
pub fn begin(partition: &mut dyn Partition, id: PartitionId, topology: &Topology) -> Result<usize> {
    if !may_reissue(id, topology) {
        return Ok(0);
    }
    let slots = topology.owned_by(id);
    let status = partition.status()?;
    let early = |(origin, head)| origin != id && head > status.vector.get(origin);
    if !status.heads.iter().any(early) {
        return Ok(0);
    }
    if status.epoch < topology.epoch() && Rule::RaiseClock.in_force() {
        partition.raise(topology.epoch())?;
    }
    let mut rows = 0;
    loop {
        let reissued = partition.reissue(topology.epoch(), &slots)?;
        rows += reissued.rows;
        if !reissued.more {
            return Ok(rows);
        }
    }
}

/// What is committed together.
pub struct Batch<'a> {
    /// The writes, in the order in which they came.
    pub writes: &'a [Write],
    /// The epoch under which the connection was last written over.
    pub begun: &'a mut Option<Epoch>,
    /// Called once whatever is committed from then on comes after the batch
    /// ([`Partition::commit_telling`]).
    pub sealed: &'a mut dyn FnMut(),
}

/// Commits a batch at the partition `id`, an answer for each write. Where the clock is above the
/// topology, it is refreshed once, with the clock's epoch, and the writes are tried once more.
pub fn commit_refreshing(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    mut batch: Batch<'_>,
    refresh: impl FnOnce(Epoch) -> Option<Arc<Topology>>,
) -> Vec<Result<Outcome, BatchError>> {
    let answers = commit_begun(partition, id, topology, &mut batch);
    let fenced = |answer: &Result<Outcome, BatchError>| match answer {
        Err(BatchError::Fenced { clock }) => Some(*clock),
        Ok(_)
        | Err(
            BatchError::Moved { .. } | BatchError::NotWritten(_) | BatchError::OutcomeUnknown(_),
        ) => None,
    };
    let Some(clock) = answers.iter().find_map(fenced) else { return answers };
    match refresh(clock) {
        // A batch is one transaction: fenced means that nothing of it was written.
        Some(fresh) if fresh.epoch() > topology.epoch() => {
            commit_begun(partition, id, &fresh, &mut batch)
        }
        Some(_) | None => answers,
    }
}

/// Commits; first under an epoch that is new to the connection what [`begin`] does.
fn commit_begun(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    batch: &mut Batch<'_>,
) -> Vec<Result<Outcome, BatchError>> {
    if *batch.begun != Some(topology.epoch()) {
        if let Err(error) = begin(partition, id, topology) {
            let error = if let PartitionError::Refused(Refusal::Fenced { clock }) = error {
                BatchError::Fenced { clock }
            } else {
                // Whatever became of the early rows: the writes were not sent.
                BatchError::NotWritten(Arc::new(error))
            };
            return batch.writes.iter().map(|_| Err(error.clone())).collect();
        }
        *batch.begun = Some(topology.epoch());
    }
    commit_routed(partition, id, topology, batch.writes, batch.sealed)
}

/// Commits `writes` at the partition `id` in one transaction under `topology`; an answer for each.
pub fn commit(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    writes: &[Write],
) -> Vec<Result<Outcome, BatchError>> {
    commit_routed(partition, id, topology, writes, &mut || {})
}

fn commit_routed(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
    writes: &[Write],
    sealed: &mut dyn FnMut(),
) -> Vec<Result<Outcome, BatchError>> {
    let is_ours = |write: &Write| topology.master_of(&write.key) == id || !Rule::Route.in_force();
    let (ours, strays): (Vec<&Write>, Vec<&Write>) = writes.iter().partition(|w| is_ours(w));
    if strays.is_empty() {
        return commit_ours(partition, topology, writes, sealed);
    }
    let ours: Vec<Write> = ours.into_iter().cloned().collect();
    let mut committed = commit_ours(partition, topology, &ours, sealed).into_iter();
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
    sealed: &mut dyn FnMut(),
) -> Vec<Result<Outcome, BatchError>> {
    if writes.is_empty() {
        return Vec::new();
    }
    match commit_raising(partition, topology.epoch(), writes, sealed) {
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
    sealed: &mut dyn FnMut(),
) -> Result<Vec<Outcome>> {
    match partition.commit_telling(epoch, writes, sealed) {
        Err(PartitionError::Refused(Refusal::Fenced { clock }))
            if clock < epoch && Rule::RaiseClock.in_force() =>
        {
            partition.raise(epoch)?;
            partition.commit_telling(epoch, writes, sealed)
        }
        result => result,
    }
}
