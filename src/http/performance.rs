//! `/admin/service/performance` and `/metrics`: what the meters show, to people and to Prometheus.

use std::fmt::Write as _;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer;
use super::error::Problem;
use super::query::Query;
use super::wire_admin::PerformanceDoc;
use crate::performance::Meter;
use crate::store::Store;
use crate::upkeep::Upkeep;

const ALLOW: &str = "GET, HEAD, OPTIONS";
/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/admin/service/performance`.
pub async fn figures(
    request: HttpRequest,
    meter: web::Data<Meter>,
    store: web::Data<Store>,
) -> HttpResponse {
    only_read(&request, || {
        let figures = meter.figures(store.clock().monotonic());
        let partitions = store.performance();
        let doc = PerformanceDoc::new(&figures, &partitions);
        Ok(answer::json(StatusCode::OK, &doc))
    })
}

/// `/metrics`.
pub async fn metrics(
    request: HttpRequest,
    meter: web::Data<Meter>,
    store: web::Data<Store>,
    upkeep: web::Data<Upkeep>,
) -> HttpResponse {
    only_read(&request, || {
        let mut text = exposition(&meter, &store);
        ledger(&mut text, &upkeep);
        Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, EXPOSITION)).body(text))
    })
}

fn only_read(
    request: &HttpRequest,
    read: impl FnOnce() -> Result<HttpResponse, Problem>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => Query::none(request.uri().query()).and_then(|()| read()),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// One metric: its name, kind and meaning, and its samples as lines.
fn metric(text: &mut String, (name, kind, help): (&str, &str, &str), samples: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
}

fn exposition(meter: &Meter, store: &Store) -> String {
    let mut text = String::new();
    let totals = meter.totals();
    let line = |name: &str, value: u64| format!("{name} {value}\n");
    for (name, help, value) in [
        ("datastore_requests_total", "Requests to values and lists.", totals.requests),
        ("datastore_errors_total", "Those answered with a 5xx status.", totals.errors),
        ("datastore_bytes_total", "Bytes of their bodies, in and out.", totals.bytes),
        ("datastore_reads_total", "Gets and lists, those of batches one by one.", store.reads()),
    ] {
        metric(&mut text, (name, "counter", help), &line(name, value));
    }
    let name = "datastore_request_duration_seconds";
    let mut samples = String::new();
    for (at, count) in totals.cumulative() {
        let _ = writeln!(samples, "{name}_bucket{{le=\"{}\"}} {count}", at.as_secs_f64());
    }
    let _ = writeln!(samples, "{name}_bucket{{le=\"+Inf\"}} {}", totals.requests);
    let sum = std::time::Duration::from_micros(totals.micros).as_secs_f64();
    let _ = writeln!(samples, "{name}_sum {sum}\n{name}_count {}", totals.requests);
    metric(&mut text, (name, "histogram", "How long they took."), &samples);
    partitions(&mut text, store);
    text
}

/// What there is of each partition.
fn partitions(text: &mut String, store: &Store) {
    let totals = store.partition_totals();
    type Count = fn(&crate::performance::Totals) -> u64;
    let counters: [(&str, &str, Count); 3] = [
        ("datastore_partition_requests_total", "What it was asked.", |totals| totals.requests),
        ("datastore_partition_errors_total", "What it failed at.", |totals| totals.errors),
        ("datastore_partition_bytes_total", "Bytes of values, in and out.", |totals| totals.bytes),
    ];
    for (name, help, count) in counters {
        let samples: String = totals
            .iter()
            .map(|(serving, totals)| {
                format!("{name}{{partition=\"{}\"}} {}\n", serving.name, count(totals))
            })
            .collect();
        metric(text, (name, "counter", help), &samples);
    }
    let name = "datastore_partition_readable";
    let samples: String = store
        .health()
        .iter()
        .map(|health| {
            let readable = u8::from(health.readable);
            format!("{name}{{partition=\"{}\"}} {readable}\n", health.partition.name)
        })
        .collect();
    metric(text, (name, "gauge", "Whether it can be read, as far as is known."), &samples);
}

/// What went out of the ledgers (LOSS-1: never without being counted).
fn ledger(text: &mut String, upkeep: &Upkeep) {
    let name = "datastore_ledger_expired_total";
    let sample = |(partition, count)| format!("{name}{{partition=\"{partition}\"}} {count}\n");
    let samples: String = upkeep.expired_conflicts().into_iter().map(sample).collect();
    let help = "Entries of the ledger removed after sync.ledger_retention.";
    metric(text, (name, "counter", help), &samples);
}
