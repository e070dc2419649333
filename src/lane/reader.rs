//! A connection for reading, kept for whoever comes next.

use std::time::Duration;

use super::{Connect, DEAD_AT_ONCE};
use crate::clock::Clock;
use crate::partition::{Partition, PartitionError};
use crate::session::{Seen, SessionError};

/// A connection with what is known over it.
pub struct Reader {
    /// The connection.
    pub partition: Box<dyn Partition + Send>,
    /// The vector that was last read over it.
    pub seen: Seen,
    /// The monotonic instant at which the connection stood.
    pub since: Duration,
    /// How many connections had been lost before it was made.
    losses: u64,
    keeps_points: bool,
}

impl Reader {
    /// A new connection, over which nothing is known.
    pub(super) fn connect(
        connect: &dyn Connect,
        clock: &dyn Clock,
    ) -> Result<Self, PartitionError> {
        let losses = connect.losses();
        let partition = connect.connect()?;
        let since = clock.monotonic();
        Ok(Self { partition, seen: Seen::default(), since, losses, keeps_points: false })
    }

    /// The connection is for point reads from here on.
    pub(super) fn keep_points(&mut self, bytes_max: usize) -> Result<(), PartitionError> {
        if !self.keeps_points {
            self.partition.keep_points(bytes_max)?;
            self.keeps_points = true;
        }
        Ok(())
    }

    /// Whether no connection of the partition was lost since it was made: that server may have
    /// ended all of them, or it may not be the one any more that others are led to.
    pub(super) fn is_of_now(&self, connect: &dyn Connect) -> bool {
        self.losses == connect.losses()
    }
}

/// An error that may be the partition's.
pub trait Failure: From<PartitionError> {
    /// What the partition said.
    fn of_partition(&self) -> Option<&PartitionError>;
}

impl Failure for PartitionError {
    fn of_partition(&self) -> Option<&PartitionError> {
        Some(self)
    }
}

impl Failure for SessionError {
    fn of_partition(&self) -> Option<&PartitionError> {
        match self {
            Self::Partition(error) => Some(error),
            Self::NotCovered { .. } => None,
        }
    }
}

/// What the partition said, if that is what went wrong.
pub(super) fn failed<T, E: Failure>(result: &Result<T, E>) -> Option<&PartitionError> {
    result.as_ref().err()?.of_partition()
}

/// Runs `read` over the connection in `slot`, made first where there is none, and kept unless the
/// read left it in doubt (TALK-1). A connection that stood idle may have died with its server: that
/// shows at once, and the read is made once more, over a new one. A partition that takes its time
/// to fail is not asked again: it would only take it once more (BOUND-1). Whoever else keeps a
/// connection of the partition is told. It is `began` now.
pub(super) fn with_reader<T, E: Failure>(
    slot: &mut Option<Reader>,
    connect: &dyn Connect,
    (clock, began): (&dyn Clock, Duration),
    mut read: impl FnMut(&mut Reader) -> Result<T, E>,
) -> Result<T, E> {
    if let Some(mut reader) = slot.take().filter(|reader| reader.is_of_now(connect)) {
        let result = read(&mut reader);
        let is_prompt = || clock.monotonic().saturating_sub(began) < DEAD_AT_ONCE;
        let is_lost = failed(&result).is_some_and(PartitionError::lost_connection);
        if is_lost {
            connect.tell_lost();
        }
        if !is_lost || !is_prompt() {
            return keep(slot, reader, told(connect, result));
        }
    }
    let mut reader = Reader::connect(connect, clock)?;
    let result = read(&mut reader);
    keep(slot, reader, told(connect, result))
}

/// Tells of damage where something may be done about it.
fn told<T, E: Failure>(connect: &dyn Connect, result: Result<T, E>) -> Result<T, E> {
    if matches!(failed(&result), Some(PartitionError::Damaged { .. })) {
        connect.tell_damaged();
    }
    result
}

fn keep<T, E: Failure>(
    slot: &mut Option<Reader>,
    reader: Reader,
    result: Result<T, E>,
) -> Result<T, E> {
    if failed(&result).is_none_or(PartitionError::keeps_connection) {
        *slot = Some(reader);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Manual;
    use crate::partition::engine::Engine;
    use crate::partition::memory::Memory;
    use crate::version::RunId;

    impl Connect for Memory {
        fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
            Engine::connect(self)
        }
    }

    fn now(clock: &dyn Clock) -> (&dyn Clock, Duration) {
        (clock, clock.monotonic())
    }

    /// How often a read is made whose first try fails so, after so long, over a connection that
    /// stood idle; and whether a connection stands afterwards.
    fn tries(first: impl Fn() -> PartitionError, after_ms: u32) -> (usize, bool) {
        let clock = Arc::new(Manual::at(0));
        let memory = Memory::new(RunId(1), Arc::clone(&clock) as _);
        let mut slot = Some(Reader::connect(&memory, clock.as_ref()).unwrap());
        let mut tries = 0;
        let result: Result<(), PartitionError> =
            with_reader(&mut slot, &memory, now(clock.as_ref()), |_| {
                tries += 1;
                if tries > 1 {
                    return Ok(());
                }
                clock.advance_ms(after_ms);
                Err(first())
            });
        assert_eq!(result.is_ok(), tries == 2);
        (tries, slot.is_some())
    }

    #[test]
    fn only_what_was_dead_at_once_is_asked_again() {
        let gone = || PartitionError::Unreachable("planted".into());
        assert_eq!(tries(gone, 0), (2, true));
        assert_eq!(tries(gone, 999), (2, true));
        assert_eq!(tries(gone, 1_000), (1, false), "BOUND-1: it would take as long again");
        assert_eq!(tries(|| PartitionError::Busy("planted".into()), 0), (1, true));
        let refused = || PartitionError::Engine { statement: "x", source: "planted".into() };
        assert_eq!(tries(refused, 0), (1, false), "TALK-1");
    }

    #[test]
    fn a_new_connection_that_fails_is_not_made_anew() {
        let clock: Arc<dyn Clock> = Arc::new(Manual::at(0));
        let memory = Memory::new(RunId(1), Arc::clone(&clock));
        let (mut slot, mut tries) = (None, 0);
        let result: Result<(), PartitionError> =
            with_reader(&mut slot, &memory, now(clock.as_ref()), |_| {
                tries += 1;
                Err(PartitionError::Unreachable("planted".into()))
            });
        assert!(result.is_err() && tries == 1 && slot.is_none());
    }
}
