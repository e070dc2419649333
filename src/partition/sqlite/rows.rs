//! The statements about rows, for each of the two tables that hold some.

use super::statements::{Statement, statement};
use crate::record::Space;

/// The statements about rows, for one of the two tables that hold some.
pub(super) struct RowStatements {
    pub(super) cell: Statement,
    pub(super) outline: Statement,
    pub(super) point: Statement,
    pub(super) version: Statement,
    pub(super) tombstone: Statement,
    pub(super) put: Statement,
    pub(super) remove: Statement,
    pub(super) stretch: Statement,
    pub(super) stretch_of_keys: Statement,
}

/// The place of the key in a stretch, behind the columns of a cell.
pub(super) const STRETCH_KEY: usize = 9;

macro_rules! row_statements {
    ($table:literal) => {
        RowStatements {
            // The size comes first: a value that is too large is never read from the disk.
            cell: statement(
                concat!("cell of ", $table),
                concat!(
                    "SELECT version, origin, deleted, expires_at, content_type, checksum, updated_at,
                     CASE WHEN length(value) <= ?2 THEN value END, length(value)
                     FROM ",
                    $table,
                    " WHERE id = ?1"
                ),
            ),
            outline: statement(
                concat!("outline in ", $table),
                concat!(
                    "SELECT version, origin, deleted, expires_at, content_type, checksum, updated_at, x''
                     FROM ",
                    $table,
                    " WHERE id = ?1"
                ),
            ),
            // One statement is one snapshot: what `serving` asks for comes along with the row.
            point: statement(
                concat!("point in ", $table),
                concat!(
                    "SELECT row.version, row.origin, row.deleted, row.expires_at, row.content_type,
                     row.checksum, row.updated_at, CASE WHEN length(row.value) <= ?2 THEN row.value END,
                     length(row.value), clock.reseed, clock.reseeding
                     FROM clock LEFT JOIN ",
                    $table,
                    " AS row ON row.id = ?1 WHERE clock.id = 1"
                ),
            ),
            version: statement(
                concat!("version in ", $table),
                concat!("SELECT version FROM ", $table, " WHERE id = ?1"),
            ),
            tombstone: statement(
                concat!("tombstone in ", $table),
                concat!("SELECT origin, version FROM ", $table, " WHERE id = ?1 AND deleted = 1"),
            ),
            put: statement(
                concat!("put row of ", $table),
                concat!(
                    "INSERT INTO ",
                    $table,
                    " (id, version, origin, deleted, expires_at, updated_at, checksum,
                       content_type, value)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (id) DO UPDATE SET
                       version = excluded.version, origin = excluded.origin,
                       deleted = excluded.deleted, expires_at = excluded.expires_at,
                       updated_at = excluded.updated_at, checksum = excluded.checksum,
                       content_type = excluded.content_type, value = excluded.value"
                ),
            ),
            remove: statement(
                concat!("remove row of ", $table),
                concat!("DELETE FROM ", $table, " WHERE id = ?1"),
            ),
            stretch: statement(
                concat!("stretch of ", $table),
                concat!(
                    "SELECT version, origin, deleted, expires_at, content_type, checksum, updated_at,
                     CASE WHEN length(value) <= ?2 THEN value END, length(value), id
                     FROM ",
                    $table,
                    " WHERE id >= ?1 ORDER BY id"
                ),
            ),
            stretch_of_keys: statement(
                concat!("stretch of keys of ", $table),
                concat!(
                    "SELECT version, origin, deleted, expires_at, content_type, checksum, updated_at, x'', ?2,
                     id FROM ",
                    $table,
                    " WHERE id >= ?1 ORDER BY id"
                ),
            ),
        }
    };
}

static DATA: RowStatements = row_statements!("data");
static SYSTEM: RowStatements = row_statements!("system");

pub(super) const fn of(space: Space) -> &'static RowStatements {
    match space {
        Space::Data => &DATA,
        Space::System => &SYSTEM,
    }
}
