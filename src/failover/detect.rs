//! Detection: when a master counts as lost, and when that is acted on. Pure: what was seen goes in,
//! a verdict and its reasons come out.
//!
//! # Progress, not ping
//!
//! A server that accepts connections, or answers reads, may still commit nothing: its disk is full,
//! its lock is held, its process stopped. So each front end lets every master commit something
//! small again and again ([`Progress`]); one that has not for the whole of the *patience* is
//! suspected, whatever the reason.
//!
//! # Several observers
//!
//! One front end may be cut off while everybody else is well. So each tells the others whom it
//! suspects, and more than half of those that run have to ([`judge`]). Where that is wrong all the
//! same, nothing is lost: the change fences first ([`super::ownership`]).
//!
//! # Cool-down
//!
//! After a takeover the next one waits: whatever is slow for a moment is not passed from hand to
//! hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::topology::Topology;
use crate::version::PartitionId;

/// When each partition was last seen to commit.
#[derive(Clone, Debug)]
pub struct Progress {
    began: Duration,
    /// Since when those are watched that came later.
    watched: BTreeMap<PartitionId, Duration>,
    committed: BTreeMap<PartitionId, Duration>,
}

impl Progress {
    /// Watching begins at this monotonic instant.
    pub const fn since(began: Duration) -> Self {
        Self { began, watched: BTreeMap::new(), committed: BTreeMap::new() }
    }

    /// These are watched from this instant on, unless they were before; others no longer.
    pub fn watch(&mut self, ids: &BTreeSet<PartitionId>, now: Duration) {
        self.watched.retain(|id, _| ids.contains(id));
        self.committed.retain(|id, _| ids.contains(id));
        for id in ids {
            self.watched.entry(*id).or_insert(now);
        }
    }

    /// The partition has committed what was asked of it at this instant or later.
    pub fn committed(&mut self, id: PartitionId, asked: Duration) {
        let last = self.committed.entry(id).or_insert(asked);
        *last = asked.max(*last);
    }

    /// How long it has committed nothing that this front end knows of.
    pub fn silence(&self, id: PartitionId, now: Duration) -> Duration {
        let since = self.committed.get(&id).or_else(|| self.watched.get(&id));
        now.saturating_sub(since.copied().unwrap_or(self.began))
    }

    /// Whether it was seen to commit something, and that is not as long ago as `patience`.
    pub fn commits(&self, id: PartitionId, now: Duration, patience: Duration) -> bool {
        self.committed.contains_key(&id) && self.silence(id, now) < patience
    }

    /// The masters among `watched` that have been silent for `patience`.
    pub fn suspects(
        &self,
        topology: &Topology,
        watched: &BTreeSet<PartitionId>,
        (now, patience): (Duration, Duration),
    ) -> BTreeSet<PartitionId> {
        let silent = |id: &PartitionId| self.silence(*id, now) >= patience;
        let masters = watched.iter().copied().filter(|id| topology.slots_of(*id) > 0);
        masters.filter(silent).collect()
    }
}

/// What a front end that runs says of one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Which front end.
    pub frontend: String,
    /// Whether it suspects the master.
    pub suspects: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough observers suspect it.
    Disputed,
    /// Lost, and the last takeover was a moment ago.
    CoolingDown {
        /// How long it is still waited.
        left: Duration,
    },
    /// Lost: its slots are to be taken over.
    Lost,
}

/// Judges a master that this front end suspects. `last`: how long ago slots were last taken over.
pub fn judge(opinions: &[Opinion], last: Option<Duration>, cooldown: Duration) -> Verdict {
    let suspecting = opinions.iter().filter(|opinion| opinion.suspects).count();
    if suspecting * 2 <= opinions.len() {
        return Verdict::Disputed;
    }
    match last.and_then(|last| cooldown.checked_sub(last)).filter(|left| !left.is_zero()) {
        Some(left) => Verdict::CoolingDown { left },
        None => Verdict::Lost,
    }
}

/// Whether anybody can take over from anybody: a majority of the voters has to be left.
pub fn can_fail_over(topology: &Topology) -> bool {
    let counting = topology.voters().iter().filter(|voter| voter.state.counts()).count();
    counting > 2 && topology.data_voters().count() > 1
}

/// Why a set of two cannot fail over by itself, and what helps.
pub const TWO_VOTERS: &str = "two voters cannot fail over by themselves: when one is gone, the \
    other one is no majority; add a witness, which votes and holds no data, in an empty database: \
    datastore partitions add --role witness mysql://user@host/database";

/// Whether [`TWO_VOTERS`] is to be said.
pub fn are_two(topology: &Topology) -> bool {
    topology.voters().iter().filter(|voter| voter.state.counts()).count() == 2
}

