//! Point reads of distant partitions: a few threads, a connection each, and as many reads at once
//! as are waiting.
//!
//! Whoever is free takes all that waits, up to [`KEYS_MAX`] reads, into one
//! [`Partition::get`](crate::partition::Partition::get), which a server answers in one round trip.
//! So the more is asked, the less each answer costs; and while many ask, one thread takes it all
//! and the others step in where it takes long ([`super::gather`]). A value above
//! [`INLINE_BYTES_MAX`] is answered by its size: reading it is for a read lane, where it keeps
//! nobody waiting.
//!
//! A connection that died while nobody used it is made anew, once: a partition that was restarted
//! in between answers without anybody noticing. Reads change nothing, so that is safe.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::gather::{Gather, Refused, Taking};
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
/// How long reads are left to the thread that is under way: a few round trips to a server nearby.
const PATIENCE: Duration = Duration::from_millis(1);
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

/// What became of a read.
pub type Answer = Result<Point, PointError>;

struct Request {
    key: Key,
    token: Vector,
    deadline: Deadline,
    reply: oneshot::Sender<Answer>,
}

/// The handle of a partition's point lane; dropping it lets what waits finish and ends its threads.
pub struct PointLane {
    queue: Arc<Gather<Request>>,
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
        let taking = Taking { enough: KEYS_MAX, patience: PATIENCE };
        let queue = Arc::new(Gather::new(limits.queue_max, taking));
        let mut threads = Vec::new();
        for nth in 0..limits.read_threads {
            let mut lane = Lane {
                queue: Arc::clone(&queue),
                connect: Arc::clone(connect),
                clock: Arc::clone(clock),
                reader: None,
            };
            let thread = std::thread::Builder::new().name(format!("point-{name}-{nth}"));
            threads.push(thread.spawn(move || lane.run())?);
        }
        Ok(Self { queue, threads })
    }

    /// Reads `key`, if the partition covers `token` (RYW-1).
    pub async fn get(&self, key: Key, token: Vector, deadline: Deadline) -> Answer {
        self.submit(key, token, deadline)?.await.unwrap_or(Err(LaneError::Stopped.into()))
    }

    /// How many reads have no answer yet.
    pub fn pending(&self) -> usize {
        self.queue.pending()
    }

    /// Has `key` read, if the partition covers `token` (RYW-1); the answer comes over the channel.
    pub fn submit(
        &self,
        key: Key,
        token: Vector,
        deadline: Deadline,
    ) -> Result<oneshot::Receiver<Answer>, LaneError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Request { key, token, deadline, reply }).map_err(
            |refused| match refused {
                Refused::Full => LaneError::Overloaded,
                Refused::Stopped => LaneError::Stopped,
            },
        )?;
        Ok(answer)
    }
}

impl Drop for PointLane {
    fn drop(&mut self) {
        self.queue.stop();
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
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    reads: Vec<(usize, Request)>,
}

impl Batch {
    /// Who came too late is told so, who has gone away is left out.
    fn of(requests: Vec<Request>, now: Duration) -> Self {
        let mut batch = Self::default();
        for request in requests {
            if now > request.deadline.0 {
                drop(request.reply.send(Err(LaneError::DeadlinePassed.into())));
            } else if !request.reply.is_closed() {
                batch.add(request);
            }
        }
        batch
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
    queue: Arc<Gather<Request>>,
    connect: Arc<dyn Connect>,
    clock: Arc<dyn Clock>,
    reader: Option<Reader>,
}

impl Lane {
    fn run(&mut self) {
        let queue = Arc::clone(&self.queue);
        while let Some((requests, _at_work)) = queue.take() {
            let batch = Batch::of(requests, self.clock.monotonic());
            if !batch.reads.is_empty() {
                self.serve(batch);
            }
        }
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
        with_reader(&mut self.reader, connect, (clock, clock.monotonic()), |reader| {
            let partition = reader.partition.as_mut();
            let (fetched, behind) = get_judged(partition, &mut reader.seen, &get, tokens)?;
            Ok((reader.since, fetched, behind))
        })
    }
}

type Read = crate::partition::Result<(Duration, Fetched, Vec<Option<Behind>>)>;
