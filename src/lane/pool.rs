//! The connections to one partition for whoever is not on a lane of its own: read lanes (lists,
//! large values, pushes, questions of an operator) and rounds of sync.
//!
//! `r2d2` keeps and bounds *places*; a connection is made by whoever takes a place without one, so
//! that the reason why it cannot be made is told at once and as it was, on the thread that waits
//! for it. Whether a connection may be used again is decided without sending anything: not where it
//! met an error that leaves it in doubt (TALK-1), not where nobody has used it for a while, since a
//! server or something on the way may have ended it, and not where another one was lost meanwhile,
//! since that server may have ended all of them.
//!
//! A pool is a [`Connect`] itself: what it gives out is a [`Partition`] that goes back when
//! dropped.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use scheduled_thread_pool::ScheduledThreadPool;

use super::reader::{Failure, Reader, failed, with_reader};
use super::{Connect, LaneLimits};
use crate::clock::Clock;
use crate::partition::acceptor::{Acceptor, Ballot};
use crate::partition::beat::Beat;
use crate::partition::upkeep::{
    Conflict, ConflictPlace, Digest, Expired, Inspection, Lost, Repair, Repaired, Stride, Survey,
};
use crate::partition::{
    Applied, Beginning, Chunk, Fetched, Get, Identity, Jump, Listing, Page, PageRequest, Partition,
    PartitionError, Push, Range, Reissued, ReseedNumber, ReseedStep, Result, Status, Trim, Trimmed,
};
use crate::record::Key;
use crate::topology::cut::SlotSet;
use crate::topology::{Incarnation, Topology};
use crate::version::{Epoch, PartitionId, RunId};
use crate::write::{Outcome, Write};

/// How long a connection may be idle before it is made anew: below what servers and firewalls
/// allow.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long to wait for a place to become free.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Places besides those of a read lane's threads: a push lane, a round of sync, and one to spare.
const BESIDE_LANE: usize = 3;

/// The connections to one partition.
pub struct Pool {
    places: r2d2::Pool<Places>,
    home: Arc<Home>,
}

/// What connections come from, and what is known of all of them.
struct Home {
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
}

/// Room for one connection.
#[derive(Default)]
struct Place {
    slot: Option<Reader>,
    /// When it was last used.
    used: Duration,
}

/// Places cost nothing and never break.
struct Places;

impl r2d2::ManageConnection for Places {
    type Connection = Place;
    type Error = Infallible;

    fn connect(&self) -> Result<Place, Infallible> {
        Ok(Place::default())
    }

    fn is_valid(&self, _: &mut Place) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Place) -> bool {
        false
    }
}

impl Pool {
    /// Connections for a lane of these limits, and for rounds; none is made before it is needed.
    pub fn new(connect: Arc<dyn Connect>, clock: Arc<dyn Clock>, limits: LaneLimits) -> Self {
        let places = u32::try_from(limits.read_threads + BESIDE_LANE).unwrap_or(u32::MAX);
        let places = r2d2::Pool::builder()
            .max_size(places)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(WAIT_MAX)
            .idle_timeout(Some(IDLE_MAX))
            .max_lifetime(None)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            // One of its own: closing connections to a partition that hangs keeps nobody else.
            .thread_pool(Arc::new(ScheduledThreadPool::new(1)))
            .build_unchecked(Places);
        Self { places, home: Arc::new(Home { connect, clock }) }
    }

    /// A connection; it goes back when it is dropped.
    pub fn take(&self) -> Result<Pooled> {
        let mut pooled = self.place()?;
        if pooled.place.slot.is_none() {
            pooled.place.slot =
                Some(Reader::connect(self.home.connect.as_ref(), self.home.clock.as_ref())?);
        }
        Ok(pooled)
    }

    /// Runs `read` over a connection; once more, over a new one, where it had died unnoticed.
    pub fn read<T, E: Failure>(
        &self,
        read: impl FnMut(&mut Reader) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pooled = self.place()?;
        let Home { connect, clock } = self.home.as_ref();
        let now = (clock.as_ref(), clock.monotonic());
        with_reader(&mut pooled.place.slot, connect.as_ref(), now, read)
    }

    /// A place, with a connection that may be used or with none.
    fn place(&self) -> Result<Pooled> {
        let place = self.places.get().map_err(|error| PartitionError::Busy(error.into()))?;
        let mut pooled = Pooled { place, home: Arc::clone(&self.home), was_kept: false };
        let idle = self.home.clock.monotonic().saturating_sub(pooled.place.used);
        let connect = self.home.connect.as_ref();
        pooled.place.slot =
            pooled.place.slot.take().filter(|kept| idle <= IDLE_MAX && kept.is_of_now(connect));
        pooled.was_kept = pooled.place.slot.is_some();
        Ok(pooled)
    }
}

impl Connect for Pool {
    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Ok(Box::new(self.take()?))
    }

    fn set_aside_if_put_back(&self) -> Result<Option<PartitionError>> {
        self.home.connect.set_aside_if_put_back()
    }

    fn tell_lost(&self) {
        self.home.connect.tell_lost();
    }

    fn losses(&self) -> u64 {
        self.home.connect.losses()
    }
}

/// A connection taken from a [`Pool`].
pub struct Pooled {
    place: r2d2::PooledConnection<Places>,
    home: Arc<Home>,
    /// Whether somebody had used it before.
    was_kept: bool,
}

