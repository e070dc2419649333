//! `/admin/sync`: what the last passes did, a way to have a round now, and to pause targets; and
//! the operation that a round becomes which took longer than its request. Always JSON.
//!
//! An operation is a wake-up of this front end's job: its id tells which life of the process and
//! which wake-up. Nothing is kept for it, so it can be asked for as long as the process lives.

use std::time::Duration;

use actix_web::http::header::LOCATION;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::code::Code;
use super::error::{Problem, shown};
use super::query::Query;
use super::wire_sync::{OperationDoc, ReportDoc};
use crate::jobs::SyncJob;
use crate::sync::report::Report;

const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
const ALLOW_POST: &str = "POST, OPTIONS";
const WAIT: &str = "wait";
const TARGET: &str = "target";
/// How long POST waits for its round, unless asked otherwise.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest wait: what clients and balancers between them put up with.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Answers one request for `/admin/sync`.
pub async fn serve(request: HttpRequest, job: web::Data<SyncJob>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => current(&request, &job),
        Method::POST => run(&request, &job).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// Answers one request for `/admin/sync/pause`.
pub async fn pause(request: HttpRequest, job: web::Data<SyncJob>) -> HttpResponse {
    set_paused(&request, &job, true)
}

/// Answers one request for `/admin/sync/resume`.
pub async fn resume(request: HttpRequest, job: web::Data<SyncJob>) -> HttpResponse {
    set_paused(&request, &job, false)
}

fn current(request: &HttpRequest, job: &SyncJob) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    Ok(answer::json(StatusCode::OK, &ReportDoc::new(&job.current(), job.now())))
}

/// Answers with the report of a round begun after the request arrived, or with the operation that
/// it has become.
async fn run(request: &HttpRequest, job: &SyncJob) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[WAIT])?;
    let wait = query.duration(WAIT, WAIT_MAX)?.unwrap_or(WAIT_DEFAULT);
    let wakeup = job.wake();
    // Who does not wait is not kept waiting, not even for a round that is through at once.
    let report = if wait.is_zero() { None } else { job.finished(wakeup, wait).await };
    if let Some(report) = report {
        return Ok(answer::json(StatusCode::OK, &ReportDoc::new(&report, job.now())));
    }
    let mut accepted = answer::json(StatusCode::ACCEPTED, &operation_doc(job, wakeup, None));
    if let Ok(location) = path_of(job, wakeup).parse() {
        accepted.headers_mut().insert(LOCATION, location);
    }
    Ok(accepted)
}

fn set_paused(request: &HttpRequest, job: &SyncJob, paused: bool) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => change(request, job, paused),
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

fn change(request: &HttpRequest, job: &SyncJob, paused: bool) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[TARGET])?;
    let target = query.bytes(TARGET).map(String::from_utf8_lossy);
    if !job.pause(target.as_deref(), paused) {
        let given = query.bytes(TARGET).unwrap_or_default();
        let detail = format!("no partition is named {}", shown(given));
        return Err(Problem::new(Code::UnknownPartition, detail));
    }
    Ok(answer::json(StatusCode::OK, &ReportDoc::new(&job.current(), job.now())))
}

/// Where an operation is told of.
fn path_of(job: &SyncJob, wakeup: u64) -> String {
    format!("/admin/operations/sync-{:x}-{wakeup}", job.started_ms())
}

/// The operation of this id, if it is a round.
pub fn operation(id: &str, job: &SyncJob) -> Option<HttpResponse> {
    let wakeup = id.rsplit_once('-').and_then(|(_, wakeup)| wakeup.parse().ok());
    let wakeup = wakeup.filter(|wakeup| path_of(job, *wakeup).ends_with(&format!("/{id}")));
    let (wakeup, report) = wakeup.and_then(|wakeup| Some((wakeup, job.outcome(wakeup)?)))?;
    Some(answer::json(StatusCode::OK, &operation_doc(job, wakeup, report.as_deref())))
}

fn operation_doc<'a>(job: &SyncJob, wakeup: u64, report: Option<&'a Report>) -> OperationDoc<'a> {
    let (state, message) = match report {
        Some(_) => ("done", "a round that began after the request has come to its end"),
        None => ("running", "the round goes on; ask here again"),
    };
    OperationDoc {
        message,
        operation: path_of(job, wakeup),
        kind: "sync",
        state,
        report: report.map(|report| ReportDoc::new(report, job.now())),
    }
}
