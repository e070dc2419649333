//! Waiting for a write that is on its master's lane: for its answer, for its deadline, or for the
//! news that its key has another master.
//!
//! A master that stands still, or whose answers are lost, is replaced within seconds, and what
//! waits for it would wait in vain until its deadline. So whoever waits looks again and again whose
//! the key is. What was not begun is withdrawn from the lane and routed once more; what was begun
//! has an unknown outcome, which is told soon.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Store;
use super::answer::StoreError;
use super::lanes::Lanes;
use crate::lane::write::{Answer, Pending};
use crate::lane::{Deadline, LaneError};
use crate::record::Key;
use crate::write::Write;

/// How often a write that waits looks whose its key is: a small part of what a takeover takes.
const LOOK: Duration = Duration::from_millis(50);
/// How long a write that was begun may still take once its key has another master. In a planned
/// change the old one is well, and answers at once.
const AFTERWARDS: Duration = Duration::from_millis(500);

impl Store {
    /// Puts a write on the lane of its master and waits for what becomes of it.
    pub(super) async fn submit(
        &self,
        lanes: &Lanes,
        write: Write,
        deadline: Deadline,
    ) -> Result<Answer, StoreError> {
        let lane = lanes.write.as_ref().expect("masters are voters, and those have write lanes");
        let key = write.key.clone();
        match lane.submit(write, deadline) {
            Ok(pending) => self.wait_for(pending, lanes, &key, deadline).await,
            Err(error) => Ok(Err(error)),
        }
    }

    async fn wait_for(
        &self,
        mut pending: Pending,
        lanes: &Lanes,
        key: &Key,
        deadline: Deadline,
    ) -> Result<Answer, StoreError> {
        let serving = &lanes.served.serving;
        let mut left = deadline.0.saturating_sub(self.clock.monotonic());
        let mut is_moved = false;
        while !left.is_zero() {
            let step = left.min(LOOK);
            if let Ok(answer) = timeout(step, &mut pending).await {
                return Ok(answer.unwrap_or(Err(LaneError::Stopped)));
            }
            left -= step;
            if !is_moved && self.topology.load().master_of(key) != serving.id {
                if pending.withdraw() {
                    return Ok(Err(LaneError::Moved { partition: serving.id }));
                }
                is_moved = true;
                left = left.min(AFTERWARDS);
            }
        }
        if pending.withdraw() {
            return Ok(Err(LaneError::DeadlinePassed));
        }
        // It runs: nobody can say whether it will stand.
        Err(StoreError::OutcomeUnknown { partition: Arc::clone(&serving.name) })
    }
}
