//! Named subscriptions: positions that the service keeps for followers who cannot.
//!
//! A subscription is a record in the partitions' `system` space, written at its master like any
//! key and copied like any key, so that every front end has it and none is special. Its position
//! moves only by acknowledgement, and only forward: what was given and not acknowledged is given
//! again. Its time to live is its lease: whoever asks or acknowledges renews it, and one that is
//! silent for so long is gone. It holds nothing back: logs are trimmed all the same, and a position
//! that fell below a floor is a reset.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::feed::{Mark, Position};
use crate::partition::Range;
use crate::record::{Body, Key, Record, Space};
use crate::store::Store;
use crate::store::answer::{Ack, Need, StoreError};
use crate::vector::Vector;
use crate::version::Version;
use crate::write::{Change, Condition, Expected, Outcome, Write};

/// What the keys of the records begin with.
const PREFIX: &str = "subscription/";
/// The longest name.
pub const NAME_BYTES_MAX: usize = 64;
/// How long a subscription may be silent, unless it says otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A lease is renewed only when so much of it is over (one in so many parts): asking is frequent,
/// and each renewal is a write.
const RENEWED_AFTER: i64 = 4;
/// How often a change is judged anew because somebody else changed the record in between.
const ATTEMPTS: usize = 8;
/// How many are listed: far more than anybody can look at.
pub const LISTED_MAX: usize = 10_000;

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// What it follows.
    pub prefix: Bytes,
    /// How far it is acknowledged. Of another set: it cannot be resumed.
    pub mark: Mark,
    /// How long it may be silent.
    pub lease: Duration,
    /// When it was made: milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// When it ends if nobody asks: milliseconds since 1970 UTC, by its partition's clock.
    pub expires_ms: Option<i64>,
    version: Version,
}

/// How it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    prefix: String,
    position: String,
    lease_ms: u64,
    created_ms: i64,
}

/// What to make of a subscription; what is not said stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What it follows.
    pub prefix: Option<Bytes>,
    /// Where it stands.
    pub position: Option<Position>,
    /// How long it may be silent.
    pub lease: Option<Duration>,
}

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// Not a name.
    #[error("a subscription's name has 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'")]
    BadName,
    /// None of this name, or not any more.
    #[error("there is no subscription of this name; one that is silent for its lease ends")]
    Unknown,
    /// The acknowledgement is of a position that this one has passed, or that is not on its way.
    #[error("the acknowledged position lies behind the one that stands, or beside it")]
    Behind,
    /// Others change it all the time.
    #[error("the subscription is changed by others at the same time")]
    Contended,
    /// Its record is damaged; verification mends it from another partition.
    #[error("the record of the subscription is damaged at its master")]
    Damaged,
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T> = std::result::Result<T, SubscriptionError>;

/// The key of a record.
fn key(name: &str) -> Result<Key> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_right) {
        return Err(SubscriptionError::BadName);
    }
    Ok(Key::stored(Space::System, format!("{PREFIX}{name}")))
}

impl Subscription {
    fn of(row: &Record) -> Option<Self> {
        let body = row.body.as_ref()?;
        let stored: Stored = serde_json::from_slice(&body.value).ok()?;
        let name = row.key.bytes().strip_prefix(PREFIX.as_bytes())?;
        Some(Self {
            name: String::from_utf8(name.to_vec()).ok()?,
            prefix: STANDARD.decode(&stored.prefix).ok()?.into(),
            mark: stored.position.parse().ok()?,
            lease: Duration::from_millis(stored.lease_ms),
            created_ms: stored.created_ms,
            expires_ms: body.expires_at,
            version: row.version,
        })
    }

    fn body(&self) -> Body {
        let stored = Stored {
            prefix: STANDARD.encode(&self.prefix),
            position: self.mark.to_string(),
            lease_ms: u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX),
            created_ms: self.created_ms,
        };
        let value = serde_json::to_vec(&stored).expect("a struct of texts and numbers");
        let content_type = "application/json".into();
        Body { value: value.into(), content_type, expires_at: None }
    }

    fn needs_renewal(&self, now_ms: i64) -> bool {
        let lease = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX);
        self.expires_ms.is_some_and(|end| end - now_ms < lease - lease / RENEWED_AFTER)
    }
}

/// The subscription of this name, as its master has it.
pub async fn get(store: &Store, name: &str) -> Result<Subscription> {
    let read = store.get(&key(name)?, &Need::master(Vector::new()), None).await?;
    read.record.as_ref().and_then(Subscription::of).ok_or(SubscriptionError::Unknown)
}

