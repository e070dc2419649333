//! How old what a partition shows may be, measured without any database's clock.
//!
//! # Words
//!
//! A **look** asks a partition where it stands; it counts from the instant before it was asked.
//! **Heads** are what a look at a master told: its whole vector. A partition is **as of** an
//! instant for a master when it has everything that this master had at that instant. Its **age** is
//! the time since then: an upper bound on how stale it is, as seen by one front end.
//!
//! # Rule
//!
//! AGE-1: *a reported age is never smaller than the truth.* If heads were asked for at instant t,
//! and a vector of partition T is at or above them for every origin, T is as of t for that master:
//!
//! * whatever the master had committed and shown before t is in those heads, and (VEC-1) so is
//!   whatever it took over from former masters of its slots, which is why its whole vector counts
//!   and not its own place in it alone; what a lost master alone had is nobody's until it is back;
//! * heads may show what a crash takes back. Nobody else ever covers that without covering what
//!   came instead, for versions are given once and rise (VER-1).
//!
//! Only monotonic instants of this process are compared: clocks that step change no verdict.
//!
//! **One key is as old as its master's heads.** The truth about a key is at the master of its slot
//! alone, so another master that cannot be reached makes nobody's copy of *this* key older. A
//! master that cannot be reached ages its own keys everywhere, itself included: nobody can know
//! what it took. Lists, and the age of a partition as a whole, go by the oldest of all masters.
//!
//! **What a master masters itself** is as of the last look at it that found it unfenced: its clock
//! not above the epoch of the topology that it was asked under; and no later than that topology was
//! read by a quorum, since a master that is cut off does not hear of its successor (H16). Heads are
//! forgotten when the epoch changes: they were told by the masters of another assignment.
//!
//! **A vector is known for one server run and reseed number**: a crash takes back what was not
//! durable, a reseed takes back everything. So an age is told of a read only where the connection
//! that it came over was made before the vector was asked for (it would have broken with the run),
//! and the row came under the reseed number of that look. Where it was not, the age is unknown
//! until the next look. A read that *must* not be older has the reader check: [`Ages::needed`] is
//! the least vector that will do, and is to be covered like a session token.
//!
//! # Bounds
//!
//! A master's heads are kept while they differ, [`HEADS_MAX`] at most: when there are more, every
//! other one of the older half goes. So there is detail where bounds are tight, and the first is
//! never lost. Fewer heads make ages greater, never smaller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::partition::{Partition, ReseedNumber, Result, Status};
use crate::rules::Rule;
use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, RunId};

/// Different heads that are kept of one master.
pub const HEADS_MAX: usize = 128;

/// A look at a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The monotonic instant before it was asked.
    pub asked: Duration,
    /// What it answered.
    pub status: Status,
}

impl Look {
    /// Looks at a partition. `now` tells monotonic instants.
    pub fn at(partition: &mut dyn Partition, now: impl Fn() -> Duration) -> Result<Self> {
        let asked = now();
        let status = partition.status()?;
        Ok(Self { asked: if Rule::AgeFromAsking.in_force() { asked } else { now() }, status })
    }
}

/// What a read came over: which connection, and under which reseed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The monotonic instant at which the connection stood.
    pub since: Duration,
    /// The reseed number that the rows came with.
    pub reseed: ReseedNumber,
}

/// What was last seen of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The monotonic instant before it was asked.
    pub asked: Duration,
    /// The server run that it was in.
    pub run: RunId,
    /// How often it had been reseeded.
    pub reseed: ReseedNumber,
    /// Whether it was being reseeded.
    pub reseeding: bool,
    /// Its vector.
    pub vector: Arc<Vector>,
    /// Per master, the latest instant that it is known to be as of.
    as_of: BTreeMap<PartitionId, Duration>,
}

impl Sight {
    /// The latest instant that the partition is known to be as of, for all of `masters`.
    pub fn as_of(&self, masters: &[PartitionId]) -> Option<Duration> {
        masters.iter().map(|master| self.as_of.get(master).copied()).min().flatten()
    }

    /// Whether it tells of a read that came over a connection as old as this.
    fn tells_of(&self, over: &Over) -> bool {
        let same_run = over.since <= self.asked || !Rule::AgeOfRun.in_force();
        same_run && over.reseed == self.reseed
    }
}

/// What was last seen of every partition: small enough to be copied at every look, so that reads
/// take no lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The epoch of the topology that heads were read under.
    epoch: Epoch,
    sights: BTreeMap<PartitionId, Sight>,
}

impl Seen {
    /// What was last seen of a partition.
    pub fn sight(&self, partition: PartitionId) -> Option<&Sight> {
        self.sights.get(&partition)
    }

    /// The instant that a partition is as of, under this topology, for all of `masters`.
    pub fn as_of(
        &self,
        partition: PartitionId,
        masters: &[PartitionId],
        topology: &Topology,
    ) -> Option<Duration> {
        if topology.epoch() != self.epoch {
            return None;
        }
        self.sights.get(&partition)?.as_of(masters)
    }

