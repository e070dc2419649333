//! Ages: front ends look at partitions, reads are told how old they may be, and the checker knows
//! the truth.
//!
//! Time passes with every step, also while a look stands still between its question and its answer.
//! The wall clock steps an hour back or forth now and then; no verdict may change.

use std::cell::Cell;
use std::time::Duration;

use datastore::age::{Look, Over};
use datastore::clock::Clock as _;
use datastore::partition::{Fetched, Found, Get};
use datastore::record::{Key, Record};
use datastore::session::{self, Seen, SessionError};
use datastore::vector::Vector;
use datastore::version::PartitionId;

use crate::bugs::Bug;
use crate::history::{History, NewOperation};
use crate::holes::{A, COPY, Script};
use crate::link::{Net, Stop};
use crate::world::World;
use crate::{operations, ownership};

/// How long a step takes.
const STEP_MS: u32 = 7;
/// How often a front end looks.
const LOOK_STEPS: u64 = 6;
/// How often the wall clock steps, and how far: an hour.
const WALL_STEPS: u64 = 20;
const WALL_STEP_MS: i64 = 3_600_000;

impl World {
    /// A step's time, and what an operator does to the wall clock.
    pub fn let_time_pass(&self) {
        self.clock.advance_ms(STEP_MS);
        if self.step.is_multiple_of(WALL_STEPS) {
            let back = (self.step / WALL_STEPS).is_multiple_of(2);
            self.clock.step_wall_ms(if back { -WALL_STEP_MS } else { WALL_STEP_MS });
        }
    }

    /// Now, as ages are measured.
    pub fn age_clock(&self) -> Duration {
        if self.bug == Some(Bug::AgeByWallClock) {
            Duration::from_millis(self.clock.wall_ms().unsigned_abs())
        } else {
            self.clock.monotonic()
        }
    }

    /// AGE-1: what is read has everything that could be seen longer ago than its age.
    fn check_age(&mut self, key: &Key, row: Option<&Record>, age: Duration) {
        let now = self.clock.monotonic();
        let Some(as_of) = now.checked_sub(age) else { return };
        let wanted = self.ledger.newest_before(key, as_of, &self.register.cuts());
        if wanted.is_some_and(|wanted| !self.is_no_less(key, row, wanted)) {
            let detail =
                format!("{key:?}: {row:?} is told to be {age:?} old, and lacks {wanted:?}");
            self.violate("AGE-1", detail);
        }
    }
}

impl History {
    /// Every few steps one of the front ends looks at all partitions, but for those that have not
    /// answered its last look yet.
    pub fn look(&mut self) {
        let (front, ids) = {
            let world = self.world.get();
            if !world.step.is_multiple_of(LOOK_STEPS) {
                return;
            }
            let fronts = world.fronts.len();
            let front = usize::try_from(world.step / LOOK_STEPS).unwrap() % fronts;
            let looking = &world.fronts[front].looking;
            (front, world.ids().into_iter().filter(|id| !looking.contains(id)).collect::<Vec<_>>())
        };
        if self.world.get().rng.bool() {
            self.spawn(NewOperation::new("refresh", front, |net| {
                ownership::refresh(net);
            }));
        }
        for target in ids {
            self.spawn(NewOperation::new("look", front, move |net| {
                net.world.get().fronts[net.front].looking.insert(target);
                let _guard = Looking { net: *net, target };
                look(net, target);
            }));
        }
    }

    /// A client reads a key, and may ask for it not to be older than so much.
    pub fn aged_read(&mut self) {
        let (front, target) = (self.front(), self.any_server());
        let (key, max_age) = {
            let mut world = self.world.get();
            let steps = world.rng.u32(1..60);
            let bounded = world.rng.bool();
            (world.key(), bounded.then(|| Duration::from_millis((steps * STEP_MS).into())))
        };
        self.spawn(NewOperation::new("aged read", front, move |net| {
            aged_read(net, target, &key, max_age);
        }));
    }
}

/// A look that has not been answered, or was killed.
struct Looking<'a> {
    net: Net<'a>,
    target: PartitionId,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.net.world.get().fronts[self.net.front].looking.remove(&self.target);
    }
}

pub fn look(net: &Net<'_>, target: PartitionId) {
    let (topology, read_at) = {
        let world = net.world.get();
        let front = &world.fronts[net.front];
        (front.topology.clone(), front.read_at)
    };
    let Ok(mut partition) = net.connect(target) else { return };
    let asked = Cell::new(false);
    let result = Look::at(&mut partition, || {
        if asked.replace(true) {
            net.may_stop(Stop::Answered(target));
        }
        net.world.get().age_clock()
    });
    net.may_stop(Stop::Answered(target));
    let mut world = net.world.get();
    world.note(|| format!("front end {} looks at {target}: {result:?}", net.front));
    if let Ok(look) = result {
        world.fronts[net.front].ages.note(&look, &topology, read_at);
    }
}

