//! Engine `mysql`: a partition in a database of a MariaDB or MySQL server.
//!
//! # How it keeps its promises
//!
//! - *Durable when acknowledged*: a commit returns after the server has flushed it, as the server
//!   is set ([`ServerSettings::relaxed`] says whether it is). What is *visible* need not be durable
//!   yet, thus [`Transact::VISIBLE_IS_DURABLE`] is `false`, and a barrier is a small commit of its
//!   own, of a row of `frontend`: never of `clock`, where it would queue behind writers.
//! - *One after the other*: each writing transaction locks the one row of `clock` first, by the
//!   statement that fences and takes the sequence. Fencing and taking is one `UPDATE`; so the order
//!   of sequences is the order of commits.
//! - *One snapshot a reader*: `START TRANSACTION WITH CONSISTENT SNAPSHOT`, or a single statement.
//! - *Never another's answer* (TALK-1): see [`line`]. A row's checksum is compared whenever its
//!   value is read.
//! - *What is certain is told from what is not*: an error before `COMMIT` was sent changed nothing;
//!   one after it, without an answer, is [`PartitionError::OutcomeUnknown`].
//! - *A run of the server* (OPEN-1) is known by a random number in a table that a restart empties,
//!   never by a time. A connection lives in one run.
//!
//! # What it costs
//!
//! A point read of up to 64 keys is one round trip ([`Transact::points`]); a commit of a batch is
//! three: fence and sequence, rows, log entries with `COMMIT`; of more than 32 writes four, with
//! most of the entries prepared ([`log`]). Statements are prepared once a connection, in few sizes
//! ([`statements`]).
//!
//! # Bounds
//!
//! Every wait has one, see [`Patience`]: to connect, for an answer, for locks, and for a front end
//! that stops inside its transaction and holds its locks ([`statements`]).
//!
//! Sources: <https://mariadb.com/kb/en/start-transaction/>,
//! <https://mariadb.com/kb/en/idle_transaction_timeout/>,
//! <https://dev.mysql.com/doc/refman/8.4/en/innodb-consistent-read.html>,
//! <https://dev.mysql.com/doc/refman/8.4/en/information-functions.html#function_last-insert-id>.

mod acceptor;
mod beats;
mod failure;
mod line;
mod log;
mod params;
mod run;
mod server;
mod session;
mod statements;
mod stored;
mod upkeep;
mod url;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::server::ServerSettings;
pub use self::url::{MysqlUrl, MysqlUrlError, Part, Tls};

use self::failure::{Failed, failed_commit, gone};
use self::line::Line;
use self::params::{bounded, key_params};
use self::run::run_of;
use self::session::{Known, Session, cell, of};
use self::statements::{Begin, Edges, KEYS_MAX, PUT_NEW_ENTRIES, size_of_list};
use self::stored::{Columns, Torn};
use super::engine::{Engine, EngineKind};
use super::tables::{Cell, Points, Tables, Transact};
use super::{Get, Partition, PartitionError, Refusal, ReseedNumber, Result};
use crate::clock::Clock;
use crate::record::Key;
use crate::version::{PartitionId, RunId};

/// How long each kind of waiting may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection to be made, by address of the host.
    pub connect: Duration,
    /// For the next bytes of an answer. Above `lock`, and above what a commit takes on a busy disk.
    pub answer: Duration,
    /// For an answer as a whole, however it drips: what the largest value takes on a slow line.
    pub whole: Duration,
    /// For locks that others hold: below the default deadline of a request, so that the reason is
    /// told and not only that time was up. In whole seconds.
    pub lock: Duration,
    /// How long the server (MariaDB) lets a transaction stand idle before it ends the connection:
    /// so long can a front end that was stopped inside one keep others waiting. In whole seconds.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(8),
            whole: Duration::from_secs(30),
            lock: Duration::from_secs(4),
            idle: Duration::from_secs(5),
        }
    }
}

/// A database on a server; opens connections to it.
pub struct Mysql {
    url: MysqlUrl,
    patience: Patience,
    clock: Option<Arc<dyn Clock>>,
}

impl Mysql {
    /// The partition at `url`. Nothing is connected to yet.
    pub fn new(url: MysqlUrl) -> Self {
        Self { url, patience: Patience::default(), clock: None }
    }

