//! A round: every data partition pulls what it lacks, then logs are trimmed.
//!
//! Flow: everybody is asked where they stand ([`super::standings`]); each target plans and pulls
//! ([`super::target`]), all of them at once; when all are done, logs are trimmed ([`super::trim`]).
//! What is shared between the threads of a job stands here: who takes part, what is known to be
//! durable, what is paused, and the report. Forgetting all of it costs time and nothing else. Any
//! number of front ends may run rounds at once.
//!
//! Voters are targets and sources. Read copies ([`PartitionId::is_copy`]) are targets only: what
//! they are made of is disposable, so nobody else rests on it, and they hold nothing back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::barrier::Barriers;
use super::pass::PageLimits;
use super::report::{Pair, Report, Trouble};
use super::standings::Standings;
use crate::clock::Clock;
use crate::lane::Connect;
use crate::topology::Topology;
use crate::version::{PartitionId, Version};

/// How long a partition is waited for that does not say where it stands: below anybody's deadline,
/// above what a busy server takes for a tiny question.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a pass waits for sources none of which says anything: above what a busy server takes
/// for a page and a barrier, below the default deadline of a request.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);

/// A partition that takes part.
#[derive(Clone)]
pub struct Member {
    /// Its id; read copies have ids of their own range.
    pub id: PartitionId,
    /// Its name, for the report.
    pub name: Arc<str>,
    /// How to reach it.
    pub connect: Arc<dyn Connect>,
}

/// What the threads of a job share.
pub struct Round {
    members: ArcSwap<Vec<Member>>,
    topology: Arc<ArcSwap<Topology>>,
    clock: Arc<dyn Clock>,
    log_retention: Duration,
    pub(super) barriers: Arc<Barriers>,
    pub(super) limits: PageLimits,
    pub(super) standings: Standings,
    board: Mutex<Board>,
    stopping: AtomicBool,
}

/// What is told of a pair, from pass to pass: a [`Pair`] without names.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) took: Duration,
    pub(super) lag: u64,
    /// How far the source was when it was last heard of.
    pub(super) head: Version,
    pub(super) covered_at: Option<Duration>,
    pub(super) error: Option<&'static str>,
    pub(super) last_error: Option<Trouble>,
    pub(super) paused: bool,
    pub(super) seeding: bool,
}

/// A target, and a source or, where the target itself is in trouble, none.
type Place = (PartitionId, Option<PartitionId>);

#[derive(Default)]
struct Board {
    rows: BTreeMap<Place, Row>,
    /// When each target's last pass began and ended: monotonic, wall, monotonic.
    passes: BTreeMap<PartitionId, (Duration, i64, Duration)>,
    paused: BTreeSet<PartitionId>,
    rounds: u64,
}

