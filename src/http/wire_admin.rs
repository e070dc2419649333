//! JSON shapes of the administration: performance, service, operations, scaling.

use serde::Serialize;

use super::rfc3339;
use crate::duration;
use crate::orchestrator::decisions::Decision;
use crate::orchestrator::operation::Operation;
use crate::orchestrator::plan::{Plan, Step};
use crate::orchestrator::scaling::{DecisionRecord, Scaling};
use crate::orchestrator::service::{Passage, Service};
use crate::performance::{Figures, WINDOW};
use crate::store::figures::PartitionFigures;
use crate::version::SetId;

/// How the service has answered in the last minute.
#[derive(Debug, Serialize)]
pub struct PerformanceDoc<'a> {
    /// How far the figures look back, in seconds.
    window_s: u64,
    #[serde(flatten)]
    overall: FiguresDoc,
    partitions: Vec<PartitionFiguresDoc<'a>>,
}

/// Rates per second, times in milliseconds.
#[derive(Debug, Serialize)]
struct FiguresDoc {
    request_rate: f64,
    error_rate: f64,
    throughput: f64,
    response_time: f64,
    response_time_p50: f64,
    response_time_p99: f64,
}

#[derive(Debug, Serialize)]
struct PartitionFiguresDoc<'a> {
    name: &'a str,
    #[serde(flatten)]
    figures: FiguresDoc,
}

/// Three decimals: more would be noise.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

impl FiguresDoc {
    fn new(figures: &Figures) -> Self {
        let millis = |time: std::time::Duration| rounded(time.as_secs_f64() * 1000.0);
        Self {
            request_rate: rounded(figures.request_rate),
            error_rate: rounded(figures.error_rate),
            throughput: rounded(figures.throughput),
            response_time: millis(figures.response_time),
            response_time_p50: millis(figures.response_time_p50),
            response_time_p99: millis(figures.response_time_p99),
        }
    }
}

impl<'a> PerformanceDoc<'a> {
    /// Overall and per partition.
    pub fn new(overall: &Figures, partitions: &'a [PartitionFigures]) -> Self {
        let one = |one: &'a PartitionFigures| PartitionFiguresDoc {
            name: &one.partition.name,
            figures: FiguresDoc::new(&one.figures),
        };
        Self {
            window_s: WINDOW.as_secs(),
            overall: FiguresDoc::new(overall),
            partitions: partitions.iter().map(one).collect(),
        }
    }
}

/// The service as a whole.
#[derive(Debug, Serialize)]
pub struct ServiceDoc<'a> {
    state: &'static str,
    since: Option<String>,
    reason: Option<&'a str>,
    set: String,
    operation: Option<OperationDoc<'a>>,
}

impl<'a> ServiceDoc<'a> {
    /// As it stands.
    pub fn new(service: &'a Service, set: SetId) -> Self {
        let last = service.history.last();
        Self {
            state: service.state.name(),
            since: last.map(|passage| rfc3339::format(passage.at_ms)),
            reason: last.map(|passage| passage.reason.as_str()),
            set: set.to_string(),
            operation: service.operation.as_ref().map(OperationDoc::new),
        }
    }
}

/// How the state came about, the oldest change first.
#[derive(Debug, Serialize)]
pub struct HistoryDoc<'a> {
    history: Vec<PassageDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct PassageDoc<'a> {
    time: String,
    state: &'static str,
    reason: &'a str,
}

impl<'a> HistoryDoc<'a> {
    /// All that is remembered.
    pub fn new(service: &'a Service) -> Self {
        let one = |passage: &'a Passage| PassageDoc {
            time: rfc3339::format(passage.at_ms),
            state: passage.state.name(),
            reason: &passage.reason,
        };
        Self { history: service.history.iter().map(one).collect() }
    }
}

/// An operation.
#[derive(Debug, Serialize)]
pub struct OperationDoc<'a> {
    id: &'a str,
    /// Where it can be asked for.
    operation: String,
    kind: &'static str,
    /// What it is about.
    partitions: Vec<&'a str>,
    /// `running`, `done` or `failed`.
    state: &'static str,
    started_at: String,
    ended_at: Option<String>,
    message: &'a str,
    /// What may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

impl<'a> OperationDoc<'a> {
    /// As it stands.
    pub fn new(operation: &'a Operation) -> Self {
        Self {
            id: &operation.id,
            operation: format!("/admin/operations/{}", operation.id),
            kind: operation.kind.name(),
            partitions: operation.kind.partitions(),
            state: operation.phase.name(),
            started_at: rfc3339::format(operation.started_ms),
            ended_at: operation.ended_ms.map(rfc3339::format),
            message: match operation.message.as_str() {
                "" => "it goes on; ask here again",
                message => message,
            },
            warning: operation.kind.warning(),
        }
    }
}

