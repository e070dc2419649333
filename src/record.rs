//! Keys, values and the rows that carry them.
//!
//! A key is any non-empty string of bytes, compared as bytes in every engine. A delete is a row
//! too: a *tombstone*, a [`Record`] without a [`Body`], which travels like any other write and is
//! collected once every voter is past it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::version::{PartitionId, Version};

/// The width of the key columns, in bytes: no configuration can allow longer keys.
pub const KEY_BYTES_WIDTH: usize = 1024;
/// The width of the content type columns, in bytes.
pub const CONTENT_TYPE_BYTES_WIDTH: usize = 255;

/// Whose rows: what clients store, or the service's own records, which no client sees. Both travel
/// by the same lanes, logs and passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Table `data`: what clients store.
    #[default]
    Data,
    /// Table `system`: subscriptions, operations, history.
    System,
}

impl Space {
    /// Both, in storage order.
    pub const ALL: [Self; 2] = [Self::Data, Self::System];
}

/// A key with the space it belongs to. Orders by space, then by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    space: Space,
    bytes: Bytes,
}

/// Why some bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key has at least one byte.
    #[error("a key has at least one byte")]
    Empty,
    /// More bytes than allowed.
    #[error("the key has {bytes} bytes; the limit is {max}")]
    TooLong {
        /// The length that was asked for.
        bytes: usize,
        /// The configured `store.key_bytes_max`.
        max: usize,
    },
}

impl Key {
    /// A client's key of at most `max` bytes.
    pub fn data(bytes: impl Into<Bytes>, max: usize) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(KeyError::Empty),
            length if length > max => Err(KeyError::TooLong { bytes: length, max }),
            _ => Ok(Self { space: Space::Data, bytes }),
        }
    }

    /// A key as a partition stores it: the limit was checked when it was written.
    pub fn stored(space: Space, bytes: impl Into<Bytes>) -> Self {
        Self { space, bytes: bytes.into() }
    }

    /// Whose key it is.
    pub const fn space(&self) -> Space {
        self.space
    }

    /// The bytes themselves.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The hash that places the key in a slot.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.space, self.bytes.escape_ascii())
    }
}

/// A stored media type: text of at most [`CONTENT_TYPE_BYTES_WIDTH`] bytes. The usual ones are no
/// text of their own: every read makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentType(Cow<'static, str>);

impl ContentType {
    /// What clients mostly store.
    pub const USUAL: [&'static str; 6] = [
        "text/plain; charset=utf-8",
        "application/json",
        "application/octet-stream",
        "text/plain",
        "text/html",
        "text/html; charset=utf-8",
    ];

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for ContentType {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ContentType {
    fn from(text: &str) -> Self {
        let usual = Self::USUAL.into_iter().find(|usual| *usual == text);
        Self(usual.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed))
    }
}

impl From<String> for ContentType {
    fn from(text: String) -> Self {
        let usual = Self::USUAL.into_iter().find(|usual| *usual == text);
        Self(usual.map_or(Cow::Owned(text), Cow::Borrowed))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// What a live row holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// The bytes as they were sent.
    pub value: Bytes,
    /// The stored media type.
    pub content_type: ContentType,
    /// Milliseconds since 1970 UTC from which on the row is invisible; `None` = never.
    pub expires_at: Option<i64>,
}

impl Body {
    /// Whether the row is invisible at `now_ms`, by the clock of the partition that holds it.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now_ms)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.value[..self.value.len().min(32)];
        write!(
            f,
            "{} {}B {:?}",
            self.content_type,
            self.value.len(),
            shown.escape_ascii().to_string()
        )
    }
}

/// When a partition stored a row: milliseconds since 1970 UTC by its own clock, 0 where it was not
/// stored yet. For people only: it differs from partition to partition and orders nothing, so that
/// any two are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredAt(pub i64);

impl PartialEq for StoredAt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for StoredAt {}

/// One row: the newest write of a key that a partition has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which key.
    pub key: Key,
    /// Which write of it.
    pub version: Version,
    /// The partition that assigned the version.
    pub origin: PartitionId,
    /// What it holds; `None` = a tombstone.
    pub body: Option<Body>,
    /// When the partition that it was read from stored it.
    pub stored_at: StoredAt,
}

impl Record {
    /// A row that was not stored yet.
    pub fn new(key: Key, version: Version, origin: PartitionId, body: Option<Body>) -> Self {
        Self { key, version, origin, body, stored_at: StoredAt::default() }
    }

    /// Milliseconds since 1970 UTC from which on a live row is invisible; `None` = never.
    pub fn expires_at(&self) -> Option<i64> {
        self.body.as_ref()?.expires_at
    }

    /// Whether the row is the mark of a delete.
    pub const fn is_tombstone(&self) -> bool {
        self.body.is_none()
    }

    /// What a reader sees at `now_ms`: nothing for a tombstone or an expired row.
    pub fn visible(&self, now_ms: i64) -> Option<&Body> {
        self.body.as_ref().filter(|body| !body.is_expired(now_ms))
    }

    /// Roughly what the row weighs on its way, in bytes; bounds pages and batches.
    pub fn weight(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.value.len() + body.content_type.len());
        64 + self.key.bytes.len() + body
    }

    /// The row's checksum (xxh3): over everything that travels, so that a changed byte anywhere
    /// shows.
    pub fn checksum(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(&[u8::from(self.key.space == Space::System)]);
        field(&self.key.bytes);
        field(&self.version.packed().to_be_bytes());
        field(&self.origin.0.to_be_bytes());
        if let Some(body) = &self.body {
            field(&body.value);
            field(body.content_type.as_bytes());
            match body.expires_at {
                Some(at) => field(&at.to_be_bytes()),
                None => field(&[]),
            }
        }
        hash.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes_within_the_limit() {
        assert_eq!(Key::data("", 4), Err(KeyError::Empty));
        assert_eq!(Key::data("12345", 4), Err(KeyError::TooLong { bytes: 5, max: 4 }));
        let key = Key::data(&b"\x00\xff "[..], 4).unwrap();
        assert_eq!(key.bytes().as_ref(), b"\x00\xff ");
        assert_ne!(key, Key::stored(Space::System, &b"\x00\xff "[..]));
    }

    #[test]
    fn a_type_is_the_same_whether_it_is_usual_or_not() {
        for text in ["application/json", "text/plain; charset=utf-8", "image/png", ""] {
            let (borrowed, owned) = (ContentType::from(text), ContentType::from(text.to_owned()));
            assert_eq!((borrowed.as_str(), &borrowed), (text, &owned));
            assert_eq!(matches!(owned.0, Cow::Borrowed(_)), ContentType::USUAL.contains(&text));
        }
        assert_eq!(ContentType::default(), ContentType::from(""));
    }

    #[test]
    fn a_checksum_tells_fields_apart() {
        let record = |key: &'static str, value: &'static str, kind: &str| {
            let body = Body { value: value.into(), content_type: kind.into(), expires_at: None };
            let key = Key::stored(Space::Data, key);
            Record::new(key, Version::ZERO, PartitionId(1), Some(body))
        };
        let sums = [("a", "bc", ""), ("ab", "c", ""), ("a", "b", "c"), ("abc", "", "")]
            .map(|(k, v, t)| record(k, v, t).checksum());
        for (i, sum) in sums.iter().enumerate() {
            assert!(!sums[..i].contains(sum), "{i}");
        }
    }
}
