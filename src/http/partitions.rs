//! `/admin/partitions` and `/admin/partitions/{name}`: what this front end knows of the partitions.
//! Always JSON.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::code::Code;
use super::error::{Problem, shown};
use super::health::warnings;
use super::paths;
use super::query::Query;
use super::wire_partitions::{PartitionDoc, PartitionsDoc};
use crate::store::Store;

const ALLOW: &str = "GET, HEAD, OPTIONS";
const BASE: &str = "/admin/partitions/";

/// Answers one request to `/admin/partitions`.
pub async fn all(request: HttpRequest, store: web::Data<Store>) -> HttpResponse {
    only_read(&request, || {
        let standings = store.standings();
        let doc = PartitionsDoc::new(store.set_id(), &standings, warnings(&store.topology()));
        Ok(answer::json(StatusCode::OK, &doc))
    })
}

/// Answers one request to `/admin/partitions/{name}`.
pub async fn one(request: HttpRequest, store: web::Data<Store>) -> HttpResponse {
    only_read(&request, || {
        let path = request.uri().path();
        let name = paths::decode(path.strip_prefix(BASE).unwrap_or_default())?;
        let standings = store.standings();
        let named =
            |name: &[u8]| standings.iter().find(|one| one.health.partition.name.as_bytes() == name);
        let standing = named(&name).ok_or_else(|| {
            let names: Vec<&str> =
                standings.iter().map(|one| one.health.partition.name.as_ref()).collect();
            let (name, names) = (shown(&name), names.join(", "));
            let detail = format!("no partition is named {name}; there is {names}");
            Problem::new(Code::UnknownPath, detail)
        })?;
        Ok(answer::json(StatusCode::OK, &PartitionDoc::new(store.set_id(), standing)))
    })
}

fn only_read(
    request: &HttpRequest,
    read: impl FnOnce() -> Result<HttpResponse, Problem>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => Query::none(request.uri().query()).and_then(|()| read()),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}
