//! Who runs: the front ends of the set tell each other by heartbeats.
//!
//! Every `server.heartbeat` a front end writes one row into every partition: where it listens, what
//! it serves, who follows there. That is the only thing written on an idle set. Whoever wants to
//! know who runs reads the rows of all partitions: a front end that one partition has heard of
//! runs. Silence is judged by the partition that keeps the row, by its own clock; one that has been
//! silent for [`INTERVALS_MAX`] of its intervals has stopped. One that ends in order leaves at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::feed::{Feed, Kind, Listed, Mark};
use crate::lane::pool::Pool;
use crate::lane::read::{Answer, ReadLane};
use crate::lane::reader::Reader;
use crate::lane::{Connect, Deadline, LaneLimits};
use crate::partition::beat::Beat;
use crate::store::Store;

/// So many intervals of silence, and a front end has stopped.
pub const INTERVALS_MAX: i64 = 3;
/// How many followers a heartbeat names: those that are furthest behind. The others are counted.
const LISTED_MAX: usize = 32;
/// How long reading or writing a row may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// What a front end says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Where it listens.
    pub address: String,
    /// Which version of the service it is.
    pub version: String,
    /// When it was started, by its own clock: milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// How often it says so.
    pub interval_ms: i64,
    /// The masters that it suspects to be lost.
    #[serde(default)]
    pub suspects: BTreeSet<String>,
    /// The partitions that it serves from.
    pub serves: Vec<Serves>,
    /// How many follow there.
    pub followers: usize,
    /// Some of them.
    pub listed: Vec<FollowerAbout>,
    /// How many reads of clients it has answered, or tried to, since its start.
    #[serde(default)]
    pub reads: u64,
}

/// A partition as one front end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Its name.
    pub partition: String,
    /// Its engine.
    pub engine: String,
    /// Whether it can serve reads.
    pub readable: bool,
    /// Whether it takes writes.
    pub writable: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// A follower as its front end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerAbout {
    /// `stream` or `wait`.
    pub kind: String,
    /// The subscription that it acts for.
    pub subscription: Option<String>,
    /// What it follows.
    pub prefix: Vec<u8>,
    /// How far it has come.
    pub position: String,
    /// How many writes it is behind; `None`: it is in its snapshot.
    pub lag: Option<u64>,
    /// Since when: milliseconds since 1970 UTC.
    pub since_ms: i64,
}

/// A front end that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id, drawn at its start.
    pub id: String,
    /// Whether it is the one that was asked.
    pub is_self: bool,
    /// How long ago it was heard of.
    pub silent_ms: i64,
    /// What it said.
    pub about: About,
}

/// What it takes.
pub struct FrontendsParts {
    /// An id that no other front end has.
    pub id: String,
    /// Where this one listens.
    pub address: String,
    /// How often it says that it runs.
    pub interval: Duration,
    /// The partitions that keep the rows.
    pub partitions: Vec<(Arc<str>, Arc<dyn Connect>)>,
    /// What it serves.
    pub store: Arc<Store>,
    /// Who follows.
    pub feed: Arc<Feed>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// This front end among the others.
pub struct Frontends {
    id: String,
    address: String,
    started_ms: i64,
    interval: watch::Sender<Duration>,
    /// One thread a partition, so that one that hangs keeps no other from hearing of us.
    lanes: ArcSwap<Vec<(Arc<str>, Arc<ReadLane>)>>,
    suspects: Mutex<BTreeSet<String>>,
    store: Arc<Store>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
}

impl Frontends {
    /// Starts the threads; nothing is written yet.
    pub fn start(parts: FrontendsParts) -> std::io::Result<Self> {
        let frontends = Self {
            id: parts.id,
            address: parts.address,
            started_ms: parts.clock.wall_ms(),
            interval: watch::Sender::new(parts.interval),
            lanes: ArcSwap::default(),
            suspects: Mutex::default(),
            store: parts.store,
            feed: parts.feed,
            clock: parts.clock,
        };
        for (name, connect) in parts.partitions {
            frontends.add(name, connect)?;
        }
        Ok(frontends)
    }

