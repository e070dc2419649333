//! The statements of the MySQL engine, each with the name that errors call it by.
//!
//! One dialect for MariaDB and MySQL: no `RETURNING` (MySQL has none), no row alias (MariaDB has
//! none), `VALUES()` for what an upsert brings; what only MariaDB has stands in its own comments
//! (`/*M! ... */`). What comes from users is a parameter of a prepared statement, or in hexadecimal
//! digits. Texts are constants, and where several statements share one round trip, such digits and
//! numbers of ours pasted into them.
//!
//! Rows are put by `REPLACE`: with one unique key and neither triggers nor foreign keys the servers
//! make an update of it, as of `ON DUPLICATE KEY UPDATE`, and have no expressions to evaluate.
//!
//! Lists come in fixed sizes, so that there are few statements to prepare: [`size_of_list`] for
//! keys, [`rows_of_insert`] for rows. What is missing to a size repeats the last item, which
//! changes nothing. Where it would, in [`PUT_NEW_ENTRIES`], a statement takes no more than there
//! are ([`size_below`]).

use super::Patience;
use crate::version::{Epoch, PartitionId, Seq};

/// The server's own time: milliseconds since 1970 UTC, whatever its time zone and beyond 2038.
macro_rules! now_ms {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000"
    };
}

/// A statement that is prepared: `head`, then `item` as often as asked for, then `tail`.
pub(super) struct Prepared {
    pub(super) name: &'static str,
    head: &'static str,
    item: &'static str,
    tail: &'static str,
}

impl Prepared {
    /// Its text for `size` items.
    pub(super) fn sql(&self, size: usize) -> String {
        let mut sql = String::from(self.head);
        for nth in 0..size {
            sql.push_str(if nth == 0 { "" } else { "," });
            sql.push_str(self.item);
        }
        sql.push_str(self.tail);
        sql
    }

    /// Its text with items that are written out (hexadecimal, numbers) by `spell`: for what is sent
    /// together with other texts.
    pub(super) fn spelled<T>(&self, items: &[T], spell: impl Fn(&mut String, &T)) -> String {
        const ITEM_BYTES: usize = 128;
        let mut sql = String::with_capacity(self.head.len() + items.len() * ITEM_BYTES);
        sql.push_str(self.head);
        for (nth, item) in items.iter().enumerate() {
            sql.push_str(if nth == 0 { "" } else { "," });
            spell(&mut sql, item);
        }
        sql.push_str(self.tail);
        sql
    }
}

pub(super) const fn prepared(name: &'static str, sql: &'static str) -> Prepared {
    Prepared { name, head: sql, item: "", tail: "" }
}

const fn listed(
    name: &'static str,
    head: &'static str,
    item: &'static str,
    tail: &'static str,
) -> Prepared {
    Prepared { name, head, item, tail }
}

/// A text that takes no parameters.
pub(super) struct Text {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

const fn text(name: &'static str, sql: &'static str) -> Text {
    Text { name, sql }
}

/// The most keys in one statement.
pub(super) const KEYS_MAX: usize = 64;

/// The sizes of lists and of inserts. From 4 to 128, which is what reads are gathered to and group
/// commits mostly take, each is at most a quarter more than the one before, from 28 on a seventh;
/// for the pages of a sync at most a half. A prepared row costs MariaDB 5 KB of memory, a log entry
/// half of that: all sizes of both are 14 MB, for a connection that has written batches of each.
const SIZES: [usize; 36] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64,
    72, 80, 88, 96, 104, 112, 120, 128, 192, 256,
];

/// The least size for so many.
fn size_above(items: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= items).unwrap_or(ROWS_MAX)
}

/// The greatest size for at most so many; of none, one.
pub(super) fn size_below(items: usize) -> usize {
    SIZES.into_iter().rev().find(|size| *size <= items).unwrap_or(1)
}

/// The size of the list that `keys` keys go into.
pub(super) fn size_of_list(keys: usize) -> usize {
    size_above(keys).min(KEYS_MAX)
}

/// The most rows in one statement.
pub(super) const ROWS_MAX: usize = SIZES[SIZES.len() - 1];

/// How many of `rows` rows the next statement takes, and its size: they differ where filling up by
/// repeating the last row, which has `weight` bytes, costs less than another round trip.
pub(super) fn rows_of_insert(rows: usize, weight: usize) -> (usize, usize) {
    const FILLING_BYTES_MAX: usize = 16 << 10;
    let above = size_above(rows);
    if (above - rows.min(above)) * weight <= FILLING_BYTES_MAX {
        return (rows.min(above), above);
    }
    let below = size_below(rows);
    (below, below)
}

