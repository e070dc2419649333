//! One target's pass: what it lacks is pulled from all who have it, at once.
//!
//! Each source is read on a thread of its own, ahead of what the target takes in
//! ([`super::ahead`]); the pages of all sources come over one channel, so a source that is slow
//! holds up nobody but itself. A source that says nothing for [`SILENCE_MAX`] is left to itself:
//! the pass ends without it, and a page that comes later is taken in by the next pass (its claims
//! hold whenever it is applied, or the target refuses it).
//!
//! A read copy that is new, was left half made, or is below a floor of its source is *seeded*: made
//! anew from one voter ([`super::reseed`]). That may take long and nobody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::ahead::{AHEAD, Line, Then};
use super::pass::{self, PageLimits, Pages, Pull, PullError, Pulled, Step};
use super::reseed::{self, ReseedError, Seed};
use super::round::{Member, PATIENCE, Round, SILENCE_MAX, chain};
use super::standings::Standing;
use crate::lane::{DEAD_AT_ONCE, batch};
use crate::partition::{
    Partition, PartitionError, Refusal, ReseedNumber, ReseedStep, Result, Status,
};
use crate::version::PartitionId;

/// Larger steps than a pass takes: nobody else writes to a copy that is being seeded.
const SEED_LIMITS: PageLimits = PageLimits { entries_max: 4096, bytes_max: 4 << 20 };

/// What a source's thread sends.
struct Item {
    source: PartitionId,
    /// Of which pull from this source.
    turn: u64,
    step: Result<Step, PullError>,
}

/// A pull that has begun: where the target stood then, and what it has brought.
struct Open {
    turn: u64,
    standing: Status,
    pulled: Pulled,
    /// Tells the source's thread that nobody is interested any more.
    given_up: Arc<AtomicBool>,
}

/// What one target's thread owns.
pub struct Target {
    round: Arc<Round>,
    member: Member,
    connection: Option<Box<dyn Partition + Send>>,
    lines: BTreeMap<PartitionId, Arc<Line>>,
    items: Receiver<Item>,
    send: SyncSender<Item>,
    open: BTreeMap<PartitionId, Open>,
    turns: u64,
    /// How many seeds have failed in a row: the next one asks another source.
    failed_seeds: usize,
}

impl Target {
    /// The passes of one member of `round`.
    pub fn new(round: Arc<Round>, member: Member) -> Self {
        let (send, items) = sync_channel(AHEAD);
        let open = BTreeMap::new();
        let (connection, lines) = (None, BTreeMap::new());
        Self { round, member, connection, lines, items, send, open, turns: 0, failed_seeds: 0 }
    }

    /// Has a line to every voter that takes part now, and to nobody else.
    fn meet(&mut self) {
        let members = self.round.members();
        let is_source = |member: &&Member| !member.id.is_copy() && member.id != self.member.id;
        let sources: Vec<&Member> = members.iter().filter(is_source).collect();
        self.lines.retain(|id, _| sources.iter().any(|source| source.id == *id));
        for source in sources {
            let line = || Arc::new(Line::new(Arc::clone(&source.connect)));
            self.lines.entry(source.id).or_insert_with(line);
        }
    }

    /// Runs one pass. Where it will take long for the target's own sake, `long` is called first.
    pub fn pass(&mut self, mut long: impl FnMut()) {
        let clock = self.round.clock();
        let began = (clock.monotonic(), clock.wall_ms());
        self.meet();
        let (standing, sources) = self.ask();
        let Some(standing) = standing else {
            return self.round.passed(self.member.id, began);
        };
        // Told at once: what is under way may take long.
        self.note_lags(&standing, &sources);
        let standing = if self.round.is_paused(self.member.id) {
            Some(standing)
        } else if self.member.id.is_copy() && standing.reseeding {
            let seeded = self.seed(&sources, &standing, began, &mut long);
            match seeded.filter(|standing| !standing.reseeding) {
                // What was written meanwhile.
                Some(standing) => self.pull_all(standing, &sources, began, &mut long),
                None => None,
            }
        } else {
            self.pull_all(standing, &sources, began, &mut long)
        };
        if let Some(standing) = standing {
            self.note_lags(&standing, &sources);
            self.reissue_early(&standing);
        }
        for id in self.lines.keys() {
            self.round.note((self.member.id, Some(*id)), |row| row.seeding = false);
        }
        // Back to where it came from: passes may be far apart.
        self.connection = None;
        self.round.passed(self.member.id, began);
    }

