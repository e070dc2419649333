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

/// One thing that can be set of a partition of some engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: a key of `[partition.NAME]`, or a part of its `url`.
    pub name: &'static str,
    /// Whether it has to be given.
    pub is_required: bool,
    /// Whether it is never shown.
    pub is_secret: bool,
    /// What it is for.
    pub means: &'static str,
}

const fn setting(name: &'static str, is_required: bool, means: &'static str) -> Setting {
    Setting { name, is_required, is_secret: false, means }
}

/// What can be set of any partition.
const ROLE: Setting = setting("role", false, "master, replica or witness; master if not given");

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mysql, Self::Sqlite, Self::Memory];

    /// What it is, in a sentence.
    pub const fn means(self) -> &'static str {
        match self {
            Self::Memory => "The process's own memory, gone with it.",
            Self::Sqlite => "One SQLite file.",
            Self::Mysql => "A database on a MariaDB or MySQL server.",
        }
    }

    /// What can be set of its partitions.
    pub fn settings(self) -> &'static [Setting] {
        match self {
            Self::Memory => &MEMORY,
            Self::Sqlite => &SQLITE,
            Self::Mysql => &MYSQL,
        }
    }
}

static MEMORY: [Setting; 2] = [setting("url", true, "memory:"), ROLE];
static SQLITE: [Setting; 2] =
    [setting("url", true, "sqlite:PATH, below the data root or absolute"), ROLE];
static MYSQL: [Setting; 10] = [
    setting("url", true, "mysql://user@host:3306/database?tls=...&ca=..."),
    setting("url: user", true, "as whom to log in"),
    Setting {
        name: "url: password",
        is_required: false,
        is_secret: true,
        means: "the password; better in a file",
    },
    setting("url: host", true, "a name or an address"),
    setting("url: port", false, "3306 if not given"),
    setting("url: database", true, "the database that is the partition"),
    setting("url: tls", false, "disabled, preferred or required"),
    setting("url: ca", false, "a file with the certificates that are trusted"),
    setting("password_file", false, "a file that holds the password"),
    ROLE,
];

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
