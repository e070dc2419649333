//! Routes one read or one write.
//!
//! A write goes to the write lane of its key's master. A read names its [`Need`], and the store
//! picks the partition: for `any` the key's master where it is local, else the others in turn; for
//! a session one whose vector covers the token, after a bounded wait that wakes a pull; the same at
//! the key's master alone; by name exactly there. What cannot be served is said: never a silent
//! older answer.

mod acks;
pub mod answer;
mod lists;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::answer::{Ack, Need, Read, Serving, StoreError, Written};
use crate::clock::Clock;
use crate::jobs::SyncJob;
use crate::lane::point::{Point, PointError, PointLane};
use crate::lane::read::{LocalReaders, ReadLane, Reader};
use crate::lane::write::{WriteLane, WriteLaneParts};
use crate::lane::{Connect, Deadline, LaneError, LaneLimits};
use crate::partition::engine::EngineKind;
use crate::partition::{Found, Get};
use crate::record::{Key, Record};
use crate::session::{SessionError, get_covered};
use crate::topology::{Role, Topology};
use crate::vector::{Token, Vector};
use crate::version::{PartitionId, SetId};
use crate::write::Write;

/// Values up to here are read on the thread that asks, where the engine is local.
const INLINE_BYTES_MAX: usize = crate::lane::point::INLINE_BYTES_MAX;
/// Connections kept for reads on the thread that asks: a few per web worker.
const LOCAL_READERS_MAX: usize = 16;
/// How long a session read waits for a pull before it is refused.
const SESSION_WAIT: Duration = Duration::from_secs(1);

/// A partition that the store serves from.
pub struct Served {
    /// Id and name.
    pub serving: Serving,
    /// What kind of database it is.
    pub engine: EngineKind,
    /// Whether small point reads may run on the thread that asks.
    pub is_local: bool,
    /// How to reach it.
    pub connect: Arc<dyn Connect>,
}

/// How one partition is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// Id and name.
    pub partition: Serving,
    /// What kind of database it is.
    pub engine: EngineKind,
    /// What it is for.
    pub role: Role,
    /// How many slots it masters.
    pub slots: usize,
    /// Whether it can serve reads, as far as is known.
    pub readable: bool,
    /// Whether it can take the writes of its slots, as far as is known; `false` where it has none.
    pub writable: bool,
    /// What is wrong, in words that anybody may read.
    pub trouble: Option<&'static str>,
}

struct Lanes {
    served: Served,
    write: WriteLane,
    read: ReadLane,
    local: LocalReaders,
    /// Point reads, where the partition is not local.
    points: Option<PointLane>,
    trouble: Mutex<Option<&'static str>>,
}

impl Lanes {
    fn note(&self, trouble: Option<&'static str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> Option<&'static str> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read here where that costs little, else on the read lane, and notes how it went.
    async fn read<T: Send + 'static>(
        &self,
        here: bool,
        (deadline, patience): (Deadline, Duration),
        read: impl FnMut(&mut Reader) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, Miss> {
        let result = if here && self.served.is_local {
            self.local.run(read)
        } else {
            let answer = self.read.run(deadline, read);
            let answer = tokio::time::timeout(patience, answer).await;
            answer.map_err(|_| LaneError::DeadlinePassed)??
        };
        match &result {
            Ok(_) | Err(SessionError::NotCovered { .. }) => self.note(None),
            Err(SessionError::Partition(error)) => self.note(Some(error.in_public())),
        }
        Ok(result?)
    }

    /// Reads one key over the point lane, together with whatever else is waiting there.
    async fn point(
        &self,
        points: &PointLane,
        key: &Key,
        needed: &Vector,
        (deadline, patience): (Deadline, Duration),
    ) -> Result<Point, Miss> {
        let answer = points.get(key.clone(), needed.clone(), deadline);
        let answer = tokio::time::timeout(patience, answer).await;
        let answer = answer.unwrap_or(Err(PointError::Lane(LaneError::DeadlinePassed)));
        match &answer {
            Ok(_) | Err(PointError::Behind(_)) => self.note(None),
            Err(PointError::Lane(LaneError::Failed(error))) => self.note(Some(error.in_public())),
            Err(PointError::Lane(_)) => {}
        }
        answer.map_err(|error| match error {
            PointError::Behind((origin, version)) => Miss::Behind(origin, version),
            PointError::Lane(error) => Miss::Lane(error),
        })
    }
}

/// A row, and whether it is visible at `now_ms`.
fn shown(found: Option<Found>, now_ms: i64) -> Option<(Record, bool)> {
    match found {
        Some(Found::Row(row)) => {
            let visible = row.visible(now_ms).is_some();
            Some((row, visible))
        }
        Some(Found::Large { .. }) | None => None,
    }
}

/// Why one partition did not serve a read.
#[derive(Debug)]
enum Miss {
    Behind(PartitionId, crate::version::Version),
    Lane(LaneError),
}

impl From<LaneError> for Miss {
    fn from(error: LaneError) -> Self {
        Self::Lane(error)
    }
}

impl From<SessionError> for Miss {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotCovered { origin, version } => Self::Behind(origin, version),
            SessionError::Partition(error) => Self::Lane(error.into()),
        }
    }
}

