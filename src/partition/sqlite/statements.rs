//! The statements of the SQLite engine, each with the name that errors call it by.
//!
//! All are constant texts, prepared once a connection; nothing is ever pasted into one. Many rows
//! are many runs of one prepared statement: inside a process that costs less than one long
//! statement.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Params, Row, params};

use super::failure::failure;
use super::rows::{STRETCH_KEY, of};
use super::stored::{
    Torn, clock_row, flag, origin, record, reseed_number, seq, stored_topology, version,
};
use super::upkeep;
use crate::clock::Clock;
use crate::partition::tables::{Cell, ClockRow, CursorRow, Noted, Points, Stretch, Tables};
use crate::partition::upkeep::{ConflictPlace, Expired, Mark, Stride};
use crate::partition::{Entry, Identity, Jump, PartitionError, Refusal, Result};
use crate::record::{Key, Record, Space};
use crate::version::{PartitionId, RunId, Seq, SetId, Version};

/// A text with its name.
pub(super) struct Statement {
    name: &'static str,
    sql: &'static str,
}

pub(super) const fn statement(name: &'static str, sql: &'static str) -> Statement {
    Statement { name, sql }
}

pub(super) static BEGIN_READING: Statement = statement("begin reading", "BEGIN DEFERRED");
pub(super) static BEGIN_WRITING: Statement = statement("begin writing", "BEGIN IMMEDIATE");
pub(super) static COMMIT: Statement = statement("commit", "COMMIT");
pub(super) static ROLLBACK: Statement = statement("rollback", "ROLLBACK");

const SCHEMA: &str = include_str!("schema.sql");

static TABLES: Statement = statement(
    "tables",
    "SELECT count(*), count(*) FILTER (WHERE name = 'clock') FROM sqlite_schema WHERE type = 'table'",
);
static OWNER: Statement =
    statement("owner", "SELECT set_id, partition_id, schema_version FROM clock WHERE id = 1");
pub(super) static TOPOLOGY: Statement =
    statement("topology", "SELECT document, digest FROM topology WHERE id = 1");
static PUT_OWNER: Statement = statement(
    "put owner",
    "INSERT INTO clock (id, set_id, partition_id, schema_version, epoch, seq, run_id, reseed, reseeding)
     VALUES (1, ?1, ?2, ?3, ?4, 0, ?5, 0, 0)",
);
static RENAME: Statement = statement("rename", "UPDATE clock SET set_id = ?1 WHERE id = 1");
static CLOCK: Statement = statement(
    "clock",
    "SELECT partition_id, epoch, seq, run_id, reseed, reseeding FROM clock WHERE id = 1",
);
static PUT_CLOCK: Statement = statement(
    "put clock",
    "UPDATE clock SET epoch = ?2, seq = ?3, run_id = ?4, reseed = ?5, reseeding = ?6
     WHERE id = 1 AND partition_id = ?1",
);
static PUT_JUMP: Statement =
    statement("put jump", "INSERT INTO jump (first_after, last_before) VALUES (?1, ?2)");
static JUMPS: Statement =
    statement("jumps", "SELECT last_before, first_after FROM jump ORDER BY first_after");
static TOUCH: Statement = statement(
    "touch",
    "INSERT INTO frontend (id, beats, updated_at, document) VALUES ('barrier', 1, ?1, '')
     ON CONFLICT (id) DO UPDATE SET beats = beats + 1, updated_at = excluded.updated_at",
);
static CURSORS: Statement = statement(
    "cursors",
    "SELECT origin, cursor_version, floor_version FROM cursor ORDER BY origin",
);
static PUT_CURSOR: Statement = statement(
    "put cursor",
    "INSERT INTO cursor (origin, cursor_version, floor_version) VALUES (?1, ?2, ?3)
     ON CONFLICT (origin) DO UPDATE
     SET cursor_version = excluded.cursor_version, floor_version = excluded.floor_version",
);
static HEAD: Statement =
    statement("head", "SELECT version FROM change WHERE origin = ?1 ORDER BY version DESC LIMIT 1");
