//! Acknowledgement by more than the master: rows are pushed ahead of the log.
//!
//! Pushes start once the master's commit has returned, so that no other partition holds what a
//! crash of the master can take back (BAR-1). A majority counts against *all* data voters, those
//! that are down included.

use crate::partition::{Partition, Push, Refusal, Result};
use crate::record::Record;
use crate::rules::Rule;
use crate::topology::Topology;

/// Pushes rows that their masters have committed to another data voter; `Ok`: they are held there,
/// durably. A row that is late under `topology` is refused: its master was lost since it committed,
/// its successor goes on without the row, and what is held of it is an entry of the ledger. Under
/// the topology of its commit the fence would have refused it.
pub fn push(target: &mut dyn Partition, rows: &[Record], topology: &Topology) -> Result<()> {
    let is_late = |row| topology.cuts().make_late(row);
    if rows.iter().any(is_late) && Rule::LateUncounted.in_force() {
        return Err(Refusal::Fenced { clock: topology.epoch() }.into());
    }
    let status = target.status()?;
    if status.epoch < topology.epoch() && Rule::RaiseClock.in_force() {
        target.raise(topology.epoch())?;
    }
    let push = Push {
        rows: rows.to_vec(),
        epoch: topology.epoch(),
        reseed: status.reseed,
        cuts: topology.cuts(),
    };
    target.push(&push)
}

/// Counts who holds a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    held: usize,
    outstanding: usize,
    needed: usize,
}

impl Tally {
    /// The master holds it; `others` are still asked; `needed` in all make the acknowledgement.
    pub const fn new(others: usize, needed: usize) -> Self {
        Self { held: 1, outstanding: others, needed }
    }

    /// One of the others has answered.
    pub const fn note(&mut self, held: bool) {
        self.outstanding -= 1;
        if held {
            self.held += 1;
        }
    }

    /// `Some(true)`: acknowledged; `Some(false)`: it cannot be any more; `None`: wait.
    pub const fn verdict(&self) -> Option<bool> {
        if self.held >= self.needed {
            Some(true)
        } else if self.outstanding == 0 {
            Some(false)
        } else {
            None
        }
    }

    /// How many hold it.
    pub const fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Manual;
    use crate::partition::PartitionError;
    use crate::partition::engine::Engine as _;
    use crate::partition::memory::Memory;
    use crate::record::{Key, Space};
    use crate::topology::Role;
    use crate::version::{Epoch, PartitionId, RunId, Seq, Version};

    fn is_fenced(error: &PartitionError, by: Epoch) -> bool {
        matches!(error, PartitionError::Refused(Refusal::Fenced { clock }) if *clock == by)
    }

    /// Found by the simulation: committed at a master, which was lost before the push began. The
    /// push went out under the topology of the takeover, so no fence refused it, and a majority
    /// held it: in the ledger.
    #[test]
    fn a_row_whose_master_was_lost_since_is_held_by_nobody() {
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), Role::Master));
        let founded = Topology::found(&names.into()).unwrap();
        let key = Key::stored(Space::Data, "k");
        let lost = founded.master_of(&key);
        let successor = PartitionId(lost.0 % 3 + 1);
        let at = |seq| Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        let epoch = founded.epoch().next();
        let topology = founded.take_over(lost, successor, at(4), epoch).unwrap();
        let clock = Arc::new(Manual::at(0));
        let mut target = Memory::new(RunId(1), clock).connect().unwrap();
        let mut pushed = |seq| {
            let row = Record::new(key.clone(), at(seq), lost, None);
            push(target.as_mut(), &[row], &topology).unwrap_err()
        };
        assert!(is_fenced(&pushed(5), epoch), "LOSS-1");
        // The successor has it: this one is asked, and is empty.
        assert!(!is_fenced(&pushed(4), epoch));
    }

    #[test]
    fn a_majority_counts_all_data_voters() {
        let mut tally = Tally::new(2, 2);
        assert_eq!(tally.verdict(), None);
        tally.note(false);
        assert_eq!(tally.verdict(), None);
        tally.note(true);
        assert_eq!((tally.verdict(), tally.held()), (Some(true), 2));
        let mut alone = Tally::new(1, 2);
        alone.note(false);
        assert_eq!(alone.verdict(), Some(false));
    }
}