/// What every connection sets before anything else, and what it wants to know of the server.
pub(super) fn preamble(patience: &Patience) -> String {
    let lock = patience.lock.as_secs().max(1);
    let idle = patience.idle.as_secs().max(1);
    let answer = patience.answer.as_secs().max(1);
    format!(
        "SET NAMES binary;
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
         SET SESSION autocommit = 1, sql_safe_updates = 0, sql_select_limit = DEFAULT,
           sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
           innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, wait_timeout = {WAIT_TIMEOUT},
           net_read_timeout = {idle}, net_write_timeout = {answer}
           /*M!100300 , idle_transaction_timeout = {idle}, idle_write_transaction_timeout = {idle},
             idle_readonly_transaction_timeout = {idle} */;
         SELECT @@version, @@max_allowed_packet, @@innodb_flush_log_at_trx_commit, @@log_bin,
           @@sync_binlog, @@innodb_doublewrite, @@read_only, @@innodb_flush_method"
    )
}

/// How many answers [`preamble`] has before the last one.
pub(super) const PREAMBLE_SETS: usize = 3;

/// How a transaction begins; it is sent together with its first statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Reading,
    Writing,
}

/// How transactions begin and end at one server.
///
/// Between the two a front end may be stopped, and hold its locks. MariaDB ends the connection then
/// (see [`preamble`]). MySQL has only a limit for connections that nobody uses at all: there it is
/// lowered with each writing transaction and raised again with its end, in the same round trips.
pub(super) struct Edges {
    begin_writing: String,
    /// How many answers `begin_writing` has.
    begin_writing_replies: usize,
    pub(super) commit: String,
    pub(super) rollback: String,
}

/// One snapshot for all that follows.
const BEGIN_READING: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
     START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// Writing transactions are one after the other by the lock on `clock`: what is read after it is
/// the newest, and no gaps are locked for a repeatable read that nobody needs.
const BEGIN_WRITING: &str = "START TRANSACTION";

impl Edges {
    pub(super) fn new(is_mariadb: bool, patience: &Patience) -> Self {
        if is_mariadb {
            return Self {
                begin_writing: BEGIN_WRITING.to_owned(),
                begin_writing_replies: 1,
                commit: COMMIT.to_owned(),
                rollback: ROLLBACK.to_owned(),
            };
        }
        let idle = patience.idle.as_secs().max(1);
        let raised = format!("; SET SESSION wait_timeout = {WAIT_TIMEOUT}");
        Self {
            begin_writing: format!("SET SESSION wait_timeout = {idle}; {BEGIN_WRITING}"),
            begin_writing_replies: 2,
            commit: [COMMIT, &raised].concat(),
            rollback: [ROLLBACK, &raised].concat(),
        }
    }

    pub(super) fn begin(&self, begin: Begin) -> &str {
        match begin {
            Begin::Reading => BEGIN_READING,
            Begin::Writing => &self.begin_writing,
        }
    }

    /// How many answers [`Edges::begin`] has.
    pub(super) const fn replies(&self, begin: Begin) -> usize {
        match begin {
            Begin::Reading => 2,
            Begin::Writing => self.begin_writing_replies,
        }
    }
}

/// Takes a partition's tables away.
pub(super) const DISCARD: &str = "DROP TABLE IF EXISTS `data`, `system`, `change`, `clock`, `jump`, \
    `cursor`, `topology`, `frontend`, `conflict`, `server_run`";

/// How long a connection may be unused outside of transactions, in seconds: the servers' default.
const WAIT_TIMEOUT: u32 = 28_800;
/// What reading transactions end with.
pub(super) const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// The schema, as an operator loads it by hand.
pub(super) static CREATE: Text = text("create", include_str!("../../../database_definition.sql"));
/// The schema's file says in which character set its comments are written.
pub(super) static AFTER_CREATE: Text = text("after create", "SET NAMES binary");
/// The tables of [`CREATE`].
pub(super) const TABLES_OF_SCHEMA: [&str; 10] = [
    "change",
    "clock",
    "conflict",
    "cursor",
    "data",
    "frontend",
    "jump",
    "server_run",
    "system",
    "topology",
];
pub(super) static TABLES: Text = text(
    "tables",
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() LIMIT 1000",
);

pub(super) static RUN: Text = text("run", "SELECT run_id FROM server_run WHERE id = 1");
/// Of two at once the first names the run. A duplicate is all that can be ignored here: the values
/// are ours and fit.
pub(super) static PUT_RUN: Prepared =
    prepared("put run", "INSERT IGNORE INTO server_run (id, run_id) VALUES (1, ?)");

