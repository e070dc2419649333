//! `/admin/operations` and `/admin/operations/{id}`: what takes longer than a request, and what
//! came of it. Always JSON.

use actix_web::http::header::{HeaderMap, HeaderName, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::code::Code;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_admin::{OperationDoc, OperationsDoc};
use crate::http::{answer, sync, unknown_path};
use crate::jobs::SyncJob;
use crate::orchestrator::operation::{KEY_BYTES_MAX, Kind, Operation};
use crate::orchestrator::{Orchestrator, OrchestratorError};

const ALLOW: &str = "GET, HEAD, OPTIONS";
const WAIT: &str = "wait";
const BASE: &str = "/admin/operations/";
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All operations that can be asked for, but for rounds of sync.
pub async fn all(request: HttpRequest, orchestrator: web::Data<Orchestrator>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => listed(&request, &orchestrator).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn listed(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let operations = orchestrator.operations().await?;
    Ok(answer::json(StatusCode::OK, &OperationsDoc::new(&operations)))
}

/// One operation.
pub async fn one(
    request: HttpRequest,
    id: web::Path<String>,
    orchestrator: web::Data<Orchestrator>,
    job: web::Data<SyncJob>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => told(&request, &id, &orchestrator, &job).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn told(
    request: &HttpRequest,
    id: &str,
    orchestrator: &Orchestrator,
    job: &SyncJob,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[WAIT])?;
    let wait = query.duration(WAIT, sync::WAIT_MAX)?.unwrap_or_default();
    if let Some(round) = sync::operation(id, job) {
        return Ok(round);
    }
    let operation = orchestrator.settled(id, wait).await?;
    let operation = operation.ok_or_else(|| unknown_path(request.uri().path()))?;
    Ok(answer::json(StatusCode::OK, &OperationDoc::new(&operation)))
}

/// Begins an operation, and answers 202 with where it can be asked for.
pub async fn begin(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
    kind: Kind,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(request, &[])?;
    let operation = orchestrator.begin(kind, asked.key, asked.digest).await?;
    Ok(accepted(&operation))
}

/// What tells a request from others.
pub struct Asked<'a> {
    /// Its `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Of all that it says.
    pub digest: u64,
}

impl<'a> Asked<'a> {
    /// Of a request with this body.
    pub fn of(request: &'a HttpRequest, body: &[u8]) -> Result<Self, Problem> {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let said = [request.method().as_str().as_bytes(), b" ", target.as_bytes(), b"\n", body];
        let key = idempotency_key(request.headers())?;
        Ok(Self { key, digest: xxh3_64(&said.concat()) })
    }
}

/// 202 with an operation and where it can be asked for.
pub fn accepted(operation: &Operation) -> HttpResponse {
    let mut answer = answer::json(StatusCode::ACCEPTED, &OperationDoc::new(operation));
    if let Ok(location) = format!("{BASE}{}", operation.id).parse() {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut given = headers.get_all(&IDEMPOTENCY_KEY);
    let Some(key) = given.next() else { return Ok(None) };
    let is_right = |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len());
    match key.to_str().ok().filter(is_right).filter(|_| given.next().is_none()) {
        Some(key) => Ok(Some(key)),
        None => {
            Err(Problem::new(Code::BadKey, "Idempotency-Key is not one text of 1 to 255 bytes"))
        }
    }
}

impl From<OrchestratorError> for Problem {
    fn from(error: OrchestratorError) -> Self {
        let detail = error.to_string();
        let code = match error {
            OrchestratorError::WrongState(_) => Code::WrongState,
            OrchestratorError::KeyReused { .. } => Code::KeyReused,
            OrchestratorError::Unknown { .. } => Code::UnknownCopy,
            OrchestratorError::NotACopy { .. } => Code::NotACopy,
            OrchestratorError::Last { .. } => Code::LastPartition,
            OrchestratorError::NoStandby { .. } => Code::NoStandby,
            OrchestratorError::TooMany { .. } => Code::TooManyCopies,
            OrchestratorError::BadUrl { .. } | OrchestratorError::BadName { .. } => {
                Code::BadPartition
            }
            OrchestratorError::NameTaken { .. } => Code::NameTaken,
            OrchestratorError::TooManyVoters => Code::TooManyVoters,
            OrchestratorError::NoKey => Code::NoKeyFile,
            OrchestratorError::NoChaos => Code::ChaosDisabled,
            OrchestratorError::Unfit(unfit) => unfit.into(),
            OrchestratorError::Failover(_) => Code::NoMajority,
            OrchestratorError::NoServer { .. } => Code::NoServer,
            OrchestratorError::Moved { .. } => Code::EpochMoved,
            OrchestratorError::Stopping => Code::Stopping,
            OrchestratorError::Contended => Code::Overloaded,
            OrchestratorError::Kept(crate::orchestrator::kept::KeptError::Store(error)) => {
                return error.into();
            }
            OrchestratorError::Kept(_)
            | OrchestratorError::Provision(_)
            | OrchestratorError::Random(_) => Code::Unavailable,
        };
        Self::new(code, detail)
    }
}
