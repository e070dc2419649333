//! What one front end knows of the register, and the changes that it makes.
//!
//! Lanes, ticks, the detector and the admin interface all go through [`Ownership`]: it reads the
//! topology by quorum and publishes the snapshot that everybody routes by; it runs one change at a
//! time on behalf of this process, and any number of processes may each run theirs. All of it
//! blocks: who must not wait calls it from a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{FailoverError, cuts, fence, ownership, voters};
use crate::clock::Clock;
use crate::lane::Topologies;
use crate::lane::pool::Pool;
use crate::partition::engine::Engine;
use crate::partition::{Partition, PartitionError};
use crate::register::{Proposer, Reach, RegisterError};
use crate::topology::change::Joining;
use crate::topology::slots::Move;
use crate::topology::{State, Topology, Voter};
use crate::version::{Epoch, PartitionId, SetId};

/// How long whoever fenced is given before its fence is passed forward: longer than a change takes
/// between its fence and its end.
const FENCE_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a lane whose partition was fenced waits for the change to come to its end, and how
/// often it looks.
const LANE_PATIENCE: Duration = Duration::from_millis(2500);
const LANE_LOOKS: Duration = Duration::from_millis(20);

/// The ways to the voters: those of the configuration, and those that were added since.
#[derive(Default)]
pub struct Ways {
    pools: RwLock<BTreeMap<PartitionId, Arc<Pool>>>,
    /// Makes the ways that are not there yet.
    maker: OnceLock<Box<Maker>>,
    /// Whether a partition is well, as far as somebody knows who looks at it all the time.
    judge: OnceLock<Box<Judge>>,
}

type Judge = dyn Fn(PartitionId) -> bool + Send + Sync;
type Maker = dyn Fn(&Voter) -> Result<Arc<Pool>, PartitionError> + Send + Sync;

impl Ways {
    /// From now on this is how the partition is reached.
    pub fn put(&self, id: PartitionId, pool: Arc<Pool>) {
        self.pools.write().unwrap_or_else(PoisonError::into_inner).insert(id, pool);
    }

    /// Nobody goes anywhere else any more.
    pub fn keep_only(&self, ids: &BTreeSet<PartitionId>) {
        self.pools.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| ids.contains(id));
    }

    /// From now on this is who makes the way to a voter when somebody first goes there: one of a
    /// newer topology than this front end knew may be asked for its vote before anything else is
    /// done with it. Counts once.
    pub fn made_by(
        &self,
        maker: impl Fn(&Voter) -> Result<Arc<Pool>, PartitionError> + Send + Sync + 'static,
    ) {
        drop(self.maker.set(Box::new(maker)));
    }

    fn get(&self, voter: &Voter) -> Result<Arc<Pool>, PartitionError> {
        let known =
            self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&voter.id).cloned();
        if let Some(pool) = known {
            return Ok(pool);
        }
        let Some(make) = self.maker.get() else {
            let why = format!("no way to `{}` is known", voter.name);
            return Err(PartitionError::Unreachable(why.into()));
        };
        let made = make(voter)?;
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(pools.entry(voter.id).or_insert(made)))
    }

    /// From now on this is who knows whether a partition is well: one that is not is asked after
    /// all others, or not at all. Counts once.
    pub fn judged_by(&self, judge: impl Fn(PartitionId) -> bool + Send + Sync + 'static) {
        drop(self.judge.set(Box::new(judge)));
    }
}

/// One errand over the ways.
struct Walk<'a>(&'a Ways);

impl Reach for Walk<'_> {
    fn with(
        &mut self,
        voter: &Voter,
        work: &mut dyn FnMut(&mut dyn Partition) -> Result<(), PartitionError>,
    ) -> Result<(), PartitionError> {
        self.0.get(voter)?.read(|reader| work(reader.partition.as_mut()))
    }

    fn seems_well(&self, voter: &Voter) -> bool {
        self.0.judge.get().is_none_or(|judge| judge(voter.id))
    }
}

/// An errand that has to do with one database whose identity nobody has checked: one that is empty,
/// or is to be.
struct Beside<'a> {
    walk: Walk<'a>,
    id: PartitionId,
    database: &'a dyn Engine,
    connection: Option<Box<dyn Partition + Send>>,
}

impl<'a> Beside<'a> {
    fn new(ways: &'a Ways, id: PartitionId, database: &'a dyn Engine) -> Self {
        Self { walk: Walk(ways), id, database, connection: None }
    }
}

impl Reach for Beside<'_> {
    fn with(
        &mut self,
        voter: &Voter,
        work: &mut dyn FnMut(&mut dyn Partition) -> Result<(), PartitionError>,
    ) -> Result<(), PartitionError> {
        if voter.id != self.id {
            return self.walk.with(voter, work);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.connect()?,
        };
        let worked = work(connection.as_mut());
        // One that is in doubt is not used again.
        if worked.as_ref().err().is_none_or(PartitionError::keeps_connection) {
            self.connection = Some(connection);
        }
        worked
    }

    fn seems_well(&self, voter: &Voter) -> bool {
        self.walk.seems_well(voter)
    }
}