static ENTRIES: Statement = statement(
    "entries",
    "SELECT version, space, id FROM change WHERE origin = ?1 AND version > ?2
     ORDER BY version LIMIT ?3",
);
static PUT_ENTRY: Statement = statement(
    "put entry",
    "INSERT INTO change (origin, version, space, id) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (origin, version) DO NOTHING",
);
static REMOVE_ENTRIES: Statement =
    statement("remove entries", "DELETE FROM change WHERE origin = ?1 AND version <= ?2");
static CLEAR: [Statement; 4] = [
    statement("clear data", "DELETE FROM data"),
    statement("clear system", "DELETE FROM system"),
    statement("clear change", "DELETE FROM change"),
    statement("clear cursor", "DELETE FROM cursor"),
];
static ERASE: [Statement; 5] = [
    statement("erase conflict", "DELETE FROM conflict"),
    statement("erase jump", "DELETE FROM jump"),
    statement("erase frontend", "DELETE FROM frontend"),
    statement("erase topology", "DELETE FROM topology"),
    statement("erase clock", "DELETE FROM clock"),
];

/// As column `space` of table `change` tells the two apart.
pub(super) const fn stored_space(space: Space) -> i64 {
    match space {
        Space::Data => 0,
        Space::System => 1,
    }
}

/// An error with the name of the statement that met it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) statement: &'static str,
    pub(super) error: rusqlite::Error,
}

impl From<Failed> for PartitionError {
    fn from(failed: Failed) -> Self {
        failure(failed.statement, failed.error)
    }
}

/// One open transaction.
pub(super) struct Session<'a> {
    connection: &'a Connection,
    clock: &'a dyn Clock,
    run: RunId,
}

impl<'a> Session<'a> {
    pub(super) const fn new(connection: &'a Connection, clock: &'a dyn Clock, run: RunId) -> Self {
        Self { connection, clock, run }
    }

