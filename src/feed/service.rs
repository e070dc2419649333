//! The feed of one front end: tails, lanes for whoever is behind, and who follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;

use super::follower::{Kind, Listed};
use super::gone::Gone;
use super::ring::{Batch, Ring, Turn};
use super::tails::Tails;
use super::{FeedError, FeedPage, Follower, Position, Selection, page};
use crate::clock::Clock;
use crate::jobs::SyncJob;
use crate::lane::pool::Pool;
use crate::lane::read::ReadLane;
use crate::lane::reader::Reader;
use crate::lane::{Connect, Deadline, LaneError, LaneLimits};
use crate::partition::PartitionError;
use crate::session::SessionError;
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::vector::Vector;
use crate::version::{PartitionId, SetId, Version};

/// How long a snapshot waits for a partition that covers where it began, each time.
const COVER_WAIT: Duration = Duration::from_secs(1);

/// A partition that the feed reads.
#[derive(Clone)]
pub struct FeedSource {
    /// Its id.
    pub id: PartitionId,
    /// Its name.
    pub name: Arc<str>,
    /// Whether reading there costs no way.
    pub is_local: bool,
    /// Whether it may give versions of its own; else it is a read copy, which has no log.
    pub is_voter: bool,
    /// How to reach it.
    pub connect: Arc<dyn Connect>,
}

/// What following may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLimits {
    /// The most followers at once.
    pub followers_max: usize,
    /// Bytes of what was read last that are kept for all followers together.
    pub ring_bytes_max: usize,
    /// How often a follower hears something although nothing happens.
    pub heartbeat: Duration,
    /// How long a read of the tables may take.
    pub deadline: Duration,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            followers_max: 16_384,
            ring_bytes_max: 16 << 20,
            heartbeat: Duration::from_secs(15),
            deadline: Duration::from_secs(5),
        }
    }
}

/// What a feed is made of.
pub struct FeedParts {
    /// The set that the partitions belong to.
    pub set: SetId,
    /// The partitions that hold data.
    pub sources: Vec<FeedSource>,
    /// Time, for deadlines.
    pub clock: Arc<dyn Clock>,
    /// Woken where a snapshot waits for a partition to catch up.
    pub sync: Arc<SyncJob>,
    /// Bounds.
    pub limits: FeedLimits,
}

/// Why there is no page.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FeedFailure {
    /// The position is gone: begin again.
    #[error("the log has been trimmed past the position, or what the follower has seen is lost")]
    Reset,
    /// No partition has yet all that a snapshot began with.
    #[error("no partition has yet what the snapshot began with")]
    NotCovered,
    /// Nobody could be asked.
    #[error("no partition could be asked")]
    Unreadable {
        /// The partition that was asked last.
        partition: Arc<str>,
        /// Why.
        #[source]
        source: Arc<PartitionError>,
    },
    /// Too many follow, or wait, already.
    #[error("too many follow already")]
    Overloaded,
    /// The service is draining.
    #[error("the service is shutting down")]
    Stopping,
}

/// A page that was put together for one request.
#[derive(Debug)]
pub struct Paged {
    /// The events.
    pub batch: Batch,
    /// The position after them.
    pub next: Position,
    /// Whether more is there already.
    pub more: bool,
}

/// What tails and followers share.
pub(super) struct Hub {
    ring: Mutex<Ring>,
    /// Counts what followers may want to look at.
    changes: watch::Sender<u64>,
    /// The newest known version of each origin.
    heads: Mutex<Vector>,
    /// Who needs the tails.
    tailing: AtomicUsize,
    closed: AtomicBool,
    /// What nobody has any more.
    gone: Mutex<Vec<Gone>>,
}

impl Hub {
    fn new(limits: FeedLimits) -> Self {
        Self {
            ring: Mutex::new(Ring::new(limits.ring_bytes_max)),
            changes: watch::Sender::new(0),
            heads: Mutex::default(),
            tailing: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            gone: Mutex::default(),
        }
    }

