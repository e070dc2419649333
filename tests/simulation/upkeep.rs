//! Expiry with database clocks that disagree, hands that change rows, and verify passes.
//!
//! | checker | when | failure |
//! |---|---|---|
//! | TTL | every write | a value that is not over by its master's clock is buried, and no client asked |
//! | VERIFY | every pass | a row is put right that nobody has changed |
//!
//! Every database has a wall clock of its own, up to five seconds from the others. A hand changes
//! rows of which another voter has a durable copy, so that everything can be put right.

use std::rc::Rc;
use std::time::Duration;

use datastore::partition::memory::State;
use datastore::record::{Key, Record};
use datastore::sync::sweep;
use datastore::sync::verify::{self, Side};
use datastore::version::PartitionId;

use crate::link::Net;
use crate::world::World;

/// What database clocks show in a history's first step, and how far each step moves them.
const FIRST_MS: i64 = 10_000;
const STEP_MS: i64 = 100;

impl World {
    /// What the clock of a database shows.
    pub fn database_ms(&self, id: PartitionId) -> i64 {
        let skew = i64::from(id.0) * 3571 % 10_000 - 5000;
        FIRST_MS + i64::try_from(self.step).unwrap() * STEP_MS + skew
    }

    /// A time to live that is over within the history, as often as not.
    pub fn ttl(&mut self) -> Option<Duration> {
        self.rng.bool().then(|| Duration::from_millis(self.rng.u64(1..5000)))
    }

    /// A key that the partition masters, and whose value is over by its clock.
    pub fn over_at(&mut self, id: PartitionId) -> Option<Key> {
        let now = self.database_ms(id);
        let is_over = |row: &&Record| row.body.as_ref().is_some_and(|body| body.is_expired(now));
        let rows = self.server(id).visible.rows().values().filter(is_over);
        let own = rows.filter(|row| self.register.master_of(&row.key) == id);
        let keys: Vec<Key> = own.map(|row| row.key.clone()).collect();
        self.rng.choice(keys)
    }

    /// TTL: a tombstone of `id`'s own stands for a delete that was asked for, or for a value that
    /// was over.
    pub fn check_buried(&mut self, id: PartitionId, row: &Record, prev: Option<&Record>) {
        if !row.is_tombstone() || self.deletes.get(&row.key).is_some_and(|asked| *asked > 0) {
            return;
        }
        let now = self.database_ms(id);
        let Some(replaced) = prev else { return };
        if replaced.visible(now).is_some() {
            let detail = format!("{id} buried {replaced:?} at {now}");
            self.violate("TTL", detail);
        }
    }

    /// Changes a row that another voter can put right.
    pub fn tamper(&mut self, id: PartitionId) {
        let server = self.server(id);
        let rows: Vec<Record> = server.visible.rows().values().cloned().collect();
        let can_be = rows.into_iter().filter(|row| self.can_be_put_right(id, row));
        let can_be: Vec<Record> = can_be.collect();
        let Some(row) = self.rng.choice(can_be) else { return };
        let key = row.key.clone();
        let mut wrong = row;
        wrong.body.as_mut().unwrap().value = "changed by hand".into();
        self.note(|| format!("a hand changes {wrong:?} at {id}"));
        self.count("a hand changed a row");
        self.tampered.insert(key);
        let server = self.server_mut(id);
        Rc::make_mut(&mut server.visible).tamper(wrong.clone());
        Rc::make_mut(&mut server.durable).tamper(wrong);
    }
}

impl World {
    fn can_be_put_right(&self, id: PartitionId, row: &Record) -> bool {
        let same = |state: &State| state.rows().get(&row.key) == Some(row) && state.is_sound(row);
        let mut others =
            self.servers.iter().filter(|other| other.is_voter && other.id != id && !other.gone);
        let is_whole = self.servers.iter().all(|other| {
            let copy = other.visible.rows().get(&row.key);
            copy.is_none_or(|row| other.visible.is_sound(row))
        });
        let is_durable = same(&self.server(id).durable);
        !row.is_tombstone() && is_whole && is_durable && others.any(|other| same(&other.durable))
    }
}

/// A master buries what has expired.
pub fn run_sweep(net: &Net<'_>, id: PartitionId) {
    let topology = net.world.get().fronts[net.front].topology.clone();
    let Ok(mut partition) = net.connect(id) else { return };
    let swept = sweep::sweep(&mut partition, id, &topology);
    let mut world = net.world.get();
    world.note(|| format!("sweep of {id}: {swept:?}"));
    if swept.is_ok_and(|buried| buried > 0) {
        world.count("an expired value was buried");
    }
}

/// All partitions in reach are compared and put right.
pub fn run_verify(net: &Net<'_>) {
    let (topology, barriers, clock, ids) = {
        let world = net.world.get();
        let front = &world.fronts[net.front];
        (front.topology.clone(), Rc::clone(&front.barriers), Rc::clone(&world.clock), world.ids())
    };
    let mut open: Vec<_> = ids.into_iter().filter_map(|id| net.pooled(id).ok()).collect();
    let mut sides: Vec<Side<'_>> = open
        .iter_mut()
        .map(|partition| Side { id: partition.id(), partition, trouble: None })
        .collect();
    let found = verify::verify(&mut sides, &topology, &barriers, clock.as_ref(), |_| {});
    let mut world = net.world.get();
    world.note(|| format!("verify: {found:?}"));
    if found.mended > 0 {
        world.count("verify put a row right");
    }
    let strangers: Vec<&Key> = found
        .differences
        .iter()
        .map(|difference| &difference.key)
        .filter(|key| !world.tampered.contains(*key))
        .collect();
    if !strangers.is_empty() {
        let detail = format!("nobody has changed {strangers:?}: {found:?}");
        world.violate("VERIFY", detail);
    }
}
