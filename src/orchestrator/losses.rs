//! The watch: whether masters still commit, what this front end and the others make of it, and what
//! is done about it.
//!
//! Every front end runs [`Watch::run`]. It beats at every partition ([`crate::frontends`]): a beat
//! that commits is progress. Whom it suspects, its beats tell the others. Where enough of them
//! agree ([`crate::failover::detect`]) it takes the slots over, as may any other front end at the
//! same time: one of them wins. A voter that was lost and commits again is marked as active; a
//! change of the voters that nobody has settled is settled. What is done, and what is not done that
//! was wanted, is written down with its reasons ([`Decision`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::cuts;
use super::decisions::{self, About, Decision};
use crate::config::OrchestratorConfig;
use crate::failover::FailoverError;
use crate::failover::detect::{Opinion, Progress, Reasons, Verdict, can_fail_over, judge};
use crate::failover::service::Ownership;
use crate::frontends::Frontends;
use crate::store::Store;
use crate::topology::{State, Topology};
use crate::version::{Epoch, PartitionId};

/// What it takes.
pub struct WatchParts {
    /// The partitions, and where decisions are kept.
    pub store: Arc<Store>,
    /// The other observers.
    pub frontends: Arc<Frontends>,
    /// Who changes ownership.
    pub ownership: Arc<Ownership>,
    /// Whether and how soon.
    pub config: OrchestratorConfig,
    /// How often this front end says that it runs, where nobody's loss follows from its silence.
    pub heartbeat: Duration,
}

/// One front end's watch.
pub struct Watch {
    parts: WatchParts,
    seen: Mutex<Seen>,
}

/// What it goes by from look to look.
struct Seen {
    progress: Progress,
    /// The epoch of the last takeover, and since when it is known here.
    taken_over: Option<(Epoch, Duration)>,
    /// The last refusal that was written down: it is not written again and again.
    refused: Option<(PartitionId, String)>,
}

impl Watch {
    /// Nothing is done before [`Watch::run`].
    pub fn new(parts: WatchParts) -> Self {
        let progress = Progress::since(parts.store.clock().monotonic());
        let cuts = parts.ownership.topology();
        // What was taken over before this front end's start is no reason to wait.
        let taken_over = last_takeover(&cuts).map(|epoch| (epoch, Duration::ZERO));
        let seen = Mutex::new(Seen { progress, taken_over, refused: None });
        Self { parts, seen }
    }

    /// Beats and judges for ever.
    pub async fn run(self: Arc<Self>) {
        // Ends with this task: whoever aborts it ends the beats as well.
        let mut beats = JoinSet::<Arc<str>>::new();
        let mut beaten = BTreeSet::new();
        let mut beside = JoinSet::new();
        if self.parts.config.enabled {
            let (store, ownership) = (Arc::clone(&self.parts.store), &self.parts.ownership);
            beside.spawn(cuts::tend(store, Arc::clone(ownership), self.parts.config.interval));
        }
        let mut ticks = every(self.parts.config.interval);
        loop {
            ticks.tick().await;
            while let Some(gone) = beats.try_join_next() {
                // A panic was reported when it happened; that one is not beaten at again.
                if let Ok(name) = gone {
                    beaten.remove(&name);
                }
            }
            for name in self.parts.frontends.partitions() {
                if beaten.insert(Arc::clone(&name)) {
                    beats.spawn(Arc::clone(&self).beat(name));
                }
            }
            self.keep_pace();
            if self.parts.config.enabled {
                self.judge().await;
                self.tend().await;
            }
        }
    }

    /// Beats often enough for others to rely on this front end's silence, where that can mean a
    /// takeover.
    fn keep_pace(&self) {
        let OrchestratorConfig { enabled, interval, .. } = self.parts.config;
        let topology = self.parts.ownership.topology();
        let watches =
            enabled && can_fail_over(&topology) && !self.parts.store.distant_voters().is_empty();
        let heartbeat = self.parts.heartbeat;
        let pace = if watches { heartbeat.min(interval) } else { heartbeat };
        if self.parts.frontends.set_interval(pace) {
            // What was silent at another pace is not silent at this one.
            self.seen().progress = Progress::since(self.now());
        }
    }

