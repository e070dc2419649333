//! `/admin/scaling` and `/admin/plan`: how many read copies there are to be, why, and what would be
//! done, also to the slots. Always JSON.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::operations::accepted;
use super::promote;
use crate::http::answer;
use crate::http::code::Code;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_admin::{PlanDoc, ScalingDoc};
use crate::orchestrator::Orchestrator;
use crate::orchestrator::copies::COPIES_MAX;

const ALLOW: &str = "GET, HEAD, OPTIONS";
const ALLOW_PLAN: &str = "GET, HEAD, POST, OPTIONS";
const COPIES: &str = "copies";
const EPOCH: &str = "epoch";

/// What is configured, what was counted, and what was decided.
pub async fn serve(request: HttpRequest, orchestrator: web::Data<Orchestrator>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => told(&request, &orchestrator).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn told(request: &HttpRequest, orchestrator: &Orchestrator) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let scaling = orchestrator.scaling().await?;
    Ok(answer::json(StatusCode::OK, &ScalingDoc::new(&scaling)))
}

/// What would be done, and doing it.
pub async fn plan(request: HttpRequest, orchestrator: web::Data<Orchestrator>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => planned(&request, &orchestrator).await,
        Method::POST => executed(&request, &orchestrator).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_PLAN)),
        _ => Err(Problem::method_not_allowed(ALLOW_PLAN)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn planned(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
) -> Result<HttpResponse, Problem> {
    let known = [COPIES, promote::PROMOTE, promote::FROM, promote::SHARE, promote::FORCE];
    let query = Query::parse(request.uri().query(), &known)?;
    if query.bytes(promote::PROMOTE).is_some() {
        return promote::planned(&query, orchestrator).await;
    }
    let lonely = known.into_iter().skip(2).find(|name| query.bytes(name).is_some());
    if let Some(name) = lonely {
        let detail = format!("{name} belongs to promote=NAME, which is missing");
        return Err(Problem::new(Code::BadParameter, detail));
    }
    let copies = query.number(COPIES, 0..=COPIES_MAX)?;
    let plan = orchestrator.plan(copies.unwrap_or_else(|| orchestrator.wanted_now())).await?;
    Ok(answer::json(StatusCode::OK, &PlanDoc::new(&plan)))
}

async fn executed(
    request: &HttpRequest,
    orchestrator: &Orchestrator,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[COPIES, EPOCH])?;
    let missing = |name: &str| {
        let detail = format!("{name} is missing: send what GET /admin/plan told");
        Problem::new(Code::BadParameter, detail)
    };
    let copies = query.number(COPIES, 0..=COPIES_MAX)?.ok_or_else(|| missing(COPIES))?;
    let epoch = promote::epoch_of(&query)?.ok_or_else(|| missing(EPOCH))?;
    match orchestrator.execute(copies, epoch).await? {
        Some(operation) => Ok(accepted(&operation)),
        None => {
            let plan = orchestrator.plan(copies).await?;
            Ok(answer::json(StatusCode::OK, &PlanDoc::new(&plan)))
        }
    }
}
