//! What the store has of one partition: its lanes, and what is known of how it does.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Served;
use super::answer::StoreError;
use super::route::AnswerTime;
use crate::clock::Clock;
use crate::lane::look::LookLane;
use crate::lane::point::{Point, PointError, PointLane};
use crate::lane::push::PushLane;
use crate::lane::read::{LocalReaders, ReadLane};
use crate::lane::reader::Reader;
use crate::lane::write::{WriteLane, WriteLaneParts};
use crate::lane::{Deadline, LaneError, LaneLimits, Topologies};
use crate::partition::PartitionError;
use crate::performance::Meter;
use crate::record::Key;
use crate::session::SessionError;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// Connections kept for reads on the thread that asks: a few per web worker.
const LOCAL_READERS_MAX: usize = 16;
/// What each of them may keep of what it has read, and all of one partition together.
const LOCAL_KEPT_BYTES_MAX: usize = 64 << 20;
const LOCAL_KEPT_BYTES_ALL: usize = 256 << 20;

/// One partition's lanes.
pub struct Lanes {
    /// Which partition, and how it is reached.
    pub served: Served,
    /// Its writes; `None`: it is a read copy.
    pub write: Option<WriteLane>,
    /// What others have written; `None`: it is a read copy.
    pub push: Option<PushLane>,
    /// Lists, large values.
    pub read: ReadLane,
    /// Point reads, where the partition is not local.
    pub points: Option<PointLane>,
    /// Where it stands, asked again and again.
    pub look: LookLane,
    /// How long it takes to answer.
    pub answers_in: AnswerTime,
    /// What it was asked on behalf of clients, and how that went.
    pub meter: Meter,
    /// Point reads, where the partition is local.
    local: LocalReaders,
    clock: Arc<dyn Clock>,
    trouble: Trouble,
}

impl Lanes {
    /// Starts them. Nothing is connected to before the first request.
    pub fn start(
        served: Served,
        topologies: &Arc<dyn Topologies>,
        clock: &Arc<dyn Clock>,
        limits: LaneLimits,
    ) -> std::io::Result<Self> {
        let (name, connect) = (&served.serving.name, &served.connect);
        let readers = std::thread::available_parallelism().map_or(1, NonZero::get);
        let kept = (LOCAL_KEPT_BYTES_ALL / readers).min(LOCAL_KEPT_BYTES_MAX);
        let local =
            LocalReaders::new(Arc::clone(connect), Arc::clone(clock), LOCAL_READERS_MAX, kept);
        let write = served.part.is_voter().then(|| {
            WriteLane::start(&WriteLaneParts {
                id: served.serving.id,
                name: Arc::clone(name),
                connect: Arc::clone(connect),
                topologies: Arc::clone(topologies),
                clock: Arc::clone(clock),
                // A local engine has nobody else at work while it flushes.
                limits: if served.is_local { limits.writing_alone() } else { limits },
            })
        });
        let push = served
            .part
            .is_voter()
            .then(|| PushLane::start(name, Arc::clone(&served.pool), Arc::clone(clock), limits));
        let points = (!served.is_local).then(|| PointLane::start(name, connect, clock, limits));
        Ok(Self {
            write: write.transpose()?,
            push: push.transpose()?,
            read: ReadLane::start(name, Arc::clone(&served.pool), Arc::clone(clock), limits)?,
            points: points.transpose()?,
            look: LookLane::start(name, Arc::clone(connect), Arc::clone(clock))?,
            answers_in: AnswerTime::default(),
            meter: Meter::new(clock.monotonic()),
            local,
            clock: Arc::clone(clock),
            trouble: Trouble::default(),
            served,
        })
    }

    /// Notes how it does: what is wrong, or that nothing is.
    pub fn note(&self, trouble: Option<&'static str>) {
        self.trouble.note(trouble);
    }

