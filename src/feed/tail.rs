//! One thread an origin: reads the origin's log as soon as it grows, for all followers together.
//!
//! The log is read where it is first known, at the origin itself; while that cannot be asked, at
//! whoever has more of it. Nothing is read while nobody follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ring::Batch;
use super::service::{FeedSource, Hub};
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
    /// Starts the thread that reads the log of `sources[0]`; the others stand in for it.
    pub(super) fn start(
        sources: Vec<FeedSource>,
        hub: Arc<Hub>,
        barriers: Arc<Barriers>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let name =
            sources.first().map_or_else(String::new, |source| format!("feed-{}", source.name));
        let mut reader = Reading::new(sources, hub, barriers);
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
    /// The origin first.
    sources: Vec<FeedSource>,
    origin: PartitionId,
    selection: Selection,
    hub: Arc<Hub>,
    barriers: Arc<Barriers>,
    connections: BTreeMap<PartitionId, Box<dyn Partition + Send>>,
    /// How far the log was read; `None`: nobody followed.
    reached: Option<Version>,
    /// Above every floor of the other logs. They are not read here: who stands below one of their
    /// floors is told when it asks for them.
    others: Vector,
    is_in_trouble: bool,
}

impl Reading {
    fn new(sources: Vec<FeedSource>, hub: Arc<Hub>, barriers: Arc<Barriers>) -> Self {
        let origin = sources.first().map_or(PartitionId(0), |source| source.id);
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
        let mut trouble = None;
        for nth in 0..self.sources.len() {
            match self.read_at(nth) {
                Ok(()) => {
                    // The origin knows all of its log; the others each as much as they have.
                    if nth == 0 {
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

    fn read_at(&mut self, nth: usize) -> Result<(), FeedError> {
        let id = self.sources[nth].id;
        let stood_idle = self.connections.contains_key(&id);
        match self.read_over(nth) {
            // A connection that stood idle may have died with its server.
            Err(FeedError::Partition(error)) if stood_idle && error.lost_connection() => {
                self.read_over(nth)
            }
            result => result,
        }
    }

    fn read_over(&mut self, nth: usize) -> Result<(), FeedError> {
        let source = &self.sources[nth];
        let mut connection = match self.connections.remove(&source.id) {
            Some(connection) => connection,
            None => source.connect.connect()?,
        };
        let id = source.id;
        let result = self.read(connection.as_mut());
        if !matches!(&result, Err(FeedError::Partition(error)) if !error.keeps_connection()) {
            self.connections.insert(id, connection);
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
