//! The statements for expiry, comparing and the ledger.
//!
//! Fingerprints are made by the server, so that rows need not leave it to be compared: the same as
//! [`crate::partition::upkeep::fingerprint`], in functions that MariaDB and MySQL have both.

use bytes::Bytes;
use mysql::Value;

use super::params::stored_space;
use super::params::{bounded, bytes, row_params};
use super::session::Session;
use super::statements::{self, Prepared, Text, prepared};
use super::stored::{Columns, Stored, Torn, mark};
use crate::partition::Result;
use crate::partition::tables::Noted;
use crate::partition::upkeep::{ConflictPlace, Expired, Mark, Stride, Sum, expired_after};
use crate::record::{Key, Record, Space};

/// An unsigned number of 64 bits. The greatest ones are passed on as negative ones, like all such
/// numbers.
macro_rules! fingerprint {
    () => {
        "CAST(CONV(LEFT(SHA2(CONCAT(version, ' ', origin, ' ', deleted, ' ',
           IFNULL(expires_at, '-'), ' ', checksum, ' ', LENGTH(id), ' ', LENGTH(content_type), ' ',
           id, content_type, SHA2(value, 256)), 256), 16), 16, 10) AS UNSIGNED)"
    };
}

/// The statements about one of the two tables that hold rows.
struct UpkeepStatements {
    expired: Prepared,
    marks: Prepared,
    end: Prepared,
    sum: Prepared,
}

macro_rules! upkeep_statements {
    ($table:literal) => {
        UpkeepStatements {
            // Written so that the index gives the rows in order from the first one wanted.
            expired: prepared(
                concat!("expired of ", $table),
                concat!(
                    "SELECT expires_at, id, version FROM ",
                    $table,
                    " FORCE INDEX (expires) WHERE expires_at >= ? AND expires_at <= ?
                     AND (expires_at > ? OR id > ?) AND deleted = 0
                     ORDER BY expires_at, id LIMIT ?"
                ),
            ),
            marks: prepared(
                concat!("marks of ", $table),
                concat!(
                    "SELECT id, version, origin, deleted, CAST(",
                    fingerprint!(),
                    " AS SIGNED) FROM ",
                    $table,
                    " FORCE INDEX (PRIMARY) WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
                ),
            ),
            end: prepared(
                concat!("end of stretch of ", $table),
                concat!(
                    "SELECT id FROM ",
                    $table,
                    " FORCE INDEX (PRIMARY) WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?, 1"
                ),
            ),
            sum: prepared(
                concat!("sum of ", $table),
                concat!(
                    "SELECT COUNT(*), CAST(BIT_XOR(",
                    fingerprint!(),
                    ") AS SIGNED) FROM ",
                    $table,
                    " FORCE INDEX (PRIMARY) WHERE id >= ? AND id <= ? AND deleted = 0"
                ),
            ),
        }
    };
}

static DATA: UpkeepStatements = upkeep_statements!("data");
static SYSTEM: UpkeepStatements = upkeep_statements!("`system`");

const fn of(space: Space) -> &'static UpkeepStatements {
    match space {
        Space::Data => &DATA,
        Space::System => &SYSTEM,
    }
}

/// What stands is left alone.
static PUT_CONFLICT: Prepared = prepared(
    "put conflict",
    "INSERT INTO conflict (id, version, origin, deleted, expires_at, updated_at, checksum,
       content_type, value, space) VALUES (?,?,?,?,?,?,?,?,?,?)
     ON DUPLICATE KEY UPDATE version = VALUES(version)",
);
static REMOVE_CONFLICT: Prepared = prepared(
    "remove conflict",
    "DELETE FROM conflict WHERE space = ? AND id = ? AND version = ? AND updated_at <= ?",
);
static CONFLICTS: Prepared = prepared(
    "conflicts",
    "SELECT space, id, version, origin, deleted, expires_at, content_type, checksum,
       updated_at, value, LENGTH(value)
     FROM conflict
     WHERE space > ? OR (space = ? AND id > ?) OR (space = ? AND id = ? AND version > ?)
     ORDER BY space, id, version LIMIT ?",
);

pub(super) fn expired(
    session: &mut Session<'_>,
    now_ms: i64,
    after: Option<&Expired>,
    max: usize,
) -> Result<Vec<Expired>> {
    let mut expired = Vec::new();
    for space in Space::ALL {
        let (from, key) = expired_after(after, space);
        let from = Value::Int(from);
        let asked = vec![from.clone(), Value::Int(now_ms), from, bytes(&key), bounded(max)];
        let prepared = &of(space).expired;
        let read = |row| {
            let mut columns = Columns::of(row);
            let expires_at = columns.number()?;
            let key = Key::stored(space, columns.bytes()?);
            let version = columns.version().map_err(|torn| torn.of(&key))?;
            Ok(Expired { expires_at, key, version })
        };
        for row in session.execute(prepared, 1, asked)?.rows {
            expired.push(read(row).map_err(|torn: Torn| torn.at(prepared.name))?);
        }
    }
    expired.sort_by(|a, b| (a.expires_at, &a.key).cmp(&(b.expires_at, &b.key)));
    expired.truncate(max);
    Ok(expired)
}

