//! What front ends do: each function is one operation, over connections that stop.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use datastore::ack::{self, Tally};
use datastore::feed::{self, FeedError, Gone, Position, Selection};
use datastore::lane::batch::{self, Batch, BatchError};
use datastore::partition::{Found, Get, Partition, PartitionError, Status};
use datastore::record::{Key, Record};
use datastore::session::{self, Seen, SessionError};
use datastore::sync::pass::{self, PageLimits, Pages, Pull, PullError, Pulled, Step};
use datastore::sync::{reseed, trim};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Version};
use datastore::write::{Change, Outcome, Write};

use crate::bugs::{Bug, Planted};
use crate::front::Ticket;
use crate::history::NewOperation;
use crate::link::Net;
use crate::ownership;
use crate::world::World;

/// Small pages, so that they are cut.
fn limits(net: &Net<'_>) -> PageLimits {
    let mut world = net.world.get();
    let drawn = world.rng.usize(1..6);
    let entries_max = world.entries_max.unwrap_or(drawn);
    PageLimits { entries_max, bytes_max: 1 << 20 }
}

/// A client's write: onto the lane of its master, then, for a majority, pushed to the others.
pub fn write(net: &Net<'_>, write: Write, by_majority: bool, session: usize) {
    let key = write.key.clone();
    let (topology, floor) = {
        let world = net.world.get();
        (world.fronts[net.front].topology.clone(), world.ledger.newest_acknowledged(&key))
    };
    let master = topology.master_of(&key);
    let ticket = Ticket::default();
    {
        let mut world = net.world.get();
        if write.change == Change::Delete {
            *world.deletes.entry(key.clone()).or_default() += 1;
        }
        let front = net.front;
        let lane = world.fronts[front].lanes.entry(master).or_default();
        lane.queue.push_back((write.clone(), Rc::clone(&ticket)));
        if !lane.busy {
            lane.busy = true;
            world.spawned.push(NewOperation::new("lane", front, move |net| run_lane(net, master)));
        }
    }
    if net.yielder.is_none() {
        run_spawned(net);
    }
    if !net.wait(|| ticket.borrow().is_some()) {
        return;
    }
    let Some(Ok(outcome)) = ticket.borrow_mut().take() else { return };
    if write.change == Change::Delete
        && let Some(asked) = net.world.get().deletes.get_mut(&key)
    {
        *asked -= 1;
    }
    let Some(version) = outcome.version() else { return };
    if by_majority && !push_to_majority(net, &write, master, &outcome) {
        return;
    }
    let mut world = net.world.get();
    world.note(|| format!("acknowledged {key:?} {version} of {master}, majority: {by_majority}"));
    world.acknowledge(&key, master, version, floor, by_majority);
    world.note_condition(&write, master, version);
    let session = &mut world.sessions[session];
    session.token.raise(master, version);
    let seen = session.seen.entry(key).or_default();
    *seen = version.max(*seen);
}

/// Runs what an operation has spawned, where there is nobody to stop for.
fn run_spawned(net: &Net<'_>) {
    loop {
        let Some(operation) = net.world.get().spawned.pop() else { return };
        (operation.work)(&Net { front: operation.front, ..*net });
    }
}

fn push_to_majority(net: &Net<'_>, write: &Write, master: PartitionId, outcome: &Outcome) -> bool {
    let topology = net.world.get().fronts[net.front].topology.clone();
    let Some(row) = outcome.row(write, master) else { return false };
    let others: Vec<PartitionId> =
        topology.data_voters().map(|voter| voter.id).filter(|id| *id != master).collect();
    let tally = Rc::new(RefCell::new(Tally::new(others.len(), topology.majority())));
    for target in others {
        let (tally, row, topology) = (Rc::clone(&tally), row.clone(), topology.clone());
        net.world.get().spawned.push(NewOperation::new("push", net.front, move |net| {
            let pushed = net
                .pooled(target)
                .and_then(|mut target| ack::push(&mut target, slice::from_ref(&row), &topology));
            net.world.get().note(|| format!("push {row:?} to {target}: {pushed:?}"));
            tally.borrow_mut().note(pushed.is_ok());
        }));
    }
    if net.yielder.is_none() {
        run_spawned(net);
    }
    net.wait(|| tally.borrow().verdict().is_some()) && tally.borrow().verdict() == Some(true)
}