pub(super) static OWNER: Text =
    text("owner", "SELECT set_id, partition_id, schema_version FROM clock WHERE id = 1");
pub(super) static TOPOLOGY: Text =
    text("topology", "SELECT document, digest FROM topology WHERE id = 1");
pub(super) static ANYTHING: Text = text(
    "anything",
    "SELECT EXISTS (SELECT 1 FROM data) OR EXISTS (SELECT 1 FROM `system`)
       OR EXISTS (SELECT 1 FROM `change`)",
);
pub(super) static RENAME: Prepared = prepared("rename", "UPDATE clock SET set_id = ? WHERE id = 1");
pub(super) static PUT_OWNER: Prepared = prepared(
    "put owner",
    "INSERT INTO clock
       (id, set_id, partition_id, schema_version, epoch, seq, run_id, reseed, reseeding)
     VALUES (1, ?, ?, ?, ?, 0, ?, 0, 0)",
);
pub(super) static ACCEPTOR: Text = text(
    "acceptor",
    "SELECT document, digest, incarnation, promised_round, promised_by, accepted_round, accepted_by
     FROM topology WHERE id = 1",
);
pub(super) static PUT_ACCEPTOR: Prepared = prepared(
    "put acceptor",
    "INSERT INTO topology (id, epoch, digest, incarnation, promised_round, promised_by,
       accepted_round, accepted_by, document)
     VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), digest = VALUES(digest),
       incarnation = VALUES(incarnation), promised_round = VALUES(promised_round),
       promised_by = VALUES(promised_by), accepted_round = VALUES(accepted_round),
       accepted_by = VALUES(accepted_by), document = VALUES(document)",
);

pub(super) static CLOCK: Text = text(
    "clock",
    concat!(
        "SELECT partition_id, epoch, seq, run_id, reseed, reseeding, ",
        now_ms!(),
        " FROM clock WHERE id = 1"
    ),
);
pub(super) static LOCK_CLOCK: Text = text(
    "lock clock",
    concat!(
        "SELECT partition_id, epoch, seq, run_id, reseed, reseeding, ",
        now_ms!(),
        " FROM clock WHERE id = 1 FOR UPDATE"
    ),
);
pub(super) static PUT_CLOCK: Prepared = prepared(
    "put clock",
    "UPDATE clock SET epoch = ?, seq = ?, run_id = ?, reseed = ?, reseeding = ?
     WHERE id = 1 AND partition_id = ?",
);
pub(super) static NOW: Text = text("now", concat!("SELECT ", now_ms!()));

/// What [`take`] is called in errors.
pub(super) const TAKE: &str = "take";

/// Fence and sequence in one statement, and what else a commit has to know: the time, and which
/// partition this is, unless it is `known`, and then only asked whether it still is.
pub(super) fn take(fence: Option<Epoch>, count: u64, known: Option<PartitionId>) -> String {
    let fence = fence.map_or_else(String::new, |epoch| format!(" AND epoch = {epoch}"));
    let same = known.map_or_else(String::new, |known| format!(" AND partition_id = {}", known.0));
    let told = match known {
        Some(_) => concat!("SELECT ", now_ms!()),
        None => concat!("SELECT partition_id, ", now_ms!(), " FROM clock WHERE id = 1"),
    };
    let last = Seq::MAX.number().saturating_sub(count);
    format!(
        "UPDATE clock SET seq = LAST_INSERT_ID(seq + {count})
         WHERE id = 1 AND reseeding = 0 AND seq <= {last}{fence}{same}; {told}"
    )
}

pub(super) static PUT_JUMP: Prepared =
    prepared("put jump", "INSERT INTO jump (first_after, last_before) VALUES (?, ?)");
pub(super) static JUMPS: Text =
    text("jumps", "SELECT last_before, first_after FROM jump ORDER BY first_after");
pub(super) static TOUCH: Text = text(
    "touch",
    concat!(
        "INSERT INTO frontend (id, beats, updated_at, document) VALUES ('barrier', 1, ",
        now_ms!(),
        ", '') ON DUPLICATE KEY UPDATE beats = beats + 1, updated_at = VALUES(updated_at)"
    ),
);

pub(super) static BEATS: Text = text(
    "beats",
    "SELECT id, beats, updated_at, document FROM frontend WHERE id <> 'barrier' ORDER BY id",
);
pub(super) static PUT_BEAT: Prepared = prepared(
    "put beat",
    "INSERT INTO frontend (id, beats, updated_at, document) VALUES (?, 1, ?, ?)
     ON DUPLICATE KEY UPDATE beats = beats + 1, updated_at = VALUES(updated_at),
       document = VALUES(document)",
);
pub(super) static REMOVE_BEAT: Prepared =
    prepared("remove beat", "DELETE FROM frontend WHERE id = ? AND id <> 'barrier'");

