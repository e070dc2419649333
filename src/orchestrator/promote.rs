//! Promotions, asked for and carried out.
//!
//! # Planned
//!
//! What is asked for is judged by the topology that a quorum tells ([`super::promotion`]) and
//! becomes an operation. Whoever drives that moves the slots of one master after the other, each as
//! a planned change of ownership ([`crate::failover::ownership`]): nothing that was acknowledged is
//! missing, and writes pause for as long as that takes. It looks again before each step, so any
//! front end may go on with it, and two at once do no harm: the register lets one of them win.
//!
//! # By force
//!
//! A master that does not answer can hand nothing over, and what it alone has may be lost. Its
//! slots are taken over by whoever has most of what it wrote, as after a loss that front ends have
//! noticed, and then given to whom they were asked for. The lost master may be the one that the
//! service's own record is written to, so this goes the other way round: it is done at once, by the
//! front end that was asked, and what came of it is written down afterwards, as an operation that
//! has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;

use super::decisions::{self, About, Decision};
use super::kept::{self, Standing};
use super::operation::{self, Ended, Kind, Operation};
use super::promotion::{Next, Promotion, Unfit, Wish, name_of, plan};
use super::state::State as ServiceState;
use super::{Orchestrator, OrchestratorError, Result};
use crate::failover::FailoverError;
use crate::failover::service::Ownership;
use crate::sync::round::chain;
use crate::topology::{State, Topology};
use crate::version::{PartitionId, Version};

/// How often a step that failed is made again. Others may change the topology at the same time; and
/// a front end that stands still in the middle of a transaction holds the master's clock until the
/// server ends that, for longer than one try waits.
const FAILURES_MAX: u32 = 6;
/// How long it waits in between: longer than what others do to one partition takes.
const STEP: Duration = Duration::from_millis(250);

/// What a wish comes to as things stand.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The slots, and whose they are.
    pub promotion: Promotion,
    /// What it is based on.
    pub topology: Arc<Topology>,
    /// The master that does not answer; only by force.
    pub lost: Option<PartitionId>,
}