/// What a lane's thread does while something is waiting.
pub fn run_lane(net: &Net<'_>, id: PartitionId) {
    let guard = LaneGuard { net: *net, id, tickets: RefCell::default() };
    loop {
        let writes = guard.next_batch();
        if writes.is_empty() {
            return;
        }
        let answers = guard.commit(&writes);
        for (ticket, answer) in guard.tickets.take().into_iter().zip(answers) {
            if let Some(version) = answer.as_ref().ok().and_then(Outcome::version) {
                net.world.get().fronts[net.front].barriers.flushed(id, version);
            }
            ticket.replace(Some(answer));
        }
    }
}

/// Gives the lane free when the operation ends or is killed; what was in flight stays unknown.
struct LaneGuard<'a> {
    net: Net<'a>,
    id: PartitionId,
    tickets: RefCell<Vec<Ticket>>,
}

impl LaneGuard<'_> {
    fn next_batch(&self) -> Vec<Write> {
        let mut world = self.net.world.get();
        let drawn = world.rng.usize(1..5);
        let rows_max = world.rows_max.unwrap_or(drawn);
        let lane = world.fronts[self.net.front].lanes.entry(self.id).or_default();
        let take = rows_max.min(lane.queue.len());
        let (writes, tickets) = lane.queue.drain(..take).unzip();
        self.tickets.replace(tickets);
        writes
    }

    fn commit(&self, writes: &[Write]) -> Vec<Result<Outcome, BatchError>> {
        let failed = |error: &BatchError| writes.iter().map(|_| Err(error.clone())).collect();
        let mut connection = match self.open() {
            Ok(connection) => connection,
            Err(error) => return failed(&BatchError::NotWritten(Arc::new(error))),
        };
        let topology = self.net.world.get().fronts[self.net.front].topology.clone();
        let refresh = |_: Epoch| {
            ownership::refresh(&self.net);
            Some(Arc::new(self.net.world.get().fronts[self.net.front].topology.clone()))
        };
        let mut begun = self.begun();
        let batch = Batch { writes, begun: &mut begun, sealed: &mut || {} };
        let answers = batch::commit_refreshing(&mut connection, self.id, &topology, batch, refresh);
        self.set_begun(begun);
        let broken = |error: &BatchError| {
            matches!(error, BatchError::NotWritten(error) | BatchError::OutcomeUnknown(error)
                if !error.keeps_connection())
        };
        if answers.iter().any(|answer| answer.as_ref().is_err_and(broken)) {
            self.set_open(None);
        }
        self.pass_fence(&answers);
        let mut world = self.net.world.get();
        if writes.len() > 1 {
            world.count("a batch of several writes");
        }
        world.note(|| format!("lane of {} commits {writes:?}: {answers:?}", self.id));
        answers
    }

    /// H13: whoever meets a clock above the register has the fence passed forward, after a while.
    fn pass_fence(&self, answers: &[Result<Outcome, BatchError>]) {
        let fenced = |answer: &Result<Outcome, BatchError>| match answer {
            Err(BatchError::Fenced { clock }) => Some(*clock),
            _ => None,
        };
        if let Some(clock) = answers.iter().find_map(fenced) {
            let work = move |net: &Net<'_>| {
                ownership::unfence(net, clock);
            };
            self.net.world.get().spawned.push(NewOperation::new("unfence", self.net.front, work));
        }
    }

    fn open(&self) -> Result<Planted<'_>, PartitionError> {
        let known = {
            let mut world = self.net.world.get();
            let boot = world.server(self.id).boot;
            let lane = world.fronts[self.net.front].lanes.entry(self.id).or_default();
            (lane.open == Some(boot)).then_some(boot)
        };
        if let Some(boot) = known {
            return Ok(self.net.reuse(self.id, boot));
        }
        let boot = self.net.world.get().server(self.id).boot;
        // OPEN-1: a lane opens only under a topology read since its connection was made.
        if !ownership::refresh(&self.net) {
            return Err(PartitionError::Unreachable("no quorum to read the topology".into()));
        }
        let topology = self.net.world.get().fronts[self.net.front].topology.clone();
        self.net.connect(self.id)?;
        let mut connection = self.net.reuse(self.id, boot);
        batch::open(&mut connection, &topology)?;
        self.set_open(Some(boot));
        Ok(connection)
    }

    fn set_open(&self, open: Option<u64>) {
        let mut world = self.net.world.get();
        let lane = world.fronts[self.net.front].lanes.entry(self.id).or_default();
        (lane.open, lane.begun) = (open, None);
    }

    fn begun(&self) -> Option<Epoch> {
        self.net.world.get().fronts[self.net.front].lanes.get(&self.id)?.begun
    }

    fn set_begun(&self, begun: Option<Epoch>) {
        let mut world = self.net.world.get();
        world.fronts[self.net.front].lanes.entry(self.id).or_default().begun = begun;
    }
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let mut world = self.net.world.get();
        let Some(front) = world.fronts.get_mut(self.net.front) else { return };
        let lane = front.lanes.entry(self.id).or_default();
        lane.busy = false;
        let killed: Vec<Ticket> = self.tickets.take();
        let waiting = lane.queue.drain(..).map(|(_, ticket)| ticket);
        for ticket in killed.into_iter().chain(waiting) {
            let gone = PartitionError::OutcomeUnknown("the lane is gone".into());
            ticket.replace(Some(Err(BatchError::OutcomeUnknown(Arc::new(gone)))));
            lane.open = None;
        }
    }
}

