//! The write lane: group commit, a connection and a thread each for as many transactions as may be
//! under way.
//!
//! One thread at a time has the queue: it takes what waits into one transaction, and then again.
//! Where the end of a transaction takes long against the rest of it ([`super::pace`]), threads take
//! turns: whoever has the queue lets the next one have it when nothing but the end is left
//! ([`Partition::commit_telling`]). So a distant partition works on the next batch while it flushes
//! the last one, batches stay as large as they would be with one thread, and they are committed in
//! the order in which the writes came. An engine that does not tell has one thread: more would only
//! wait.
//!
//! A write that waits behind a server that hangs may be withdrawn ([`Pending::withdraw`]): the lane
//! and whoever asked both claim it, and only the first of the two has it. So whoever withdraws it
//! knows that nothing was done, and may route it elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::batch::{self, Batch, BatchError};
use super::pace::Pace;
use super::{Connect, DEAD_AT_ONCE, Deadline, LaneError, LaneLimits, Topologies};
use crate::clock::Clock;
use crate::partition::{Partition, PartitionError};
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId};
use crate::write::{Outcome, Write};

/// What became of a write.
pub type Answer = Result<Outcome, LaneError>;

/// Taken by whoever swaps it first: the lane that begins the write, or who withdraws it.
type Claim = Arc<AtomicBool>;

struct Request {
    write: Write,
    deadline: Deadline,
    reply: oneshot::Sender<Answer>,
    claim: Claim,
}

/// A write on a lane: a future of its answer, after commit.
pub struct Pending {
    answer: oneshot::Receiver<Answer>,
    claim: Claim,
}

impl Pending {
    /// Takes the write from the lane. `true`: nothing was done, and nothing will be. `false`: it
    /// was begun.
    pub fn withdraw(&self) -> bool {
        !self.claim.swap(true, Ordering::SeqCst)
    }

    /// Waits for the answer on a thread that may.
    pub fn blocking_recv(self) -> Result<Answer, RecvError> {
        self.answer.blocking_recv()
    }
}

impl Future for Pending {
    type Output = Result<Answer, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context)
    }
}

/// What a lane's threads work with.
#[derive(Clone)]
pub struct WriteLaneParts {
    /// The partition that the lane writes to.
    pub id: PartitionId,
    /// Its name: the threads are called after it.
    pub name: Arc<str>,
    /// How to reach it.
    pub connect: Arc<dyn Connect>,
    /// Where the topology comes from.
    pub topologies: Arc<dyn Topologies>,
    /// Time, for deadlines.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: LaneLimits,
}

/// The handle of a write lane; dropping it lets what waits finish and ends the threads.
pub struct WriteLane {
    queue: Option<SyncSender<Request>>,
    waiting_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl WriteLane {
    /// Starts the lane's threads.
    pub fn start(parts: &WriteLaneParts) -> std::io::Result<Self> {
        let (queue, requests) = sync_channel(parts.limits.queue_max);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let intake = Intake {
            requests,
            held: None,
            waiting_bytes: Arc::clone(&waiting_bytes),
            limits: parts.limits,
        };
        let intake = Arc::new(tokio::sync::Mutex::new(intake));
        let start = |nth| {
            let mut lane = Lane {
                parts: parts.clone(),
                intake: Arc::clone(&intake),
                connection: None,
                turn: None,
                pace: Pace::default(),
            };
            let thread = std::thread::Builder::new().name(format!("write-{}-{nth}", parts.name));
            thread.spawn(move || lane.run())
        };
        let threads = (0..parts.limits.write_threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self {
            queue: Some(queue),
            waiting_bytes,
            queue_bytes_max: parts.limits.queue_bytes_max,
            threads: Mutex::new(threads),
        })
    }

    /// Puts a write on the lane.
    pub fn submit(&self, write: Write, deadline: Deadline) -> Result<Pending, LaneError> {
        let weight = write.weight();
        let waiting = self.waiting_bytes.fetch_add(weight, Ordering::SeqCst);
        let (reply, answer) = oneshot::channel();
        let claim = Claim::default();
        let request = Request { write, deadline, reply, claim: Arc::clone(&claim) };
        let sent = match &self.queue {
            // One write alone is always let in, however large it is.
            Some(_) if waiting > 0 && waiting + weight > self.queue_bytes_max => {
                Err(LaneError::Overloaded)
            }
            Some(queue) => queue.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => LaneError::Overloaded,
                TrySendError::Disconnected(_) => LaneError::Stopped,
            }),
            None => Err(LaneError::Stopped),
        };
        match sent {
            Ok(()) => Ok(Pending { answer, claim }),
            Err(error) => {
                self.waiting_bytes.fetch_sub(weight, Ordering::SeqCst);
                Err(error)
            }
        }
    }
}

impl Drop for WriteLane {
    fn drop(&mut self) {
        self.queue = None;
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic of the lane was reported when it happened.
            drop(thread.join());
        }
    }
}

/// A connection that was opened for writing.
struct Open {
    partition: Box<dyn Partition + Send>,
    /// The epoch under which it was last written over.
    begun: Option<Epoch>,
}

/// Where the writes come from, for one thread at a time.
struct Intake {
    requests: Receiver<Request>,
    /// Did not fit into the last batch.
    held: Option<Request>,
    waiting_bytes: Arc<AtomicUsize>,
    limits: LaneLimits,
}

