//! Cuts: up to where a takeover has what the lost master wrote, and which rows are *late*.
//!
//! A front end that is cut off together with a lost master may go on writing there. What it writes
//! lies above the cut and below the epoch of the takeover: such rows are late. They travel in their
//! origin's log once it is back, and win where nothing newer stands; whatever keeps one from being
//! or staying its key's current row writes it to the conflict ledger (LOSS-1).

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SLOTS, Slot};
use crate::record::Record;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, Seq, Version};

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots. Stored as 256 hexadecimal digits, the first slot in the last bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotSet([u64; WORDS]);

impl SlotSet {
    /// No slot.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Whether a slot is in it.
    pub const fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    /// Puts a slot in.
    pub const fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::EMPTY;
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots", self.len())
    }
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut set = Self::EMPTY;
        let digits = text.as_bytes().rchunks(16);
        if text.len() != WORDS * 16 {
            return Err(D::Error::custom("a slot set has 256 digits"));
        }
        for (word, digits) in set.0.iter_mut().zip(digits) {
            let digits = std::str::from_utf8(digits).map_err(D::Error::custom)?;
            *word = u64::from_str_radix(digits, 16).map_err(D::Error::custom)?;
        }
        Ok(set)
    }
}

/// What a takeover wrote down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The epoch of the takeover.
    pub epoch: Epoch,
    /// Who was lost.
    pub origin: PartitionId,
    /// How far the successor had its log.
    #[serde(with = "packed")]
    pub upto: Version,
    /// The slots that were taken.
    pub slots: SlotSet,
}

mod packed {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::version::Version;

    pub(super) fn serialize<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Cut {
    /// Whether the row was written at the lost master without the successor's knowledge.
    pub fn makes_late(&self, row: &Record) -> bool {
        row.origin == self.origin
            && row.version > self.upto
            && row.version.epoch() < self.epoch
            && self.slots.contains(Slot::of(&row.key))
    }

    /// Whether the successor did not have this version of the lost origin: it may be on nobody who
    /// answers.
    pub fn hides(&self, origin: PartitionId, version: Version) -> bool {
        origin == self.origin && version > self.upto && version < self.end()
    }

    /// Whether whoever stands at `covered` has all of the lost origin's log below the takeover, and
    /// so has judged its late rows.
    pub fn is_old(&self, covered: &Vector) -> bool {
        covered.get(self.origin) >= self.end()
    }

    /// From here on no version of the lost origin is late.
    pub const fn end(&self) -> Version {
        Version::new(self.epoch, Seq::ZERO)
    }
}

/// All cuts that still matter: shared, since every page and push carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts(Option<Arc<[Cut]>>);

impl Cuts {
    /// No takeover has happened.
    pub const NONE: Self = Self(None);

    /// Those of a document.
    pub fn of(cuts: &[Cut]) -> Self {
        Self((!cuts.is_empty()).then(|| cuts.into()))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Cut> {
        self.0.iter().flat_map(|cuts| cuts.iter())
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a row of this version may be late, whoever wrote it.
    pub fn may_make_late(&self, version: Version) -> bool {
        self.iter().any(|cut| version > cut.upto && version.epoch() < cut.epoch)
    }

    /// Whether a row is late.
    pub fn make_late(&self, row: &Record) -> bool {
        self.iter().any(|cut| cut.makes_late(row))
    }
}
