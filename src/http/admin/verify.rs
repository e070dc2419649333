//! `/admin/verify`: the last verify pass, or the one that runs, and a way to have one now.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::answer;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::sync::{WAIT_DEFAULT, WAIT_MAX};
use crate::http::wire::MessageDoc;
use crate::http::wire_upkeep::VerifyDoc;
use crate::store::Store;
use crate::upkeep::Upkeep;

const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
const WAIT: &str = "wait";

/// Answers one request.
pub async fn serve(
    request: HttpRequest,
    upkeep: web::Data<Upkeep>,
    store: web::Data<Store>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => last(&request, &upkeep, &store).await,
        Method::POST => run(&request, &upkeep, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// Answers with what is known; with `wait`, as soon as no pass is going on, or when that is over.
async fn last(
    request: &HttpRequest,
    upkeep: &Upkeep,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[WAIT])?;
    let report = match query.duration(WAIT, WAIT_MAX)? {
        Some(wait) => upkeep.settled_verify(wait).await,
        None => upkeep.last_verify(),
    };
    let topology = store.topology();
    let doc = report.as_ref().map(|report| VerifyDoc::new(report, &topology));
    Ok(answer::json(StatusCode::OK, &doc.unwrap_or(VerifyDoc::NONE)))
}

/// Answers with the report of a pass begun after the request arrived.
async fn run(
    request: &HttpRequest,
    upkeep: &Upkeep,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[WAIT])?;
    let wait = query.duration(WAIT, WAIT_MAX)?.unwrap_or(WAIT_DEFAULT);
    Ok(match upkeep.verify(wait).await {
        Some(report) => {
            let topology = store.topology();
            answer::json(StatusCode::OK, &VerifyDoc::new(&report, &topology))
        }
        None => {
            let message = "the pass goes on; GET /admin/verify shows how far it is";
            answer::json(StatusCode::ACCEPTED, &MessageDoc { message, encoding: None })
        }
    })
}
