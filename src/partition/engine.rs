//! Engines: the kinds of database that a partition can be.

use std::fmt;

use super::{Partition, Result};

/// The kinds, as configuration, listings and logs name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// The process's own memory: gone with it.
    Memory,
    /// One SQLite file.
    Sqlite,
    /// A database on a MariaDB or MySQL server.
    Mysql,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Mysql => "mysql",
        })
    }
}

/// Opens connections to one database.
pub trait Engine: Send + Sync {
    /// What kind of database it is.
    fn kind(&self) -> EngineKind;

    /// Whether a small point read costs no more than a look into this machine's own memory, so that
    /// it may run on the thread that asked.
    fn is_local(&self) -> bool;

    /// What tells this database from others: two partitions with one locator are one database.
    fn locator(&self) -> String;

    /// A new connection.
    fn connect(&self) -> Result<Box<dyn Partition + Send>>;
}