/// What is known of the register.
struct Known {
    proposer: Proposer,
    /// The instant before the newest reading by quorum began that told what is published.
    read_at: Option<Duration>,
    /// A clock above the topology, and since when it is known.
    fence: Option<(Epoch, Duration)>,
}

/// What an [`Ownership`] takes.
pub struct OwnershipParts {
    /// The set.
    pub set: SetId,
    /// The ways to its voters.
    pub ways: Arc<Ways>,
    /// The snapshot that everybody routes by.
    pub topology: Arc<ArcSwap<Topology>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// A random number that no other front end has: proposers are named after it.
    pub random: u64,
}

/// One front end's part in who owns what.
pub struct Ownership {
    set: SetId,
    ways: Arc<Ways>,
    topology: Arc<ArcSwap<Topology>>,
    clock: Arc<dyn Clock>,
    random: u64,
    proposers: AtomicU64,
    known: Mutex<Known>,
    published: Condvar,
    /// Held while this process changes anything.
    changing: Mutex<()>,
}

impl Ownership {
    /// Begins with the snapshot that is published; nothing is asked yet.
    pub fn new(parts: OwnershipParts) -> Self {
        let OwnershipParts { set, ways, topology, clock, random } = parts;
        let proposer = Proposer::new(random, Topology::clone(&topology.load()));
        let known = Mutex::new(Known { proposer, read_at: None, fence: None });
        let (proposers, published, changing) =
            (AtomicU64::new(0), Condvar::new(), Mutex::default());
        Self { set, ways, topology, clock, random, proposers, known, published, changing }
    }

    /// The set.
    pub const fn set_id(&self) -> SetId {
        self.set
    }

    /// The ways to the voters.
    pub const fn ways(&self) -> &Arc<Ways> {
        &self.ways
    }

    /// The published snapshot.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// The published snapshot, and the instant at which a quorum is known to have told it; `None`:
    /// it was in use before, and none has since.
    pub fn standing(&self) -> (Arc<Topology>, Option<Duration>) {
        let known = self.known();
        (self.topology.load_full(), known.read_at)
    }

    /// Reads the topology by quorum, and publishes it.
    pub fn read(&self) -> Result<Arc<Topology>, RegisterError> {
        let began = self.clock.monotonic();
        let mut proposer = self.proposer();
        let document = proposer.read(&mut Walk(&self.ways))?;
        Ok(self.learn(proposer, document, Some(began)))
    }

    /// Somebody has met a clock at `epoch`. Where that is above the topology for long, whoever
    /// fenced has died, and the fence is passed forward.
    pub fn met(&self, epoch: Epoch) {
        let now = self.clock.monotonic();
        let since = {
            let mut known = self.known();
            if epoch <= self.topology.load().epoch() {
                known.fence = None;
                return;
            }
            match known.fence {
                Some((met, since)) if met == epoch => since,
                Some(_) | None => {
                    known.fence = Some((epoch, now));
                    now
                }
            }
        };
        if now.saturating_sub(since) < FENCE_PATIENCE {
            return;
        }
        let passed = self.change(|reach, proposer| ownership::unfence(reach, proposer, epoch));
        match passed {
            Ok(topology) => tracing::info!(epoch = %topology.epoch(), "a fence was passed forward"),
            Err(error) => tracing::debug!(%error, "the fence stands"),
        }
        self.known().fence = None;
    }

