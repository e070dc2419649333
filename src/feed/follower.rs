//! One follower: takes what comes after its position, from the ring or from the tables.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Position;
use super::ring::{Batch, Turn};
use super::service::{Feed, FeedFailure};
use crate::sync::pass::PageLimits;
use crate::vector::Vector;
use crate::version::PartitionId;

/// How much one who is behind reads at once: little, since many may be behind.
const LIMITS: PageLimits = PageLimits { entries_max: 200, bytes_max: 64 << 10 };
/// How long to wait where the tables did not have what the ring knows of.
const AGAIN: Duration = Duration::from_millis(100);
/// After so many waits it is told how far it is, although not all logs could be asked.
const WAITS_MAX: u32 = 50;

/// How somebody follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An open stream of events.
    Stream,
    /// A request that waits for something to happen.
    Wait,
    /// The same on behalf of a subscription.
    Subscription(Arc<str>),
}

/// A follower, as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// How it follows.
    pub kind: Kind,
    /// What it follows.
    pub prefix: Bytes,
    /// How far it has come.
    pub position: Position,
    /// Since when: milliseconds since 1970 UTC.
    pub since_ms: i64,
}

/// What comes next for a follower.
#[derive(Debug)]
pub enum Step {
    /// Events; some may be of keys that it does not follow.
    Events(Arc<Batch>),
    /// It has all that there is, as far as can be asked. Said once, and again after a reset.
    Current,
    /// Nothing for so long.
    Quiet,
    /// Its position is gone; it stands at the beginning again.
    Reset,
    /// It cannot go on here: try again, elsewhere or later.
    End,
}

/// One follower. Dropping it ends the following.
pub struct Follower {
    feed: Arc<Feed>,
    number: u64,
    position: Position,
    prefix: Bytes,
    /// The batches of the ring that it has looked at.
    seen: u64,
    /// Whose logs could not be read just now.
    stalled: BTreeSet<PartitionId>,
    /// Whether it was told that it has all that there is.
    is_current: bool,
    waits: u32,
    changes: watch::Receiver<u64>,
}

impl Follower {
    pub(super) const fn new(
        feed: Arc<Feed>,
        number: u64,
        position: Position,
        prefix: Bytes,
        changes: watch::Receiver<u64>,
    ) -> Self {
        Self {
            feed,
            number,
            position,
            prefix,
            seen: 0,
            stalled: BTreeSet::new(),
            is_current: false,
            waits: 0,
            changes,
        }
    }

    /// A number of its own, among the followers of this front end.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// How far it has come with what it was given last.
    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// What it follows.
    pub const fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// Its feed.
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What comes next, within `patience`. May be given up at any moment: a step that was not
    /// finished has not moved the position.
    pub async fn step(&mut self, patience: Duration) -> Step {
        timeout(patience, self.next()).await.unwrap_or(Step::Quiet)
    }

    async fn next(&mut self) -> Step {
        loop {
            if self.feed.is_closed() {
                return Step::End;
            }
            // Before looking, so that what comes while we look wakes us again.
            self.changes.mark_unchanged();
            let step = match self.position.clone() {
                position if self.feed.hub().is_gone(&position) => Some(self.reset()),
                Position::Tail(vector) => self.tail(vector).await,
                Position::Start | Position::Snapshot { .. } => self.snapshot().await,
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    async fn snapshot(&mut self) -> Option<Step> {
        match self.feed.snapshot(&self.position, &self.prefix, LIMITS).await {
            Ok(page) => {
                self.move_to(page.next);
                Some(Step::Events(Arc::new(Batch::of(page.rows))))
            }
            Err(FeedFailure::Reset) => Some(self.reset()),
            Err(failure) => Some(Self::give_up(&failure)),
        }
    }

    /// `None`: look again.
    async fn tail(&mut self, mut vector: Vector) -> Option<Step> {
        match self.feed.hub().next(&mut vector, &mut self.seen, &self.stalled) {
            Turn::Take(batch) => {
                self.move_to(Position::Tail(vector));
                let wanted = batch.events.iter().any(|event| self.follows(event.row.key.bytes()));
                wanted.then_some(Step::Events(batch))
            }
            Turn::Behind(origin) => {
                match self.feed.read_log(origin, &vector, &self.prefix, LIMITS).await {
                    Ok(page) if page.next.seen() != Some(&vector) => {
                        self.move_to(page.next);
                        let is_empty = page.rows.is_empty();
                        (!is_empty).then(|| Step::Events(Arc::new(Batch::of(page.rows))))
                    }
                    Err(FeedFailure::Reset) => Some(self.reset()),
                    // The other logs go on, and this one when it can be read again.
                    Ok(_) | Err(_) => {
                        self.stalled.insert(origin);
                        None
                    }
                }
            }
            Turn::Nothing => {
                // The tails may only just have been told that somebody follows.
                let is_known = self.stalled.is_empty() && self.feed.knows_all_logs();
                if !self.is_current && (is_known || self.waits >= WAITS_MAX) {
                    self.is_current = true;
                    return Some(Step::Current);
                }
                let at_most = (!self.is_current || !self.stalled.is_empty()).then_some(AGAIN);
                self.wait(at_most).await;
                self.waits = self.waits.saturating_add(1);
                self.stalled.clear();
                None
            }
        }
    }

    /// Whether it follows a key.
    pub fn follows(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix)
    }

    async fn wait(&mut self, at_most: Option<Duration>) {
        // The sender lives as long as the feed, which we hold.
        match at_most {
            Some(at_most) => drop(timeout(at_most, self.changes.changed()).await),
            None => drop(self.changes.changed().await),
        }
    }

    fn reset(&mut self) -> Step {
        self.move_to(Position::Start);
        self.is_current = false;
        Step::Reset
    }

    fn give_up(failure: &FeedFailure) -> Step {
        tracing::debug!(error = crate::sync::round::chain(failure), "a follower is sent elsewhere");
        Step::End
    }

    fn move_to(&mut self, position: Position) {
        self.position = position;
        self.feed.moved(self.number, &self.position);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.left(self.number);
    }
}
