//! Processes that a front end starts and finds again: known by their id, the moment they started
//! at, and the folder that stands in their command line. An id alone is given again by the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// How often it is looked whether a process has ended.
const STEP: Duration = Duration::from_millis(20);

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub pid: u32,
    /// When it started, in ticks of the system since its boot.
    pub start: u64,
}

impl Known {
    /// The process of this id, as it runs now. One that has ended and that nobody has waited for
    /// does not run.
    pub fn running(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
        let state = fields.next()?;
        // Of the fields after the name the start is the twentieth.
        let start = fields.nth(18)?.parse().ok()?;
        (!["Z", "X"].contains(&state)).then_some(Self { pid, start })
    }

    /// Whether it runs, and was started with `folder` as its data directory.
    pub fn runs_in(self, folder: &Path) -> bool {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let wanted = format!("--datadir={}", folder.display());
        let has_folder = command.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes());
        has_folder && Self::running(self.pid) == Some(self)
    }
}

/// A server under a front end's eyes: its child, or one that an earlier front end has started.
pub struct Server {
    known: Known,
    folder: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A child that was started with `folder` as its data directory; `None`: it has ended already.
    pub fn started(mut child: Child, folder: &Path) -> Option<Self> {
        let Some(known) = Known::running(child.id()) else {
            // Its id becomes free.
            drop(child.wait());
            return None;
        };
        Some(Self { known, folder: folder.to_owned(), child: Some(child) })
    }

    /// A process that runs with `folder` as its data directory; `None`: it is not that.
    pub fn adopted(known: Known, folder: &Path) -> Option<Self> {
        known.runs_in(folder).then(|| Self { known, folder: folder.to_owned(), child: None })
    }

    /// Which process.
    pub const fn known(&self) -> Known {
        self.known
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            // Waits for it where it has ended, so that its id becomes free.
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.known.runs_in(&self.folder),
        }
    }

    /// Sends a signal, if it still is this process.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Ok(pid) = i32::try_from(self.known.pid)
        {
            // It may end at this very moment.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until it has ended, for so long at most.
    pub fn wait(&mut self, clock: &dyn Clock, patience: Duration) -> bool {
        let until = clock.monotonic() + patience;
        while self.is_running() {
            if clock.monotonic() > until {
                return false;
            }
            std::thread::park_timeout(STEP);
        }
        true
    }

    /// Ends it in order, or by force where that takes longer than `patience`. Whether it has ended.
    pub fn stop(&mut self, clock: &dyn Clock, patience: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        if self.wait(clock, patience) {
            return true;
        }
        self.signal(Signal::SIGKILL);
        self.wait(clock, patience)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clock::System;

    const BOUND: Duration = Duration::from_secs(30);

    /// A process that waits, with this folder in its command line.
    fn sleeper(folder: &Path) -> Child {
        let folder = format!("--datadir={}", folder.display());
        Command::new("sh")
            .args(["-c", "read line", "sh", &folder])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_process_is_found_again_by_id_start_and_folder() {
        let (folder, clock) = (Path::new("/some/where"), System::new());
        let mut server = Server::started(sleeper(folder), folder).unwrap();
        let known = server.known();
        // A process that has just become another program has no command line for a moment.
        while !known.runs_in(folder) {
            assert!(server.is_running() && clock.monotonic() < BOUND);
            std::thread::yield_now();
        }
        assert!(Server::adopted(known, folder).is_some());
        assert!(Server::adopted(known, Path::new("/some")).is_none(), "another folder");
        let earlier = Known { start: known.start + 1, ..known };
        assert!(Server::adopted(earlier, folder).is_none(), "the id was given again");
        let own = Known::running(std::process::id()).unwrap();
        assert!(Server::adopted(own, folder).is_none(), "somebody else");
        assert!(server.stop(&clock, BOUND) && !server.is_running());
        assert!(Server::adopted(known, folder).is_none(), "it has ended");
    }

    #[test]
    fn one_that_ends_by_itself_is_noticed() {
        let clock = System::new();
        let child = Command::new("true").spawn().unwrap();
        if let Some(mut server) = Server::started(child, Path::new("/")) {
            assert!(server.wait(&clock, BOUND));
        }
    }
}