/// Operations, the latest first.
#[derive(Debug, Serialize)]
pub struct OperationsDoc<'a> {
    operations: Vec<OperationDoc<'a>>,
}

impl<'a> OperationsDoc<'a> {
    /// In this order.
    pub fn new(operations: &'a [Operation]) -> Self {
        Self { operations: operations.iter().map(OperationDoc::new).collect() }
    }
}

/// What was decided.
#[derive(Debug, Serialize)]
pub struct DecisionsDoc<'a> {
    decisions: Vec<DecisionDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct DecisionDoc<'a> {
    at: String,
    /// `failover`, `promotion` or `scaling`.
    kind: &'static str,
    frontend: &'a str,
    partition: Option<&'a str>,
    action: &'a str,
    reason: &'a str,
    outcome: &'a str,
    epoch: Option<u32>,
}

impl<'a> DecisionsDoc<'a> {
    /// In the order given.
    pub fn new(decisions: &'a [Decision]) -> Self {
        let one = |decision: &'a Decision| DecisionDoc {
            at: rfc3339::format(decision.at_ms),
            kind: decision.kind.name(),
            frontend: &decision.by,
            partition: Some(decision.partition.as_str()).filter(|name| !name.is_empty()),
            action: &decision.action,
            reason: &decision.reason,
            outcome: &decision.outcome,
            epoch: decision.epoch,
        };
        Self { decisions: decisions.iter().map(one).collect() }
    }
}

/// A server that was killed on purpose.
#[derive(Debug, Serialize)]
pub struct KilledDoc<'a> {
    /// Whose it was.
    pub partition: &'a str,
    /// Which process it was.
    pub pid: u32,
}

/// What would be done to have so many read copies.
#[derive(Debug, Serialize)]
pub struct PlanDoc<'a> {
    /// The epoch that it is based on.
    epoch: u32,
    copies: usize,
    wanted: usize,
    steps: Vec<StepDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct StepDoc<'a> {
    /// `add` or `remove`.
    step: &'static str,
    partition: Option<&'a str>,
    from: Option<&'static str>,
}

impl<'a> PlanDoc<'a> {
    /// As it was made.
    pub fn new(plan: &'a Plan) -> Self {
        let step = |step: &'a Step| match step {
            Step::Add { from } => StepDoc { step: "add", partition: None, from: Some(from.name()) },
            Step::Remove { name } => StepDoc { step: "remove", partition: Some(name), from: None },
        };
        Self {
            epoch: plan.epoch.number(),
            copies: plan.copies,
            wanted: plan.wanted,
            steps: plan.steps.iter().map(step).collect(),
        }
    }
}

/// How many read copies there are to be, and what was decided.
#[derive(Debug, Serialize)]
pub struct ScalingDoc<'a> {
    enabled: bool,
    dry_run: bool,
    min: usize,
    max: usize,
    reads_per_copy: usize,
    window: String,
    cooldown: String,
    hysteresis_percent: usize,
    provisioner: &'static str,
    /// Reads of the window under way; `null`: another front end counts them.
    reads: Option<u64>,
    copies: usize,
    decisions: Vec<ScaledDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct ScaledDoc<'a> {
    time: String,
    by: &'a str,
    epoch: u64,
    reads: u64,
    copies: usize,
    wanted: usize,
    reason: &'a str,
    outcome: &'a str,
}

impl<'a> ScalingDoc<'a> {
    /// As it stands.
    pub fn new(scaling: &'a Scaling) -> Self {
        let policy = &scaling.policy;
        let decision = |record: &'a DecisionRecord| ScaledDoc {
            time: rfc3339::format(record.at_ms),
            by: &record.by,
            epoch: record.epoch,
            reads: record.reads,
            copies: record.copies,
            wanted: record.wanted,
            reason: &record.reason,
            outcome: &record.outcome,
        };
        Self {
            enabled: policy.enabled,
            dry_run: policy.dry_run,
            min: policy.min,
            max: policy.max,
            reads_per_copy: policy.reads_per_copy,
            window: duration::format(policy.window),
            cooldown: duration::format(policy.cooldown),
            hysteresis_percent: policy.hysteresis_percent,
            provisioner: policy.provisioner.name(),
            reads: scaling.reads,
            copies: scaling.copies,
            decisions: scaling.decisions.iter().map(decision).collect(),
        }
    }
}
