//! `/admin/decisions`: what front ends have decided by themselves and what operators had done, and
//! why; the latest first.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::answer;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_admin::DecisionsDoc;
use crate::orchestrator::OrchestratorError;
use crate::orchestrator::decisions::decisions;
use crate::store::Store;

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers one request.
pub async fn serve(request: HttpRequest, store: web::Data<Store>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => listed(&request, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn listed(request: &HttpRequest, store: &Store) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let decisions = decisions(store).await.map_err(OrchestratorError::from)?;
    Ok(answer::json(StatusCode::OK, &DecisionsDoc::new(&decisions)))
}
