//! `/console/`: the partitions, what is going on, and what can be done about it, for a browser.
//!
//! One page with its style and its script, compiled in. It asks the public interface and nothing
//! else, shows answers as text and never as HTML, and asks before it acts. What it offers depends
//! on what the service offers: it looks at `Allow`.

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{ServiceConfig, resource, to};
use actix_web::{HttpRequest, HttpResponse};

use super::answer;
use super::error::Problem;
use super::query::Query;

const ALLOW: &str = "GET, HEAD, OPTIONS";
/// Its own files and answers, and nothing from anywhere else. No other page may show it in a frame,
/// where a click could be led astray.
const POLICY: &str = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";
static FRAME_OPTIONS: HeaderName = HeaderName::from_static("x-frame-options");

/// A file of the console: where it is, its type and its text.
const FILES: [(&str, &str, &str); 3] = [
    ("/console/", "text/html; charset=utf-8", include_str!("console/index.html")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console/console.css")),
    ("/console/console.js", "text/javascript; charset=utf-8", include_str!("console/console.js")),
];

/// Adds the console.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(resource("/console").route(to(redirect)));
    for (path, kind, text) in FILES {
        let serve = move |request: HttpRequest| async move { file(&request, kind, text) };
        cfg.service(resource(path).route(to(serve)));
    }
}

async fn redirect(request: HttpRequest) -> HttpResponse {
    only_read(&request, || {
        HttpResponse::PermanentRedirect().insert_header((LOCATION, "/console/")).finish()
    })
}

fn file(request: &HttpRequest, kind: &'static str, text: &'static str) -> HttpResponse {
    only_read(request, || {
        HttpResponse::build(StatusCode::OK)
            .insert_header((CONTENT_TYPE, kind))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((FRAME_OPTIONS.clone(), HeaderValue::from_static("DENY")))
            .body(text)
    })
}

fn only_read(request: &HttpRequest, answer: impl FnOnce() -> HttpResponse) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => Query::none(request.uri().query()).map(|()| answer()),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}
