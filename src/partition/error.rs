//! Why a partition did not do what was asked.

use super::acceptor::Ballot;
use crate::record::Key;
use crate::version::{Epoch, PartitionId};

/// Why a partition would not do what was asked: nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The clock's epoch is not that of the request.
    #[error("fenced: the partition's clock is at epoch {clock}")]
    Fenced {
        /// The epoch of the clock.
        clock: Epoch,
    },
    /// A cursor is below where the page started.
    #[error("the page starts above the cursor of origin {origin}: another pass was here")]
    CursorMoved {
        /// Whose cursor.
        origin: PartitionId,
    },
    /// The source is below a floor of the target.
    #[error("the source is below the floor of origin {origin}: it never saw what was collected")]
    SourceBelowFloor {
        /// Whose floor.
        origin: PartitionId,
    },
    /// The reader is below a floor of this partition.
    #[error("the position is below the floor of origin {origin}: its log has been trimmed")]
    BelowFloor {
        /// Whose floor.
        origin: PartitionId,
    },
    /// A reseed began in between, or is under way.
    #[error("the partition is being reseeded, or was since the request began")]
    Reseeding,
    /// A voter that was made is never emptied.
    #[error("the partition was made already, and may count as a voter")]
    Made,
    /// The server was restarted since.
    #[error("the server has been restarted since the connection was made")]
    RunEnded,
    /// 44 bits of sequence are used up.
    #[error("the partition has given its last sequence number")]
    SequenceExhausted,
    /// A higher ballot was promised, or accepted, since.
    #[error("outbid: the acceptor has promised round {}", promised.round)]
    Outbid {
        /// What it has promised.
        promised: Ballot,
    },
    /// The acceptor is not the one that the topology lists: it may have forgotten its promises.
    #[error("the acceptor has another incarnation than the topology lists")]
    OtherIncarnation,
    /// The database holds nothing.
    #[error("the database holds no partition; run `datastore init`")]
    Empty,
}

/// An error of the outside world, boxed where the engine's type is nobody else's business.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a transaction did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// It would not: nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be asked: nothing has changed.
    #[error("the partition cannot be reached")]
    Unreachable(#[source] Source),
    /// It was asked and did not answer: anything may have happened.
    #[error("the partition did not answer; what was asked may have happened")]
    OutcomeUnknown(#[source] Source),
    /// An older copy of the partition's database stands in its place: nothing has changed.
    #[error("an older copy of the database was put back")]
    PutBack(#[source] Source),
    /// Locked by others for too long: nothing has changed.
    #[error("the partition is busy")]
    Busy(#[source] Source),
    /// No room: nothing has changed.
    #[error("the partition has no room left")]
    Full(#[source] Source),
    /// It serves reads and takes no writes, because somebody set it so: nothing has changed.
    #[error("the partition is set read only: make its server, or its file, writable again")]
    ReadOnly(#[source] Source),
    /// It answers, and it is not the database that was configured: nothing has changed.
    #[error("the database is not the configured partition")]
    Foreign(#[source] Source),
    /// One row is not what was stored: nothing has changed, and all other rows are as they were.
    #[error("row {key:?} is damaged: {what}")]
    DamagedRow {
        /// Which row.
        key: Key,
        /// What contradicts.
        what: String,
    },
    /// What is stored contradicts itself.
    #[error("the partition is damaged: {what}")]
    Damaged {
        /// What contradicts.
        what: String,
    },
    /// The engine refused a statement: nothing has changed.
    #[error("the engine refused `{statement}`")]
    Engine {
        /// The name of the statement.
        statement: &'static str,
        /// What the engine said.
        #[source]
        source: Source,
    },
}

impl PartitionError {
    /// Whether the connection is still good for another transaction. Over one to a server that was
    /// set read only nothing would ever be written again, although the way may lead to another by
    /// now.
    pub const fn keeps_connection(&self) -> bool {
        match self {
            Self::Refused(Refusal::RunEnded)
            | Self::Unreachable(_)
            | Self::OutcomeUnknown(_)
            | Self::ReadOnly(_) => false,
            Self::Refused(_) | Self::Busy(_) | Self::DamagedRow { .. } | Self::Full(_) => true,
            Self::Foreign(_) | Self::PutBack(_) | Self::Damaged { .. } | Self::Engine { .. } => {
                false
            }
        }
    }

    /// Whether another database stands where the partition's should be, or an older copy of it:
    /// somebody has to put the right one there.
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_) | Self::PutBack(_))
    }

    /// Whether the way to the partition broke, or leads to a server that writes no more: over a new
    /// connection it may be otherwise at once.
    pub const fn lost_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::OutcomeUnknown(_)
                | Self::ReadOnly(_)
                | Self::Refused(Refusal::RunEnded)
        )
    }

    /// What is wrong, in words that anybody may read: nothing of hosts, users or statements.
    pub const fn in_public(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::OutcomeUnknown(_) => "does not answer",
            Self::Foreign(_) => "is another database",
            Self::PutBack(_) => PUT_BACK,
            Self::Busy(_) => "busy",
            Self::Full(_) => "full",
            Self::ReadOnly(_) => "read only",
            Self::DamagedRow { .. } => "a row is damaged",
            Self::Damaged { .. } => "damaged",
            Self::Engine { .. } => "refuses a statement",
        }
    }

    /// Whether nothing was changed for certain.
    pub const fn is_without_effect(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown(_))
    }
}

/// What anybody may know of a partition whose database is an older copy.
pub const PUT_BACK: &str = "is an older copy that was put back";
