//! Acknowledgement by more than the master: what was written is pushed to the other data voters.
//!
//! Pushes begin once the master's commit has returned (BAR-1), go to all others at once over their
//! read lanes, and end with `ack_timeout`. One that has not begun by then is dropped; the sync job
//! brings the row in any case.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Store;
use super::answer::{Ack, Acks};
use super::lanes::Lanes;
use crate::ack::{self, Tally};
use crate::lane::Deadline;
use crate::session::SessionError;
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
        let others = topology.data_voters().filter(|voter| voter.id != row.origin);
        let others: Vec<&Lanes> = others.filter_map(|voter| self.lanes.get(&voter.id)).collect();
        let mut tally = Tally::new(others.len(), awaited);
        let deadline = Deadline(self.clock.monotonic() + self.ack_timeout);
        let (tell, mut told) = mpsc::channel(others.len().max(1));
        let mut answers = Vec::with_capacity(others.len());
        for lanes in &others {
            let (row, topology, tell) = (row.clone(), topology.clone(), tell.clone());
            answers.push(lanes.read.submit(deadline, move |reader| {
                let pushed = ack::push(reader.partition.as_mut(), &row, &topology);
                // Nobody may be waiting any more; there is room for all.
                let _ = tell.try_send(pushed.is_ok());
                pushed.map_err(SessionError::from)
            }));
        }
        // Who cannot even be reached drops its sender: the channel ends when nobody is left.
        drop(tell);
        count(&mut tally, &mut told, self.ack_timeout).await;
        for (lanes, answer) in others.iter().zip(answers) {
            let answered = answer.ok().and_then(|mut answer| answer.try_recv().ok());
            if let Some(Ok(Err(SessionError::Partition(error)))) = answered {
                lanes.note(Some(error.in_public()));
            }
        }
        Acks { held: tally.held(), needed, voters }
    }
}

/// Counts until the verdict is clear, nobody is left, or time is up.
async fn count(tally: &mut Tally, told: &mut mpsc::Receiver<bool>, patience: Duration) {
    let counting = async {
        while tally.verdict().is_none() {
            match told.recv().await {
                Some(held) => tally.note(held),
                None => return,
            }
        }
    };
    // What is not told by then does not count.
    drop(tokio::time::timeout(patience, counting).await);
}
