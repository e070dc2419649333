//! The statements for expiry, comparing and the ledger.
//!
//! Fingerprints are made here, not by SQLite: its rows lie in this process anyway.

use rusqlite::params;

use super::statements::{Session, Statement, bounded, statement, stored_space};
use super::stored::{flag, mark, record, version};
use crate::partition::Result;
use crate::partition::tables::Noted;
use crate::partition::upkeep::{ConflictPlace, Expired, Mark, Stride};
use crate::record::{Key, Record, Space};

/// The statements about one of the two tables that hold rows.
struct UpkeepStatements {
    expired: Statement,
    marks: Statement,
}

macro_rules! upkeep_statements {
    ($table:literal) => {
        UpkeepStatements {
            // The first condition is that of the index: without it the index is not used.
            expired: statement(
                concat!("expired of ", $table),
                concat!(
                    "SELECT expires_at, id, version FROM ",
                    $table,
                    " WHERE expires_at IS NOT NULL AND (expires_at, id) > (?1, ?2)
                     AND expires_at <= ?3 AND deleted = 0 ORDER BY expires_at, id LIMIT ?4"
                ),
            ),
            marks: statement(
                concat!("marks of ", $table),
                concat!(
                    "SELECT id, version, origin, deleted, expires_at, content_type, checksum, value
                     FROM ",
                    $table,
                    " WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3"
                ),
            ),
        }
    };
}

static DATA: UpkeepStatements = upkeep_statements!("data");
static SYSTEM: UpkeepStatements = upkeep_statements!("system");

const fn of(space: Space) -> &'static UpkeepStatements {
    match space {
        Space::Data => &DATA,
        Space::System => &SYSTEM,
    }
}

static PUT_CONFLICT: Statement = statement(
    "put conflict",
    "INSERT INTO conflict (space, id, version, origin, deleted, expires_at, updated_at, checksum,
       content_type, value)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
     ON CONFLICT (space, id, version) DO NOTHING",
);
static REMOVE_CONFLICT: Statement = statement(
    "remove conflict",
    "DELETE FROM conflict WHERE space = ?1 AND id = ?2 AND version = ?3 AND updated_at <= ?4",
);
static CONFLICTS: Statement = statement(
    "conflicts",
    "SELECT version, origin, deleted, expires_at, content_type, checksum, updated_at, value,
       id, space
     FROM conflict WHERE (space, id, version) > (?1, ?2, ?3) ORDER BY space, id, version LIMIT ?4",
);

pub(super) fn expired(
    session: &Session<'_>,
    now_ms: i64,
    after: Option<&Expired>,
    max: usize,
) -> Result<Vec<Expired>> {
    let mut expired = Vec::new();
    for space in Space::ALL {
        let (from, key) = crate::partition::upkeep::expired_after(after, space);
        let asked = params![from, key.as_ref(), now_ms, bounded(max)];
        session.each(&of(space).expired, asked, |row| {
            let key = Key::stored(space, row.get::<_, Vec<u8>>(1)?);
            let version = version(row, 2).map_err(|torn| torn.of(&key))?;
            expired.push(Expired { expires_at: row.get(0)?, key, version });
            Ok(true)
        })?;
    }
    expired.sort_by(|a, b| (a.expires_at, &a.key).cmp(&(b.expires_at, &b.key)));
    expired.truncate(max);
    Ok(expired)
}

pub(super) fn marks(session: &Session<'_>, stride: &Stride) -> Result<Vec<Mark>> {
    let mut marks = Vec::new();
    let asked = params![stride.from.as_ref(), stride.upto.as_ref(), bounded(stride.rows_max)];
    session.each(&of(stride.space).marks, asked, |row| {
        marks.push(mark(stride.space, row)?);
        Ok(true)
    })?;
    Ok(marks)
}

pub(super) fn put_conflict(session: &Session<'_>, row: &Record, noted_ms: i64) -> Result<()> {
    let body = row.body.as_ref();
    let values = params![
        stored_space(row.key.space()),
        row.key.bytes().as_ref(),
        row.version.packed(),
        row.origin.0,
        row.is_tombstone(),
        body.and_then(|body| body.expires_at),
        noted_ms,
        row.checksum().cast_signed(),
        body.map_or("", |body| body.content_type.as_str()),
        body.map_or(&[][..], |body| body.value.as_ref()),
    ];
    session.execute(&PUT_CONFLICT, values)?;
    Ok(())
}

pub(super) fn remove_conflict(
    session: &Session<'_>,
    place: &ConflictPlace,
    noted_max: i64,
) -> Result<bool> {
    let key = &place.key;
    let asked =
        params![stored_space(key.space()), key.bytes().as_ref(), place.version.packed(), noted_max];
    Ok(session.execute(&REMOVE_CONFLICT, asked)? > 0)
}

pub(super) fn conflicts(
    session: &Session<'_>,
    after: Option<&ConflictPlace>,
    max: usize,
) -> Result<Vec<Noted>> {
    let mut conflicts = Vec::new();
    let (space, key, version) = after.map_or((-1, &[][..], 0), |after| {
        let key = &after.key;
        (stored_space(key.space()), key.bytes().as_ref(), after.version.packed())
    });
    session.each(&CONFLICTS, params![space, key, version, bounded(max)], |row| {
        let space = if flag(row, 9)? { Space::System } else { Space::Data };
        let key = Key::stored(space, row.get::<_, Vec<u8>>(8)?);
        let read = record(key.clone(), row, true).map_err(|torn| torn.of(&key))?;
        let noted_ms = read.stored_at.0;
        conflicts.push((read, noted_ms));
        Ok(true)
    })?;
    Ok(conflicts)
}
