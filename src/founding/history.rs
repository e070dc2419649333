//! What others know of a partition's past, by which a copy that was put back shows.
//!
//! Nobody holds what is not durable at its origin (BAR-1), so neither a cursor nor a log entry ever
//! lies above its origin's clock (CUR-1), crash or no crash. Where one does, the origin's database
//! is older than it was: somebody has put a copy back. To go on with it would give versions again
//! that others have seen (VER-1). It is asked for at every connection, before anything else is done
//! over it.
//!
//! A copy that is gone on with all the same, by a front end that nobody could tell, jumps at its
//! first opening over far more than it lacks, and notes the jump ([`Jump`]). What lies within a
//! jump was never durable there; so whoever comes back with a cursor or an entry in between gives
//! the copy away later.
//!
//! A token that names a version within a jump has seen at its master what a crash took back before
//! it was durable: nobody covers it any more, whatever vectors say (RYW-1). So the jumps are read
//! again whenever a look at a partition shows that it may have made another.
//!
//! What is not found: a copy put back while nobody who has more of it can be asked, at an engine
//! that lives in one run for ever and so never jumps (SQLite), which has gone past them by the time
//! that they can. The way to restore is `datastore init --restored` ([`super::restored`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::partition::{Jump, OPENING_JUMP, Status};
use crate::rules::Rule;
use crate::version::{PartitionId, Seq, Version};

/// What was seen of each partition's past.
#[derive(Debug, Default)]
pub struct History(Mutex<BTreeMap<PartitionId, Past>>);

/// What was seen of one partition's past.
#[derive(Debug, Default)]
struct Past {
    /// The greatest of its versions that others were seen to hold.
    greatest: Version,
    /// The cursor, and the newest entry, of its log at each of the others when last seen.
    held: BTreeMap<PartitionId, [Version; 2]>,
    /// Its jumps when last asked for.
    jumps: Vec<Jump>,
    /// The sequence that it had given by then; `None`: never asked.
    asked_at: Option<Seq>,
    /// A version that somebody was seen to hold, and the jump that it lies in.
    skipped: Option<(Version, Jump)>,
}

impl Past {
    /// Looks for a version within a jump.
    fn judge(&mut self) {
        let held = self.held.values().flatten();
        let mut within = held.filter_map(|version| {
            let jump = self.jumps.iter().find(|jump| jump.contains(version.seq()))?;
            Some((*version, *jump))
        });
        // What gave it away stands as long as the jump does: its holder goes on.
        self.skipped = self.skipped.or_else(|| within.next());
    }
}

impl History {
    /// Notes what a partition has of others.
    pub fn note(&self, status: &Status) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origins = status.vector.iter().chain(status.heads.iter()).map(|(origin, _)| origin);
        for origin in origins.filter(|id| *id != status.partition) {
            let held = [status.vector.get(origin), status.heads.get(origin)];
            let past = known.entry(origin).or_default();
            past.greatest = held.into_iter().fold(past.greatest, Version::max);
            if past.held.insert(status.partition, held) != Some(held) {
                past.judge();
            }
        }
    }

    /// Whether the partition may have made a jump since it was asked for them.
    pub fn may_have_jumped(&self, status: &Status) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_at = known.get(&status.partition).and_then(|past| past.asked_at);
        // Another database may stand there now: then it is behind what it was.
        let is_near = |at: Seq| {
            at <= status.seq && status.seq.number() < at.number().saturating_add(OPENING_JUMP)
        };
        !asked_at.is_some_and(is_near)
    }

    /// Whether a version lies in a jump of its origin: it was never durable, and is gone.
    pub fn has_skipped(&self, origin: PartitionId, version: Version) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jumps = known.get(&origin).map(|past| past.jumps.as_slice()).unwrap_or_default();
        jumps.iter().any(|jump| jump.contains(version.seq()))
    }

    /// Notes the jumps of a partition, which were asked for after its status.
    pub fn note_jumps(&self, status: &Status, jumps: Vec<Jump>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = known.entry(status.partition).or_default();
        past.asked_at = Some(status.seq);
        if past.jumps != jumps {
            // Another database stands there now, if the jump is not among them.
            past.skipped = past.skipped.filter(|(_, jump)| jumps.contains(jump));
            past.jumps = jumps;
            past.judge();
        }
    }

    /// What others have of a partition and it has never given, by its own account, which was asked
    /// for after theirs: then it is a copy that was put back.
    pub fn beyond(&self, status: &Status) -> Option<Version> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = known.get(&status.partition)?;
        let above = Some(past.greatest).filter(|greatest| *greatest > clock(status));
        let skipped = past.skipped.map(|(version, _)| version);
        above.or(skipped).filter(|_| Rule::PutBack.in_force())
    }
}

