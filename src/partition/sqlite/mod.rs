//! Engine `sqlite`: a partition in one SQLite file.
//!
//! # How it keeps its promises
//!
//! - *Durable when acknowledged*: write-ahead log with `synchronous=FULL`. SQLite flushes the log
//!   at each commit and only then lets others see it, so what is visible is durable (BAR-1 needs
//!   nothing here, and there is one server run for ever). Both settings are read back at every
//!   open.
//! - *One after the other*: `BEGIN IMMEDIATE`. Writers of one process queue up fairly at a
//!   [`Turn`], since SQLite's own lock is polled and lets a busy lane starve everybody else; those
//!   of other processes wait at SQLite's lock, both for [`BUSY_TIMEOUT`] at most.
//! - *One snapshot a reader*: `BEGIN DEFERRED`; a reader never waits for a writer, nor, while
//!   nothing is written, for other readers of its process ([`anchor`]).
//! - *Never another value*: keys are compared as bytes, and every row's checksum is compared
//!   whenever its value is read; a row that does not match is an error, not an answer.
//!
//! # What it leaves to others
//!
//! A damaged file is reported, not repaired. The file belongs to its partition alone: no other
//! program should write it, and `file:` names are refused, since SQLite would take options from
//! them.
//!
//! Sources: <https://www.sqlite.org/wal.html>, <https://www.sqlite.org/isolation.html>,
//! <https://www.sqlite.org/pragma.html#pragma_synchronous>.

mod acceptor;
mod anchor;
mod beats;
mod failure;
mod rows;
mod statements;
mod stored;
mod turn;
mod upkeep;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use self::anchor::Anchor;
use self::failure::{failed_commit, failure, unreachable};
use self::statements::Session;
use self::turn::Turn;
use super::engine::{Engine, EngineKind};
use super::tables::{Points, Tables, Transact};
use super::{Get, Partition, PartitionError, Result};
use crate::clock::Clock;
use crate::version::RunId;

/// How long a transaction waits for other writers before it gives up: below the default deadline of
/// a request, so that the reason is told and not only that time was up.
pub const BUSY_TIMEOUT: Duration = Duration::from_millis(4_500);

/// What is visible is durable: the file lives in one run for ever.
const RUN: RunId = RunId(1);

/// More than there are statements, so that none is ever prepared twice.
const STATEMENTS_MAX: usize = 64;
/// The least page cache of a connection: enough for the inner pages of a few million keys. The
/// operating system caches the rest.
const CACHE_KIB: i64 = 8 * 1024;
/// The page cache of a connection that writes: rows of random keys are changed in pages that have
/// to be read first.
const WRITING_CACHE_KIB: i64 = 32 * 1024;
/// Of a new file. A commit puts a page into the log for nearly each row that it changes, so small
/// pages are less to write: with SQLite's own 4096, batches of small rows have three quarters of
/// the speed, and values of a megabyte are read a tenth faster.
const PAGE_BYTES: i64 = 2048;
/// A log that one great transaction blew up is cut back to this at the next checkpoint.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;
/// What is in the log file when it is copied into the database: with SQLite's own thousand pages, a
/// few commits of random keys fill it, and the same pages are copied again and again.
const LOG_BYTES_COPIED: i64 = 32 * 1024 * 1024;
/// How often the switch to the write-ahead log is tried while another process is about the same.
const SWITCHES_MAX: usize = 16;

/// Why a path cannot be a partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// SQLite reads `file:` names as URIs, whose parameters switch off what a partition promises.
    #[error("a path beginning with `file:` is not allowed; write it as ./file:...")]
    Uri,
    /// SQLite's name for a database that lives in one connection.
    #[error("`:memory:` is not a file; a partition in memory has the url `memory:`")]
    InMemory,
    /// No path at all.
    #[error("the path is empty")]
    Empty,
    /// The working directory is gone.
    #[error("the path is relative and the working directory cannot be told")]
    NoWorkingDirectory,
}

/// One SQLite file; opens connections to it.
pub struct Sqlite {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    turn: Arc<Turn>,
    anchor: Arc<Anchor>,
    is_replaceable: bool,
    is_made_elsewhere: bool,
}