    /// One more partition keeps the rows from now on. One of the same name is replaced.
    pub fn add(&self, name: Arc<str>, connect: Arc<dyn Connect>) -> std::io::Result<()> {
        let limits = LaneLimits { read_threads: 1, queue_max: 64, ..LaneLimits::default() };
        let thread = format!("beat-{name}");
        let pool = Arc::new(Pool::new(connect, Arc::clone(&self.clock), limits));
        let lane = ReadLane::start(&thread, pool, Arc::clone(&self.clock), limits)?;
        let new = (name, Arc::new(lane));
        self.lanes.rcu(|lanes| {
            let others = lanes.iter().filter(|(known, _)| *known != new.0);
            others.chain([&new]).cloned().collect::<Vec<_>>()
        });
        Ok(())
    }

    /// One keeps them no longer. What was asked there is answered first, which nobody here waits
    /// for.
    pub fn remove(&self, name: &str) {
        let before = self.lanes.rcu(|lanes| {
            let others = lanes.iter().filter(|(known, _)| **known != *name);
            others.cloned().collect::<Vec<_>>()
        });
        drop(std::thread::Builder::new().spawn(move || drop(before)));
    }

    /// The id of this one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often it says that it runs.
    pub fn interval(&self) -> Duration {
        *self.interval.borrow()
    }

    /// From now on it says so that often. Whether that is something new.
    pub fn set_interval(&self, interval: Duration) -> bool {
        self.interval.send_if_modified(|standing| std::mem::replace(standing, interval) != interval)
    }

    /// Tells whoever beats of another interval.
    pub fn intervals(&self) -> watch::Receiver<Duration> {
        self.interval.subscribe()
    }

    /// Says at every partition that this front end runs.
    pub async fn beat(&self) {
        let document = serde_json::to_string(&self.about()).expect("a struct of plain fields");
        self.write(Some(document)).await;
    }