/// What the store is made of.
pub struct StoreParts {
    /// The set that the partitions belong to.
    pub set: SetId,
    /// The front end's topology.
    pub topology: Arc<ArcSwap<Topology>>,
    /// The partitions that hold data.
    pub partitions: Vec<Served>,
    /// Time, for deadlines.
    pub clock: Arc<dyn Clock>,
    /// How long a request may take.
    pub deadline: Duration,
    /// How long a write waits for others than its master to hold it.
    pub ack_timeout: Duration,
    /// The sync job: woken by session reads that wait, and by writes if `eager`.
    pub sync: Arc<SyncJob>,
    /// Whether each write wakes the sync job.
    pub eager: bool,
    /// Bounds of the lanes.
    pub limits: LaneLimits,
}

/// One front end's store.
pub struct Store {
    set: SetId,
    topology: Arc<ArcSwap<Topology>>,
    lanes: BTreeMap<PartitionId, Lanes>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    ack_timeout: Duration,
    sync: Arc<SyncJob>,
    eager: bool,
}

impl Store {
    /// Starts the lanes of every partition. Nothing is connected to before the first request.
    ///
    /// `partitions` has to hold every data voter of the topology.
    pub fn start(parts: StoreParts) -> std::io::Result<Self> {
        let mut lanes = BTreeMap::new();
        for served in parts.partitions {
            let write = WriteLane::start(WriteLaneParts {
                id: served.serving.id,
                name: Arc::clone(&served.serving.name),
                connect: Arc::clone(&served.connect),
                topology: Arc::clone(&parts.topology),
                clock: Arc::clone(&parts.clock),
                limits: parts.limits,
            })?;
            let read = ReadLane::start(
                &served.serving.name,
                Arc::clone(&served.connect),
                Arc::clone(&parts.clock),
                parts.limits,
            )?;
            let local = LocalReaders::new(Arc::clone(&served.connect), LOCAL_READERS_MAX);
            let (name, connect) = (&served.serving.name, &served.connect);
            let points = (!served.is_local)
                .then(|| PointLane::start(name, connect, &parts.clock, parts.limits))
                .transpose()?;
            let id = served.serving.id;
            let trouble = Mutex::default();
            lanes.insert(id, Lanes { served, write, read, local, points, trouble });
        }
        Ok(Self {
            set: parts.set,
            topology: parts.topology,
            lanes,
            clock: parts.clock,
            deadline: parts.deadline,
            ack_timeout: parts.ack_timeout,
            sync: parts.sync,
            eager: parts.eager,
        })
    }

    /// The set that this store serves.
    pub const fn set_id(&self) -> SetId {
        self.set
    }

    /// The topology in use.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Reads a key. `session` is the token that came with the request: the answer's is at or above
    /// it.
    pub async fn get(
        &self,
        key: &Key,
        need: &Need,
        session: Option<&Token>,
    ) -> Result<Read, StoreError> {
        let token = self.vector_of(session)?;
        let (served_by, record) =
            self.routed(need, Some(key), |lanes, needed| self.get_at(lanes, key, needed)).await?;
        let mut vector = token;
        let visible = record.and_then(|(row, visible)| {
            vector.raise(row.origin, row.version);
            visible.then_some(row)
        });
        Ok(Read { record: visible, served_by, session: Token { set: self.set, vector } })
    }

