//! One history: a seeded schedule of operations and faults, then quiet.

use std::collections::BTreeMap;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use datastore::merge::Patch;
use datastore::record::{Body, Key};
use datastore::rules::{Rule, ablation};
use datastore::version::PartitionId;
use datastore::write::{Change, Condition, Expected, Write};

use crate::bugs::{Bug, Plant};
use crate::front::Session;
use crate::link::{Net, Stop};
use crate::world::{Setup, Shared, Violation, World};
use crate::{operations, ownership, upkeep};

/// Steps of a history.
pub const STEPS: u64 = 200;
/// Operations that may stand still at once; more would only be forgotten.
const OPERATIONS_MAX: usize = 24;
/// Plenty for the project's own code; small, since thousands are made.
const STACK_BYTES: usize = 256 << 10;

/// An operation about to begin.
pub struct NewOperation {
    pub kind: &'static str,
    pub front: usize,
    pub work: Box<dyn FnOnce(&Net<'_>)>,
}

impl NewOperation {
    pub fn new(kind: &'static str, front: usize, work: impl FnOnce(&Net<'_>) + 'static) -> Self {
        Self { kind, front, work: Box::new(work) }
    }
}

/// An operation that stands still.
pub struct Operation {
    coroutine: Coroutine<(), Stop, (), DefaultStack>,
    pub stop: Option<Stop>,
}

/// A running history.
pub struct History {
    pub world: Shared,
    pub operations: Vec<Operation>,
    stacks: Vec<DefaultStack>,
}

/// What came of a history.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub counters: BTreeMap<&'static str, u64>,
    pub trace: Vec<String>,
}

/// The setup that a seed draws.
pub fn setup(seed: u64) -> Setup {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let setup = Setup {
        masters: rng.usize(2..4),
        replicas: rng.usize(0..2).max(usize::from(rng.bool())),
        witnesses: 0,
        fronts: rng.usize(2..4),
        keys: rng.usize(8..33),
        calm: false,
    };
    Setup { witnesses: [0, 0, 0, 1, 2][rng.usize(..5)], calm: rng.u8(..3) == 0, ..setup }
}

/// Runs the history of `seed`.
pub fn run(seed: u64, plant: Option<Plant>, traced: bool) -> Verdict {
    let (bug, rules): (Option<Bug>, &[Rule]) = match plant {
        Some(Plant::Bug(bug)) => (Some(bug), &[]),
        Some(Plant::Without(rules)) => (None, rules),
        None => (None, &[]),
    };
    ablation::without(rules, || {
        let mut history = History::new(Shared::new(seed, setup(seed), bug, traced));
        for _ in 0..STEPS {
            history.step();
            if !history.world.get().violations.is_empty() {
                return history.verdict();
            }
        }
        history.quiet();
        history.verdict()
    })
}

impl History {
    pub fn new(world: Shared) -> Self {
        Self { world, operations: Vec::new(), stacks: Vec::new() }
    }

    fn verdict(mut self) -> Verdict {
        self.operations.clear();
        let mut world = self.world.get();
        Verdict {
            violations: std::mem::take(&mut world.violations),
            counters: std::mem::take(&mut world.counters),
            trace: world.trace.take().unwrap_or_default(),
        }
    }

