//! Copies of databases, put back where a newer one stood, without a word to anybody.
//!
//! | checker | when | failure |
//! |---|---|---|
//! | RESTORE | every transaction | a front end works over an older copy that shows |
//!
//! The way to restore is a new set that begins with a backup; its voters count while they are still
//! being made.
//!
//! An operator copies the database of a voter, later puts the copy in its place, and some time
//! after that the right one again. A copy shows to a front end that has met somebody who has more
//! of its partition (`datastore::founding::history`); in a history it is put back only where it
//! shows to all of them, since what nobody can know nobody can be asked for. The checkers look at
//! the right database, which stands aside meanwhile.

use std::rc::Rc;

use datastore::founding::history::History;
use datastore::partition::acceptor::Ballot;
use datastore::partition::memory::State;
use datastore::partition::{Beginning, Identity, OPENING_SPREAD, Partition as _, SCHEMA_VERSION};
use datastore::record::Key;
use datastore::rules::{Rule, ablation};
use datastore::version::{PartitionId, RunId, SetId};

use crate::bugs::Bug;
use crate::front::Front;
use crate::holes::{A, B, C, COPY, Held, Hole, Script};
use crate::link::Stop;
use crate::world::{View, World};
use crate::{operations, ownership, takeovers, upkeep};

/// The set that begins with a backup.
const RESTORED: SetId = SetId(2);

impl World {
    /// What an operator does next with the database of a voter.
    pub fn operate(&mut self, id: PartitionId) {
        let server = self.server(id);
        if !server.is_voter {
            return;
        }
        match (&server.put_back, &server.backup) {
            (Some(_), _) => self.put_right(id),
            (None, None) => self.back_up(id),
            (None, Some(copy)) if self.shows_to_all(copy) => self.put_back(id),
            (None, Some(_)) => {}
        }
    }

    fn back_up(&mut self, id: PartitionId) {
        let server = self.server_mut(id);
        server.backup = Some(Rc::clone(&server.durable));
        self.note(|| format!("an operator copies {id}"));
    }

    /// The copy takes the place of what stands, over a restart.
    fn put_back(&mut self, id: PartitionId) {
        self.crash(id);
        let run = RunId(self.rng.u64(1..));
        let server = self.server_mut(id);
        server.put_back = server.backup.take();
        server.run = run;
        server.up = true;
        self.note(|| format!("an older copy of {id} is put back"));
        self.count("a copy was put back");
    }

    /// What stood before takes the place of the copy, over a restart.
    pub fn put_right(&mut self, id: PartitionId) {
        let run = RunId(self.rng.u64(1..));
        let server = self.server_mut(id);
        if server.put_back.take().is_none() {
            return;
        }
        server.boot += 1;
        server.run = run;
        server.up = true;
        self.note(|| format!("the right database of {id} is put back"));
        self.count("the right database came back");
    }

    /// Whether every front end could know that this is an older copy.
    fn shows_to_all(&self, copy: &State) -> bool {
        let status = View(copy).status().unwrap();
        let shows = |history: &History| history.beyond(&status).is_some();
        ablation::without(&[], || self.fronts.iter().all(|front| shows(&front.history)))
    }

    /// What every new connection begins with: whether the front end may go on with this database.
    pub fn may_go_on(&mut self, front: usize, id: PartitionId) -> bool {
        let mut view = View(self.server(id).met());
        let (status, jumps) = (view.status().unwrap(), view.jumps().unwrap());
        let history = &self.fronts[front].history;
        history.note(&status);
        history.note_jumps(&status, jumps);
        let shows = history.beyond(&status).is_some();
        let believed = self.bug == Some(Bug::CopyBelieved) && self.rng.bool();
        if shows {
            self.count("a connection met an older copy");
        }
        !shows || believed
    }

    /// RESTORE: a transaction runs over this database.
    pub fn check_database(&mut self, front: usize, id: PartitionId) {
        if self.server(id).put_back.is_some() {
            let detail = format!("front end {front} works over an older copy of {id}");
            self.violate("RESTORE", detail);
        }
    }

    /// Lets the server live in a run whose opening jumps as far as that of any other `nth`, which
    /// chance does once in a million times.
    pub fn run_alike(&mut self, id: PartitionId, nth: u64) {
        self.server_mut(id).run = RunId(nth * OPENING_SPREAD);
    }

    /// Removes a row behind the partition's back.
    fn lose(&mut self, id: PartitionId, key: &Key) {
        self.note(|| format!("a hand removes {key:?} at {id}"));
        self.tampered.insert(key.clone());
        let server = self.server_mut(id);
        Rc::make_mut(&mut server.visible).lose(key);
        Rc::make_mut(&mut server.durable).lose(key);
    }
}

/// H10: an older copy stands where A's database was. It is not gone on with: it would give versions
/// again that others have, and pass them by its jump.
fn h10_copy_put_back(s: &mut Script) {
    s.set(0, 0);
    s.world.get().operate(A);
    s.set(0, 1);
    // Each front end meets B once it has more of A than the copy.
    for front in [0, 1, 0] {
        s.pull(front, B, A);
    }
    s.world.get().operate(A);
    assert!(s.world.get().server(A).put_back.is_some(), "it shows to both");
    s.set(0, 2);
    s.pull(1, C, A);
    s.world.get().operate(A);
}

