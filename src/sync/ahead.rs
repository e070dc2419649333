//! Reading ahead: a source is read on a thread of its own while the target takes in what was read
//! before.
//!
//! A [`Line`] is one target's way to one source, with at most one thread that reads over it. What
//! it has read waits in a channel of [`AHEAD`] items, so what is held is bounded however far behind
//! the target is. Whoever reads may drop the receiver: the thread ends at its next item, and gives
//! its connection back.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lane::Connect;
use crate::partition::{Partition, PartitionError};

/// How many items wait to be taken in, beside the one being read and the one being taken in.
pub const AHEAD: usize = 1;
/// How long a thread that has nothing more to say is waited for.
const END_MAX: Duration = Duration::from_secs(1);

/// What an item means for the thread that read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// There is more to read.
    ReadOn,
    /// That was all.
    End,
    /// The connection was lost: where that shows at the first item, it had died before.
    Lost,
}

impl Then {
    /// What an error means.
    pub const fn after(error: &PartitionError) -> Self {
        if error.lost_connection() { Self::Lost } else { Self::End }
    }
}

/// One target's way to one source.
pub struct Line {
    connect: Arc<dyn Connect>,
    busy: Mutex<bool>,
    changed: Condvar,
}

impl Line {
    /// Nothing is connected yet.
    pub fn new(connect: Arc<dyn Connect>) -> Self {
        Self { connect, busy: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether nobody reads over it. A thread that has sent its last item is given a moment to come
    /// to its end.
    pub fn is_free(&self) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), END_MAX, |busy| *busy);
        waited.is_ok_and(|(busy, _)| !*busy)
    }

    /// Reads with `next`, over a connection that is taken for it, and sends what it says, until it
    /// says that there is no more or nobody listens. `refused` words an error of connecting. Has to
    /// be called on a line that is free.
    pub fn read<T: Send + 'static>(
        self: &Arc<Self>,
        name: String,
        items: SyncSender<T>,
        mut next: impl FnMut(&mut dyn Partition) -> (T, Then) + Send + 'static,
        refused: impl Fn(PartitionError) -> T + Send + 'static,
    ) -> std::io::Result<()> {
        *self.lock() = true;
        let line = Arc::clone(self);
        let work = move || {
            let _busy = Busy(&line);
            let mut is_first = true;
            let mut connection = match line.connect.connect() {
                Ok(connection) => connection,
                Err(error) => return drop(items.send(refused(error))),
            };
            loop {
                let (item, then) = next(connection.as_mut());
                if then == Then::Lost && is_first {
                    is_first = false;
                    // What could not be had over the old one is told if there is no new one.
                    if let Ok(made) = line.connect.connect() {
                        connection = made;
                        continue;
                    }
                }
                is_first = false;
                let heard = items.send(item).is_ok();
                match then {
                    Then::ReadOn if heard => {}
                    Then::ReadOn | Then::End | Then::Lost => return,
                }
            }
        };
        match std::thread::Builder::new().name(name).spawn(work) {
            Ok(_) => Ok(()),
            Err(error) => {
                *self.lock() = false;
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line is free again when the thread ends, however it ends.
struct Busy<'a>(&'a Line);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.changed.notify_all();
    }
}
