//! Routes one read or one write.
//!
//! A write goes to the write lane of its key's master. A read names its [`Need`](answer::Need), and
//! the store asks the partitions that may satisfy it in the order of [`route`] until one serves:
//! for a session one whose vector covers the token, after a bounded wait that wakes a pull. What
//! cannot be served is said: never a silent older answer.
//!
//! A partition is a voter or a read copy ([`Part`]). Read copies are read from and nothing else: no
//! write, no push and no list of the masters' view goes there.

mod acks;
pub mod answer;
pub mod explain;
pub mod figures;
mod lanes;
mod lists;
pub mod looks;
mod membership;
mod reads;
pub mod route;
mod routed;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::answer::{Ack, Serving, StoreError, Written};
use self::figures::written_bytes;
use self::lanes::Lanes;
use self::route::Part;
use crate::age::{Ages, Seen};
use crate::clock::Clock;
use crate::feed::Feed;
use crate::founding::history::History;
use crate::jobs::SyncJob;
use crate::lane::pool::Pool;
use crate::lane::write::Answer;
use crate::lane::{Connect, Deadline, LaneError, LaneLimits, Topologies};
use crate::partition::engine::EngineKind;
use crate::partition::{PUT_BACK, PartitionError};
use crate::performance::Counter;
use crate::topology::{Role, State, Topology};
use crate::vector::{Token, Vector};
use crate::version::{PartitionId, SetId};
use crate::write::Write;

/// A partition that the store serves from.
pub struct Served {
    /// Id and name.
    pub serving: Serving,
    /// Where it is, without secrets.
    pub url: Arc<str>,
    /// Whether it is a voter or a read copy.
    pub part: Part,
    /// What kind of database it is.
    pub engine: EngineKind,
    /// Whether small point reads may run on the thread that asks.
    pub is_local: bool,
    /// How lanes with connections of their own reach it.
    pub connect: Arc<dyn Connect>,
    /// The connections for all else.
    pub pool: Arc<Pool>,
}

/// What anybody may know of a voter that was emptied or set aside: a seed ends it, or somebody who
/// puts its database back.
pub const SET_ASIDE: &str = "serves nothing until it is made anew";

/// How one partition is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// Id and name.
    pub partition: Serving,
    /// What kind of database it is.
    pub engine: EngineKind,
    /// What it is for; `None`: it is a read copy.
    pub role: Option<Role>,
    /// Where it stands in its life, as the topology says; `None`: it is a read copy.
    pub state: Option<State>,
    /// How many slots it masters.
    pub slots: usize,
    /// Whether it can serve reads, as far as is known.
    pub readable: bool,
    /// Whether it can take the writes of its slots, as far as is known; `false` where it has none.
    pub writable: bool,
    /// What is wrong, in words that anybody may read.
    pub trouble: Option<&'static str>,
}

impl Health {
    /// Whether its database is an older copy, which nobody goes on with.
    pub fn is_quarantined(&self) -> bool {
        self.trouble == Some(PUT_BACK)
    }
}

/// What the store is made of.
pub struct StoreParts {
    /// The set that the partitions belong to.
    pub set: SetId,
    /// The front end's topology.
    pub topology: Arc<ArcSwap<Topology>>,
    /// Where that comes from.
    pub topologies: Arc<dyn Topologies>,
    /// The partitions that hold data: every data voter of the topology, and read copies.
    pub partitions: Vec<Served>,
    /// Time, for deadlines.
    pub clock: Arc<dyn Clock>,
    /// How long a request may take.
    pub deadline: Duration,
    /// How long a write waits for others than its master to hold it.
    pub ack_timeout: Duration,
    /// The sync job: woken by session reads that wait, and by writes if `eager`.
    pub sync: Arc<SyncJob>,
    /// The feed: told of every write.
    pub feed: Arc<Feed>,
    /// Whether each write wakes the sync job.
    pub eager: bool,
    /// Bounds of the lanes.
    pub limits: LaneLimits,
    /// What is known of the partitions' past: which versions nobody has any more.
    pub history: Arc<History>,
}