/// Makes a subscription, or changes the one that stands. Tells whether it is new. `now` is where
/// one begins that is not told where.
pub async fn put(
    store: &Store,
    name: &str,
    wanted: &Wanted,
    now: &Position,
) -> Result<(Subscription, bool)> {
    for _ in 0..ATTEMPTS {
        let standing = match get(store, name).await {
            Ok(standing) => Some(standing),
            Err(SubscriptionError::Unknown) => None,
            Err(error) => return Err(error),
        };
        let created = standing.is_none();
        let set = store.set_id();
        let expected = standing.as_ref().map(|standing| standing.version);
        let mut subscription = standing.unwrap_or_else(|| Subscription {
            name: name.to_owned(),
            prefix: Bytes::new(),
            mark: Mark::of(set, now.clone()),
            lease: LEASE_DEFAULT,
            created_ms: store.clock().wall_ms(),
            expires_ms: None,
            version: Version::ZERO,
        });
        if let Some(prefix) = &wanted.prefix {
            subscription.prefix = prefix.clone();
        }
        if let Some(position) = &wanted.position {
            subscription.mark = Mark::of(set, position.clone());
        }
        subscription.lease = wanted.lease.unwrap_or(subscription.lease);
        if let Some(subscription) = write(store, subscription, expected).await? {
            return Ok((subscription, created));
        }
    }
    Err(SubscriptionError::Contended)
}

/// Moves the position forward. An acknowledgement that is repeated changes nothing.
pub async fn acknowledge(store: &Store, name: &str, upto: &Mark) -> Result<Subscription> {
    for _ in 0..ATTEMPTS {
        let mut subscription = get(store, name).await?;
        let standing = &subscription.mark;
        let is_of_set = upto.set == Some(store.set_id());
        if !is_of_set || (standing.set == upto.set && !upto.position.covers(&standing.position)) {
            return Err(SubscriptionError::Behind);
        }
        let expected = Some(subscription.version);
        let moves = subscription.mark != *upto;
        if !moves && !subscription.needs_renewal(store.clock().wall_ms()) {
            return Ok(subscription);
        }
        subscription.mark = upto.clone();
        if let Some(subscription) = write(store, subscription, expected).await? {
            return Ok(subscription);
        }
    }
    Err(SubscriptionError::Contended)
}

/// Renews the lease, if it is time for that. Somebody else's change renews it as well.
pub async fn renew(store: &Store, subscription: Subscription) -> Result<()> {
    if subscription.needs_renewal(store.clock().wall_ms()) {
        let expected = Some(subscription.version);
        write(store, subscription, expected).await?;
    }
    Ok(())
}

/// Takes a subscription away.
pub async fn remove(store: &Store, name: &str) -> Result<()> {
    let written = store.write(Write::delete(key(name)?), Ack::One, None).await?;
    match written.outcome {
        Outcome::Deleted { .. } => Ok(()),
        Outcome::Damaged => Err(SubscriptionError::Damaged),
        Outcome::Absent
        | Outcome::Written { .. }
        | Outcome::Unmet { .. }
        | Outcome::Unmergeable { .. } => Err(SubscriptionError::Unknown),
    }
}

/// All of them, in the order of their names: as their masters have them, where all can be asked.
pub async fn list(store: &Store) -> Result<Vec<Subscription>> {
    let range = Range {
        space: Space::System,
        prefix: PREFIX.into(),
        after: None,
        keys_max: LISTED_MAX,
        scanned_max: LISTED_MAX * 10,
        value_bytes_max: Some(LISTED_MAX * 1024),
    };
    let list = match store.list(&range, &Need::master(Vector::new()), None).await {
        Ok(list) => list,
        Err(_) => store.list(&range, &Need::any(), None).await?,
    };
    Ok(list.rows.iter().filter_map(Subscription::of).collect())
}

/// Writes the record if `expected` (or nothing) stands; `None`: something else does.
async fn write(
    store: &Store,
    mut subscription: Subscription,
    expected: Option<Version>,
) -> Result<Option<Subscription>> {
    let condition = match expected {
        Some(version) => {
            Condition { if_match: Some(Expected::OneOf(vec![version])), if_none_match: None }
        }
        None => Condition { if_match: None, if_none_match: Some(Expected::Any) },
    };
    let change = Change::Set(subscription.body());
    let ttl = Some(subscription.lease);
    let write = Write { condition, ttl, ..Write::new(key(&subscription.name)?, change) };
    let written = store.write(write, Ack::One, None).await?;
    match written.outcome {
        Outcome::Written { version, body, .. } => {
            subscription.version = version;
            subscription.expires_ms = body.and_then(|body| body.expires_at);
            Ok(Some(subscription))
        }
        Outcome::Damaged => Err(SubscriptionError::Damaged),
        Outcome::Unmet { .. }
        | Outcome::Absent
        | Outcome::Deleted { .. }
        | Outcome::Unmergeable { .. } => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "Index-1.b_c", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(key(name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "a b", "ä", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(matches!(key(name), Err(SubscriptionError::BadName)), "{name}");
        }
    }

    #[test]
    fn a_lease_is_renewed_when_a_part_of_it_is_over() {
        let subscription = Subscription {
            name: "a".into(),
            prefix: Bytes::new(),
            mark: Mark { set: None, position: Position::Start },
            lease: Duration::from_secs(100),
            created_ms: 0,
            expires_ms: Some(100_000),
            version: Version::ZERO,
        };
        assert!(!subscription.needs_renewal(25_000));
        assert!(subscription.needs_renewal(25_001));
    }
}
