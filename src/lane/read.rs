//! Reading lanes: a few threads per partition, and connections for reads that need none.
//!
//! The threads own no connections: they take them from the partition's pool, as rounds do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::pool::Pool;
use super::reader::{Reader, with_reader};
use super::{Connect, Deadline, LaneError, LaneLimits};
use crate::clock::Clock;
use crate::partition::PartitionError;
use crate::session::SessionError;

/// What became of work on a read lane.
pub type Answer<T> = Result<Result<T, SessionError>, LaneError>;

type Job = Box<dyn FnOnce() + Send>;

/// The handle of a partition's read lane; dropping it lets what waits finish and ends its threads.
pub struct ReadLane {
    queue: Option<SyncSender<Job>>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    threads: Vec<JoinHandle<()>>,
}

impl ReadLane {
    /// Starts the threads.
    pub fn start(
        name: &str,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        limits: LaneLimits,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(limits.queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Vec::new();
        for nth in 0..limits.read_threads {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name(format!("read-{name}-{nth}"));
            threads.push(thread.spawn(move || work(&jobs))?);
        }
        Ok(Self { queue: Some(queue), pool, clock, threads })
    }

    /// Runs `read` on one of the lane's threads.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        read: impl FnMut(&mut Reader) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<Result<T, SessionError>, LaneError> {
        self.submit(deadline, read)?.await.map_err(|_| LaneError::Stopped)?
    }

    /// Puts `work` on the lane; the answer comes over the channel. Work whose answer nobody waits
    /// for any more when its turn comes is not begun.
    pub fn submit<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnMut(&mut Reader) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Answer<T>>, LaneError> {
        let (reply, answer) = oneshot::channel();
        let (pool, clock) = (Arc::clone(&self.pool), Arc::clone(&self.clock));
        let job: Job = Box::new(move || {
            if clock.monotonic() > deadline.0 {
                drop(reply.send(Err(LaneError::DeadlinePassed)));
            } else if !reply.is_closed() {
                drop(reply.send(Ok(pool.read(work))));
            }
        });
        let queue = self.queue.as_ref().ok_or(LaneError::Stopped)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => LaneError::Overloaded,
            TrySendError::Disconnected(_) => LaneError::Stopped,
        })?;
        Ok(answer)
    }
}

impl Drop for ReadLane {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic of the lane was reported when it happened.
            drop(thread.join());
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Connections for small point reads of a local engine, on the thread that asks: it cannot wait for
/// one. Each thread begins its search at a place of its own and so gets the connection that it had
/// before, whose pages are in its caches, without waiting for anybody.
pub struct LocalReaders {
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    places: Box<[Place]>,
    kept_bytes_max: usize,
}

/// A connection that waits for the next to come, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Place(Mutex<Option<Reader>>);

/// Numbers for threads, in the order in which they first read.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl LocalReaders {
    /// Keeps at most `idle_max` connections for the next to come, each with up to `kept_bytes_max`
    /// of what it has read.
    pub fn new(
        connect: Arc<dyn Connect>,
        clock: Arc<dyn Clock>,
        idle_max: usize,
        kept_bytes_max: usize,
    ) -> Self {
        let places = (0..idle_max).map(|_| Place::default()).collect();
        Self { connect, clock, places, kept_bytes_max }
    }

    /// Runs `read` here; it is `began` now.
    pub fn run<T>(
        &self,
        began: Duration,
        mut read: impl FnMut(&mut Reader) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let read = |reader: &mut Reader| {
            reader.keep_points(self.kept_bytes_max)?;
            read(reader)
        };
        let own = THREAD.with(|thread| *thread);
        let from_own = (own..own + self.places.len()).map(|nth| nth % self.places.len());
        let mut free = from_own.filter_map(|nth| self.places[nth].0.try_lock().ok());
        // Where more read at once than places are kept: a connection for this once.
        let (mut place, mut once) = (free.next(), None);
        let slot = place.as_deref_mut().unwrap_or(&mut once);
        with_reader(slot, self.connect.as_ref(), (self.clock.as_ref(), began), read)
    }
}

impl From<PartitionError> for LaneError {
    fn from(error: PartitionError) -> Self {
        Self::Failed(Arc::new(error))
    }
}
