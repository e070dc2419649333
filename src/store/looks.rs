//! Looking at the partitions: how this front end knows their ages, their vectors and their health.
//!
//! Each partition is looked at on its own ([`crate::lane::look`]), so a sick one delays nobody
//! else's look. A look reads and nothing else: an idle set is not written to. Besides the ages it
//! tells whether the partition answers at all (so that one in trouble comes back by itself) and how
//! fast, and where the heads have moved on past a copy it wakes a pull.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::lanes::Lanes;
use super::route::Part;
use super::routed::masters_of;
use super::{Health, SET_ASIDE, Store};
use crate::age::{Ages, Look};
use crate::lane::LaneError;
use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId};

/// How long a partition may take to say where it stands before it counts as ill.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// A partition as a front end sees it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What it is and how it does.
    pub health: Health,
    /// Where it is, without secrets.
    pub url: Arc<str>,
    /// How old what it holds may be; `None`: not known.
    pub age: Option<Duration>,
    /// How many writes of the masters it lacks; `None`: not known.
    pub lag: Option<u64>,
    /// How far it has everybody's log; `None`: not known.
    pub vector: Option<Arc<Vector>>,
    /// How long it takes to answer.
    pub answers_in: Option<Duration>,
}

impl Store {
    /// The partitions that are looked at.
    pub fn partition_ids(&self) -> Vec<PartitionId> {
        self.lanes.load().keys().copied().collect()
    }

    /// Looks at every partition, at all of them at once.
    pub async fn look(&self) {
        let ids = self.partition_ids();
        futures_util::future::join_all(ids.into_iter().map(|id| self.look_at(id))).await;
    }

    /// The greatest epoch of all clocks, as last seen.
    pub fn greatest_epoch(&self) -> Epoch {
        let seen = self.seen.load();
        let clock = |id: &PartitionId| Some(seen.sight(*id)?.vector.get(*id).epoch());
        self.lanes.load().keys().filter_map(clock).max().unwrap_or_default()
    }

    /// Looks at one partition, and takes in what is seen. Whether its own log has grown since it
    /// was last looked at.
    pub async fn look_at(&self, id: PartitionId) -> bool {
        let Some(lanes) = self.lanes_at(id) else { return false };
        let (topology, read_at) = self.topologies.snapshot();
        let began = self.clock.monotonic();
        let look = timeout(LOOK_MAX, lanes.look.look()).await;
        lanes.answers_in.note(self.clock.monotonic().saturating_sub(began));
        match look {
            Ok(Ok(look)) => {
                // Copies are made anew as a matter of course, and serve at once when they are.
                let is_aside = look.status.reseeding && lanes.served.part.is_voter();
                lanes.note(is_aside.then_some(SET_ASIDE));
                let grown = self.take_in(&look, (&topology, read_at));
                if grown && self.eager && self.has_copy_behind(id, &look.status.vector) {
                    self.sync.wake();
                }
                grown
            }
            Ok(Err(LaneError::Failed(error))) => {
                lanes.note(Some(error.in_public()));
                false
            }
            Ok(Err(LaneError::Overloaded)) | Err(_) => {
                lanes.note(Some("does not answer"));
                false
            }
            Ok(Err(_)) => false,
        }
    }

    fn take_in(&self, look: &Look, (topology, read_at): (&Topology, Duration)) -> bool {
        let id = look.status.partition;
        let mut ages = self.ages();
        let own = |vector: &Vector| vector.get(id);
        let before = ages.seen().sight(id).map(|sight| own(&sight.vector));
        ages.note(look, topology, read_at);
        self.seen.store(Arc::new(ages.seen().clone()));
        before.is_some_and(|before| before < own(&look.status.vector))
    }

    /// Whether a copy was last seen without all that this vector tells of its partition.
    fn has_copy_behind(&self, id: PartitionId, vector: &Vector) -> bool {
        let seen = self.seen.load();
        let lanes = self.lanes.load();
        let mut copies = lanes.values().filter(|lanes| !lanes.served.part.is_voter());
        copies.any(|lanes| {
            let sight = seen.sight(lanes.served.serving.id);
            sight.is_none_or(|sight| sight.vector.get(id) < vector.get(id))
        })
    }

    /// Whether changes anywhere concern a copy inside this process.
    pub fn follows_closely(&self) -> bool {
        let lanes = self.lanes.load();
        let is_embedded = |lanes: &Arc<Lanes>| lanes.served.part == Part::EmbeddedCopy;
        self.eager && lanes.values().any(is_embedded)
    }

    pub(super) fn ages(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions, as last seen.
    pub fn standings(&self) -> Vec<Standing> {
        let (topology, seen, now) =
            (self.topology.load(), self.seen.load(), self.clock.monotonic());
        let masters = masters_of(&topology);
        let lag = |of: &Vector| {
            let lacks = masters.iter().map(|&master| {
                let heads = seen.sight(master)?.vector.get(master).seq().number();
                Some(heads.saturating_sub(of.get(master).seq().number()))
            });
            lacks.sum::<Option<u64>>()
        };
        let one = |lanes: &Lanes| {
            let health = self.health_of(lanes);
            let id = health.partition.id;
            let vector = seen.sight(id).map(|sight| Arc::clone(&sight.vector));
            let as_of = seen.as_of(id, &masters, &topology);
            Standing {
                health,
                url: Arc::clone(&lanes.served.url),
                age: as_of.map(|as_of| now.saturating_sub(as_of)),
                lag: vector.as_deref().and_then(lag),
                vector,
                answers_in: lanes.answers_in.get(),
            }
        };
        self.lanes.load().values().map(|lanes| one(lanes)).collect()
    }
}
