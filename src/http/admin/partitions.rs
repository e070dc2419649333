//! `/admin/partitions` and `/admin/partitions/{name}`: what this front end knows of the partitions,
//! and read copies and voters that are added and removed. Always JSON.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Deserialize;

use super::operations::{Asked, accepted};
use crate::config::scaling::Provision;
use crate::http::body::{self, Budget, Reservation};
use crate::http::code::Code;
use crate::http::error::{Problem, shown};
use crate::http::health::warnings;
use crate::http::query::Query;
use crate::http::wire_admin::KilledDoc;
use crate::http::wire_partitions::{PartitionDoc, PartitionsDoc};
use crate::http::{HttpLimits, answer, paths};
use crate::orchestrator::Orchestrator;
use crate::orchestrator::copies::{COUNT_MAX, CopyRecord};
use crate::orchestrator::requests::Wanted;
use crate::orchestrator::voters::{RetiredRecord, VoterSource, WantedVoter};
use crate::store::Store;
use crate::store::looks::Standing;

const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
const ALLOW_ONE: &str = "GET, HEAD, DELETE, OPTIONS";
pub(super) const ALLOW_POST: &str = "POST, OPTIONS";
const BASE: &str = "/admin/partitions/";
const CRASH: &str = "/crash";
/// A description is a line; more is something else.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Which partitions are to be added.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    role: Option<String>,
    name: Option<String>,
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

/// What is known of the partitions.
struct Seen {
    standings: Vec<Standing>,
    copies: Arc<Vec<CopyRecord>>,
    retired: Arc<Vec<RetiredRecord>>,
}

impl Place {
    /// The orchestrator.
    pub(super) fn orchestrator(&self) -> &Orchestrator {
        &self.orchestrator
    }

    /// A description.
    pub(super) async fn body(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<(Bytes, Reservation), Problem> {
        let limits = HttpLimits { value_bytes_max: BODY_BYTES_MAX, ..**self.limits };
        body::read(request.headers(), payload, &limits, &self.budget).await
    }

    fn seen(&self) -> Seen {
        let mut standings = self.store.standings();
        standings.extend(self.orchestrator.roster().beside());
        let (copies, retired) = (self.orchestrator.copies(), self.orchestrator.retired());
        Seen { standings, copies, retired }
    }

    fn doc<'a>(&self, seen: &'a Seen) -> PartitionsDoc<'a> {
        let Seen { standings, copies, retired } = seen;
        let warnings = warnings(&self.store.topology());
        PartitionsDoc::new(self.store.set_id(), standings, copies, warnings).with_retired(retired)
    }

    fn list(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let seen = self.seen();
        Ok(answer::json(StatusCode::OK, &self.doc(&seen)))
    }

    fn show(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        Query::none(request.uri().query())?;
        let name = named(request, "")?;
        let seen = self.seen();
        let doc = self.doc(&seen);
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
        let (body, _taken) = self.body(request, payload).await?;
        let wanted = wanted(&body)?;
        let asked = Asked::of(request, &body)?;
        let (key, digest) = (asked.key, asked.digest);
        let operation = match wanted {
            Asking::Copies(wanted) => self.orchestrator.add(&wanted, key, digest).await?,
            Asking::Voter(wanted) => self.orchestrator.add_voter(&wanted, key, digest).await?,
        };
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

pub(super) fn named(request: &HttpRequest, end: &str) -> Result<String, Problem> {
    let path = request.uri().path();
    let rest = path.strip_prefix(BASE).and_then(|rest| rest.strip_suffix(end)).unwrap_or_default();
    Ok(String::from_utf8_lossy(&paths::decode(rest)?).into_owned())
}

/// What the body asks for.
enum Asking {
    Copies(Wanted),
    Voter(WantedVoter),
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadPartition, detail.into())
}

fn wanted(body: &[u8]) -> Result<Asking, Problem> {
    let addition: Addition = match body {
        b"" => Addition::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?,
    };
    if addition.url.is_some() && (addition.count.unwrap_or(1) != 1 || addition.from.is_some()) {
        return Err(bad("a url names one database: leave count and from out"));
    }
    match addition.role.as_deref() {
        None | Some("copy") if addition.name.is_some() => Err(bad(
            "read copies have names of their own: leave name out, or give the role of a voter",
        )),
        None | Some("copy") => Ok(Asking::Copies(copies(addition)?)),
        Some("replica") => Ok(Asking::Voter(voter(addition, true)?)),
        Some("witness") => Ok(Asking::Voter(voter(addition, false)?)),
        Some("master") => {
            Err(bad("a voter joins as a replica; it is a master once slots are given to it"))
        }
        Some(role) => {
            Err(bad(format!("role is {}: copy, replica or witness", shown(role.as_bytes()))))
        }
    }
}

fn provision(from: Option<&str>) -> Result<Option<Provision>, Problem> {
    let named = |from: &str| {
        let unknown =
            || bad(format!("from is {}: sqlite, mariadb or standby", shown(from.as_bytes())));
        Provision::named(from).ok_or_else(unknown)
    };
    from.map(named).transpose()
}

fn copies(addition: Addition) -> Result<Wanted, Problem> {
    if let Some(url) = addition.url {
        return Ok(Wanted::At(url));
    }
    let count = addition.count.unwrap_or(1);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(bad(format!("count is {count}, and has to be 1 to {COUNT_MAX}")));
    }
    Ok(Wanted::Some { count, from: provision(addition.from.as_deref())? })
}

fn voter(addition: Addition, holds_data: bool) -> Result<WantedVoter, Problem> {
    let count = addition.count.unwrap_or(1);
    if count != 1 {
        return Err(bad(format!("count is {count}: voters join one at a time")));
    }
    let source = match (addition.url, provision(addition.from.as_deref())?) {
        (Some(url), _) => VoterSource::Url(url),
        (None, Some(Provision::Sqlite)) => VoterSource::Sqlite,
        (None, Some(Provision::Standby)) => VoterSource::Standby,
        (None, Some(Provision::Mariadb)) => {
            return Err(bad(
                "a private server ends with its front end, and is none for a voter: give the url of \
                 a database, or from standby",
            ));
        }
        (None, None) => {
            return Err(bad("where is the database? Give a url, or from sqlite or standby"));
        }
    };
    Ok(WantedVoter { holds_data, name: addition.name, source })
}
