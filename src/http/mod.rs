//! HTTP: one file per resource, over what the store answers.
//!
//! # Flow
//!
//! [`measure`] looks at the clock and has [`guard`] check where a request comes from. The
//! resource's `serve` then reads all of the request that can be wrong (path, query, negotiation,
//! preconditions, session) before it asks the store anything, and before it takes a byte of a body.
//! Whatever goes wrong is a [`error::Problem`] of the closed list in [`code`], which is also the
//! only place where statuses of errors stand.
//!
//! # Rules
//!
//! * The raw path and the raw query are decoded here ([`paths`], [`query`]); the framework's
//!   decoded path only selects the resource. Its extractors for paths, queries and bodies are not
//!   used.
//! * Every body is read under a size, a deadline and a budget ([`body`]).
//! * JSON shapes stand in [`wire`], [`wire_batch`] and [`wire_admin`] only.
//! * No `Last-Modified`, and no other time of a value: clocks do not order here.
//! * Nothing here knows the configuration, the command line or the server: what is needed comes in
//!   through [`Pieces`].
//!
//! # Caveats
//!
//! A `#` that a client leaves in its request target is cut off, with what follows, before it
//! reaches us: the framework takes it for a fragment. Requests that are not HTTP at all are
//! answered by the framework, with an empty 400.

pub mod admin;
pub mod answer;
pub mod batch;
pub mod body;
pub mod bucket;
pub mod changes;
pub mod code;
pub mod conditions;
pub mod console;
pub mod drivers;
pub mod error;
pub mod explain;
pub mod frontends;
pub mod guard;
pub mod health;
pub mod list;
pub mod list_form;
pub mod measure;
pub mod media;
pub mod negotiate;
pub mod page;
pub mod paths;
pub mod performance;
pub mod problems;
pub mod query;
pub mod render;
pub mod rfc3339;
pub mod session;
pub mod sse;
pub mod subscriptions;
pub mod sync;
pub mod verb;
pub mod way;
pub mod wire;
pub mod wire_admin;
pub mod wire_batch;
pub mod wire_feed;
pub mod wire_follow;
pub mod wire_partitions;
pub mod wire_sync;
pub mod wire_topology;
pub mod wire_upkeep;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{
    AppService, HttpServiceFactory, ResourceDef, ServiceRequest, ServiceResponse, fn_service,
};
use actix_web::guard::{Guard, fn_guard};
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, HttpResponse, web};

use self::body::Budget;
use self::code::Code;
use self::drivers::Drivers;
use self::error::{Problem, shown};
use self::guard::HostPolicy;
use self::health::Draining;
use crate::feed::Feed;
use crate::frontends::Frontends;
use crate::jobs::SyncJob;
use crate::orchestrator::Orchestrator;
use crate::performance::Meter;
use crate::store::Store;
use crate::upkeep::Upkeep;

/// Where the problems are explained.
pub const PROBLEMS: &str = "/problems/";

/// What requests may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The longest key, in bytes after decoding.
    pub key_bytes_max: usize,
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
    /// Bytes of bodies in memory at once, in and out, over all workers. At least one value fits.
    pub body_budget_bytes: usize,
    /// How long a request's body may take to arrive.
    pub body_deadline: Duration,
}

/// What the resources work with. One for all workers: a clone shares.
#[derive(Clone)]
pub struct Pieces {
    store: web::Data<Store>,
    sync: web::Data<SyncJob>,
    feed: web::Data<Feed>,
    frontends: web::Data<Frontends>,
    drivers: web::Data<Drivers>,
    upkeep: web::Data<Upkeep>,
    orchestrator: web::Data<Orchestrator>,
    limits: web::Data<HttpLimits>,
    budget: web::Data<Budget>,
    hosts: web::Data<HostPolicy>,
    draining: web::Data<Draining>,
    meter: web::Data<Meter>,
}

impl Pieces {
    /// Puts them together.
    pub fn new(
        store: Arc<Store>,
        sync: Arc<SyncJob>,
        orchestrator: Arc<Orchestrator>,
        upkeep: Arc<Upkeep>,
        limits: HttpLimits,
        hosts: HostPolicy,
        draining: Arc<Draining>,
    ) -> Self {
        let meter = Meter::new(store.clock().monotonic());
        let budget = Budget::new(limits.body_budget_bytes.max(limits.value_bytes_max));
        Self {
            feed: Arc::clone(store.feed()).into(),
            store: store.into(),
            sync: sync.into(),
            frontends: Arc::clone(orchestrator.frontends()).into(),
            orchestrator: orchestrator.into(),
            drivers: web::Data::default(),
            upkeep: upkeep.into(),
            limits: web::Data::new(limits),
            budget: budget.into(),
            hosts: web::Data::new(hosts),
            draining: draining.into(),
            meter: web::Data::new(meter),
        }
    }