type AllLanes = BTreeMap<PartitionId, Arc<Lanes>>;

/// One front end's store.
pub struct Store {
    set: SetId,
    topology: Arc<ArcSwap<Topology>>,
    topologies: Arc<dyn Topologies>,
    /// Read on every request without a lock; partitions come and go.
    lanes: ArcSwap<AllLanes>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    ack_timeout: Duration,
    sync: Arc<SyncJob>,
    feed: Arc<Feed>,
    eager: bool,
    limits: LaneLimits,
    history: Arc<History>,
    /// What the looks at the partitions have told.
    ages: Mutex<Ages>,
    /// What readers need of it, without a lock.
    seen: ArcSwap<Seen>,
    /// Reads of clients.
    reads: Counter,
}

impl Store {
    /// Starts the lanes of every partition. Nothing is connected to before the first request.
    ///
    /// `partitions` has to hold every data voter of the topology.
    pub fn start(parts: StoreParts) -> std::io::Result<Self> {
        let mut lanes = AllLanes::new();
        for served in parts.partitions {
            let id = served.serving.id;
            let started = Lanes::start(served, &parts.topologies, &parts.clock, parts.limits)?;
            lanes.insert(id, Arc::new(started));
        }
        Ok(Self {
            set: parts.set,
            topology: parts.topology,
            topologies: parts.topologies,
            lanes: ArcSwap::from_pointee(lanes),
            clock: parts.clock,
            deadline: parts.deadline,
            ack_timeout: parts.ack_timeout,
            sync: parts.sync,
            feed: parts.feed,
            eager: parts.eager,
            limits: parts.limits,
            history: parts.history,
            ages: Mutex::default(),
            seen: ArcSwap::default(),
            reads: Counter::default(),
        })
    }

    /// The set that this store serves.
    pub const fn set_id(&self) -> SetId {
        self.set
    }

    /// The clock that it lives by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The changes of what it holds.
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The topology in use.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Writes a key at its master, and has others hold it too if `ack` asks for them.
    pub async fn write(
        &self,
        write: Write,
        ack: Ack,
        session: Option<&Token>,
    ) -> Result<Written, StoreError> {
        let mut vector = self.vector_of(session)?;
        let (deadline, _) = self.deadline();
        let mut master = self.topology.load().master_of(&write.key);
        let mut answer = self.write_at(master, write.clone(), deadline).await?;
        if let Err(LaneError::Moved { .. }) = answer {
            // There is a later topology: route once more.
            master = self.topology.load().master_of(&write.key);
            answer = self.write_at(master, write.clone(), deadline).await?;
        }
        let lanes = self.lanes_of(master)?;
        let served_by = lanes.served.serving.clone();
        let outcome = answer.map_err(|error| write_error(error, &served_by.name))?;
        let mut acks = None;
        if let Some(version) = outcome.version() {
            vector.raise(master, version);
            self.feed.wrote(master, version);
            if self.eager {
                self.sync.wrote();
            }
            acks = Some(self.acknowledge(&write, &outcome, master, ack).await);
        }
        let session = Token { set: self.set, vector };
        let written = Written { outcome, served_by, session, acks };
        match acks {
            Some(acks) if !acks.is_met() => Err(StoreError::AckUnmet(Box::new(written))),
            Some(_) | None => Ok(written),
        }
    }

    /// Whether nothing is known to be wrong with a partition.
    pub fn is_well(&self, id: PartitionId) -> bool {
        self.lanes.load().get(&id).is_none_or(|lanes| lanes.is_well())
    }

    /// The voters that are reached over a network: those that can be lost while this front end is
    /// well.
    pub fn distant_voters(&self) -> BTreeSet<PartitionId> {
        let distant = |lanes: &&Arc<Lanes>| lanes.served.part.is_voter() && !lanes.served.is_local;
        let all = self.lanes.load();
        all.values().filter(distant).map(|lanes| lanes.served.serving.id).collect()
    }

