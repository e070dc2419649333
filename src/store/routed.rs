//! From a need to an answer: whom to ask, for how long, and what to do when nobody has it yet.
//!
//! # Flow
//!
//! A read that bounds no age, and whose first candidate is in this process, is answered there and
//! then, on the thread that asks (`at_hand`). All others, and what is not served so, go this way.
//!
//! What the read has to cover is put together first: the token, and, where it may only be so old,
//! the heads that were read recently enough ([`crate::age::Ages::needed`]); where nobody looked
//! recently enough, the masters are looked at there and then. The candidates are asked in the order
//! of [`route`](super::route). One that answers *behind*, or with an error, is skipped; one that is
//! silent for longer than [`PATIENCE`], or with many reads for many times what it takes else, is
//! noted as ill and the next is asked **as well**: whoever answers first serves. If all are behind,
//! a pull is woken and waited for, for [`PULL_WAIT`] at most, and they are asked once more. Then
//! the client is told: never a silent older answer.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, join_all};
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::answer::{Need, Place, Serving, StoreError};
use super::lanes::{Lanes, Miss};
use super::route::{self, Candidate};
use super::{AllLanes, Store};
use crate::age::{Over, Seen};
use crate::feed::Gone;
use crate::record::Key;
use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::PartitionId;

/// How long a candidate may be silent before another one is asked as well: many times what a
/// healthy one takes, little of what a request may.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a read waits for a pull, or a look, before it is refused.
const PULL_WAIT: Duration = Duration::from_secs(1);

/// An answer, who gave it, and how old it may be.
pub(super) struct Routed<T> {
    pub served_by: Serving,
    pub value: T,
    pub age: Option<Duration>,
}

/// What was read at once, over what, and when it had been.
pub(super) struct AtHand<T> {
    pub value: T,
    pub over: Over,
    pub now: Duration,
}

/// What a partition was asked for, and whose answer it is.
type Answered<'l, T> = (&'l Lanes, Result<(T, Over), Miss>);

/// Whom a read was to ask, in order, and why those that did not serve did not.
#[derive(Debug, Default)]
pub(super) struct Tries {
    pub order: Vec<PartitionId>,
    pub missed: Vec<(PartitionId, String)>,
}

/// A read on its way: what holds for all whom it asks.
struct Errand<'n> {
    need: &'n Need,
    topology: &'n Topology,
    /// The key's master.
    master: Option<PartitionId>,
    /// Whose heads the answer's age goes by.
    masters: &'n [PartitionId],
}

impl Store {
    /// Runs a read at the partition that the need allows.
    pub(super) async fn routed<T>(
        &self,
        need: &Need,
        key: Option<&Key>,
        read: impl AsyncFn(&Lanes, &Vector) -> Result<(T, Over), Miss>,
        tries: &mut Tries,
    ) -> Result<Routed<T>, StoreError> {
        // Held, not counted: all workers would count at the same place in memory.
        let topology = self.topology.load();
        let master = key.map(|key| topology.master_of(key));
        let all_masters = if master.is_none() { masters_of(&topology) } else { Vec::new() };
        let masters = if master.is_none() { &all_masters } else { master.as_slice() };
        let errand = Errand { need, topology: &topology, master, masters };
        self.check_lost(&need.covers)?;
        match self.attempt(&errand, &read, tries).await {
            Err(StoreError::TooStale { .. } | StoreError::TooOld { .. }) => {}
            answer => return answer,
        }
        // Apart, as all that is rare: a future is as large as the largest that it may hold.
        Box::pin(async {
            match self.pinned(need) {
                Some(target) => self.sync.pass(target, PULL_WAIT).await,
                None => self.pull().await,
            }
            self.attempt(&errand, &read, tries).await
        })
        .await
    }