    /// The same, with what `/admin/drivers` tells of the configuration.
    #[must_use]
    pub fn configured_as(self, drivers: Drivers) -> Self {
        Self { drivers: web::Data::new(drivers), ..self }
    }

    /// Adds all resources to an application: `App::new().configure(|cfg| pieces.configure(cfg))`.
    pub fn configure(&self, cfg: &mut web::ServiceConfig) {
        let one = |path: &str| web::resource(path);
        let (policy, meter) = (self.hosts.clone(), self.meter.clone());
        let clock = Arc::clone(self.store.clock());
        let measured = Rc::new(measure::Parts { policy, meter, clock });
        let (limits, budget) = (self.limits.clone(), self.budget.clone());
        let values = Rc::new(bucket::Parts { store: self.store.clone(), limits, budget });
        let below = |path: &'static str| Below {
            path,
            values: Rc::clone(&values),
            measured: Rc::clone(&measured),
        };
        let measured = Rc::clone(&measured);
        let around = move |request, next| pass(Rc::clone(&measured), request, next);
        cfg.app_data(self.store.clone())
            .app_data(self.sync.clone())
            .app_data(self.feed.clone())
            .app_data(self.frontends.clone())
            .app_data(self.drivers.clone())
            .app_data(self.upkeep.clone())
            .app_data(self.orchestrator.clone())
            .app_data(self.limits.clone())
            .app_data(self.budget.clone())
            .app_data(self.hosts.clone())
            .app_data(self.draining.clone())
            .app_data(self.meter.clone())
            .service(below("/bucket"))
            .service(below("/canonicalbucket"))
            .service(
                // One scope around everything else, so that nothing is left unguarded.
                web::scope("")
                    .wrap(from_fn(around))
                    .service(one("/bucket").to(list::redirect))
                    .service(one("/bucket/").to(list::serve))
                    .service(one("/canonicalbucket").to(list::redirect))
                    .service(one("/canonicalbucket/").to(list::serve))
                    .service(one("/batch").to(batch::serve))
                    .service(one("/canonicalbatch").to(batch::serve))
                    .service(one("/changes").to(changes::serve))
                    .service(one("/subscriptions").to(subscriptions::list))
                    .service(one("/subscriptions/{name}").to(subscriptions::one))
                    .service(one("/subscriptions/{name}/ack").to(subscriptions::ack))
                    .service(one("/problems/{code}").to(problems::serve))
                    .service(one("/healthz").to(health::live))
                    .service(one("/readyz").to(health::ready))
                    .service(one("/metrics").to(performance::metrics))
                    .configure(admin::routes)
                    .configure(console::routes)
                    .default_service(web::to(nothing_here)),
            );
    }
}

/// Around everything but values.
async fn pass(
    measured: Rc<measure::Parts>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    let (begun, refusal) = measured.begin(request.head());
    let answered = match refusal {
        None => next.call(request).await?,
        Some(problem) => {
            let answer = problem.respond(request.headers());
            request.into_response(answer)
        }
    };
    let (request, answer) = answered.into_parts();
    Ok(ServiceResponse::new(request, measured.release(begun, answer)))
}

/// The values below a path. Every read and write comes by here, so it stands before all else, and
/// is told by the path's beginning, which costs less than a pattern and a scope; and what the
/// requests share is counted once for each worker: counted for each request, all workers would
/// write to the same places in memory.
struct Below {
    path: &'static str,
    values: Rc<bucket::Parts>,
    measured: Rc<measure::Parts>,
}

impl HttpServiceFactory for Below {
    fn register(self, config: &mut AppService) {
        let Self { path, values, measured } = self;
        // The path with a slash and nothing more is that of the list.
        let is_below = fn_guard(move |context| context.head().uri.path().len() > path.len() + 1);
        let service = fn_service(move |request: ServiceRequest| {
            let (values, measured) = (Rc::clone(&values), Rc::clone(&measured));
            async move {
                let (request, payload) = request.into_parts();
                let (begun, refusal) = measured.begin(request.head());
                let answer = match refusal {
                    None => bucket::serve(&values, &request, payload).await,
                    Some(problem) => problem.respond(request.headers()),
                };
                Ok(ServiceResponse::new(request, measured.release(begun, answer)))
            }
        });
        let guards: Vec<Box<dyn Guard>> = vec![Box::new(is_below)];
        config.register_service(ResourceDef::root_prefix(path), Some(guards), service, None);
    }
}

async fn nothing_here(request: HttpRequest) -> HttpResponse {
    unknown_path(request.uri().path()).respond(request.headers())
}

/// 404 for a path that is no resource's.
fn unknown_path(path: &str) -> Problem {
    let path = shown(path.as_bytes());
    let detail = format!(
        "there is no resource at {path}; values live at /bucket/{{key}}, a console is at /console/"
    );
    Problem::new(Code::UnknownPath, detail)
}
