//! Identities and order: who wrote what, and which of two writes is the later one.
//!
//! Order never depends on a clock. A partition gives each write that it masters a rising [`Seq`];
//! the [`Epoch`] of the topology under which it was written goes in front. Two partitions never
//! master the same key in one epoch, so (epoch, seq) orders all writes of one key, whoever made
//! them.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Fencing number of a topology; rises with every change of ownership or of the voters. 19 bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(u32);

impl Epoch {
    /// The greatest epoch that fits a version.
    pub const MAX: Self = Self((1 << 19) - 1);
    /// The epoch of a newly initialised set.
    pub const FIRST: Self = Self(1);

    /// An epoch, or `None` above [`Epoch::MAX`].
    pub const fn new(number: u32) -> Option<Self> {
        if number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number itself.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The epoch after this one. Panics after half a million changes of ownership.
    #[must_use]
    pub const fn next(self) -> Self {
        assert!(self.0 < Self::MAX.0, "epochs are exhausted");
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that a partition gives to each write that it masters: rising, in commit order. 44
/// bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seq(u64);

impl Seq {
    /// The greatest sequence that fits a version.
    pub const MAX: Self = Self((1 << 44) - 1);
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// A sequence, or `None` above [`Seq::MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number itself.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The sequence `by` steps on, or `None` when the 44 bits are used up.
    #[must_use]
    pub const fn advanced(self, by: u64) -> Option<Self> {
        match self.0.checked_add(by) {
            Some(number) => Self::new(number),
            None => None,
        }
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// (epoch, seq) packed into one positive 63-bit integer; orders the writes of one key. Written
/// `epoch.seq`, as in an entity tag.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Before every version.
    pub const ZERO: Self = Self(0);

    /// The version of the write numbered `seq` under `epoch`.
    pub const fn new(epoch: Epoch, seq: Seq) -> Self {
        Self(((epoch.0 as u64) << 44) | seq.0)
    }

    /// The fencing number under which the write was made.
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> 44) as u32)
    }

    /// The number of the write at its origin.
    pub const fn seq(self) -> Seq {
        Seq(self.0 & Seq::MAX.0)
    }

    /// As a database stores it: a positive 63-bit integer.
    #[expect(clippy::cast_possible_wrap, reason = "63 bits by construction")]
    pub const fn packed(self) -> i64 {
        self.0 as i64
    }

    /// Appends what [`fmt::Display`] writes, at less cost: every read and every write tells it.
    pub fn push_to(self, text: &mut String) {
        let mut digits = itoa::Buffer::new();
        text.push_str(digits.format(self.epoch().number()));
        text.push('.');
        text.push_str(digits.format(self.seq().number()));
    }

    /// From a stored integer; `None` when it is negative.
    pub fn from_packed(packed: i64) -> Option<Self> {
        u64::try_from(packed).ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.seq())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not `epoch.seq`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is written epoch.seq, for example 1.42")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Strict: digits without sign or leading zeros, so that one version has one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('.').ok_or(ParseVersionError)?;
        let epoch = plain_number(epoch).and_then(|n| u32::try_from(n).ok()).and_then(Epoch::new);
        let seq = plain_number(seq).and_then(Seq::new);
        Ok(Self::new(epoch.ok_or(ParseVersionError)?, seq.ok_or(ParseVersionError)?))
    }
}

fn plain_number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Names one partition for ever: given once, never used again after it was retired. The origin of a
/// version is the id of the partition that assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The first id of read copies: voters' ids are below it, copies' ids at or above. So a copy,
    /// which is no part of the topology, never has the id of a voter that is, was or will be, and
    /// nothing that carries a copy's id is ever taken for a write.
    pub const FIRST_COPY: Self = Self(0x8000);
    /// The copy inside a front end. Each front end has its own and shows it to nobody, so all of
    /// them have this one id; those below it are for copies that are provisioned.
    pub const EMBEDDED_COPY: Self = Self(u16::MAX);

    /// Whether it names a read copy.
    pub const fn is_copy(self) -> bool {
        self.0 >= Self::FIRST_COPY.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one set of partitions: 128 random bits, drawn by `init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u128);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SetId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// One run of a database server: a random number that does not outlive its process, so that a
/// restart, which may have taken back what was visible and not yet durable, can be told without a
/// clock. Engines whose visible data is durable live in one run for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u32, seq: u64) -> Version {
        Version::new(Epoch::new(epoch).unwrap(), Seq::new(seq).unwrap())
    }

    #[test]
    fn versions_order_by_epoch_then_by_sequence() {
        assert!(version(1, 9) < version(1, 10));
        assert!(version(1, Seq::MAX.number()) < version(2, 0));
        assert!(version(Epoch::MAX.number(), Seq::MAX.number()).packed() > 0);
    }

    #[test]
    fn a_version_survives_its_text_and_its_stored_form() {
        let v = version(3, 65_537);
        assert_eq!(v.to_string(), "3.65537");
        assert_eq!("3.65537".parse(), Ok(v));
        assert_eq!(Version::from_packed(v.packed()), Some(v));
    }

    #[test]
    fn one_version_has_one_spelling() {
        for text in
            ["", "1", "1.", ".1", "01.2", "1.02", "+1.2", "1.-2", "1.2.3", "524288.1", "1 .2"]
        {
            assert_eq!(text.parse::<Version>(), Err(ParseVersionError), "{text:?}");
        }
    }
}
