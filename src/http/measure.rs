//! How long this front end's answers take: every request of a client to its data is counted, by the
//! middleware [`measure`] around the resources.
//!
//! Counted is what clients do with values: `/bucket`, `/canonicalbucket`, `/batch` and
//! `/canonicalbatch`. Probes, the administration and followers of changes are not: they would
//! blur the figures of an idle or a waiting service. A request has failed if its status is a 5xx.

use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::middleware::Next;
use actix_web::web;

use super::guard::{HostPolicy, guard};
use crate::performance::{Event, Meter};
use crate::store::Store;

/// Where clients' values are.
const COUNTED: [&str; 4] = ["/bucket", "/canonicalbucket", "/batch", "/canonicalbatch"];

/// The one middleware around everything: counts, and has [`guard`] check and protect.
pub async fn measure(
    policy: web::Data<HostPolicy>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let begun = Begun::of(&request);
    let answer = guard(&policy, request, next).await;
    if let Some(begun) = begun {
        begun.end(&answer);
    }
    answer
}

/// A request that counts and was not answered yet.
struct Begun {
    meter: web::Data<Meter>,
    store: web::Data<Store>,
    at: Duration,
    brought: u64,
    is_head: bool,
}

impl Begun {
    /// `None`: it does not count.
    fn of(request: &ServiceRequest) -> Option<Self> {
        if !is_counted(request.path()) {
            return None;
        }
        let meter = request.app_data::<web::Data<Meter>>()?.clone();
        let store = request.app_data::<web::Data<Store>>()?.clone();
        let at = store.clock().monotonic();
        let length = request.headers().get(CONTENT_LENGTH);
        let brought = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        Some(Self { meter, store, at, brought, is_head: request.method() == Method::HEAD })
    }

    fn end(self, answer: &Result<ServiceResponse<BoxBody>, actix_web::Error>) {
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
        let now = self.store.clock().monotonic();
        let took = now.saturating_sub(self.at);
        self.meter.record(now, Event { took, bytes: taken.saturating_add(self.brought), failed });
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
