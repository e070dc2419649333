//! Trimming: how far logs may be cut and tombstones collected, over all partitions.
//!
//! The floor is the least of all voters' cursors, each made durable after it was read, and at or
//! below what feeds were promised. A voter holds it back until a change of topology retires it; no
//! front end decides that alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::round::{PATIENCE, Round, chain};
use crate::partition::{Partition, PartitionError, Refusal, Result, Status, Trim, Trimmed};
use crate::rules::Rule;
use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId};

/// At most so many log entries are removed in one transaction.
pub const TRIM_ENTRIES_MAX: usize = 1000;

/// What one voter allows, made durable there; `None` while it is being reseeded and allows nothing.
///
/// Raises a clock below the topology first; refuses one above it.
pub fn allowed_by(voter: &mut dyn Partition, topology: &Topology) -> Result<Option<Vector>> {
    if voter.status()?.epoch < topology.epoch() && Rule::RaiseClock.in_force() {
        voter.raise(topology.epoch())?;
    }
    let status = voter.status()?;
    if status.reseeding {
        return Ok(None);
    }
    if status.epoch != topology.epoch() && Rule::TrimEpoch.in_force() {
        return Err(Refusal::Fenced { clock: status.epoch }.into());
    }
    // K8: a cursor may be visible and not yet durable. No shortcut here: cursors move without the
    // partition giving a version of its own.
    if Rule::TrimBarrier.in_force() {
        voter.barrier(status.run)?;
    }
    Ok(Some(status.vector))
}

/// The floor that all voters allow; `voters` holds what [`allowed_by`] said of every data voter of
/// the topology, errors included.
pub fn floor(voters: impl IntoIterator<Item = Result<Option<Vector>>>) -> Result<Option<Vector>> {
    let mut floor: Option<Vector> = None;
    for allowed in voters {
        let vector = match allowed {
            Ok(Some(vector)) => vector,
            Ok(None) => return Ok(None),
            Err(_) if !Rule::TrimAllVoters.in_force() => continue,
            Err(error) => return Err(error),
        };
        floor = Some(floor.map_or(vector.clone(), |floor| floor.meet(&vector)));
    }
    Ok(floor)
}

/// Trims one partition, whatever its role, in bounded transactions.
pub fn apply(
    partition: &mut dyn Partition,
    floor: &Vector,
    epoch: Epoch,
) -> Result<Trimmed, PartitionError> {
    if partition.status()?.epoch < epoch && Rule::RaiseClock.in_force() {
        partition.raise(epoch)?;
    }
    let trim = Trim { epoch, floor: floor.clone(), entries_max: TRIM_ENTRIES_MAX };
    let mut total = Trimmed::default();
    loop {
        let trimmed = partition.trim(&trim)?;
        total.entries += trimmed.entries;
        total.tombstones += trimmed.tombstones;
        if !trimmed.cut {
            return Ok(total);
        }
    }
}

/// What feeds may still ask for: samples of vectors with their age.
#[derive(Debug)]
pub struct Retention {
    keep: Duration,
    samples: VecDeque<(Duration, Vector)>,
}

impl Retention {
    /// Keeps logs for `keep`.
    pub const fn new(keep: Duration) -> Self {
        Self { keep, samples: VecDeque::new() }
    }

    /// Notes that the set stood at `vector` at the monotonic instant `now`, and returns the newest
    /// sample that is old enough: logs above it are kept.
    pub fn sample(&mut self, now: Duration, vector: &Vector) -> Vector {
        // A sample a sixtieth of the retention is fine enough, and bounds their number.
        let due = self.samples.back().is_none_or(|(at, _)| now >= *at + self.keep / 60);
        if due {
            self.samples.push_back((now, vector.clone()));
        }
        while self.samples.get(1).is_some_and(|(at, _)| *at + self.keep <= now) {
            self.samples.pop_front();
        }
        match self.samples.front() {
            Some((at, vector)) if *at + self.keep <= now => vector.clone(),
            Some(_) | None => Vector::new(),
        }
    }
}

/// Trims everywhere after each round.
pub struct Trimmer {
    round: Arc<Round>,
    retention: Retention,
    connections: BTreeMap<PartitionId, Box<dyn Partition + Send>>,
}

