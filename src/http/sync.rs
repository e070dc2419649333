//! `/admin/sync`: the last round of sync passes, and a way to have one now. Always JSON.

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::error::Problem;
use super::query::Query;
use super::wire::{MessageDoc, ReportDoc};
use crate::jobs::SyncJob;

const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
const WAIT: &str = "wait";
/// How long POST waits for its round, unless asked otherwise.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest wait: what clients and balancers between them put up with.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Answers one request.
pub async fn serve(request: HttpRequest, job: web::Data<SyncJob>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => last(&request, &job),
        Method::POST => run(&request, &job).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

fn last(request: &HttpRequest, job: &SyncJob) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let report = job.last();
    let doc = report.as_ref().map_or(ReportDoc::NONE, |report| ReportDoc::new(report));
    Ok(answer::json(StatusCode::OK, &doc))
}

/// Answers with the report of a round begun after the request arrived.
async fn run(request: &HttpRequest, job: &SyncJob) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[WAIT])?;
    let wait = query.duration(WAIT, WAIT_MAX)?.unwrap_or(WAIT_DEFAULT);
    Ok(match job.run(wait).await {
        Some(report) => answer::json(StatusCode::OK, &ReportDoc::new(&report)),
        None => {
            let message = "the round goes on; GET /admin/sync shows its report when it is done";
            answer::json(StatusCode::ACCEPTED, &MessageDoc { message, encoding: None })
        }
    })
}
