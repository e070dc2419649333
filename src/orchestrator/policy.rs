//! How many read copies there are to be: pure policy.
//!
//! One for every `reads_per_copy` reads in a window, within bounds. More are added at once; one
//! goes only when it would not come back for a few reads more (**hysteresis**), and after a change
//! nothing is changed for a while (**cool-down**), so that load that swings around a boundary makes
//! one change per cool-down at most.

use std::time::Duration;

use crate::config::scaling::ScalingConfig;

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Reads of the last window, over all front ends.
    pub reads: u64,
    /// Copies that there are, but for those that are about to go.
    pub copies: usize,
    /// How long ago copies were last added or removed; `None`: never.
    pub changed: Option<Duration>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// So many more.
    Add(usize),
    /// So many fewer.
    Remove(usize),
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many copies the reads ask for.
    pub wanted: usize,
    /// What follows from that.
    pub action: Action,
    /// In words.
    pub reason: String,
}

/// How many copies so many reads in a window ask for.
pub fn wanted(policy: &ScalingConfig, reads: u64) -> usize {
    let per_copy = u64::try_from(policy.reads_per_copy).unwrap_or(u64::MAX).max(1);
    let copies = usize::try_from(reads.div_ceil(per_copy)).unwrap_or(usize::MAX);
    copies.clamp(policy.min.min(policy.max), policy.max)
}

/// What is to be done about what was observed.
pub fn decide(policy: &ScalingConfig, observed: &Observed) -> Decision {
    let Observed { reads, copies, changed } = *observed;
    let wanted_now = wanted(policy, reads);
    let swing = policy.reads_per_copy.saturating_mul(policy.hysteresis_percent) / 100;
    // Where there are none, a few more are not to be expected.
    let swing = if reads == 0 { 0 } else { u64::try_from(swing).unwrap_or(0) };
    let wanted_soon = wanted(policy, reads.saturating_add(swing));
    let action = if wanted_now > copies {
        Action::Add(wanted_now - copies)
    } else if wanted_soon < copies {
        Action::Remove(copies - wanted_soon)
    } else {
        Action::Keep
    };
    let told = format!("{reads} reads ask for {wanted_now}, there are {copies}");
    let rests = changed.filter(|changed| *changed < policy.cooldown);
    let (action, reason) = match (action, rests) {
        (Action::Keep, _) if wanted_now < copies => {
            (Action::Keep, format!("{told}: within the hysteresis"))
        }
        (Action::Keep, _) => (Action::Keep, told),
        (_, Some(changed)) => {
            let changed = crate::duration::format(Duration::from_secs(changed.as_secs()));
            (Action::Keep, format!("{told}: changed {changed} ago, within the cool-down"))
        }
        (action @ (Action::Add(_) | Action::Remove(_)), None) => (action, told),
    };
    Decision { wanted: wanted_now, action, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> ScalingConfig {
        ScalingConfig { min: 1, max: 8, ..ScalingConfig::default() }
    }

    fn action(reads: u64, copies: usize, changed: Option<u64>) -> Action {
        let changed = changed.map(Duration::from_secs);
        decide(&policy(), &Observed { reads, copies, changed }).action
    }

    #[test]
    fn a_copy_for_every_twenty_reads() {
        for (reads, copies) in
            [(0, 1), (1, 1), (20, 1), (21, 2), (40, 2), (41, 3), (60, 3), (61, 4)]
        {
            assert_eq!(wanted(&policy(), reads), copies, "{reads}");
        }
        assert_eq!(wanted(&policy(), u64::MAX), 8);
        assert_eq!(wanted(&ScalingConfig { min: 0, ..policy() }, 0), 0);
    }

    #[test]
    fn copies_come_at_once_and_go_past_the_hysteresis() {
        assert_eq!(action(21, 1, None), Action::Add(1));
        assert_eq!(action(100, 1, None), Action::Add(4));
        assert_eq!(action(20, 2, None), Action::Keep, "two more reads, and it would come back");
        assert_eq!(action(18, 2, None), Action::Remove(1));
        assert_eq!(action(0, 5, None), Action::Remove(4));
        assert_eq!(action(0, 1, None), Action::Keep);
        let none = ScalingConfig { min: 0, ..policy() };
        let idle = Observed { reads: 0, copies: 1, changed: None };
        assert_eq!(decide(&none, &idle).action, Action::Remove(1));
    }

    #[test]
    fn nothing_changes_within_the_cool_down() {
        assert_eq!(action(100, 1, Some(239)), Action::Keep);
        assert_eq!(action(100, 1, Some(240)), Action::Add(4));
        assert_eq!(action(0, 5, Some(0)), Action::Keep);
    }

    proptest! {
        /// What a decision leads to is what the next one, after the cool-down, keeps.
        #[test]
        fn decisions_come_to_rest(reads in 0_u64..500, copies in 0_usize..10, percent in 0_usize..=100) {
            let policy = ScalingConfig { hysteresis_percent: percent, ..policy() };
            let observed = Observed { reads, copies, changed: None };
            let copies = match decide(&policy, &observed).action {
                Action::Keep => copies,
                Action::Add(more) => copies + more,
                Action::Remove(fewer) => copies - fewer,
            };
            prop_assert!(copies >= wanted(&policy, reads));
            let again = decide(&policy, &Observed { copies, ..observed });
            prop_assert_eq!(again.action, Action::Keep);
        }

        /// Reads that swing around any boundary change copies once a cool-down.
        #[test]
        fn load_that_swings_changes_little(boundary in 1_u64..6, swings in prop::collection::vec(-3_i64..=3, 1..50)) {
            let (policy, mut copies, mut changes) = (policy(), 1_usize, 0_u32);
            let mut changed = None;
            for swing in &swings {
                let reads = (boundary * 20).saturating_add_signed(*swing);
                let observed = Observed { reads, copies, changed };
                let decision = decide(&policy, &observed);
                changed = changed.map(|at: Duration| at + policy.window);
                match decision.action {
                    Action::Keep => {}
                    Action::Add(more) => (copies, changed, changes) = (copies + more, Some(Duration::ZERO), changes + 1),
                    Action::Remove(fewer) => (copies, changed, changes) = (copies - fewer, Some(Duration::ZERO), changes + 1),
                }
            }
            let windows = u32::try_from(swings.len()).unwrap();
            prop_assert!(changes <= windows.div_ceil(2) + 1, "{} in {}", changes, windows);
        }
    }
}