impl Sqlite {
    /// The partition in the file at `path`, which the first connection makes if there is none.
    pub fn new(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, PathError> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_encoded_bytes();
        match bytes {
            b"" => return Err(PathError::Empty),
            b":memory:" => return Err(PathError::InMemory),
            _ if bytes.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"file:")) => {
                return Err(PathError::Uri);
            }
            _ => {}
        }
        // An absolute path begins with a slash, so that SQLite cannot read a URI into it.
        let path = std::path::absolute(path).map_err(|_| PathError::NoWorkingDirectory)?;
        let anchor = Arc::new(Anchor::new(path.clone()));
        let turn = Arc::default();
        Ok(Self { path, clock, turn, anchor, is_replaceable: false, is_made_elsewhere: false })
    }

    /// The file may be removed while connections to it are open: each looks before it reads, too,
    /// whether its file still is the one.
    #[must_use]
    pub fn replaceable(self) -> Self {
        Self { is_replaceable: true, ..self }
    }

    /// The file is for somebody else to make: where there is none, connecting fails.
    #[must_use]
    pub fn made_elsewhere(self) -> Self {
        Self { is_made_elsewhere: true, ..self }
    }

    fn open(&self) -> Result<SqliteConnection> {
        if !self.is_made_elsewhere {
            make_file(&self.path).map_err(unreachable)?;
        }
        let connection = open_connection(&self.path)?;
        let file = FileId::of(&self.path).map_err(unreachable)?;
        Ok(SqliteConnection {
            connection,
            path: self.path.clone(),
            file,
            clock: Arc::clone(&self.clock),
            turn: Arc::clone(&self.turn),
            anchor: Arc::clone(&self.anchor),
            is_anchored: false,
            has_written: false,
            is_replaceable: self.is_replaceable,
        })
    }
}

impl Engine for Sqlite {
    fn kind(&self) -> EngineKind {
        EngineKind::Sqlite
    }

    fn is_local(&self) -> bool {
        true
    }

    /// The file itself where it exists, so that links and detours lead to one locator.
    fn locator(&self) -> String {
        if let Ok(file) = FileId::of(&self.path) {
            return format!("sqlite:device {:x} inode {:x}", file.device, file.inode);
        }
        let directory = self.path.parent().and_then(|parent| parent.canonicalize().ok());
        let path = match (directory, self.path.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            (None, _) | (_, None) => self.path.clone(),
        };
        format!("sqlite:{}", path.display())
    }

    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Ok(Box::new(self.open()?))
    }
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Makes the file, readable by its owner only, where there is none; SQLite gives the files beside
/// it the same mode. The name is made durable with it: SQLite would do that for its log only.
fn make_file(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => File::open(directory)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// A connection to a file that is there.
fn open_connection(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| failure("open", error))?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failure("busy_timeout", error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // What is stored in the file cannot make SQLite run functions or write its own schema. Plans do
    // not depend on bound values: else, with SQLITE_ENABLE_STAT4, every execution with new values
    // plans its statement anew, which was a third of a read.
    for (option, value) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        connection.set_db_config(option, value).map_err(|error| failure("db_config", error))?;
    }
    // It says nothing to a file that has pages already.
    connection
        .pragma_update(None, "page_size", PAGE_BYTES)
        .map_err(|error| failure("page_size", error))?;
    switch_to_log(connection)?;
    let page_bytes: i64 = connection
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .map_err(|error| failure("page_size", error))?;
    for (name, value) in [
        ("synchronous", 2),
        ("fullfsync", 1),
        ("cell_size_check", 1),
        ("cache_size", -CACHE_KIB),
        ("journal_size_limit", LOG_BYTES_KEPT),
        ("wal_autocheckpoint", LOG_BYTES_COPIED / page_bytes.max(1)),
    ] {
        connection.pragma_update(None, name, value).map_err(|error| failure(name, error))?;
    }
    let synchronous: i64 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .map_err(|error| failure("synchronous", error))?;
    if synchronous == 2 { Ok(()) } else { Err(relaxed("synchronous", synchronous.to_string())) }
}

