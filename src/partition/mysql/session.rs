//! One open transaction: [`Tables`] over a [`Line`].
//!
//! A transaction begins with its first statement, in the same round trip. The time of the server
//! and the partition's id come along with the clock, which every transaction reads first: neither
//! costs a round trip of its own.

use std::collections::HashMap;

use bytes::Bytes;
use mysql::Value;

use super::failure::Failed;
use super::line::{Line, Reply};
use super::params::{after_prefix, bounded, bytes, filled, key_params, number, row_params};
use super::run::run_of;
use super::server::ServerSettings;
use super::statements::{
    self, Begin, Edges, KEYS_MAX, Prepared, ROWS_MAX, RowStatements, Text, rows_of_insert,
    size_of_list,
};
use super::stored::{Columns, Stored, Torn, all_of, clock_row, set_id, stored_topology};
use super::{Open, log, upkeep};
use crate::clock::Clock;
use crate::partition::tables::{Cell, ClockRow, CursorRow, Noted, Stretch, Tables};
use crate::partition::upkeep::{ConflictPlace, Expired, Mark, Stride, Sum};
use crate::partition::{Entry, Identity, Jump, PartitionError, Refusal, Result};
use crate::record::{Key, Record, Space};
use crate::version::{Epoch, PartitionId, RunId, Seq, SetId, Version};

/// Rows go to the server in statements of about so many bytes, if its own limit allows.
const STATEMENT_BYTES: usize = 2 << 20;
/// What a row needs in a packet besides its [`Record::weight`], generously.
const ROW_OVERHEAD_BYTES: usize = 1 << 10;

pub(super) const fn of(space: Space) -> &'static RowStatements {
    match space {
        Space::Data => &statements::DATA,
        Space::System => &statements::SYSTEM,
    }
}

/// A row that no packet of this server holds.
#[derive(Debug, thiserror::Error)]
#[error("row {key:?} has {bytes} bytes; the server's max_allowed_packet is {max}: raise it")]
struct TooLarge {
    key: Key,
    bytes: usize,
    max: usize,
}

/// What a connection knows besides its line.
pub(super) struct Known<'a> {
    pub(super) settings: &'a ServerSettings,
    pub(super) edges: &'a Edges,
    /// The run of the server, which a connection does not outlive.
    pub(super) run: &'a mut Option<RunId>,
    /// The partition's id, once it was read.
    pub(super) partition: &'a mut Option<PartitionId>,
    /// Whose time judges expiry, if not the server's.
    pub(super) clock: Option<&'a dyn Clock>,
}

/// One transaction, open from its first statement on.
pub(super) struct Session<'a> {
    line: &'a mut Line,
    known: Known<'a>,
    begin: Begin,
    pub(super) open: &'a mut Open,
    now_ms: Option<i64>,
}

impl<'a> Session<'a> {
    pub(super) const fn new(
        line: &'a mut Line,
        known: Known<'a>,
        begin: Begin,
        open: &'a mut Open,
    ) -> Self {
        Self { line, known, begin, open, now_ms: None }
    }

    /// Runs texts, the beginning of the transaction in front of the first ones.
    fn texts(&mut self, name: &'static str, sql: &str) -> Result<Vec<Reply>, Failed> {
        if self.open.has_begun {
            return self.line.text(name, sql);
        }
        self.open.has_begun = true;
        let together = [self.known.edges.begin(self.begin), ";", sql].concat();
        let mut replies = self.line.text(name, &together)?;
        replies.drain(..self.known.edges.replies(self.begin).min(replies.len()));
        Ok(replies)
    }

    pub(super) fn text(&mut self, text: &Text) -> Result<Reply, Failed> {
        Ok(self.texts(text.name, text.sql)?.pop().unwrap_or_default())
    }

    pub(super) fn execute(
        &mut self,
        prepared: &Prepared,
        size: usize,
        params: Vec<Value>,
    ) -> Result<Reply, Failed> {
        if !self.open.has_begun {
            self.open.has_begun = true;
            self.line.text(prepared.name, self.known.edges.begin(self.begin))?;
        }
        self.line.execute(prepared, size, params)
    }

