//! Which partitions a read asks, and in which order: pure choice.
//!
//! | need | order |
//! |---|---|
//! | `any` | the embedded copy; the key's master, where it is local; then whoever answers fastest |
//! | `session` | those last seen to cover the token; among them, and among the others, the embedded copy, the key's master, then whoever answers fastest |
//! | `master` | the key's master and nobody else; of a list: every master. Never a read copy |
//! | by name | that partition and nobody else |
//!
//! A client may prefer answers of some age (`Cache-Control: max-age`): whoever is older comes
//! later, the youngest of those first.
//!
//! A partition in trouble comes last, but is asked: it may be well again, and where all are in
//! trouble one of them has to tell of it. What is known here is a hint for the order and nothing
//! more: whether a partition satisfies the need is judged where it is asked.
//!
//! **Answer times** ([`AnswerTime`]) are smoothed over reads and over the front end's own looks at
//! every partition. The looks go on whether a partition is read from or not, so one that was slow
//! and has recovered is noticed.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::version::PartitionId;

/// What a partition is in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of the configured set: takes writes where it masters them, counts for acknowledgements.
    Voter,
    /// A read copy that others may read from, too: never written to, never counted.
    Copy,
    /// A read copy inside this process.
    EmbeddedCopy,
}

impl Part {
    /// Whether it may be a master, take pushes and count for majorities.
    pub const fn is_voter(self) -> bool {
        match self {
            Self::Voter => true,
            Self::Copy | Self::EmbeddedCopy => false,
        }
    }
}

/// What is known of a partition when a read is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which partition.
    pub id: PartitionId,
    /// What it is.
    pub part: Part,
    /// Whether it is read on this machine, without a server in between.
    pub is_local: bool,
    /// Whether nothing is known to be wrong with it.
    pub is_well: bool,
    /// Whether it was last seen to have what the read needs.
    pub covers: bool,
    /// How much older it is than the client would like.
    pub excess: Duration,
    /// How long it takes to answer; `None`: never measured.
    pub answers_in: Option<Duration>,
}

impl Candidate {
    /// Fitter is smaller.
    const fn is_fit(&self) -> (Reverse<bool>, Duration) {
        (Reverse(self.is_well), self.excess)
    }

    /// Faster is smaller; what was never measured comes after what was: it soon will be.
    fn speed(&self) -> (Duration, PartitionId) {
        (self.answers_in.unwrap_or(Duration::MAX), self.id)
    }
}

/// The order in which a read asks. `master`: of the key, if the read is of one. `covering`: it has
/// to cover a token.
pub fn sort(master: Option<PartitionId>, covering: bool, candidates: &mut [Candidate]) {
    candidates.sort_by_key(|one| place(master, covering, one));
}

/// Whom a read asks first.
pub fn first(
    master: Option<PartitionId>,
    covering: bool,
    candidates: impl Iterator<Item = Candidate>,
) -> Option<PartitionId> {
    candidates.min_by_key(|one| place(master, covering, one)).map(|one| one.id)
}

/// Sooner is smaller.
fn place(master: Option<PartitionId>, covering: bool, one: &Candidate) -> impl Ord + use<> {
    // The master of the key has what a token covers, in all likelihood: its answer is worth the
    // way. For anything else it is no better than others that have to be asked over a network.
    let is_preferred_master = Some(one.id) == master && (covering || one.is_local);
    let covers = Reverse(covering && one.covers);
    (one.is_fit(), covers, rank(one, is_preferred_master), one.speed())
}

/// Closer is smaller.
fn rank(one: &Candidate, is_preferred_master: bool) -> u8 {
    match one.part {
        Part::EmbeddedCopy => 0,
        Part::Voter | Part::Copy if is_preferred_master => 1,
        Part::Voter | Part::Copy => 2,
    }
}

/// How long a partition takes to answer, smoothed: an eighth of what was measured last, seven
/// eighths of what was known.
#[derive(Debug, Default)]
pub struct AnswerTime {
    /// Zero: never measured.
    nanos: AtomicU64,
}