/// One target pulls what it lacks from everybody in reach.
pub fn pass(net: &Net<'_>, target: PartitionId) {
    let Ok(mut to) = net.pooled(target) else { return };
    let Ok(standing) = to.status() else { return };
    if standing.reseeding {
        // A copy that joins, or whose seed broke off; of voters those that join.
        let source = {
            let mut world = net.world.get();
            world.count("a copy was seeded by its pass");
            world.any_voter()
        };
        if target == net.world.get().copy() {
            run_reseed(net, source);
        }
        return;
    }
    let others: Vec<PartitionId> =
        net.world.get().ids().into_iter().filter(|id| *id != target).collect();
    let mut statuses: Vec<Status> = Vec::new();
    for id in others {
        statuses.extend(net.connect(id).and_then(|mut source| source.status()));
    }
    for planned in some_plan(net, &standing, &statuses) {
        pull(net, &mut to, &planned);
    }
    // Early rows of the target's own slots.
    let topology = net.world.get().fronts[net.front].topology.clone();
    if batch::may_reissue(target, &topology) {
        let begun = batch::open(&mut to, &topology);
        let begun = begun.and_then(|()| batch::begin(&mut to, target, &topology));
        if begun.is_ok_and(|rows| rows > 0) {
            net.world.get().count("a pass had early rows re-issued");
        }
    }
}

/// One target pulls from one source.
pub fn pull_from(net: &Net<'_>, target: PartitionId, source: PartitionId) {
    let Ok(mut to) = net.pooled(target) else { return };
    let origins = net.world.get().ids().into_iter().filter(|id| *id != target).collect();
    pull(net, &mut to, &Pull { source, origins });
}

