//! One thread an origin: reads the origin's log as soon as it grows, for all followers together.
//!
//! The log is read where it is first known, at the origin itself; while that cannot be asked, at
//! whoever has more of it. Nothing is read while nobody follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ring::Batch;
use super::service::{FeedSource, Hub, Sources};
use super::{FeedError, Position, Selection, page};
use crate::partition::{Partition, PartitionError};
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, Seq, Version};

/// How much is read at once: what a batch of the ring may hold.
const LIMITS: PageLimits = PageLimits { entries_max: 500, bytes_max: 256 << 10 };

/// Above any floor.
const LAST: Version = Version::new(Epoch::MAX, Seq::MAX);

#[derive(Debug, Default)]
struct Wanted {
    wakeups: u64,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of a tail; dropping it ends its thread.
pub(super) struct Tail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Starts the thread that reads the log of `origin`: there, or where others stand in for it.
    pub(super) fn start(
        origin: PartitionId,
        sources: Arc<Sources>,
        hub: Arc<Hub>,
        barriers: Arc<Barriers>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let name = format!("feed-of-{origin}");
        let mut reader = Reading::new(origin, sources, hub, barriers);
        let work = move || {
            let mut done = 0;
            while let Some(wakeup) = next(&own, done) {
                done = wakeup;
                reader.look();
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The log may have grown.
    pub(super) fn wake(&self) {
        self.shared.lock().wakeups += 1;
        self.shared.changed.notify_one();
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            drop(thread.join());
        }
    }
}

/// Waits for a wake-up after number `done`; `None`: stop.
fn next(shared: &Shared, done: u64) -> Option<u64> {
    let idle = |wanted: &mut Wanted| wanted.wakeups == done && !wanted.stopping;
    let wanted = shared.changed.wait_while(shared.lock(), idle);
    let wanted = wanted.unwrap_or_else(PoisonError::into_inner);
    (!wanted.stopping).then_some(wanted.wakeups)
}

/// What the thread works with.
struct Reading {
    sources: Arc<Sources>,
    origin: PartitionId,
    selection: Selection,
    hub: Arc<Hub>,
    barriers: Arc<Barriers>,
    /// Each with how many had been lost when it was made.
    connections: BTreeMap<PartitionId, (u64, Box<dyn Partition + Send>)>,
    /// How far the log was read; `None`: nobody followed.
    reached: Option<Version>,
    /// Above every floor of the other logs. They are not read here: who stands below one of their
    /// floors is told when it asks for them.
    others: Vector,
    is_in_trouble: bool,
}

impl Reading {
    fn new(
        origin: PartitionId,
        sources: Arc<Sources>,
        hub: Arc<Hub>,
        barriers: Arc<Barriers>,
    ) -> Self {
        let selection = Selection { prefix: bytes::Bytes::new(), origins: [origin].into() };
        Self {
            sources,
            origin,
            selection,
            hub,
            barriers,
            connections: BTreeMap::new(),
            reached: None,
            others: Vector::new(),
            is_in_trouble: false,
        }
    }

    /// Reads whatever there is.
    fn look(&mut self) {
        if !self.hub.is_followed() {
            self.reached = None;
            return;
        }
        let sources = self.sources.load_full();
        self.connections.retain(|id, _| sources.contains_key(id));
        // Of one that nobody can be asked any more, what others have is known from their vectors.
        let is_there = sources.contains_key(&self.origin);
        if !is_there && self.reached.is_some_and(|at| at >= self.hub.head(self.origin)) {
            return;
        }
        let mut order: Vec<&FeedSource> = sources.values().map(|served| &served.source).collect();
        order.sort_by_key(|source| (source.id != self.origin, !source.is_local));
        let mut trouble = None;
        for source in order {
            match self.read_at(source) {
                Ok(()) => {
                    // The origin knows all of its log; the others each as much as they have.
                    if source.id == self.origin {
                        break;
                    }
                }
                Err(FeedError::Partition(error)) => trouble = trouble.or(Some(error)),
                Err(FeedError::NotCovered) => {}
                // Trimmed past us, or a floor that was not known: the next look begins anew.
                Err(FeedError::Reset) => self.reached = None,
            }
        }
        self.tell(trouble);
    }

    /// Says once that the log cannot be read, and once that it can again.
    fn tell(&mut self, trouble: Option<PartitionError>) {
        match trouble {
            Some(error) if !self.is_in_trouble => {
                let error = crate::sync::round::chain(&error);
                tracing::warn!(origin = %self.origin, %error, "the feed cannot read a log");
                self.is_in_trouble = true;
            }
            None if self.is_in_trouble => {
                tracing::info!(origin = %self.origin, "the feed reads the log again");
                self.is_in_trouble = false;
            }
            Some(_) | None => {}
        }
    }

    fn read_at(&mut self, source: &FeedSource) -> Result<(), FeedError> {
        let losses = source.connect.losses();
        let stood_idle = self.connections.get(&source.id).is_some_and(|(at, _)| *at == losses);
        match self.read_over(source) {
            // A connection that stood idle may have died with its server.
            Err(FeedError::Partition(error)) if stood_idle && error.lost_connection() => {
                source.connect.tell_lost();
                self.read_over(source)
            }
            result => result,
        }
    }

    fn read_over(&mut self, source: &FeedSource) -> Result<(), FeedError> {
        let losses = source.connect.losses();
        let kept = self.connections.remove(&source.id).filter(|(at, _)| *at == losses);
        let mut connection = match kept {
            Some((_, connection)) => connection,
            None => source.connect.connect()?,
        };
        let result = self.read(connection.as_mut());
        if !matches!(&result, Err(FeedError::Partition(error)) if !error.keeps_connection()) {
            self.connections.insert(source.id, (losses, connection));
        }
        result
    }

    /// Reads to the end of what the partition has.
    fn read(&mut self, partition: &mut dyn Partition) -> Result<(), FeedError> {
        let mut reached = match self.reached {
            Some(reached) => reached,
            None => self.begin(partition)?,
        };
        loop {
            let mut position = self.others.clone();
            position.set(self.origin, reached);
            let position = Position::Tail(position);
            let read = page(partition, &position, &self.selection, &self.barriers, LIMITS)?;
            self.hub.note_heads(&read.source);
            let upto = read.next.seen().map_or(reached, |vector| vector.get(self.origin));
            if upto > reached {
                self.hub.publish(Batch::stretch(read.rows, self.origin, reached, upto));
                reached = upto;
                self.reached = Some(upto);
            }
            if !read.more || !self.hub.is_followed() {
                return Ok(());
            }
        }
    }

    /// Where the log stands: the tail begins there, and who comes from below reads the tables.
    fn begin(&mut self, partition: &mut dyn Partition) -> Result<Version, FeedError> {
        let status = partition.status()?;
        let at = status.vector.get(self.origin);
        self.hub.note_heads(&status.vector);
        self.others = Vector::new();
        for (origin, _) in status.vector.iter().chain(status.floors.iter()) {
            self.others.set(origin, LAST);
        }
        self.hub.begin(self.origin, at);
        self.reached = Some(at);
        Ok(at)
    }
}
