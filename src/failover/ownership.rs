//! Ownership: promotion, takeover, and un-fencing forward.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::catch_up::{durable, read_to_end};
use super::fence::{self, Fenced};
use super::{FailoverError, failed, greatest_epoch, raise_all};
use crate::lane::batch;
use crate::partition::Status;
use crate::register::{Proposer, Reach, ask};
use crate::rules::Rule;
use crate::sync::barrier::Barriers;
use crate::topology::slots::Move;
use crate::topology::{Topology, Voter};
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, Version};

/// How often nearly everything is drained before a planned fence: each time what is left is what
/// was written in the meantime.
const DRAINS: u32 = 3;
/// How often a fenced master is read to its end; nobody but other passes comes in between.
const CATCH_UPS: u32 = 4;

/// Gives all slots of a lost master to the voter that has most of what it wrote. `force`: also
/// where so few can be asked that writes which a majority has acknowledged may be lost.
pub fn take_over(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    lost: PartitionId,
    force: bool,
) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    if base.slots_of(lost) == 0 {
        return Err(FailoverError::NothingToMove { id: lost });
    }
    // Before anything is fenced: fencing in vain stops everybody's writes for a moment.
    let told = fence::holders(reach, &base, lost);
    let ids: BTreeSet<PartitionId> = told.keys().copied().collect();
    if !force {
        fence::are_enough(&base, lost, &ids)?;
    }
    successor(&base, lost, &told)?;
    let epoch = greatest_epoch(reach, &base, Some(lost)).next();
    let taken = replace(reach, proposer, &base, lost, (&ids, epoch), force);
    if taken.is_err() {
        release(reach, proposer, epoch);
    }
    taken
}

fn replace(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    base: &Topology,
    lost: PartitionId,
    (ids, epoch): (&BTreeSet<PartitionId>, Epoch),
    force: bool,
) -> Result<Topology, FailoverError> {
    let fenced = fence::fence(reach, base, ids, epoch)?;
    if !force {
        fence::are_enough(base, lost, &fenced.standing.keys().copied().collect())?;
    }
    let successor = successor(base, lost, &fenced.standing)?;
    tracing::info!(%lost, %epoch, voters = fenced.standing.len(), "takeover: fenced");
    let upto = catch_up(reach, base, lost, successor, &fenced)?;
    tracing::info!(%lost, %epoch, successor = %successor.name, %upto, "takeover: caught up");
    fence::stand(reach, base, &fenced)?;
    let next = base.take_over(lost, successor.id, upto, epoch)?;
    proposer.change(reach, base, &next)?;
    tracing::info!(%lost, %epoch, successor = %successor.name, "takeover: the document was changed");
    begin(reach, &next, successor.id);
    Ok(next)
}

/// The active data voter with the greatest cursor for the lost origin; of several that which has
/// most of the others.
fn successor<'a>(
    topology: &'a Topology,
    lost: PartitionId,
    standing: &BTreeMap<PartitionId, Status>,
) -> Result<&'a Voter, FailoverError> {
    let able = topology.data_voters().filter(|voter| voter.state.gains_slots());
    let able = able.filter_map(|voter| Some((voter, standing.get(&voter.id)?)));
    let best = able.max_by_key(|(voter, status)| {
        let all: u64 = status.vector.iter().map(|(_, version)| version.seq().number()).sum();
        (status.vector.get(lost), all, Reverse(voter.id))
    });
    best.map(|(voter, _)| voter).ok_or(FailoverError::NoSuccessor)
}

/// Brings the successor to where all that were fenced are, for all origins (H14). Returns how far
/// it has the lost master's log.
fn catch_up(
    reach: &mut dyn Reach,
    topology: &Topology,
    lost: PartitionId,
    successor: &Voter,
    fenced: &Fenced,
) -> Result<Version, FailoverError> {
    let barriers = Barriers::default();
    if Rule::CatchUp.in_force() {
        let others = fenced.standing.keys().filter(|id| **id != successor.id);
        for other in others.filter_map(|id| topology.voter(*id)) {
            read_to_end(reach, topology, (successor, other), &barriers)?;
        }
    }
    let standing = durable(reach, successor)?;
    if Rule::CatchUp.in_force() {
        let all = fenced.standing.values();
        covers(successor, &standing, all.map(|status| &status.vector))?;
    }
    Ok(standing.vector.get(lost))
}