impl Orchestrator {
    /// Gives slots to a voter. What nothing has to be done for has ended when it is answered.
    pub async fn promote(&self, wish: &Wish, key: Option<&str>, request: u64) -> Result<Operation> {
        match self.earlier(key, request).await {
            Ok(Some(earlier)) => return Ok(earlier),
            // The record may be where the lost master is.
            Err(OrchestratorError::Kept(_)) if wish.force => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        let Planned { promotion, topology, lost } = self.plan_promotion(wish).await?;
        if let Some(lost) = lost {
            let operation = self.new_operation(promotion, key, request)?;
            return self.seize(operation, &topology, lost).await;
        }
        if !promotion.slots.is_empty() {
            let kind = Kind::Promote { promotion: Box::new(promotion) };
            return self.begin(kind, key, request).await;
        }
        let service = self.service().await?;
        if service.state != ServiceState::Running {
            return Err(service.wrong().into());
        }
        let message = format!("`{}` has these slots already: nothing was moved", promotion.name);
        let mut operation = self.new_operation(promotion, key, request)?;
        operation.end(Ended::Done(message), self.store.clock().wall_ms());
        self.keep(&operation).await?;
        Ok(operation)
    }

    /// What would be done; nothing is.
    pub async fn plan_promotion(&self, wish: &Wish) -> Result<Planned> {
        let topology = self.blocking(|ownership| Ok(ownership.read()?)).await?;
        if topology.voter_named(&wish.to).is_none() {
            let standings = self.store.standings();
            let is_served = standings.iter().any(|one| *one.health.partition.name == *wish.to);
            if !is_served && !self.copies().iter().any(|record| record.copy.name == wish.to) {
                return Err(OrchestratorError::Unknown { name: wish.to.clone() });
            }
        }
        if let Some(planned) = wish.epoch.filter(|epoch| *epoch != topology.epoch()) {
            return Err(OrchestratorError::Moved { planned, present: topology.epoch() });
        }
        let mut promotion = plan(&topology, wish)?;
        let answers = |id: &PartitionId| {
            let can = |state| matches!(state, State::Active | State::Draining);
            topology.voter(*id).is_some_and(|voter| can(voter.state)) && self.store.is_well(*id)
        };
        let lost = promotion.from.iter().copied().find(|id| !answers(id));
        if let Some(lost) = lost {
            let name = name_of(&topology, lost);
            if !wish.force {
                return Err(Unfit::Away { name }.into());
            }
            let enough = self.blocking(move |ownership| Ok(ownership.can_replace(lost))).await?;
            promotion.warning = Some(warning(&name, enough.as_ref().err(), None));
        }
        Ok(Planned { promotion, topology, lost })
    }

    /// Takes the slots of a master over that does not answer.
    async fn seize(
        &self,
        mut operation: Operation,
        topology: &Topology,
        lost: PartitionId,
    ) -> Result<Operation> {
        let Kind::Promote { promotion } = &mut operation.kind else { return Ok(operation) };
        let name = name_of(topology, lost);
        tracing::warn!(partition = %name, "its slots are to be taken over, by force");
        let taken = self.blocking(move |ownership| Ok(take_over(ownership, lost))).await?;
        let ended = match taken {
            Ok((after, few)) => {
                let cuts = after.cuts();
                let cut = cuts.iter().find(|cut| cut.origin == lost && cut.epoch == after.epoch());
                let warning = warning(&name, few.as_ref(), cut.map(|cut| cut.upto));
                promotion.warning = Some(warning.clone());
                // Whoever has most of them now gives them on.
                promotion.from = promotion.owners(&after).into_keys().collect();
                let (Ended::Done(what) | Ended::Failed(what) | Ended::Stuck(what)) =
                    self.move_slots(promotion).await;
                let moved = promotion.next(&self.ownership.topology()) == Next::Done;
                let what = format!("taken over from `{name}`: {what}; {warning}");
                if moved { Ended::Done(what) } else { Ended::Failed(what) }
            }
            Err(error) => Ended::Failed(format!("not taken over: {}", in_public(&error))),
        };
        let epoch = self.ownership.topology().epoch();
        let promotion = promotion.clone();
        operation.end(ended, self.store.clock().wall_ms());
        tracing::warn!(partition = %name, %epoch, outcome = %operation.message, "decided");
        if let Err(error) = self.keep(&operation).await {
            tracing::warn!(operation = %operation.id, %error, "it could not be recorded");
        }
        self.decided(&operation, &promotion, "take over").await;
        Ok(operation)
    }

    /// Drives a planned promotion.
    pub(super) async fn drive_promotion(
        &self,
        operation: &Operation,
        promotion: &Promotion,
    ) -> Ended {
        let ended = self.move_slots(promotion).await;
        let mut told = operation.clone();
        told.end(ended.clone(), self.store.clock().wall_ms());
        self.decided(&told, promotion, "promote").await;
        ended
    }

    /// Moves what is left to be moved, a change of ownership at a time.
    async fn move_slots(&self, promotion: &Promotion) -> Ended {
        let wanted = promotion.slots.len();
        let mut steps = interval(STEP);
        let mut failures = 0;
        loop {
            steps.tick().await;
            let why = match self.step(promotion.clone()).await {
                Ok((topology, Next::Done)) => {
                    let from = promotion.from.iter().map(|id| name_of(&topology, *id));
                    let from: Vec<String> = from.map(|name| format!("`{name}`")).collect();
                    return Ended::Done(format!(
                        "`{}` has {wanted} slots of {}, in epoch {}",
                        promotion.name,
                        from.join(", "),
                        topology.epoch()
                    ));
                }
                // Without a pause to the next one.
                Ok((_, Next::Move(_))) => {
                    steps.reset_immediately();
                    continue;
                }
                Ok((_, Next::Overtaken(why))) => why,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = chain(&error), failures, "slots were not moved");
                    if failures < FAILURES_MAX {
                        continue;
                    }
                    if let OrchestratorError::Failover(error) = &error {
                        in_public(error)
                    } else {
                        error.to_string()
                    }
                }
            };
            let moved = promotion.moved(&self.ownership.topology());
            return Ended::Failed(format!("{why}; {moved} of {wanted} slots were moved"));
        }
    }

    /// Looks at what is next, and does it.
    async fn step(&self, promotion: Promotion) -> Result<(Arc<Topology>, Next)> {
        self.blocking(move |ownership| {
            let topology = ownership.read()?;
            let next = promotion.next(&topology);
            let after = match &next {
                Next::Move(moved) => ownership.promote(moved)?,
                Next::Done | Next::Overtaken(_) => topology,
            };
            Ok((after, next))
        })
        .await
    }

    /// Does something with the topology, which takes as long as the partitions take.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ownership) -> std::result::Result<T, FailoverError> + Send + 'static,
    ) -> Result<T> {
        let ownership = Arc::clone(&self.ownership);
        let done = spawn_blocking(move || work(&ownership)).await;
        Ok(done.map_err(|_| OrchestratorError::Stopping)??)
    }

    fn new_operation(
        &self,
        promotion: Promotion,
        key: Option<&str>,
        request: u64,
    ) -> Result<Operation> {
        let random = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
        let (id, now) = (operation::id(key, random), self.store.clock().wall_ms());
        let kind = Kind::Promote { promotion: Box::new(promotion) };
        Ok(Operation::new(id, kind, self.frontends.id(), now, request))
    }

    /// Writes an operation down that has ended.
    pub(super) async fn keep(&self, operation: &Operation) -> Result<()> {
        let name = format!("{}{}", operation::PREFIX, operation.id);
        let ttl = Some(operation::KEPT);
        kept::write(&self.store, &name, operation, Standing::Anything, ttl).await?;
        Ok(())
    }

    async fn decided(&self, operation: &Operation, promotion: &Promotion, action: &str) {
        let done = operation.phase == operation::Phase::Done;
        let epoch = self.ownership.topology().epoch().number();
        let why = promotion.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let decision = Decision {
            kind: About::Promotion,
            // Whoever drives it, and however often: one record.
            at_ms: operation.started_ms,
            by: operation.by.clone(),
            partition: promotion.name.clone(),
            action: action.to_owned(),
            reason: format!("an operator asked for it ({}){why}", operation.id),
            outcome: operation.message.clone(),
            epoch: done.then_some(epoch),
        };
        decisions::record(&self.store, &decision, &operation.id).await;
    }
}