    /// Waits otherwise.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Lets `clock` judge expiry instead of the server's own time: for tests, which do not wait.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Asks the server what a partition's promises rest on.
    pub fn settings(&self) -> Result<ServerSettings> {
        Ok(self.open()?.settings)
    }

    /// Empties the database: none of a partition's tables is left.
    pub fn discard(&self) -> Result<()> {
        self.open()?.line.text("discard", statements::DISCARD)?;
        Ok(())
    }

    fn open(&self) -> Result<MysqlConnection> {
        let mut line = Line::connect(&self.url, &self.patience)?;
        let settings = settings(&mut line, &self.patience)?;
        // A server that restarted read only has no name for its run and takes none: it can be read.
        let run = match run_of(&mut line) {
            Err(PartitionError::ReadOnly(_)) => None,
            run => run?,
        };
        Ok(MysqlConnection {
            line,
            edges: Edges::new(settings.is_mariadb(), &self.patience),
            settings,
            run,
            partition: None,
            clock: self.clock.clone(),
            open: Open::default(),
        })
    }
}

impl Engine for Mysql {
    fn kind(&self) -> EngineKind {
        EngineKind::Mysql
    }

    fn is_local(&self) -> bool {
        false
    }

    /// As far as the URL goes: two names of one host are two locators, which founding finds out.
    fn locator(&self) -> String {
        self.url.locator()
    }

    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Ok(Box::new(self.open()?))
    }
}

/// Sets what every connection sets; reads what the server is set to.
fn settings(line: &mut Line, patience: &Patience) -> Result<ServerSettings> {
    const NAME: &str = "preamble";
    let replies = line.text(NAME, &statements::preamble(patience))?;
    let row = replies.into_iter().nth(statements::PREAMBLE_SETS).and_then(|mut r| r.rows.pop());
    let read = ServerSettings::read(&mut Columns::of(row.unwrap_or_default()));
    read.map_err(|torn| torn.at(NAME))
}

/// What a connection has under way; after a panic it still has.
#[derive(Default)]
pub(super) struct Open {
    /// Whether a transaction stands open at the server.
    pub(super) has_begun: bool,
    /// The transaction's last statement, which is sent together with its end.
    pub(super) last: Option<String>,
}

/// One open connection to a partition on a server.
struct MysqlConnection {
    line: Line,
    settings: ServerSettings,
    edges: Edges,
    run: Option<RunId>,
    partition: Option<PartitionId>,
    clock: Option<Arc<dyn Clock>>,
    open: Open,
}

impl MysqlConnection {
    /// Leaves no transaction open, whatever ended it.
    fn settle(&mut self) -> Result<()> {
        if !self.line.is_up() {
            let error = gone("the connection was given up");
            return Err(Failed { statement: "begin", error }.into());
        }
        if self.open.has_begun {
            self.roll_back()?;
        }
        Ok(())
    }

    /// The end of a reading transaction: there is nothing to lose.
    fn end_reading(&mut self) -> Result<(), Failed> {
        self.line.text("end reading", statements::COMMIT)?;
        self.open.has_begun = false;
        Ok(())
    }

    /// Sends the transaction's last statement, if there is one, and its end.
    fn commit_writing(&mut self) -> Result<()> {
        let last = self.open.last.take();
        let texts: Vec<&str> = last.as_deref().into_iter().chain([&*self.edges.commit]).collect();
        let mut answered = Vec::new();
        match self.line.text_telling("commit", &texts.join(";"), &mut answered) {
            Ok(()) => {
                self.open.has_begun = false;
                Ok(())
            }
            // The server has said no to what stands before the commit, and went no further.
            Err(failed) if last.is_some() && answered.is_empty() && failed.keeps_line() => {
                Err(Failed { statement: PUT_NEW_ENTRIES.name, ..failed }.into())
            }
            Err(failed) => Err(failed_commit(failed)),
        }
    }

    fn roll_back(&mut self) -> Result<(), Failed> {
        self.open.last = None;
        self.line.text("rollback", &self.edges.rollback)?;
        self.open.has_begun = false;
        Ok(())
    }