pub(super) static CURSORS: Text =
    text("cursors", "SELECT origin, cursor_version, floor_version FROM `cursor` ORDER BY origin");
pub(super) static PUT_CURSORS: Prepared = listed(
    "put cursors",
    "INSERT INTO `cursor` (origin, cursor_version, floor_version) VALUES ",
    "(?,?,?)",
    " ON DUPLICATE KEY UPDATE cursor_version = VALUES(cursor_version),
        floor_version = VALUES(floor_version)",
);

pub(super) static HEAD: Prepared = prepared(
    "head",
    "SELECT version FROM `change` FORCE INDEX (PRIMARY) WHERE origin = ?
     ORDER BY version DESC LIMIT 1",
);
/// With the index named: whatever the statistics say, the plan is a range from the position on,
/// never a walk over the origin's log from its beginning.
pub(super) static ENTRIES: Prepared = prepared(
    "entries",
    "SELECT version, space, id FROM `change` FORCE INDEX (PRIMARY)
     WHERE origin = ? AND version > ? ORDER BY origin, version LIMIT ?",
);
/// What stands is left alone; unlike `INSERT IGNORE` it ignores nothing else.
pub(super) static PUT_ENTRIES: Prepared = listed(
    "put entries",
    "INSERT INTO `change` (origin, version, space, id) VALUES ",
    "(?,?,?,?)",
    " ON DUPLICATE KEY UPDATE version = VALUES(version)",
);
/// Those of the partition's own new versions: that none of them stands is VER-1.
pub(super) static PUT_NEW_ENTRIES: Prepared = listed(
    "put new entries",
    "INSERT INTO `change` (origin, version, space, id) VALUES ",
    "(?,?,?,?)",
    "",
);
pub(super) static REMOVE_ENTRIES: Prepared = prepared(
    "remove entries",
    "DELETE FROM `change` WHERE origin = ? AND version <= ? ORDER BY origin, version LIMIT 1000",
);

/// How many rows each statement of [`CLEAR`] and [`REMOVE_ENTRIES`] removes: little enough to be
/// done within the patience for one answer.
pub(super) const REMOVED_AT_ONCE: u64 = 1000;
pub(super) static CLEAR: [Text; 4] = [
    text("clear data", "DELETE FROM data LIMIT 1000"),
    text("clear system", "DELETE FROM `system` LIMIT 1000"),
    text("clear change", "DELETE FROM `change` LIMIT 1000"),
    text("clear cursor", "DELETE FROM `cursor` LIMIT 1000"),
];
pub(super) static ERASE: [Text; 5] = [
    text("erase conflict", "DELETE FROM `conflict` LIMIT 1000"),
    text("erase jump", "DELETE FROM `jump` LIMIT 1000"),
    text("erase frontend", "DELETE FROM `frontend` LIMIT 1000"),
    text("erase topology", "DELETE FROM `topology` LIMIT 1000"),
    text("erase clock", "DELETE FROM `clock` LIMIT 1000"),
];

/// The statements about rows, for one of the two tables that hold some.
pub(super) struct RowStatements {
    pub(super) points: Prepared,
    pub(super) cells: Prepared,
    pub(super) outlines: Prepared,
    pub(super) versions: Prepared,
    pub(super) tombstones: Prepared,
    pub(super) put: Prepared,
    pub(super) remove: Prepared,
    /// From a key on; up to another one; each with values and without.
    pub(super) stretch: [Prepared; 4],
}

macro_rules! row_columns {
    () => {
        "d.id, d.version, d.origin, d.deleted, d.expires_at, d.content_type, d.checksum, \
         d.updated_at, "
    };
}

macro_rules! stretch {
    ($name:literal, $table:literal, $value:expr, $upto:literal) => {
        prepared(
            concat!($name, $table),
            concat!(
                "SELECT ",
                row_columns!(),
                $value,
                " FROM ",
                $table,
                " d FORCE INDEX (PRIMARY) WHERE d.id >= ?",
                $upto,
                " ORDER BY d.id LIMIT ?"
            ),
        )
    };
}

/// The value, unless it has more bytes than asked for, and its size.
macro_rules! value_or_size {
    () => {
        "CASE WHEN LENGTH(d.value) <= ? THEN d.value END, LENGTH(d.value)"
    };
}