fn pull(net: &Net<'_>, to: &mut Planted<'_>, pull: &Pull) {
    let Ok(mut from) = net.pooled(pull.source) else { return };
    let target = to.id();
    let (topology, barriers) = {
        let world = net.world.get();
        let front = &world.fronts[net.front];
        (front.topology.clone(), Rc::clone(&front.barriers))
    };
    let limits = limits(net);
    // Not in scripts, which know what comes when.
    let ahead = {
        let mut world = net.world.get();
        let drawn = world.rng.usize(..3);
        if world.pooled.is_none() { drawn } else { 0 }
    };
    let result = if ahead == 0 {
        pass::pull(to, &mut from, &pull.origins, &topology, &barriers, limits)
    } else {
        net.world.get().count("a pull read ahead");
        let next = |pages: &mut Pages| pages.next(&mut from, &topology, &barriers);
        pull_ahead(to, pull, limits, ahead, next)
    };
    net.world.get().note(|| format!("{target} pulls {pull:?}: {result:?}"));
    match result {
        Ok(pulled) if pulled.pages > 1 => net.world.get().count("a pull of several pages"),
        Ok(_) => {}
        Err(PullError::BelowFloor { .. }) => below_floor(net, target, pull.source),
        Err(PullError::TopologyOld { .. }) => {
            net.world.get().count("a page was newer than the topology");
            ownership::refresh(net);
        }
        Err(PullError::Source(_) | PullError::Target(_)) => {}
    }
}

/// The project's own pull, with up to `ahead` pages read before the first of them is taken in.
fn pull_ahead(
    to: &mut Planted<'_>,
    pull: &Pull,
    limits: PageLimits,
    ahead: usize,
    mut next: impl FnMut(&mut Pages) -> Result<Step, PullError>,
) -> Result<Pulled, PullError> {
    let standing = to.status().map_err(PullError::Target)?;
    let mut pulled = Pulled::default();
    if standing.reseeding {
        return Ok(pulled);
    }
    let mut pages = Pages::above(&standing.vector, pull.origins.clone(), limits);
    let mut read: VecDeque<Step> = VecDeque::new();
    loop {
        let goes_on = |step: &Step| matches!(step, Step::Page(_));
        while read.len() <= ahead && read.back().is_none_or(goes_on) {
            read.push_back(next(&mut pages)?);
        }
        let Some(step) = read.pop_front() else { return Ok(pulled) };
        if !pass::take_in(to, &standing, &step, &mut pulled)? {
            return Ok(pulled);
        }
    }
}

/// The project's own plan, or, half of the time, any other: what is safe must not rest on a good
/// plan.
fn some_plan(net: &Net<'_>, target: &Status, sources: &[Status]) -> Vec<Pull> {
    let mut world = net.world.get();
    if world.rng.bool() {
        return pass::plan(target, sources);
    }
    let mut sources: Vec<&Status> = sources.iter().collect();
    world.rng.shuffle(&mut sources);
    let mut pulls = Vec::new();
    for source in sources {
        let known = source.vector.iter().chain(source.heads.iter()).map(|(origin, _)| origin);
        let all = world.rng.bool();
        let origins: BTreeSet<PartitionId> =
            known.filter(|origin| *origin != target.partition).collect();
        let some = origins.into_iter().filter(|_| all || world.rng.bool()).collect();
        pulls.push(Pull { source: source.partition, origins: some });
    }
    pulls
}

/// A read copy is made anew; an active voter never gets here.
fn below_floor(net: &Net<'_>, target: PartitionId, source: PartitionId) {
    let (is_voter, is_copy) = {
        let world = net.world.get();
        (world.register.holding_back().any(|voter| voter.id == target), world.copy() == target)
    };
    if is_voter {
        let detail = format!("voter {target} is below a floor of {source}");
        net.world.get().violate("FLOOR", detail);
        return;
    }
    if !is_copy {
        return;
    }
    net.world.get().count("a copy fell below a floor");
    // The copy's own source may be anybody who masters: the one that has trimmed will do.
    if net.world.get().server(source).is_voter {
        run_reseed(net, source);
    }
}

/// The read copy is made anew from a voter.
pub fn run_reseed(net: &Net<'_>, source: PartitionId) {
    let copy = net.world.get().copy();
    make(net, copy, source);
}