/// A connection that broke while it was taken.
#[derive(Debug, thiserror::Error)]
#[error("the connection was given up")]
struct GivenUp;

impl Pooled {
    /// Asks the partition; gives the connection up where that left it in doubt.
    fn ask<T>(&mut self, what: impl FnOnce(&mut dyn Partition) -> Result<T>) -> Result<T> {
        let Some(reader) = &mut self.place.slot else {
            return Err(PartitionError::Unreachable(GivenUp.into()));
        };
        let result = what(reader.partition.as_mut());
        if self.was_kept && failed(&result).is_some_and(PartitionError::lost_connection) {
            self.home.connect.tell_lost();
        }
        if matches!(&result, Err(error) if !error.keeps_connection()) {
            self.place.slot = None;
        }
        result
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.place.used = self.home.clock.monotonic();
    }
}

impl Partition for Pooled {
    fn identity(&mut self) -> Result<Option<Identity>> {
        self.ask(|partition| partition.identity())
    }

    fn found(&mut self, identity: &Identity) -> Result<Identity> {
        self.ask(|partition| partition.found(identity))
    }

    fn status(&mut self) -> Result<Status> {
        self.ask(|partition| partition.status())
    }

    fn open_lane(&mut self) -> Result<Epoch> {
        self.ask(|partition| partition.open_lane())
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        self.ask(|partition| partition.jumps())
    }

    fn raise(&mut self, epoch: Epoch) -> Result<()> {
        self.ask(|partition| partition.raise(epoch))
    }

    fn commit(&mut self, epoch: Epoch, writes: &[Write]) -> Result<Vec<Outcome>> {
        self.ask(|partition| partition.commit(epoch, writes))
    }

    fn reissue(&mut self, epoch: Epoch, slots: &SlotSet) -> Result<Reissued> {
        self.ask(|partition| partition.reissue(epoch, slots))
    }

    fn push(&mut self, push: &Push) -> Result<()> {
        self.ask(|partition| partition.push(push))
    }

    fn get(&mut self, get: &Get<'_>) -> Result<Fetched> {
        self.ask(|partition| partition.get(get))
    }

    fn list(&mut self, range: &Range) -> Result<Listing> {
        self.ask(|partition| partition.list(range))
    }

    fn page(&mut self, request: &PageRequest) -> Result<Page> {
        self.ask(|partition| partition.page(request))
    }

    fn barrier(&mut self, run: RunId) -> Result<()> {
        self.ask(|partition| partition.barrier(run))
    }

    fn apply(&mut self, page: &Page, reseed: ReseedNumber) -> Result<Applied> {
        self.ask(|partition| partition.apply(page, reseed))
    }

    fn trim(&mut self, trim: &Trim) -> Result<Trimmed> {
        self.ask(|partition| partition.trim(trim))
    }

    fn scan(&mut self, after: Option<&Key>, rows_max: usize, bytes_max: usize) -> Result<Chunk> {
        self.ask(|partition| partition.scan(after, rows_max, bytes_max))
    }

    fn beat(&mut self, frontend: &str, document: Option<&str>) -> Result<()> {
        self.ask(|partition| partition.beat(frontend, document))
    }

    fn beats(&mut self) -> Result<Vec<Beat>> {
        self.ask(|partition| partition.beats())
    }

    fn reseed(&mut self, number: ReseedNumber, step: &ReseedStep) -> Result<ReseedNumber> {
        self.ask(|partition| partition.reseed(number, step))
    }

    fn expired(&mut self, after: Option<&Expired>, max: usize) -> Result<Vec<Expired>> {
        self.ask(|partition| partition.expired(after, max))
    }

    fn digest(&mut self, stride: &Stride) -> Result<Digest> {
        self.ask(|partition| partition.digest(stride))
    }

    fn survey(&mut self, stride: &Stride) -> Result<Survey> {
        self.ask(|partition| partition.survey(stride))
    }

    fn inspect(&mut self, key: &Key) -> Result<Inspection> {
        self.ask(|partition| partition.inspect(key))
    }

    fn repair(&mut self, repair: &Repair) -> Result<Repaired> {
        self.ask(|partition| partition.repair(repair))
    }

    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Conflict>> {
        self.ask(|partition| partition.conflicts(after, max))
    }

    fn keep(&mut self, lost: &[Lost]) -> Result<()> {
        self.ask(|partition| partition.keep(lost))
    }

    fn forget_conflicts(&mut self, places: &[ConflictPlace], retention: Duration) -> Result<usize> {
        self.ask(|partition| partition.forget_conflicts(places, retention))
    }

    fn begin_anew(&mut self, identity: &Identity, from: Beginning) -> Result<()> {
        self.ask(|partition| partition.begin_anew(identity, from))
    }

    fn forget(&mut self, id: PartitionId) -> Result<()> {
        self.ask(|partition| partition.forget(id))
    }

    fn set_aside(&mut self) -> Result<()> {
        self.ask(|partition| partition.set_aside())
    }

    fn acceptor(&mut self) -> Result<Acceptor> {
        self.ask(|partition| partition.acceptor())
    }

    fn promise(&mut self, incarnation: Incarnation, ballot: Ballot) -> Result<Acceptor> {
        self.ask(|partition| partition.promise(incarnation, ballot))
    }

    fn accept(
        &mut self,
        incarnation: Incarnation,
        ballot: Ballot,
        document: &Topology,
    ) -> Result<()> {
        self.ask(|partition| partition.accept(incarnation, ballot, document))
    }
}