/// The reasons of a decision, for people.
pub struct Reasons<'a> {
    /// The master.
    pub name: &'a str,
    /// How long it had been silent.
    pub silence: Duration,
    /// Who was asked.
    pub opinions: &'a [Opinion],
}

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reasons { name, silence, opinions } = self;
        let suspecting = opinions.iter().filter(|opinion| opinion.suspects).count();
        write!(
            f,
            "`{name}` has committed nothing for {:.1} s; {suspecting} of {} front ends say so",
            silence.as_secs_f64(),
            opinions.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Role;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opinions(suspecting: usize, of: usize) -> Vec<Opinion> {
        let opinion =
            |nth: usize| Opinion { frontend: nth.to_string(), suspects: nth < suspecting };
        (0..of).map(opinion).collect()
    }

    fn topology(roles: &[Role]) -> Topology {
        let names = roles.iter().enumerate().map(|(nth, role)| (format!("p{nth}"), *role));
        Topology::found(&names.collect()).unwrap()
    }

    #[test]
    fn who_commits_is_not_suspected_and_who_does_not_is() {
        let topology = topology(&[Role::Master, Role::Master, Role::Replica]);
        let watched = topology.voters().iter().map(|voter| voter.id).collect();
        let (one, two) = (PartitionId(1), PartitionId(2));
        let mut progress = Progress::since(s(10));
        let suspects =
            |progress: &Progress, now| progress.suspects(&topology, &watched, (s(now), s(3)));
        assert_eq!(suspects(&progress, 12), [].into());
        progress.committed(one, s(12));
        assert_eq!(suspects(&progress, 13), [two].into(), "a replica masters nothing");
        progress.committed(two, s(13));
        progress.committed(one, s(11));
        assert_eq!(suspects(&progress, 15), [one].into(), "answers may overtake each other");
        assert_eq!(progress.silence(two, s(15)), s(2));
    }

    #[test]
    fn who_comes_later_is_watched_since_then() {
        let topology = topology(&[Role::Master, Role::Master, Role::Replica]);
        let (one, two) = (PartitionId(1), PartitionId(2));
        let mut progress = Progress::since(s(0));
        progress.watch(&[one].into(), s(0));
        progress.watch(&[one, two].into(), s(9));
        let watched = [one, two].into();
        assert_eq!(progress.suspects(&topology, &watched, (s(10), s(3))), [one].into());
        assert_eq!(progress.suspects(&topology, &watched, (s(12), s(3))), [one, two].into());
        assert!(!progress.commits(two, s(10), s(3)), "it was not seen to commit anything yet");
        progress.committed(two, s(10));
        assert!(progress.commits(two, s(12), s(3)) && !progress.commits(two, s(13), s(3)));
        progress.watch(&[one].into(), s(20));
        progress.watch(&[one, two].into(), s(30));
        assert_eq!(progress.silence(two, s(31)), s(1), "another one of the name, or again");
    }

    #[test]
    fn more_than_half_of_those_that_run_have_to_agree() {
        for (suspecting, of, lost) in [(1, 1, true), (1, 2, false), (2, 2, true), (2, 3, true)] {
            let verdict = judge(&opinions(suspecting, of), None, s(30));
            assert_eq!(verdict == Verdict::Lost, lost, "{suspecting} of {of}: {verdict:?}");
        }
        assert_eq!(judge(&opinions(1, 3), None, s(30)), Verdict::Disputed);
    }

    #[test]
    fn after_a_takeover_the_next_one_waits() {
        let all = opinions(2, 2);
        assert_eq!(judge(&all, Some(s(10)), s(30)), Verdict::CoolingDown { left: s(20) });
        assert_eq!(judge(&all, Some(s(30)), s(30)), Verdict::Lost);
        assert_eq!(judge(&opinions(1, 2), Some(s(1)), s(30)), Verdict::Disputed);
    }

    #[test]
    fn two_voters_say_that_they_are_two() {
        let two = topology(&[Role::Master, Role::Replica]);
        assert!(are_two(&two) && !can_fail_over(&two));
        let witnessed = topology(&[Role::Master, Role::Replica, Role::Witness]);
        assert!(!are_two(&witnessed) && can_fail_over(&witnessed));
        let alone = topology(&[Role::Master]);
        assert!(!are_two(&alone) && !can_fail_over(&alone));
        let useless = topology(&[Role::Master, Role::Witness, Role::Witness]);
        assert!(!can_fail_over(&useless), "nobody else holds data");
    }

    #[test]
    fn a_decision_tells_why() {
        let opinions = opinions(2, 3);
        let reasons =
            Reasons { name: "store_1", silence: Duration::from_millis(3210), opinions: &opinions };
        let text = "`store_1` has committed nothing for 3.2 s; 2 of 3 front ends say so";
        assert_eq!(reasons.to_string(), text);
    }
}
