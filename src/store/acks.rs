//! Acknowledgement by more than the master: what was written is pushed to the other data voters.
//!
//! Pushes begin once the master's commit has returned (BAR-1), go to all others at once over their
//! push lanes, and end with `ack_timeout`. One that has not begun by then is dropped; the sync job
//! brings the row in any case.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot::Receiver;

use super::Store;
use super::answer::{Ack, Acks};
use super::lanes::Lanes;
use crate::ack::Tally;
use crate::lane::push::Answer;
use crate::lane::{Deadline, LaneError};
use crate::version::PartitionId;
use crate::write::{Outcome, Write};

impl Store {
    /// Has so many data voters hold what `write` has left at its master.
    pub(super) async fn acknowledge(
        &self,
        write: &Write,
        outcome: &Outcome,
        master: PartitionId,
        ack: Ack,
    ) -> Acks {
        let topology = self.topology.load_full();
        let voters = topology.data_voters().count();
        // How many must hold it, and how many are waited for.
        let (needed, awaited) = match ack {
            Ack::One => (1, 1),
            Ack::Majority => (topology.majority(), topology.majority()),
            Ack::All => (voters, voters),
            Ack::Reachable => (1, voters),
        };
        // Most writes end here, so nothing is copied before.
        let row = Some(outcome).filter(|_| awaited > 1);
        let Some(row) = row.and_then(|outcome| outcome.row(write, master)) else {
            return Acks { held: 1, needed, voters };
        };
        // Late, thus in the ledger at best: nobody is asked, and nobody else's push waits for it.
        if topology.cuts().make_late(&row) {
            return Acks { held: 1, needed, voters };
        }
        let others = topology.data_voters().filter(|voter| voter.id != row.origin);
        let lanes = self.lanes.load_full();
        let others: Vec<&Lanes> =
            others.filter_map(|voter| lanes.get(&voter.id).map(Arc::as_ref)).collect();
        let mut tally = Tally::new(others.len(), awaited);
        let deadline = Deadline(self.clock.monotonic() + self.ack_timeout);
        let mut asked = Vec::with_capacity(others.len());
        for lanes in others {
            let push = lanes.push.as_ref();
            match push.map(|lane| lane.submit(row.clone(), Arc::clone(&topology), deadline)) {
                Some(Ok(answer)) => asked.push((lanes, answer)),
                Some(Err(_)) | None => tally.note(false),
            }
        }
        // What is not told by then does not count.
        drop(tokio::time::timeout(self.ack_timeout, count(&mut tally, asked)).await);
        Acks { held: tally.held(), needed, voters }
    }
}

/// Counts until the verdict is clear or nobody is left, and notes who fails.
async fn count(tally: &mut Tally, mut asked: Vec<(&Lanes, Receiver<Answer>)>) {
    while tally.verdict().is_none() {
        let next = poll_fn(|context| {
            let mut polled = asked.iter_mut().enumerate();
            let ready =
                polled.find_map(|(nth, (_, answer))| match Pin::new(answer).poll(context) {
                    Poll::Ready(answer) => Some((nth, answer)),
                    Poll::Pending => None,
                });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        let (nth, answer) = next.await;
        let (lanes, _) = asked.swap_remove(nth);
        if let Ok(Err(LaneError::Failed(error))) = &answer {
            lanes.note(Some(error.in_public()));
        }
        tally.note(matches!(answer, Ok(Ok(()))));
    }
}
