//! Reading lanes: a few threads per partition, and connections for reads that need none.
//!
//! The threads own no connections: they take them from the partition's pool, as rounds do.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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

/// Connections for small point reads of a local engine, on the thread that asks: as many as ask at
/// once, since that thread cannot wait for one.
pub struct LocalReaders {
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<Reader>>,
    idle_max: usize,
}

impl LocalReaders {
    /// Keeps at most `idle_max` connections for the next to come.
    pub fn new(connect: Arc<dyn Connect>, clock: Arc<dyn Clock>, idle_max: usize) -> Self {
        Self { connect, clock, idle: Mutex::default(), idle_max }
    }

    /// Runs `read` here and now.
    pub fn run<T>(
        &self,
        read: impl FnMut(&mut Reader) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let mut slot = self.lock().pop();
        let result = with_reader(&mut slot, self.connect.as_ref(), self.clock.as_ref(), read);
        if let Some(reader) = slot {
            let mut idle = self.lock();
            if idle.len() < self.idle_max {
                idle.push(reader);
            }
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<PartitionError> for LaneError {
    fn from(error: PartitionError) -> Self {
        Self::Failed(Arc::new(error))
    }
}
