//! What a partition, a page or a client has seen: one version per origin.
//!
//! VEC-1 makes the comparison exact: *for every key and origin, a partition holds at least every
//! version that its cursors cover*. So "vector V covers token T" means "whoever holds V shows no
//! less than whoever was given T has seen".

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::version::{PartitionId, SetId, Version};

/// The cursors of one partition over all origins (its own: its clock), or any pointwise combination
/// of such. An origin that is not named stands at [`Version::ZERO`].
///
/// A list in the order of origins: there are few of them, and every read and write makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector(Vec<(PartitionId, Version)>);

impl Vector {
    /// Covers nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How far this vector has `origin`'s log.
    pub fn get(&self, origin: PartitionId) -> Version {
        self.place(origin).map_or(Version::ZERO, |place| self.0[place].1)
    }

    /// Where an origin stands in the list, or would stand.
    fn place(&self, origin: PartitionId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&origin, |&(origin, _)| origin)
    }

    /// Sets the place of one origin, forward or back.
    pub fn set(&mut self, origin: PartitionId, version: Version) {
        match self.place(origin) {
            Ok(place) if version == Version::ZERO => drop(self.0.remove(place)),
            Ok(place) => self.0[place].1 = version,
            Err(_) if version == Version::ZERO => {}
            Err(place) => self.0.insert(place, (origin, version)),
        }
    }

    /// Moves one origin forward to `version` at least.
    pub fn raise(&mut self, origin: PartitionId, version: Version) {
        if version > self.get(origin) {
            self.set(origin, version);
        }
    }

    /// Moves every origin forward to where `other` is at least: the pointwise maximum.
    pub fn join(&mut self, other: &Self) {
        for (origin, version) in other.iter() {
            self.raise(origin, version);
        }
    }

    /// The pointwise minimum.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let both = self.iter().map(|(origin, version)| (origin, version.min(other.get(origin))));
        Self(both.filter(|&(_, version)| version > Version::ZERO).collect())
    }

    /// Whether this vector is at or above `other` for every origin.
    pub fn covers(&self, other: &Self) -> bool {
        self.first_uncovered(other).is_none()
    }

    /// The first origin, with the version asked for, at which this vector is below `other`.
    pub fn first_uncovered(&self, other: &Self) -> Option<(PartitionId, Version)> {
        other.iter().find(|&(origin, version)| self.get(origin) < version)
    }

    /// The origins that stand above zero, in order, with their versions.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, Version)> + '_ {
        self.0.iter().copied()
    }

    /// Whether no origin stands above zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(PartitionId, Version)> for Vector {
    fn from_iter<I: IntoIterator<Item = (PartitionId, Version)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (origin, version) in entries {
            vector.raise(origin, version);
        }
        vector
    }
}

/// A vector of one set, as clients carry it: opaque to them, valid at every front end of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The set that the vector speaks of; a token of another set covers nothing here.
    pub set: SetId,
    /// What its holder has seen.
    pub vector: Vector,
}

/// A text that no front end of this version gave out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session token of this service")]
pub struct ParseTokenError;

/// First byte of every token: the form that follows, so that a later form can be told apart.
const TOKEN_FORM: u8 = 1;
/// Form, set id.
const TOKEN_HEAD_BYTES: usize = 1 + 16;
/// Origin, version.
const TOKEN_ENTRY_BYTES: usize = 2 + 8;
/// More origins than any set can have had; bounds what a hostile header makes us parse.
const TOKEN_ENTRIES_MAX: usize = 1024;

impl Token {
    /// Its bytes, of which the text is the base64.
    pub fn bytes(&self) -> Vec<u8> {
        let size = TOKEN_HEAD_BYTES + TOKEN_ENTRY_BYTES * self.vector.0.len();
        let mut bytes = Vec::with_capacity(size);
        bytes.push(TOKEN_FORM);
        bytes.extend_from_slice(&self.set.0.to_be_bytes());
        for (origin, version) in self.vector.iter() {
            bytes.extend_from_slice(&origin.0.to_be_bytes());
            bytes.extend_from_slice(&version.packed().to_be_bytes());
        }
        bytes
    }

    /// As clients carry it.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes())
    }

    /// Appends [`Token::text`].
    pub fn push_to(&self, text: &mut String) {
        URL_SAFE_NO_PAD.encode_string(self.bytes(), text);
    }

    /// Reads what [`Token::bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseTokenError> {
        let (head, entries) = bytes.split_at_checked(TOKEN_HEAD_BYTES).ok_or(ParseTokenError)?;
        let [TOKEN_FORM, set @ ..] = head else { return Err(ParseTokenError) };
        let set = SetId(u128::from_be_bytes(set.try_into().map_err(|_| ParseTokenError)?));
        let (entries, rest) = entries.as_chunks::<TOKEN_ENTRY_BYTES>();
        if !rest.is_empty() || entries.len() > TOKEN_ENTRIES_MAX {
            return Err(ParseTokenError);
        }
        let mut vector = Vector::new();
        for &[o1, o2, version @ ..] in entries {
            let version =
                Version::from_packed(i64::from_be_bytes(version)).ok_or(ParseTokenError)?;
            vector.raise(PartitionId(u16::from_be_bytes([o1, o2])), version);
        }
        Ok(Self { set, vector })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseTokenError)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Epoch, Seq};

    fn vector(entries: &[(u16, u64)]) -> Vector {
        entries
            .iter()
            .map(|&(origin, seq)| {
                (PartitionId(origin), Version::new(Epoch::FIRST, Seq::new(seq).unwrap()))
            })
            .collect()
    }

    #[test]
    fn covering_needs_every_origin() {
        let have = vector(&[(1, 5), (2, 7)]);
        assert!(have.covers(&vector(&[(1, 5)])));
        assert!(have.covers(&Vector::new()));
        assert!(!have.covers(&vector(&[(1, 6)])));
        let missing = vector(&[(1, 5), (3, 1)]);
        assert_eq!(have.first_uncovered(&missing), missing.iter().nth(1));
    }

    #[test]
    fn join_takes_the_greater_and_meet_the_smaller() {
        let (a, b) = (vector(&[(1, 5), (2, 7)]), vector(&[(1, 6), (3, 1)]));
        let mut joined = a.clone();
        joined.join(&b);
        assert_eq!(joined, vector(&[(1, 6), (2, 7), (3, 1)]));
        assert_eq!(a.meet(&b), vector(&[(1, 5)]));
    }

    #[test]
    fn a_token_survives_its_text() {
        let token = Token { set: SetId(7), vector: vector(&[(1, 5), (1000, 7)]) };
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = Token { set: SetId(7), vector: vector(&[(1, 5)]) }.to_string();
        for text in ["", "AA", "!", &good[..good.len() - 2], &format!("{good}AA")] {
            assert_eq!(text.parse::<Token>(), Err(ParseTokenError), "{text:?}");
        }
    }
}