    /// Runs `work` in a transaction that is still open afterwards, if it has begun at all.
    fn within<T>(
        &mut self,
        begin: Begin,
        work: impl FnOnce(&mut dyn Tables) -> Result<T>,
    ) -> Result<T> {
        self.settle()?;
        let known = Known {
            settings: &self.settings,
            edges: &self.edges,
            run: &mut self.run,
            partition: &mut self.partition,
            clock: self.clock.as_deref(),
        };
        work(&mut Session::new(&mut self.line, known, begin, &mut self.open))
    }

    /// Takes back what an error left behind; the error is what is told.
    fn take_back<T>(&mut self, error: PartitionError) -> Result<T> {
        if self.open.has_begun && self.line.is_up() {
            // The line goes down where this fails, and the transaction with it.
            drop(self.roll_back());
        }
        Err(error)
    }

    /// A point read in one statement.
    fn points_of(&mut self, get: &Get<'_>, first: &Key) -> Result<Points> {
        self.settle()?;
        let keys: Vec<&Key> = get.keys.iter().collect();
        let size = size_of_list(keys.len());
        let mut params = vec![bounded(get.inline_bytes_max)];
        params.extend(key_params(&keys, size));
        let prepared = &of(first.space()).points;
        let rows = match self.line.execute(prepared, size, params) {
            Ok(reply) => reply.rows,
            Err(failed) if failed.is_no_table() => return Err(Refusal::Empty.into()),
            Err(failed) => return Err(failed.into()),
        };
        let torn = |torn: Torn| torn.at(prepared.name);
        let mut cells: HashMap<Key, Cell, foldhash::fast::RandomState> = HashMap::default();
        cells.reserve(rows.len());
        let mut clock = None;
        for row in rows {
            let mut columns = Columns::of(row);
            clock = Some(clock_of(&mut columns).map_err(torn)?);
            if let Some(key) = columns.bytes_or_null().map_err(torn)? {
                let key = Key::stored(first.space(), key);
                cells.insert(key.clone(), cell(key, &mut columns).map_err(torn)?);
            }
        }
        let (reseed, reseeding, now_ms) = clock.ok_or(Refusal::Empty)?;
        let now_ms = self.clock.as_deref().map_or(now_ms, Clock::wall_ms);
        let cells = keys.iter().map(|key| cells.remove(*key)).collect();
        Ok(Points { cells, now_ms, reseed, reseeding })
    }
}

/// What comes in front of each row of a point read.
fn clock_of(columns: &mut Columns) -> Result<(ReseedNumber, bool, i64), Torn> {
    let reseed = ReseedNumber(columns.number()?.cast_unsigned());
    Ok((reseed, columns.flag()?, columns.instant_ms()?))
}

impl Transact for MysqlConnection {
    /// InnoDB shows a commit before its log is flushed.
    const VISIBLE_IS_DURABLE: bool = false;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        match self.within(Begin::Reading, work) {
            Ok(value) => {
                if self.open.has_begun {
                    self.end_reading()?;
                }
                Ok(value)
            }
            Err(error) => self.take_back(error),
        }
    }

    fn points(&mut self, get: &Get<'_>) -> Option<Result<Points>> {
        let first = get.keys.first()?;
        let fits = get.keys.len() <= KEYS_MAX;
        let alike = get.keys.iter().all(|key| key.space() == first.space());
        (fits && alike).then(|| self.points_of(get, first))
    }

    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        self.writing_telling(&mut || {}, work)
    }

    /// From the first statement on the transaction holds the lock on `clock`, which it gives up
    /// when it is committed and not yet flushed: the next one works while this one is flushed.
    fn writing_telling<T>(
        &mut self,
        sealed: &mut dyn FnMut(),
        work: impl FnOnce(&mut dyn Tables) -> Result<T>,
    ) -> Result<T> {
        match self.within(Begin::Writing, work) {
            // What never began has nothing to commit.
            Ok(value) if !self.open.has_begun => Ok(value),
            // Not sent, thus without effect.
            Ok(_) if !self.line.is_up() => self.settle().and(Err(Refusal::RunEnded.into())),
            Ok(value) => {
                sealed();
                match self.commit_writing() {
                    Ok(()) => Ok(value),
                    Err(error) => self.take_back(error),
                }
            }
            Err(error) => self.take_back(error),
        }
    }
}