    /// How the partitions are doing, from what was last seen of them.
    pub fn health(&self) -> Vec<Health> {
        self.lanes.load().values().map(|lanes| self.health_of(lanes)).collect()
    }

    fn health_of(&self, lanes: &Lanes) -> Health {
        let topology = self.topology.load();
        let id = lanes.served.serving.id;
        let trouble = lanes.trouble();
        let slots = topology.slots_of(id);
        Health {
            partition: lanes.served.serving.clone(),
            engine: lanes.served.engine,
            role: topology.voter(id).map(|voter| voter.role),
            state: topology.voter(id).map(|voter| voter.state),
            slots,
            readable: trouble.is_none(),
            writable: trouble.is_none() && slots > 0,
            trouble,
        }
    }

    /// When a request that begins now has to be through, and how long that is.
    fn deadline(&self) -> (Deadline, Duration) {
        (Deadline(self.clock.monotonic() + self.deadline), self.deadline)
    }

    fn vector_of(&self, session: Option<&Token>) -> Result<Vector, StoreError> {
        match session {
            Some(token) if token.set != self.set => Err(StoreError::ForeignToken),
            Some(token) => Ok(token.vector.clone()),
            None => Ok(Vector::new()),
        }
    }

    /// The lanes of a slot's master. One that has just joined may have none here yet.
    fn lanes_of(&self, master: PartitionId) -> Result<Arc<Lanes>, StoreError> {
        self.lanes.load().get(&master).map(Arc::clone).ok_or_else(|| {
            let partition = self.serving(master).name;
            let why = "this front end does not serve the partition yet";
            let source = Arc::new(PartitionError::Unreachable(why.into()));
            StoreError::NotWritten { partition, source }
        })
    }

    /// Id and name of a partition, whether it has lanes here or not.
    fn serving(&self, id: PartitionId) -> Serving {
        let of_topology = || {
            let topology = self.topology.load();
            let name = topology.voter(id).map_or_else(|| id.to_string(), |one| one.name.clone());
            Serving { id, name: name.into() }
        };
        let all = self.lanes.load();
        all.get(&id).map_or_else(of_topology, |lanes| lanes.served.serving.clone())
    }

    fn no_such(&self, name: &str) -> StoreError {
        let lanes = self.lanes.load();
        let known = lanes.values().map(|lanes| Arc::clone(&lanes.served.serving.name)).collect();
        StoreError::NoSuchPartition { name: name.to_owned(), known }
    }

    async fn write_at(
        &self,
        master: PartitionId,
        write: Write,
        deadline: Deadline,
    ) -> Result<Answer, StoreError> {
        let lanes = self.lanes_of(master)?;
        let (began, key, bytes) =
            (self.clock.monotonic(), write.key.clone(), written_bytes(&write));
        let answer = self.submit(&lanes, write, deadline).await;
        self.count_write(&lanes, (&key, bytes), began, &answer);
        let answer = answer?;
        match &answer {
            Ok(_) => lanes.note(None),
            Err(LaneError::Failed(error) | LaneError::OutcomeUnknown(error)) => {
                lanes.note(Some(error.in_public()));
            }
            Err(_) => {}
        }
        Ok(answer)
    }
}

fn write_error(error: LaneError, name: &Arc<str>) -> StoreError {
    let partition = Arc::clone(name);
    match error {
        LaneError::Overloaded => StoreError::Overloaded { partition },
        LaneError::DeadlinePassed => StoreError::DeadlinePassed { partition },
        LaneError::Stopped | LaneError::Moved { .. } => StoreError::Stopping,
        LaneError::Failed(source) => StoreError::NotWritten { partition, source },
        LaneError::OutcomeUnknown(_) => StoreError::OutcomeUnknown { partition },
    }
}
