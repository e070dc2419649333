//! `/admin/conflicts`: the ledger of writes that lost against others, by pages; one of them, and
//! writing it again.

use actix_web::error::BlockingError;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::answer::Told;
use crate::http::code::Code;
use crate::http::conditions::Conditions;
use crate::http::error::{Problem, shown};
use crate::http::query::Query;
use crate::http::wire::MessageDoc;
use crate::http::wire_upkeep::{ConflictDoc, ConflictsDoc, place_of};
use crate::http::{answer, unknown_path, verb};
use crate::partition::PartitionError;
use crate::record::Space;
use crate::store::Store;
use crate::store::answer::Ack;
use crate::upkeep::{KeptConflict, Upkeep};
use crate::write::{Change, Outcome, Write};

const ALLOW: &str = "GET, HEAD, OPTIONS";
const ALLOW_POST: &str = "POST, OPTIONS";
const BASE: &str = "/admin/conflicts/";
const REPLAY: &str = "/replay";
const AFTER: &str = "after";
const LIMIT: &str = "limit";
/// Entries of a page, unless asked otherwise; and the most: each may hold the largest value.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

/// Answers one request.
pub async fn serve(request: HttpRequest, upkeep: web::Data<Upkeep>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => page(&request, upkeep).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn page(request: &HttpRequest, upkeep: web::Data<Upkeep>) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.uri().query(), &[AFTER, LIMIT])?;
    let limit = query.number(LIMIT, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    let after = query.bytes(AFTER).map(|text| {
        place_of(text).ok_or_else(|| {
            let given = shown(text);
            Problem::new(Code::BadParameter, format!("after = {given} is no `next` of this list"))
        })
    });
    let after = after.transpose()?;
    let (retention, expired) = (upkeep.ledger_retention(), upkeep.expired_conflicts());
    let asked = web::block(move || upkeep.conflicts(after.as_ref(), limit)).await;
    let conflicts = told(asked)?;
    Ok(answer::json(StatusCode::OK, &ConflictsDoc::new(&conflicts, limit, retention, &expired)))
}

/// What a thread was told that asked the partitions.
fn told<T>(asked: Result<Result<T, PartitionError>, BlockingError>) -> Result<T, Problem> {
    match asked {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(error)) => {
            Err(Problem::new(Code::Unavailable, format!("no partition: {}", error.in_public())))
        }
        Err(_) => Err(Problem::new(Code::Stopping, "the service is shutting down")),
    }
}

/// One entry.
pub async fn one(request: HttpRequest, upkeep: web::Data<Upkeep>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => match entry(&request, "", upkeep).await {
            Ok(kept) => Ok(answer::json(StatusCode::OK, &ConflictDoc::new(&kept))),
            Err(problem) => Err(problem),
        },
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn entry(
    request: &HttpRequest,
    end: &str,
    upkeep: web::Data<Upkeep>,
) -> Result<KeptConflict, Problem> {
    Query::none(request.uri().query())?;
    let path = request.uri().path();
    let id = path.strip_prefix(BASE).and_then(|rest| rest.strip_suffix(end));
    let place = id.and_then(|id| place_of(id.as_bytes())).ok_or_else(|| unknown_path(path))?;
    let kept = told(web::block(move || upkeep.conflict(&place)).await)?;
    kept.ok_or_else(|| unknown_path(path))
}

/// Writes what lost once more, as a new write, if the preconditions of the request hold.
pub async fn replay(
    request: HttpRequest,
    upkeep: web::Data<Upkeep>,
    store: web::Data<Store>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => write_again(&request, upkeep, &store).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn write_again(
    request: &HttpRequest,
    upkeep: web::Data<Upkeep>,
    store: &Store,
) -> Result<HttpResponse, Problem> {
    let condition = Conditions::of(request.headers())?.for_write();
    let row = entry(request, REPLAY, upkeep).await?.conflict.row;
    if row.key.space() == Space::System {
        let detail = "a record of the service's own is not written again by hand";
        return Err(Problem::new(Code::Unconfirmed, detail));
    }
    let change = row.body.map_or(Change::Delete, Change::Set);
    let write = Write { condition, ..Write::new(row.key.clone(), change) };
    let written = store.write(write, Ack::One, None).await?;
    let mut replayed = match &written.outcome {
        Outcome::Written { .. } | Outcome::Deleted { .. } | Outcome::Absent => {
            let message = "written once more";
            answer::json(StatusCode::OK, &MessageDoc { message, encoding: None })
        }
        Outcome::Unmet { current } => return Err(verb::precondition_failed(*current)),
        Outcome::Unmergeable { .. } | Outcome::Damaged => {
            let detail = "what stands under the key is damaged";
            return Err(Problem::new(Code::Unavailable, detail));
        }
    };
    let mut told = Told::default();
    told.written(&written);
    told.put_into(replayed.headers_mut());
    Ok(replayed)
}