    /// Asks whoever may serve, once.
    async fn attempt<T>(
        &self,
        errand: &Errand<'_>,
        read: &impl AsyncFn(&Lanes, &Vector) -> Result<(T, Over), Miss>,
        tries: &mut Tries,
    ) -> Result<Routed<T>, StoreError> {
        let (needed, floor) = match errand.need.max_age {
            None => (errand.need.covers.clone(), None),
            Some(max_age) => Box::pin(self.needed(errand, max_age)).await?,
        };
        let all = self.lanes.load();
        tries.order = self.order(errand, &needed, &all)?;
        let Tries { order, missed } = tries;
        let mut waiting = order.iter().filter_map(|id| Some(all.get(id)?.as_ref())).peekable();
        let ask = async |lanes| (lanes, read(lanes, &needed).await);
        let Some(first) = waiting.next() else { return Err(self.no_such("any")) };
        // Nearly every read ends with whoever is asked first.
        let mut asked_first = pin!(ask(first));
        let answered = patiently(first, asked_first.as_mut(), waiting.peek().is_some()).await;
        let mut last = None;
        let silent = match answered {
            Some(answer) => match self.judge(errand, answer, floor, missed, &mut last) {
                Some(routed) => return Ok(routed),
                None => None,
            },
            None => {
                first.note(Some("does not answer"));
                Some(asked_first)
            }
        };
        Box::pin(async {
            let mut asked: FuturesUnordered<_> = silent.into_iter().map(Either::Left).collect();
            loop {
                let newest = waiting.next();
                if let Some(lanes) = newest {
                    asked.push(Either::Right(ask(lanes)));
                }
                let has_more = newest.is_some() && waiting.peek().is_some();
                let last_asked = newest.unwrap_or(first);
                let Some(answered) = patiently(last_asked, asked.next(), has_more).await else {
                    newest.inspect(|lanes| lanes.note(Some("does not answer")));
                    continue;
                };
                let Some(answer) = answered else {
                    return Err(last.unwrap_or_else(|| self.no_such("any")));
                };
                if let Some(routed) = self.judge(errand, answer, floor, missed, &mut last) {
                    return Ok(routed);
                }
            }
        })
        .await
    }

    /// The answer of a partition, if it serves; else why it does not is noted.
    fn judge<T>(
        &self,
        errand: &Errand<'_>,
        (lanes, answer): Answered<'_, T>,
        floor: Option<Duration>,
        missed: &mut Vec<(PartitionId, String)>,
        last: &mut Option<StoreError>,
    ) -> Option<Routed<T>> {
        let serving = &lanes.served.serving;
        let judged = answer.and_then(|(value, over)| {
            let (seen, now) = (self.seen.load(), self.clock.monotonic());
            let as_of = seen.as_of_read(serving.id, &over, errand.masters, errand.topology);
            let age = age_of(errand, as_of.max(floor), now)?;
            Ok(Routed { served_by: serving.clone(), value, age })
        });
        match judged {
            Ok(routed) => Some(routed),
            Err(miss) => {
                let error = self.refusal(errand, miss, &serving.name);
                missed.push((serving.id, error.to_string()));
                // Being behind is worth more to the client than being away.
                if !matches!(last, Some(StoreError::TooStale { .. } | StoreError::TooOld { .. })) {
                    *last = Some(error);
                }
                None
            }
        }
    }

    /// What a client is told of a miss: where the heads are not covered and the token is, that it
    /// is too old.
    fn refusal(&self, errand: &Errand<'_>, miss: Miss, name: &Arc<str>) -> StoreError {
        match (miss, errand.need.max_age) {
            (Miss::Behind(origin, version), Some(max_age))
                if version > errand.need.covers.get(origin) =>
            {
                StoreError::TooOld { age: self.age_at_hand(errand), max_age }
            }
            (miss, _) => miss.at(name),
        }
    }

    /// What the answer has to cover, and the instant that it is then as of.
    async fn needed(
        &self,
        errand: &Errand<'_>,
        max_age: Duration,
    ) -> Result<(Vector, Option<Duration>), StoreError> {
        let mut needed = errand.need.covers.clone();
        let told = || {
            let now = self.clock.monotonic();
            self.ages().needed(now, max_age, errand.masters, errand.topology)
        };
        let mut heads = told();
        if heads.is_none() {
            let looks = errand.masters.iter().map(|master| self.look_at(*master));
            drop(timeout(PULL_WAIT, join_all(looks)).await);
            heads = told();
        }
        let Some((heads, as_of)) = heads else {
            return Err(StoreError::TooOld { age: self.age_at_hand(errand), max_age });
        };
        needed.join(&heads);
        Ok((needed, Some(as_of)))
    }