    /// Begins an operation and runs it to its first stop.
    pub fn spawn(&mut self, new: NewOperation) {
        self.world.get().count(new.kind);
        let world = self.world.clone();
        let (front, work) = (new.front, new.work);
        let stack = self.stacks.pop().unwrap_or_else(|| DefaultStack::new(STACK_BYTES).unwrap());
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            work(&Net { world: &world, front, yielder: Some(yielder) });
        });
        self.operations.push(Operation { coroutine, stop: None });
        self.resume(self.operations.len() - 1);
    }

    /// Lets an operation go on to its next stop; removes it when it has ended.
    pub fn resume(&mut self, nth: usize) {
        let operation = &mut self.operations[nth];
        match operation.coroutine.resume(()) {
            CoroutineResult::Yield(stop) => operation.stop = Some(stop),
            CoroutineResult::Return(()) => {
                let done = self.operations.swap_remove(nth);
                self.stacks.push(done.coroutine.into_stack());
            }
        }
        let spawned = std::mem::take(&mut self.world.get().spawned);
        for new in spawned {
            self.spawn(new);
        }
    }

    /// Kills an operation where it stands.
    pub fn kill(&mut self, nth: usize) {
        self.world.get().note(|| "an operation is killed".to_owned());
        drop(self.operations.swap_remove(nth));
    }

    fn step(&mut self) {
        self.world.get().step += 1;
        self.world.get().let_time_pass();
        self.look();
        let dice = self.world.get().rng.u32(..1000);
        let full = self.operations.len() >= OPERATIONS_MAX;
        match dice {
            _ if !self.operations.is_empty() && (dice < 450 || full) => {
                self.world.get().count("advance");
                self.advance();
            }
            0..535 => self.write(),
            535..553 => self.sweep(),
            553..569 => self.verify(),
            569..581 => self.tamper(),
            581..614 => self.aged_read(),
            614..630 => self.suspect(),
            630..698 => self.pass(false),
            698..724 => self.pass(true),
            724..762 => self.session_read(),
            762..792 => self.follow(),
            792..819 => self.trim(),
            819..835 => self.reseed(),
            835..848 => self.epoch(),
            848..866 => self.hand_over(),
            866..887 => self.replace_voters(),
            887..922 => self.crash_or_restart(),
            922..954 => self.cut_or_heal(),
            954..966 => self.operate(),
            966..981 if !self.operations.is_empty() => {
                self.world.get().count("kill");
                let nth = self.world.get().rng.usize(..self.operations.len());
                self.kill(nth);
            }
            _ => self.burst(),
        }
        self.world.get().check_step();
    }

    fn advance(&mut self) {
        let nth = self.world.get().rng.usize(..self.operations.len());
        self.resume(nth);
    }

    pub fn front(&self) -> usize {
        let mut world = self.world.get();
        let fronts = world.fronts.len();
        world.rng.usize(..fronts)
    }

    /// Somebody who holds data.
    pub fn any_server(&self) -> PartitionId {
        let mut world = self.world.get();
        let ids = world.ids();
        world.rng.choice(ids).unwrap()
    }

    /// Somebody, and be it a witness.
    fn anybody(&self) -> PartitionId {
        let mut world = self.world.get();
        let ids = world.all_ids();
        world.rng.choice(ids).unwrap()
    }

    fn write(&mut self) {
        let front = self.front();
        let (write, by_majority, session) = draw_write(&self.world);
        let kind = match (&write.change, by_majority) {
            (Change::Delete | Change::Expire { .. }, _) => "delete",
            (Change::Update(_), _) => "update",
            (Change::Merge { .. }, _) => "merge",
            (Change::Set(_), true) => "set by majority",
            (Change::Set(_), false) => "set",
        };
        self.spawn(NewOperation::new(kind, front, move |net| {
            operations::write(net, write, by_majority, session);
        }));
    }

    fn sweep(&mut self) {
        let (front, id) = (self.front(), self.any_server());
        if !self.world.get().server(id).is_voter {
            return;
        }
        let work = move |net: &Net<'_>| upkeep::run_sweep(net, id);
        self.spawn(NewOperation::new("sweep", front, work));
        // And somebody writes what the sweep has seen to be over.
        let over = self.world.get().over_at(id);
        if let Some(key) = over {
            let (write, session) = (Write::set(key, body(&self.world)), new_session(&self.world));
            self.spawn(NewOperation::new("set", front, move |net| {
                operations::write(net, write, false, session);
            }));
        }
    }

    fn verify(&mut self) {
        let front = self.front();
        self.spawn(NewOperation::new("verify", front, upkeep::run_verify));
    }

    fn tamper(&self) {
        let id = self.any_server();
        let mut world = self.world.get();
        world.count("a hand at work");
        world.tamper(id);
    }

    fn operate(&self) {
        let id = self.any_server();
        let mut world = self.world.get();
        world.count("an operator at work");
        world.operate(id);
    }

    fn pass(&mut self, of_copy: bool) {
        let front = self.front();
        let target = if of_copy { self.world.get().copy() } else { self.any_server() };
        let kind = if of_copy { "pass of the copy" } else { "pass" };
        self.spawn(NewOperation::new(kind, front, move |net| operations::pass(net, target)));
    }

    fn session_read(&mut self) {
        let front = self.front();
        let target = self.any_server();
        let (nth, key) = {
            let mut world = self.world.get();
            if world.sessions.is_empty() {
                return;
            }
            let sessions = world.sessions.len();
            let nth = world.rng.usize(..sessions);
            let known: Vec<_> = world.sessions[nth].seen.keys().cloned().collect();
            let key = match world.rng.choice(known) {
                Some(key) => key,
                None => world.key(),
            };
            (nth, key)
        };
        self.spawn(NewOperation::new("session read", front, move |net| {
            operations::session_read(net, nth, &key, target);
        }));
    }

    fn follow(&mut self) {
        let (front, target) = (self.front(), self.any_server());
        let nth = {
            let mut world = self.world.get();
            let followers = world.followers.len();
            world.rng.usize(..followers)
        };
        self.spawn(NewOperation::new("follow", front, move |net| {
            operations::follow(net, nth, target);
        }));
    }

    fn trim(&mut self) {
        let (front, target) = (self.front(), self.any_server());
        let refresh = self.world.get().rng.bool();
        self.spawn(NewOperation::new("trim", front, move |net| {
            if refresh {
                ownership::refresh(net);
                ownership::drop_cuts(net);
            }
            operations::run_trim(net, target);
        }));
    }

    fn reseed(&mut self) {
        let front = self.front();
        let source = self.any_server();
        if self.world.get().server(source).is_voter {
            self.spawn(NewOperation::new("reseed", front, move |net| {
                operations::run_reseed(net, source);
            }));
        }
    }

    fn epoch(&mut self) {
        let front = self.front();
        self.spawn(NewOperation::new("epoch", front, ownership::raise_epoch));
    }

    fn crash_or_restart(&self) {
        let id = self.anybody();
        let mut world = self.world.get();
        if world.server(id).up {
            world.count("crash");
            world.crash(id);
        } else {
            world.count("restart");
            world.server_mut(id).up = true;
            world.note(|| format!("restart {id}"));
        }
    }

    fn cut_or_heal(&self) {
        let front = self.front();
        let away = [self.anybody(), self.anybody()];
        let mut world = self.world.get();
        if world.fronts[front].cut.is_empty() {
            world.count("cut");
            world.fronts[front].cut.extend(away);
        } else {
            world.count("heal");
            world.fronts[front].cut.clear();
        }
        let cut = world.fronts[front].cut.clone();
        world.note(|| format!("front end {front} is cut off from {cut:?}"));
    }

    /// A busy moment while every stalled operation stands still.
    fn burst(&self) {
        self.world.get().count("burst");
        let front = self.front();
        let (write, _, session) = draw_write(&self.world);
        let net = Net { world: &self.world, front, yielder: None };
        ownership::refresh(&net);
        let write = Write::delete(write.key);
        operations::write(&net, write, false, session);
        let ids = self.world.get().ids();
        for _ in 0..2 {
            for id in &ids {
                operations::pass(&net, *id);
            }
        }
        for id in &ids {
            operations::run_trim(&net, *id);
        }
        if self.world.get().rng.bool() {
            for id in &ids {
                operations::pass(&net, *id);
            }
        }
    }

    /// Faults stop; what stands still goes on or dies; passes run; everything must agree.
    pub fn quiet(&mut self) {
        self.world.get().note(|| "quiet".to_owned());
        {
            let mut world = self.world.get();
            let lost = world.lost_for_ever();
            for id in world.all_ids() {
                world.put_right(id);
                world.server_mut(id).up = Some(id) != lost;
            }
            for front in &mut world.fronts {
                front.cut.clear();
            }
        }
        if self.world.get().rng.u8(..10) < 6 {
            self.drain();
        }
        self.operations.clear();
        self.world.get().spawned.clear();
        self.finish_changes();
        for _ in 0..4 {
            self.quiet_round();
        }
        // Passes may have met what keeps a change from its end.
        self.finish_changes();
        let net = Net { world: &self.world, front: 0, yielder: None };
        for _ in 0..2 {
            self.quiet_round();
            ownership::drop_cuts(&net);
        }
        self.finish_following();
        self.world.get().check_quiet();
        self.probe_writes();
    }

    /// Lets what stands still go on, in random order, to its end.
    fn drain(&mut self) {
        for _ in 0..2000 {
            if self.operations.is_empty() {
                return;
            }
            self.advance();
            self.world.get().check_step();
        }
    }

    fn quiet_round(&self) {
        let ids = self.world.get().ids();
        let fronts = self.world.get().fronts.len();
        let net = Net { world: &self.world, front: 0, yielder: None };
        for front in 0..fronts {
            ownership::refresh(&Net { front, ..net });
        }
        upkeep::run_verify(&net);
        for id in ids {
            operations::pass(&net, id);
            self.world.get().check_step();
        }
        let copy = self.world.get().copy();
        if self.world.get().server(copy).status().reseeding {
            let voter = self.world.get().any_voter();
            operations::run_reseed(&net, voter);
        }
        self.world.get().check_step();
    }

    /// LIVE: every master takes a write again.
    fn probe_writes(&self) {
        let net = Net { world: &self.world, front: 1, yielder: None };
        let keys = self.world.get().setup.keys;
        for nth in 0..keys {
            let key =
                datastore::record::Key::stored(datastore::record::Space::Data, format!("k{nth}"));
            let session = new_session(&self.world);
            operations::write(&net, Write::set(key.clone(), body(&self.world)), true, session);
            let mut world = self.world.get();
            if !world.sessions[session].seen.contains_key(&key) {
                let master = world.register.master_of(&key);
                world.violate("LIVE", format!("{master} takes no write of {key:?}"));
            }
            world.check_step();
        }
        let mut world = self.world.get();
        let copy = world.copy();
        if world.server(copy).status().reseeding {
            world.violate("LIVE", format!("copy {copy} never came back"));
        }
    }

    fn finish_following(&self) {
        let net = Net { world: &self.world, front: 0, yielder: None };
        let (ids, followers) = {
            let world = self.world.get();
            (world.ids(), world.followers.len())
        };
        for nth in 0..followers {
            for _ in 0..40 {
                for id in &ids {
                    operations::follow(&net, nth, *id);
                }
            }
        }
    }
}

