//! The sweep: what has expired becomes a tombstone, which travels and is collected like any other.
//!
//! Nobody waits for it: an expired row is invisible at once. It is the master's own clock that
//! judges, first when expired rows are looked for and again inside the write's transaction, where
//! the row must also still be that version: a value that was written anew in between stays. Where
//! nothing has expired nothing is written.

use crate::lane::batch::{self, BatchError};
use crate::partition::Partition;
use crate::partition::upkeep::Expired;
use crate::topology::Topology;
use crate::version::PartitionId;
use crate::write::{Outcome, Write};

/// Rows in one transaction, as on a lane.
const BATCH_ROWS: usize = 256;
/// Transactions in one sweep: what is left is for the next one.
const BATCHES_MAX: usize = 64;

/// Buries what has expired of the keys that the partition `id` masters; returns how many.
pub fn sweep(
    partition: &mut dyn Partition,
    id: PartitionId,
    topology: &Topology,
) -> Result<usize, BatchError> {
    let mut buried = 0;
    let mut batches = 0;
    let mut after: Option<Expired> = None;
    while batches < BATCHES_MAX {
        let expired = partition.expired(after.as_ref(), BATCH_ROWS)?;
        let Some(last) = expired.last() else { break };
        after = Some(last.clone());
        let own = expired.into_iter().filter(|expired| topology.master_of(&expired.key) == id);
        let writes: Vec<Write> =
            own.map(|expired| Write::expire(expired.key, expired.version)).collect();
        if writes.is_empty() {
            continue;
        }
        if batches == 0 {
            batch::open(partition, topology)?;
        }
        batches += 1;
        for answer in batch::commit(partition, id, topology, &writes) {
            buried += usize::from(matches!(answer?, Outcome::Deleted { .. }));
        }
    }
    Ok(buried)
}
