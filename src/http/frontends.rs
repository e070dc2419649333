//! `/admin/frontends`: the front ends that run, what each serves and who follows there.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::error::Problem;
use super::query::Query;
use super::wire_follow::FrontendsDoc;
use crate::frontends::Frontends;

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers one request.
pub async fn serve(request: HttpRequest, frontends: web::Data<Frontends>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => match Query::none(request.uri().query()) {
            Ok(()) => {
                let running = frontends.running().await;
                Ok(answer::json(StatusCode::OK, &FrontendsDoc::new(&running)))
            }
            Err(problem) => Err(problem),
        },
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}