fn body(world: &Shared) -> Body {
    // JSON, so that there is something to merge into.
    let value = format!(r#"{{"v": {}}}"#, world.get().rng.u32(..)).into();
    Body { value, content_type: "application/json".into(), expires_at: None }
}

fn new_session(world: &Shared) -> usize {
    let mut world = world.get();
    world.sessions.push(Session::default());
    world.sessions.len() - 1
}

fn draw_write(world: &Shared) -> (Write, bool, usize) {
    let body = body(world);
    let fresh = world.get().sessions.is_empty() || world.get().rng.bool();
    let session = if fresh {
        new_session(world)
    } else {
        let mut world = world.get();
        let sessions = world.sessions.len();
        world.rng.usize(..sessions)
    };
    let mut world = world.get();
    let key = world.key();
    let mut write = Write::new(key, draw_change(&mut world, body));
    write.condition = draw_condition(&mut world, &write.key);
    if !matches!(write.change, datastore::write::Change::Delete) {
        write.ttl = world.ttl();
    }
    let by_majority = world.rng.u8(..3) == 0;
    (write, by_majority, session)
}

fn draw_change(world: &mut World, body: Body) -> Change {
    match world.rng.u8(..20) {
        0..7 => Change::Delete,
        7..9 => Change::Update(body),
        9..11 => {
            let patch = Patch::parse(format!(r#"{{"m": {}}}"#, world.rng.u32(..)).into()).unwrap();
            Change::Merge { patch, value_bytes_max: 1 << 20 }
        }
        _ => Change::Set(body),
    }
}

/// Half of those who name a version name the one that was acknowledged last: others may have
/// written since, or write at the same time.
fn draw_condition(world: &mut World, key: &Key) -> Condition {
    let known = world.ledger.newest_acknowledged(key);
    match world.rng.u8(..20) {
        0 => Condition { if_match: None, if_none_match: Some(Expected::Any) },
        1 => Condition { if_match: Some(Expected::Any), if_none_match: None },
        2 => Condition { if_match: None, if_none_match: Some(Expected::OneOf(vec![known])) },
        3..6 => Condition { if_match: Some(Expected::OneOf(vec![known])), if_none_match: None },
        _ => Condition::NONE,
    }
}
