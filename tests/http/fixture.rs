//! One front end over partitions in memory or in SQLite files, and requests to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpMessage as _};
use arc_swap::ArcSwap;
use datastore::clock::{Clock, Manual};
use datastore::http::guard::HostPolicy;
use datastore::http::health::Draining;
use datastore::http::{HttpLimits, Pieces};
use datastore::jobs::SyncJob;
use datastore::lane::{Connect, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::memory::Memory;
use datastore::partition::sqlite::Sqlite;
use datastore::partition::{Identity, Partition, PartitionError, SCHEMA_VERSION};
use datastore::record::{Key, Space};
use datastore::store::answer::Serving;
use datastore::store::{Served, Store, StoreParts};
use datastore::sync::round::{Member, Round};
use datastore::topology::{Role, Topology};
use datastore::version::{RunId, SetId};

/// Whose partitions these are.
pub const SET: SetId = SetId(1);

/// Small enough that tests reach them.
pub const LIMITS: HttpLimits = HttpLimits {
    key_bytes_max: 255,
    value_bytes_max: 100_000,
    body_budget_bytes: 1_000_000,
    body_deadline: Duration::from_secs(10),
};

/// The wall clock that every front end starts at.
pub const NOW_MS: i64 = 1_000_000_000_000;

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Sqlite,
}

/// A partition that can be taken away.
struct Switched {
    engine: Box<dyn Engine>,
    up: Arc<AtomicBool>,
}

impl Connect for Switched {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        if self.up.load(Ordering::SeqCst) {
            self.engine.connect()
        } else {
            Err(PartitionError::Unreachable("no route to 10.9.8.7, user root".into()))
        }
    }
}

/// A front end over the masters `a`, `b` and `c`, which syncs on request only.
pub struct Front {
    pub pieces: Pieces,
    pub draining: Arc<Draining>,
    pub sync: Arc<SyncJob>,
    pub clock: Arc<Manual>,
    pub topology: Topology,
    up: BTreeMap<String, Arc<AtomicBool>>,
    _directory: tempfile::TempDir,
}

impl Front {
    pub fn new() -> Self {
        Self::with(LIMITS)
    }

    pub fn with(limits: HttpLimits) -> Self {
        Self::over(Kind::Memory, limits)
    }

    pub fn over(kind: Kind, limits: HttpLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manual = Arc::new(Manual::at(NOW_MS));
        let clock: Arc<dyn Clock> = manual.clone();
        let names = ["a", "b", "c"].map(|name| (name.to_owned(), Role::Master));
        let topology = Topology::found(&BTreeMap::from(names)).unwrap();
        let (mut partitions, mut members, mut up) = (Vec::new(), Vec::new(), BTreeMap::new());
        for voter in topology.voters() {
            let engine: Box<dyn Engine> = match kind {
                Kind::Memory => {
                    Box::new(Memory::new(RunId(u64::from(voter.id.0)), Arc::clone(&clock)))
                }
                Kind::Sqlite => {
                    let path = directory.path().join(&voter.name);
                    Box::new(Sqlite::new(path, Arc::clone(&clock)).unwrap())
                }
            };
            let identity = Identity {
                set: SET,
                partition: voter.id,
                schema: SCHEMA_VERSION,
                topology: topology.clone(),
            };
            engine.connect().unwrap().found(&identity).unwrap();
            let is_up = Arc::new(AtomicBool::new(true));
            up.insert(voter.name.clone(), Arc::clone(&is_up));
            let kind = engine.kind();
            let connect: Arc<dyn Connect> = Arc::new(Switched { engine, up: is_up });
            let serving = Serving { id: voter.id, name: voter.name.as_str().into() };
            members.push(Member {
                id: serving.id,
                name: Arc::clone(&serving.name),
                connect: Arc::clone(&connect),
            });
            partitions.push(Served { serving, engine: kind, is_local: true, connect });
        }
        let shared = Arc::new(ArcSwap::from_pointee(topology.clone()));
        let retention = Duration::from_secs(60);
        let round = Round::new(members, Arc::clone(&shared), Arc::clone(&clock), retention);
        let sync = Arc::new(SyncJob::start(round).unwrap());
        let store = Store::start(StoreParts {
            set: SET,
            topology: shared,
            partitions,
            clock,
            deadline: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(1),
            sync: Arc::clone(&sync),
            eager: false,
            limits: LaneLimits::default(),
        });
        let hosts = HostPolicy::new(&[], ["db.example.org"]).unwrap();
        let draining = Arc::new(Draining::default());
        let (store, synced) = (Arc::new(store.unwrap()), Arc::clone(&sync));
        let pieces = Pieces::new(store, synced, limits, hosts, Arc::clone(&draining));
        let clock = manual;
        Self { pieces, draining, sync, clock, topology, up, _directory: directory }
    }

    /// Takes all partitions away from whoever has no connection yet.
    pub fn cut_off(&self) {
        for up in self.up.values() {
            up.store(false, Ordering::SeqCst);
        }
    }

    /// Takes one partition away from whoever has no connection yet, or gives it back.
    pub fn set_up(&self, partition: &str, up: bool) {
        self.up[partition].store(up, Ordering::SeqCst);
    }

    /// The name of the partition that takes the writes of `key`.
    pub fn master_of(&self, key: &str) -> String {
        let key = Key::stored(Space::Data, key.to_owned());
        self.topology.voter(self.topology.master_of(&key)).unwrap().name.clone()
    }

    /// A key that this partition masters.
    pub fn key_of(&self, partition: &str) -> String {
        let mut keys = (0..).map(|n| format!("k{n}"));
        keys.find(|key| self.master_of(key) == partition).unwrap()
    }

    /// Runs one round of passes, which has to be clean.
    pub async fn round(&self) {
        assert!(self.sync.run(Duration::from_secs(10)).await.unwrap().is_clean());
    }

    /// Sends one request, as `localhost` unless it says otherwise.
    pub async fn ask(&self, request: TestRequest) -> Answer {
        let app = init_service(App::new().configure(|cfg| self.pieces.configure(cfg))).await;
        let mut request = request.to_request();
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, "localhost".parse().unwrap());
        }
        let response = call_service(&app, request).await;
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
