//! One write, and what becomes of it: pure evaluation, the same in every engine.
//!
//! An engine's commit takes its sequence numbers, reads the current rows of the keys that need it
//! ([`Write::needs_current`]), lets [`evaluate`] judge all writes of the batch in the order of
//! their arrival, and stores what comes back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::merge::{MergeError, Patch};
use crate::record::{Body, Key, Record};
use crate::version::{Epoch, PartitionId, Seq, Version};

/// What a write wants to do with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create or overwrite.
    Set(Body),
    /// Overwrite what exists, for the rest of its time to live; nothing is created.
    Update(Body),
    /// Merge into the JSON that exists, which keeps its type and its time to live.
    Merge {
        /// What to merge.
        patch: Patch,
        /// The most bytes that the merged value may have.
        value_bytes_max: usize,
    },
    /// Put a tombstone where something exists.
    Delete,
    /// Put a tombstone where this version stands and its time is over: what the sweep does.
    Expire {
        /// The version that was seen to have expired.
        version: Version,
    },
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
    /// For how long the value is visible, by the master's own clock; `None`: as the change says.
    pub ttl: Option<Duration>,
    /// Whether the outcome has to tell a created row from a replaced one; costs a read.
    pub tell_created: bool,
}

impl Write {
    /// This change, whatever stands.
    pub const fn new(key: Key, change: Change) -> Self {
        Self { key, change, condition: Condition::NONE, ttl: None, tell_created: false }
    }

    /// Create or overwrite, whatever stands.
    pub const fn set(key: Key, body: Body) -> Self {
        Self::new(key, Change::Set(body))
    }

    /// Delete what stands.
    pub const fn delete(key: Key) -> Self {
        Self::new(key, Change::Delete)
    }

    /// Remove what expired, if it still is that version.
    pub const fn expire(key: Key, version: Version) -> Self {
        Self::new(key, Change::Expire { version })
    }

    /// Whether the key's current row has to be read to judge the write.
    pub fn needs_current(&self) -> bool {
        let unconditional = self.condition == Condition::NONE;
        !matches!(self.change, Change::Set(_)) || !unconditional || self.tell_created
    }

    /// Whether the value that stands has to be read as well.
    pub const fn needs_value(&self) -> bool {
        matches!(self.change, Change::Merge { .. })
    }

    /// Whether the write depends on what the row that stands says, and not only on whether there is
    /// one: then it has to be the row that was stored, its checksum compared.
    pub fn needs_sound(&self) -> bool {
        match self.change {
            Change::Set(_) | Change::Delete => self.condition != Condition::NONE,
            Change::Update(_) | Change::Merge { .. } | Change::Expire { .. } => true,
        }
    }

    /// Roughly what the write weighs on its way, in bytes; bounds batches.
    pub fn weight(&self) -> usize {
        let body = match &self.change {
            Change::Set(body) | Change::Update(body) => body.value.len() + body.content_type.len(),
            Change::Merge { patch, .. } => patch.len(),
            Change::Delete | Change::Expire { .. } => 0,
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
        /// What stands, where it is not what was sent: merged, or with the expiry that the master
        /// gave it.
        body: Option<Body>,
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
    /// The patch does not fit what stands; nothing was written.
    Unmergeable {
        /// What stands.
        current: Version,
        /// Why it cannot be merged.
        error: MergeError,
    },
    /// What stands is damaged, and the write has to know it; nothing was written.
    Damaged,
}

impl Outcome {
    /// The version that the write was given, if it wrote.
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::Written { version, .. } | Self::Deleted { version } => Some(*version),
            Self::Absent | Self::Unmet { .. } | Self::Unmergeable { .. } | Self::Damaged => None,
        }
    }

