//! One front end over masters of any kind, and requests to it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpMessage as _};
use datastore::frontends::{Frontends, FrontendsParts};
use datastore::http::guard::HostPolicy;
use datastore::http::health::Draining;
use datastore::http::{HttpLimits, Pieces};
use datastore::orchestrator::settings::Settings;
use datastore::orchestrator::{Orchestrator, OrchestratorParts};
use datastore::roster::{Roster, RosterParts};

pub use crate::support::masters::{Kind, Masters, NAMES, SET};

/// Small enough that tests reach them.
pub const LIMITS: HttpLimits = HttpLimits {
    key_bytes_max: 255,
    value_bytes_max: 100_000,
    body_budget_bytes: 1_000_000,
    body_deadline: Duration::from_secs(10),
};

/// More than any of these tests needs on a slow machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// A front end, which offers what its [`Masters`] do, too.
pub struct Front {
    pub pieces: Pieces,
    pub draining: Arc<Draining>,
    pub frontends: Arc<Frontends>,
    pub orchestrator: Arc<Orchestrator>,
    pub masters: Masters,
}

impl Deref for Front {
    type Target = Masters;

    fn deref(&self) -> &Masters {
        &self.masters
    }
}

impl Front {
    pub fn new() -> Self {
        Self::with(LIMITS)
    }

    pub fn with(limits: HttpLimits) -> Self {
        Self::over(Kind::Memory, limits)
    }

    pub fn over(kind: Kind, limits: HttpLimits) -> Self {
        Self::of(Masters::over(kind), limits)
    }

    pub fn of(masters: Masters, limits: HttpLimits) -> Self {
        let hosts = HostPolicy::new(&[], ["db.example.org"]).unwrap();
        let draining = Arc::new(Draining::default());
        let (store, sync) = (Arc::clone(&masters.store), Arc::clone(&masters.sync));
        let frontends = Frontends::start(FrontendsParts {
            id: "f1".to_owned(),
            address: "127.0.0.1:8080".to_owned(),
            interval: Duration::from_secs(5),
            partitions: masters.connects(),
            store: Arc::clone(&store),
            feed: Arc::clone(&masters.feed),
            clock: masters.clock.clone(),
        });
        let frontends = Arc::new(frontends.unwrap());
        let orchestrator = orchestrator(&masters, &frontends);
        let own = Arc::clone(&orchestrator);
        let upkeep = Arc::clone(&masters.upkeep);
        let end = Arc::clone(&draining);
        let pieces = Pieces::new(store, sync, own, upkeep, limits, hosts, end);
        Self { pieces, draining, frontends, orchestrator, masters }
    }

    /// Sends one request, as `localhost` unless it says otherwise.
    pub async fn send(&self, request: TestRequest) -> ServiceResponse {
        let app = init_service(App::new().configure(|cfg| self.pieces.configure(cfg))).await;
        let mut request = request.to_request();
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, "localhost".parse().unwrap());
        }
        call_service(&app, request).await.map_into_boxed_body()
    }

    /// The same, with the whole answer.
    pub async fn ask(&self, request: TestRequest) -> Answer {
        let response = self.send(request).await;
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: read_body(response).await.to_vec() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(get(path)).await
    }

    pub async fn put(&self, path: &str, value: impl Into<Vec<u8>>) -> Answer {
        self.ask(put(path).set_payload(value.into())).await
    }
}

/// An orchestrator over these masters.
pub fn orchestrator(masters: &Masters, frontends: &Arc<Frontends>) -> Arc<Orchestrator> {
    let (store, sync) = (Arc::clone(&masters.store), Arc::clone(&masters.sync));
    let (ownership, opener) = masters.own();
    let parts = RosterParts {
        store: Arc::clone(&store),
        sync: Arc::clone(&sync),
        upkeep: Arc::clone(&masters.upkeep),
        frontends: Arc::clone(frontends),
        ownership: Arc::clone(&ownership),
        opener,
    };
    let roster = Arc::new(Roster::new(parts, masters.voters()));
    let (frontends, settings) = (Arc::clone(frontends), Settings::default());
    let parts = OrchestratorParts { store, sync, frontends, ownership, roster, settings };
    Arc::new(Orchestrator::new(parts))
}

pub fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

pub fn put(path: &str) -> TestRequest {
    TestRequest::put().uri(path)
}

pub fn post(path: &str) -> TestRequest {
    TestRequest::post().uri(path)
}

pub fn patch(path: &str) -> TestRequest {
    TestRequest::patch().uri(path)
}

pub fn delete(path: &str) -> TestRequest {
    TestRequest::delete().uri(path)
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is the problem `code` under `status`, in full.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let doc = self.json();
        assert_eq!(doc["code"], code, "{doc}");
        assert_eq!(doc["status"], status, "{doc}");
        assert_eq!(doc["type"], format!("/problems/{code}"), "{doc}");
        assert!(!doc["title"].as_str().unwrap().is_empty(), "{doc}");
        assert!(!doc["detail"].as_str().unwrap().is_empty(), "{doc}");
        self.assert_protected()
    }

    /// Checks that this is the problem `code` under `status`, in whatever form it came.
    #[track_caller]
    pub fn assert_problem_as(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.text().contains(&format!("/problems/{code}")), "{}", self.text());
        self.assert_protected()
    }

    /// Checks what every answer carries.
    #[track_caller]
    pub fn assert_protected(&self) -> &Self {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox"),
            ("cache-control", "private, no-cache"),
            ("vary", "Accept"),
            ("last-modified", ""),
            ("expires", ""),
        ] {
            assert_eq!(self.header(name), value, "{name} of {self:?}");
        }
        self
    }
}
