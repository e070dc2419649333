//! `/admin/drivers`: the engines, what can be set of their partitions, and what is.
//!
//! Secrets are told as such and never shown, not even to whoever set them.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::answer;
use super::error::Problem;
use super::query::Query;
use crate::partition::engine::EngineKind;

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// A partition as it was configured.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: EngineKind,
    /// Where it is, without its password.
    pub url: String,
    /// Its configured role.
    pub role: String,
}

/// The partitions as they were configured.
#[derive(Clone, Debug, Default)]
pub struct Drivers(pub Vec<Configured>);

#[derive(Debug, Serialize)]
struct DriversDoc<'a> {
    drivers: Vec<DriverDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct DriverDoc<'a> {
    engine: String,
    description: &'a str,
    settings: Vec<SettingDoc<'a>>,
    partitions: Vec<PartitionDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct SettingDoc<'a> {
    name: &'a str,
    required: bool,
    secret: bool,
    description: &'a str,
}

#[derive(Debug, Serialize)]
struct PartitionDoc<'a> {
    name: &'a str,
    url: &'a str,
    role: &'a str,
}

impl<'a> DriversDoc<'a> {
    fn new(drivers: &'a Drivers) -> Self {
        let driver = |kind: EngineKind| {
            let settings = kind.settings().iter().map(|setting| SettingDoc {
                name: setting.name,
                required: setting.is_required,
                secret: setting.is_secret,
                description: setting.means,
            });
            let of_kind = drivers.0.iter().filter(|one| one.engine == kind);
            let partition = |one: &'a Configured| PartitionDoc {
                name: &one.name,
                url: &one.url,
                role: &one.role,
            };
            DriverDoc {
                engine: kind.to_string(),
                description: kind.means(),
                settings: settings.collect(),
                partitions: of_kind.map(partition).collect(),
            }
        };
        Self { drivers: EngineKind::ALL.map(driver).into() }
    }
}

/// Answers one request.
pub async fn serve(request: HttpRequest, drivers: web::Data<Drivers>) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => Query::none(request.uri().query())
            .map(|()| answer::json(StatusCode::OK, &DriversDoc::new(&drivers))),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}
