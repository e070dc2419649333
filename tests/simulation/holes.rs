//! The holes of earlier protocols as scripted histories, each named after its hole.
//!
//! Every script runs clean with all rules; without the rules that close its hole a checker must
//! notice. Servers 1 and 2 are masters, 3 is a replica, 100 the read copy; the keys of a script
//! belong to the first master. An operation that a script holds stops before every transaction and
//! at every commit that is visible and not yet durable.

use datastore::record::{Body, Key, Space};
use datastore::rules::Rule;
use datastore::version::PartitionId;
use datastore::write::Write;

use crate::front::Session;
use crate::history::{History, NewOperation};
use crate::link::{Net, Stop};
use crate::world::{Setup, Shared};
use crate::{ages, operations, ownership};

pub const A: PartitionId = PartitionId(1);
pub const B: PartitionId = PartitionId(2);
pub const C: PartitionId = PartitionId(3);
pub const COPY: PartitionId = PartitionId::EMBEDDED_COPY;

/// A stopped operation of a script.
pub struct Held(usize);

/// A history whose schedule is written down.
pub struct Script {
    history: History,
    pub world: Shared,
    held: usize,
}

impl Script {
    pub fn new() -> Self {
        Self::with_witnesses(0)
    }

    /// With witnesses, which come after C.
    pub fn with_witnesses(witnesses: usize) -> Self {
        let setup = Setup { masters: 2, replicas: 1, witnesses, fronts: 2, keys: 4, calm: true };
        let world = Shared::new(1, setup, None, false);
        world.get().stops = 100;
        world.get().pooled = Some(false);
        world.get().scripted = true;
        world.get().entries_max = Some(100);
        let script = Self { history: History::new(world.clone()), world, held: 0 };
        // A copy serves, and takes pages, once it was seeded: here from one that knows nobody yet.
        script.run(0, |net| operations::run_reseed(net, C));
        // Reading the register for the first time makes durable what it is read from.
        for front in [0, 1] {
            script.run(front, |net| {
                ownership::refresh(net);
            });
        }
        script
    }

    /// The `nth` key that is master 1's at first.
    pub fn key(&self, nth: usize) -> Key {
        let topology = self.world.get().acted.values().next().unwrap().clone();
        let keys = (0..).map(|n| Key::stored(Space::Data, format!("k{n}")));
        keys.filter(|key| topology.master_of(key) == A).nth(nth).unwrap()
    }

