//! Autoscaling: reads are counted over a window, and copies come and go with them.
//!
//! One front end counts, the one with the least id among those that run; each tells its reads in
//! its heartbeats. Where another one takes that over it begins a new window. A decision to do
//! something leaves a record that says what it rests on, also where it is not carried out
//! (`dry_run`); a decision to do nothing leaves none, so that an idle set is not written to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kept::{self, KeptError, Standing};
use super::operation::{self, Kind, Operation};
use super::plan::{Plan, Step, plan, staying};
use super::policy::{Action, Decision, Observed, decide};
use super::requests::Wanted;
use super::service::Service;
use super::state::State;
use super::{Orchestrator, OrchestratorError, Result};
use crate::config::scaling::ScalingConfig;
use crate::frontends::Running;
use crate::store::Store;
use crate::version::Epoch;

/// What the names of decision records begin with.
const PREFIX: &str = "scaling/";
/// How long they are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many are told.
const LISTED_MAX: usize = 100;

/// A decision, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// When: milliseconds since 1970 UTC, by the front end that took it.
    pub at_ms: i64,
    /// That front end.
    pub by: String,
    /// The epoch of the topology.
    pub epoch: u64,
    /// Reads of the window.
    pub reads: u64,
    /// Copies there were.
    pub copies: usize,
    /// Copies that the reads ask for.
    pub wanted: usize,
    /// Why.
    pub reason: String,
    /// What came of it: the operation, or why there is none.
    pub outcome: String,
}

impl DecisionRecord {
    /// Whether anything was begun.
    pub(super) fn is_carried_out(&self) -> bool {
        self.outcome.starts_with(operation::ID)
    }
}

/// The window under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it began, by the monotonic clock of this process.
    began: Duration,
    /// Per front end: its reads when it was first seen in this window, and when last seen.
    reads: BTreeMap<String, (u64, u64)>,
}

impl Window {
    /// One that begins now, among these.
    pub fn begin(now: Duration, running: &[Running]) -> Self {
        let of = |one: &Running| (one.id.clone(), (one.about.reads, one.about.reads));
        Self { began: now, reads: running.iter().map(of).collect() }
    }

    /// Takes in what the front ends say now. One that is new has begun in this window.
    pub fn note(&mut self, running: &[Running]) {
        for one in running {
            let known = self.reads.entry(one.id.clone()).or_insert((0, 0));
            known.1 = known.1.max(one.about.reads);
        }
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.reads.values().map(|(first, last)| last.saturating_sub(*first)).sum()
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Duration, length: Duration) -> bool {
        now >= self.began + length
    }
}

/// What is told of scaling.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// What is configured.
    pub policy: ScalingConfig,
    /// Reads of the window under way; `None`: another front end counts.
    pub reads: Option<u64>,
    /// Copies there are.
    pub copies: usize,
    /// The last decisions, the latest first.
    pub decisions: Vec<DecisionRecord>,
}

impl Orchestrator {
    /// Counts, and decides at the end of a window. `window`: the one under way.
    pub(super) async fn scale(&self, window: &mut Option<Window>, asked: &mut Option<Duration>) {
        let policy = &self.settings.scaling;
        if !policy.enabled {
            return;
        }
        let now = self.store.clock().monotonic();
        let is_over = window.as_ref().is_some_and(|window| window.is_over(now, policy.window));
        let is_due = asked.is_none_or(|at| now >= at + self.frontends.interval());
        if !is_over && !is_due {
            return;
        }
        *asked = Some(now);
        let running = self.frontends.running().await;
        if !running.first().is_some_and(|one| one.is_self) {
            *window = None;
            self.counted.store(None);
            return;
        }
        let current = window.get_or_insert_with(|| Window::begin(now, &running));
        current.note(&running);
        let reads = current.reads();
        self.counted.store(Some(std::sync::Arc::new(reads)));
        if is_over {
            *window = Some(Window::begin(now, &running));
            if let Err(error) = self.scale_to(reads).await {
                tracing::warn!(%error, "nothing was decided");
            }
        }
    }

    async fn scale_to(&self, reads: u64) -> Result<()> {
        let service = self.service().await?;
        if service.state != State::Running {
            return Ok(());
        }
        let copies = staying(&self.copies()).count();
        let now_ms = self.store.clock().wall_ms();
        let observed = Observed { reads, copies, changed: changed(&service, now_ms) };
        let decision = decide(&self.settings.scaling, &observed);
        let wanted = match decision.action {
            Action::Keep => return Ok(()),
            Action::Add(more) => copies + more,
            Action::Remove(fewer) => copies - fewer,
        };
        let plan = self.plan(wanted).await?;
        let outcome = if self.settings.scaling.dry_run {
            "dry run: nothing is done".to_owned()
        } else {
            match self.carry_out(&plan).await {
                Ok(Some(operation)) => operation.id,
                Ok(None) => return Ok(()),
                Err(error) => format!("refused: {error}"),
            }
        };
        self.record_decision(&decision, &observed, outcome).await
    }

