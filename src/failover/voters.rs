//! The voters: joining, admission, retirement; one change at a time, each settled before the next.

use std::collections::BTreeMap;

use super::catch_up::{durable, read_to_end};
use super::{FailoverError, failed, greatest_epoch, raise_all};
use crate::partition::upkeep::{ConflictPlace, Lost};
use crate::partition::{
    Found, Get, Identity, Partition, PartitionError, Refusal, SCHEMA_VERSION, Status,
};
use crate::record::{Key, Record};
use crate::register::{Proposer, Reach, ask};
use crate::rules::Rule;
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::sync::reseed::{ReseedError, Seed, begin, take_in};
use crate::topology::change::Joining;
use crate::topology::{State, Topology, Voter};
use crate::vector::Vector;
use crate::version::{PartitionId, SetId};

/// Larger steps than a pass takes: nobody else writes to what is being made.
const SEED_LIMITS: PageLimits = PageLimits { entries_max: 4096, bytes_max: 4 << 20 };
/// How often a seed begins again that its source's trimming has overtaken.
const SEEDS: u32 = 3;
/// Rows, or entries of the ledger, that are carried over at once.
const CARRIED_ROWS: usize = 256;
const CARRIED_BYTES: usize = 4 << 20;

/// Lets a partition join: logs are kept for it from here on. Returns its id.
pub fn join(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    joining: &Joining,
) -> Result<(Topology, PartitionId), FailoverError> {
    let base = proposer.read(reach)?;
    let epoch = greatest_epoch(reach, &base, None).next();
    let (next, id) = base.join(joining, epoch)?;
    proposer.change(reach, &base, &next)?;
    raise_all(reach, &next);
    Ok((next, id))
}

/// Writes into an empty database whose it is. One that was founded so before is left as it is.
pub fn found(
    reach: &mut dyn Reach,
    set: SetId,
    topology: &Topology,
    id: PartitionId,
) -> Result<(), FailoverError> {
    let voter = known(topology, id)?;
    let identity =
        Identity { set, partition: id, schema: SCHEMA_VERSION, topology: topology.clone() };
    let standing = ask(reach, voter, |partition| partition.found(&identity));
    let standing = standing.map_err(failed(voter))?;
    if (standing.set, standing.partition) == (set, id) {
        Ok(())
    } else {
        Err(FailoverError::OtherDatabase { name: voter.name.clone() })
    }
}

/// Makes a partition that joins from `source`, an active voter. One that was made is left as it is.
pub fn seed(
    reach: &mut dyn Reach,
    topology: &Topology,
    (id, source): (PartitionId, PartitionId),
) -> Result<(), FailoverError> {
    let (target, source) = (known(topology, id)?, known(topology, source)?);
    // K9: from here on no floor is applied anywhere that does not wait for the new one.
    all_at(reach, topology)?;
    let mut result = Ok(());
    for _ in 0..SEEDS {
        result = seed_once(reach, target, source);
        if !matches!(result, Err(ReseedError::Again)) {
            break;
        }
    }
    if matches!(&result, Err(ReseedError::Target(PartitionError::Refused(Refusal::Made)))) {
        // Somebody else was faster.
        return Ok(());
    }
    result.map_err(|error| FailoverError::Seed {
        name: target.name.clone(),
        from: source.name.clone(),
        source: Box::new(error),
    })
}

fn seed_once(reach: &mut dyn Reach, target: &Voter, source: &Voter) -> Result<(), ReseedError> {
    let number = ask(reach, target, |partition| Ok(begin(partition)));
    let number = number.map_err(ReseedError::Target)??;
    let barriers = Barriers::default();
    let mut seed = Seed::new(SEED_LIMITS);
    loop {
        let step = ask(reach, source, |partition| Ok(seed.next(partition, &barriers)));
        let Some(step) = step.map_err(ReseedError::Source)?? else { return Ok(()) };
        let taken = ask(reach, target, |partition| Ok(take_in(partition, number, &step)));
        taken.map_err(ReseedError::Target)??;
    }
}

/// Makes a partition that joined, and that was made, a voter that counts.
pub fn admit(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    id: PartitionId,
) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    let voter = known(&base, id)?;
    base.activate(id, base.epoch().next())?;
    if voter.role.holds_data() {
        // Nearly all: whatever it lacks delays the settling.
        let barriers = Barriers::default();
        let sources = base.data_voters().filter(|source| source.state.is_source());
        for source in sources {
            read_to_end(reach, &base, (voter, source), &barriers)?;
        }
    }
    let next = base.activate(id, greatest_epoch(reach, &base, None).next())?;
    proposer.change(reach, &base, &next)?;
    raise_all(reach, &next);
    Ok(next)
}

/// Removes a voter that owns nothing. Settle it next; when its database can be reached,
/// [`clear_retired`] empties it.
pub fn retire(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    id: PartitionId,
) -> Result<Topology, FailoverError> {
    let mut base = proposer.read(reach)?;
    if known(&base, id)?.state == State::Active {
        // Refused while it owns slots, before it is marked.
        base.mark(id, State::Draining)?.retire(id, base.epoch().next())?;
        let draining = base.mark(id, State::Draining)?;
        proposer.change(reach, &base, &draining)?;
        base = draining;
    }
    base.retire(id, base.epoch().next())?;
    let next = base.retire(id, greatest_epoch(reach, &base, None).next())?;
    proposer.change(reach, &base, &next)?;
    raise_all(reach, &next);
    Ok(next)
}

/// Marks a voter as down, or as active again, without any change of who counts.
pub fn mark(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    id: PartitionId,
    state: State,
) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    if known(&base, id)?.state == state {
        return Ok(base);
    }
    let next = base.mark(id, state)?;
    proposer.change(reach, &base, &next)?;
    Ok(next)
}

