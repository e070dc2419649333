//! The simulated world: servers that crash, and what the checkers remember.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use datastore::clock::Manual;
use datastore::partition::memory::{State, Transaction};
use datastore::partition::tables::{Tables, Transact};
use datastore::partition::{Identity, Partition, Result, SCHEMA_VERSION, Status};
use datastore::record::{Key, Record, Space};
use datastore::topology::{Role, Topology};
use datastore::version::{PartitionId, RunId, SetId};
use fastrand::Rng;

use crate::bugs::Bug;
use crate::check::Ledger;
use crate::front::{Follower, Front, Session};
use crate::history::NewOperation;

/// The set that every history plays in.
pub const SET: SetId = SetId(1);

/// What the wall clock shows when a history begins.
const WALL_MS: i64 = 1_000_000_000_000;

/// One database server.
pub struct Server {
    pub id: PartitionId,
    /// Not the read copy.
    pub is_voter: bool,
    /// Not a witness, which only has an acceptor.
    pub holds_data: bool,
    /// What transactions see.
    pub visible: Rc<State>,
    /// What a crash leaves.
    pub durable: Rc<State>,
    pub up: bool,
    /// Retired, and emptied: what it held last is only looked at.
    pub gone: bool,
    /// Counts restarts: a connection lives in one of them.
    pub boot: u64,
    pub run: RunId,
    /// A copy that somebody keeps of it.
    pub backup: Option<Rc<State>>,
    /// An older copy that stands where the database was, and is met instead.
    pub put_back: Option<Rc<State>>,
    /// Whether the checkers have looked since it changed.
    pub checked: bool,
}

impl Server {
    pub fn status(&self) -> Status {
        View(&self.visible).status().unwrap()
    }

    pub fn durable_status(&self) -> Status {
        View(&self.durable).status().unwrap()
    }

    /// What a new connection meets.
    pub fn met(&self) -> &State {
        self.put_back.as_ref().unwrap_or(&self.visible)
    }

    pub fn flush(&mut self) {
        self.durable = Rc::clone(&self.visible);
        self.checked = false;
    }
}

/// A look at a state, without going over any connection.
pub struct View<'a>(pub &'a State);

impl Transact for View<'_> {
    const VISIBLE_IS_DURABLE: bool = true;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        Transaction::reading(self.0, RunId(0), 0).run(work)
    }

    fn writing<T>(&mut self, _: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        unreachable!("a look does not write")
    }
}

/// A state that nobody else sees yet.
struct New<'a>(&'a mut State);

impl Transact for New<'_> {
    const VISIBLE_IS_DURABLE: bool = true;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        Transaction::reading(self.0, RunId(0), 0).run(work)
    }

    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        Transaction::writing(self.0, RunId(0), 0).run(work)
    }
}

/// How a history is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub masters: usize,
    pub replicas: usize,
    pub witnesses: usize,
    pub fronts: usize,
    pub keys: usize,
    /// Whether a reading of the register stops nowhere: then more lanes are open, and more of what
    /// is done under one topology comes to its end.
    pub calm: bool,
}

impl Setup {
    /// Voters that hold data, and all servers, as the history begins.
    pub const fn data_voters(&self) -> usize {
        self.masters + self.replicas
    }

    pub const fn servers(&self) -> usize {
        self.data_voters() + self.witnesses + 1
    }
}

pub struct World {
    pub rng: Rng,
    pub setup: Setup,
    pub step: u64,
    /// The front ends' clock: one for all of them, as if they had agreed.
    pub clock: Rc<Manual>,
    pub servers: Vec<Server>,
    /// The newest topology that anybody acts on.
    pub register: Topology,
    /// All that were ever acted on, by revision.
    pub acted: BTreeMap<u64, Topology>,
    /// Whether the schedule is written down.
    pub scripted: bool,
    /// A partition that never comes back.
    pub lost: Option<PartitionId>,
    pub fronts: Vec<Front>,
    pub sessions: Vec<Session>,
    pub followers: Vec<Follower>,
    pub ledger: Ledger,
    pub spawned: Vec<NewOperation>,
    pub bug: Option<Bug>,
    /// How often an operation stops where it may: of 100.
    pub stops: u8,
    /// Entries of a page; drawn anew for each where not given.
    pub entries_max: Option<usize>,
    /// Writes of a batch; drawn anew for each where not given.
    pub rows_max: Option<usize>,
    /// Whether passes and the like go over a pool; drawn anew for each where not given.
    pub pooled: Option<bool>,
    /// How many deletes of a key clients wait for, or will never hear of.
    pub deletes: BTreeMap<Key, usize>,
    /// Keys that a hand ever changed a row of.
    pub tampered: BTreeSet<Key>,
    pub violations: Vec<Violation>,
    pub counters: BTreeMap<&'static str, u64>,
    pub trace: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub checker: &'static str,
    pub step: u64,
    pub detail: String,
}

/// Shared by all operations of a history; borrowed for a moment, never across a stop.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