    /// Writes a key at its master, and has others hold it too if `ack` asks for them.
    pub async fn write(
        &self,
        write: Write,
        ack: Ack,
        session: Option<&Token>,
    ) -> Result<Written, StoreError> {
        let mut vector = self.vector_of(session)?;
        let mut master = self.topology.load().master_of(&write.key);
        let mut answer = self.write_at(master, write.clone()).await?;
        if let Err(LaneError::Moved { .. }) = answer {
            // The lane knows a later topology: route once more.
            master = self.topology.load().master_of(&write.key);
            answer = self.write_at(master, write.clone()).await?;
        }
        let lanes = self.lanes_of(master);
        let served_by = lanes.served.serving.clone();
        let outcome = answer.map_err(|error| write_error(error, &served_by.name))?;
        let mut acks = None;
        if let Some(version) = outcome.version() {
            vector.raise(master, version);
            if self.eager {
                self.sync.wake();
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

    /// How the partitions are doing, from what was last seen of them.
    pub fn health(&self) -> Vec<Health> {
        let topology = self.topology.load();
        let of = |lanes: &Lanes| {
            let id = lanes.served.serving.id;
            let trouble = lanes.trouble();
            let slots = topology.slots_of(id);
            Health {
                partition: lanes.served.serving.clone(),
                engine: lanes.served.engine,
                role: topology.voter(id).map_or(Role::Replica, |voter| voter.role),
                slots,
                readable: trouble.is_none(),
                writable: trouble.is_none() && slots > 0,
                trouble,
            }
        };
        self.lanes.values().map(of).collect()
    }

    /// Asks every partition for its status, so that [`Store::health`] tells the present.
    pub async fn probe(&self) {
        for lanes in self.lanes.values() {
            let status = |reader: &mut Reader| Ok(reader.partition.status()?);
            if let Err(Miss::Lane(error)) = lanes.read(false, self.deadline(), status).await {
                tracing::debug!(partition = %lanes.served.serving.name, %error, "probe failed");
            }
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

    /// The lanes of a slot's master: masters are data voters, and those are all served.
    fn lanes_of(&self, master: PartitionId) -> &Lanes {
        self.lanes.get(&master).expect("every data voter of the topology has its lanes")
    }

    fn no_such(&self, name: &str) -> StoreError {
        let known = self.lanes.values().map(|lanes| Arc::clone(&lanes.served.serving.name));
        StoreError::NoSuchPartition { name: name.to_owned(), known: known.collect() }
    }

    async fn write_at(
        &self,
        master: PartitionId,
        write: Write,
    ) -> Result<Result<crate::write::Outcome, LaneError>, StoreError> {
        let lanes = self.lanes_of(master);
        let (deadline, patience) = self.deadline();
        let answer = match lanes.write.submit(write, deadline) {
            Ok(answer) => match tokio::time::timeout(patience, answer).await {
                Ok(answer) => answer.unwrap_or(Err(LaneError::Stopped)),
                Err(_) => {
                    // It waits or runs: nobody can say whether it will stand.
                    let partition = Arc::clone(&lanes.served.serving.name);
                    return Err(StoreError::OutcomeUnknown { partition });
                }
            },
            Err(error) => Err(error),
        };
        match &answer {
            Ok(_) => lanes.note(None),
            Err(LaneError::Failed(error) | LaneError::OutcomeUnknown(error)) => {
                lanes.note(Some(error.in_public()));
            }
            Err(_) => {}
        }
        Ok(answer)
    }

    /// Reads one key at one partition: here if it is small and near, else over the lane.
    async fn get_at(
        &self,
        lanes: &Lanes,
        key: &Key,
        needed: Vector,
    ) -> Result<Option<(Record, bool)>, Miss> {
        if let Some(points) = &lanes.points {
            let point = lanes.point(points, key, &needed, self.deadline()).await?;
            if !matches!(point.found, Some(Found::Large { .. })) {
                return Ok(shown(point.found, point.now_ms));
            }
        }
        let get = |inline_bytes_max: usize| {
            let (key, needed) = (key.clone(), needed.clone());
            move |reader: &mut Reader| {
                let get = Get { keys: std::slice::from_ref(&key), inline_bytes_max };
                get_covered(reader.partition.as_mut(), &mut reader.seen, &get, &needed)
            }
        };
        let deadline = self.deadline();
        // Large values of distant partitions come here, too: read singly, off the point lane.
        let inline_bytes_max = if lanes.points.is_some() { usize::MAX } else { INLINE_BYTES_MAX };
        let mut fetched = lanes.read(true, deadline, get(inline_bytes_max)).await?;
        if matches!(fetched.rows.first(), Some(Some(Found::Large { .. }))) {
            fetched = lanes.read(false, deadline, get(usize::MAX)).await?;
        }
        Ok(shown(fetched.rows.pop().flatten(), fetched.now_ms))
    }

    /// Runs a read at the partition that the need allows.
    async fn routed<'a, T, F: Future<Output = Result<T, Miss>>>(
        &'a self,
        need: &Need,
        key: Option<&Key>,
        read: impl Fn(&'a Lanes, Vector) -> F,
    ) -> Result<(Serving, T), StoreError> {
        match need {
            Need::At(name) => {
                let by_name = |lanes: &&Lanes| lanes.served.serving.name.as_ref() == name;
                let lanes = self.lanes.values().find(by_name).ok_or_else(|| self.no_such(name))?;
                let name = &lanes.served.serving.name;
                let answer = read(lanes, Vector::new()).await;
                let answer = answer.map_err(|miss| read_error(miss, name))?;
                Ok((lanes.served.serving.clone(), answer))
            }
            Need::Any => self.first_of(key, &Vector::new(), &read).await,
            Need::Session(token) => self.covered(token, || self.first_of(key, token, &read)).await,
            Need::Master(token) => {
                let master = key.map(|key| self.topology.load().master_of(key));
                let lanes = master.and_then(|master| self.lanes.get(&master));
                let lanes = lanes.ok_or_else(|| self.no_such("the master"))?;
                let serving = &lanes.served.serving;
                let ask = || async {
                    let answer = read(lanes, token.clone()).await;
                    answer.map_err(|miss| read_error(miss, &serving.name))
                };
                Ok((serving.clone(), self.covered(token, ask).await?))
            }
        }
    }

    /// Reads what has to cover `token`; where it does not yet, after a bounded wait for a pull.
    async fn covered<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        token: &Vector,
        read: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        self.check_lost(token)?;
        let pull = match read().await {
            Err(StoreError::TooStale { .. }) => self.sync.run(SESSION_WAIT),
            answer => return answer,
        };
        drop(pull.await);
        read().await
    }

    /// Asks the partitions in turn, the key's master first, until one serves.
    async fn first_of<'a, T, F: Future<Output = Result<T, Miss>>>(
        &'a self,
        key: Option<&Key>,
        needed: &Vector,
        read: &impl Fn(&'a Lanes, Vector) -> F,
    ) -> Result<(Serving, T), StoreError> {
        let master = key.map(|key| self.topology.load().master_of(key));
        let mut order: Vec<&Lanes> = self.lanes.values().collect();
        order.sort_by_key(|lanes| {
            (Some(lanes.served.serving.id) != master, lanes.trouble().is_some())
        });
        let mut last = None;
        for lanes in order {
            match read(lanes, needed.clone()).await {
                Ok(answer) => return Ok((lanes.served.serving.clone(), answer)),
                Err(miss) => {
                    let error = read_error(miss, &lanes.served.serving.name);
                    // Being behind is worth more to the client than being away.
                    if !matches!(last, Some(StoreError::TooStale { .. })) {
                        last = Some(error);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.no_such("any")))
    }

    /// A token may name an origin that no topology of this set has any more.
    fn check_lost(&self, token: &Vector) -> Result<(), StoreError> {
        let topology = self.topology.load();
        let lost = token.iter().find(|(origin, _)| topology.voter(*origin).is_none());
        match lost {
            Some((origin, version)) => Err(StoreError::SessionLost { origin, version }),
            None => Ok(()),
        }
    }
}

fn read_error(miss: Miss, name: &Arc<str>) -> StoreError {
    let partition = Arc::clone(name);
    match miss {
        Miss::Behind(origin, version) => StoreError::TooStale { origin, version },
        Miss::Lane(LaneError::Overloaded) => StoreError::Overloaded { partition },
        Miss::Lane(LaneError::DeadlinePassed) => StoreError::DeadlinePassed { partition },
        Miss::Lane(LaneError::Stopped | LaneError::Moved { .. }) => StoreError::Stopping,
        Miss::Lane(LaneError::Failed(source) | LaneError::OutcomeUnknown(source)) => {
            StoreError::Unreadable { partition, source }
        }
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