    /// The time that rows are written and judged at.
    pub(super) fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn prepared(&self, statement: &Statement) -> Result<CachedStatement<'a>, Failed> {
        let failed = |error| Failed { statement: statement.name, error };
        self.connection.prepare_cached(statement.sql).map_err(failed)
    }

    /// Runs a statement that returns no rows; tells how many rows it changed.
    pub(super) fn try_execute(
        &self,
        statement: &Statement,
        params: impl Params,
    ) -> Result<usize, Failed> {
        let failed = |error| Failed { statement: statement.name, error };
        self.prepared(statement)?.execute(params).map_err(failed)
    }

    /// The same, before any commit.
    pub(super) fn execute(&self, statement: &Statement, params: impl Params) -> Result<usize> {
        Ok(self.try_execute(statement, params)?)
    }

    /// The same for each of many.
    fn execute_all<T, P: Params>(
        &self,
        statement: &Statement,
        items: impl Iterator<Item = T>,
        params: impl Fn(T) -> P,
    ) -> Result<()> {
        let failed = |error| Failed { statement: statement.name, error };
        let mut prepared = self.prepared(statement)?;
        for item in items {
            prepared.execute(params(item)).map_err(failed)?;
        }
        Ok(())
    }

    /// Hands row after row to `take`, until it returns `false`.
    pub(super) fn each(
        &self,
        statement: &Statement,
        params: impl Params,
        mut take: impl FnMut(&Row<'_>) -> Result<bool, Torn>,
    ) -> Result<()> {
        let failed = |error| Failed { statement: statement.name, error };
        let mut prepared = self.prepared(statement)?;
        let mut rows = prepared.query(params).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if !take(row).map_err(|torn| torn.at(statement.name))? {
                break;
            }
        }
        Ok(())
    }

    /// The only row, if there is one.
    pub(super) fn one<T>(
        &self,
        statement: &Statement,
        params: impl Params,
        take: impl Fn(&Row<'_>) -> Result<T, Torn>,
    ) -> Result<Option<T>> {
        let mut found = None;
        self.each(statement, params, |row| {
            found = Some(take(row)?);
            Ok(false)
        })?;
        Ok(found)
    }

    /// A point read of one key.
    pub(super) fn point(&self, key: &Key, value_bytes_max: usize) -> Result<Points> {
        let asked = params![key.bytes().as_ref(), bounded(value_bytes_max)];
        let now_ms = self.clock.wall_ms();
        let found = self.one(&of(key.space()).point, asked, |row| {
            let cell = match row.get::<_, Option<i64>>(8)? {
                Some(bytes) => Some(cell(key, row, bytes, value_bytes_max)?),
                None => None,
            };
            let (reseed, reseeding) = (reseed_number(row, 9)?, flag(row, 10)?);
            Ok(Points { cells: vec![cell], now_ms, reseed, reseeding })
        });
        self.founded(found)
    }

    /// What came from the clock row, without which there is no partition. Where there is no such
    /// table, the question itself is refused.
    fn founded<T>(&self, found: Result<Option<T>>) -> Result<T> {
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(Refusal::Empty.into()),
            Err(PartitionError::Engine { .. }) if !self.is_created()? => Err(Refusal::Empty.into()),
            Err(error) => Err(error),
        }
    }

    /// Whether the tables are there. Another program's database is neither empty nor ours.
    fn is_created(&self) -> Result<bool> {
        let counts = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        match self.one(&TABLES, (), counts)? {
            Some((_, 1)) => Ok(true),
            None | Some((0, _)) => Ok(false),
            Some(_) => Err(PartitionError::Damaged {
                what: "the file holds tables, but none named `clock`: it is no partition".into(),
            }),
        }
    }
}

/// The row that stands behind `row`, or only its size.
fn cell(key: &Key, row: &Row<'_>, bytes: i64, value_bytes_max: usize) -> Result<Cell, Torn> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes > value_bytes_max => Ok(Cell::Large(bytes)),
        Ok(_) => whole(key, row, true),
        Err(_) => Err(Torn::out_of_range("size", bytes).of(key)),
    }
}

/// The row that stands behind `row`, whose value is read or left empty.
fn whole(key: &Key, row: &Row<'_>, with_value: bool) -> Result<Cell, Torn> {
    match record(key.clone(), row, with_value).map_err(|torn| torn.of(key)) {
        Ok(row) => Ok(Cell::Row(row)),
        Err(Torn::Row(..)) => Ok(Cell::Damaged),
        Err(torn) => Err(torn),
    }
}

/// What a row is written with, in the order of the statement.
fn columns(row: &Record, now_ms: i64) -> impl Params + '_ {
    let body = row.body.as_ref();
    (
        row.key.bytes().as_ref(),
        row.version.packed(),
        row.origin.0,
        row.is_tombstone(),
        body.and_then(|body| body.expires_at),
        now_ms,
        row.checksum().cast_signed(),
        body.map_or("", |body| body.content_type.as_str()),
        body.map_or(&[][..], |body| body.value.as_ref()),
    )
}