/// A partition that serves nothing yet is made from a voter.
pub fn make(net: &Net<'_>, target: PartitionId, source: PartitionId) {
    let (Ok(mut to), Ok(mut from)) = (net.pooled(target), net.pooled(source)) else { return };
    let barriers = Rc::clone(&net.world.get().fronts[net.front].barriers);
    let limits = limits(net);
    let result = reseed::reseed(&mut to, &mut from, &barriers, limits);
    let mut world = net.world.get();
    world.note(|| format!("reseed of {target} from {source}: {result:?}"));
    world.count(match result {
        Ok(()) => "a reseed came to its end",
        Err(reseed::ReseedError::Again) => "a reseed has to begin again",
        Err(reseed::ReseedError::SourceChanged) => "a reseed's source changed",
        Err(reseed::ReseedError::Source(_) | reseed::ReseedError::Target(_)) => "a reseed failed",
    });
}

/// Floors are computed over all voters and applied at one partition.
pub fn run_trim(net: &Net<'_>, target: PartitionId) {
    let topology = net.world.get().fronts[net.front].topology.clone();
    let allowed = topology.data_voters().map(|voter| {
        net.pooled(voter.id).and_then(|mut voter| trim::allowed_by(&mut voter, &topology))
    });
    let allowed: Vec<_> = allowed.collect();
    let Ok(Some(floor)) = trim::floor(allowed) else { return };
    let Ok(mut partition) = net.pooled(target) else { return };
    let result = trim::apply(&mut partition, &floor, topology.epoch());
    let mut world = net.world.get();
    world.note(|| format!("trim of {target} to {floor:?}: {result:?}"));
    if result.is_ok_and(|trimmed| trimmed.tombstones > 0) {
        world.count("tombstones were collected");
    }
}

/// A client reads a key with its token, anywhere.
pub fn session_read(net: &Net<'_>, nth: usize, key: &Key, target: PartitionId) {
    let (token, before) = {
        let world = net.world.get();
        let session = &world.sessions[nth];
        (session.token.clone(), session.seen.clone())
    };
    let Ok(mut partition) = net.connect(target) else { return };
    let boot = net.world.get().server(target).boot;
    let known = net.world.get().fronts[net.front].seen.remove(&target);
    let mut seen = known.filter(|(run, _)| *run == boot).map_or(Seen::default(), |(_, seen)| seen);
    let get = Get { keys: std::slice::from_ref(key), inline_bytes_max: usize::MAX };
    let ignored = net.world.get().bug == Some(Bug::TokenIgnored);
    let asked = if ignored { Vector::new() } else { token };
    let result = session::get_covered(&mut partition, &mut seen, &get, &asked);
    let mut world = net.world.get();
    world.note(|| format!("session {nth} reads {key:?} at {target}: {result:?}"));
    match result {
        Ok(fetched) => {
            let row = match fetched.rows.into_iter().next().flatten() {
                Some(Found::Row(row)) => Some(row),
                // Damaged: to be had elsewhere.
                Some(Found::Damaged) => return,
                Some(Found::Large { .. }) | None => None,
            };
            world.fronts[net.front].seen.insert(target, (boot, seen));
            if world.server(target).status().reseeding {
                world.violate("RYW-1", format!("{target} serves while it is reseeded"));
            }
            check_session(&mut world, nth, key, row, &before);
        }
        Err(SessionError::NotCovered { .. }) => {
            world.fronts[net.front].seen.insert(target, (boot, seen));
            world.count("a session read was refused: behind");
        }
        Err(SessionError::Partition(_)) => {}
    }
}

