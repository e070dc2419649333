//! What SQLite's errors mean for whoever asked.

use std::io;

use rusqlite::{Error, ErrorCode};

use super::statements::Failed;
use crate::partition::PartitionError;

/// What an error says that came before any commit: nothing has changed.
pub(super) fn failure(statement: &'static str, error: Error) -> PartitionError {
    let Some(code) = error.sqlite_error_code() else {
        return if contradicts(&error) {
            PartitionError::Damaged { what: format!("`{statement}` read what cannot be: {error}") }
        } else {
            PartitionError::Engine { statement, source: error.into() }
        };
    };
    if [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked].contains(&code) {
        PartitionError::Busy(error.into())
    } else if code == ErrorCode::DiskFull {
        PartitionError::Full(error.into())
    } else if code == ErrorCode::ReadOnly {
        PartitionError::ReadOnly(error.into())
    } else if [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase].contains(&code) {
        PartitionError::Damaged { what: format!("`{statement}`: {error}") }
    } else if [ErrorCode::CannotOpen, ErrorCode::SystemIoFailure].contains(&code) {
        PartitionError::Unreachable(error.into())
    } else {
        PartitionError::Engine { statement, source: error.into() }
    }
}

/// What a failed commit says. Its last page may have reached the disk before the error, and a crash
/// would bring it back: only where SQLite cannot have come so far is it certain that nothing
/// changed.
pub(super) fn failed_commit(failed: Failed) -> PartitionError {
    match failure(failed.statement, failed.error) {
        known @ (PartitionError::Busy(_) | PartitionError::Full(_)) => known,
        PartitionError::Unreachable(source)
        | PartitionError::ReadOnly(source)
        | PartitionError::Engine { source, .. } => PartitionError::OutcomeUnknown(source),
        damaged @ PartitionError::Damaged { .. } => PartitionError::OutcomeUnknown(damaged.into()),
        other @ (PartitionError::Refused(_)
        | PartitionError::DamagedRow { .. }
        | PartitionError::OutcomeUnknown(_)
        | PartitionError::Foreign(_)
        | PartitionError::PutBack(_)) => other,
    }
}

/// The file, or the way to it, is not there as it should be.
pub(super) fn unreachable(error: io::Error) -> PartitionError {
    PartitionError::Unreachable(error.into())
}

/// Whether a stored value is not of the type that the schema gives it.
pub(super) fn contradicts(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn error(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    fn kind(error: &PartitionError) -> &'static str {
        match error {
            PartitionError::Refused(_) => "refused",
            PartitionError::Unreachable(_) => "unreachable",
            PartitionError::OutcomeUnknown(_) => "unknown",
            PartitionError::Busy(_) => "busy",
            PartitionError::Full(_) => "full",
            PartitionError::ReadOnly(_) => "read only",
            PartitionError::Foreign(_) => "foreign",
            PartitionError::PutBack(_) => "put back",
            PartitionError::DamagedRow { .. } => "damaged row",
            PartitionError::Damaged { .. } => "damaged",
            PartitionError::Engine { .. } => "engine",
        }
    }

    #[test]
    fn every_code_has_its_meaning_before_and_at_a_commit() {
        for (code, before, at_commit) in [
            (ffi::SQLITE_BUSY, "busy", "busy"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "busy", "busy"),
            (ffi::SQLITE_LOCKED, "busy", "busy"),
            (ffi::SQLITE_FULL, "full", "full"),
            (ffi::SQLITE_CORRUPT, "damaged", "unknown"),
            (ffi::SQLITE_NOTADB, "damaged", "unknown"),
            (ffi::SQLITE_CANTOPEN, "unreachable", "unknown"),
            (ffi::SQLITE_IOERR_FSYNC, "unreachable", "unknown"),
            (ffi::SQLITE_READONLY, "read only", "unknown"),
            (ffi::SQLITE_NOMEM, "engine", "unknown"),
            (ffi::SQLITE_TOOBIG, "engine", "unknown"),
        ] {
            assert_eq!(kind(&failure("x", error(code))), before, "{code}");
            let failed = Failed { statement: "commit", error: error(code) };
            assert_eq!(kind(&failed_commit(failed)), at_commit, "{code}");
        }
    }
}