fn covers<'a>(
    target: &Voter,
    standing: &Status,
    wanted: impl Iterator<Item = &'a Vector>,
) -> Result<(), FailoverError> {
    for vector in wanted {
        // Of its own log it has all there is.
        let others: Vector = vector.iter().filter(|(origin, _)| *origin != target.id).collect();
        if !standing.vector.covers(&others) {
            return Err(FailoverError::NotCaughtUp { name: target.name.clone() });
        }
    }
    Ok(())
}

/// Gives slots of a master that is well to another voter: nothing that it has acknowledged is
/// missing there, and writes to it pause only while what came last is carried over.
pub fn promote(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    moved: &Move,
) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    // Refused before anything is fenced.
    base.promote(moved, base.epoch().next())?;
    let (Some(from), Some(to)) = (base.voter(moved.from), base.voter(moved.to)) else {
        return Err(FailoverError::NothingToMove { id: moved.from });
    };
    let barriers = Barriers::default();
    for _ in (0..DRAINS).filter(|_| Rule::CatchUp.in_force()) {
        read_to_end(reach, &base, (to, from), &barriers)?;
    }
    let epoch = greatest_epoch(reach, &base, None).next();
    let promoted = hand_over(reach, proposer, &base, moved, (from, to), epoch);
    if promoted.is_err() {
        release(reach, proposer, epoch);
    }
    promoted
}

fn hand_over(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    base: &Topology,
    moved: &Move,
    (from, to): (&Voter, &Voter),
    epoch: Epoch,
) -> Result<Topology, FailoverError> {
    let fenced = fence::fence(reach, base, &BTreeSet::from([from.id]), epoch)?;
    let Some(last) = fenced.standing.get(&from.id).map(|status| status.vector.clone()) else {
        let answer = ask(reach, from, |partition| partition.status());
        let name = from.name.clone();
        let again = FailoverError::NotCaughtUp { name };
        return Err(answer.err().map_or(again, failed(from)));
    };
    let barriers = Barriers::default();
    let mut outcome = Ok(());
    for _ in 0..CATCH_UPS {
        if Rule::CatchUp.in_force() {
            read_to_end(reach, base, (to, from), &barriers)?;
        }
        let standing = durable(reach, to)?;
        outcome = match Rule::CatchUp.in_force() {
            true => covers(to, &standing, std::iter::once(&last)),
            false => Ok(()),
        };
        if outcome.is_ok() {
            break;
        }
    }
    outcome?;
    fence::stand(reach, base, &fenced)?;
    let next = base.promote(moved, epoch)?;
    proposer.change(reach, base, &next)?;
    begin(reach, &next, to.id);
    Ok(next)
}

/// After the change: clocks are raised, and the new master takes in what is in nobody's log. Where
/// this front end dies first, the next lane that opens there does it.
fn begin(reach: &mut dyn Reach, topology: &Topology, master: PartitionId) {
    if let Some(voter) = topology.voter(master) {
        let begun = ask(reach, voter, |partition| {
            batch::open(partition, topology)?;
            batch::begin(partition, master, topology)
        });
        if let Err(error) = begun {
            tracing::debug!(partition = %voter.name, %error, "left to its next lane");
        }
    }
    raise_all(reach, topology);
}

/// A change that came to nothing has stopped writes: they go on under the same assignment.
fn release(reach: &mut dyn Reach, proposer: &mut Proposer, epoch: Epoch) {
    if let Err(error) = unfence(reach, proposer, epoch) {
        tracing::debug!(%error, "left to whoever meets the fence");
    }
}

/// Proposes the same assignment under `met`, a clock above the topology, or higher. Returns what
/// stands in the register then.
pub fn unfence(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    met: Epoch,
) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    if base.epoch() >= met || !Rule::Unfence.in_force() {
        return Ok(base);
    }
    let next = base.at_epoch(greatest_epoch(reach, &base, None).max(met));
    proposer.change(reach, &base, &next)?;
    raise_all(reach, &next);
    Ok(next)
}