    /// Whether whoever stands here has seen what nobody has any more: nobody would cover it again.
    pub(super) fn is_gone(&self, position: &Position) -> bool {
        let Some(vector) = position.within() else { return false };
        lock(&self.gone).iter().any(|gone| gone.takes(vector))
    }

    pub(super) fn is_followed(&self) -> bool {
        self.tailing.load(Ordering::SeqCst) > 0
    }

    pub(super) fn begin(&self, origin: PartitionId, at: Version) {
        lock(&self.ring).begin(origin, at);
        self.tell();
    }

    pub(super) fn publish(&self, batch: Batch) {
        lock(&self.ring).publish(batch);
        self.tell();
    }

    pub(super) fn note_heads(&self, vector: &Vector) {
        lock(&self.heads).join(vector);
    }

    /// The newest known version of an origin.
    pub(super) fn head(&self, origin: PartitionId) -> Version {
        lock(&self.heads).get(origin)
    }

    pub(super) fn next(
        &self,
        position: &mut Vector,
        seen: &mut u64,
        without: &BTreeSet<PartitionId>,
    ) -> Turn {
        lock(&self.ring).next(position, seen, without)
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A partition that is read, and the lane for whoever is behind: such reads never wait for a tail,
/// nor it for them.
pub(super) struct Served {
    pub(super) source: FeedSource,
    lane: ReadLane,
}

/// The partitions that are read, as they are at the time.
pub(super) type Sources = ArcSwap<BTreeMap<PartitionId, Arc<Served>>>;

/// One front end's feed.
pub struct Feed {
    set: SetId,
    served: Arc<Sources>,
    tails: Tails,
    hub: Arc<Hub>,
    barriers: Arc<Barriers>,
    clock: Arc<dyn Clock>,
    sync: Arc<SyncJob>,
    limits: FeedLimits,
    followers: Mutex<BTreeMap<u64, Listed>>,
    /// Numbers followers; also spreads snapshots over the partitions.
    count: AtomicU64,
}

impl Feed {
    /// Starts the threads. Nothing is connected to before somebody follows.
    pub fn start(parts: FeedParts) -> std::io::Result<Self> {
        let hub = Arc::new(Hub::new(parts.limits));
        let barriers = Arc::clone(parts.sync.barriers());
        let served = Arc::new(Sources::default());
        let feed = Self {
            set: parts.set,
            tails: Tails::new(Arc::clone(&served), Arc::clone(&hub), Arc::clone(&barriers)),
            served,
            hub,
            barriers,
            clock: parts.clock,
            sync: parts.sync,
            limits: parts.limits,
            followers: Mutex::default(),
            count: AtomicU64::new(0),
        };
        for source in parts.sources {
            feed.serve(source)?;
        }
        Ok(feed)
    }

    /// Reads this partition as well from now on, and follows its log if it may give versions; one
    /// that was read already is reached in this way.
    pub fn serve(&self, source: FeedSource) -> std::io::Result<()> {
        let limits = LaneLimits { read_threads: 1, ..LaneLimits::default() };
        let name = format!("feed-{}", source.name);
        let (connect, clock) = (Arc::clone(&source.connect), Arc::clone(&self.clock));
        let pool = Arc::new(Pool::new(connect, Arc::clone(&clock), limits));
        let lane = ReadLane::start(&name, pool, clock, limits)?;
        let (id, is_voter) = (source.id, source.is_voter);
        let new = Arc::new(Served { source, lane });
        self.served.rcu(|served| {
            let mut served = BTreeMap::clone(served);
            served.insert(id, Arc::clone(&new));
            served
        });
        if is_voter { self.tails.add(id) } else { Ok(()) }
    }

    /// Reads this partition no more. What others have of its log goes on to be followed.
    pub fn leave(&self, id: PartitionId) {
        let left = self.served.load().get(&id).map(Arc::clone);
        self.served.rcu(|served| {
            let mut served = BTreeMap::clone(served);
            served.remove(&id);
            served
        });
        // Its lane comes to the end of what it does, which nobody here waits for.
        drop(std::thread::Builder::new().spawn(move || drop(left)));
    }

    /// The set whose changes these are.
    pub const fn set_id(&self) -> SetId {
        self.set
    }

    /// Its bounds.
    pub const fn limits(&self) -> FeedLimits {
        self.limits
    }

    /// From now on this is what nobody has any more: whoever has seen it is told to begin again.
    pub fn lose(&self, gone: Vec<Gone>) {
        if *lock(&self.hub.gone) != gone {
            *lock(&self.hub.gone) = gone;
            self.hub.tell();
        }
    }

    /// This front end has written at `origin`.
    pub fn wrote(&self, origin: PartitionId, version: Version) {
        self.barriers.flushed(origin, version);
        lock(&self.hub.heads).raise(origin, version);
        if self.hub.is_followed() {
            self.tails.wake(origin);
        }
    }

    /// Somebody may have written anywhere: costs nothing while nobody follows.
    pub fn look(&self) {
        if self.hub.is_followed() {
            self.tails.add_seen(&self.heads());
            self.tails.wake_all();
        }
    }

    /// The newest version of each origin that this front end knows of.
    pub fn heads(&self) -> Vector {
        lock(&self.hub.heads).clone()
    }

    /// How many writes are known above a position.
    pub fn lag(&self, position: &Position) -> Option<u64> {
        let seen = position.seen()?;
        let behind = |(origin, head): (PartitionId, Version)| {
            head.seq().number().saturating_sub(seen.get(origin).seq().number())
        };
        Some(self.heads().iter().map(behind).sum())
    }

    /// The name of a partition; its number where nobody has that name any more.
    pub fn name_of(&self, id: PartitionId) -> Arc<str> {
        match self.served.load().get(&id) {
            Some(served) => Arc::clone(&served.source.name),
            None => id.to_string().into(),
        }
    }

    /// Ends every follower's stream; nobody can follow any more.
    pub fn close(&self) {
        self.hub.closed.store(true, Ordering::SeqCst);
        self.hub.tell();
    }

    /// Whether the end has begun.
    pub fn is_closed(&self) -> bool {
        self.hub.closed.load(Ordering::SeqCst)
    }

    /// What the ring holds, in bytes.
    pub fn ring_bytes(&self) -> usize {
        lock(&self.hub.ring).bytes()
    }

    /// Who follows here.
    pub fn followers(&self) -> Vec<Listed> {
        lock(&self.followers).values().cloned().collect()
    }

    /// Begins to follow from `position`.
    pub fn follow(
        self: &Arc<Self>,
        position: Position,
        prefix: Bytes,
        kind: Kind,
    ) -> Result<Follower, FeedFailure> {
        if self.is_closed() {
            return Err(FeedFailure::Stopping);
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        {
            let mut followers = lock(&self.followers);
            if followers.len() >= self.limits.followers_max {
                return Err(FeedFailure::Overloaded);
            }
            let since_ms = self.clock.wall_ms();
            let (prefix, position) = (prefix.clone(), position.clone());
            followers.insert(number, Listed { kind, prefix, position, since_ms });
        }
        if self.hub.tailing.fetch_add(1, Ordering::SeqCst) == 0 {
            self.look();
        }
        let changes = self.hub.changes.subscribe();
        Ok(Follower::new(Arc::clone(self), number, position, prefix, changes))
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) fn moved(&self, number: u64, position: &Position) {
        if let Some(listed) = lock(&self.followers).get_mut(&number) {
            listed.position = position.clone();
        }
    }

    pub(super) fn left(&self, number: u64) {
        lock(&self.followers).remove(&number);
        if self.hub.tailing.fetch_sub(1, Ordering::SeqCst) == 1 {
            // So that the tails notice that nobody is left, and forget where they were.
            self.tails.wake_all();
        }
    }

    /// Where the logs end now: what is written after this call comes after it.
    pub async fn now(&self) -> Result<Vector, FeedFailure> {
        let mut now = Vector::new();
        let mut failure = None;
        let mut asked = 0;
        for served in self.served.load_full().values() {
            let barriers = Arc::clone(&self.barriers);
            let status = move |reader: &mut Reader| {
                let status = reader.partition.status()?;
                barriers.pass(reader.partition.as_mut(), &status)?;
                Ok(Ok(status.vector))
            };
            match self.run(served, status).await {
                Ok(vector) => {
                    asked += 1;
                    now.join(&vector);
                }
                Err(error) => failure = Some(error),
            }
        }
        self.hub.note_heads(&now);
        match failure {
            Some(failure) if asked == 0 => Err(failure),
            Some(_) | None => Ok(now),
        }
    }

    /// Reads the next page after `position`: of the snapshot, or of all logs together, until about
    /// `limits` are reached.
    pub async fn page(
        &self,
        position: &Position,
        prefix: &Bytes,
        limits: PageLimits,
    ) -> Result<Paged, FeedFailure> {
        if self.hub.is_gone(position) {
            return Err(FeedFailure::Reset);
        }
        let Position::Tail(vector) = position else {
            let page = self.snapshot(position, prefix, limits).await?;
            let batch = Batch::of(page.rows);
            return Ok(Paged { batch, next: page.next, more: true });
        };
        let (mut next, mut left, mut more) = (vector.clone(), limits, false);
        let (mut rows, mut failure, mut read) = (Vec::new(), None, 0);
        for origin in self.origins_above(vector) {
            if left.entries_max == 0 || left.bytes_max == 0 {
                more = true;
                break;
            }
            match self.read_log(origin, &next, prefix, left).await {
                Ok(page) => {
                    read += 1;
                    more |= page.more;
                    if let Position::Tail(vector) = page.next {
                        next = vector;
                    }
                    let bytes: usize = page.rows.iter().map(crate::record::Record::weight).sum();
                    left.entries_max = left.entries_max.saturating_sub(page.rows.len());
                    left.bytes_max = left.bytes_max.saturating_sub(bytes);
                    rows.extend(page.rows);
                }
                Err(FeedFailure::Reset) => return Err(FeedFailure::Reset),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(failure) if read == 0 => Err(failure),
            Some(_) | None => {
                Ok(Paged { batch: Batch::of(rows), next: Position::Tail(next), more })
            }
        }
    }

    /// Whether every log has been looked at since somebody follows.
    pub(super) fn knows_all_logs(&self) -> bool {
        let origins = self.tails.origins();
        let ring = lock(&self.hub.ring);
        origins.into_iter().all(|origin| ring.has_begun(origin))
    }

    /// Every origin whose log may go on after `position`.
    fn origins_above(&self, position: &Vector) -> Vec<PartitionId> {
        let mut origins = self.tails.origins();
        let heads = self.heads();
        origins.extend(heads.iter().chain(position.iter()).map(|(origin, _)| origin));
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// Reads a page of a snapshot at a partition that covers where it began.
    pub(super) async fn snapshot(
        &self,
        position: &Position,
        prefix: &Bytes,
        limits: PageLimits,
    ) -> Result<FeedPage, FeedFailure> {
        let selection = Selection { prefix: prefix.clone(), origins: [].into() };
        match self.first_of(None, position, &selection, limits).await {
            Err(FeedFailure::NotCovered) => {}
            answer => return answer,
        }
        // Nobody waits for the report, only for the round.
        drop(self.sync.run(COVER_WAIT).await);
        self.first_of(None, position, &selection, limits).await
    }

    /// Reads what `origin`'s log has after `position`: at the origin, else at whoever has more.
    pub(super) async fn read_log(
        &self,
        origin: PartitionId,
        position: &Vector,
        prefix: &Bytes,
        limits: PageLimits,
    ) -> Result<FeedPage, FeedFailure> {
        let selection = Selection { prefix: prefix.clone(), origins: [origin].into() };
        let position = Position::Tail(position.clone());
        self.first_of(Some(origin), &position, &selection, limits).await
    }

    /// Asks the partitions in turn: `origin`, then local ones, then the others, each time another
    /// one first. Of an origin's log nobody else knows whether it is all: the page of whoever has
    /// most of it is given.
    async fn first_of(
        &self,
        origin: Option<PartitionId>,
        position: &Position,
        selection: &Selection,
        limits: PageLimits,
    ) -> Result<FeedPage, FeedFailure> {
        let turn = self.count.fetch_add(1, Ordering::Relaxed);
        let served = self.served.load_full();
        let mut order: Vec<&Arc<Served>> = served.values().collect();
        let shift = usize::try_from(turn % order.len().max(1) as u64).unwrap_or(0);
        order.rotate_left(shift);
        order.sort_by_key(|served| (Some(served.source.id) != origin, !served.source.is_local));
        let (mut best, mut last): (Option<FeedPage>, _) = (None, FeedFailure::NotCovered);
        let reach = |page: &FeedPage| Some(page.next.seen()?.get(origin?));
        for served in order {
            match self.page_at(served, position, selection, limits).await {
                Ok(page) => {
                    self.hub.note_heads(&page.source);
                    if page.more || origin.is_none_or(|origin| origin == served.source.id) {
                        return Ok(page);
                    }
                    if best.as_ref().map(reach) < Some(reach(&page)) {
                        best = Some(page);
                    }
                }
                // Of two reasons the one that tells the follower what to do.
                Err(FeedFailure::NotCovered) if matches!(last, FeedFailure::Unreadable { .. }) => {}
                Err(FeedFailure::Reset) => return Err(FeedFailure::Reset),
                Err(error) => last = error,
            }
        }
        best.ok_or(last)
    }

    async fn page_at(
        &self,
        served: &Served,
        position: &Position,
        selection: &Selection,
        limits: PageLimits,
    ) -> Result<FeedPage, FeedFailure> {
        let (position, selection) = (position.clone(), selection.clone());
        let barriers = Arc::clone(&self.barriers);
        let read = move |reader: &mut Reader| {
            let partition = reader.partition.as_mut();
            match page(partition, &position, &selection, &barriers, limits) {
                Err(FeedError::Partition(error)) => Err(SessionError::Partition(error)),
                Err(FeedError::Reset) => Ok(Err(FeedFailure::Reset)),
                Err(FeedError::NotCovered) => Ok(Err(FeedFailure::NotCovered)),
                Ok(page) => Ok(Ok(page)),
            }
        };
        self.run(served, read).await
    }

    async fn run<T: Send + 'static>(
        &self,
        served: &Served,
        read: impl FnMut(&mut Reader) -> Result<Result<T, FeedFailure>, SessionError> + Send + 'static,
    ) -> Result<T, FeedFailure> {
        let deadline = Deadline(self.clock.monotonic() + self.limits.deadline);
        let answer = served.lane.run(deadline, read);
        let answer = tokio::time::timeout(self.limits.deadline, answer).await;
        let partition = Arc::clone(&served.source.name);
        match answer.unwrap_or(Err(LaneError::DeadlinePassed)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(SessionError::Partition(error))) => {
                Err(FeedFailure::Unreadable { partition, source: Arc::new(error) })
            }
            Ok(Err(SessionError::NotCovered { .. })) => Err(FeedFailure::NotCovered),
            Err(LaneError::Overloaded | LaneError::DeadlinePassed) => Err(FeedFailure::Overloaded),
            Err(LaneError::Stopped | LaneError::Moved { .. }) => Err(FeedFailure::Stopping),
            Err(LaneError::Failed(source) | LaneError::OutcomeUnknown(source)) => {
                Err(FeedFailure::Unreadable { partition, source })
            }
        }
    }
}