    async fn record_decision(
        &self,
        decision: &Decision,
        observed: &Observed,
        outcome: String,
    ) -> Result<()> {
        let at_ms = self.store.clock().wall_ms();
        let Decision { wanted, reason, .. } = decision;
        tracing::info!(wanted, reads = observed.reads, reason, outcome, "read copies are scaled");
        let record = DecisionRecord {
            at_ms,
            by: self.frontends.id().to_owned(),
            epoch: u64::from(self.store.topology().epoch().number()),
            reads: observed.reads,
            copies: observed.copies,
            wanted: *wanted,
            reason: reason.clone(),
            outcome,
        };
        let name = format!("{PREFIX}{at_ms:016}-{}", self.frontends.id());
        kept::write(&self.store, &name, &record, Standing::Anything, Some(KEPT)).await?;
        Ok(())
    }

    /// What would be done to have so many copies.
    pub async fn plan(&self, wanted: usize) -> Result<Plan> {
        let records: Vec<_> = self.records().await?.into_iter().map(|kept| kept.value).collect();
        let epoch = self.store.topology().epoch();
        Ok(plan(epoch, &records, wanted, self.settings.scaling.provisioner))
    }

    /// How many copies there are to be, as far as is known now: what the reads of the window under
    /// way ask for, or as many as there are.
    pub fn wanted_now(&self) -> usize {
        match self.counted.load().as_deref() {
            Some(reads) => super::policy::wanted(&self.settings.scaling, *reads),
            None => staying(&self.copies()).count(),
        }
    }

    /// Carries a plan out that was made under this epoch; the operation, if there is anything to
    /// do.
    pub async fn execute(&self, wanted: usize, epoch: Epoch) -> Result<Option<Operation>> {
        let plan = self.plan(wanted).await?;
        if plan.epoch != epoch {
            return Err(OrchestratorError::Moved { planned: epoch, present: plan.epoch });
        }
        self.carry_out(&plan).await
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Option<Operation>> {
        let names: Vec<String> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Remove { name } => Some(name.clone()),
                Step::Add { .. } => None,
            })
            .collect();
        let operation = if !names.is_empty() {
            self.begin(Kind::Remove { names }, None, 0).await?
        } else if plan.steps.is_empty() {
            return Ok(None);
        } else {
            let wanted = Wanted::Some { count: plan.steps.len(), from: None };
            self.add(&wanted, None, 0).await?
        };
        Ok(Some(operation))
    }

    /// What there is to tell of scaling.
    pub async fn scaling(&self) -> Result<Scaling> {
        let decisions = records(&self.store, true, LISTED_MAX).await?;
        Ok(Scaling {
            policy: self.settings.scaling.clone(),
            reads: self.counted.load().as_deref().copied(),
            copies: staying(&self.copies()).count(),
            decisions,
        })
    }
}

/// The last decisions, the latest first.
pub(super) async fn records(
    store: &Store,
    by_master: bool,
    records_max: usize,
) -> std::result::Result<Vec<DecisionRecord>, KeptError> {
    kept::latest(store, PREFIX, by_master, records_max).await
}

/// How long ago the last operation began, as far as clocks of front ends agree.
fn changed(service: &Service, now_ms: i64) -> Option<Duration> {
    let mut passages = service.history.iter().rev();
    let last = passages.find(|passage| passage.state == State::Adapting)?;
    let ago = u64::try_from(now_ms.saturating_sub(last.at_ms)).unwrap_or(0);
    Some(Duration::from_millis(ago))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontends::About;

    fn running(id: &str, reads: u64) -> Running {
        let about = About {
            address: String::new(),
            version: String::new(),
            started_ms: 0,
            interval_ms: 1000,
            serves: Vec::new(),
            followers: 0,
            listed: Vec::new(),
            suspects: std::collections::BTreeSet::new(),
            reads,
        };
        Running { id: id.to_owned(), is_self: false, silent_ms: 0, about }
    }

    #[test]
    fn reads_are_counted_over_all_front_ends_that_come_and_go() {
        let second = Duration::from_secs(1);
        let mut window = Window::begin(second, &[running("a", 100), running("b", 7)]);
        assert_eq!(window.reads(), 0, "what was before does not count");
        window.note(&[running("a", 110), running("b", 9)]);
        // b has ended, c has begun.
        window.note(&[running("a", 115), running("c", 4)]);
        window.note(&[running("a", 114), running("c", 5)]);
        assert_eq!(window.reads(), 15 + 2 + 5);
        assert!(!window.is_over(2 * second, 2 * second) && window.is_over(3 * second, 2 * second));
    }
}