macro_rules! row_statements {
    ($table:literal) => {
        RowStatements {
            // One statement, thus one snapshot: whether the partition serves, what time it is
            // there (as a date: the server would calculate anew for every row), and the rows. A
            // value that is too large stays at the server.
            points: listed(
                concat!("points of ", $table),
                concat!(
                    "SELECT c.reseed, c.reseeding, UTC_TIMESTAMP(3), ",
                    row_columns!(),
                    value_or_size!(),
                    " FROM clock c LEFT JOIN ",
                    $table,
                    " d FORCE INDEX (PRIMARY) ON d.id IN ("
                ),
                "?",
                ") WHERE c.id = 1",
            ),
            cells: listed(
                concat!("cells of ", $table),
                concat!(
                    "SELECT ",
                    row_columns!(),
                    value_or_size!(),
                    " FROM ",
                    $table,
                    " d FORCE INDEX (PRIMARY) WHERE d.id IN ("
                ),
                "?",
                ")",
            ),
            // A large value lies beside its row: one that nobody looks at is not read at all.
            outlines: listed(
                concat!("outlines in ", $table),
                concat!(
                    "SELECT ",
                    row_columns!(),
                    "NULL, 0 FROM ",
                    $table,
                    " d FORCE INDEX (PRIMARY) WHERE d.id IN ("
                ),
                "?",
                ")",
            ),
            versions: listed(
                concat!("versions in ", $table),
                concat!("SELECT id, version FROM ", $table, " FORCE INDEX (PRIMARY) WHERE id IN ("),
                "?",
                ")",
            ),
            tombstones: listed(
                concat!("tombstones in ", $table),
                concat!(
                    "SELECT id, origin, version FROM ",
                    $table,
                    " FORCE INDEX (PRIMARY) WHERE deleted = 1 AND id IN ("
                ),
                "?",
                ")",
            ),
            put: listed(
                concat!("put rows of ", $table),
                concat!(
                    "REPLACE INTO ",
                    $table,
                    " (id, version, origin, deleted, expires_at, updated_at, checksum,
                       content_type, value) VALUES "
                ),
                "(?,?,?,?,?,?,?,?,?)",
                "",
            ),
            remove: listed(
                concat!("remove rows of ", $table),
                concat!("DELETE FROM ", $table, " WHERE id IN ("),
                "?",
                ")",
            ),
            stretch: [
                stretch!("stretch of ", $table, value_or_size!(), ""),
                stretch!("end of ", $table, value_or_size!(), " AND d.id < ?"),
                stretch!("keys of ", $table, "NULL, 0", ""),
                stretch!("end of keys of ", $table, "NULL, 0", " AND d.id < ?"),
            ],
        }
    };
}

pub(super) static DATA: RowStatements = row_statements!("data");
pub(super) static SYSTEM: RowStatements = row_statements!("`system`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_few_sizes() {
        let sizes: Vec<usize> = [1, 2, 3, 9, 33, 64].into_iter().map(size_of_list).collect();
        assert_eq!(sizes, [1, 2, 3, 10, 36, 64]);
    }

    #[test]
    fn small_rows_fill_a_statement_up_and_large_ones_do_not() {
        for rows in 1..=ROWS_MAX {
            assert_eq!(rows_of_insert(rows, 100).0, rows, "one round trip");
            let (taken, size) = rows_of_insert(rows, 1 << 20);
            assert!(taken == size && size <= rows, "{rows}");
        }
        assert_eq!(rows_of_insert(100, 100), (100, 104));
        assert_eq!(rows_of_insert(100, 100_000), (96, 96));
        assert_eq!(rows_of_insert(1000, 100), (256, 256));
    }

    #[test]
    fn a_statement_that_is_not_filled_up_takes_no_more_than_there_are() {
        for items in 1..=ROWS_MAX + 1 {
            assert!((1..=items).contains(&size_below(items)), "{items}");
        }
        assert_eq!((size_below(57), size_below(1_000)), (56, 256));
    }

    #[test]
    fn a_list_is_spelled_out() {
        assert_eq!(PUT_CURSORS.sql(2).matches("(?,?,?)").count(), 2);
        assert!(DATA.versions.sql(3).ends_with("IN (?,?,?)"));
        assert!(HEAD.sql(1).ends_with("LIMIT 1"));
    }

    #[test]
    fn the_fence_is_part_of_the_statement() {
        assert!(take(Some(Epoch::FIRST), 3, None).contains("AND epoch = 1;"));
        assert!(!take(None, 3, None).contains("epoch ="));
        assert!(take(None, 3, Some(PartitionId(2))).contains("AND partition_id = 2;"));
    }
}
