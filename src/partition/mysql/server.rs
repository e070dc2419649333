//! What a server says of itself when a connection is made: what a partition's promises rest on.

use std::fmt;

use super::stored::{Columns, Torn};

/// Settings of the server that `config check` and the start line show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// As the server writes it; MariaDB's has `MariaDB` in it.
    pub version: String,
    /// No packet, thus no row, may be larger.
    pub max_allowed_packet: usize,
    /// 1: the log is flushed at every commit. Anything else loses acknowledged writes in a crash.
    pub flush_log_at_trx_commit: i64,
    /// How many commits share a flush of the binary log; `None` where there is none. 1 is safe.
    pub sync_binlog: Option<i64>,
    /// Whether pages are written so that a torn write can be repaired.
    pub doublewrite: bool,
    /// Whether the server takes no writes.
    pub read_only: bool,
    /// How files are written: `nosync` and `O_DIRECT_NO_FSYNC` leave flushing to the hardware.
    pub flush_method: String,
}

impl ServerSettings {
    /// Reads the last answer to the preamble.
    pub(super) fn read(columns: &mut Columns) -> Result<Self, Torn> {
        let version = columns.text()?;
        let max_allowed_packet = usize::try_from(columns.number()?).unwrap_or(0);
        let flush_log_at_trx_commit = columns.number()?;
        let has_binlog = columns.number()? != 0;
        let sync_binlog = columns.number()?;
        let doublewrite = columns.text()?;
        let read_only = columns.text()?;
        Ok(Self {
            version,
            max_allowed_packet,
            flush_log_at_trx_commit,
            sync_binlog: has_binlog.then_some(sync_binlog),
            doublewrite: is_on(&doublewrite),
            read_only: is_on(&read_only),
            flush_method: columns.text()?,
        })
    }

    /// Whether it is MariaDB, which knows idle transactions; MySQL knows idle connections only.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// What is set so that a crash of the server, or of its machine, may take acknowledged writes
    /// along; empty: nothing.
    pub fn relaxed(&self) -> Vec<String> {
        let mut relaxed = Vec::new();
        if self.flush_log_at_trx_commit != 1 {
            let value = self.flush_log_at_trx_commit;
            relaxed.push(format!("innodb_flush_log_at_trx_commit is {value}, not 1"));
        }
        if let Some(value) = self.sync_binlog.filter(|value| *value != 1) {
            relaxed.push(format!("sync_binlog is {value}, not 1, with a binary log"));
        }
        if !self.doublewrite {
            relaxed.push("innodb_doublewrite is off".to_owned());
        }
        if self.flush_method.eq_ignore_ascii_case("nosync") {
            relaxed.push("innodb_flush_method is nosync".to_owned());
        }
        relaxed
    }
}

impl fmt::Display for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, max_allowed_packet {}", self.version, self.max_allowed_packet)?;
        let relaxed = self.relaxed();
        if relaxed.is_empty() {
            f.write_str(", flushes at every commit")?;
        } else {
            write!(f, ", RELAXED: {}", relaxed.join("; "))?;
        }
        if self.read_only { f.write_str(", read only") } else { Ok(()) }
    }
}

/// `1` and `ON` mean the same, by version; MySQL also knows `DETECT_ONLY`, which repairs nothing.
fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("on") || value.eq_ignore_ascii_case("fast")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relaxed_is_named() {
        let strict = ServerSettings {
            version: "10.11.1-MariaDB".into(),
            max_allowed_packet: 16 << 20,
            flush_log_at_trx_commit: 1,
            sync_binlog: None,
            doublewrite: true,
            read_only: false,
            flush_method: "O_DIRECT".into(),
        };
        assert!(strict.relaxed().is_empty() && strict.is_mariadb());
        assert!(strict.to_string().ends_with("flushes at every commit"));
        let loose = ServerSettings {
            flush_log_at_trx_commit: 2,
            sync_binlog: Some(0),
            doublewrite: false,
            flush_method: "nosync".into(),
            ..strict
        };
        assert_eq!(loose.relaxed().len(), 4);
    }
}