/// SQLite does not wait when it cannot switch at once; here the next try waits behind whoever is at
/// it.
fn switch_to_log(connection: &Connection) -> Result<()> {
    let mut tries = 1;
    loop {
        let switch = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", switch) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => return Err(relaxed("journal_mode", mode)),
            Err(error) => {
                let failure = failure("journal_mode", error);
                if tries == SWITCHES_MAX || !matches!(failure, PartitionError::Busy(_)) {
                    return Err(failure);
                }
                tries += 1;
            }
        }
        connection
            .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
            .map_err(|error| failure("journal_mode", error))?;
    }
}

/// The file would not do what durability rests on.
fn relaxed(statement: &'static str, value: String) -> PartitionError {
    let source = format!("the setting stays at `{value}`: commits would not be durable").into();
    PartitionError::Engine { statement, source }
}

/// One open connection to a partition in a file.
struct SqliteConnection {
    connection: Connection,
    path: PathBuf,
    file: FileId,
    clock: Arc<dyn Clock>,
    turn: Arc<Turn>,
    anchor: Arc<Anchor>,
    /// Whether its reads keep the anchor.
    is_anchored: bool,
    /// Whether it has the page cache of one that writes.
    has_written: bool,
    is_replaceable: bool,
}

impl SqliteConnection {
    /// The connection is for writing from here on.
    fn keep_written(&mut self) -> Result<()> {
        if !self.has_written {
            self.keep_pages(WRITING_CACHE_KIB)?;
            self.has_written = true;
        }
        Ok(())
    }

    fn keep_pages(&self, kib: i64) -> Result<()> {
        let set = self.connection.pragma_update(None, "cache_size", -kib);
        set.map_err(|error| failure("cache_size", error))
    }

    fn session(&self) -> Session<'_> {
        Session::new(&self.connection, self.clock.as_ref(), RUN)
    }

    /// Leaves no transaction open, whatever ended it; also one that a panic left behind.
    fn settle(&self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        let rolled_back = self.session().execute(&statements::ROLLBACK, ());
        if self.connection.is_autocommit() {
            return Ok(());
        }
        Err(unreachable(match rolled_back {
            Ok(_) => io::Error::other("a transaction cannot be ended"),
            Err(error) => io::Error::other(error),
        }))
    }

    /// A file that may be replaced is looked at before it is read.
    fn ready_to_read(&self) -> Result<()> {
        self.settle()?;
        if self.is_replaceable { self.stands() } else { Ok(()) }
    }

    /// A file that was removed or replaced takes commits that nobody will ever see.
    fn stands(&self) -> Result<()> {
        match FileId::of(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => Err(unreachable(io::Error::other("another file has taken the place of this"))),
            Err(error) => Err(unreachable(error)),
        }
    }
}

impl Transact for SqliteConnection {
    /// The log is flushed before a commit is shown.
    const VISIBLE_IS_DURABLE: bool = true;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        self.ready_to_read()?;
        let mut session = self.session();
        session.execute(&statements::BEGIN_READING, ())?;
        let result = work(&mut session);
        let ended = session.execute(&statements::COMMIT, ());
        self.settle()?;
        let value = result?;
        ended?;
        Ok(value)
    }

    /// One key is one statement: no transaction has to be opened around it.
    fn points(&mut self, get: &Get<'_>) -> Option<Result<Points>> {
        let [key] = get.keys else { return None };
        if self.is_anchored {
            self.anchor.note_read();
        }
        let settled = self.ready_to_read();
        Some(settled.and_then(|()| self.session().point(key, get.inline_bytes_max)))
    }

    fn keep_points(&mut self, bytes_max: usize) -> Result<()> {
        self.anchor.start();
        self.is_anchored = true;
        let kib = i64::try_from(bytes_max / 1024).unwrap_or(i64::MAX).max(CACHE_KIB);
        self.keep_pages(kib)
    }

    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        self.settle()?;
        self.keep_written()?;
        let _turn = self.turn.take(BUSY_TIMEOUT)?;
        let mut session = self.session();
        session.execute(&statements::BEGIN_WRITING, ())?;
        let result = self.stands().and_then(|()| work(&mut session));
        match result {
            Ok(value) => match session.try_execute(&statements::COMMIT, ()) {
                Ok(_) => Ok(value),
                Err(error) => {
                    self.settle()?;
                    Err(failed_commit(error))
                }
            },
            Err(error) => {
                self.settle()?;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
