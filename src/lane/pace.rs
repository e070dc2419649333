//! Whether a write lane begins a transaction while the one before it is still being ended.
//!
//! What comes before the end, the *work*, is done by the server under the lock on its clock, one
//! transaction after the other; the *end* is mostly its disk. Where the disk is slow, two
//! transactions under way have one worked on while the other is flushed. Where it is fast, there is
//! nothing to win, and something to lose: writes are spread over more and smaller transactions, and
//! two connections of the server take turns on the processors. So it is measured.

use std::time::Duration;

/// How much of an average the last transaction is.
const LAST: u32 = 8;

/// What a thread's transactions have taken, on average, the newer ones counting more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    work: Duration,
    end: Duration,
}

impl Pace {
    /// Takes in how long a transaction took before its end, and for it.
    pub(super) fn note(&mut self, work: Duration, end: Duration) {
        let is_first = *self == Self::default();
        let average = |old: Duration, new: Duration| {
            if is_first { new } else { (old * (LAST - 1) + new) / LAST }
        };
        *self = Self { work: average(self.work, work), end: average(self.end, end) };
    }

    /// Whether the next transaction shall begin before the end of this one: where the end takes at
    /// least two thirds of the work.
    pub(super) fn overlaps(self) -> bool {
        self.end > Duration::ZERO && self.end * 3 >= self.work * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(transactions: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (work, end) in transactions {
            pace.note(Duration::from_micros(*work), Duration::from_micros(*end));
        }
        pace
    }

    #[test]
    fn a_slow_end_is_overlapped_and_a_quick_one_is_not() {
        assert!(!after(&[]).overlaps(), "nothing is known");
        assert!(!after(&[(0, 0)]).overlaps(), "by a clock that stands still");
        assert!(!after(&[(1_500, 900)]).overlaps());
        assert!(after(&[(1_500, 1_000)]).overlaps());
    }

    #[test]
    fn one_stall_is_not_what_a_disk_is_like_for_long() {
        let quick = [(1_500, 300); 8];
        let stalled = [&quick[..], &[(1_500, 8_000)]].concat();
        assert!(after(&stalled).overlaps());
        assert!(!after(&[&stalled[..], &quick[..]].concat()).overlaps());
    }
}
