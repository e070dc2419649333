//! What every request passes: whoever is not served here is turned away ([`guard`]), answers are
//! protected, and what clients do with values is counted and timed.
//!
//! Counted are `/bucket`, `/canonicalbucket`, `/batch` and `/canonicalbatch`. Probes, the
//! administration and followers of changes are not: they would blur the figures of an idle or a
//! waiting service. A request has failed if its status is a 5xx.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody as _};
use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web;

use super::error::Problem;
use super::guard::{self, HostPolicy};
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

/// What the answer to a request goes by.
pub struct Begun {
    is_head: bool,
    /// `None`: it does not count.
    counted: Option<Counted>,
}

struct Counted {
    at: Duration,
    brought: u64,
}

impl Parts {
    /// Looks at a request: `None`, it may pass; else why it may not.
    pub fn begin(&self, request: &RequestHead) -> (Begun, Option<Problem>) {
        let counted = is_counted(request.uri.path()).then(|| Counted {
            at: self.clock.monotonic(),
            brought: declared(request).unwrap_or(0),
        });
        let begun = Begun { is_head: request.method == Method::HEAD, counted };
        (begun, guard::check(&self.policy, request).err())
    }

    /// Lets the answer out.
    pub fn release(&self, begun: Begun, answer: HttpResponse) -> HttpResponse {
        let bytes = match answer.body().size() {
            BodySize::Sized(bytes) if !begun.is_head => bytes,
            BodySize::Sized(_) | BodySize::None | BodySize::Stream => 0,
        };
        if let Some(counted) = begun.counted {
            counted.end(self, bytes, answer.status().is_server_error());
        }
        guard::protect(answer, begun.is_head)
    }
}

/// The bytes that a request says to bring.
fn declared(request: &RequestHead) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Counted {
    fn end(self, parts: &Parts, taken: u64, failed: bool) {
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