impl Intake {
    /// Waits for a request and takes along whatever else is waiting, within the limits; `None` once
    /// the handle is gone and the queue is empty.
    fn next_batch(&mut self) -> Option<Vec<Request>> {
        let first = match self.held.take() {
            Some(request) => request,
            None => self.requests.recv().ok()?,
        };
        let limits = self.limits;
        let mut bytes = first.write.weight();
        let mut merges = usize::from(first.write.needs_value());
        let mut batch = vec![first];
        while batch.len() < limits.batch_rows_max {
            let request = match self.requests.try_recv() {
                Ok(request) => request,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
            bytes += request.write.weight();
            merges += usize::from(request.write.needs_value());
            if bytes > limits.batch_bytes_max || merges > limits.batch_merges_max {
                bytes -= request.write.weight();
                self.held = Some(request);
                break;
            }
            batch.push(request);
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::SeqCst);
        Some(batch)
    }
}

/// What each of the lane's threads owns.
struct Lane {
    parts: WriteLaneParts,
    intake: Arc<tokio::sync::Mutex<Intake>>,
    connection: Option<Open>,
    /// Held while it is this thread's turn to take writes.
    turn: Option<OwnedMutexGuard<Intake>>,
    pace: Pace,
}

impl Lane {
    fn run(&mut self) {
        loop {
            let turn = self.turn.take();
            let mut turn = turn.unwrap_or_else(|| Arc::clone(&self.intake).blocking_lock_owned());
            let Some(batch) = turn.next_batch() else { return };
            self.turn = Some(turn);
            let (writes, replies) = self.due(batch);
            if writes.is_empty() {
                continue;
            }
            for (reply, result) in replies.into_iter().zip(self.commit(&writes)) {
                // Whoever asked may have gone away; the write stands all the same.
                drop(reply.send(result.map_err(LaneError::from)));
            }
        }
    }

    /// What of a batch is to be done: neither late nor withdrawn.
    fn due(&self, batch: Vec<Request>) -> (Vec<Write>, Vec<oneshot::Sender<Answer>>) {
        let now = self.parts.clock.monotonic();
        let (mut writes, mut replies) =
            (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for request in batch {
            if now > request.deadline.0 {
                // Whoever asked may have gone away.
                drop(request.reply.send(Err(LaneError::DeadlinePassed)));
            } else if !request.claim.swap(true, Ordering::SeqCst) {
                writes.push(request.write);
                replies.push(request.reply);
            }
        }
        (writes, replies)
    }

    fn commit(&mut self, writes: &[Write]) -> Vec<Result<Outcome, BatchError>> {
        let stood_idle = self.connection.is_some();
        let began = self.parts.clock.monotonic();
        let answers = self.try_commit(writes);
        // A connection that stood idle may have died with its server before it took anything. That
        // shows at once: what took its time to fail would only take it again.
        let prompt = self.parts.clock.monotonic() - began < DEAD_AT_ONCE;
        let unsent = |answer: &Result<Outcome, BatchError>| match answer {
            Err(BatchError::NotWritten(error)) => error.lost_connection(),
            Ok(_) | Err(_) => false,
        };
        let is_lost = stood_idle && answers.iter().any(unsent);
        if is_lost {
            self.parts.connect.tell_lost();
        }
        if is_lost && prompt {
            return self.try_commit(writes);
        }
        answers
    }

    fn try_commit(&mut self, writes: &[Write]) -> Vec<Result<Outcome, BatchError>> {
        let (mut open, topology) = match self.connection.take() {
            Some(open) => (open, self.parts.topologies.snapshot().0),
            None => match self.open() {
                Ok(opened) => opened,
                Err(error) => return writes.iter().map(|_| Err(error.clone())).collect(),
            },
        };
        let refresh = |clock| self.parts.topologies.past(clock);
        let (partition, id) = (open.partition.as_mut(), self.parts.id);
        let clock = &self.parts.clock;
        let (began, mut ending) = (clock.monotonic(), None);
        let (pace, turn) = (self.pace, &mut self.turn);
        let mut sealed = || {
            ending = Some(clock.monotonic());
            if pace.overlaps() {
                drop(turn.take());
            }
        };
        let batch = Batch { writes, begun: &mut open.begun, sealed: &mut sealed };
        let answers = batch::commit_refreshing(partition, id, &topology, batch, refresh);
        let in_doubt = answers.iter().any(|answer| match answer {
            Err(BatchError::NotWritten(error) | BatchError::OutcomeUnknown(error)) => {
                !error.keeps_connection()
            }
            Ok(_) | Err(BatchError::Moved { .. } | BatchError::Fenced { .. }) => false,
        });
        if !in_doubt {
            self.connection = Some(open);
            if let Some(ending) = ending {
                self.pace.note(ending - began, clock.monotonic() - ending);
            }
        }
        answers
    }

    /// OPEN-1: a lane opens only under a topology read by quorum since its connection was made.
    fn open(&self) -> Result<(Open, Arc<Topology>), BatchError> {
        let failed = |error| BatchError::NotWritten(Arc::new(error));
        let mut partition = self.parts.connect.connect().map_err(failed)?;
        let topology = self.parts.topologies.read().ok_or_else(|| {
            let why = "no majority of the voters tells who takes which writes";
            failed(PartitionError::Unreachable(why.into()))
        })?;
        batch::open(partition.as_mut(), &topology).map_err(failed)?;
        Ok((Open { partition, begun: None }, topology))
    }
}

impl From<BatchError> for LaneError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Moved { partition } => Self::Moved { partition },
            BatchError::Fenced { clock } => {
                Self::Failed(Arc::new(crate::partition::Refusal::Fenced { clock }.into()))
            }
            BatchError::NotWritten(error) => Self::Failed(error),
            BatchError::OutcomeUnknown(error) => Self::OutcomeUnknown(error),
        }
    }
}
