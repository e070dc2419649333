//! Lanes: the only bridge between requests and a partition's blocking connections.
//!
//! A **write lane** is a bounded queue and a thread with a connection, or two that take turns at a
//! distant partition with a slow disk: it takes what waits into one transaction (group commit). A
//! **point lane** takes the small point reads of a distant partition together, as many as wait;
//! those of local engines run where they are asked, over **local readers**. The **pool** lends
//! checked connections for all else: to a **read lane**, a few threads for what may not run on the
//! thread that asked (lists, large values), to a **push lane**, which takes rows of other masters
//! together, and to rounds of sync.
//!
//! BOUND-1: each queue is bounded in requests, those of writes and pushes in bytes too; each
//! request carries a deadline and is not begun after it; what does not fit is refused at once. A
//! connection is dropped after any error that leaves it in doubt (TALK-1), and made anew for the
//! next request.

pub mod batch;
pub mod checked;
pub mod disposable;
mod gather;
pub mod look;
mod pace;
pub mod point;
pub mod pool;
pub mod push;
pub mod read;
pub mod reader;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::partition::{Partition, PartitionError, Status};
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId};

/// A connection that died while nobody used it fails within this when it is used again: then what
/// was asked is asked once more, over a new one. A partition that does not answer takes longer, and
/// is not asked again on behalf of those whose time is over.
pub const DEAD_AT_ONCE: Duration = Duration::from_secs(1);

/// Makes connections to one partition whose identity has been checked.
pub trait Connect: Send + Sync {
    /// A new connection.
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError>;

    /// A connection has met damage. Where the partition can be made anew, the next connection does
    /// so; else nothing follows from it.
    fn tell_damaged(&self) {}

    /// A connection was looked at: what its status tells, and what else may be asked for now.
    fn looked(&self, _: &mut dyn Partition, _: &Status) -> Result<(), PartitionError> {
        Ok(())
    }

    /// Sets the partition aside where its database is an older copy that was put back, so that no
    /// other front end goes on with it either; what tells so.
    fn set_aside_if_put_back(&self) -> Result<Option<PartitionError>, PartitionError> {
        Ok(None)
    }

    /// A connection that had been used was lost: its server has ended, or takes no writes any more,
    /// and where the way leads to may be another one by now.
    fn tell_lost(&self) {}

    /// How often that was told: whoever keeps a connection from before makes it anew.
    fn losses(&self) -> u64 {
        0
    }
}

/// Where lanes, and looks at partitions, have the topology from. What is read is published: the
/// snapshot that everybody routes by.
pub trait Topologies: Send + Sync {
    /// Reads it by quorum; `None`: no quorum answers.
    fn read(&self) -> Option<Arc<Topology>>;

    /// Reads it until it is at `clock`, an epoch that was met at a partition, or for as long as a
    /// change of ownership may take.
    fn past(&self, clock: Epoch) -> Option<Arc<Topology>>;

    /// The snapshot, and the instant before the reading by quorum began that told it.
    fn snapshot(&self) -> (Arc<Topology>, Duration);
}

/// A topology that nobody changes.
impl Topologies for ArcSwap<Topology> {
    fn read(&self) -> Option<Arc<Topology>> {
        Some(self.load_full())
    }

    fn past(&self, _: Epoch) -> Option<Arc<Topology>> {
        Some(self.load_full())
    }

    fn snapshot(&self) -> (Arc<Topology>, Duration) {
        (self.load_full(), Duration::MAX)
    }
}

/// Why a lane has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaneError {
    /// Too much is waiting; nothing was done.
    #[error("too many requests are waiting")]
    Overloaded,
    /// The deadline passed while the request waited; nothing was done.
    #[error("the deadline passed while the request waited")]
    DeadlinePassed,
    /// The lane has stopped; nothing was done.
    #[error("the lane has stopped")]
    Stopped,
    /// The key has another master: route again; nothing was done.
    #[error("partition {partition} is not the master of this key")]
    Moved {
        /// The partition that was asked.
        partition: PartitionId,
    },
    /// Certainly without effect.
    #[error("the partition failed")]
    Failed(#[source] Arc<PartitionError>),
    /// Sent, and no answer came.
    #[error("the outcome is unknown")]
    OutcomeUnknown(#[source] Arc<PartitionError>),
}

/// The bounds of a partition's lanes.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Requests that may wait in one queue: a second's work of a fast server.
    pub queue_max: usize,
    /// Bytes of values that may wait in a write queue.
    pub queue_bytes_max: usize,
    /// Writes in one transaction: what the batches of a few clients bring at once. Beyond it the
    /// flush no longer dominates, and whoever waits for the fence waits longer.
    pub batch_rows_max: usize,
    /// Merges in one transaction: each holds the value that stands and the one that it becomes,
    /// both of any size up to the largest.
    pub batch_merges_max: usize,
    /// Bytes in one transaction, but for a single larger write.
    pub batch_bytes_max: usize,
    /// Threads of a read lane.
    pub read_threads: usize,
    /// Threads of a write lane, thus transactions that may be under way at once: one at work, one
    /// on its way to the disk.
    pub write_threads: usize,
}

impl LaneLimits {
    /// The same for a lane whose engine writes one transaction after the other.
    pub const fn writing_alone(self) -> Self {
        Self { write_threads: 1, ..self }
    }
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self {
            queue_max: 4096,
            queue_bytes_max: 64 << 20,
            batch_rows_max: 1024,
            batch_merges_max: 8,
            batch_bytes_max: 8 << 20,
            read_threads: 2,
            write_threads: 2,
        }
    }
}

/// A monotonic instant, as [`crate::clock::Clock::monotonic`] tells it, after which a request is
/// not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Duration);