    /// Says at one partition that this front end runs, as long as that keeps such rows; returns
    /// which one.
    async fn beat(self: Arc<Self>, name: Arc<str>) -> Arc<str> {
        let mut paces = self.parts.frontends.intervals();
        let mut ticks = every(*paces.borrow_and_update());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The sender lives as long as `self`.
                _ = paces.changed() => ticks = every(*paces.borrow_and_update()),
            }
            if !self.parts.frontends.keeps(&name) {
                return name;
            }
            let asked = self.now();
            let committed = self.parts.frontends.beat_at(&name).await;
            let voter = self.parts.ownership.topology().voter_named(&name).map(|voter| voter.id);
            if let Some(id) = voter.filter(|_| committed) {
                self.seen().progress.committed(id, asked);
            }
        }
    }

    /// Judges whoever is suspected, and takes over from whoever is lost.
    async fn judge(&self) {
        let topology = self.parts.ownership.topology();
        let (now, patience) = (self.now(), self.parts.config.patience);
        let suspects = {
            let mut seen = self.seen();
            let last = last_takeover(&topology);
            if last > seen.taken_over.map(|(epoch, _)| epoch) {
                seen.taken_over = last.map(|epoch| (epoch, now));
            }
            // One is watched as long as it is beaten at.
            let beaten = self.parts.frontends.partitions();
            let beaten = beaten.iter().filter_map(|name| topology.voter_named(name));
            let beaten: BTreeSet<PartitionId> = beaten.map(|voter| voter.id).collect();
            seen.progress.watch(&beaten, now);
            let distant = self.parts.store.distant_voters();
            let watched = distant.intersection(&beaten).copied().collect();
            seen.progress.suspects(&topology, &watched, (now, patience))
        };
        let names = suspects.iter().filter_map(|id| topology.voter(*id));
        let names: BTreeSet<String> = names.map(|voter| voter.name.clone()).collect();
        if self.parts.frontends.suspect(names) {
            let frontends = Arc::clone(&self.parts.frontends);
            tokio::spawn(async move { frontends.beat().await });
        }
        if !can_fail_over(&topology) {
            return;
        }
        if let Some(lost) = suspects.first() {
            self.judge_one(&topology, *lost).await;
        } else {
            self.seen().refused = None;
        }
    }

    async fn judge_one(&self, topology: &Topology, lost: PartitionId) {
        let Some(voter) = topology.voter(lost) else { return };
        let running = self.parts.frontends.running().await;
        let opinions: Vec<Opinion> = running
            .iter()
            .map(|one| Opinion {
                frontend: one.id.clone(),
                suspects: one.is_self || one.about.suspects.contains(&voter.name),
            })
            .collect();
        let now = self.now();
        let (last, silence) = {
            let seen = self.seen();
            let last = seen.taken_over.map(|(_, at)| at).filter(|at| !at.is_zero());
            (last.map(|at| now.saturating_sub(at)), seen.progress.silence(lost, now))
        };
        let reason = Reasons { name: &voter.name, silence, opinions: &opinions }.to_string();
        match judge(&opinions, last, self.parts.config.cooldown) {
            Verdict::Disputed => tracing::debug!(%reason, "not enough to take its slots over"),
            Verdict::CoolingDown { left } => {
                tracing::debug!(%reason, ?left, "slots were taken over a moment ago");
            }
            // It may have committed while the others were asked.
            Verdict::Lost if silence < self.parts.config.patience => {}
            Verdict::Lost => self.take_over(&voter.name, lost, reason).await,
        }
    }

    async fn take_over(&self, name: &str, lost: PartitionId, reason: String) {
        tracing::warn!(partition = name, %reason, "its slots are to be taken over");
        let ownership = Arc::clone(&self.parts.ownership);
        let taken = spawn_blocking(move || ownership.take_over(lost, false)).await;
        let (outcome, epoch) = match taken {
            Ok(Ok(topology)) => {
                let owners: BTreeSet<&str> = topology
                    .cuts()
                    .iter()
                    .filter(|cut| cut.origin == lost && cut.epoch == topology.epoch())
                    .flat_map(|cut| cut.slots.iter().collect::<Vec<_>>())
                    .filter_map(|slot| topology.voter(topology.owner_of(slot)))
                    .map(|voter| voter.name.as_str())
                    .collect();
                let owners: Vec<&str> = owners.into_iter().collect();
                let epoch = topology.epoch();
                (format!("`{}` has its slots, in epoch {epoch}", owners.join("`, `")), Some(epoch))
            }
            // Another front end was faster.
            Ok(Err(FailoverError::NothingToMove { .. } | FailoverError::Overtaken)) => return,
            Ok(Err(error)) => {
                (format!("not taken over: {}", crate::sync::round::chain(&error)), None)
            }
            Err(error) => (format!("not taken over: {error}"), None),
        };
        if epoch.is_none() {
            let refused = Some((lost, outcome.clone()));
            if std::mem::replace(&mut self.seen().refused, refused.clone()) == refused {
                return;
            }
        }
        tracing::warn!(partition = name, %outcome, "decided");
        self.record(name, "take over", reason, outcome, epoch).await;
    }

    /// What is left to do after a loss: voters that are back, changes that nobody has settled.
    async fn tend(&self) {
        let topology = self.parts.ownership.topology();
        let now = self.now();
        let down = topology.voters().iter().filter(|voter| voter.state == State::Down);
        for voter in down {
            if !self.seen().progress.commits(voter.id, now, self.parts.config.patience) {
                continue;
            }
            let (id, ownership) = (voter.id, Arc::clone(&self.parts.ownership));
            let marked = spawn_blocking(move || ownership.mark(id, State::Active)).await;
            if let Ok(Ok(topology)) = marked {
                let reason = format!("`{}` commits again", voter.name);
                let outcome = "it is a replica, and may be a master again".to_owned();
                tracing::info!(partition = %voter.name, "came back");
                let epoch = Some(topology.epoch());
                self.record(&voter.name, "came back", reason, outcome, epoch).await;
            }
        }
        if !topology.previous().is_empty() {
            let ownership = Arc::clone(&self.parts.ownership);
            if let Ok(Err(error)) = spawn_blocking(move || ownership.settle()).await {
                tracing::debug!(%error, "the voters are not settled yet");
            }
        }
    }

    async fn record(
        &self,
        partition: &str,
        action: &str,
        reason: String,
        outcome: String,
        epoch: Option<Epoch>,
    ) {
        let decision = Decision {
            kind: About::Failover,
            at_ms: self.parts.store.clock().wall_ms(),
            by: self.parts.frontends.id().to_owned(),
            partition: partition.to_owned(),
            action: action.to_owned(),
            reason,
            outcome,
            epoch: epoch.map(Epoch::number),
        };
        decisions::record(&self.parts.store, &decision, &decision.by).await;
    }

    fn now(&self) -> Duration {
        self.parts.store.clock().monotonic()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ticks, the first one now.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn last_takeover(topology: &Topology) -> Option<Epoch> {
    topology.cuts().iter().map(|cut| cut.epoch).max()
}