    /// Whom to ask, in order.
    fn order(
        &self,
        errand: &Errand<'_>,
        needed: &Vector,
        all: &AllLanes,
    ) -> Result<Vec<PartitionId>, StoreError> {
        match &errand.need.place {
            Place::At(name) => {
                let by_name = |lanes: &&Arc<Lanes>| lanes.served.serving.name.as_ref() == name;
                let lanes = all.values().find(by_name).ok_or_else(|| self.no_such(name))?;
                return Ok(vec![lanes.served.serving.id]);
            }
            Place::Master => {
                let master = errand.master.filter(|master| all.contains_key(master));
                return master.map(|id| vec![id]).ok_or_else(|| self.no_such("the master"));
            }
            // There is no choice.
            Place::Anywhere if all.len() == 1 => return Ok(all.keys().copied().collect()),
            Place::Anywhere => {}
        }
        let seen = self.seen.load();
        let candidate = |lanes| self.candidate(errand, needed, &seen, lanes);
        let mut candidates: Vec<Candidate> = all.values().map(|one| candidate(one)).collect();
        route::sort(errand.master, !needed.is_empty(), &mut candidates);
        Ok(candidates.iter().map(|one| one.id).collect())
    }

    /// What is known of a partition that may be asked.
    fn candidate(
        &self,
        errand: &Errand<'_>,
        needed: &Vector,
        seen: &Seen,
        lanes: &Lanes,
    ) -> Candidate {
        let id = lanes.served.serving.id;
        let covers = || seen.sight(id).is_some_and(|sight| sight.vector.covers(needed));
        let age = || {
            let as_of = seen.as_of(id, errand.masters, errand.topology);
            as_of.map(|as_of| self.clock.monotonic().saturating_sub(as_of))
        };
        Candidate {
            id,
            part: lanes.served.part,
            is_local: lanes.served.is_local,
            is_well: lanes.is_well(),
            covers: !needed.is_empty() && covers(),
            answers_in: lanes.answers_in.get(),
            excess: errand.need.prefers.map_or(Duration::ZERO, |preferred| {
                age().map_or(Duration::MAX, |age| age.saturating_sub(preferred))
            }),
        }
    }

    /// The partition that a read of a key asks first, where that answers on the thread that asks,
    /// and nothing has to be found out before. Whatever it does not serve goes the usual way.
    pub(super) fn at_hand<T>(
        &self,
        need: &Need,
        key: &Key,
        read: impl FnOnce(&Lanes) -> Option<AtHand<T>>,
    ) -> Option<Routed<T>> {
        let Need { place: Place::Anywhere, covers, max_age: None, prefers: _ } = need else {
            return None;
        };
        self.check_lost(covers).ok()?;
        let topology = self.topology.load();
        let master = Some(topology.master_of(key));
        let errand = Errand { need, topology: &topology, master, masters: master.as_slice() };
        let (all, seen) = (self.lanes.load(), self.seen.load());
        let candidates = all.values().map(|lanes| self.candidate(&errand, covers, &seen, lanes));
        let lanes = all.get(&route::first(master, !covers.is_empty(), candidates)?)?;
        if lanes.points.is_some() {
            return None;
        }
        let AtHand { value, over, now } = read(lanes)?;
        let serving = &lanes.served.serving;
        let as_of = seen.as_of_read(serving.id, &over, errand.masters, errand.topology);
        let age = age_of(&errand, as_of, now).ok()?;
        Some(Routed { served_by: serving.clone(), value, age })
    }

    /// The least age that anybody has who may be asked.
    fn age_at_hand(&self, errand: &Errand<'_>) -> Option<Duration> {
        let seen = self.seen.load();
        let as_of = |lanes: &Lanes| {
            let serving = &lanes.served.serving;
            let may_serve = match &errand.need.place {
                Place::At(name) => serving.name.as_ref() == name,
                Place::Master => Some(serving.id) == errand.master,
                Place::Anywhere => true,
            };
            let as_of = || seen.as_of(serving.id, errand.masters, errand.topology);
            may_serve.then(as_of).flatten()
        };
        let as_of = self.lanes.load().values().filter_map(|lanes| as_of(lanes)).max()?;
        Some(self.clock.monotonic().saturating_sub(as_of))
    }