    /// The row that `write` has left at `origin`, its master, if it wrote: what may be pushed.
    pub fn row(&self, write: &Write, origin: PartitionId) -> Option<Record> {
        let made = match self {
            Self::Written { body, .. } => body.as_ref(),
            Self::Deleted { .. } => None,
            Self::Absent | Self::Unmet { .. } | Self::Unmergeable { .. } | Self::Damaged => {
                return None;
            }
        };
        let body = made.or(match &write.change {
            Change::Set(body) | Change::Update(body) => Some(body),
            Change::Merge { .. } | Change::Delete | Change::Expire { .. } => None,
        });
        let version = self.version()?;
        Some(Record::new(write.key.clone(), version, origin, body.cloned()))
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
    /// The writes that took effect, in the order of versions: one log entry each. A row that a
    /// later write of the batch replaced was acknowledged as well, and whoever's log covers its
    /// version has to have what replaced it.
    pub log: Vec<(Version, Key)>,
}

/// Judges `writes` in order against the `current` rows (tombstones and expired rows included, which
/// count as absent). Every write is reserved one sequence number, used or not: gaps are legal, a
/// number given twice is not.
///
/// `damaged`: the keys whose current row cannot be read. Whoever has to know it is refused, but for
/// a plain delete: there is something, and it shall go.
///
/// Panics if the batch does not fit below [`Seq::MAX`]: the caller reserved the numbers.
pub fn evaluate(
    writes: &[Write],
    mut current: HashMap<Key, Record>,
    damaged: &HashSet<Key>,
    place: Place,
) -> Evaluated {
    let mut evaluated = Evaluated::default();
    for (nth, write) in (1..).zip(writes) {
        let seq = place.last.advanced(nth).expect("the caller reserved one number per write");
        let version = Version::new(place.epoch, seq);
        let row = current.get(&write.key);
        let standing = row.and_then(|row| {
            row.visible(place.now_ms).map(|body| Standing { version: row.version, body })
        });
        let is_damaged = row.is_none() && damaged.contains(&write.key);
        let created = write.tell_created.then_some(standing.is_none() && !is_damaged);
        let judged = match &write.change {
            _ if is_damaged => over_damage(write, place.now_ms),
            Change::Expire { version } => over_expired(row, *version, place.now_ms),
            Change::Set(_) | Change::Update(_) | Change::Merge { .. } | Change::Delete => {
                judge(write, standing, place.now_ms)
            }
        };
        let judged = match judged {
            Ok(judged) => judged,
            Err(outcome) => {
                evaluated.outcomes.push(outcome);
                continue;
            }
        };
        let (outcome, body) = judged.stored(version, created);
        evaluated.outcomes.push(outcome);
        let row = Record::new(write.key.clone(), version, place.origin, body);
        evaluated.log.push((version, row.key.clone()));
        current.insert(row.key.clone(), row);
    }
    // From the last write back: the first time that a key comes up, its row is the one that stays.
    evaluated.rows =
        evaluated.log.iter().rev().filter_map(|(_, key)| current.remove(key)).collect();
    evaluated.rows.reverse();
    evaluated
}

/// What a reader sees before the write.
#[derive(Clone, Copy)]
struct Standing<'a> {
    version: Version,
    body: &'a Body,
}

/// What a write leaves standing.
enum Judged<'a> {
    AsSent(&'a Body),
    Made(Body),
    Tombstone,
}

impl Judged<'_> {
    fn stored(self, version: Version, created: Option<bool>) -> (Outcome, Option<Body>) {
        match self {
            Self::AsSent(body) => {
                (Outcome::Written { version, created, body: None }, Some(body.clone()))
            }
            Self::Made(body) => {
                (Outcome::Written { version, created, body: Some(body.clone()) }, Some(body))
            }
            Self::Tombstone => (Outcome::Deleted { version }, None),
        }
    }
}

/// What a write leaves standing over a row that nobody can read: what does not have to know it.
fn over_damage(write: &Write, now_ms: i64) -> Result<Judged<'_>, Outcome> {
    match &write.change {
        Change::Set(_) if write.condition == Condition::NONE => judge(write, None, now_ms),
        Change::Delete if write.condition == Condition::NONE => Ok(Judged::Tombstone),
        Change::Set(_)
        | Change::Update(_)
        | Change::Merge { .. }
        | Change::Delete
        | Change::Expire { .. } => Err(Outcome::Damaged),
    }
}