impl AnswerTime {
    /// Takes in one answer, or how long somebody has waited for none.
    pub fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let known = self.nanos.load(Ordering::Relaxed);
        // Of two at once one may get lost: it is an estimate.
        let next = if known == 0 { took } else { known - known / 8 + took / 8 };
        self.nanos.store(next.max(1), Ordering::Relaxed);
    }

    /// What is known.
    pub fn get(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASTER: PartitionId = PartitionId(1);

    fn far(id: u16, ms: u64) -> Candidate {
        Candidate {
            id: PartitionId(id),
            part: Part::Voter,
            is_local: false,
            is_well: true,
            covers: false,
            excess: Duration::ZERO,
            answers_in: Some(Duration::from_millis(ms)),
        }
    }

    fn near(id: u16, ms: u64) -> Candidate {
        Candidate { is_local: true, ..far(id, ms) }
    }

    fn embedded(id: u16) -> Candidate {
        Candidate { part: Part::EmbeddedCopy, answers_in: None, ..near(id, 0) }
    }

    fn ids(candidates: &[Candidate]) -> Vec<u16> {
        candidates.iter().map(|one| one.id.0).collect()
    }

    fn any_of<const N: usize>(mut candidates: [Candidate; N]) -> Vec<u16> {
        sort(Some(MASTER), false, &mut candidates);
        ids(&candidates)
    }

    fn session_of<const N: usize>(mut candidates: [Candidate; N]) -> Vec<u16> {
        sort(Some(MASTER), true, &mut candidates);
        ids(&candidates)
    }

    #[test]
    fn any_prefers_the_embedded_copy_then_the_local_master_then_the_fastest() {
        assert_eq!(any_of([far(1, 9), far(2, 5), far(3, 7)]), [2, 3, 1]);
        assert_eq!(any_of([near(2, 1), near(1, 9), near(3, 2)]), [1, 2, 3]);
        assert_eq!(any_of([near(1, 1), far(2, 0), embedded(9)]), [9, 1, 2]);
        let copy = Candidate { part: Part::Copy, ..far(8, 1) };
        assert_eq!(any_of([far(1, 2), far(2, 5), copy]), [8, 1, 2]);
    }

    #[test]
    fn whoever_was_never_measured_comes_after_whoever_was() {
        let new = |id| Candidate { answers_in: None, ..far(id, 0) };
        assert_eq!(any_of([new(3), far(4, 2), new(2), far(5, 1)]), [5, 4, 2, 3]);
    }

    #[test]
    fn who_is_older_than_preferred_comes_later() {
        let old = |one: Candidate, ms| Candidate { excess: Duration::from_millis(ms), ..one };
        assert_eq!(any_of([old(embedded(9), 5), old(near(1, 0), 2), far(2, 9)]), [2, 1, 9]);
    }

    #[test]
    fn trouble_comes_last() {
        let ill = |one: Candidate| Candidate { is_well: false, ..one };
        assert_eq!(any_of([ill(embedded(9)), ill(near(1, 0)), far(2, 9)]), [2, 9, 1]);
        assert_eq!(session_of([ill(embedded(9)), near(1, 0), far(2, 9)]), [1, 2, 9]);
    }

    #[test]
    fn a_session_asks_first_whoever_is_known_to_cover_it() {
        let covering = |one: Candidate| Candidate { covers: true, ..one };
        assert_eq!(session_of([embedded(9), far(1, 9), covering(far(2, 5))]), [2, 9, 1]);
        assert_eq!(session_of([embedded(9), far(1, 9), far(2, 5)]), [9, 1, 2]);
        let all = [covering(far(2, 5)), covering(far(1, 9)), covering(embedded(9))];
        assert_eq!(session_of(all), [9, 1, 2]);
    }

    #[test]
    fn answer_times_follow_what_is_measured() {
        let time = AnswerTime::default();
        assert_eq!(time.get(), None);
        time.note(Duration::from_millis(8));
        assert_eq!(time.get(), Some(Duration::from_millis(8)));
        time.note(Duration::from_millis(800));
        let stalled = time.get().unwrap();
        assert!(stalled > Duration::from_millis(90), "{stalled:?}");
        for _ in 0..40 {
            time.note(Duration::from_millis(8));
        }
        let recovered = time.get().unwrap();
        assert!(recovered < Duration::from_millis(10), "{recovered:?}");
    }

    proptest! {
        /// Whatever is known, everybody is asked, once: what is known is a hint for the order.
        #[test]
        fn nobody_is_left_out(known in prop::collection::vec(any::<(bool, bool, bool, u8)>(), 0..9)) {
            let candidates = (1..).zip(known).map(|(id, (is_local, is_well, covers, ms))| {
                let answers_in = (ms > 9).then(|| Duration::from_millis(ms.into()));
                Candidate { is_local, is_well, covers, answers_in, ..far(id, 0) }
            });
            let candidates: Vec<Candidate> = candidates.collect();
            let all: Vec<u16> = ids(&candidates);
            for covering in [false, true] {
                let mut ordered = candidates.clone();
                sort(Some(MASTER), covering, &mut ordered);
                let first = first(Some(MASTER), covering, candidates.iter().copied());
                prop_assert_eq!(first, ordered.first().map(|one| one.id));
                let mut sorted = ids(&ordered);
                sorted.sort_unstable();
                prop_assert_eq!(&sorted, &all);
                let ill = ordered.iter().position(|one| !one.is_well).unwrap_or(ordered.len());
                prop_assert!(ordered[ill..].iter().all(|one| !one.is_well));
            }
        }
    }
}
