//! How long this front end's answers take: every request of a client to its data is counted, by the
//! middleware [`measure`] around the resources.
//!
//! Counted is what clients do with values: `/bucket`, `/canonicalbucket`, `/batch` and
//! `/canonicalbatch`. Probes, the administration and followers of changes are not: they would
//! blur the figures of an idle or a waiting service. A request has failed if its status is a 5xx.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::middleware::Next;
use actix_web::web;

use crate::performance::{Event, Meter};
use crate::store::Store;

/// Where clients' values are.
const COUNTED: [&str; 4] = ["/bucket", "/canonicalbucket", "/batch", "/canonicalbatch"];

/// The middleware.
pub async fn measure<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let parts = (request.app_data::<web::Data<Meter>>(), request.app_data::<web::Data<Store>>());
    let (Some(meter), Some(store)) = parts else { return next.call(request).await };
    if !is_counted(request.path()) {
        return next.call(request).await;
    }
    let (meter, store) = (meter.clone(), store.clone());
    let began = store.clock().monotonic();
    let brought = request.headers().get(CONTENT_LENGTH);
    let brought = brought.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
    let is_head = request.method() == Method::HEAD;
    let answer = next.call(request).await;
    let (taken, failed) = match &answer {
        Ok(answer) => {
            let taken = match answer.response().body().size() {
                BodySize::Sized(bytes) if !is_head => bytes,
                BodySize::Sized(_) | BodySize::None | BodySize::Stream => 0,
            };
            (taken, answer.status().is_server_error())
        }
        Err(_) => (0, true),
    };
    let now = store.clock().monotonic();
    let took = now.saturating_sub(began);
    meter.record(now, Event { took, bytes: taken.saturating_add(brought), failed });
    answer
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