    /// Runs an operation to its end.
    pub fn run(&self, front: usize, work: impl FnOnce(&Net<'_>)) {
        work(&Net { world: &self.world, front, yielder: None });
        self.world.get().check_step();
    }

    /// Begins an operation and holds it at its first stop. One is held at a time, but for what it
    /// spawns.
    pub fn hold(&mut self, front: usize, work: impl FnOnce(&Net<'_>) + 'static) -> Held {
        self.held = self.history.operations.len();
        self.history.spawn(NewOperation::new("scripted", front, work));
        Held(self.held)
    }

    /// Lets a held operation go on until it stops at `stop`; panics if it ends before.
    pub fn until(&mut self, held: &Held, stop: Stop) {
        for _ in 0..200 {
            let operation = self.history.operations.get(held.0).expect("still running");
            if operation.stop == Some(stop) {
                return;
            }
            self.history.resume(held.0);
            self.world.get().check_step();
        }
        panic!("never came to {stop:?}");
    }

    /// Lets a held operation make one step, unless it has ended.
    pub fn step(&mut self, held: &Held) {
        if held.0 < self.history.operations.len() {
            self.history.resume(held.0);
        }
        self.world.get().check_step();
    }

    /// Lets everything held run to its end.
    pub fn finish(&mut self) {
        for step in 0..400 {
            if self.history.operations.is_empty() {
                return;
            }
            let last = self.history.operations.len() - 1;
            self.history.resume(last);
            self.world.get().check_step();
            // What waits for another lets it go first.
            let held = self.history.operations.len();
            if held > 1 {
                self.history.resume(step % held);
                self.world.get().check_step();
            }
        }
        panic!("never ended");
    }

    pub fn session(&self) -> usize {
        let mut world = self.world.get();
        world.sessions.push(Session::default());
        world.sessions.len() - 1
    }

    pub fn set_of(&self, nth: usize) -> Write {
        let value = format!("v{}", self.world.get().rng.u32(..)).into();
        let body = Body { value, content_type: "text/plain".into(), expires_at: None };
        Write::set(self.key(nth), body)
    }

    pub fn set(&self, front: usize, nth: usize) -> usize {
        let (write, session) = (self.set_of(nth), self.session());
        self.run(front, |net| operations::write(net, write, false, session));
        session
    }

    /// Writes a key at A, and holds the lane where that is visible and not durable.
    pub fn set_visible(&mut self, front: usize, nth: usize) {
        let (write, session) = (self.set_of(nth), self.session());
        self.hold(front, move |net| operations::write(net, write, false, session));
        self.until(&Held(self.history.operations.len() - 1), Stop::Visible(A));
    }

    pub fn delete(&self, front: usize, nth: usize) {
        let (write, session) = (Write::delete(self.key(nth)), self.session());
        self.run(front, |net| operations::write(net, write, false, session));
    }

    pub fn set_by_majority(&self, front: usize, nth: usize) {
        let (write, session) = (self.set_of(nth), self.session());
        self.run(front, |net| operations::write(net, write, true, session));
    }

    /// Writes the key by a majority: its master and C.
    pub fn push_early(&self, nth: usize) {
        self.cut(0, &[B]);
        self.set_by_majority(0, nth);
        self.cut(0, &[]);
    }

    /// Kills a held operation.
    pub fn kill(&mut self, held: Held) {
        self.history.kill(held.0);
    }

    pub fn pull(&self, front: usize, target: PartitionId, source: PartitionId) {
        self.run(front, |net| operations::pull_from(net, target, source));
    }

    pub fn sync_voters(&self, front: usize) {
        for (target, source) in [(B, A), (C, A), (A, B), (C, B)] {
            self.pull(front, target, source);
        }
    }

    pub fn trim(&self, front: usize, ids: &[PartitionId]) {
        for id in ids {
            self.run(front, |net| operations::run_trim(net, *id));
        }
    }

    pub fn crash(&self, id: PartitionId) {
        self.world.get().crash(id);
        self.world.get().check_step();
    }

    pub fn restart(&self, id: PartitionId) {
        self.world.get().server_mut(id).up = true;
    }

    pub fn cut(&self, front: usize, ids: &[PartitionId]) {
        self.world.get().fronts[front].cut = ids.iter().copied().collect();
    }

    /// What the checkers found, after quiet.
    pub fn found(mut self) -> Vec<String> {
        if self.world.get().violations.is_empty() {
            self.history.quiet();
        }
        let world = self.world.get();
        world.violations.iter().map(|v| format!("{}: {}", v.checker, v.detail)).collect()
    }
}

/// Between any two transactions of a pull the key is overwritten: the page is bounded by its own
/// snapshot, not by a head read at another moment.
fn h1_bound(s: &mut Script) {
    s.set(0, 0);
    let pull = s.hold(0, |net| operations::pull_from(net, B, A));
    while s.history.operations.len() > pull.0 {
        s.set(1, 0);
        s.step(&pull);
    }
}

/// A majority's row is early at C; B pulls it from there: B's cursor must not pass what C lacks.
fn h2_vector(s: &mut Script) {
    s.set(0, 0);
    s.push_early(1);
    s.cut(1, &[A]);
    s.pull(1, B, C);
}

/// A page is read and stalls; the key is deleted, the tombstone collected; the page lands.
fn h3_stale_apply(s: &mut Script) {
    s.set(0, 0);
    let pull = s.hold(0, |net| operations::pull_from(net, B, A));
    to_apply(s, &pull, B);
    s.sync_voters(1);
    s.delete(1, 0);
    s.sync_voters(1);
    s.trim(1, &[A, B, C]);
    s.finish();
}

/// Holds a pull (status at the target, page, barrier, apply) before its apply.
fn to_apply(s: &mut Script, pull: &Held, target: PartitionId) {
    s.step(pull);
    s.until(pull, Stop::Before(target));
}

/// A majority's push is delayed; the delete is synced and collected; the push lands.
fn h4_push_after_gc(s: &mut Script) {
    let (write, session) = (s.set_of(0), s.session());
    s.hold(0, move |net| operations::write(net, write, true, session));
    // Write, lane and pushes: let the lane commit, then let B's push read its status and stall.
    for _ in 0..40 {
        let stops: Vec<_> = s.history.operations.iter().map(|o| o.stop).collect();
        let Some(nth) =
            stops.iter().position(|stop| matches!(stop, Some(Stop::Before(A) | Stop::Visible(A))))
        else {
            break;
        };
        s.history.resume(nth);
    }
    s.history.resume(0);
    let at_b = |s: &Script| {
        s.history.operations.iter().position(|o| o.stop == Some(Stop::Before(B))).unwrap()
    };
    let push = at_b(s);
    s.history.resume(push);
    s.sync_voters(1);
    s.delete(1, 0);
    s.sync_voters(1);
    s.trim(1, &[A, B, C]);
    s.finish();
}

/// A commit is visible and not durable; B pulls it; the master crashes.
fn h5_visible_before_durable(s: &mut Script) {
    s.set(0, 0);
    s.set_visible(0, 1);
    s.pull(1, B, A);
    s.crash(A);
    s.restart(A);
    s.set(1, 2);
    s.finish();
}

/// A tombstone above C's cursor is early there: B takes it from C, and nobody may take B for having
/// what lies below it, nor collect the tombstone.
fn h7_collected_by_cursors(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.set(0, 1);
    let (write, session) = (Write::delete(s.key(0)), s.session());
    s.cut(0, &[B]);
    s.run(0, |net| operations::write(net, write, true, session));
    s.cut(0, &[]);
    s.cut(1, &[A]);
    s.pull(1, B, C);
    s.trim(0, &[A, B, C]);
}

/// An absent voter holds trimming back, however long it is away.
fn h8_absent_voter(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.cut(0, &[C]);
    s.delete(0, 0);
    s.pull(0, B, A);
    s.trim(0, &[A, B]);
    s.cut(0, &[]);
    s.pull(0, C, A);
}

/// A pass with old cursors meets a new floor: a healthy voter with unsynced writes of its own is
/// not taken for one that has to be made anew. Also K10.
fn h9_k10_stale_read(s: &mut Script) {
    s.set(0, 0);
    let pull = s.hold(0, |net| operations::pull_from(net, B, A));
    s.step(&pull);
    s.sync_voters(1);
    s.trim(1, &[A, B, C]);
    s.finish();
}

/// The copy is made anew while a key is overwritten; B, which lacks the log, pulls it from the
/// copy.
fn k1_log_of_a_reseed(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.set(0, 1);
    s.set(0, 2);
    let reseed = s.hold(0, |net| operations::run_reseed(net, A));
    // Begin, then the noted vector; then key 1 moves above it before its row is read.
    s.until(&reseed, Stop::Visible(COPY));
    s.step(&reseed);
    s.step(&reseed);
    s.set(1, 1);
    s.finish();
    s.cut(1, &[A]);
    s.world.get().entries_max = Some(1);
    let pull = s.hold(1, |net| operations::pull_from(net, B, COPY));
    while s.history.operations.len() > pull.0 {
        s.step(&pull);
    }
}

/// Two reseeds at once: a chunk of the first lands after the end of the second.
fn k2_two_reseeds(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    let first = s.hold(0, |net| operations::run_reseed(net, A));
    // Held before its rows go in: begin, status, scan, barrier are through.
    s.until(&first, Stop::Visible(COPY));
    s.step(&first);
    s.until(&first, Stop::Before(COPY));
    s.delete(1, 0);
    s.sync_voters(1);
    s.trim(1, &[A, B, C]);
    s.run(1, |net| operations::run_reseed(net, A));
    s.finish();
}

/// A page asked for before a reseed lands while it is under way.
fn k2_page_into_a_reseed(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    let pull = s.hold(0, |net| operations::pull_from(net, COPY, A));
    to_apply(s, &pull, COPY);
    s.delete(1, 0);
    s.sync_voters(1);
    s.trim(1, &[A, B, C]);
    let reseed = s.hold(1, |net| operations::run_reseed(net, A));
    s.until(&reseed, Stop::Visible(COPY));
    s.step(&reseed);
    // The page first, the rest of the reseed after it.
    for _ in 0..10 {
        if s.history.operations.len() > 1 {
            s.step(&pull);
        }
    }
    s.finish();
}

/// The source of a reseed trims past the noted vector; then a page from one that has not trimmed
/// brings a tombstone that the copy takes for collected.
fn reseed_below_a_floor(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    let reseed = s.hold(1, |net| operations::run_reseed(net, A));
    s.until(&reseed, Stop::Visible(COPY));
    s.step(&reseed);
    s.until(&reseed, Stop::Before(COPY));
    s.delete(0, 0);
    s.sync_voters(0);
    s.trim(0, &[A]);
    s.finish();
    s.pull(0, COPY, B);
}

/// The source of a reseed loses what the noted vector covers.
fn k2_source_restarted(s: &mut Script) {
    s.set(0, 0);
    let pull = s.hold(0, |net| operations::pull_from(net, C, A));
    s.until(&pull, Stop::Visible(C));
    s.world.get().pooled = Some(true);
    let reseed = s.hold(1, |net| operations::run_reseed(net, C));
    s.until(&reseed, Stop::Visible(COPY));
    s.step(&reseed);
    s.step(&reseed);
    s.crash(C);
    s.restart(C);
    s.finish();
}

/// A cut page brings a row above its own end.
fn k6_row_above_the_page(s: &mut Script) {
    s.set(0, 0);
    s.set(0, 1);
    s.set(0, 0);
    s.world.get().entries_max = Some(1);
    let pull = s.hold(0, |net| operations::pull_from(net, B, A));
    while s.history.operations.len() > pull.0 {
        s.step(&pull);
    }
}

/// Trimming reads a cursor that is visible and not durable; the voter crashes.
fn k8_undurable_cursor(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.delete(0, 0);
    s.pull(0, C, A);
    let pull = s.hold(0, |net| operations::pull_from(net, B, A));
    s.until(&pull, Stop::Visible(B));
    s.trim(1, &[A, C]);
    s.crash(B);
    s.restart(B);
    s.pull(1, B, A);
    s.finish();
}

/// A second front end writes on a jump that is visible and not durable; the server crashes again.
fn k11_jump_taken_back(s: &mut Script) {
    s.set(0, 0);
    s.crash(A);
    s.world.get().run_alike(A, 1);
    s.restart(A);
    let write = |s: &mut Script, front: usize| {
        let (write, session) = (s.set_of(0), s.session());
        s.hold(front, move |net| operations::write(net, write, false, session));
        Held(s.history.operations.len() - 1)
    };
    let first = write(s, 0);
    s.until(&first, Stop::Visible(A));
    let second = write(s, 1);
    s.until(&second, Stop::Visible(A));
    s.crash(A);
    s.world.get().run_alike(A, 2);
    s.restart(A);
    s.finish();
    s.set(0, 1);
}

/// A follower moves to a partition that is behind in another key: an older event, which heals.
fn k12_older_event(s: &mut Script) {
    s.set(0, 0);
    s.run(0, |net| operations::follow(net, 0, C));
    s.set(0, 0);
    s.push_early(0);
    s.pull(0, B, A);
    s.world.get().entries_max = Some(1);
    for id in [C, B, C, A] {
        s.run(0, |net| operations::follow(net, 0, id));
    }
}

/// A clock is raised, visibly and not durably, where nothing was written since the last barrier;
/// B's cursor takes the raise over; the crash takes it back, and what is written next looks known.
fn raise_taken_back(s: &mut Script) {
    s.set(0, 0);
    s.pull(1, B, A);
    s.run(0, ownership::raise_epoch);
    let (write, session) = (s.set_of(0), s.session());
    s.hold(0, move |net| operations::write(net, write, false, session));
    let lane = Held(s.history.operations.len() - 1);
    s.until(&lane, Stop::Visible(A));
    s.pull(1, B, A);
    s.crash(A);
    s.restart(A);
    s.finish();
}

/// The target of a page loses its cursor before the page lands, over another connection.
fn cursor_taken_back(s: &mut Script) {
    s.set(0, 0);
    let first = s.hold(0, |net| operations::pull_from(net, B, A));
    s.until(&first, Stop::Visible(B));
    s.set(1, 1);
    s.world.get().pooled = Some(true);
    let second = s.hold(1, |net| operations::pull_from(net, B, A));
    to_apply(s, &second, B);
    s.crash(B);
    s.restart(B);
    s.finish();
}

/// A pull reads on above its source's cursor, which moves on meanwhile: what lies between is not
/// claimed.
fn gap_below_an_early_entry(s: &mut Script) {
    s.set(0, 0);
    s.pull(0, C, A);
    s.set(0, 1);
    s.push_early(2);
    s.push_early(3);
    s.set(0, 0);
    s.cut(1, &[A]);
    s.world.get().entries_max = Some(1);
    let pull = s.hold(1, |net| operations::pull_from(net, B, C));
    let mut pages = 0;
    while s.history.operations.len() > pull.0 {
        if s.history.operations[pull.0].stop == Some(Stop::Visible(B)) {
            pages += 1;
            if pages == 2 {
                s.pull(0, C, A);
            }
        }
        s.step(&pull);
    }
}

/// A front end remembers the copy's vector; the copy is made anew from somebody who is behind.
fn vector_before_a_reseed(s: &mut Script) {
    let session = s.set(0, 0);
    s.pull(0, COPY, A);
    let key = s.key(0);
    let read = |s: &mut Script| {
        let key = key.clone();
        s.run(0, |net| operations::session_read(net, session, &key, COPY));
    };
    read(s);
    s.run(0, |net| operations::run_reseed(net, C));
    read(s);
}

/// A key is written twice in one batch, with another write in between; B's cursor stops at that
/// one. The first write was acknowledged: a session that has seen it is served at B.
fn replaced_within_a_batch(s: &mut Script) {
    s.world.get().rows_max = Some(3);
    // The lane is at work with the first; the other three wait, and are its next batch.
    for nth in [2, 0, 1, 0] {
        let (write, session) = (s.set_of(nth), s.session());
        s.hold(0, move |net| operations::write(net, write, false, session));
    }
    s.finish();
    let session = s.session();
    s.world.get().entries_max = Some(1);
    let pull = s.hold(1, |net| operations::pull_from(net, B, A));
    let key = s.key(0);
    // The session that was told of the first of the two only.
    let first = s.world.get().first_of(&key);
    s.world.get().sessions[session].token = [(A, first)].into_iter().collect();
    s.world.get().sessions[session].seen = [(key.clone(), first)].into();
    while s.history.operations.len() > pull.0 {
        let key = key.clone();
        s.run(1, |net| operations::session_read(net, session, &key, B));
        s.step(&pull);
    }
}

pub type Hole = (&'static str, fn(&mut Script), &'static [Rule]);

/// Each script with the rules that close its hole.
pub const HOLES: &[Hole] = &[
    ("H1", h1_bound, &[Rule::SnapshotBound]),
    ("H2", h2_vector, &[Rule::ClaimBound]),
    ("H3", h3_stale_apply, &[Rule::SourceAboveFloors]),
    ("H4", h4_push_after_gc, &[Rule::PushCovered]),
    ("H5", h5_visible_before_durable, &[Rule::Barrier]),
    ("H7", h7_collected_by_cursors, &[Rule::ClaimBound]),
    ("H8", h8_absent_voter, &[Rule::TrimAllVoters]),
    ("H9, K10", h9_k10_stale_read, &[Rule::CursorReadAgain]),
    ("K1", k1_log_of_a_reseed, &[Rule::ReseedLog]),
    ("K2: two reseeds", k2_two_reseeds, &[Rule::ReseedNumber]),
    ("K2: a page into a reseed", k2_page_into_a_reseed, &[Rule::ApplyReseed]),
    ("a reseed below a floor", reseed_below_a_floor, &[Rule::ReseedAgain]),
    ("K2: the source restarts", k2_source_restarted, &[Rule::ReseedSource]),
    ("K6", k6_row_above_the_page, &[Rule::RowEntry]),
    ("K8", k8_undurable_cursor, &[Rule::TrimBarrier]),
    ("K11", k11_jump_taken_back, &[Rule::OpeningAlone]),
    ("K12", k12_older_event, &[]),
    ("replaced within a batch", replaced_within_a_batch, &[Rule::EntryPerWrite]),
    ("ADR 0002", raise_taken_back, &[Rule::BarrierOfEpoch]),
    ("cursor taken back", cursor_taken_back, &[Rule::CursorStands]),
    (
        "gap below an early entry",
        gap_below_an_early_entry,
        &[Rule::ContiguousClaim, Rule::CursorStands],
    ),
    (
        "heads answered late",
        ages::heads_answered_late,
        &[Rule::AgeFromAsking, Rule::AgeFromTopology],
    ),
    ("age of another run", ages::age_of_another_run, &[Rule::AgeOfRun]),
    ("vector before a reseed", vector_before_a_reseed, &[Rule::VectorOfReseed]),
];