/// Holds a verify pass before it puts the first key's row back, which a hand removed at `id`.
fn before_a_repair(s: &mut Script, id: PartitionId) -> Held {
    let key = s.key(0);
    s.world.get().lose(id, &key);
    let verify = s.hold(1, upkeep::run_verify);
    // The right row is made durable where it comes from first.
    s.until(&verify, Stop::Visible(A));
    s.until(&verify, Stop::Before(id));
    verify
}

/// A removed row is about to be put back; its key is deleted meanwhile, and the tombstone
/// collected.
fn h3_repair_after_a_collected_delete(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    before_a_repair(s, B);
    s.delete(0, 0);
    s.sync_voters(0);
    s.trim(0, &[A, B, C]);
    s.finish();
}

/// The same at the copy, which is made anew meanwhile: while it is empty it has no floors.
fn k2_repair_into_a_reseed(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.pull(0, COPY, A);
    let verify = before_a_repair(s, COPY);
    s.delete(0, 0);
    s.sync_voters(0);
    s.trim(0, &[A, B, C]);
    let reseed = s.hold(0, |net| operations::run_reseed(net, A));
    s.until(&reseed, Stop::Visible(COPY));
    s.step(&reseed);
    // The repair first, the rest of the reseed after it.
    for _ in 0..10 {
        s.step(&verify);
    }
    s.finish();
}

/// `datastore init --restored`: a new set begins with what `backup` holds, all other voters are
/// emptied (`datastore::founding::restored`). The front ends that are named are started anew.
fn begin_restored(s: &Script, backup: PartitionId, fronts: &[usize]) {
    let (mut ids, topology) = {
        let world = s.world.get();
        let ids: Vec<PartitionId> = world.register.data_voters().map(|voter| voter.id).collect();
        let epoch = ids.iter().map(|id| world.server(*id).status().epoch).max().unwrap().next();
        (ids, world.register.seeded(RESTORED).at_epoch(epoch))
    };
    // The one with the backup last.
    ids.sort_by_key(|id| *id == backup);
    for partition in ids {
        let identity = Identity {
            set: RESTORED,
            partition,
            schema: SCHEMA_VERSION,
            topology: topology.clone(),
        };
        let from = if partition == backup { Beginning::Backup } else { Beginning::Nothing };
        s.run(0, |net| net.connect(partition).unwrap().begin_anew(&identity, from).unwrap());
    }
    s.world.get().act_on(&topology);
    start_anew(s, fronts);
}

/// Front ends know nothing but the topology that stands.
fn start_anew(s: &Script, fronts: &[usize]) {
    for front in fronts {
        {
            let mut world = s.world.get();
            let topology = world.register.clone();
            world.fronts[*front] = Front::new(&topology);
        }
        s.run(*front, |net| _ = ownership::refresh(net));
    }
}

/// K2: a voter of a restored set counts while it is still being made: a chunk that was read before
/// a push lands after it.
fn k2_push_into_a_reseed(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    begin_restored(s, A, &[0, 1]);
    s.run(0, |net| operations::make(net, C, A));
    let making = s.hold(0, |net| operations::make(net, B, A));
    // Emptied; then its rows are read.
    s.until(&making, Stop::Visible(B));
    s.step(&making);
    s.until(&making, Stop::Before(B));
    s.cut(1, &[C]);
    s.set_by_majority(1, 0);
    s.cut(1, &[]);
    s.finish();
    // Whatever is acknowledged has who holds it counted anew.
    s.set(0, 1);
}

/// K9: a master of a restored set loses its slots before it was made, from the one that took them;
/// somebody has not heard of it and has a lane there.
fn k9_master_made_from_its_successor(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    begin_restored(s, B, &[0, 1]);
    s.run(0, |net| operations::make(net, C, B));
    s.set(1, 0);
    s.cut(0, &[A]);
    s.run(0, |net| assert!(ownership::take_over(net, A), "it was not taken over"));
    s.set(0, 0);
    s.cut(0, &[]);
    let key = s.key(0);
    let successor = s.world.get().register.master_of(&key);
    s.run(0, |net| operations::make(net, A, successor));
    s.cut(1, &[B, C]);
    s.set(1, 0);
    s.cut(1, &[]);
}

/// H18: somebody of the set of before was not stopped, and has the promises for a change when the
/// acceptors forget what they promised.
fn h18_acceptors_that_forgot(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    let before = s.hold(1, ownership::raise_epoch);
    takeovers::step_until(s, &before, |s| {
        let promised = |id| {
            let state = s.world.get().server(id).durable.clone();
            View(&state).acceptor().unwrap().row.promised > Ballot::FOUNDING
        };
        promised(B) && promised(C)
    });
    begin_restored(s, A, &[0]);
    s.finish();
    start_anew(s, &[1]);
    for id in [B, C] {
        s.run(0, |net| operations::make(net, id, A));
    }
}

pub const HOLES: &[Hole] = &[
    ("H3: a repair", h3_repair_after_a_collected_delete, &[Rule::RepairAboveFloors]),
    ("K9: made from its successor", k9_master_made_from_its_successor, &[Rule::ReseedRaise]),
    ("H18: acceptors that forgot", h18_acceptors_that_forgot, &[Rule::SameIncarnation]),
    ("H10", h10_copy_put_back, &[Rule::PutBack]),
    ("K2: a push", k2_push_into_a_reseed, &[Rule::PushReseed]),
    ("K2: a repair", k2_repair_into_a_reseed, &[Rule::RepairReseed]),
];
