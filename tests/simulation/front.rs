//! Front ends, sessions and followers: what outlives a single operation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use datastore::age::Ages;
use datastore::failover::cuts::Look;
use datastore::feed::Position;
use datastore::founding::history::History;
use datastore::lane::batch::BatchError;
use datastore::record::Key;
use datastore::register::Proposer;
use datastore::session::Seen;
use datastore::sync::barrier::Barriers;
use datastore::topology::Topology;
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Version};
use datastore::write::{Outcome, Write};

/// Where the answer to a write on a lane will be.
pub type Ticket = Rc<RefCell<Option<Result<Outcome, BatchError>>>>;

/// A write lane: a queue, and a connection that one operation at a time works with.
#[derive(Default)]
pub struct Lane {
    pub queue: VecDeque<(Write, Ticket)>,
    pub busy: bool,
    /// The server run in which the connection was opened for writing.
    pub open: Option<u64>,
    /// The epoch under which it was last written over.
    pub begun: Option<Epoch>,
}

/// One front end.
pub struct Front {
    pub topology: Topology,
    /// When the reading began that told the topology.
    pub read_at: Duration,
    /// What it knows of the register.
    pub proposer: Proposer,
    pub lanes: BTreeMap<PartitionId, Lane>,
    pub barriers: Rc<Barriers>,
    /// What partitions were seen to have of each other.
    pub history: History,
    /// What is known over the reading connection made in a run.
    pub seen: BTreeMap<PartitionId, (u64, Seen)>,
    /// What it has seen of everybody's age.
    pub ages: Ages,
    /// Who has not answered a look yet.
    pub looking: BTreeSet<PartitionId>,
    /// The run, and the instant, in which the connection was made that aged reads go over.
    pub aging: BTreeMap<PartitionId, (u64, Duration)>,
    /// Servers that it cannot reach.
    pub cut: BTreeSet<PartitionId>,
    /// Where everybody stood when it looked for old cuts.
    pub looked: Option<Look>,
}

impl Front {
    pub fn new(topology: &Topology) -> Self {
        Self {
            topology: topology.clone(),
            read_at: Duration::ZERO,
            proposer: Proposer::new(0, topology.clone()),
            lanes: BTreeMap::new(),
            barriers: Rc::default(),
            history: History::default(),
            seen: BTreeMap::new(),
            ages: Ages::new(),
            looking: BTreeSet::new(),
            aging: BTreeMap::new(),
            cut: BTreeSet::new(),
            looked: None,
        }
    }
}

/// A client with a token, and what it knows to have seen.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub token: Vector,
    pub seen: BTreeMap<Key, Version>,
}

/// A feed follower that keeps the greater version of each key.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What the keys that it follows begin with.
    pub prefix: Bytes,
    pub position: Position,
    /// Version, and whether the key lives.
    pub state: BTreeMap<Key, (Version, bool)>,
    /// Counts changes of the position, so that of two pages in flight one is dropped.
    pub turn: u64,
}

impl Follower {
    pub fn of(prefix: &'static str) -> Self {
        Self { prefix: prefix.into(), position: Position::Start, state: BTreeMap::new(), turn: 0 }
    }
}