impl Shared {
    pub fn new(seed: u64, setup: Setup, bug: Option<Bug>, traced: bool) -> Self {
        let data = (0..setup.data_voters()).map(|n| {
            let role = if n < setup.masters { Role::Master } else { Role::Replica };
            (format!("p{n}"), role)
        });
        let witnesses = (0..setup.witnesses).map(|n| (format!("w{n}"), Role::Witness));
        let topology = Topology::found(&data.chain(witnesses).collect()).unwrap();
        let voters = topology.voters().iter().map(|voter| voter.id);
        let ids: Vec<_> = voters.chain([PartitionId::EMBEDDED_COPY]).collect();
        let servers = ids.into_iter().map(|id| server(id, &topology));
        let fronts = (0..setup.fronts).map(|_| Front::new(&topology)).collect();
        Self(Rc::new(RefCell::new(World {
            rng: Rng::with_seed(seed),
            setup,
            step: 0,
            clock: Rc::new(Manual::at(WALL_MS)),
            servers: servers.collect(),
            acted: BTreeMap::from([(topology.revision(), topology.clone())]),
            register: topology,
            scripted: false,
            lost: None,
            fronts,
            sessions: Vec::new(),
            followers: ["", "", "k1"].map(Follower::of).into(),
            ledger: Ledger::default(),
            spawned: Vec::new(),
            bug,
            stops: 30,
            entries_max: None,
            rows_max: None,
            pooled: None,
            deletes: BTreeMap::new(),
            tampered: BTreeSet::new(),
            violations: Vec::new(),
            counters: BTreeMap::new(),
            trace: traced.then(Vec::new),
        })))
    }

    pub fn get(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }
}

/// A database that was just founded: a voter of the topology, or else the read copy.
pub fn server(id: PartitionId, topology: &Topology) -> Server {
    let identity =
        Identity { set: SET, partition: id, schema: SCHEMA_VERSION, topology: topology.clone() };
    let mut state = State::default();
    New(&mut state).found(&identity).unwrap();
    let state = Rc::new(state);
    let voter = topology.voter(id);
    Server {
        id,
        is_voter: voter.is_some(),
        holds_data: voter.is_none_or(|voter| voter.role.holds_data()),
        visible: Rc::clone(&state),
        durable: state,
        up: true,
        gone: false,
        boot: 0,
        run: RunId(0),
        backup: None,
        put_back: None,
        checked: false,
    }
}

impl World {
    pub fn exists(&self, id: PartitionId) -> bool {
        self.servers.iter().any(|server| server.id == id)
    }

    pub fn server(&self, id: PartitionId) -> &Server {
        self.servers.iter().find(|server| server.id == id).unwrap()
    }

    pub fn server_mut(&mut self, id: PartitionId) -> &mut Server {
        self.servers.iter_mut().find(|server| server.id == id).unwrap()
    }

    /// Those who hold data.
    pub fn ids(&self) -> Vec<PartitionId> {
        let there = self.servers.iter().filter(|server| server.is_there() && server.holds_data);
        there.map(|server| server.id).collect()
    }

    /// Those, and the witnesses.
    pub fn all_ids(&self) -> Vec<PartitionId> {
        let there = self.servers.iter().filter(|server| server.is_there());
        there.map(|server| server.id).collect()
    }

    pub fn copy(&self) -> PartitionId {
        self.servers.iter().find(|server| !server.is_voter).unwrap().id
    }

    /// Whether front end `front` can talk to a server.
    pub fn reaches(&self, front: usize, id: PartitionId) -> bool {
        let server = self.server(id);
        server.up && !server.gone && !self.fronts[front].cut.contains(&id)
    }

    pub fn key(&mut self) -> Key {
        let nth = self.rng.usize(..self.setup.keys);
        Key::stored(Space::Data, format!("k{nth}"))
    }

    /// Kills a server: what was visible and not durable is gone.
    pub fn crash(&mut self, id: PartitionId) {
        let run = RunId(self.rng.u64(1..));
        let forgets = self.bug == Some(Bug::SequenceForgotten);
        let server = self.server_mut(id);
        server.visible = Rc::clone(&server.durable);
        server.up = false;
        server.boot += 1;
        server.run = run;
        server.checked = false;
        if forgets {
            crate::bugs::forget_sequence(server);
        }
        let durable = self.server(id).durable_status().seq;
        self.note(|| format!("crash {id} at seq {durable}"));
        let lost = self.ledger.lose(id, durable);
        if lost > 0 {
            self.count("crash took back a visible tail");
        }
        self.check_acknowledged();
    }

    pub fn violate(&mut self, checker: &'static str, detail: String) {
        self.note(|| format!("VIOLATION {checker} {detail}"));
        if self.violations.len() < 20 {
            self.violations.push(Violation { checker, step: self.step, detail });
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let step = self.step;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{step:4} {}", what()));
        }
    }
}

/// The rows of a state that a reader would see.
pub fn live_rows(state: &State) -> BTreeMap<&Key, &Record> {
    state.rows().iter().filter(|(_, row)| !row.is_tombstone()).collect()
}