/// What stands after a sweep: a tombstone, where nobody was faster and the time is still over.
fn over_expired<'a>(
    row: Option<&Record>,
    version: Version,
    now_ms: i64,
) -> Result<Judged<'a>, Outcome> {
    let same = row.filter(|row| row.version == version);
    let over = same.and_then(|row| row.body.as_ref()).is_some_and(|body| body.is_expired(now_ms));
    if over { Ok(Judged::Tombstone) } else { Err(Outcome::Absent) }
}

/// What the write leaves standing, or why it does nothing.
fn judge<'a>(
    write: &'a Write,
    standing: Option<Standing<'_>>,
    now_ms: i64,
) -> Result<Judged<'a>, Outcome> {
    let current = standing.map(|standing| standing.version);
    if !write.condition.is_met(current) {
        return Err(Outcome::Unmet { current });
    }
    let body = match (&write.change, standing) {
        (Change::Set(body), _) => body,
        (Change::Update(_) | Change::Merge { .. } | Change::Delete, None) => {
            return Err(Outcome::Absent);
        }
        (Change::Delete, Some(_)) => return Ok(Judged::Tombstone),
        (Change::Expire { .. }, _) => return Err(Outcome::Absent),
        (Change::Update(body), Some(standing)) => {
            let expires_at = expiry(write.ttl, now_ms).or(standing.body.expires_at);
            return Ok(Judged::Made(Body { expires_at, ..body.clone() }));
        }
        (Change::Merge { patch, value_bytes_max }, Some(Standing { version, body })) => {
            let value = patch
                .apply(&body.value, *value_bytes_max)
                .map_err(|error| Outcome::Unmergeable { current: version, error })?;
            let expires_at = expiry(write.ttl, now_ms).or(body.expires_at);
            let content_type = body.content_type.clone();
            return Ok(Judged::Made(Body { value, content_type, expires_at }));
        }
    };
    Ok(match expiry(write.ttl, now_ms) {
        None => Judged::AsSent(body),
        expires_at => Judged::Made(Body { expires_at, ..body.clone() }),
    })
}

