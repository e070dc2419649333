//! Point reads of distant partitions: a few threads, a connection each, and as many reads at once
//! as are waiting.
//!
//! Whoever is free takes all that waits, up to [`KEYS_MAX`] keys, into one
//! [`Partition::get`](crate::partition::Partition::get), which a server answers in one round trip.
//! So the more is asked, the less each answer costs, and nobody waits for a batch to fill. A value
//! above [`INLINE_BYTES_MAX`] is answered by its size: reading it is for a read lane, where it
//! keeps nobody waiting.
//!
//! A connection that died while nobody used it is made anew, once: a partition that was restarted
//! in between answers without anybody noticing. Reads change nothing, so that is safe.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::reader::{Reader, with_reader};
use super::{Connect, Deadline, LaneError, LaneLimits};
use crate::age::Over;
use crate::clock::Clock;
use crate::partition::{Fetched, Found, Get};
use crate::record::Key;
use crate::session::{Behind, get_judged};
use crate::vector::Vector;

/// The most keys in one read: what the largest prepared statement takes.
pub const KEYS_MAX: usize = 64;
/// The most reads that share those keys.
const READS_MAX: usize = 4 * KEYS_MAX;
/// Values up to here come with the answer.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// What a point read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The row, or the size of one that is too large; `None`: no row at all.
    pub found: Option<Found>,
    /// The partition's own time, which judges expiry: milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// What it came over.
    pub over: Over,
}

/// Why a point read was not served.
#[derive(Clone, Debug)]
pub enum PointError {
    /// The partition has not yet all that the token covers.
    Behind(Behind),
    /// It was not carried out.
    Lane(LaneError),
}

impl From<LaneError> for PointError {
    fn from(error: LaneError) -> Self {
        Self::Lane(error)
    }
}

type Answer = Result<Point, PointError>;

struct Request {
    key: Key,
    token: Vector,
    deadline: Deadline,
    reply: oneshot::Sender<Answer>,
}

/// The handle of a partition's point lane; dropping it lets what waits finish and ends its threads.
pub struct PointLane {
    queue: Option<SyncSender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl PointLane {
    /// Starts the threads.
    pub fn start(
        name: &str,
        connect: &Arc<dyn Connect>,
        clock: &Arc<dyn Clock>,
        limits: LaneLimits,
    ) -> std::io::Result<Self> {
        let (queue, requests) = sync_channel::<Request>(limits.queue_max);
        let requests = Arc::new(Mutex::new(requests));
        let mut threads = Vec::new();
        for nth in 0..limits.read_threads {
            let mut lane = Lane {
                requests: Arc::clone(&requests),
                connect: Arc::clone(connect),
                clock: Arc::clone(clock),
                reader: None,
            };
            let thread = std::thread::Builder::new().name(format!("point-{name}-{nth}"));
            threads.push(thread.spawn(move || lane.run())?);
        }
        Ok(Self { queue: Some(queue), threads })
    }

    /// Reads `key`, if the partition covers `token` (RYW-1).
    pub async fn get(&self, key: Key, token: Vector, deadline: Deadline) -> Answer {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(LaneError::Stopped)?;
        queue.try_send(Request { key, token, deadline, reply }).map_err(|error| match error {
            TrySendError::Full(_) => LaneError::Overloaded,
            TrySendError::Disconnected(_) => LaneError::Stopped,
        })?;
        answer.await.unwrap_or(Err(LaneError::Stopped.into()))
    }
}

impl Drop for PointLane {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic of the lane was reported when it happened.
            drop(thread.join());
        }
    }
}

/// What waits for the same read, key by key.
#[derive(Default)]
struct Batch {
    keys: Vec<Key>,
    places: HashMap<Key, usize>,
    reads: Vec<(usize, Request)>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.keys.len() == KEYS_MAX || self.reads.len() == READS_MAX
    }

    fn add(&mut self, request: Request) {
        let place = *self.places.entry(request.key.clone()).or_insert_with(|| {
            self.keys.push(request.key.clone());
            self.keys.len() - 1
        });
        self.reads.push((place, request));
    }
}

/// What one thread owns.
struct Lane {
    requests: Arc<Mutex<Receiver<Request>>>,
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    reader: Option<Reader>,
}

impl Lane {
    fn run(&mut self) {
        while let Some(batch) = self.next_batch() {
            if !batch.reads.is_empty() {
                self.serve(batch);
            }
        }
    }

    /// Waits for a request and takes along whatever else is waiting; `None` once the handle is gone
    /// and the queue is empty. Who came too late is told so, who has gone away is left out.
    fn next_batch(&self) -> Option<Batch> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let first = requests.recv().ok()?;
        let mut batch = Batch::default();
        let now = self.clock.monotonic();
        let mut next = Some(first);
        while let Some(request) = next {
            if now > request.deadline.0 {
                drop(request.reply.send(Err(LaneError::DeadlinePassed.into())));
            } else if !request.reply.is_closed() {
                batch.add(request);
            }
            next = if batch.is_full() { None } else { requests.try_recv().ok() };
        }
        Some(batch)
    }

    fn serve(&mut self, batch: Batch) {
        let tokens: Vec<&Vector> = batch.reads.iter().map(|(_, request)| &request.token).collect();
        let result = self.read(&batch.keys, &tokens);
        match result {
            Ok((since, fetched, behind)) => {
                let over = Over { since, reseed: fetched.reseed };
                for ((place, request), behind) in batch.reads.into_iter().zip(behind) {
                    let found = || fetched.rows.get(place).cloned().flatten();
                    let answer = match behind {
                        Some(behind) => Err(PointError::Behind(behind)),
                        None => Ok(Point { found: found(), now_ms: fetched.now_ms, over }),
                    };
                    // Whoever asked may have gone away.
                    drop(request.reply.send(answer));
                }
            }
            Err(error) => {
                let error = LaneError::from(error);
                for (_, request) in batch.reads {
                    drop(request.reply.send(Err(error.clone().into())));
                }
            }
        }
    }

    fn read(&mut self, keys: &[Key], tokens: &[&Vector]) -> Read {
        let get = Get { keys, inline_bytes_max: INLINE_BYTES_MAX };
        let (connect, clock) = (self.connect.as_ref(), self.clock.as_ref());
        with_reader(&mut self.reader, connect, clock, |reader| {
            let partition = reader.partition.as_mut();
            let (fetched, behind) = get_judged(partition, &mut reader.seen, &get, tokens)?;
            Ok((reader.since, fetched, behind))
        })
    }
}

type Read = crate::partition::Result<(Duration, Fetched, Vec<Option<Behind>>)>;