impl Round {
    /// Rounds over `members`: the data partitions of the set, and read copies. Starts the threads
    /// that ask them where they stand.
    pub fn start(
        members: Vec<Member>,
        topology: Arc<ArcSwap<Topology>>,
        clock: Arc<dyn Clock>,
        log_retention: Duration,
    ) -> std::io::Result<Self> {
        Ok(Self {
            standings: Standings::start(&members, &clock)?,
            members: ArcSwap::from_pointee(members),
            topology,
            clock,
            log_retention,
            barriers: Arc::default(),
            limits: PageLimits::default(),
            board: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Who takes part.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// From now on this one takes part, too.
    pub(crate) fn add(&self, member: &Member) -> std::io::Result<()> {
        self.standings.add(member)?;
        self.members.rcu(|members| {
            let others = members.iter().filter(|one| one.id != member.id);
            others.chain([member]).cloned().collect::<Vec<_>>()
        });
        Ok(())
    }

    /// From now on this one takes part no longer: its pass ends at its next page.
    pub(crate) fn remove(&self, id: PartitionId) {
        self.members
            .rcu(|members| members.iter().filter(|one| one.id != id).cloned().collect::<Vec<_>>());
        self.standings.remove(id);
    }

    /// What was told of one that is gone.
    pub(crate) fn forget(&self, id: PartitionId) {
        let mut board = self.board();
        board.rows.retain(|(target, source), _| *target != id && *source != Some(id));
        board.passes.remove(&id);
        board.paused.remove(&id);
    }

    /// The topology in use.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Time.
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How long logs are kept for followers.
    pub const fn log_retention(&self) -> Duration {
        self.log_retention
    }

    /// Passes that go on end at their next page.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether passes of this target are to end.
    pub(super) fn is_ending(&self, target: PartitionId) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.member(target).is_none()
    }

    pub(super) fn member(&self, id: PartitionId) -> Option<Member> {
        self.members.load().iter().find(|member| member.id == id).cloned()
    }

    fn name(&self, id: PartitionId) -> Option<Arc<str>> {
        Some(self.member(id)?.name)
    }

    /// From now on these targets pull nothing, or pull again: that of the name, or all. `false`: no
    /// target has the name.
    pub fn pause(&self, target: Option<&str>, paused: bool) -> bool {
        let named = |member: &&Member| target.is_none_or(|name| *member.name == *name);
        let ids: Vec<PartitionId> =
            self.members.load().iter().filter(named).map(|member| member.id).collect();
        let mut board = self.board();
        for id in &ids {
            if paused {
                board.paused.insert(*id);
            } else {
                board.paused.remove(id);
            }
            let rows = board.rows.iter_mut().filter(|((target, _), _)| target == id);
            rows.for_each(|(_, row)| row.paused = paused);
        }
        !ids.is_empty()
    }

    pub(super) fn is_paused(&self, target: PartitionId) -> bool {
        self.board().paused.contains(&target)
    }

    /// Changes what is told of a place, and logs trouble when it begins, changes or ends: passes
    /// are many.
    pub(super) fn note(&self, place: Place, change: impl FnOnce(&mut Row)) {
        let mut board = self.board();
        if self.is_known(place) {
            change(board.rows.entry(place).or_default());
        }
    }

    /// Whether something is to be told of a place: a pass may still have a page of one that takes
    /// part no longer. Asked under the board's lock: whoever leaves is forgotten after that.
    fn is_known(&self, (target, source): Place) -> bool {
        let members = self.members.load();
        let takes_part = |id: PartitionId| members.iter().any(|member| member.id == id);
        takes_part(target) && source.is_none_or(takes_part)
    }

    /// Notes what went wrong at a place, or that nothing does.
    pub(super) fn tell(&self, place: Place, trouble: Option<(&'static str, String)>) {
        let at_ms = self.clock.wall_ms();
        let what = trouble.as_ref().map(|(what, _)| *what);
        let mut board = self.board();
        if !self.is_known(place) {
            return;
        }
        let row = board.rows.entry(place).or_default();
        let before = std::mem::replace(&mut row.error, what);
        if let Some(what) = what {
            row.last_error = Some(Trouble { what, at_ms });
        }
        drop(board);
        let name = |id| self.name(id).unwrap_or_default();
        let (partition, source) = (name(place.0), place.1.map(name).unwrap_or_default());
        match trouble {
            Some((what, _)) if before == Some(what) => {}
            Some((_, error)) => tracing::warn!(%partition, %source, %error, "sync is held up"),
            None if before.is_some() => tracing::info!(%partition, %source, "sync goes on"),
            None => {}
        }
    }

    /// A target's pass has begun, or ended.
    pub(super) fn passed(&self, target: PartitionId, began: (Duration, i64)) {
        let ended = self.clock.monotonic();
        self.board().passes.insert(target, (began.0, began.1, ended));
    }

    /// One more round has come to its end: its report.
    pub fn finish(&self) -> Report {
        self.board().rounds += 1;
        self.report()
    }

    /// What the last passes did, and those that are under way have done so far.
    pub fn report(&self) -> Report {
        let board = self.board();
        let passes = || board.passes.values();
        let began = passes().map(|(began, _, _)| *began).min().unwrap_or_default();
        let ended = passes().map(|(_, _, ended)| *ended).max().unwrap_or_default();
        let name = |id| self.name(id);
        let pair = |(&(target, source), row): (&Place, &Row)| {
            let in_trouble = board.rows.get(&(target, None)).is_some_and(|row| row.error.is_some());
            if in_trouble != source.is_none() {
                return None;
            }
            Some(Pair {
                target: name(target)?,
                source: source.and_then(name),
                rows: row.rows,
                bytes: row.bytes,
                took: row.took,
                lag: row.lag,
                covered_at: row.covered_at,
                error: row.error,
                last_error: row.last_error,
                paused: board.paused.contains(&target),
                seeding: row.seeding,
            })
        };
        Report {
            round: board.rounds,
            started_ms: passes().map(|(_, wall, _)| *wall).min().unwrap_or_default(),
            took: ended.saturating_sub(began),
            pairs: board.rows.iter().filter_map(pair).collect(),
        }
    }

    /// What this front end knows to be durable where.
    pub const fn barriers(&self) -> &Arc<Barriers> {
        &self.barriers
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;
    use crate::partition::{Partition, PartitionError};
    use crate::topology::Role;

    struct Away;

    impl Connect for Away {
        fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
            Err(PartitionError::Unreachable("the cable is out".into()))
        }
    }

    #[test]
    fn of_whoever_has_left_nothing_is_told_any_more() {
        let roles = ["a", "b"].map(|name| (name.to_owned(), Role::Master));
        let topology = Topology::found(&roles.into_iter().collect()).unwrap();
        let member = |id: u16, name: &str| Member {
            id: PartitionId(id),
            name: name.into(),
            connect: Arc::new(Away),
        };
        let round = Round::start(
            vec![member(1, "a"), member(2, "b")],
            Arc::new(ArcSwap::from_pointee(topology)),
            Arc::new(Manual::at(0)),
            Duration::ZERO,
        );
        let round = round.unwrap();
        let pair = (PartitionId(2), Some(PartitionId(1)));
        let away = || Some(("unreachable", "the cable is out".to_owned()));
        round.tell(pair, away());
        assert_eq!(round.report().pairs.len(), 1);
        round.remove(PartitionId(1));
        round.forget(PartitionId(1));
        // The pass that was under way comes to its end.
        round.tell(pair, away());
        round.note(pair, |row| row.rows = 1);
        assert!(round.report().pairs.is_empty(), "{:?}", round.report().pairs);
    }
}
