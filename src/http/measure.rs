//! How long this front end's answers take: every request of a client to its data is counted, by the
//! middleware [`measure`] around the resources.
//!
//! Counted is what clients do with values: `/bucket`, `/canonicalbucket`, `/batch` and
//! `/canonicalbatch`. Probes, the administration and followers of changes are not: they would
//! blur the figures of an idle or a waiting service. A request has failed if its status is a 5xx.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::middleware::Next;
use actix_web::web;

use super::guard::{HostPolicy, guard};
use crate::clock::Clock;
use crate::performance::{Event, Meter};

/// Where clients' values are.
const COUNTED: [&str; 4] = ["/bucket", "/canonicalbucket", "/batch", "/canonicalbatch"];

/// What the requests of one worker share.
pub struct Parts {
    /// Whom the service answers.
    pub policy: web::Data<HostPolicy>,
    /// What is counted.
    pub meter: web::Data<Meter>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The one middleware around everything: counts, and has [`guard`] check and protect.
pub async fn measure(
    parts: Rc<Parts>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    let begun = Begun::of(&request, &parts);
    let answer = guard(&parts.policy, request, &next).await;
    if let Some(begun) = begun {
        begun.end(&answer, &parts);
    }
    answer
}

/// A request that counts and was not answered yet.
struct Begun {
    at: Duration,
    brought: u64,
    is_head: bool,
}

impl Begun {
    /// `None`: it does not count.
    fn of(request: &ServiceRequest, parts: &Parts) -> Option<Self> {
        if !is_counted(request.path()) {
            return None;
        }
        let at = parts.clock.monotonic();
        let length = request.headers().get(CONTENT_LENGTH);
        let brought = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        Some(Self { at, brought, is_head: request.method() == Method::HEAD })
    }

    fn end(self, answer: &Result<ServiceResponse, actix_web::Error>, parts: &Parts) {
        let (taken, failed) = match answer {
            Ok(answer) => {
                let taken = match answer.response().body().size() {
                    BodySize::Sized(bytes) if !self.is_head => bytes,
                    BodySize::Sized(_) | BodySize::None | BodySize::Stream => 0,
                };
                (taken, answer.status().is_server_error())
            }
            Err(_) => (0, true),
        };
        let now = parts.clock.monotonic();
        let took = now.saturating_sub(self.at);
        parts.meter.record(now, Event { took, bytes: taken.saturating_add(self.brought), failed });
    }
}

fn is_counted(path: &str) -> bool {
    COUNTED.iter().any(|counted| {
        path.strip_prefix(counted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_clients_do_with_values_is_counted() {
        for (path, counted) in [
            ("/bucket/a", true),
            ("/bucket/", true),
            ("/canonicalbucket/a/b", true),
            ("/batch", true),
            ("/bucketful", false),
            ("/admin/service", false),
            ("/readyz", false),
            ("/changes", false),
        ] {
            assert_eq!(is_counted(path), counted, "{path}");
        }
    }
}