impl Trimmer {
    /// Trims the partitions of `round`.
    pub fn new(round: Arc<Round>) -> Self {
        let retention = Retention::new(round.log_retention());
        Self { round, retention, connections: BTreeMap::new() }
    }

    /// Trims what all voters are past and no feed was promised. Asks nobody more than where they
    /// stand while nothing can be gained: an idle set is not written to.
    pub fn trim(&mut self) {
        self.trim_all();
        // Back to where they came from: rounds may be far apart.
        self.connections.clear();
    }

    fn trim_all(&mut self) {
        let topology = self.round.topology();
        let told = self.round.standings.ask(PATIENCE);
        let told = told.into_iter().filter_map(|(id, told)| Some((id, told.ok()?.status)));
        let statuses: BTreeMap<PartitionId, Status> = told.collect();
        let voters: Vec<PartitionId> = topology.data_voters().map(|voter| voter.id).collect();
        let Some(standing) = voters
            .iter()
            .map(|id| statuses.get(id).map(|status| status.vector.clone()))
            .reduce(|least, vector| Some(least?.meet(&vector?)))
            .flatten()
        else {
            return;
        };
        let kept = self.retention.sample(self.round.clock().monotonic(), &standing);
        let behind: Vec<PartitionId> = statuses
            .values()
            .filter(|status| !status.reseeding)
            .filter(|status| !status.floors.covers(&kept.meet(&status.vector)))
            .map(|status| status.partition)
            .collect();
        if behind.is_empty() {
            return;
        }
        let allowed: Vec<_> =
            voters.iter().map(|id| self.with(*id, |voter| allowed_by(voter, &topology))).collect();
        let Ok(Some(floor)) = floor(allowed) else { return };
        let floor = floor.meet(&kept);
        for id in behind {
            match self.with(id, |target| apply(target, &floor, topology.epoch())) {
                Ok(trimmed) => tracing::debug!(
                    partition = %id, entries = trimmed.entries, tombstones = trimmed.tombstones,
                    "trimmed"
                ),
                Err(error) => {
                    tracing::warn!(partition = %id, error = %chain(&error), "could not trim");
                }
            }
        }
    }

    /// Runs `work` over the connection to a member, made first where there is none.
    fn with<T>(
        &mut self,
        id: PartitionId,
        work: impl FnOnce(&mut dyn Partition) -> Result<T>,
    ) -> Result<T> {
        let member = self.round.member(id).ok_or(Refusal::Empty)?;
        let mut connection = match self.connections.remove(&id) {
            Some(connection) => connection,
            None => member.connect.connect()?,
        };
        let result = work(connection.as_mut());
        if !matches!(&result, Err(error) if !error.keeps_connection()) {
            self.connections.insert(id, connection);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Seq, Version};

    fn at(seq: u64) -> Vector {
        let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        Vector::from_iter([(PartitionId(1), version)])
    }

    #[test]
    fn logs_are_kept_as_long_as_was_promised() {
        let mut retention = Retention::new(Duration::from_secs(60));
        let mut sample = |second, seq| retention.sample(Duration::from_secs(second), &at(seq));
        assert_eq!(sample(0, 1), Vector::new());
        assert_eq!(sample(59, 2), Vector::new());
        assert_eq!(sample(60, 3), at(1));
        assert_eq!(sample(118, 4), at(1));
        assert_eq!(sample(119, 5), at(2));
        assert_eq!(sample(500, 6), at(5));
    }

    #[test]
    fn samples_are_bounded_however_often_they_are_taken() {
        let mut retention = Retention::new(Duration::from_secs(60));
        for ms in 0..600_000 {
            retention.sample(Duration::from_millis(ms), &at(ms));
        }
        assert!(retention.samples.len() <= 62, "{}", retention.samples.len());
    }

    #[test]
    fn one_voter_that_is_away_holds_the_floor() {
        let away = || Err(PartitionError::Refused(Refusal::RunEnded));
        assert_eq!(floor([Ok(Some(at(5))), Ok(Some(at(3)))]).unwrap(), Some(at(3)));
        assert_eq!(floor([Ok(Some(at(5))), Ok(None)]).unwrap(), None);
        assert!(floor([Ok(Some(at(5))), away()]).is_err());
    }
}
