//! Acknowledgement by more than the master: rows are pushed ahead of the log.
//!
//! Pushes start once the master's commit has returned, so that no other partition holds what a
//! crash of the master can take back (BAR-1). A majority counts against *all* data voters, those
//! that are down included.

use crate::partition::{Partition, Push, Result};
use crate::record::Record;
use crate::rules::Rule;
use crate::topology::Topology;

/// Pushes rows that their masters have committed under `topology` to another data voter; `Ok`: they
/// are held there, durably.
pub fn push(target: &mut dyn Partition, rows: &[Record], topology: &Topology) -> Result<()> {
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
    use super::*;

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