    /// Hands the rows of a list of keys to `take`, key by key found.
    fn listed(
        &mut self,
        prepared: fn(&RowStatements) -> &Prepared,
        first: Option<Value>,
        keys: &[&Key],
        mut take: impl FnMut(Key, &mut Columns) -> Result<(), Torn>,
    ) -> Result<()> {
        for space in Space::ALL {
            let prepared = prepared(of(space));
            let keys: Vec<&Key> = keys.iter().filter(|k| k.space() == space).copied().collect();
            for keys in keys.chunks(KEYS_MAX) {
                let size = size_of_list(keys.len());
                let params = first.iter().cloned().chain(key_params(keys, size)).collect();
                for row in self.execute(prepared, size, params)?.rows {
                    let mut columns = Columns::of(row);
                    let key = columns.bytes().map(|bytes| Key::stored(space, bytes));
                    let taken = key.and_then(|key| take(key, &mut columns));
                    taken.map_err(|torn| torn.at(prepared.name))?;
                }
            }
        }
        Ok(())
    }

    /// A statement about the clock: without its table the database holds no partition.
    fn about_clock(failed: Failed) -> PartitionError {
        if failed.is_no_table() { Refusal::Empty.into() } else { failed.into() }
    }

    /// The tables of this database; those of another program are neither empty nor ours.
    fn tables(&mut self) -> Result<Vec<String>> {
        let reply = self.text(&statements::TABLES)?;
        let name = |row| Columns::of(row).text().map_err(|torn| torn.at(statements::TABLES.name));
        let names: Vec<String> = reply.rows.into_iter().map(name).collect::<Result<_>>()?;
        match names.iter().find(|name| !statements::TABLES_OF_SCHEMA.contains(&name.as_str())) {
            Some(other) if !names.iter().any(|name| name == "clock") => {
                Err(PartitionError::Damaged {
                    what: format!(
                        "the database holds a table `{other}`, but none named `clock`: it is no \
                         partition"
                    ),
                })
            }
            Some(_) | None => Ok(names),
        }
    }

    /// Asks for a row of the clock; keeps what comes along.
    fn clock_by(&mut self, text: &Text) -> Result<ClockRow> {
        let reply = self.text(text).map_err(Self::about_clock)?;
        let row = reply.rows.into_iter().next().ok_or(Refusal::Empty)?;
        let mut columns = Columns::of(row);
        let read = clock_row(&mut columns).and_then(|clock| Ok((clock, columns.number()?)));
        let (clock, now_ms) = read.map_err(|torn| torn.at(text.name))?;
        self.keep(clock.partition, now_ms);
        Ok(clock)
    }

    fn keep(&mut self, partition: PartitionId, now_ms: i64) {
        *self.known.partition = Some(partition);
        self.now_ms = Some(self.known.clock.map_or(now_ms, Clock::wall_ms));
    }

    /// Puts rows of one table, as many at once as a statement takes.
    fn put(&mut self, prepared: &Prepared, mut rows: &[&Record]) -> Result<()> {
        let now_ms = self.now_ms()?;
        let packet = self.known.settings.max_allowed_packet;
        let bytes_max = STATEMENT_BYTES.min(packet / 2);
        while let Some(first) = rows.first() {
            let bytes = first.weight() + ROW_OVERHEAD_BYTES;
            if bytes > packet {
                let source = TooLarge { key: first.key.clone(), bytes, max: packet };
                return Err(PartitionError::Engine {
                    statement: prepared.name,
                    source: source.into(),
                });
            }
            let mut left = bytes_max;
            let fits = |row: &&&Record| match left.checked_sub(row.weight()) {
                Some(after) => {
                    left = after;
                    true
                }
                None => false,
            };
            let fitting = rows.iter().take(ROWS_MAX).take_while(fits).count().max(1);
            let weight = rows[fitting - 1].weight();
            let (taken, size) = rows_of_insert(fitting, weight);
            let params = filled(&rows[..taken], size, |row| row_params(row, now_ms));
            self.execute(prepared, size, params)?;
            rows = &rows[taken..];
        }
        Ok(())
    }
}

