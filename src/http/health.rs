//! `/healthz` and `/readyz`: what a supervisor and a balancer ask.
//!
//! `/healthz` says that the process lives and nothing else: restarting it heals no partition.
//! `/readyz` says whether this front end should be sent requests: it is ready while any partition
//! can serve `any` reads, because a balancer that took it out for a lost master would take out all
//! front ends at once, and the reads with them. What is degraded is in the body. A draining front
//! end is not ready, so that requests go elsewhere before it stops.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::error::Problem;
use super::wire::{DegradedDoc, ReadyDoc};
use crate::failover::detect::{TWO_VOTERS, are_two};
use crate::orchestrator::Orchestrator;
use crate::store::{Health, Store};
use crate::topology::{Role, State, Topology};

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Whether this front end is on its way out. Set once, by the shutdown.
#[derive(Debug, Default)]
pub struct Draining(AtomicBool);

impl Draining {
    /// From now on `/readyz` says no.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// `/healthz`. Takes no notice of the query: probes add what they like.
pub async fn live(request: HttpRequest) -> HttpResponse {
    only_read(&request, || answer::text(StatusCode::OK, "ok".to_owned()))
}

/// `/readyz`.
pub async fn ready(
    request: HttpRequest,
    store: web::Data<Store>,
    orchestrator: web::Data<Orchestrator>,
    draining: web::Data<Draining>,
) -> HttpResponse {
    only_read(&request, || {
        let mut health = store.health();
        health.extend(orchestrator.roster().beside().into_iter().map(|one| one.health));
        let doc = judge(&health, draining.has_begun(), warnings(&store.topology()));
        let status = match doc.status {
            READY | DEGRADED => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        answer::json(status, &doc)
    })
}

fn only_read(request: &HttpRequest, answer: impl FnOnce() -> HttpResponse) -> HttpResponse {
    match *request.method() {
        Method::GET | Method::HEAD => answer(),
        Method::OPTIONS => answer::options(ALLOW),
        _ => Problem::method_not_allowed(ALLOW).respond(request.headers()),
    }
}

const READY: &str = "ready";
const DEGRADED: &str = "degraded";
const UNAVAILABLE: &str = "unavailable";
const DRAINING: &str = "draining";

fn judge<'a>(health: &'a [Health], draining: bool, warnings: Vec<&'static str>) -> ReadyDoc<'a> {
    let degraded: Vec<_> =
        health.iter().filter(|one| is_degraded(one)).map(DegradedDoc::new).collect();
    let status = if draining {
        DRAINING
    } else if !health.iter().any(|one| one.readable) {
        UNAVAILABLE
    } else if degraded.is_empty() {
        READY
    } else {
        DEGRADED
    };
    ReadyDoc { status, degraded, warnings }
}

/// What is wrong with how the set is made up.
pub fn warnings(topology: &Topology) -> Vec<&'static str> {
    are_two(topology).then_some(TWO_VOTERS).into_iter().collect()
}

/// A partition that does less than its role asks for.
fn is_degraded(health: &Health) -> bool {
    // One that is being made serves as soon as it is.
    let serves = health.state.is_none_or(State::serves);
    let should_read = health.role.is_none_or(Role::holds_data) && serves;
    let should_write = health.slots > 0;
    (should_read && !health.readable)
        || (should_write && !health.writable)
        || (health.trouble.is_some() && health.state != Some(State::Joining))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::engine::EngineKind;
    use crate::store::answer::Serving;
    use crate::version::PartitionId;

    fn health(role: Role, readable: bool, writable: bool) -> Health {
        Health {
            partition: Serving { id: PartitionId(1), name: "a".into() },
            engine: EngineKind::Memory,
            role: Some(role),
            state: None,
            slots: if role == Role::Master { 512 } else { 0 },
            readable,
            writable,
            trouble: (!readable).then_some("cannot be reached"),
        }
    }

    #[test]
    fn ready_while_anything_can_be_read() {
        let master = health(Role::Master, true, true);
        let replica = health(Role::Replica, true, false);
        let witness = Health { trouble: None, ..health(Role::Witness, false, false) };
        let down = health(Role::Master, false, false);
        let joining = Health { state: Some(State::Joining), ..health(Role::Replica, false, false) };
        let read_only = health(Role::Master, true, false);
        for (partitions, draining, status, degraded) in [
            (vec![master.clone(), replica.clone(), witness], false, READY, 0),
            (vec![down.clone(), replica.clone()], false, DEGRADED, 1),
            (vec![read_only, replica], false, DEGRADED, 1),
            (vec![down.clone(), down], false, UNAVAILABLE, 2),
            (vec![master.clone(), joining], false, READY, 0),
            (vec![], false, UNAVAILABLE, 0),
            (vec![master], true, DRAINING, 0),
        ] {
            let doc = judge(&partitions, draining, Vec::new());
            assert_eq!((doc.status, doc.degraded.len()), (status, degraded), "{partitions:?}");
        }
    }
}
