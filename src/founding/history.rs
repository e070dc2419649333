//! What others know of a partition's past, by which a copy that was put back shows.
//!
//! Nobody holds what is not durable at its origin (BAR-1), so a cursor never lies above its
//! origin's clock (CUR-1), crash or no crash. Where it does, the origin's database is older than it
//! was: somebody has put a copy back. To go on with it would give versions again that others have
//! seen (VER-1). It is asked for at every connection, before anything else is done over it.
//!
//! What is not found: a copy put back while nobody who has more of it can be asked, which has gone
//! past them by the time that they can. The way to restore is `datastore init --restored`
//! ([`super::restored`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::Status;
use crate::rules::Rule;
use crate::version::{PartitionId, Version};

/// The greatest versions of each partition that others were seen to hold.
#[derive(Debug, Default)]
pub struct History(Mutex<BTreeMap<PartitionId, Version>>);

impl History {
    /// Notes what a partition has of others.
    pub fn note(&self, status: &Status) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (origin, version) in status.vector.iter().filter(|(id, _)| *id != status.partition) {
            let place = known.entry(origin).or_default();
            *place = version.max(*place);
        }
    }

    /// What others have of a partition and it has never given, by its own account, which was asked
    /// for after theirs: then it is a copy that was put back.
    pub fn beyond(&self, status: &Status) -> Option<Version> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&status.partition).copied()?;
        (known > clock(status) && Rule::PutBack.in_force()).then_some(known)
    }
}

/// The last version that a partition gave.
pub fn clock(status: &Status) -> Version {
    status.vector.get(status.partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ReseedNumber;
    use crate::vector::Vector;
    use crate::version::{Epoch, RunId, Seq};

    fn version(seq: u64) -> Version {
        Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
    }

    fn status(id: u16, places: &[(u16, u64)]) -> Status {
        let vector: Vector =
            places.iter().map(|&(id, seq)| (PartitionId(id), version(seq))).collect();
        Status {
            partition: PartitionId(id),
            run: RunId(0),
            epoch: Epoch::FIRST,
            seq: Seq::ZERO,
            vector,
            floors: Vector::new(),
            heads: Vector::new(),
            reseed: ReseedNumber(0),
            reseeding: false,
        }
    }

    #[test]
    fn a_partition_below_what_others_have_of_it_was_put_back() {
        let history = History::default();
        assert_eq!(history.beyond(&status(1, &[(1, 5)])), None, "nothing is known");
        history.note(&status(2, &[(1, 9), (2, 3)]));
        history.note(&status(3, &[(1, 7), (2, 3)]));
        assert_eq!(history.beyond(&status(1, &[(1, 8)])), Some(version(9)));
        assert_eq!(history.beyond(&status(1, &[(1, 9)])), None);
        assert_eq!(history.beyond(&status(1, &[])), Some(version(9)), "emptied");
        // Its own account counts for nothing.
        assert_eq!(history.beyond(&status(2, &[(2, 3), (1, 100)])), None);
        assert_eq!(history.beyond(&status(3, &[])), None);
    }
}