fn ends(stride: &Stride) -> Vec<Value> {
    vec![bytes(&stride.from), bytes(&stride.upto)]
}

pub(super) fn marks(session: &mut Session<'_>, stride: &Stride) -> Result<Vec<Mark>> {
    let prepared = &of(stride.space).marks;
    let asked = [ends(stride), vec![bounded(stride.rows_max)]].concat();
    let rows = session.execute(prepared, 1, asked)?.rows;
    let read = |row| mark(stride.space, &mut Columns::of(row));
    let read = |row| read(row).map_err(|torn: Torn| torn.at(prepared.name));
    rows.into_iter().map(read).collect()
}

/// Two statements: where the stretch ends, by keys alone, and the sum up to there.
pub(super) fn sum(session: &mut Session<'_>, stride: &Stride) -> Result<(Sum, Bytes)> {
    let statements = of(stride.space);
    let asked = [ends(stride), vec![bounded(stride.rows_max.saturating_sub(1))]].concat();
    let end = session.execute(&statements.end, 1, asked)?.rows.into_iter().next();
    let end = end.map(|row| Columns::of(row).bytes()).transpose();
    let end = end.map_err(|torn| torn.at(statements.end.name))?;
    let upto = end.map_or_else(|| stride.upto.clone(), Bytes::from);
    let asked = vec![bytes(&stride.from), bytes(&upto)];
    let row = session.execute(&statements.sum, 1, asked)?.rows.into_iter().next();
    let mut columns = Columns::of(row.unwrap_or_default());
    let read = columns.number().and_then(|rows| Ok((rows, columns.number()?)));
    let (rows, sum) = read.map_err(|torn| torn.at(statements.sum.name))?;
    let sum = Sum { rows: rows.cast_unsigned(), fingerprints: sum.cast_unsigned() };
    Ok((sum, upto))
}

pub(super) fn put_conflict(session: &mut Session<'_>, row: &Record, noted_ms: i64) -> Result<()> {
    let mut params = row_params(row, noted_ms).to_vec();
    params.push(Value::Int(stored_space(row.key.space())));
    session.execute(&PUT_CONFLICT, 1, params)?;
    Ok(())
}

pub(super) fn remove_conflict(
    session: &mut Session<'_>,
    place: &ConflictPlace,
    noted_max: i64,
) -> Result<bool> {
    let key = &place.key;
    let asked = vec![
        Value::Int(stored_space(key.space())),
        bytes(key.bytes()),
        Value::Int(place.version.packed()),
        Value::Int(noted_max),
    ];
    Ok(session.execute(&REMOVE_CONFLICT, 1, asked)?.found > 0)
}

pub(super) fn conflicts(
    session: &mut Session<'_>,
    after: Option<&ConflictPlace>,
    max: usize,
) -> Result<Vec<Noted>> {
    let (space, key, version) = after.map_or((-1, Bytes::new(), 0), |after| {
        let key = &after.key;
        (stored_space(key.space()), key.bytes().clone(), after.version.packed())
    });
    let (space, key) = (Value::Int(space), bytes(&key));
    let asked = vec![
        space.clone(),
        space.clone(),
        key.clone(),
        space,
        key,
        Value::Int(version),
        bounded(max),
    ];
    let read = |row| {
        let mut columns = Columns::of(row);
        let key = Key::stored(columns.space()?, columns.bytes()?);
        let stored = Stored::read(key.clone(), &mut columns).map_err(|torn| torn.of(&key))?;
        stored.whole().map_err(|torn| torn.of(&key))
    };
    let mut conflicts = Vec::new();
    for row in session.execute(&CONFLICTS, 1, asked)?.rows {
        let row = read(row).map_err(|torn: Torn| torn.at(CONFLICTS.name))?;
        conflicts.extend(row.map(|row| {
            let noted_ms = row.stored_at.0;
            (row, noted_ms)
        }));
    }
    Ok(conflicts)
}

/// Runs statements that remove at most so many rows each, until nothing is left.
pub(super) fn remove_all(session: &mut Session<'_>, texts: &[Text]) -> Result<()> {
    for text in texts {
        while session.text(text)?.found == statements::REMOVED_AT_ONCE {}
    }
    Ok(())
}