    /// Where the target stands, if it says so, and where its sources do.
    fn ask(&self) -> (Option<Status>, BTreeMap<PartitionId, Standing>) {
        let own = self.member.id;
        let mut told = self.round.standings.ask(PATIENCE);
        let standing = match told.remove(&own) {
            Some(Ok(standing)) => Some(standing.status),
            Some(Err(error)) => {
                let told = (error.in_public(), chain(error.as_ref()));
                self.round.tell((own, None), Some(told));
                return (None, BTreeMap::new());
            }
            None => None,
        };
        self.round.tell((own, None), None);
        let mut sources = BTreeMap::new();
        for (id, told) in told.into_iter().filter(|(id, _)| self.lines.contains_key(id)) {
            match told {
                Ok(standing) => drop(sources.insert(id, standing)),
                Err(error) => {
                    let told = (error.in_public(), chain(error.as_ref()));
                    self.round.tell((own, Some(id)), Some(told));
                }
            }
            self.round.note((own, Some(id)), |row| {
                (row.rows, row.bytes, row.took) = (0, 0, Duration::ZERO);
            });
        }
        (standing, sources)
    }

    /// Pulls from everybody who has what the target lacks. Returns where it stands then, if that
    /// can be told.
    fn pull_all(
        &mut self,
        standing: Status,
        sources: &BTreeMap<PartitionId, Standing>,
        began: (Duration, i64),
        long: &mut dyn FnMut(),
    ) -> Option<Status> {
        let statuses: Vec<Status> = sources.values().map(|told| told.status.clone()).collect();
        let pulls = pass::plan(&standing, &statuses);
        for id in sources.keys().filter(|id| !pulls.iter().any(|pull| pull.source == **id)) {
            if !self.open.contains_key(id) {
                self.round.tell((self.member.id, Some(*id)), None);
            }
        }
        if pulls.is_empty() && self.open.is_empty() {
            return Some(standing);
        }
        // Over the connection that takes the pages in; asked again, since it may have died.
        let standing = self.own_status()?;
        for pull in pulls {
            self.begin(pull, &standing);
        }
        let below = self.take_all_in();
        if let Some(source) = below.filter(|_| self.member.id.is_copy()) {
            tracing::info!(partition = %self.member.name, "below a floor: made anew");
            let that = sources.iter().filter(|(id, _)| **id == source);
            let that = that.map(|(id, told)| (*id, told.clone())).collect();
            return self.seed(&that, &standing, began, long);
        }
        self.own_status()
    }

    /// Begins a pull, unless one from this source goes on from an earlier pass.
    fn begin(&mut self, pull: Pull, standing: &Status) {
        let source = pull.source;
        let Some(line) = self.lines.get(&source) else { return };
        if self.open.contains_key(&source) || !line.is_free() {
            return;
        }
        self.turns += 1;
        let turn = self.turns;
        let (round, topology) = (Arc::clone(&self.round), self.round.topology());
        let mut pages = Pages::above(&standing.vector, pull.origins, round.limits);
        let given_up = Arc::new(AtomicBool::new(false));
        let is_given_up = Arc::clone(&given_up);
        let next = move |partition: &mut dyn Partition| {
            let step = if is_given_up.load(Ordering::SeqCst) {
                Ok(Step::End)
            } else {
                pages.next(partition, &topology, &round.barriers)
            };
            let then = match &step {
                Ok(Step::Page(page)) if page.cut => Then::ReadOn,
                Ok(Step::Page(_) | Step::End | Step::Trimmed(_)) => Then::End,
                Err(PullError::Source(error)) => Then::after(error),
                Err(_) => Then::End,
            };
            (Item { source, turn, step }, then)
        };
        let refused = move |error| Item { source, turn, step: Err(PullError::Source(error)) };
        let name = format!("pull-{}-{source}", self.member.name);
        match line.read(name, self.send.clone(), next, refused) {
            Ok(()) => {
                let (standing, pulled) = (standing.clone(), Pulled::default());
                self.open.insert(source, Open { turn, standing, pulled, given_up });
            }
            Err(error) => {
                let told = ("no thread for it", error.to_string());
                self.round.tell((self.member.id, Some(source)), Some(told));
            }
        }
    }

