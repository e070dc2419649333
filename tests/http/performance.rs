//! `/admin/service/performance` and `/metrics`.

use super::fixture::{Front, get, post, put};

#[actix_web::test]
async fn a_hundred_requests_show_and_failures_show_as_errors() {
    let front = Front::new();
    let idle = front.get("/admin/service/performance").await;
    assert_eq!(idle.status, 200);
    for key in ["request_rate", "error_rate", "throughput", "response_time"] {
        assert_eq!(idle.json()[key], 0.0, "{key}: {}", idle.json());
    }
    for n in 0..50 {
        front.put(&format!("/bucket/k{n}"), "0123456789").await;
        front.get(&format!("/bucket/k{n}")).await;
    }
    front.clock.advance_ms(10_000);
    let busy = front.get("/admin/service/performance").await.json();
    assert_eq!(busy["request_rate"], 10.0, "{busy}");
    assert_eq!(busy["error_rate"], 0.0, "{busy}");
    // Each value goes in and comes out; a PUT's answer tells its path.
    assert!(busy["throughput"].as_f64().unwrap() >= 100.0, "{busy}");
    let rates = busy["partitions"].as_array().unwrap().iter();
    let rates: f64 = rates.map(|one| one["request_rate"].as_f64().unwrap()).sum();
    assert!((rates - 10.0).abs() < 0.01, "each request was answered by one partition: {busy}");

    front.cut_off();
    // Connections that are open stay so; a list takes a lane's own.
    for _ in 0..10 {
        assert_eq!(front.get("/bucket/?partition=a").await.status, 503);
    }
    let failing = front.get("/admin/service/performance").await.json();
    assert_eq!(failing["error_rate"], 1.0, "{failing}");
    assert_eq!(failing["partitions"][0]["name"], "a", "{failing}");
    assert_eq!(failing["partitions"][0]["error_rate"], 1.0, "{failing}");

    front.clock.advance_ms(120_000);
    let over = front.get("/admin/service/performance").await.json();
    assert_eq!(over["request_rate"], 0.0, "{over}");
}

#[actix_web::test]
async fn probes_and_administration_do_not_count() {
    let front = Front::new();
    for path in ["/healthz", "/readyz", "/admin/sync", "/metrics", "/nowhere"] {
        front.get(path).await;
    }
    front.clock.advance_ms(1000);
    let figures = front.get("/admin/service/performance").await.json();
    assert_eq!(figures["request_rate"], 0.0, "{figures}");
}

#[actix_web::test]
async fn prometheus_reads_the_counters() {
    let front = Front::new();
    front.put("/bucket/a", "v").await;
    front.get("/bucket/a").await;
    front.get("/bucket/").await;
    let batch = r#"{"operations": [{"op": "get", "key": "a"}, {"op": "get", "key": "b"}]}"#;
    let batch =
        post("/batch").insert_header(("content-type", "application/json")).set_payload(batch);
    assert_eq!(front.ask(batch).await.status, 200);
    let metrics = front.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in [
        "datastore_requests_total 4",
        "datastore_errors_total 0",
        // The list, and each get, those of the batch as well.
        "datastore_reads_total 4",
        "datastore_request_duration_seconds_count 4",
        "datastore_request_duration_seconds_bucket{le=\"+Inf\"} 4",
        "datastore_partition_readable{partition=\"a\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "no {line:?} in\n{text}");
    }
    // What is not a comment is a name, perhaps labels, and a number; each name is explained once.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("datastore_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let mut kinds: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    kinds.sort_unstable();
    let all = kinds.len();
    kinds.dedup();
    assert_eq!(kinds.len(), all);
}

#[actix_web::test]
async fn figures_are_read_and_nothing_else() {
    let front = Front::new();
    for path in ["/admin/service/performance", "/metrics"] {
        front.ask(put(path)).await.assert_problem(405, "method-not-allowed");
        front.ask(get(&format!("{path}?x=1"))).await.assert_problem(400, "unknown-parameter");
    }
}