fn check_session(
    world: &mut crate::world::World,
    nth: usize,
    key: &Key,
    row: Option<Record>,
    before: &BTreeMap<Key, Version>,
) {
    world.count("a session read was served");
    let wanted = before.get(key).copied().unwrap_or_default();
    // A client may have read at the master what a crash took back before it was durable.
    let taken_back = world.ledger.was_lost(key, wanted);
    if wanted > Version::ZERO && !taken_back && !world.is_no_less(key, row.as_ref(), wanted) {
        let detail = format!("session {nth} has seen {wanted} of {key:?} and is given {row:?}");
        world.violate("RYW-1", detail);
    }
    if let Some(row) = row {
        let session = &mut world.sessions[nth];
        session.token.raise(row.origin, row.version);
        let seen = session.seen.entry(row.key).or_default();
        *seen = row.version.max(*seen);
    }
}

/// Whether nobody whom the front end reaches has what a follower has seen of a lost origin.
fn is_gone(net: &Net<'_>, position: &Vector) -> bool {
    let world = net.world.get();
    let topology = &world.fronts[net.front].topology;
    let there = || world.ids().into_iter().filter(|id| world.reaches(net.front, *id));
    let best = |origin| {
        there().map(|id| world.server(id).status().vector.get(origin)).max().unwrap_or_default()
    };
    Gone::of(topology, best).iter().any(|gone| gone.takes(position))
}

/// Whose logs may go on after where a follower stands: whoever is there, has given it something, or
/// is known to `target`.
fn logs(world: &World, nth: usize, target: PartitionId) -> BTreeSet<PartitionId> {
    let seen = world.followers[nth].position.seen().cloned().unwrap_or_default();
    let known = world.server(target).status().vector;
    let named = seen.iter().chain(known.iter()).map(|(origin, _)| origin);
    world.ids().into_iter().chain(named).collect()
}

/// A follower asks a partition for its next page.
pub fn follow(net: &Net<'_>, nth: usize, target: PartitionId) {
    let (position, turn, barriers, selection) = {
        let mut world = net.world.get();
        let barriers = Rc::clone(&world.fronts[net.front].barriers);
        // Each log by itself, at its origin or elsewhere, or all of them together; those of
        // origins that have left as well.
        let logs = logs(&world, nth, target);
        let origins = match world.rng.u8(..4) {
            0 => logs,
            1 => logs.iter().nth(world.rng.usize(..logs.len())).copied().into_iter().collect(),
            _ => [target].into(),
        };
        let follower = &world.followers[nth];
        let selection = Selection { prefix: follower.prefix.clone(), origins };
        (follower.position.clone(), follower.turn, barriers, selection)
    };
    if position.within().is_some_and(|vector| is_gone(net, vector)) {
        let mut world = net.world.get();
        let follower = &mut world.followers[nth];
        follower.turn += 1;
        follower.position = Position::Start;
        follower.state.clear();
        return world.count("a follower had seen what is gone");
    }
    let Ok(mut partition) = net.pooled(target) else { return };
    let limits = limits(net);
    let result = feed::page(&mut partition, &position, &selection, &barriers, limits);
    let mut world = net.world.get();
    if world.followers[nth].turn != turn {
        return;
    }
    world.note(|| format!("follower {nth} at {target} from {position:?}: {result:?}"));
    match result {
        Ok(page) => {
            world.check_given(&page.rows);
            let ahead = world.bug == Some(Bug::FeedAhead) && world.rng.u8(..5) == 0;
            let head = world.server(target).status().vector;
            let follower = &mut world.followers[nth];
            follower.turn += 1;
            follower.position = match page.next {
                Position::Tail(_) if ahead => Position::Tail(head),
                Position::Start | Position::Snapshot { .. } | Position::Tail(_) => page.next,
            };
            for row in page.rows {
                let event = (row.version, !row.is_tombstone());
                let state = follower.state.entry(row.key).or_default();
                *state = event.max(*state);
            }
            world.count("a follower was served");
        }
        Err(FeedError::Reset) => {
            let follower = &mut world.followers[nth];
            follower.turn += 1;
            follower.position = Position::Start;
            follower.state.clear();
            world.count("a follower was reset");
        }
        Err(FeedError::NotCovered) => world.count("a follower was sent elsewhere"),
        Err(FeedError::Partition(_)) => {}
    }
}