/// When a value that is written now ceases to be visible.
fn expiry(ttl: Option<Duration>, now_ms: i64) -> Option<i64> {
    ttl.map(|ttl| now_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)))
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
        evaluate(writes, current, &HashSet::new(), place)
    }

    fn row(seq: u64, body: Option<Body>) -> Record {
        Record::new(key(), version(seq), PartitionId(1), body)
    }

    fn written(seq: u64, created: Option<bool>) -> Outcome {
        Outcome::Written { version: version(seq), created, body: None }
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
                written(11, Some(true)),
                written(12, Some(false)),
                Outcome::Deleted { version: version(13) },
                Outcome::Absent,
                written(15, None),
            ]
        );
        assert_eq!(evaluated.rows, [row(15, Some(body("c")))]);
        let logged: Vec<Version> = evaluated.log.iter().map(|(version, _)| *version).collect();
        assert_eq!(logged, [version(11), version(12), version(13), version(15)]);
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

    fn lasting(value: &'static str, expires_at: Option<i64>) -> Body {
        Body { expires_at, ..body(value) }
    }

    fn merge(patch: &'static str, value_bytes_max: usize) -> Write {
        let patch = Patch::parse(patch.into()).unwrap();
        Write::new(key(), Change::Merge { patch, value_bytes_max })
    }

    #[test]
    fn time_to_live_is_counted_by_the_master() {
        let ttl = Some(Duration::from_millis(500));
        let set = Write::set(key(), body("new"));
        let update = Write::new(key(), Change::Update(body("new")));
        for (write, expires_at) in [
            (Write { ttl, ..set.clone() }, Some(1500)),
            (set, None),
            (update.clone(), Some(9000)),
            (Write { ttl, ..update }, Some(1500)),
        ] {
            let standing = Some(row(5, Some(lasting("old", Some(9000)))));
            let evaluated = run(std::slice::from_ref(&write), standing);
            let stands = lasting("new", expires_at);
            assert_eq!(evaluated.rows, [row(11, Some(stands.clone()))], "{write:?}");
            let pushed = evaluated.outcomes[0].row(&write, PartitionId(1));
            assert_eq!(pushed, Some(row(11, Some(stands))));
        }
        let forever = Write { ttl: Some(Duration::MAX), ..Write::set(key(), body("new")) };
        let evaluated = run(&[forever], None);
        assert_eq!(evaluated.rows, [row(11, Some(lasting("new", Some(i64::MAX))))]);
    }

    #[test]
    fn an_expired_row_is_absent() {
        let expired = || Some(row(5, Some(lasting("{}", Some(1000)))));
        for write in [merge("{}", 100), Write::delete(key())] {
            assert_eq!(run(&[write], expired()).outcomes, [Outcome::Absent]);
        }
    }

    #[test]
    fn a_merge_keeps_type_and_time_to_live() {
        let standing =
            Body { content_type: "application/x".into(), ..lasting("{\"a\":1}", Some(9000)) };
        let evaluated = run(
            &[merge("{\"b\":2}", 100), merge("{\"a\":null}", 100)],
            Some(row(5, Some(standing.clone()))),
        );
        let merged = |value: &'static str| Body { value: value.into(), ..standing.clone() };
        let outcome = |seq, value| Outcome::Written {
            version: version(seq),
            created: None,
            body: Some(merged(value)),
        };
        assert_eq!(
            evaluated.outcomes,
            [outcome(11, "{\"a\":1,\"b\":2}"), outcome(12, "{\"b\":2}")]
        );
        assert_eq!(evaluated.rows, [row(12, Some(merged("{\"b\":2}")))]);
    }

    #[test]
    fn what_cannot_be_merged_stays() {
        assert_eq!(run(&[merge("{}", 100)], None).outcomes, [Outcome::Absent]);
        let refused = |write, value| {
            let evaluated = run(&[write], Some(row(5, Some(body(value)))));
            assert_eq!(evaluated.rows, []);
            evaluated.outcomes
        };
        let unmergeable = |error| [Outcome::Unmergeable { current: version(5), error }];
        assert_eq!(refused(merge("{}", 100), "text"), unmergeable(MergeError::NotJson));
        let too_large = MergeError::TooLarge { bytes: 7, max: 6 };
        assert_eq!(refused(merge("{\"a\":1}", 6), "{}"), unmergeable(too_large));
    }

    #[test]
    fn a_sweep_removes_only_what_it_saw_and_what_is_still_over() {
        let expire = |seq| [Write::expire(key(), version(seq))];
        let over = |seq| Some(row(seq, Some(lasting("old", Some(1000)))));
        assert_eq!(run(&expire(5), over(5)).rows, [row(11, None)]);
        for (seq, standing) in [
            (5, over(6)),
            (5, Some(row(5, Some(lasting("old", Some(1001)))))),
            (5, Some(row(5, Some(body("old"))))),
            (5, Some(row(5, None))),
            (5, None),
        ] {
            let evaluated = run(&expire(seq), standing.clone());
            assert_eq!(evaluated.outcomes, [Outcome::Absent], "{standing:?}");
            assert!(evaluated.rows.is_empty());
        }
    }

    #[test]
    fn over_a_damaged_row_goes_only_what_need_not_know_it() {
        let damaged = HashSet::from([key()]);
        let place = Place {
            origin: PartitionId(1),
            epoch: Epoch::FIRST,
            last: Seq::new(10).unwrap(),
            now_ms: 1000,
        };
        let none_match =
            Condition { if_match: None, if_none_match: Some(Expected::OneOf(vec![version(1)])) };
        let conditional = Write { condition: none_match, ..Write::set(key(), body("new")) };
        let update = Write::new(key(), Change::Update(body("new")));
        let told = Write { tell_created: true, ..Write::set(key(), body("new")) };
        for (write, expected) in [
            (Write::set(key(), body("new")), written(11, None)),
            (told, written(11, Some(false))),
            (Write::delete(key()), Outcome::Deleted { version: version(11) }),
            (conditional, Outcome::Damaged),
            (update, Outcome::Damaged),
            (Write::expire(key(), version(5)), Outcome::Damaged),
        ] {
            let writes = [write, Write::delete(key())];
            let outcomes = evaluate(&writes, HashMap::new(), &damaged, place).outcomes;
            assert_eq!(outcomes[0], expected, "{:?}", writes[0]);
        }
    }
}
