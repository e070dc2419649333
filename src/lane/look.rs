//! Looks at a partition: one thread and one connection that does nothing else, so that neither what
//! waits on the other lanes nor a long answer there makes a partition seem older than it is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::reader::with_reader;
use super::{Connect, LaneError};
use crate::age::Look;
use crate::clock::Clock;
use crate::partition::Result;

/// Looks that may wait while one is under way: those who look on a tick, and some who cannot wait
/// for it.
const QUEUE_MAX: usize = 16;

type Reply = oneshot::Sender<Result<Look>>;

/// The handle of a partition's look lane; dropping it ends its thread after the look under way.
pub struct LookLane {
    queue: Option<SyncSender<Reply>>,
    thread: Option<JoinHandle<()>>,
}

impl LookLane {
    /// Starts the thread.
    pub fn start(
        name: &str,
        connect: Arc<dyn Connect>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let (queue, asked) = sync_channel::<Reply>(QUEUE_MAX);
        let thread = std::thread::Builder::new().name(format!("look-{name}"));
        let thread = thread.spawn(move || work(&asked, connect.as_ref(), clock.as_ref()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Looks. Whoever does not wait for the answer is not looked for.
    pub async fn look(&self) -> Result<Look, LaneError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(LaneError::Stopped)?;
        queue.try_send(reply).map_err(|error| match error {
            TrySendError::Full(_) => LaneError::Overloaded,
            TrySendError::Disconnected(_) => LaneError::Stopped,
        })?;
        Ok(answer.await.map_err(|_| LaneError::Stopped)??)
    }
}

impl Drop for LookLane {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the lane was reported when it happened.
            drop(thread.join());
        }
    }
}

fn work(asked: &Receiver<Reply>, connect: &dyn Connect, clock: &dyn Clock) {
    let mut slot = None;
    while let Ok(reply) = asked.recv() {
        if reply.is_closed() {
            continue;
        }
        let look = with_reader(&mut slot, connect, (clock, clock.monotonic()), |reader| {
            let look = Look::at(reader.partition.as_mut(), || clock.monotonic())?;
            connect.looked(reader.partition.as_mut(), &look.status)?;
            Ok(look)
        });
        // A voter that serves nothing may be an older copy: a new connection tells.
        let status = look.as_ref().map(|look| &look.status);
        if status.is_ok_and(|status| status.reseeding && !status.partition.is_copy()) {
            slot = None;
        }
        // Whoever asked may have gone away.
        drop(reply.send(look));
    }
}
