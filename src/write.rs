//! One write, and what becomes of it: pure evaluation, the same in every engine.
//!
//! An engine's commit takes its sequence numbers, reads the current rows of the keys that need it
//! ([`Write::needs_current`]), lets [`evaluate`] judge all writes of the batch in the order of
//! their arrival, and stores what comes back.

use std::collections::HashMap;

use crate::record::{Body, Key, Record};
use crate::version::{Epoch, PartitionId, Seq, Version};

/// What a write wants to do with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create or overwrite.
    Set(Body),
    /// Overwrite what exists; nothing is created.
    Update(Body),
    /// Put a tombstone where something exists.
    Delete,
}

/// What must stand for a precondition to hold (RFC 9110 section 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `*`: any visible row.
    Any,
    /// One of these versions.
    OneOf(Vec<Version>),
}

impl Expected {
    fn matches(&self, current: Option<Version>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(versions), Some(current)) => versions.contains(&current),
        }
    }
}

/// The preconditions of a write, judged at the master inside its transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match`.
    pub if_match: Option<Expected>,
    /// `If-None-Match`.
    pub if_none_match: Option<Expected>,
}

impl Condition {
    /// Always met.
    pub const NONE: Self = Self { if_match: None, if_none_match: None };

    fn is_met(&self, current: Option<Version>) -> bool {
        self.if_match.as_ref().is_none_or(|expected| expected.matches(current))
            && self.if_none_match.as_ref().is_none_or(|expected| !expected.matches(current))
    }
}

/// One write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which key.
    pub key: Key,
    /// What to do.
    pub change: Change,
    /// Under which preconditions.
    pub condition: Condition,
    /// Whether the outcome has to tell a created row from a replaced one; costs a read.
    pub tell_created: bool,
}

impl Write {
    /// Create or overwrite, whatever stands.
    pub const fn set(key: Key, body: Body) -> Self {
        Self { key, change: Change::Set(body), condition: Condition::NONE, tell_created: false }
    }

    /// Delete what stands.
    pub const fn delete(key: Key) -> Self {
        Self { key, change: Change::Delete, condition: Condition::NONE, tell_created: false }
    }

    /// Whether the key's current row has to be read to judge the write.
    pub fn needs_current(&self) -> bool {
        let unconditional = self.condition == Condition::NONE;
        !matches!(self.change, Change::Set(_)) || !unconditional || self.tell_created
    }

    /// Roughly what the write weighs on its way, in bytes; bounds batches.
    pub fn weight(&self) -> usize {
        let body = match &self.change {
            Change::Set(body) | Change::Update(body) => body.value.len() + body.content_type.len(),
            Change::Delete => 0,
        };
        64 + self.key.bytes().len() + body
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value stands.
    Written {
        /// Its version.
        version: Version,
        /// Whether nothing was visible before; `None` when [`Write::tell_created`] did not ask.
        created: Option<bool>,
    },
    /// The tombstone stands.
    Deleted {
        /// Its version.
        version: Version,
    },
    /// Nothing was there to update or delete; nothing was written.
    Absent,
    /// A precondition failed; nothing was written.
    Unmet {
        /// What is visible instead.
        current: Option<Version>,
    },
}

impl Outcome {
    /// The version that the write was given, if it wrote.
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::Written { version, .. } | Self::Deleted { version } => Some(*version),
            Self::Absent | Self::Unmet { .. } => None,
        }
    }
}

/// The place that a batch writes at: versions follow `last` under `epoch`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The partition that assigns the versions.
    pub origin: PartitionId,
    /// The epoch of its clock.
    pub epoch: Epoch,
    /// The sequence before the first write of the batch.
    pub last: Seq,
    /// The partition's own time, for expiry: milliseconds since 1970 UTC.
    pub now_ms: i64,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// One for each write, in order.
    pub outcomes: Vec<Outcome>,
    /// The rows to store: the last one of each key, in the order of versions.
    pub rows: Vec<Record>,
}