    /// Gives slots to another voter, without losing anything.
    pub fn promote(&self, moved: &Move) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| ownership::promote(reach, proposer, moved))
    }

    /// Whether nothing is lost that a majority has acknowledged, where the slots of this master are
    /// taken over now: whether enough of the others can be asked.
    pub fn can_replace(&self, lost: PartitionId) -> Result<(), FailoverError> {
        let topology = self.read()?;
        let told = fence::holders(&mut Walk(&self.ways), &topology, lost);
        fence::are_enough(&topology, lost, &told.into_keys().collect())
    }

    /// Gives the slots of a lost master to the voter that has most of what it wrote.
    pub fn take_over(
        &self,
        lost: PartitionId,
        force: bool,
    ) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| ownership::take_over(reach, proposer, lost, force))
    }

    /// Lets a partition join. Then its database is to be founded and made, and it is to be admitted
    /// and settled.
    pub fn join(&self, joining: &Joining) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| Ok(voters::join(reach, proposer, joining)?.0))
    }

    /// Writes into the database of a partition that joins whose it is. It has to be empty, or that
    /// partition's already.
    pub fn found(&self, id: PartitionId, database: &dyn Engine) -> Result<(), FailoverError> {
        let topology = self.read()?;
        voters::found(&mut Beside::new(&self.ways, id, database), self.set, &topology, id)
    }

    /// Makes a partition that joins from an active voter. Takes as long as copying takes.
    pub fn seed(&self, id: PartitionId, source: PartitionId) -> Result<(), FailoverError> {
        let topology = self.read()?;
        voters::seed(&mut Walk(&self.ways), &topology, (id, source))
    }

    /// Makes a partition that joined, and was made, a voter that counts.
    pub fn admit(&self, id: PartitionId) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| voters::admit(reach, proposer, id))
    }

    /// Settles the last change of the voters, if it is not.
    pub fn settle(&self) -> Result<Arc<Topology>, FailoverError> {
        self.change(voters::settle)
    }

    /// Removes a voter that owns nothing.
    pub fn retire(&self, id: PartitionId) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| voters::retire(reach, proposer, id))
    }

    /// Marks a voter: down, active again, draining, quarantined.
    pub fn mark(&self, id: PartitionId, state: State) -> Result<Arc<Topology>, FailoverError> {
        self.change(|reach, proposer| voters::mark(reach, proposer, id, state))
    }

    /// Drops cuts that nobody needs any more. `first`: what an earlier call returned; returns what
    /// the next one is to be given.
    pub fn drop_cuts(
        &self,
        first: Option<&cuts::Look>,
    ) -> Result<Option<cuts::Look>, FailoverError> {
        // Nobody who changes something waits until all have been looked at.
        let mut proposer = self.proposer();
        let (document, look) = cuts::drop_old(&mut Walk(&self.ways), &mut proposer, first)?;
        self.learn(proposer, document, None);
        Ok(look)
    }

    /// Empties the database of a retired partition that can be reached, once what it alone holds is
    /// in the ledger of `into`.
    pub fn clear_retired(
        &self,
        retired: &Voter,
        database: &dyn Engine,
        into: PartitionId,
    ) -> Result<(), FailoverError> {
        let topology = self.read()?;
        let mut reach = Beside::new(&self.ways, retired.id, database);
        voters::clear_retired(&mut reach, &topology, retired, into)
    }

    /// Runs one change, and publishes what came of it.
    pub fn change(
        &self,
        run: impl FnOnce(&mut dyn Reach, &mut Proposer) -> Result<Topology, FailoverError>,
    ) -> Result<Arc<Topology>, FailoverError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut proposer = self.proposer();
        let document = run(&mut Walk(&self.ways), &mut proposer)?;
        Ok(self.learn(proposer, document, None))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A proposer of its own for each errand: no two of them share an id.
    fn proposer(&self) -> Proposer {
        let nth = self.proposers.fetch_add(1, Ordering::Relaxed) + 1;
        // An odd number times each count is another number each time.
        let id = self.random.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.known().proposer.again(id)
    }

    /// Publishes a document that is chosen, if it is newer. `read_at`: it was the newest then.
    fn learn(
        &self,
        proposer: Proposer,
        document: Topology,
        read_at: Option<Duration>,
    ) -> Arc<Topology> {
        let mut known = self.known();
        let newest = known.proposer.chosen().map(Topology::revision);
        if newest.is_none_or(|newest| newest <= document.revision()) {
            known.proposer = proposer;
        }
        let standing = self.topology.load_full();
        if standing.revision() == document.revision() {
            known.read_at = known.read_at.max(read_at);
        }
        if standing.revision() >= document.revision() {
            return standing;
        }
        known.read_at = read_at;
        let fresh = Arc::new(document);
        self.topology.store(Arc::clone(&fresh));
        drop(known);
        self.published.notify_all();
        tracing::info!(
            epoch = %fresh.epoch(), revision = fresh.revision(), "another topology is in use"
        );
        fresh
    }

    /// Waits until something is published, a little.
    fn wait(&self) {
        drop(self.published.wait_timeout(self.known(), LANE_LOOKS));
    }
}

impl Topologies for Ownership {
    fn read(&self) -> Option<Arc<Topology>> {
        match Self::read(self) {
            Ok(topology) => Some(topology),
            Err(error) => {
                tracing::debug!(%error, "the topology cannot be read");
                None
            }
        }
    }

    fn past(&self, clock: Epoch) -> Option<Arc<Topology>> {
        let began = self.clock.monotonic();
        loop {
            let topology = Topologies::read(self)?;
            let waited = self.clock.monotonic().saturating_sub(began);
            if topology.epoch() >= clock || waited > LANE_PATIENCE {
                return Some(topology);
            }
            self.met(clock);
            self.wait();
        }
    }

    fn snapshot(&self) -> (Arc<Topology>, Duration) {
        let (topology, read_at) = self.standing();
        (topology, read_at.unwrap_or_default())
    }
}
