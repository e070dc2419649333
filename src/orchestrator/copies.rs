//! Read copies that were added while the service runs: what is written down of each.
//!
//! A record says where the copy's database comes from, in which state it is, and which front end
//! *keeps* it: provides the database, starts it again where it ended, feeds it by its passes, and
//! takes it away at the end. The others read from it. A front end that keeps a copy and ends is
//! followed by another one that can reach the database.
//!
//! ```text
//! joining → active → draining → (no record)
//! joining → draining
//! ```

use serde::{Deserialize, Serialize};

use crate::topology::State;
use crate::version::PartitionId;

/// What the names of the records begin with.
pub const PREFIX: &str = "copy/";
/// How many copies there may be: each is one more database that every write goes to.
pub const COPIES_MAX: usize = 64;
/// How many may be added at once.
pub const COUNT_MAX: usize = 16;

/// Where a copy's database comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Source {
    /// A file under the data root.
    Sqlite,
    /// A private server under the data root.
    Mariadb,
    /// A database out of the configured list.
    Standby {
        /// Which one: its locator, without secrets.
        database: String,
    },
    /// A database that was named when the copy was added.
    Url {
        /// Where it is, without secrets.
        url: String,
        /// The URL with its password, sealed; `None`: it has none.
        sealed: Option<String>,
    },
}

impl Source {
    /// Its name outside.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mariadb => "mariadb",
            Self::Standby { .. } => "standby",
            Self::Url { .. } => "url",
        }
    }

    /// Whether only front ends with the same data root can reach the database.
    pub const fn is_at_home(&self) -> bool {
        match self {
            Self::Sqlite | Self::Mariadb => true,
            Self::Standby { .. } | Self::Url { .. } => false,
        }
    }
}

/// A copy that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCopy {
    /// Its id.
    pub id: PartitionId,
    /// Its name.
    pub name: String,
    /// Where its database comes from.
    pub source: Source,
    /// The data root under which the database is; `None`: it can be reached from anywhere.
    pub home: Option<String>,
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// What it is.
    #[serde(flatten)]
    pub copy: NewCopy,
    /// In which state: joining, active or draining.
    pub state: State,
    /// The front end that keeps it.
    pub keeper: String,
    /// Since when it is in this state: milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// Where its database is, without secrets; `None`: not yet known.
    pub url: Option<String>,
    /// The process of its server.
    pub pid: Option<u32>,
    /// How often in a row it could not be provided.
    pub failures: u32,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

impl CopyRecord {
    /// One that is to be made by this front end.
    pub fn joining(copy: NewCopy, keeper: &str, now_ms: i64) -> Self {
        Self {
            copy,
            state: State::Joining,
            keeper: keeper.to_owned(),
            since_ms: now_ms,
            url: None,
            pid: None,
            failures: 0,
            trouble: None,
        }
    }

    /// The name of its record.
    pub fn key(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// Whether a front end with this data root can reach the database.
    pub fn is_within_reach(&self, home: Option<&str>) -> bool {
        self.copy.home.is_none() || self.copy.home.as_deref() == home
    }

    /// The same in another state.
    #[must_use]
    pub fn become_at(self, state: State, now_ms: i64) -> Self {
        Self { state, since_ms: now_ms, ..self }
    }
}

/// The next name and id that nobody has. `next` counts what was ever given.
pub fn allot(next: &mut u16, taken: &dyn Fn(PartitionId, &str) -> bool) -> (PartitionId, String) {
    // Ids of provisioned copies end before that of the embedded one.
    let room = PartitionId::EMBEDDED_COPY.0 - PartitionId::FIRST_COPY.0;
    loop {
        let nth = *next % room;
        *next = nth + 1;
        let (id, name) =
            (PartitionId(PartitionId::FIRST_COPY.0 + nth), format!("copy_{}", nth + 1));
        if !taken(id, &name) {
            return (id, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_not_given_again_soon() {
        let mut next = 0;
        let nobody = |_, _: &str| false;
        assert_eq!(allot(&mut next, &nobody), (PartitionId(0x8000), "copy_1".to_owned()));
        assert_eq!(allot(&mut next, &nobody), (PartitionId(0x8001), "copy_2".to_owned()));
        let third = |id, _: &str| id == PartitionId(0x8002);
        assert_eq!(allot(&mut next, &third).1, "copy_4");
        next = PartitionId::EMBEDDED_COPY.0 - PartitionId::FIRST_COPY.0;
        assert_eq!(allot(&mut next, &nobody).1, "copy_1", "the embedded copy's id is never given");
    }

    #[test]
    fn a_record_says_what_it_said_and_names_no_secret() {
        let source =
            Source::Url { url: "mysql://u:***@h/d".to_owned(), sealed: Some("x".to_owned()) };
        let (id, name) = (PartitionId(0x8000), "copy_1".to_owned());
        let copy = NewCopy { id, name, source, home: None };
        let record = CopyRecord::joining(copy, "f1", 5);
        let stored = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CopyRecord>(&stored).unwrap(), record);
        assert!(record.is_within_reach(None) && record.is_within_reach(Some("a")));
    }
}