/// Judges `writes` in order against the `current` rows (tombstones and expired rows included, which
/// count as absent). Every write is reserved one sequence number, used or not: gaps are legal, a
/// number given twice is not.
///
/// Panics if the batch does not fit below [`Seq::MAX`]: the caller reserved the numbers.
pub fn evaluate(writes: &[Write], mut current: HashMap<Key, Record>, place: Place) -> Evaluated {
    let mut evaluated = Evaluated::default();
    let mut written: HashMap<Key, Version> = HashMap::new();
    for (nth, write) in (1..).zip(writes) {
        let seq = place.last.advanced(nth).expect("the caller reserved one number per write");
        let version = Version::new(place.epoch, seq);
        let standing = current.get(&write.key).filter(|row| row.visible(place.now_ms).is_some());
        let standing = standing.map(|row| row.version);
        let body = match judge(write, standing) {
            Ok(body) => body,
            Err(outcome) => {
                evaluated.outcomes.push(outcome);
                continue;
            }
        };
        let created = write.tell_created.then_some(standing.is_none());
        evaluated.outcomes.push(match body {
            Some(_) => Outcome::Written { version, created },
            None => Outcome::Deleted { version },
        });
        let row =
            Record { key: write.key.clone(), version, origin: place.origin, body: body.cloned() };
        written.insert(row.key.clone(), version);
        current.insert(row.key.clone(), row);
    }
    evaluated.rows = written.keys().filter_map(|key| current.remove(key)).collect();
    evaluated.rows.sort_unstable_by_key(|row| row.version);
    evaluated
}

/// What the write leaves standing, or why it does nothing.
fn judge(write: &Write, standing: Option<Version>) -> Result<Option<&Body>, Outcome> {
    if !write.condition.is_met(standing) {
        return Err(Outcome::Unmet { current: standing });
    }
    match &write.change {
        Change::Set(body) => Ok(Some(body)),
        Change::Update(_) | Change::Delete if standing.is_none() => Err(Outcome::Absent),
        Change::Update(body) => Ok(Some(body)),
        Change::Delete => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Space;

    fn key() -> Key {
        Key::stored(Space::Data, "k")
    }

    fn body(value: &'static str) -> Body {
        Body { value: value.into(), content_type: "text/plain".into(), expires_at: None }
    }

    fn version(seq: u64) -> Version {
        Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
    }

    fn run(writes: &[Write], current: Option<Record>) -> Evaluated {
        let current = current.into_iter().map(|row| (row.key.clone(), row)).collect();
        let place = Place {
            origin: PartitionId(1),
            epoch: Epoch::FIRST,
            last: Seq::new(10).unwrap(),
            now_ms: 1000,
        };
        evaluate(writes, current, place)
    }

    fn row(seq: u64, body: Option<Body>) -> Record {
        Record { key: key(), version: version(seq), origin: PartitionId(1), body }
    }

    #[test]
    fn a_batch_is_judged_in_order_and_stores_the_last_row_of_a_key() {
        let tell = |write: Write| Write { tell_created: true, ..write };
        let evaluated = run(
            &[
                tell(Write::set(key(), body("a"))),
                tell(Write::set(key(), body("b"))),
                Write::delete(key()),
                Write::delete(key()),
                Write::set(key(), body("c")),
            ],
            None,
        );
        assert_eq!(
            evaluated.outcomes,
            [
                Outcome::Written { version: version(11), created: Some(true) },
                Outcome::Written { version: version(12), created: Some(false) },
                Outcome::Deleted { version: version(13) },
                Outcome::Absent,
                Outcome::Written { version: version(15), created: None },
            ]
        );
        assert_eq!(evaluated.rows, [row(15, Some(body("c")))]);
    }

    #[test]
    fn conditions_are_judged_against_what_is_visible() {
        let conditional = |if_match: Option<Expected>, if_none_match: Option<Expected>| Write {
            condition: Condition { if_match, if_none_match },
            ..Write::set(key(), body("new"))
        };
        let one = |seq| Some(Expected::OneOf(vec![version(seq)]));
        let live = Some(row(5, Some(body("old"))));
        let expired = Some(row(5, Some(Body { expires_at: Some(1000), ..body("old") })));
        for (standing, write, met) in [
            (live.clone(), conditional(one(5), None), true),
            (live.clone(), conditional(one(4), None), false),
            (live.clone(), conditional(Some(Expected::Any), None), true),
            (live.clone(), conditional(None, Some(Expected::Any)), false),
            (live.clone(), conditional(None, one(4)), true),
            (live, conditional(None, one(5)), false),
            (None, conditional(Some(Expected::Any), None), false),
            (None, conditional(None, Some(Expected::Any)), true),
            (expired, conditional(None, Some(Expected::Any)), true),
            (Some(row(5, None)), conditional(None, Some(Expected::Any)), true),
        ] {
            let outcome = run(std::slice::from_ref(&write), standing.clone()).outcomes.remove(0);
            assert_eq!(outcome.version().is_some(), met, "{write:?} on {standing:?}: {outcome:?}");
        }
    }

    #[test]
    fn an_update_needs_something_to_update() {
        let update =
            Write { change: Change::Update(body("new")), ..Write::set(key(), body("unused")) };
        assert_eq!(run(std::slice::from_ref(&update), None).outcomes, [Outcome::Absent]);
        let evaluated = run(&[update], Some(row(5, Some(body("old")))));
        assert_eq!(evaluated.rows, [row(11, Some(body("new")))]);
    }
}