/// Takes the slots of a lost master over, by force only where it takes that; and why it did.
fn take_over(
    ownership: &Ownership,
    lost: PartitionId,
) -> std::result::Result<(Arc<Topology>, Option<FailoverError>), FailoverError> {
    let few = ownership.can_replace(lost).err();
    match ownership.take_over(lost, few.is_some()) {
        Ok(topology) => Ok((topology, few)),
        // Another front end was faster.
        Err(FailoverError::NothingToMove { .. }) => Ok((ownership.read()?, None)),
        Err(error) => Err(error),
    }
}

/// What may be lost where the slots of `name` are taken over. `few`: what cannot be fenced; `upto`:
/// how far its log was had.
fn warning(name: &str, few: Option<&FailoverError>, upto: Option<Version>) -> String {
    let beyond = upto.map_or_else(String::new, |upto| format!(" beyond {upto}"));
    match few {
        None => format!(
            "what `{name}` alone has acknowledged{beyond} is missing until it is back, and goes to \
             the ledger where something newer stands by then"
        ),
        Some(few) => format!(
            "{}; what `{name}`{beyond} and those who cannot be asked have acknowledged is missing \
             until they are back, also where ack=majority was asked for",
            in_public(few)
        ),
    }
}

/// An error as operators are told of it.
fn in_public(error: &FailoverError) -> String {
    if let FailoverError::Partition { name, source } = error {
        format!("partition `{name}`: {}", source.in_public())
    } else {
        error.to_string()
    }
}
