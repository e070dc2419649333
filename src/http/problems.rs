//! `/problems/{code}`: what a problem means and what to do about it.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};

use super::code::Code;
use super::error::Problem;
use super::negotiate::Accept;
use super::query::Query;
use super::{PROBLEMS, answer, page};

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers one request.
pub async fn serve(request: HttpRequest) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => explain(&request),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

fn explain(request: &HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let path = request.uri().path();
    let code = path.strip_prefix(PROBLEMS).and_then(Code::named);
    let code = code.ok_or_else(|| super::unknown_path(path))?;
    let offered = [&mime::TEXT_PLAIN_UTF_8, &mime::TEXT_HTML_UTF_8];
    // An explanation is for people, and comes in any case.
    let chosen = Accept::lenient(request.headers()).choose_equal(&offered);
    let (title, means, remedy) = (code.title(), code.means(), code.remedy());
    Ok(match chosen {
        Some(1) => {
            let [means, remedy] = [means, remedy].map(page::escaped);
            let (name, status) = (code.name(), code.status().as_u16());
            let body = format!(
                "<p>{means}</p><p><strong>What to do:</strong> {remedy}</p>\
                 <p class=\"small\">status {status}, {name}</p>"
            );
            page::answer(StatusCode::OK, title, &body)
        }
        Some(_) | None => {
            let heading = format!("{title} ({}, status {})", code.name(), code.status().as_u16());
            answer::text(StatusCode::OK, format!("{heading}\n\n{means}\n\nWhat to do: {remedy}\n"))
        }
    })
}