/// Settles the last change of the voters: every data voter is at its epoch and is brought to where
/// all of them were then, early rows included (K5).
pub fn settle(reach: &mut dyn Reach, proposer: &mut Proposer) -> Result<Topology, FailoverError> {
    let base = proposer.read(reach)?;
    if base.previous().is_empty() {
        return Ok(base);
    }
    let then = all_at(reach, &base)?;
    if Rule::SettleCovers.in_force() {
        let mut wanted = Vector::new();
        then.values().for_each(|status| wanted.join(&status.vector));
        let barriers = Barriers::default();
        for target in base.data_voters() {
            for source in base.data_voters().filter(|source| source.id != target.id) {
                read_to_end(reach, &base, (target, source), &barriers)?;
            }
            let standing = durable(reach, target)?;
            wanted.set(target.id, standing.vector.get(target.id));
            if !standing.vector.covers(&wanted) {
                return Err(FailoverError::NotCaughtUp { name: target.name.clone() });
            }
        }
    }
    let next = base.settle();
    proposer.change(reach, &base, &next)?;
    Ok(next)
}

/// Raises the clocks of all data voters; where each of them stood since then.
fn all_at(
    reach: &mut dyn Reach,
    topology: &Topology,
) -> Result<BTreeMap<PartitionId, Status>, FailoverError> {
    let mut standing = BTreeMap::new();
    for voter in topology.data_voters() {
        let status = ask(reach, voter, |partition| {
            partition.raise(topology.epoch())?;
            partition.status()
        });
        standing.insert(voter.id, status.map_err(failed(voter))?);
    }
    Ok(standing)
}

/// Empties the database of a retired partition, once what it holds beyond `into`, an active voter,
/// is in the ledger there (K4). Done again, or broken off anywhere, it comes to the same.
pub fn clear_retired(
    reach: &mut dyn Reach,
    topology: &Topology,
    retired: &Voter,
    into: PartitionId,
) -> Result<(), FailoverError> {
    let into = known(topology, into)?;
    if !topology.retired().contains(&retired.id) {
        return Err(FailoverError::OtherDatabase { name: retired.name.clone() });
    }
    let owner = ask(reach, retired, |partition| partition.identity()).map_err(failed(retired))?;
    match owner {
        None => return Ok(()),
        Some(identity) if identity.partition == retired.id => {}
        Some(_) => return Err(FailoverError::OtherDatabase { name: retired.name.clone() }),
    }
    // Nobody writes there any more.
    let fenced = ask(reach, retired, |partition| {
        partition.raise(topology.epoch())?;
        partition.status()
    });
    let fenced = fenced.map_err(failed(retired))?;
    if Rule::RetiredKept.in_force() {
        if !fenced.reseeding {
            keep_rows(reach, retired, into)?;
        }
        keep_ledger(reach, retired, into)?;
    }
    let id = retired.id;
    ask(reach, retired, |partition| partition.forget(id)).map_err(failed(retired))
}

/// Rows that the other one has never had.
fn keep_rows(reach: &mut dyn Reach, retired: &Voter, into: &Voter) -> Result<(), FailoverError> {
    let has = durable(reach, into)?.vector;
    let mut after: Option<Key> = None;
    loop {
        let chunk = ask(reach, retired, |partition| {
            partition.scan(after.as_ref(), CARRIED_ROWS, CARRIED_BYTES)
        });
        let chunk = chunk.map_err(failed(retired))?;
        let beyond = |row: &&Record| row.version > has.get(row.origin);
        let rows: Vec<Record> = chunk.rows.iter().filter(beyond).cloned().collect();
        let kept = ask(reach, into, |partition| keep_lost(partition, &rows));
        kept.map_err(failed(into))?;
        match chunk.rows.last() {
            Some(last) if chunk.more => after = Some(last.key.clone()),
            Some(_) | None => return Ok(()),
        }
    }
}

/// Writes to the ledger those of `rows` that do not stand, nor what equals them.
fn keep_lost(partition: &mut dyn Partition, rows: &[Record]) -> Result<(), PartitionError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
    let fetched = partition.get(&Get { keys: &keys, inline_bytes_max: CARRIED_BYTES })?;
    let stands = |row: &Record, found: &Option<Found>| match found {
        Some(Found::Row(other)) => other.body == row.body,
        Some(Found::Large { .. } | Found::Damaged) => false,
        None => row.is_tombstone(),
    };
    let lost = rows.iter().zip(&fetched.rows).filter(|(row, found)| !stands(row, found));
    let lost: Vec<Lost> = lost.map(|(row, _)| Lost::now(row.clone())).collect();
    if lost.is_empty() { Ok(()) } else { partition.keep(&lost) }
}

fn keep_ledger(reach: &mut dyn Reach, retired: &Voter, into: &Voter) -> Result<(), FailoverError> {
    let mut after: Option<ConflictPlace> = None;
    loop {
        let page =
            ask(reach, retired, |partition| partition.conflicts(after.as_ref(), CARRIED_ROWS));
        let page = page.map_err(failed(retired))?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(ConflictPlace::of(&last.row));
        let lost: Vec<Lost> = page.into_iter().map(Lost::from).collect();
        ask(reach, into, |partition| partition.keep(&lost)).map_err(failed(into))?;
    }
}

fn known(topology: &Topology, id: PartitionId) -> Result<&Voter, FailoverError> {
    let unknown = crate::topology::change::ChangeError::Unknown { id };
    topology.voter(id).ok_or_else(|| unknown.into())
}