/// A count as SQLite takes it.
pub(super) fn bounded(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Tables for Session<'_> {
    fn identity(&mut self) -> Result<Option<Identity>> {
        if !self.is_created()? {
            return Ok(None);
        }
        let owner = self.one(&OWNER, (), |row| {
            let set = SetId(u128::from_be_bytes(row.get(0)?));
            Ok((set, origin(row, 1)?, row.get(2)?))
        })?;
        let Some((set, partition, schema)) = owner else { return Ok(None) };
        let Some(topology) = self.one(&TOPOLOGY, (), stored_topology)? else {
            return Err(PartitionError::Damaged { what: "no topology is stored".into() });
        };
        Ok(Some(Identity { set, partition, schema, topology }))
    }

    fn create(&mut self) -> Result<()> {
        if self.is_created()? {
            return Ok(());
        }
        self.connection.execute_batch(SCHEMA).map_err(|error| failure("create", error))
    }

    fn set_identity(&mut self, identity: &Identity, run: RunId) -> Result<()> {
        let epoch = identity.topology.epoch().number();
        self.execute(
            &PUT_OWNER,
            params![
                identity.set.0.to_be_bytes(),
                identity.partition.0,
                identity.schema,
                epoch,
                run.0.cast_signed()
            ],
        )?;
        Ok(())
    }

    fn rename(&mut self, set: SetId) -> Result<()> {
        self.execute(&RENAME, [set.0.to_be_bytes()]).map(drop)
    }

    fn run(&mut self) -> Result<RunId> {
        Ok(self.run)
    }

    fn now_ms(&mut self) -> Result<i64> {
        Ok(self.clock.wall_ms())
    }

    fn clock(&mut self) -> Result<ClockRow> {
        self.founded(self.one(&CLOCK, (), clock_row))
    }

    fn set_clock(&mut self, clock: &ClockRow) -> Result<()> {
        let changed = self.execute(
            &PUT_CLOCK,
            params![
                clock.partition.0,
                clock.epoch.number(),
                clock.seq.number().cast_signed(),
                clock.run.0.cast_signed(),
                clock.reseed.cast_signed(),
                clock.reseeding
            ],
        )?;
        if changed == 1 { Ok(()) } else { Err(Refusal::Empty.into()) }
    }

    fn note_jump(&mut self, before: Seq, after: Seq) -> Result<()> {
        let jump = params![after.number().cast_signed(), before.number().cast_signed()];
        self.execute(&PUT_JUMP, jump)?;
        Ok(())
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        let mut jumps = Vec::new();
        self.each(&JUMPS, (), |row| {
            jumps.push(Jump { before: seq(row, 0)?, after: seq(row, 1)? });
            Ok(true)
        })?;
        Ok(jumps)
    }

    fn touch(&mut self) -> Result<()> {
        self.execute(&TOUCH, [self.clock.wall_ms()])?;
        Ok(())
    }

    fn cursors(&mut self) -> Result<Vec<CursorRow>> {
        let mut cursors = Vec::new();
        self.each(&CURSORS, (), |row| {
            let (cursor, floor) = (version(row, 1)?, version(row, 2)?);
            cursors.push(CursorRow { origin: origin(row, 0)?, cursor, floor });
            Ok(true)
        })?;
        Ok(cursors)
    }

    fn put_cursors(&mut self, cursors: &[CursorRow]) -> Result<()> {
        for row in cursors {
            let values = params![row.origin.0, row.cursor.packed(), row.floor.packed()];
            self.execute(&PUT_CURSOR, values)?;
        }
        Ok(())
    }

    fn head(&mut self, origin: PartitionId) -> Result<Version> {
        Ok(self.one(&HEAD, [origin.0], |row| version(row, 0))?.unwrap_or(Version::ZERO))
    }

    fn entries(&mut self, origin: PartitionId, after: Version, max: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.each(&ENTRIES, params![origin.0, after.packed(), bounded(max)], |row| {
            let space = if flag(row, 1)? { Space::System } else { Space::Data };
            let key = Key::stored(space, row.get::<_, Vec<u8>>(2)?);
            entries.push(Entry { origin, version: version(row, 0)?, key });
            Ok(true)
        })?;
        Ok(entries)
    }

    fn put_entries(&mut self, entries: &[Entry]) -> Result<()> {
        self.execute_all(&PUT_ENTRY, entries.iter(), |entry| {
            let (space, key) = (stored_space(entry.key.space()), entry.key.bytes().as_ref());
            (entry.origin.0, entry.version.packed(), space, key)
        })
    }

    fn remove_entries(&mut self, origin: PartitionId, upto: Version) -> Result<()> {
        self.execute(&REMOVE_ENTRIES, params![origin.0, upto.packed()])?;
        Ok(())
    }

    fn cells(&mut self, keys: &[&Key], value_bytes_max: usize) -> Result<HashMap<Key, Cell>> {
        let mut cells = HashMap::with_capacity(keys.len());
        for &key in keys {
            let asked = params![key.bytes().as_ref(), bounded(value_bytes_max)];
            let found = self.one(&of(key.space()).cell, asked, |row| {
                cell(key, row, row.get(8)?, value_bytes_max)
            })?;
            cells.extend(found.map(|cell| (key.clone(), cell)));
        }
        Ok(cells)
    }

    fn outlines(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Cell>> {
        let mut cells = HashMap::with_capacity(keys.len());
        for &key in keys {
            let (outline, id) = (&of(key.space()).outline, [key.bytes().as_ref()]);
            let found = self.one(outline, id, |row| whole(key, row, false))?;
            cells.extend(found.map(|cell| (key.clone(), cell)));
        }
        Ok(cells)
    }

    fn versions(&mut self, keys: &[&Key]) -> Result<HashMap<Key, Version>> {
        let mut versions = HashMap::with_capacity(keys.len());
        for &key in keys {
            let asked = [key.bytes().as_ref()];
            let found = self.one(&of(key.space()).version, asked, |row| {
                version(row, 0).map_err(|torn| torn.of(key))
            })?;
            versions.extend(found.map(|version| (key.clone(), version)));
        }
        Ok(versions)
    }

    fn tombstones(&mut self, keys: &[&Key]) -> Result<HashMap<Key, (PartitionId, Version)>> {
        let mut dead = HashMap::new();
        for &key in keys {
            let found = self.one(&of(key.space()).tombstone, [key.bytes().as_ref()], |row| {
                Ok((origin(row, 0)?, version(row, 1)?))
            })?;
            dead.extend(found.map(|place| (key.clone(), place)));
        }
        Ok(dead)
    }

    fn put_rows(&mut self, rows: &[&Record]) -> Result<()> {
        let now_ms = self.clock.wall_ms();
        for space in Space::ALL {
            let rows = rows.iter().copied().filter(|row| row.key.space() == space);
            self.execute_all(&of(space).put, rows, |row| columns(row, now_ms))?;
        }
        Ok(())
    }

    fn remove_rows(&mut self, keys: &[&Key]) -> Result<()> {
        for key in keys {
            self.execute(&of(key.space()).remove, [key.bytes().as_ref()])?;
        }
        Ok(())
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
        let statements = of(stretch.space);
        let wanted = match stretch.value_bytes_max {
            Some(_) => &statements.stretch,
            None => &statements.stretch_of_keys,
        };
        let value_bytes_max = stretch.value_bytes_max.unwrap_or(0);
        let mut cells = Vec::new();
        self.each(wanted, params![from, bounded(value_bytes_max)], |row| {
            let bytes = row.get_ref(STRETCH_KEY)?.as_blob().map_err(rusqlite::Error::from)?;
            if !bytes.starts_with(stretch.prefix) {
                return Ok(false);
            }
            let key = Key::stored(stretch.space, Bytes::copy_from_slice(bytes));
            let cell = match stretch.value_bytes_max {
                Some(max) => cell(&key, row, row.get(8)?, max)?,
                None => whole(&key, row, false)?,
            };
            cells.push((key, cell));
            Ok(cells.len() < stretch.rows_max)
        })?;
        Ok(cells)
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
        CLEAR.iter().try_for_each(|statement| self.execute(statement, ()).map(drop))
    }

    fn erase(&mut self) -> Result<()> {
        ERASE.iter().try_for_each(|statement| self.execute(statement, ()).map(drop))
    }
}
