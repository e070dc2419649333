//! A read transaction that stands while point reads come and nothing is written.
//!
//! Whoever reads takes a shared lock on a mark in the index of the log, and gives it back: two
//! system calls, under a mutex that all connections of a process to one file share. With two web
//! workers that was a sixth of all that a small read cost, most of it waiting for each other. While
//! any connection of the process holds the same mark, both are a count and no call. So a thread
//! keeps a transaction open, begun anew every [`PERIOD`], on a connection of its own.
//!
//! Nobody ever reads by it: what is read is as fresh as before.
//!
//! # Bounds
//!
//! A transaction that stands keeps what is committed meanwhile, by any process, from being copied
//! into the database, and so the log from being begun anew. So there is none in a period after one
//! in which anybody has committed or nobody has read: whoever writes much is never in its way.
//! Where commits and quiet periods alternate for long the log grows; so there is none either while
//! its file is larger than what is kept of it ([`LOG_BYTES_KEPT`]), until it was begun anew and cut
//! to that. While nobody reads the thread waits, and holds nothing.
//!
//! Sources: <https://www.sqlite.org/walformat.html#the_wal_index_header>, section "Locks";
//! <https://www.sqlite.org/pragma.html#pragma_data_version>.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::failure::{failure, unreachable};
use super::{FileId, LOG_BYTES_KEPT, open_connection};
use crate::partition::Result;

/// How long a transaction stands: long against the few microseconds that beginning one takes, short
/// against how fast a log grows.
const PERIOD: Duration = Duration::from_millis(20);

/// The transaction of one file, for all connections of this process to it.
#[derive(Debug)]
pub(super) struct Anchor {
    shared: Arc<Shared>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether anybody has read in this period. Set by whoever finds it unset, so that workers
    /// do not write to one place in memory with each read.
    is_read: AtomicBool,
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has read since the last call. `false`: it is over.
    fn await_reads(&self) -> bool {
        let idle = |stopping: &mut bool| !self.is_read.load(Ordering::SeqCst) && !*stopping;
        let stopping = self.changed.wait_while(self.lock(), idle);
        self.is_read.store(false, Ordering::SeqCst);
        !*stopping.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a period, or until it is over.
    fn rest(&self) {
        let goes_on = |stopping: &mut bool| !*stopping;
        drop(self.changed.wait_timeout_while(self.lock(), PERIOD, goes_on));
    }
}

impl Anchor {
    /// For the file at `path`; nothing is opened before somebody reads.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { shared: Arc::default(), path, thread: Mutex::default() }
    }

    /// There are readers from now on; without a thread they read as well, and slower.
    pub(super) fn start(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return;
        }
        let (shared, mut hold) = (Arc::clone(&self.shared), Hold::new(self.path.clone()));
        let work = move || {
            while shared.await_reads() {
                if let Err(error) = hold.begin() {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no anchor");
                }
                shared.rest();
                hold.end();
            }
        };
        match std::thread::Builder::new().name("sqlite-anchor".to_owned()).spawn(work) {
            Ok(started) => *thread = Some(started),
            Err(error) => tracing::debug!(%error, "no anchor"),
        }
    }

    /// Somebody reads.
    pub(super) fn note_read(&self) {
        if !self.shared.is_read.load(Ordering::Relaxed) {
            self.shared.is_read.store(true, Ordering::SeqCst);
            // Whoever has just found it unset waits by then.
            drop(self.shared.lock());
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.changed.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic of the thread was reported when it happened.
            drop(thread.join());
        }
    }
}

/// What the thread works with.
struct Hold {
    path: PathBuf,
    open: Option<(Connection, FileId)>,
    /// What the file stood at when it was last looked at.
    version: Option<i64>,
}

impl Hold {
    const fn new(path: PathBuf) -> Self {
        Self { path, open: None, version: None }
    }

    /// Begins the transaction, if nothing was written since the last call; whether it stands.
    fn begin(&mut self) -> Result<bool> {
        let begun = self.try_begin();
        if begun.is_err() {
            (self.open, self.version) = (None, None);
        }
        begun
    }

