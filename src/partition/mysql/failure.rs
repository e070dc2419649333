//! What the errors of servers and of the way to them mean for whoever asked.
//!
//! Codes: <https://mariadb.com/kb/en/mariadb-error-code-reference/>,
//! <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>.

use std::io;

use mysql::Error;

use crate::partition::PartitionError;

/// An error with the name of the statement that met it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) statement: &'static str,
    pub(super) error: Error,
}

/// Tables or columns that the statement needs are not there.
pub(super) const NO_SUCH_TABLE: u16 = 1146;

/// What a code of the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Others hold what is needed, or the server has no place for one more: later it may go.
    Busy,
    /// No room on the disk, or in a tablespace.
    Full,
    /// The server, the schema or the session is set to take no writes.
    ReadOnly,
    /// The server, or something on the way, ends the connection.
    Gone,
    /// Nobody is let in under this name, or there is no such database.
    NoEntry,
    /// What is stored contradicts itself.
    Damaged,
    /// Anything else: the statement is refused.
    Refused,
}

impl Meaning {
    pub(super) fn of(error: &mysql::MySqlError) -> Self {
        match error.code {
            // Too many connections, of all or of this user. Lock waits and deadlocks; the row has
            // changed since the snapshot; a table is being altered; the server ran out of undo
            // slots.
            1040 | 1203 | 1226 | 1205 | 1213 | 1020 | 1099 | 1223 | 1412 | 1637 | 1689 | 3572 => {
                Self::Busy
            }
            // Table, disk, temporary space or transaction cache full.
            1114 | 1021 | 1197 | 3675 => Self::Full,
            // "Got error 28", "Error writing file": full where the operating system said so.
            1026 | 1030 | 3 | 20 if says_no_space(&error.message) => Self::Full,
            // An option prevents it, of which only `read_only` concerns what is sent here; the
            // table is opened read only; a read-only transaction, by the server's default; a
            // replica of a hosted server; InnoDB is (recovery); the schema is (MySQL).
            1290 | 1036 | 1792 | 1836 | 1874 | 1881 | 3989 => Self::ReadOnly,
            // Shutdown, killed, interrupted, timed out, broken on the way; 2006, 2013 and 2055 come
            // from proxies that speak for a server they have lost.
            1053
            | 1079
            | 1152
            | 1158..=1161
            | 1184
            | 1317
            | 1927
            | 1969
            | 2006
            | 2013
            | 2055
            | 3024
            | 3169
            | 4031 => Self::Gone,
            // No access, no such database, host not allowed or blocked, account locked or expired,
            // login by another plugin.
            1044 | 1045 | 1049 | 1129 | 1130 | 1251 | 1524 | 1698 | 1820 | 1862 | 3118 | 3955
            | 4151 => Self::NoEntry,
            // Index or table corrupted, crashed or missing in the engine.
            126 | 127 | 1034 | 1035 | 1194 | 1195 | 1712 | 1812 | 1877 | 1932 => Self::Damaged,
            NO_SUCH_TABLE | 1054 => Self::Damaged,
            _ => Self::Refused,
        }
    }
}

fn says_no_space(message: &str) -> bool {
    message.contains("28") || message.contains("No space left")
}

impl Failed {
    /// Whether the server answered, and goes on talking afterwards.
    pub(super) fn keeps_line(&self) -> bool {
        // 1153: the server has not read the packet and closes.
        match &self.error {
            Error::MySqlError(error) => error.code != 1153 && Meaning::of(error) != Meaning::Gone,
            Error::IoError(_)
            | Error::CodecError(_)
            | Error::DriverError(_)
            | Error::UrlError(_)
            | Error::TlsError(_)
            | Error::FromValueError(_)
            | Error::FromRowError(_) => false,
        }
    }

    /// Whether a table is not there.
    pub(super) fn is_no_table(&self) -> bool {
        matches!(&self.error, Error::MySqlError(error) if error.code == NO_SUCH_TABLE)
    }
}