pub fn aged_read(net: &Net<'_>, target: PartitionId, key: &Key, max_age: Option<Duration>) {
    let (needed, floor, topology) = {
        let mut world = net.world.get();
        let (now, front) = (world.age_clock(), &world.fronts[net.front]);
        let topology = front.topology.clone();
        let masters = [topology.master_of(key)];
        let needed = max_age.map(|max_age| front.ages.needed(now, max_age, &masters, &topology));
        match needed {
            Some(None) => return world.count("a bounded read was refused: nobody can know"),
            Some(Some((needed, as_of))) => (needed, Some(as_of), topology),
            None => (Vector::new(), None, topology),
        }
    };
    let Some((since, result)) = read(net, target, key, &needed) else { return };
    let mut world = net.world.get();
    world.note(|| format!("{key:?} at {target}, no older than {max_age:?}: {result:?}"));
    match result {
        Ok(fetched) => {
            let over = Over { since, reseed: fetched.reseed };
            let masters = [topology.master_of(key)];
            let seen = world.fronts[net.front].ages.seen();
            let as_of = seen.as_of_read(target, &over, &masters, &topology).max(floor);
            let row = match fetched.rows.into_iter().next().flatten() {
                Some(Found::Row(row)) => Some(row),
                // Damaged: to be had elsewhere.
                Some(Found::Damaged) => return,
                Some(Found::Large { .. }) | None => None,
            };
            world.count(if floor.is_some() { "a bounded read was served" } else { "a read" });
            match as_of {
                Some(as_of) => {
                    let age = world.age_clock().saturating_sub(as_of);
                    world.count("an age was told");
                    world.check_age(key, row.as_ref(), age);
                }
                None => world.count("an age was unknown"),
            }
        }
        Err(SessionError::NotCovered { .. }) => world.count("a bounded read was refused: behind"),
        Err(SessionError::Partition(_)) => {}
    }
}

/// Reads over the connection that is kept for it, made anew in another run; and since when it
/// stands.
fn read(
    net: &Net<'_>,
    target: PartitionId,
    key: &Key,
    needed: &Vector,
) -> Option<(Duration, Result<Fetched, SessionError>)> {
    let boot = net.world.get().server(target).boot;
    let kept = net.world.get().fronts[net.front].aging.get(&target).copied();
    let kept = kept.filter(|(run, _)| *run == boot);
    let mut partition = match kept {
        Some(_) => net.reuse(target, boot),
        None => net.connect(target).ok()?,
    };
    let since = kept.map_or_else(|| net.world.get().age_clock(), |(_, since)| since);
    net.world.get().fronts[net.front].aging.insert(target, (boot, since));
    let get = Get { keys: std::slice::from_ref(key), inline_bytes_max: usize::MAX };
    let mut seen = Seen::default();
    Some((since, session::get_covered(&mut partition, &mut seen, &get, needed)))
}

/// A write comes between a look's answer and its arrival: the heads do not have it, so they must
/// not count from there.
pub fn heads_answered_late(s: &mut Script) {
    s.set(0, 0);
    s.pull(0, COPY, A);
    let key = s.key(0);
    s.world.get().let_time_pass();
    s.run(0, |net| {
        ownership::refresh(net);
    });
    let held = s.hold(0, |net| look(net, A));
    s.until(&held, Stop::Answered(A));
    s.set(1, 0);
    s.world.get().let_time_pass();
    s.finish();
    s.run(0, |net| aged_read(net, COPY, &key, None));
    s.run(0, |net| look(net, COPY));
    s.run(0, |net| aged_read(net, COPY, &key, None));
}

/// A copy crashes and forgets a page that a look at it had seen: that look tells nothing of what is
/// read there afterwards.
pub fn age_of_another_run(s: &mut Script) {
    s.set(0, 0);
    let key = s.key(0);
    s.world.get().let_time_pass();
    s.run(0, |net| {
        ownership::refresh(net);
    });
    s.run(0, |net| look(net, A));
    let held = s.hold(1, |net| operations::pull_from(net, COPY, A));
    s.until(&held, Stop::Visible(COPY));
    s.run(0, |net| look(net, COPY));
    s.crash(COPY);
    s.restart(COPY);
    s.world.get().let_time_pass();
    s.run(0, |net| aged_read(net, COPY, &key, None));
}