impl Tables for Session<'_> {
    fn identity(&mut self) -> Result<Option<Identity>> {
        let owner = match self.text(&statements::OWNER) {
            Ok(reply) => reply.rows.into_iter().next(),
            Err(failed) if failed.is_no_table() => {
                // Another program's tables are told here; ours stand there or not.
                let names = self.tables()?;
                let contradicts = names.iter().any(|name| name == "clock");
                return if contradicts { Err(failed.into()) } else { Ok(None) };
            }
            Err(failed) => return Err(failed.into()),
        };
        let Some(owner) = owner else { return Ok(None) };
        let mut columns = Columns::of(owner);
        let read = set_id(&mut columns).and_then(|set| {
            let partition = columns.origin()?;
            Ok((SetId(set), partition, columns.number()?))
        });
        let (set, partition, schema) = read.map_err(|torn| torn.at(statements::OWNER.name))?;
        let topology = self.text(&statements::TOPOLOGY)?.rows.into_iter().next();
        let Some(topology) = topology else {
            return Err(PartitionError::Damaged { what: "no topology is stored".into() });
        };
        let topology = stored_topology(&mut Columns::of(topology))
            .map_err(|torn| torn.at(statements::TOPOLOGY.name))?;
        let schema = schema.try_into().map_err(|_| PartitionError::Damaged {
            what: format!("{schema} is no number of a schema"),
        })?;
        Ok(Some(Identity { set, partition, schema, topology }))
    }

    /// Statements that make tables commit by themselves: this comes before everything else, and the
    /// transaction begins after it, with a lock that lets one founder in after the other.
    fn create(&mut self) -> Result<()> {
        let known = self.tables()?;
        let all = statements::TABLES_OF_SCHEMA;
        if !all.iter().all(|table| known.iter().any(|name| name == table)) {
            self.open.has_begun = true;
            self.text(&statements::CREATE)?;
            self.text(&statements::AFTER_CREATE)?;
            self.open.has_begun = false;
        }
        let Some(run) = run_of(self.line)? else {
            let what = "the table `server_run` is neither there nor made".to_owned();
            return Err(PartitionError::Damaged { what });
        };
        *self.known.run = Some(run);
        self.text(&statements::TOUCH)?;
        Ok(())
    }

    fn set_identity(&mut self, identity: &Identity, run: RunId) -> Result<()> {
        let rows = self.text(&statements::ANYTHING)?.rows;
        let anything = rows.into_iter().next().map(|row| Columns::of(row).flag());
        if !matches!(anything, Some(Ok(false))) {
            return Err(PartitionError::Damaged {
                what: "the database holds rows, but nothing of whose they are".into(),
            });
        }
        let epoch = Value::Int(identity.topology.epoch().number().into());
        let owner = vec![
            bytes(&identity.set.0.to_be_bytes()),
            Value::Int(identity.partition.0.into()),
            Value::Int(identity.schema.into()),
            epoch,
            number(run.0),
        ];
        self.execute(&statements::PUT_OWNER, 1, owner)?;
        Ok(())
    }

    fn rename(&mut self, set: SetId) -> Result<()> {
        self.execute(&statements::RENAME, 1, vec![bytes(&set.0.to_be_bytes())])?;
        Ok(())
    }

    fn run(&mut self) -> Result<RunId> {
        if self.known.run.is_none() {
            *self.known.run = run_of(self.line)?;
        }
        self.known.run.ok_or_else(|| Refusal::Empty.into())
    }

    fn now_ms(&mut self) -> Result<i64> {
        if let Some(now_ms) = self.now_ms {
            return Ok(now_ms);
        }
        let row = self.text(&statements::NOW)?.rows.into_iter().next().unwrap_or_default();
        let now_ms = Columns::of(row).number().map_err(|torn| torn.at(statements::NOW.name))?;
        let now_ms = self.known.clock.map_or(now_ms, Clock::wall_ms);
        self.now_ms = Some(now_ms);
        Ok(now_ms)
    }

    fn clock(&mut self) -> Result<ClockRow> {
        match self.begin {
            Begin::Reading => self.clock_by(&statements::CLOCK),
            Begin::Writing => self.clock_by(&statements::LOCK_CLOCK),
        }
    }

    fn set_clock(&mut self, clock: &ClockRow) -> Result<()> {
        let params = vec![
            Value::Int(clock.epoch.number().into()),
            number(clock.seq.number()),
            number(clock.run.0),
            number(clock.reseed),
            Value::Int(clock.reseeding.into()),
            Value::Int(clock.partition.0.into()),
        ];
        let reply = self.execute(&statements::PUT_CLOCK, 1, params)?;
        if reply.found == 1 { Ok(()) } else { Err(Refusal::Empty.into()) }
    }

    fn take(&mut self, fence: Option<Epoch>, count: u64) -> Result<Option<Seq>> {
        let known = *self.known.partition;
        let sql = statements::take(fence, count, known);
        let replies = self.texts(statements::TAKE, &sql).map_err(Self::about_clock)?;
        let mut replies = replies.into_iter();
        let taken = replies.next().unwrap_or_default();
        if taken.found == 0 {
            // Founded anew since, as another partition? Then that one is written to.
            return match known {
                Some(known) if self.clock()?.partition != known => self.take(fence, count),
                Some(_) | None => Ok(None),
            };
        }
        let row = replies.next().and_then(|reply| reply.rows.into_iter().next());
        let mut columns = Columns::of(row.unwrap_or_default());
        let partition = known.map_or_else(|| columns.origin(), Ok);
        let read = partition.and_then(|partition| Ok((partition, columns.number()?)));
        let (partition, now_ms) = read.map_err(|torn| torn.at(statements::TAKE))?;
        self.keep(partition, now_ms);
        match taken.last_insert_id.checked_sub(count).and_then(Seq::new) {
            Some(seq) => Ok(Some(seq)),
            None => Err(PartitionError::Damaged {
                what: format!("`take`: {} is no sequence", taken.last_insert_id),
            }),
        }
    }

    fn partition(&mut self) -> Result<PartitionId> {
        match *self.known.partition {
            Some(partition) => Ok(partition),
            None => Ok(self.clock()?.partition),
        }
    }

    fn note_jump(&mut self, before: Seq, after: Seq) -> Result<()> {
        let params = vec![number(after.number()), number(before.number())];
        self.execute(&statements::PUT_JUMP, 1, params)?;
        Ok(())
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        let reply = self.text(&statements::JUMPS)?;
        all_of(reply.rows, statements::JUMPS.name, |columns| {
            Ok(Jump { before: columns.seq()?, after: columns.seq()? })
        })
    }

    fn touch(&mut self) -> Result<()> {
        self.text(&statements::TOUCH)?;
        Ok(())
    }

    fn cursors(&mut self) -> Result<Vec<CursorRow>> {
        let reply = self.text(&statements::CURSORS)?;
        all_of(reply.rows, statements::CURSORS.name, |columns| {
            let origin = columns.origin()?;
            Ok(CursorRow { origin, cursor: columns.version()?, floor: columns.version()? })
        })
    }

    fn put_cursors(&mut self, cursors: &[CursorRow]) -> Result<()> {
        let mut rest = cursors;
        while !rest.is_empty() {
            let (taken, size) = rows_of_insert(rest.len(), 0);
            let params = filled(&rest[..taken], size, |row| {
                let origin = Value::Int(row.origin.0.into());
                [origin, Value::Int(row.cursor.packed()), Value::Int(row.floor.packed())]
            });
            self.execute(&statements::PUT_CURSORS, size, params)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    fn head(&mut self, origin: PartitionId) -> Result<Version> {
        log::head(self, origin)
    }

    fn entries(&mut self, origin: PartitionId, after: Version, max: usize) -> Result<Vec<Entry>> {
        log::entries(self, origin, after, max)
    }

    fn put_entries(&mut self, entries: &[Entry]) -> Result<()> {
        log::put(self, entries)
    }

    fn put_new_entries(&mut self, entries: &[Entry]) -> Result<()> {
        log::put_new(self, entries)
    }

    fn remove_entries(&mut self, origin: PartitionId, upto: Version) -> Result<()> {
        log::remove(self, origin, upto)
    }

    fn cells(&mut self, keys: &[&Key], value_bytes_max: usize) -> Result<HashMap<Key, Cell>> {
        let mut cells = HashMap::with_capacity(keys.len());
        self.listed(
            |of| &of.cells,
            Some(bounded(value_bytes_max)),
            keys,
            |key, columns| {
                cells.insert(key.clone(), cell(key, columns)?);
                Ok(())
            },
        )?;
        Ok(cells)
    }

    fn outlines(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Cell>> {
        let mut cells = HashMap::with_capacity(keys.len());
        self.listed(
            |of| &of.outlines,
            None,
            keys,
            |key, columns| {
                cells.insert(key.clone(), outline(key, columns));
                Ok(())
            },
        )?;
        Ok(cells)
    }

    fn versions(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Version>> {
        let mut versions = HashMap::with_capacity(keys.len());
        self.listed(
            |of| &of.versions,
            None,
            keys,
            |key, columns| {
                let version = columns.version().map_err(|torn| torn.of(&key))?;
                versions.insert(key, version);
                Ok(())
            },
        )?;
        Ok(versions)
    }

    fn tombstones(&mut self, keys: &[&Key]) -> Result<HashMap<Key, (PartitionId, Version)>> {
        let mut dead = HashMap::new();
        self.listed(
            |of| &of.tombstones,
            None,
            keys,
            |key, columns| {
                dead.insert(key, (columns.origin()?, columns.version()?));
                Ok(())
            },
        )?;
        Ok(dead)
    }

    fn put_rows(&mut self, rows: &[&Record]) -> Result<()> {
        for space in Space::ALL {
            let rows: Vec<&Record> =
                rows.iter().filter(|row| row.key.space() == space).copied().collect();
            self.put(&of(space).put, &rows)?;
        }
        Ok(())
    }

    fn remove_rows(&mut self, keys: &[&Key]) -> Result<()> {
        // It returns no rows to take.
        self.listed(|of| &of.remove, None, keys, |_, _| Ok(()))
    }

    fn stretch(&mut self, stretch: &Stretch<'_>) -> Result<Vec<(Key, Cell)>> {
        if stretch.rows_max == 0 {
            return Ok(Vec::new());
        }
        // The first key above `after` is `after` and a zero byte: one statement serves both bounds.
        let from = match stretch.after {
            Some(after) if after >= stretch.prefix => [after.as_ref(), &[0]].concat(),
            Some(_) | None => stretch.prefix.to_vec(),
        };
        let end = after_prefix(stretch.prefix);
        let values = stretch.value_bytes_max;
        let nth = 2 * usize::from(values.is_none()) + usize::from(end.is_some());
        let prepared = &of(stretch.space).stretch[nth];
        let mut params: Vec<Value> = values.map(bounded).into_iter().collect();
        params.push(Value::Bytes(from));
        params.extend(end.map(Value::Bytes));
        params.push(bounded(stretch.rows_max));
        let rows = self.execute(prepared, 1, params)?.rows;
        let read = |row| {
            let mut columns = Columns::of(row);
            let key = Key::stored(stretch.space, columns.bytes()?);
            // A prefix of nothing but 0xff bytes has no end: all above it begins so, or is longer.
            if !key.bytes().starts_with(stretch.prefix) {
                return Ok(None);
            }
            let cell = match values {
                Some(_) => cell(key.clone(), &mut columns)?,
                None => outline(key.clone(), &mut columns),
            };
            Ok(Some((key, cell)))
        };
        let read = |row| read(row).map_err(|torn: Torn| torn.at(prepared.name)).transpose();
        rows.into_iter().filter_map(read).collect()
    }

    fn expired(
        &mut self,
        now_ms: i64,
        after: Option<&Expired>,
        max: usize,
    ) -> Result<Vec<Expired>> {
        upkeep::expired(self, now_ms, after, max)
    }

    fn marks(&mut self, stride: &Stride) -> Result<Vec<Mark>> {
        upkeep::marks(self, stride)
    }

    fn sum(&mut self, stride: &Stride) -> Result<(Sum, Bytes)> {
        upkeep::sum(self, stride)
    }

    fn put_conflict(&mut self, row: &Record, noted_ms: i64) -> Result<()> {
        upkeep::put_conflict(self, row, noted_ms)
    }

    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Noted>> {
        upkeep::conflicts(self, after, max)
    }

    fn remove_conflict(&mut self, place: &ConflictPlace, noted_max: i64) -> Result<bool> {
        upkeep::remove_conflict(self, place, noted_max)
    }

    fn clear(&mut self) -> Result<()> {
        upkeep::remove_all(self, &statements::CLEAR)
    }

    fn erase(&mut self) -> Result<()> {
        upkeep::remove_all(self, &statements::ERASE)
    }
}

/// A row, or its size where the value was left behind.
pub(super) fn cell(key: Key, columns: &mut Columns) -> Result<Cell, Torn> {
    let Ok(stored) = Stored::read(key, columns) else { return Ok(Cell::Damaged) };
    let bytes = stored.value_bytes;
    Ok(match stored.whole() {
        Ok(whole) => whole.map_or(Cell::Large(bytes), Cell::Row),
        Err(_) => Cell::Damaged,
    })
}

/// A row whose value was not asked for.
fn outline(key: Key, columns: &mut Columns) -> Cell {
    Stored::read(key, columns).map_or(Cell::Damaged, |stored| Cell::Row(stored.without_value()))
}
