//! `/admin/service`, `/admin/service/history`, `/admin/service/shutdown` and `/admin/clear`: the
//! service as a whole. Always JSON.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::operations;
use crate::http::answer;
use crate::http::code::Code;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_admin::{HistoryDoc, ServiceDoc};
use crate::orchestrator::Orchestrator;
use crate::orchestrator::operation::Kind;
use crate::store::Store;

const ALLOW: &str = "GET, HEAD, OPTIONS";
const ALLOW_POST: &str = "POST, OPTIONS";
const CONFIRM: &str = "confirm";

/// The state.
pub async fn serve(
    request: HttpRequest,
    orchestrator: web::Data<Orchestrator>,
    store: web::Data<Store>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => state(&request, &orchestrator, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn state(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let service = orchestrator.service().await?;
    Ok(answer::json(StatusCode::OK, &ServiceDoc::new(&service, store.set_id())))
}

/// How the state came about.
pub async fn history(request: HttpRequest, orchestrator: web::Data<Orchestrator>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => passages(&request, &orchestrator).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn passages(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let service = orchestrator.service().await?;
    Ok(answer::json(StatusCode::OK, &HistoryDoc::new(&service)))
}

/// Ends all front ends.
pub async fn shutdown(
    request: HttpRequest,
    orchestrator: web::Data<Orchestrator>,
    store: web::Data<Store>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => end(&request, &orchestrator, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn end(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let service = orchestrator.shut_down().await?;
    Ok(answer::json(StatusCode::ACCEPTED, &ServiceDoc::new(&service, store.set_id())))
}

/// Deletes every key.
pub async fn clear(
    request: HttpRequest,
    orchestrator: web::Data<Orchestrator>,
    store: web::Data<Store>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => delete_all(&request, &orchestrator, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn delete_all(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[CONFIRM])?;
    let set = store.set_id().to_string();
    if query.bytes(CONFIRM) != Some(set.as_bytes()) {
        let detail = format!("this deletes every key; send confirm={set}, the id of this set");
        return Err(Problem::new(Code::Unconfirmed, detail));
    }
    operations::begin(request, orchestrator, Kind::Clear).await
}
