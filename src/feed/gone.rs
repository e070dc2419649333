//! What nobody has any more: positions that lead there are told to begin again.
//!
//! A master that was lost may have given followers what its successor never saw (H16, K4). As long
//! as it may come back, and once it is retired for good, whoever has seen such a version has seen
//! what the store does not hold.

use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// Versions of one origin that are on nobody who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Whose.
    pub origin: PartitionId,
    /// Those above this one.
    pub above: Version,
    /// And below this one; `None`: all of them.
    pub below: Option<Version>,
}

impl Gone {
    /// All that `topology` says of lost and retired origins, where `best` is how far anybody who
    /// answers has an origin's log.
    pub fn of(topology: &Topology, best: impl Fn(PartitionId) -> Version) -> Vec<Self> {
        let retired = topology.retired().iter().map(|&origin| Self {
            origin,
            above: best(origin),
            below: None,
        });
        let cuts = topology.cuts();
        let cut_off = cuts.iter().filter(|cut| topology.voter(cut.origin).is_some());
        let cut_off = cut_off.map(|cut| {
            let above = cut.upto.max(best(cut.origin));
            Self { origin: cut.origin, above, below: Some(cut.end()) }
        });
        let all = retired.chain(cut_off);
        all.filter(|gone| gone.below.is_none_or(|below| gone.above < below)).collect()
    }

    /// Whether whoever has come here has seen such versions.
    pub fn takes(&self, position: &Vector) -> bool {
        let seen = position.get(self.origin);
        seen > self.above && self.below.is_none_or(|below| seen < below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Role;
    use crate::version::{Epoch, Seq};

    const A: PartitionId = PartitionId(1);

    fn version(epoch: u32, seq: u64) -> Version {
        Version::new(Epoch::new(epoch).unwrap(), Seq::new(seq).unwrap())
    }

    fn takes(topology: &Topology, best: Version, seen: Version) -> bool {
        let position = Vector::from_iter([(A, seen)]);
        Gone::of(topology, |_| best).iter().any(|gone| gone.takes(&position))
    }

    #[test]
    fn what_only_a_lost_master_had_is_gone_until_it_is_back() {
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), Role::Master));
        let first = Topology::found(&names.into()).unwrap();
        let epoch = |number| Epoch::new(number).unwrap();
        let taken = first.take_over(A, PartitionId(2), version(1, 10), epoch(3)).unwrap();
        for (seen, gone) in [((1, 10), false), ((1, 11), true), ((2, 40), true), ((3, 1), false)] {
            let seen = version(seen.0, seen.1);
            assert!(!takes(&first, version(1, 10), seen));
            assert_eq!(takes(&taken, version(1, 10), seen), gone, "{seen}");
            assert!(!takes(&taken, version(3, 41), seen), "it is back");
        }
        let retired = taken.retire(A, epoch(4)).unwrap();
        assert!(takes(&retired, version(1, 10), version(3, 1)), "nobody will ever have it");
        assert!(!takes(&retired, version(1, 10), version(1, 9)));
    }
}