    fn try_begin(&mut self) -> Result<bool> {
        let file = FileId::of(&self.path).map_err(unreachable)?;
        if self.open.as_ref().is_none_or(|(_, known)| *known != file) {
            (self.open, self.version) = (Some((open_connection(&self.path)?, file)), None);
        }
        let Some((connection, _)) = &self.open else { return Ok(false) };
        let version = connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| failure("data_version", error))?;
        if self.version.replace(version) != Some(version) || self.is_log_too_large() {
            return Ok(false);
        }
        // A transaction begins with the first thing that it reads.
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
            .map_err(|error| failure("anchor", error))?;
        Ok(true)
    }

    fn is_log_too_large(&self) -> bool {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_KEPT.unsigned_abs())
    }

    fn end(&mut self) {
        if let Some((connection, _)) = &self.open
            && !connection.is_autocommit()
            && connection.execute_batch("ROLLBACK").is_err()
        {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, System};

    const BOUND: Duration = Duration::from_secs(30);

    struct Fixture {
        path: PathBuf,
        writer: Connection,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store.db");
            super::super::make_file(&path).unwrap();
            let writer = open_connection(&path).unwrap();
            writer.execute_batch("CREATE TABLE t (n INT)").unwrap();
            Self { path, writer, _directory: directory }
        }

        /// A transaction that stands.
        fn held(&self) -> Hold {
            let mut hold = Hold::new(self.path.clone());
            assert!(!hold.begin().unwrap(), "who knows what was written before");
            assert!(hold.begin().unwrap());
            hold
        }

        fn write(&self) {
            self.writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        }

        /// Copies all of the log into the database and empties it; whether nobody was in the way.
        fn empties_log(&self) -> bool {
            self.writer.busy_timeout(Duration::ZERO).unwrap();
            let busy: i64 = self
                .writer
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
                .unwrap();
            busy == 0
        }
    }

    #[test]
    fn it_stands_while_nothing_is_written() {
        let fixture = Fixture::new();
        let mut hold = fixture.held();
        let mut begun = || (hold.end(), hold.begin().unwrap()).1;
        assert!(begun() && begun());
        fixture.write();
        assert!(!begun());
        assert!(begun());
    }

    #[test]
    fn a_log_is_in_use_for_one_period_only() {
        let fixture = Fixture::new();
        let mut hold = fixture.held();
        fixture.write();
        assert!(!fixture.empties_log(), "it stands at what was before");
        hold.end();
        assert!(!hold.begin().unwrap() && fixture.empties_log());
    }

    /// Commits and quiet periods alternate: each commit leaves its own pages to the next copying.
    #[test]
    fn a_log_that_has_grown_too_large_is_begun_anew() {
        let fixture = Fixture::new();
        let mut hold = Hold::new(fixture.path.clone());
        let mut quiet = || {
            hold.begin().unwrap();
            (hold.begin().unwrap(), hold.end()).0
        };
        assert!(quiet());
        let grow = format!("INSERT INTO t VALUES (zeroblob({LOG_BYTES_KEPT}))");
        fixture.writer.execute_batch(&grow).unwrap();
        assert!(!quiet(), "it is in nobody's way");
        // This copies the log, and the next begins it anew.
        fixture.write();
        fixture.write();
        assert!(quiet());
    }

    #[test]
    fn another_file_is_opened_and_none_is_no_matter() {
        let fixture = Fixture::new();
        let mut hold = fixture.held();
        hold.end();
        std::fs::remove_file(&fixture.path).unwrap();
        assert!(hold.begin().is_err() && hold.open.is_none());
        super::super::make_file(&fixture.path).unwrap();
        assert!(!hold.begin().unwrap());
        assert!(hold.begin().unwrap());
    }

    #[test]
    fn it_begins_with_reads_and_ends_with_its_owner() {
        let fixture = Fixture::new();
        let (anchor, clock) = (Anchor::new(fixture.path.clone()), System::new());
        let shared = Arc::clone(&anchor.shared);
        anchor.note_read();
        anchor.start();
        anchor.start();
        assert_eq!(Arc::strong_count(&shared), 3, "one thread");
        while shared.is_read.load(Ordering::SeqCst) {
            assert!(clock.monotonic() < BOUND, "it never noticed");
            std::thread::yield_now();
        }
        drop(anchor);
        assert_eq!(Arc::strong_count(&shared), 1, "nothing is left of it");
        assert!(fixture.empties_log());
    }
}
