//! `/admin/conflicts`: the ledger of writes that lost against others, by pages.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::answer;
use crate::http::code::Code;
use crate::http::error::{Problem, shown};
use crate::http::query::Query;
use crate::http::wire_upkeep::{ConflictsDoc, place_of};
use crate::upkeep::Upkeep;

const ALLOW: &str = "GET, HEAD, OPTIONS";
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
    let asked = web::block(move || upkeep.conflicts(after.as_ref(), limit)).await;
    match asked {
        Ok(Ok(conflicts)) => {
            Ok(answer::json(StatusCode::OK, &ConflictsDoc::new(&conflicts, limit)))
        }
        Ok(Err(error)) => {
            Err(Problem::new(Code::Unavailable, format!("no partition: {}", error.in_public())))
        }
        Err(_) => Err(Problem::new(Code::Stopping, "the service is shutting down")),
    }
}
