//! Push lanes: rows on their way to another voter, as many as wait in one transaction.
//!
//! A push is a few statements and a flush, whatever it brings. One thread per voter takes all rows
//! that wait, of writers under one topology, and pushes them together, over a connection of the
//! partition's pool; while it does, others gather. Who waits no longer is left out, and what comes
//! too late is not begun: the sync job brings the row in any case.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::pool::Pool;
use super::{Deadline, LaneError, LaneLimits};
use crate::ack;
use crate::clock::Clock;
use crate::partition::Result;
use crate::record::Record;
use crate::topology::Topology;

/// What became of a push; `Ok`: the row is held there, durably.
pub type Answer = std::result::Result<(), LaneError>;

struct Request {
    row: Record,
    topology: Arc<Topology>,
    deadline: Deadline,
    reply: oneshot::Sender<Answer>,
}

/// The handle of a voter's push lane; dropping it lets what waits finish and ends its thread.
pub struct PushLane {
    queue: Option<SyncSender<Request>>,
    waiting_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PushLane {
    /// Starts the thread.
    pub fn start(
        name: &str,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        limits: LaneLimits,
    ) -> std::io::Result<Self> {
        let (queue, requests) = sync_channel(limits.queue_max);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (bytes, held) = (Arc::clone(&waiting_bytes), None);
        let mut lane = Lane { requests, waiting_bytes: bytes, pool, clock, limits, held };
        let thread = std::thread::Builder::new().name(format!("push-{name}"));
        Ok(Self {
            queue: Some(queue),
            waiting_bytes,
            queue_bytes_max: limits.queue_bytes_max,
            thread: Mutex::new(Some(thread.spawn(move || lane.run())?)),
        })
    }

    /// Puts a row on the lane that its master has committed under `topology`.
    pub fn submit(
        &self,
        row: Record,
        topology: Arc<Topology>,
        deadline: Deadline,
    ) -> std::result::Result<oneshot::Receiver<Answer>, LaneError> {
        let queue = self.queue.as_ref().ok_or(LaneError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let weight = row.weight();
        let waiting = self.waiting_bytes.fetch_add(weight, Ordering::SeqCst);
        // One row alone is always let in, however large it is.
        let sent = if waiting > 0 && waiting + weight > self.queue_bytes_max {
            Err(LaneError::Overloaded)
        } else {
            queue.try_send(Request { row, topology, deadline, reply }).map_err(
                |error| match error {
                    TrySendError::Full(_) => LaneError::Overloaded,
                    TrySendError::Disconnected(_) => LaneError::Stopped,
                },
            )
        };
        match sent {
            Ok(()) => Ok(answer),
            Err(error) => {
                self.waiting_bytes.fetch_sub(weight, Ordering::SeqCst);
                Err(error)
            }
        }
    }
}

impl Drop for PushLane {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the lane was reported when it happened.
            drop(thread.join());
        }
    }
}

/// What the thread owns.
struct Lane {
    requests: Receiver<Request>,
    waiting_bytes: Arc<AtomicUsize>,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    limits: LaneLimits,
    /// Did not fit into the last batch.
    held: Option<Request>,
}

impl Lane {
    fn run(&mut self) {
        while let Some(batch) = self.next_batch() {
            let now = self.clock.monotonic();
            let (due, late): (Vec<Request>, Vec<Request>) =
                batch.into_iter().partition(|request| now <= request.deadline.0);
            for request in late {
                // Whoever asked may have gone away; so below.
                drop(request.reply.send(Err(LaneError::DeadlinePassed)));
            }
            let due: Vec<Request> =
                due.into_iter().filter(|request| !request.reply.is_closed()).collect();
            let Some(first) = due.first() else { continue };
            let topology = Arc::clone(&first.topology);
            let (rows, replies): (Vec<Record>, Vec<_>) =
                due.into_iter().map(|request| (request.row, request.reply)).unzip();
            let pushed: Result<()> =
                self.pool.read(|reader| ack::push(reader.partition.as_mut(), &rows, &topology));
            let answer: Answer = pushed.map_err(LaneError::from);
            for reply in replies {
                drop(reply.send(answer.clone()));
            }
        }
    }

    /// Waits for a row and takes along whatever else is waiting under the same topology, within the
    /// limits; `None` once the handle is gone and the queue is empty.
    fn next_batch(&mut self) -> Option<Vec<Request>> {
        let first = match self.held.take() {
            Some(request) => request,
            None => self.requests.recv().ok()?,
        };
        let (topology, mut bytes) = (Arc::clone(&first.topology), first.row.weight());
        let mut batch = vec![first];
        while batch.len() < self.limits.batch_rows_max {
            let Ok(request) = self.requests.try_recv() else { break };
            let weight = request.row.weight();
            if bytes + weight > self.limits.batch_bytes_max
                || !is_same(&request.topology, &topology)
            {
                self.held = Some(request);
                break;
            }
            bytes += weight;
            batch.push(request);
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::SeqCst);
        Some(batch)
    }
}

/// Whether two are the same document; those that were configured have no revisions.
fn is_same(a: &Topology, b: &Topology) -> bool {
    (a.epoch(), a.revision()) == (b.epoch(), b.revision())
}