    /// The same for what was read over this very connection.
    pub fn as_of_read(
        &self,
        partition: PartitionId,
        over: &Over,
        masters: &[PartitionId],
        topology: &Topology,
    ) -> Option<Duration> {
        self.sights.get(&partition).filter(|sight| sight.tells_of(over))?;
        self.as_of(partition, masters, topology)
    }
}

/// Heads that a master had.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heads {
    asked: Duration,
    vector: Arc<Vector>,
}

/// Everything that this front end has seen of everybody.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    seen: Seen,
    /// Per master, oldest first.
    heads: BTreeMap<PartitionId, VecDeque<Heads>>,
}

impl Ages {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was last seen, for readers.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// A partition is no longer looked at.
    pub fn forget(&mut self, partition: PartitionId) {
        self.seen.sights.remove(&partition);
        self.heads.remove(&partition);
    }

    /// Takes in a look that began under `topology`, which was read by a quorum at the instant
    /// `read_at`: until then nobody else can have mastered the slots (H16).
    pub fn note(&mut self, look: &Look, topology: &Topology, read_at: Duration) {
        let Look { asked, ref status } = *look;
        if topology.epoch() < self.seen.epoch {
            // Asked before the assignment changed: nothing can be concluded from it now.
            return;
        }
        if topology.epoch() > self.seen.epoch {
            self.seen.epoch = topology.epoch();
            self.heads.clear();
            self.seen.sights.values_mut().for_each(|sight| sight.as_of.clear());
        }
        let id = status.partition;
        let vector = Arc::new(status.vector.clone());
        let in_force = status.epoch <= topology.epoch() && !status.reseeding;
        if topology.slots_of(id) > 0 && in_force {
            let asked = match Rule::AgeFromTopology.in_force() {
                true => asked.min(read_at),
                false => asked,
            };
            self.note_heads(id, Heads { asked, vector: Arc::clone(&vector) });
        }
        self.note_sight(asked, status, vector);
    }

    fn note_heads(&mut self, master: PartitionId, new: Heads) {
        let heads = self.heads.entry(master).or_default();
        match heads.back_mut() {
            // Looks may overtake each other.
            Some(last) if last.asked >= new.asked => return,
            Some(last) if last.vector == new.vector => last.asked = new.asked,
            Some(_) | None => heads.push_back(new.clone()),
        }
        if heads.len() > HEADS_MAX {
            thin_out(heads);
        }
        for sight in self.seen.sights.values_mut().filter(|sight| !sight.reseeding) {
            if sight.vector.covers(&new.vector) {
                sight.as_of.insert(master, new.asked);
            }
        }
    }

    fn note_sight(&mut self, asked: Duration, status: &Status, vector: Arc<Vector>) {
        let Status { run, reseed, reseeding, .. } = *status;
        let mut as_of = BTreeMap::new();
        if let Some(known) = self.seen.sights.get(&status.partition) {
            if known.asked > asked {
                return;
            }
            // In the same run and number a vector only rises, so what was covered still is.
            if (known.run, known.reseed) == (run, reseed) && !reseeding {
                as_of.clone_from(&known.as_of);
            }
        }
        let latest = |heads: &VecDeque<Heads>| {
            let covered = heads.iter().rev().find(|heads| vector.covers(&heads.vector));
            covered.map(|heads| heads.asked)
        };
        for (&master, heads) in self.heads.iter().filter(|_| !reseeding) {
            if let Some(latest) = latest(heads) {
                let known = as_of.entry(master).or_insert(latest);
                *known = latest.max(*known);
            }
        }
        let sight = Sight { asked, run, reseed, reseeding, vector, as_of };
        self.seen.sights.insert(status.partition, sight);
    }

    /// The least vector that a partition has to cover to be, at `now`, no older than `max_age` for
    /// all of `masters`, and the instant that it is then as of. `None`: nobody can know.
    pub fn needed(
        &self,
        now: Duration,
        max_age: Duration,
        masters: &[PartitionId],
        topology: &Topology,
    ) -> Option<(Vector, Duration)> {
        if topology.epoch() != self.seen.epoch {
            return None;
        }
        let oldest = now.saturating_sub(max_age);
        let (mut needed, mut as_of) = (Vector::new(), now);
        for master in masters {
            let heads = self.heads.get(master)?.iter().find(|heads| heads.asked >= oldest)?;
            needed.join(&heads.vector);
            as_of = as_of.min(heads.asked);
        }
        Some((needed, as_of))
    }
}

/// Drops every other one of the older half; the first stays.
fn thin_out(heads: &mut VecDeque<Heads>) {
    let half = heads.len() / 2;
    let mut place = 0;
    heads.retain(|_| {
        place += 1;
        place > half || place % 2 == 1
    });
}

#[cfg(test)]
mod tests;