    /// What is wrong, as far as is known.
    pub fn trouble(&self) -> Option<&'static str> {
        self.trouble.get()
    }

    /// Whether nothing is known to be wrong.
    pub fn is_well(&self) -> bool {
        !self.trouble.any.load(Ordering::Relaxed)
    }

    /// How long one read may be silent before it is looked at whether the partition is: many times
    /// what it takes, and no less than a thread may wait for its processor.
    pub fn soon(&self) -> Duration {
        const TIMES: u32 = 16;
        const LEAST: Duration = Duration::from_millis(25);
        self.answers_in.get().map_or(Duration::MAX, |usual| (usual * TIMES).max(LEAST))
    }

    /// Whether it is the partition that is silent, and not a single read: many wait for it, or
    /// somebody else has waited long enough.
    pub fn is_silent(&self) -> bool {
        const MANY: usize = 8;
        !self.is_well() || self.points.as_ref().is_some_and(|points| points.pending() >= MANY)
    }

    /// Runs a small read of a local partition on the thread that asks; it is `began` now.
    pub fn read_here<T>(
        &self,
        began: Duration,
        read: impl FnMut(&mut Reader) -> Result<T, SessionError>,
    ) -> Result<T, Miss> {
        self.noted(self.local.run(began, read))
    }

    /// Runs a read on the read lane.
    pub async fn read<T: Send + 'static>(
        &self,
        (deadline, patience): (Deadline, Duration),
        read: impl FnMut(&mut Reader) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, Miss> {
        let answer = tokio::time::timeout(patience, self.read.run(deadline, read)).await;
        self.noted(answer.map_err(|_| LaneError::DeadlinePassed)??)
    }

    /// Notes how a read went.
    fn noted<T>(&self, result: Result<T, SessionError>) -> Result<T, Miss> {
        match &result {
            Ok(_)
            | Err(
                SessionError::NotCovered { .. }
                // All its other rows are as they should be.
                | SessionError::Partition(PartitionError::DamagedRow { .. }),
            ) => self.note(None),
            Err(SessionError::Partition(error)) => self.note(Some(error.in_public())),
        }
        Ok(result?)
    }

    /// Reads one key over the point lane, together with whatever else is waiting there.
    pub async fn point(
        &self,
        points: &PointLane,
        key: &Key,
        needed: &Vector,
        (deadline, patience): (Deadline, Duration),
    ) -> Result<Point, Miss> {
        let began = self.clock.monotonic();
        let answer = points.submit(key.clone(), needed.clone(), deadline)?;
        let answer = tokio::time::timeout(patience, answer).await;
        // For nothing, too: whoever lets reads wait is slow.
        self.answers_in.note(self.clock.monotonic().saturating_sub(began));
        let answer = match answer {
            Ok(answer) => answer.unwrap_or(Err(LaneError::Stopped.into())),
            Err(_) => Err(LaneError::DeadlinePassed.into()),
        };
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

/// What is wrong with a partition. Asked and noted with every read, so where all is well, as nearly
/// always, neither takes a lock.
#[derive(Debug, Default)]
struct Trouble {
    any: AtomicBool,
    what: Mutex<Option<&'static str>>,
}

impl Trouble {
    fn note(&self, trouble: Option<&'static str>) {
        if trouble.is_none() && !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        *what = trouble;
        self.any.store(trouble.is_some(), Ordering::Relaxed);
    }

    fn get(&self) -> Option<&'static str> {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why one partition did not serve a read.
#[derive(Debug)]
pub enum Miss {
    /// It has not yet this version of this origin.
    Behind(PartitionId, Version),
    /// What it holds may be older than was asked for.
    TooOld {
        /// How old; `None`: not known.
        age: Option<Duration>,
        /// What was asked for.
        max_age: Duration,
    },
    /// Its lane had no answer.
    Lane(LaneError),
}

impl Miss {
    /// What a client is told of it, if nobody else serves the read.
    pub fn at(self, partition: &Arc<str>) -> StoreError {
        let partition = Arc::clone(partition);
        match self {
            Self::Behind(origin, version) => StoreError::TooStale { origin, version },
            Self::TooOld { age, max_age } => StoreError::TooOld { age, max_age },
            Self::Lane(LaneError::Overloaded) => StoreError::Overloaded { partition },
            Self::Lane(LaneError::DeadlinePassed) => StoreError::DeadlinePassed { partition },
            Self::Lane(LaneError::Stopped | LaneError::Moved { .. }) => StoreError::Stopping,
            Self::Lane(LaneError::Failed(source) | LaneError::OutcomeUnknown(source)) => {
                StoreError::Unreadable { partition, source }
            }
        }
    }
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