    /// Takes in whatever comes, until all pulls have ended or those that are left say nothing.
    /// Returns a source below whose floor the target stands.
    fn take_all_in(&mut self) -> Option<PartitionId> {
        let mut below = None;
        while !self.open.is_empty() && !self.round.is_ending(self.member.id) {
            let item = match self.items.recv_timeout(SILENCE_MAX) {
                Ok(item) => item,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    for source in self.open.keys() {
                        let told = ("does not answer", "no page in time".to_owned());
                        self.round.tell((self.member.id, Some(*source)), Some(told));
                    }
                    break;
                }
            };
            let source = item.source;
            match self.take_in(item) {
                Ok(true) => {}
                Ok(false) => self.end(source, None),
                Err(error) => {
                    if matches!(error, PullError::BelowFloor { .. }) {
                        below = Some(source);
                    }
                    self.end(source, Some((error.in_public(), chain(&error))));
                }
            }
        }
        below
    }

    /// Whether the pull that the item belongs to goes on.
    fn take_in(&mut self, item: Item) -> Result<bool, PullError> {
        let source = item.source;
        let Some(mut open) = self.open.remove(&source) else { return Ok(true) };
        if open.turn != item.turn {
            // The rest of a pull that was given up.
            self.open.insert(source, open);
            return Ok(true);
        }
        let taken = item.step.and_then(|step| self.take_step_in(source, &step, &mut open));
        self.open.insert(source, open);
        taken
    }

    fn take_step_in(
        &mut self,
        source: PartitionId,
        step: &Step,
        open: &mut Open,
    ) -> Result<bool, PullError> {
        let began = self.round.clock().monotonic();
        let mut connection = self.take().map_err(PullError::Target)?;
        let more = pass::take_in(connection.as_mut(), &open.standing, step, &mut open.pulled);
        match &more {
            Err(PullError::Target(error)) => self.judge(connection, Some(error)),
            _ => self.judge(connection, None),
        }
        let took = self.round.clock().monotonic().saturating_sub(began);
        self.round.note((self.member.id, Some(source)), |row| {
            (row.rows, row.bytes) = (open.pulled.rows, open.pulled.bytes);
            row.took += took;
        });
        more
    }

    fn end(&mut self, source: PartitionId, trouble: Option<(&'static str, String)>) {
        if let Some(open) = self.open.remove(&source) {
            open.given_up.store(true, Ordering::SeqCst);
        }
        self.round.tell((self.member.id, Some(source)), trouble);
    }

    /// Where the target stands now; trouble with it is told.
    fn own_status(&mut self) -> Option<Status> {
        match self.with(|target| target.status()) {
            Ok(status) => Some(status),
            Err(error) => {
                let told = (error.in_public(), chain(&error));
                self.round.tell((self.member.id, None), Some(told));
                None
            }
        }
    }

    /// Makes the copy anew from one of `sources`, another one after each failure.
    fn seed(
        &mut self,
        sources: &BTreeMap<PartitionId, Standing>,
        standing: &Status,
        began: (Duration, i64),
        long: &mut dyn FnMut(),
    ) -> Option<Status> {
        let healthy: BTreeSet<PartitionId> = sources
            .iter()
            .filter(|(id, told)| !told.status.reseeding && self.lines[*id].is_free())
            .map(|(id, _)| *id)
            .collect();
        let target = self.member.id;
        let place = |source| (target, Some(source));
        let nth = self.failed_seeds.checked_rem(healthy.len()).unwrap_or(0);
        let source = healthy.into_iter().nth(nth)?;
        self.round.note(place(source), |row| row.seeding = true);
        self.round.passed(target, began);
        long();
        let result = self.seed_from(source);
        match result {
            Ok(()) => {
                self.failed_seeds = 0;
                self.round.tell(place(source), None);
                for id in self.lines.keys() {
                    // Below nobody's floor any more.
                    self.round.note(place(*id), |row| {
                        row.error.take_if(|error| *error == pass::BELOW_FLOOR);
                    });
                }
                tracing::info!(partition = %self.member.name, "seeded; it serves from now on");
                self.own_status()
            }
            Err(_) if self.round.is_ending(self.member.id) => None,
            Err(error) => {
                self.failed_seeds += 1;
                let what = error.in_public();
                self.round.tell(place(source), Some((what, chain(&error))));
                Some(standing.clone())
            }
        }
    }

    fn seed_from(&mut self, source: PartitionId) -> Result<(), ReseedError> {
        let mut connection = self.take().map_err(ReseedError::Target)?;
        let result = self.seed_over(connection.as_mut(), source);
        match &result {
            Err(ReseedError::Target(error)) => self.judge(connection, Some(error)),
            _ => self.judge(connection, None),
        }
        result
    }

    fn seed_over(
        &self,
        target: &mut dyn Partition,
        source: PartitionId,
    ) -> Result<(), ReseedError> {
        let began = self.round.clock().monotonic();
        let number: ReseedNumber = reseed::begin(target)?;
        let round = Arc::clone(&self.round);
        let mut seed = Seed::new(SEED_LIMITS);
        let (send, steps) = sync_channel::<Result<Option<ReseedStep>, ReseedError>>(AHEAD);
        let next = move |partition: &mut dyn Partition| {
            let step = seed.next(partition, &round.barriers);
            let then = match &step {
                Ok(Some(_)) => Then::ReadOn,
                Ok(None) => Then::End,
                Err(ReseedError::Source(error)) => Then::after(error),
                Err(_) => Then::End,
            };
            (step, then)
        };
        let name = format!("seed-{}-{source}", self.member.name);
        let refused = |error| Err(ReseedError::Source(error));
        let threadless = |error| ReseedError::Source(PartitionError::Unreachable(Box::new(error)));
        self.lines[&source].read(name, send, next, refused).map_err(threadless)?;
        while let Ok(step) = steps.recv() {
            let Some(step) = step? else { return Ok(()) };
            if self.round.is_ending(self.member.id) {
                break;
            }
            reseed::take_in(target, number, &step)?;
            let took = self.round.clock().monotonic().saturating_sub(began);
            self.round.note((self.member.id, Some(source)), |row| {
                if let ReseedStep::Rows(rows) = &step {
                    row.rows += rows.len();
                    row.bytes += rows.iter().map(crate::record::Record::weight).sum::<usize>();
                }
                row.took = took;
            });
        }
        Err(ReseedError::Target(Refusal::Reseeding.into()))
    }

    /// A pass may have brought early rows of the target's own slots, which nobody else will ever
    /// have in a log that goes on (H11).
    fn reissue_early(&mut self, standing: &Status) {
        let (id, topology) = (self.member.id, self.round.topology());
        let early = |(origin, head)| origin != id && head > standing.vector.get(origin);
        let may_have = !id.is_copy() && standing.heads.iter().any(early);
        if !may_have || !batch::may_reissue(id, &topology) {
            return;
        }
        let reissued = self.with(|target| {
            batch::open(target, &topology)?;
            batch::begin(target, id, &topology)
        });
        match reissued {
            Ok(0) => {}
            Ok(rows) => {
                tracing::info!(partition = %self.member.name, rows, "early rows taken over")
            }
            Err(error) => {
                tracing::debug!(partition = %self.member.name, error = chain(&error), "later");
            }
        }
    }

    /// How much of each source's own writes the target lacks, as far as is known, and since when at
    /// most.
    fn note_lags(&self, standing: &Status, sources: &BTreeMap<PartitionId, Standing>) {
        for id in self.lines.keys() {
            let (have, told) = (standing.vector.get(*id), sources.get(id));
            self.round.note((self.member.id, Some(*id)), |row| {
                if let Some(told) = told {
                    row.head = told.status.vector.get(*id);
                    if have >= row.head && !standing.reseeding {
                        row.covered_at = Some(told.at);
                    }
                }
                row.lag = row.head.seq().number().saturating_sub(have.seq().number());
            });
        }
    }

    /// Runs `work` over the target's connection; once more over a new one where that had died.
    fn with<T>(&mut self, mut work: impl FnMut(&mut dyn Partition) -> Result<T>) -> Result<T> {
        let began = self.round.clock().monotonic();
        let mut connection = self.take()?;
        let mut result = work(connection.as_mut());
        let is_prompt = self.round.clock().monotonic().saturating_sub(began) < DEAD_AT_ONCE;
        if is_prompt && result.as_ref().is_err_and(PartitionError::lost_connection) {
            drop(connection);
            connection = self.member.connect.connect()?;
            result = work(connection.as_mut());
        }
        self.judge(connection, result.as_ref().err());
        result
    }

    /// Keeps a connection, unless what it has met leaves it in doubt.
    fn judge(&mut self, connection: Box<dyn Partition + Send>, met: Option<&PartitionError>) {
        if matches!(met, Some(PartitionError::Damaged { .. })) {
            self.member.connect.tell_damaged();
        }
        if met.is_none_or(PartitionError::keeps_connection) {
            self.connection = Some(connection);
        }
    }

    fn take(&mut self) -> Result<Box<dyn Partition + Send>> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.member.connect.connect(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Threads that wait to be heard end.
        self.items = sync_channel(AHEAD).1;
        for line in self.lines.values() {
            // Their connections go back first.
            line.is_free();
        }
    }
}