/// The last version that a partition gave.
pub fn clock(status: &Status) -> Version {
    status.vector.get(status.partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ReseedNumber;
    use crate::vector::Vector;
    use crate::version::{Epoch, RunId};

    const FIRST: PartitionId = PartitionId(1);

    fn jumped(history: &History, seq: u64, jumps: &[Jump]) {
        let status = Status { seq: Seq::new(seq).unwrap(), ..status(1, &[(1, seq)]) };
        history.note_jumps(&status, jumps.to_vec());
    }

    fn version(seq: u64) -> Version {
        Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
    }

    fn jump(before: u64, after: u64) -> Jump {
        Jump { before: Seq::new(before).unwrap(), after: Seq::new(after).unwrap() }
    }

    fn status(id: u16, places: &[(u16, u64)]) -> Status {
        let vector: Vector =
            places.iter().map(|&(id, seq)| (PartitionId(id), version(seq))).collect();
        Status {
            partition: PartitionId(id),
            run: RunId(0),
            epoch: Epoch::FIRST,
            seq: Seq::ZERO,
            vector,
            floors: Vector::new(),
            heads: Vector::new(),
            reseed: ReseedNumber(0),
            reseeding: false,
        }
    }

    #[test]
    fn a_partition_below_what_others_have_of_it_was_put_back() {
        let history = History::default();
        assert_eq!(history.beyond(&status(1, &[(1, 5)])), None, "nothing is known");
        history.note(&status(2, &[(1, 9), (2, 3)]));
        history.note(&status(3, &[(1, 7), (2, 3)]));
        assert_eq!(history.beyond(&status(1, &[(1, 8)])), Some(version(9)));
        assert_eq!(history.beyond(&status(1, &[(1, 9)])), None);
        assert_eq!(history.beyond(&status(1, &[])), Some(version(9)), "emptied");
        // Its own account counts for nothing.
        assert_eq!(history.beyond(&status(2, &[(2, 3), (1, 100)])), None);
        assert_eq!(history.beyond(&status(3, &[])), None);
    }

    #[test]
    fn what_was_pushed_early_counts_too() {
        let history = History::default();
        let early = Status { heads: [(FIRST, version(9))].into_iter().collect(), ..status(2, &[]) };
        history.note(&early);
        assert_eq!(history.beyond(&status(1, &[(1, 8)])), Some(version(9)));
    }

    #[test]
    fn a_copy_that_has_gone_past_the_others_shows_by_its_jump() {
        let gone_past = status(1, &[(1, 2000)]);
        // The copy stood at 50, the database at 60 when the others had all of it.
        for holder_comes_first in [true, false] {
            let history = History::default();
            if holder_comes_first {
                history.note(&status(2, &[(1, 60)]));
            }
            jumped(&history, 2000, &[jump(10, 40), jump(50, 1050)]);
            if !holder_comes_first {
                assert_eq!(history.beyond(&gone_past), None, "nothing is known");
                history.note(&status(2, &[(1, 60)]));
            }
            assert_eq!(history.beyond(&gone_past), Some(version(60)));
            // It stays one when the other has followed it.
            history.note(&status(2, &[(1, 2000)]));
            assert_eq!(history.beyond(&gone_past), Some(version(60)));
            // The right one is another.
            jumped(&history, 1060, &[jump(10, 40), jump(60, 1060)]);
            assert_eq!(history.beyond(&gone_past), None);
        }
    }

    #[test]
    fn who_has_all_of_a_crashed_partition_shows_nothing() {
        let history = History::default();
        // Up to the last before a jump, and the first after it.
        for seq in [50, 1050, 1051] {
            history.note(&status(2, &[(1, seq)]));
            jumped(&history, 2000, &[jump(50, 1050)]);
            assert_eq!(history.beyond(&status(1, &[(1, 2000)])), None, "{seq}");
        }
    }

    #[test]
    fn what_a_jump_has_passed_by_is_gone_and_jumps_are_asked_for_again() {
        let history = History::default();
        let at = |seq| Status { seq: Seq::new(seq).unwrap(), ..status(1, &[(1, seq)]) };
        assert!(history.may_have_jumped(&at(5)), "never asked");
        jumped(&history, 5, &[]);
        for (seq, may) in [(5, false), (5 + OPENING_JUMP - 1, false), (5 + OPENING_JUMP, true)] {
            assert_eq!(history.may_have_jumped(&at(seq)), may, "{seq}");
        }
        assert!(history.may_have_jumped(&at(4)), "another database");
        jumped(&history, 70_000, &[jump(7, 70_000)]);
        for (seq, is_gone) in [(7, false), (8, true), (69_999, true), (70_000, false)] {
            assert_eq!(history.has_skipped(FIRST, version(seq)), is_gone, "{seq}");
        }
        assert!(!history.has_skipped(PartitionId(2), version(8)));
    }
}
