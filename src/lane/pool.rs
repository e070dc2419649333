//! Connections to one partition for whoever is not on a lane: rounds, administration, long reads.
//!
//! `r2d2` keeps and bounds them; how a connection is made, and whether it may be used again, is
//! decided here, without sending anything: a connection that met an error which leaves it in doubt
//! is dropped (TALK-1), and one that nobody has used for a while is not used again, since a server
//! or something on the way may have ended it. Why a connection could not be made is told as it was,
//! which `r2d2` alone would not do.
//!
//! A pool is a [`Connect`] itself: what it gives out is a [`Partition`] that goes back when
//! dropped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scheduled_thread_pool::ScheduledThreadPool;

use super::Connect;
use crate::clock::Clock;
use crate::partition::beat::Beat;
use crate::partition::{
    Applied, Chunk, Fetched, Get, Identity, Listing, Page, PageRequest, Partition, PartitionError,
    Push, Range, ReseedNumber, ReseedStep, Result, Status, Trim, Trimmed,
};
use crate::record::Key;
use crate::version::{Epoch, RunId};
use crate::write::{Outcome, Write};

/// How long a connection may be idle before it is made anew: below what servers and firewalls
/// allow.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long to wait for a connection to be made or to become free.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The connections to one partition.
pub struct Pool {
    pool: r2d2::Pool<Manager>,
    failure: Arc<Mutex<Option<PartitionError>>>,
}

/// Makes connections, and judges them without asking anybody.
struct Manager {
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    /// Why the last one could not be made.
    failure: Arc<Mutex<Option<PartitionError>>>,
}

/// A connection of the pool.
struct Kept {
    partition: Box<dyn Partition + Send>,
    used: Duration,
    is_in_doubt: bool,
}

/// What `r2d2` is told; the reason itself stands in the pool.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("no connection could be made")]
    NotMade,
    #[error("nobody has used the connection for a while")]
    Idle,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Kept;
    type Error = Unusable;

    fn connect(&self) -> Result<Kept, Unusable> {
        match self.connect.connect() {
            Ok(partition) => {
                Ok(Kept { partition, used: self.clock.monotonic(), is_in_doubt: false })
            }
            Err(error) => {
                *lock(&self.failure) = Some(error);
                Err(Unusable::NotMade)
            }
        }
    }

    fn is_valid(&self, kept: &mut Kept) -> Result<(), Unusable> {
        let now = self.clock.monotonic();
        if now.saturating_sub(kept.used) > IDLE_MAX {
            return Err(Unusable::Idle);
        }
        kept.used = now;
        Ok(())
    }

    fn has_broken(&self, kept: &mut Kept) -> bool {
        kept.used = self.clock.monotonic();
        kept.is_in_doubt
    }
}

impl Pool {
    /// At most `connections_max` connections at once; none is made before it is needed.
    ///
    /// The pool has a thread of its own, so that a partition that hangs keeps no other one's pool
    /// from connecting.
    pub fn new(connect: Arc<dyn Connect>, clock: Arc<dyn Clock>, connections_max: u32) -> Self {
        let failure = Arc::default();
        let manager = Manager { connect, clock, failure: Arc::clone(&failure) };
        let pool = r2d2::Pool::builder()
            .max_size(connections_max.max(1))
            .min_idle(Some(0))
            // Which sends nothing here, see `is_valid`.
            .test_on_check_out(true)
            .connection_timeout(WAIT_MAX)
            .idle_timeout(Some(IDLE_MAX))
            .max_lifetime(None)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .thread_pool(Arc::new(ScheduledThreadPool::new(1)))
            .build_unchecked(manager);
        Self { pool, failure }
    }

    /// A connection; it goes back when it is dropped.
    pub fn take(&self) -> Result<Pooled> {
        drop(lock(&self.failure).take());
        self.pool.get().map(Pooled).map_err(|error| {
            let failure = lock(&self.failure).take();
            failure.unwrap_or_else(|| PartitionError::Busy(Box::new(error)))
        })
    }
}

impl Connect for Pool {
    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Ok(Box::new(self.take()?))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection taken from a [`Pool`].
pub struct Pooled(r2d2::PooledConnection<Manager>);

impl Pooled {
    /// Asks the partition; remembers whether that left the connection in doubt.
    fn ask<T>(&mut self, what: impl FnOnce(&mut dyn Partition) -> Result<T>) -> Result<T> {
        let result = what(self.0.partition.as_mut());
        if matches!(&result, Err(error) if !error.keeps_connection()) {
            self.0.is_in_doubt = true;
        }
        result
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

    fn raise(&mut self, epoch: Epoch) -> Result<()> {
        self.ask(|partition| partition.raise(epoch))
    }

    fn commit(&mut self, epoch: Epoch, writes: &[Write]) -> Result<Vec<Outcome>> {
        self.ask(|partition| partition.commit(epoch, writes))
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
}
