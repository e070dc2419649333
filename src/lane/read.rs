//! Reading lanes: a few threads per partition, and the connections for reads that need none.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Connect, Deadline, LaneError, LaneLimits};
use crate::clock::Clock;
use crate::partition::{Partition, PartitionError};
use crate::session::{Seen, SessionError};

/// A connection for reading with what is known over it.
pub struct Reader {
    /// The connection.
    pub partition: Box<dyn Partition + Send>,
    /// The vector that was last read over it.
    pub seen: Seen,
}

/// What became of work on a read lane.
pub type Answer<T> = Result<Result<T, SessionError>, LaneError>;

type Job = Box<dyn FnOnce(&mut Option<Reader>) + Send>;

/// The handle of a partition's read lane; dropping it lets what waits finish and ends its threads.
pub struct ReadLane {
    queue: Option<SyncSender<Job>>,
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    threads: Vec<JoinHandle<()>>,
}

impl ReadLane {
    /// Starts the threads.
    pub fn start(
        name: &str,
        connect: Arc<dyn Connect>,
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
        Ok(Self { queue: Some(queue), connect, clock, threads })
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
        let connect = Arc::clone(&self.connect);
        let clock = Arc::clone(&self.clock);
        let job: Job = Box::new(move |slot| {
            if clock.monotonic() > deadline.0 {
                drop(reply.send(Err(LaneError::DeadlinePassed)));
            } else if !reply.is_closed() {
                drop(reply.send(Ok(with_reader(slot, connect.as_ref(), work))));
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
    let mut slot = None;
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut slot),
            Err(_) => return,
        }
    }
}

/// Runs `read` over the connection in `slot`, made first where there is none, and kept unless the
/// read left it in doubt. A connection that stood idle may have died with its server: then the read
/// is made once more, over a new one.
fn with_reader<T>(
    slot: &mut Option<Reader>,
    connect: &dyn Connect,
    mut read: impl FnMut(&mut Reader) -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    if let Some(mut reader) = slot.take() {
        match read(&mut reader) {
            Err(SessionError::Partition(error)) if error.lost_connection() => {}
            result => return keep(slot, reader, result),
        }
    }
    let mut reader = Reader { partition: connect.connect()?, seen: Seen::default() };
    let result = read(&mut reader);
    keep(slot, reader, result)
}

fn keep<T>(
    slot: &mut Option<Reader>,
    reader: Reader,
    result: Result<T, SessionError>,
) -> Result<T, SessionError> {
    let good = match &result {
        Err(SessionError::Partition(error)) => error.keeps_connection(),
        Err(SessionError::NotCovered { .. }) | Ok(_) => true,
    };
    if good {
        *slot = Some(reader);
    }
    result
}

/// Connections for small point reads of a local engine, on the thread that asks.
pub struct LocalReaders {
    connect: Arc<dyn Connect>,
    idle: Mutex<Vec<Reader>>,
    idle_max: usize,
}

impl LocalReaders {
    /// Keeps at most `idle_max` connections for the next to come.
    pub fn new(connect: Arc<dyn Connect>, idle_max: usize) -> Self {
        Self { connect, idle: Mutex::default(), idle_max }
    }

    /// Runs `read` here and now.
    pub fn run<T>(
        &self,
        read: impl FnMut(&mut Reader) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let mut slot = self.lock().pop();
        let result = with_reader(&mut slot, self.connect.as_ref(), read);
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
