//! Records of the service's own: JSON documents in the partitions' `system` space.
//!
//! They are written at their masters like any key and copied like any key, so that every front end
//! has them and a restart finds them. A change is made under the version that was read: of two at
//! once, one finds that something else stands and judges anew.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::partition::Range;
use crate::record::{Body, Key, Record, Space};
use crate::store::Store;
use crate::store::answer::{Ack, Need, StoreError};
use crate::vector::Vector;
use crate::version::Version;
use crate::write::{Change, Condition, Expected, Outcome, Write};

/// Bytes of records in a page of a list: many times what there ever are.
const LISTED_BYTES_MAX: usize = 8 << 20;
/// Records of a page of a list that is read to its end.
const PAGE_RECORDS: usize = 1000;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is damaged, or another version of the service wrote it.
    #[error("the service's own record {name} cannot be read")]
    Unreadable {
        /// Which record.
        name: String,
    },
}

/// A record as it stands.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    /// Its key.
    pub name: String,
    /// What it says.
    pub value: T,
    /// Under which version.
    pub version: Version,
}

/// What has to stand for a record to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// This version.
    Version(Version),
    /// Whatever it is.
    Anything,
}

impl Standing {
    /// What stood when it was read.
    pub fn of<T>(kept: Option<&Kept<T>>) -> Self {
        kept.map_or(Self::Nothing, |kept| Self::Version(kept.version))
    }

    fn condition(self) -> Condition {
        match self {
            Self::Nothing => Condition { if_match: None, if_none_match: Some(Expected::Any) },
            Self::Version(version) => {
                Condition { if_match: Some(Expected::OneOf(vec![version])), if_none_match: None }
            }
            Self::Anything => Condition::NONE,
        }
    }
}

/// Reads a record; by its master, or wherever it can be had at once.
pub async fn read<T: DeserializeOwned>(
    store: &Store,
    name: &str,
    by_master: bool,
) -> Result<Option<Kept<T>>, KeptError> {
    let read = store.get(&key(name), &need(by_master), None).await?;
    read.record.as_ref().map(|row| kept(row)).transpose()
}

/// Writes a record if what has to stand does. Its new version, or `None`: something else stands.
pub async fn write<T: Serialize>(
    store: &Store,
    name: &str,
    value: &T,
    standing: Standing,
    ttl: Option<Duration>,
) -> Result<Option<Version>, KeptError> {
    let value = serde_json::to_vec(value).expect("records have string keys only");
    let content_type = "application/json".into();
    let body = Body { value: value.into(), content_type, expires_at: None };
    let write = Write::new(key(name), Change::Set(body));
    let written =
        store.write(Write { condition: standing.condition(), ttl, ..write }, Ack::One, None);
    match written.await?.outcome {
        Outcome::Written { version, .. } => Ok(Some(version)),
        Outcome::Damaged => Err(KeptError::Unreadable { name: name.to_owned() }),
        Outcome::Unmet { .. }
        | Outcome::Absent
        | Outcome::Deleted { .. }
        | Outcome::Unmergeable { .. } => Ok(None),
    }
}

/// Takes a record away; that there is none is as good.
pub async fn remove(store: &Store, name: &str) -> Result<(), KeptError> {
    store.write(Write::delete(key(name)), Ack::One, None).await?;
    Ok(())
}

/// The records whose names begin so, at most so many; those that cannot be read are left out.
pub async fn list<T: DeserializeOwned>(
    store: &Store,
    prefix: &str,
    by_master: bool,
    records_max: usize,
) -> Result<Vec<Kept<T>>, KeptError> {
    let need = need(by_master);
    let mut range = range(prefix, records_max);
    let mut all = Vec::new();
    loop {
        let page = store.list(&range, &need, None).await?;
        all.extend(page.rows.iter().filter_map(|row| kept(row).ok()));
        match page.next {
            Some(next) if all.len() < records_max => range.after = Some(next),
            Some(_) | None => break,
        }
    }
    all.truncate(records_max);
    Ok(all)
}

/// What the last of these records say, the last one first: the latest ones, where names begin with
/// a time.
pub async fn latest<T: DeserializeOwned>(
    store: &Store,
    prefix: &str,
    by_master: bool,
    records_max: usize,
) -> Result<Vec<T>, KeptError> {
    let need = need(by_master);
    let mut range = range(prefix, PAGE_RECORDS);
    let mut last = VecDeque::new();
    loop {
        let page = store.list(&range, &need, None).await?;
        for record in page.rows.iter().filter_map(|row| kept(row).ok()) {
            last.push_front(record.value);
            last.truncate(records_max);
        }
        match page.next {
            Some(next) => range.after = Some(next),
            None => return Ok(last.into()),
        }
    }
}

fn need(by_master: bool) -> Need {
    if by_master { Need::master(Vector::new()) } else { Need::any() }
}

fn range(prefix: &str, keys_max: usize) -> Range {
    Range {
        space: Space::System,
        prefix: prefix.to_owned().into(),
        after: None,
        keys_max,
        scanned_max: keys_max.saturating_mul(10),
        value_bytes_max: Some(LISTED_BYTES_MAX),
    }
}

fn key(name: &str) -> Key {
    Key::stored(Space::System, name.to_owned())
}

fn kept<T: DeserializeOwned>(row: &Record) -> Result<Kept<T>, KeptError> {
    let name = String::from_utf8_lossy(row.key.bytes()).into_owned();
    let value = row.body.as_ref().and_then(|body| serde_json::from_slice(&body.value).ok());
    match value {
        Some(value) => Ok(Kept { name, value, version: row.version }),
        None => Err(KeptError::Unreadable { name }),
    }
}
