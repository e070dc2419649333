//! `/admin/topology`: the document that says who takes which writes, as this front end has it.
//! Always JSON.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::answer;
use crate::http::error::Problem;
use crate::http::query::Query;
use crate::http::wire_topology::TopologyDoc;
use crate::orchestrator::Orchestrator;
use crate::store::Store;

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers one request.
pub async fn serve(
    request: HttpRequest,
    store: web::Data<Store>,
    orchestrator: web::Data<Orchestrator>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => {
            Query::none(request.uri().query()).map(|()| told(&store, &orchestrator))
        }
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

fn told(store: &Store, orchestrator: &Orchestrator) -> HttpResponse {
    let (topology, read_at) = orchestrator.ownership().standing();
    let now = store.clock().monotonic();
    let age = read_at.map(|at| now.saturating_sub(at));
    let standings = store.standings();
    let doc = TopologyDoc::new(store.set_id(), &topology, &standings, age);
    answer::json(StatusCode::OK, &doc)
}
