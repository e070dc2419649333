//! Copies of databases, put back where a newer one stood, without a word to anybody.
//!
//! | checker | when | failure |
//! |---|---|---|
//! | RESTORE | every transaction | a front end works over an older copy that shows |
//!
//! An operator copies the database of a voter, later puts the copy in its place, and some time
//! after that the right one again. A copy shows to a front end that has met somebody who has more
//! of its partition (`datastore::founding::history`); in a history it is put back only where it
//! shows to all of them, since what nobody can know nobody can be asked for. The checkers look at
//! the right database, which stands aside meanwhile.

use std::rc::Rc;

use datastore::founding::history::History;
use datastore::partition::memory::State;
use datastore::partition::{OPENING_SPREAD, Partition as _};
use datastore::record::Key;
use datastore::rules::ablation;
use datastore::version::{PartitionId, RunId};

use crate::bugs::Bug;
use crate::holes::{A, B, C, COPY, Held, Script};
use crate::link::Stop;
use crate::operations;
use crate::upkeep;
use crate::world::{View, World};

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
pub fn h10_copy_put_back(s: &mut Script) {
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
pub fn h3_repair_after_a_collected_delete(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    before_a_repair(s, B);
    s.delete(0, 0);
    s.sync_voters(0);
    s.trim(0, &[A, B, C]);
    s.finish();
}

/// The same at the copy, which is made anew meanwhile: while it is empty it has no floors.
pub fn k2_repair_into_a_reseed(s: &mut Script) {
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
