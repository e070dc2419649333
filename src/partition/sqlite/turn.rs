//! Who of this process writes next: first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::partition::{PartitionError, Result};

/// The queue of writers of one file; the first in it is the one that writes.
#[derive(Debug, Default)]
pub(super) struct Turn {
    queue: Mutex<Queue>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<u64>,
}

/// Nobody ahead came to an end in time.
#[derive(Debug, thiserror::Error)]
#[error("{ahead} writers of this process are ahead")]
struct NotInTime {
    ahead: usize,
}

impl Turn {
    /// Waits until all who came before are done; [`PartitionError::Busy`] after `limit`.
    pub(super) fn take(&self, limit: Duration) -> Result<TurnGuard<'_>> {
        let mut queue = self.lock();
        let own = queue.next;
        queue.next += 1;
        queue.waiting.push_back(own);
        let waits = |queue: &mut Queue| queue.waiting.front() != Some(&own);
        let waited = self.moved.wait_timeout_while(queue, limit, waits);
        let (mut queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && queue.waiting.front() != Some(&own) {
            let ahead = queue.waiting.iter().take_while(|&&other| other != own).count();
            queue.waiting.retain(|&other| other != own);
            return Err(PartitionError::Busy(Box::new(NotInTime { ahead })));
        }
        Ok(TurnGuard(self))
    }

    /// Nothing panics while it holds this lock, so a poisoned queue is a whole one.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the turn when dropped.
#[derive(Debug)]
pub(super) struct TurnGuard<'a>(&'a Turn);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting.pop_front();
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_guard_and_a_late_one_leaves_the_queue() {
        let turn = Turn::default();
        let guard = turn.take(Duration::ZERO).unwrap();
        let refused = turn.take(Duration::from_millis(1));
        assert!(matches!(refused, Err(PartitionError::Busy(_))), "{refused:?}");
        drop(guard);
        assert!(turn.take(Duration::ZERO).is_ok());
        assert!(turn.lock().waiting.is_empty());
    }

    #[test]
    fn one_at_a_time() {
        let turn = Turn::default();
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let _guard = turn.take(Duration::from_secs(60)).unwrap();
                        let _alone = inside.try_lock().expect("two turns at once");
                    }
                });
            }
        });
    }
}