    /// The partition that alone may serve.
    fn pinned(&self, need: &Need) -> Option<PartitionId> {
        let Place::At(name) = &need.place else { return None };
        let all = self.lanes.load();
        let mut all = all.values().map(|lanes| &lanes.served.serving);
        all.find(|serving| serving.name.as_ref() == name).map(|serving| serving.id)
    }

    /// A token may name what nobody has any more: a version of an origin that was retired, one that
    /// a lost master gave without its successor's knowledge, or one that a crash took back before
    /// it was durable.
    pub(super) fn check_lost(&self, token: &Vector) -> Result<(), StoreError> {
        if token.is_empty() {
            return Ok(());
        }
        let topology = self.topology.load();
        let gone = self.gone();
        let is_gone = |origin, version| {
            let seen = Vector::from_iter([(origin, version)]);
            gone.iter().any(|gone| gone.takes(&seen))
        };
        let is_foreign =
            |origin| topology.voter(origin).is_none() && !topology.retired().contains(&origin);
        let lost = token.iter().find(|&(origin, version)| {
            let is_skipped = || self.history.has_skipped(origin, version);
            is_foreign(origin) || is_gone(origin, version) || is_skipped()
        });
        match lost {
            Some((origin, version)) => Err(StoreError::SessionLost { origin, version }),
            None => Ok(()),
        }
    }

    /// What nobody who answers has any more, as far as was seen.
    fn gone(&self) -> Vec<Gone> {
        let (topology, seen) = (self.topology.load(), self.seen.load());
        Gone::of(&topology, |origin| {
            let all = self.lanes.load();
            let well = all.values().filter(|lanes| lanes.is_well());
            let sights = well.filter_map(|lanes| seen.sight(lanes.served.serving.id));
            sights.map(|sight| sight.vector.get(origin)).max().unwrap_or_default()
        })
    }

    /// Tells followers what nobody has any more. Before everybody was looked at nothing is known.
    pub fn tell_losses(&self) {
        let seen = self.seen.load();
        if self.lanes.load().keys().any(|id| seen.sight(*id).is_some()) {
            self.feed.lose(self.gone());
        }
    }

    /// Waits for a pull, within the time that a read has for it.
    pub(super) async fn pull(&self) {
        drop(self.sync.run(PULL_WAIT).await);
    }
}

/// Waits for an answer of whoever was asked last: where there are others to ask, for [`PATIENCE`]
/// at most, and less where it is clear sooner that the partition is silent.
async fn patiently<T>(
    lanes: &Lanes,
    answer: impl Future<Output = T>,
    has_others: bool,
) -> Option<T> {
    if !has_others {
        return Some(answer.await);
    }
    let mut answer = pin!(answer);
    let soon = lanes.soon().min(PATIENCE);
    match timeout(soon, answer.as_mut()).await {
        Ok(answer) => Some(answer),
        Err(_) if lanes.is_silent() => None,
        Err(_) => timeout(PATIENCE - soon, answer).await.ok(),
    }
}

/// How old what was read until `now` may be; a miss where that is more than was asked for.
fn age_of(
    errand: &Errand<'_>,
    as_of: Option<Duration>,
    now: Duration,
) -> Result<Option<Duration>, Miss> {
    let age = as_of.map(|as_of| now.saturating_sub(as_of));
    match errand.need.max_age {
        Some(max_age) if age.is_none_or(|age| age > max_age) => Err(Miss::TooOld { age, max_age }),
        Some(_) | None => Ok(age),
    }
}

/// The partitions that master slots.
pub(super) fn masters_of(topology: &Topology) -> Vec<PartitionId> {
    let voters = topology.data_voters().map(|voter| voter.id);
    voters.filter(|id| topology.slots_of(*id) > 0).collect()
}
