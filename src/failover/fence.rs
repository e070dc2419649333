//! Fencing: whose clocks are raised before ownership changes, and how many have to be.

use std::collections::{BTreeMap, BTreeSet};

use super::{FailoverError, failed};
use crate::partition::Status;
use crate::register::{Reach, ask};
use crate::rules::Rule;
use crate::topology::{Topology, Voter};
use crate::version::{Epoch, PartitionId};

/// Those whose clocks stand at an epoch of one change, and what each said of itself since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The epoch.
    pub epoch: Epoch,
    /// Where each of them stood after it was fenced.
    pub standing: BTreeMap<PartitionId, Status>,
}

/// Of `voters` data voters so many have to be fenced, that every majority has one of them.
pub const fn needed(voters: usize) -> usize {
    voters - (voters / 2 + 1) + 1
}

/// Whether those that can be asked are enough, of the voters and, until a change of them is
/// settled, of those before. Whoever was retired in between cannot be asked.
pub fn are_enough(
    topology: &Topology,
    lost: PartitionId,
    asked: &BTreeSet<PartitionId>,
) -> Result<(), FailoverError> {
    let mut electorates: Vec<BTreeSet<PartitionId>> =
        vec![topology.data_voters().map(|voter| voter.id).collect()];
    if !topology.previous().is_empty() && Rule::FenceBefore.in_force() {
        let before = topology.previous().iter().filter(|voter| voter.counts_as_holder());
        electorates.push(before.map(|voter| voter.id).collect());
    }
    for holders in electorates {
        let fenced = holders.iter().filter(|id| **id != lost && asked.contains(id)).count();
        let needed = needed(holders.len());
        if fenced < needed {
            return Err(FailoverError::TooFew { fenced, needed });
        }
    }
    Ok(())
}

/// Who may be fenced for the loss of `lost`, as far as they answer.
pub fn holders(
    reach: &mut dyn Reach,
    topology: &Topology,
    lost: PartitionId,
) -> BTreeMap<PartitionId, Status> {
    let others = topology.data_voters().filter(|voter| voter.id != lost);
    let others: Vec<&Voter> = others.filter(|voter| voter.state.is_source()).collect();
    let mut standing = BTreeMap::new();
    for voter in others {
        match ask(reach, voter, |partition| partition.status()) {
            Ok(status) if !status.reseeding => drop(standing.insert(voter.id, status)),
            Ok(_) => {}
            Err(error) => tracing::debug!(partition = %voter.name, %error, "cannot be asked"),
        }
    }
    standing
}

/// Raises the clocks of `ids` to `epoch`; whoever does not answer is left out.
pub fn fence(
    reach: &mut dyn Reach,
    topology: &Topology,
    ids: &BTreeSet<PartitionId>,
    epoch: Epoch,
) -> Result<Fenced, FailoverError> {
    let mut fenced = Fenced { epoch, standing: BTreeMap::new() };
    for voter in topology.voters().iter().filter(|voter| ids.contains(&voter.id)) {
        let raised = ask(reach, voter, |partition| {
            if Rule::FenceFirst.in_force() {
                partition.raise(epoch)?;
            }
            partition.status()
        });
        match raised {
            Ok(status) if status.epoch > epoch => return Err(FailoverError::Overtaken),
            Ok(status) => drop(fenced.standing.insert(voter.id, status)),
            Err(error) => tracing::debug!(partition = %voter.name, %error, "was not fenced"),
        }
    }
    Ok(fenced)
}

/// Whether all are still where they were fenced: else another change goes first.
pub fn stand(
    reach: &mut dyn Reach,
    topology: &Topology,
    fenced: &Fenced,
) -> Result<(), FailoverError> {
    if !Rule::FenceFirst.in_force() {
        return Ok(());
    }
    let ids = fenced.standing.keys();
    for voter in ids.filter_map(|id| topology.voter(*id)) {
        let epoch = ask(reach, voter, |partition| Ok(partition.status()?.epoch));
        if epoch.map_err(failed(voter))? != fenced.epoch {
            return Err(FailoverError::Overtaken);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn every_majority_has_one_that_was_fenced() {
        let of = |voters: usize| (needed(voters), voters);
        assert_eq!([of(2), of(3), of(4), of(5)], [(1, 2), (2, 3), (2, 4), (3, 5)]);
        for voters in 1..20_usize {
            let majority = voters / 2 + 1;
            assert!(needed(voters) + majority > voters, "{voters}");
            assert!(needed(voters) - 1 + majority <= voters, "{voters}: more than it takes");
        }
    }
}
