//! `/admin/partitions` and `/admin/partitions/{name}`: what this front end knows of the partitions,
//! and read copies that are added and removed. Always JSON.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::operations::{Asked, accepted};
use crate::config::scaling::Provision;
use crate::http::body::{self, Budget};
use crate::http::code::Code;
use crate::http::error::{Problem, shown};
use crate::http::health::warnings;
use crate::http::query::Query;
use crate::http::wire_admin::KilledDoc;
use crate::http::wire_partitions::{PartitionDoc, PartitionsDoc};
use crate::http::{HttpLimits, answer, paths};
use crate::orchestrator::Orchestrator;
use crate::orchestrator::copies::COUNT_MAX;
use crate::orchestrator::requests::Wanted;
use crate::store::Store;

const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
const ALLOW_ONE: &str = "GET, HEAD, DELETE, OPTIONS";
const ALLOW_POST: &str = "POST, OPTIONS";
const BASE: &str = "/admin/partitions/";
const CRASH: &str = "/crash";
/// A description is a line; more is something else.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Which read copies are to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    count: Option<usize>,
    from: Option<String>,
    url: Option<String>,
}

/// Answers one request to `/admin/partitions`.
pub async fn all(request: HttpRequest, payload: web::Payload, place: Place) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => place.list(&request),
        Method::POST => place.add(&request, payload).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// Answers one request to `/admin/partitions/{name}`.
pub async fn one(request: HttpRequest, place: Place) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => place.show(&request),
        Method::DELETE => place.remove(&request).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_ONE)),
        _ => Err(Problem::method_not_allowed(ALLOW_ONE)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// Answers one request to `/admin/partitions/{name}/crash`.
pub async fn crash(request: HttpRequest, place: Place) -> HttpResponse {
    let answered = match *request.method() {
        Method::POST => place.crash(&request).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_POST)),
        _ => Err(Problem::method_not_allowed(ALLOW_POST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// What partitions are asked of.
pub struct Place {
    store: web::Data<Store>,
    orchestrator: web::Data<Orchestrator>,
    limits: web::Data<HttpLimits>,
    budget: Arc<Budget>,
}

impl actix_web::FromRequest for Place {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        let place = || {
            Some(Self {
                store: request.app_data::<web::Data<Store>>()?.clone(),
                orchestrator: request.app_data::<web::Data<Orchestrator>>()?.clone(),
                limits: request.app_data::<web::Data<HttpLimits>>()?.clone(),
                budget: Arc::clone(request.app_data::<web::Data<Budget>>()?),
            })
        };
        let missing = || actix_web::error::ErrorInternalServerError("a piece is missing");
        std::future::ready(place().ok_or_else(missing))
    }
}

impl Place {
    fn list(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let (standings, copies) = (self.store.standings(), self.orchestrator.copies());
        let warnings = warnings(&self.store.topology());
        let doc = PartitionsDoc::new(self.store.set_id(), &standings, &copies, warnings);
        Ok(answer::json(StatusCode::OK, &doc))
    }

    fn show(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let name = named(request, "")?;
        let (standings, copies) = (self.store.standings(), self.orchestrator.copies());
        let warnings = warnings(&self.store.topology());
        let doc = PartitionsDoc::new(self.store.set_id(), &standings, &copies, warnings);
        let one = doc.partition(&name).ok_or_else(|| {
            let names: Vec<&str> = doc.partitions().iter().map(PartitionDoc::name).collect();
            let (name, names) = (shown(name.as_bytes()), names.join(", "));
            Problem::new(
                Code::UnknownPath,
                format!("no partition is named {name}; there is {names}"),
            )
        })?;
        Ok(answer::json(StatusCode::OK, one))
    }

    async fn add(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let limits = HttpLimits { value_bytes_max: BODY_BYTES_MAX, ..**self.limits };
        let (body, _taken) = body::read(request.headers(), payload, &limits, &self.budget).await?;
        let wanted = wanted(&body)?;
        let asked = Asked::of(request, &body)?;
        let operation = self.orchestrator.add(&wanted, asked.key, asked.digest).await?;
        Ok(accepted(&operation))
    }

    async fn remove(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let name = named(request, "")?;
        let asked = Asked::of(request, &[])?;
        let operation = self.orchestrator.remove(&name, asked.key, asked.digest).await?;
        Ok(accepted(&operation))
    }

    async fn crash(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let name = named(request, CRASH)?;
        let pid = self.orchestrator.crash(&name).await?;
        Ok(answer::json(StatusCode::ACCEPTED, &KilledDoc { partition: &name, pid }))
    }
}

fn named(request: &HttpRequest, end: &str) -> Result<String, Problem> {
    let path = request.uri().path();
    let rest = path.strip_prefix(BASE).and_then(|rest| rest.strip_suffix(end)).unwrap_or_default();
    Ok(String::from_utf8_lossy(&paths::decode(rest)?).into_owned())
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let bad = |detail: String| Problem::new(Code::BadPartition, detail);
    let addition: Addition = match body {
        b"" => Addition { count: None, from: None, url: None },
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    if let Some(url) = addition.url {
        if addition.count.is_some_and(|count| count != 1) || addition.from.is_some() {
            return Err(bad("a url names one database: leave count and from out".to_owned()));
        }
        return Ok(Wanted::At(url));
    }
    let count = addition.count.unwrap_or(1);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(bad(format!("count is {count}, and has to be 1 to {COUNT_MAX}")));
    }
    let from = addition.from.map(|from| {
        let unknown =
            || bad(format!("from is {}: sqlite, mariadb or standby", shown(from.as_bytes())));
        Provision::named(&from).ok_or_else(unknown)
    });
    Ok(Wanted::Some { count, from: from.transpose()? })
}
