//! Ends what drips: a socket's own timeouts begin anew with each byte, so that a server, or
//! something on the way, could keep a command going for ever. One thread of the process knows until
//! when each command has to be through, and shuts the sockets of those that are not.
//!
//! A socket is watched only while a command is under way, and is let go under the same lock that
//! the thread shuts it under: its number cannot be another one's by then.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use crate::clock::{Clock, System};

/// How often the thread looks, while anything is watched: commands end that much late at most.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct Watched {
    next: u64,
    /// By number of the command: until when, and over which socket.
    commands: BTreeMap<u64, (Duration, RawFd)>,
    /// Whether the thread waits to be woken.
    sleeps: bool,
}

#[derive(Debug)]
struct Watch {
    clock: System,
    watched: Mutex<Watched>,
    begun: Condvar,
}

static WATCH: OnceLock<Watch> = OnceLock::new();
static THREAD: OnceLock<()> = OnceLock::new();

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched = self.lock();
        loop {
            watched = if watched.commands.is_empty() {
                watched.sleeps = true;
                self.begun.wait(watched).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.begun.wait_timeout(watched, LOOK);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            let now = self.clock.monotonic();
            watched.commands.retain(|_, (until, socket)| {
                let goes_on = now < *until;
                if !goes_on {
                    // It may be shut already, by the other side.
                    let _ = shutdown(*socket, Shutdown::Both);
                }
                goes_on
            });
        }
    }
}

/// Watches a command until dropped.
#[derive(Debug)]
pub(super) struct Watching {
    watch: &'static Watch,
    number: u64,
}

/// Shuts `socket` if the command that begins now is not through within `limit`.
pub(super) fn watch(socket: RawFd, limit: Duration) -> Watching {
    let watch = WATCH.get_or_init(|| Watch {
        clock: System::new(),
        watched: Mutex::default(),
        begun: Condvar::new(),
    });
    THREAD.get_or_init(|| {
        // Without a thread there are still the socket's own timeouts.
        drop(std::thread::Builder::new().name("mysql-watch".into()).spawn(|| watch.run()));
    });
    let mut watched = watch.lock();
    let number = watched.next;
    watched.next += 1;
    let until = watch.clock.monotonic() + limit;
    watched.commands.insert(number, (until, socket));
    let sleeps = std::mem::take(&mut watched.sleeps);
    drop(watched);
    if sleeps {
        watch.begun.notify_one();
    }
    Watching { watch, number }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.lock().commands.remove(&self.number);
    }
}