    /// The partitions that keep the rows, by their names.
    pub fn partitions(&self) -> Vec<Arc<str>> {
        self.lanes.load().iter().map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Whether this partition keeps the rows.
    pub fn keeps(&self, name: &str) -> bool {
        self.lanes.load().iter().any(|(known, _)| **known == *name)
    }

    /// Says at one partition that this front end runs; whether it has committed that.
    pub async fn beat_at(&self, name: &str) -> bool {
        let lanes = self.lanes.load_full();
        let Some((_, lane)) = lanes.iter().find(|(known, _)| **known == *name) else {
            return false;
        };
        let document = serde_json::to_string(&self.about()).expect("a struct of plain fields");
        let (id, deadline) = (self.id.clone(), Deadline(self.clock.monotonic() + DEADLINE));
        let beat = lane.submit(deadline, move |reader: &mut Reader| {
            reader.partition.beat(&id, Some(&document))?;
            Ok(())
        });
        // Nobody who waits keeps a lane that has gone.
        drop(lanes);
        let Ok(answer) = beat else { return false };
        let answer: Option<Answer<()>> =
            tokio::time::timeout(DEADLINE, answer).await.ok().and_then(Result::ok);
        matches!(answer, Some(Ok(Ok(()))))
    }

    /// From now on its beats say that it suspects these. Whether that is something new.
    pub fn suspect(&self, suspects: BTreeSet<String>) -> bool {
        let mut standing = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *standing != suspects;
        *standing = suspects;
        is_new
    }

    /// Says at every partition that it leaves.
    pub async fn leave(&self) {
        self.write(None).await;
    }

    /// Who runs, by their ids.
    pub async fn running(&self) -> Vec<Running> {
        let mut newest: BTreeMap<String, Beat> = BTreeMap::new();
        for beats in self.everywhere(|reader| Ok(reader.partition.beats()?)).await {
            for beat in beats {
                let known = newest.get(&beat.frontend);
                if known.is_none_or(|known| beat.silent_ms < known.silent_ms) {
                    newest.insert(beat.frontend.clone(), beat);
                }
            }
        }
        newest.into_values().filter_map(|beat| self.judged(beat)).collect()
    }

    /// The front end behind a row, if it runs.
    fn judged(&self, beat: Beat) -> Option<Running> {
        // What another version wrote may say more, and must say this.
        let about: About = serde_json::from_str(&beat.document).ok()?;
        let is_self = beat.frontend == self.id;
        let has_stopped = beat.silent_ms > INTERVALS_MAX.saturating_mul(about.interval_ms);
        let running = Running { id: beat.frontend, is_self, silent_ms: beat.silent_ms, about };
        (!has_stopped).then_some(running)
    }

    async fn write(&self, document: Option<String>) {
        let id = self.id.clone();
        self.everywhere(move |reader| {
            reader.partition.beat(&id, document.as_deref())?;
            Ok(())
        })
        .await;
    }

    /// Asks all partitions at once; what those say that answer in time.
    async fn everywhere<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Reader) -> Result<T, crate::session::SessionError> + Clone + Send + 'static,
    ) -> Vec<T> {
        let deadline = Deadline(self.clock.monotonic() + DEADLINE);
        // Whoever is suspected would only keep those waiting who have to decide about it.
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lanes = self.lanes.load_full();
        let all_are = lanes.iter().all(|(name, _)| suspects.contains(&**name));
        let asked: Vec<_> = lanes
            .iter()
            .filter(|(name, _)| all_are || !suspects.contains(&**name))
            .map(|(name, lane)| (Arc::clone(name), lane.submit(deadline, work.clone())))
            .collect();
        drop(lanes);
        let told = asked.into_iter().map(|(name, answer)| async move {
            let answer: Option<Answer<T>> =
                tokio::time::timeout(DEADLINE, answer.ok()?).await.ok().and_then(Result::ok);
            match answer {
                Some(Ok(Ok(answer))) => return Some(answer),
                Some(Ok(Err(error))) => {
                    tracing::debug!(partition = %name, %error, "no heartbeat there");
                }
                Some(Err(error)) => {
                    tracing::debug!(partition = %name, %error, "no heartbeat there");
                }
                None => tracing::debug!(partition = %name, "no heartbeat there in time"),
            }
            None
        });
        // At once: one that hangs holds nobody up but whoever asks for all.
        futures_util::future::join_all(told).await.into_iter().flatten().collect()
    }

    fn about(&self) -> About {
        let health = self.store.health();
        let serves = health.iter().map(|one| Serves {
            partition: one.partition.name.to_string(),
            engine: one.engine.to_string(),
            readable: one.readable,
            writable: one.writable,
            trouble: one.trouble.map(str::to_owned),
        });
        let followers = self.feed.followers();
        let mut listed: Vec<FollowerAbout> =
            followers.iter().map(|follower| self.follower(follower)).collect();
        listed.sort_by_key(|follower| (follower.lag.is_some(), std::cmp::Reverse(follower.lag)));
        listed.truncate(LISTED_MAX);
        About {
            address: self.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            interval_ms: i64::try_from(self.interval().as_millis()).unwrap_or(i64::MAX),
            suspects: self.suspects.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            serves: serves.collect(),
            followers: followers.len(),
            listed,
            reads: self.store.reads(),
        }
    }

    fn follower(&self, listed: &Listed) -> FollowerAbout {
        let (kind, subscription) = match &listed.kind {
            Kind::Stream => ("stream", None),
            Kind::Wait => ("wait", None),
            Kind::Subscription(name) => ("wait", Some(name.to_string())),
        };
        FollowerAbout {
            kind: kind.to_owned(),
            subscription,
            prefix: listed.prefix.to_vec(),
            position: Mark::of(self.feed.set_id(), listed.position.clone()).to_string(),
            lag: self.feed.lag(&listed.position),
            since_ms: listed.since_ms,
        }
    }
}