/// What an error says that came before any commit: nothing has changed.
impl From<Failed> for PartitionError {
    fn from(failed: Failed) -> Self {
        let Failed { statement, error } = failed;
        match &error {
            Error::MySqlError(server) => match Meaning::of(server) {
                Meaning::Busy => Self::Busy(error.into()),
                Meaning::Full => Self::Full(error.into()),
                Meaning::ReadOnly => Self::ReadOnly(error.into()),
                Meaning::Gone | Meaning::NoEntry => Self::Unreachable(error.into()),
                Meaning::Damaged => Self::Damaged { what: format!("`{statement}`: {error}") },
                Meaning::Refused => Self::Engine { statement, source: error.into() },
            },
            Error::FromValueError(_) | Error::FromRowError(_) => {
                Self::Damaged { what: format!("`{statement}` read what cannot be: {error}") }
            }
            Error::IoError(_)
            | Error::CodecError(_)
            | Error::DriverError(_)
            | Error::UrlError(_)
            | Error::TlsError(_) => Self::Unreachable(error.into()),
        }
    }
}

/// What a failed commit says. Only two answers are certain to have taken everything back: a
/// conflict (Galera tells it at the commit, and so does the check for rows that changed since the
/// snapshot), and that the server was set read only since the transaction began, which it looks at
/// before anything is committed.
pub(super) fn failed_commit(failed: Failed) -> PartitionError {
    match PartitionError::from(failed) {
        known @ (PartitionError::Busy(_) | PartitionError::ReadOnly(_)) => known,
        PartitionError::Unreachable(source)
        | PartitionError::Full(source)
        | PartitionError::Engine { source, .. } => PartitionError::OutcomeUnknown(source),
        damaged @ PartitionError::Damaged { .. } => PartitionError::OutcomeUnknown(damaged.into()),
        other @ (PartitionError::Refused(_)
        | PartitionError::DamagedRow { .. }
        | PartitionError::OutcomeUnknown(_)
        | PartitionError::Foreign(_)
        | PartitionError::PutBack(_)) => other,
    }
}

/// The connection is not there any more.
pub(super) fn gone(why: &'static str) -> Error {
    Error::IoError(io::Error::new(io::ErrorKind::NotConnected, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: u16, message: &str) -> Failed {
        let (state, message) = ("HY000".to_owned(), message.to_owned());
        let error = mysql::MySqlError { state, message, code };
        Failed { statement: "x", error: Error::MySqlError(error) }
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
        for (code, before, at_commit, keeps) in [
            (1205, "busy", "busy", true),
            (1213, "busy", "busy", true),
            (1020, "busy", "busy", true),
            (1040, "busy", "busy", true),
            (1114, "full", "unknown", true),
            (1021, "full", "unknown", true),
            (2006, "unreachable", "unknown", false),
            (2013, "unreachable", "unknown", false),
            (1053, "unreachable", "unknown", false),
            (1927, "unreachable", "unknown", false),
            (1045, "unreachable", "unknown", true),
            (1044, "unreachable", "unknown", true),
            (1049, "unreachable", "unknown", true),
            (1146, "damaged", "unknown", true),
            (1194, "damaged", "unknown", true),
            (1290, "read only", "read only", true),
            (1836, "read only", "read only", true),
            (1792, "read only", "read only", true),
            (1062, "engine", "unknown", true),
            (1142, "engine", "unknown", true),
            (1153, "engine", "unknown", false),
            (1180, "engine", "unknown", true),
            (9999, "engine", "unknown", true),
        ] {
            let fail = || failed(code, "planted");
            assert_eq!(kind(&PartitionError::from(fail())), before, "{code}");
            assert_eq!(kind(&failed_commit(fail())), at_commit, "{code}");
            assert_eq!(fail().keeps_line(), keeps, "{code}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_write_errors() {
        let full = failed(1030, "Got error 28 \"No space left on device\" from storage engine");
        assert_eq!(kind(&full.into()), "full");
        assert_eq!(kind(&failed(1030, "Got error 168 from storage engine").into()), "engine");
    }

    #[test]
    fn what_breaks_on_the_way_is_unreachable_before_and_unknown_at_the_commit() {
        let broken = || Failed { statement: "x", error: gone("planted") };
        assert!(!broken().keeps_line());
        assert_eq!(kind(&broken().into()), "unreachable");
        assert_eq!(kind(&failed_commit(broken())), "unknown");
    }
}
