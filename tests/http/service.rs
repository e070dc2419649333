//! Health, sync on request, problem pages, and trouble underneath.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::fixture::{Front, LIMITS, delete, get, post, put};
use datastore::http::HttpLimits;
use datastore::http::code::Code;

#[actix_web::test]
async fn alive_and_ready() {
    let front = Front::new();
    let live = front.get("/healthz?probe=1").await;
    assert_eq!((live.status.as_u16(), live.text()), (200, "ok"));
    let ready = front.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), serde_json::json!({"status": "ready", "degraded": []}));
}

#[actix_web::test]
async fn a_draining_front_end_is_alive_and_not_ready() {
    let front = Front::new();
    front.draining.begin();
    assert_eq!(front.get("/healthz").await.status, 200);
    let ready = front.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["status"], "draining");
}

#[actix_web::test]
async fn without_partitions_nothing_leaks_and_the_process_lives() {
    let front = Front::new();
    front.cut_off();
    for (request, code) in [
        (get("/bucket/k"), "unavailable"),
        (get("/bucket/?partition=a"), "unavailable"),
        (put("/bucket/k").set_payload("v"), "not-written"),
        (delete("/bucket/k"), "not-written"),
    ] {
        let answer = front.ask(request).await;
        answer.assert_problem(503, code);
        assert_eq!(answer.header("retry-after"), "1");
        let text = answer.text();
        assert!(text.contains("cannot be reached"), "{text}");
        assert!(!text.contains("10.9.8.7") && !text.contains("root"), "{text}");
    }
    for partition in ["a", "b", "c"] {
        front.get(&format!("/bucket/k?partition={partition}")).await;
    }
    assert_eq!(front.get("/healthz").await.status, 200);
    let ready = front.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let doc = ready.json();
    assert_eq!(doc["status"], "unavailable");
    assert_eq!(doc["degraded"].as_array().unwrap().len(), 3);
    assert_eq!(doc["degraded"][0]["name"], "a");
    assert_eq!(doc["degraded"][0]["readable"], false);
}

#[actix_web::test]
async fn a_round_is_run_on_request_and_reported() {
    let front = Front::new();
    let none = front.get("/admin/sync").await;
    assert_eq!(none.json()["round"], 0);
    assert_eq!(none.json()["pairs"], serde_json::json!([]));
    for n in 0..20 {
        front.put(&format!("/bucket/k{n}"), "v").await;
    }
    let report = front.ask(post("/admin/sync?wait=10s")).await;
    assert_eq!(report.status, 200);
    let doc = report.json();
    assert_eq!(doc["round"], 1);
    assert!(doc["started_at"].as_str().unwrap().ends_with('Z'), "{doc}");
    assert!(doc["took_ms"].is_u64(), "{doc}");
    let pairs = doc["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 6);
    assert_eq!(pairs.iter().map(|pair| pair["rows"].as_u64().unwrap()).sum::<u64>(), 40);
    for pair in pairs {
        assert_eq!((&pair["lag"], pair["error"].is_null()), (&serde_json::json!(0), true));
        assert!(pair["age_ms"].is_u64() && pair["bytes"].is_u64(), "{pair}");
        assert!(pair["took_ms"].is_u64() && pair["last_error"].is_null(), "{pair}");
        assert!(pair["target"].is_string() && pair["source"].is_string(), "{pair}");
    }
    assert_eq!(front.get("/admin/sync").await.json(), doc);
}

#[actix_web::test]
async fn who_does_not_wait_is_told_where_the_round_is_told_of() {
    let front = Front::new();
    let answer = front.ask(post("/admin/sync?wait=0s")).await;
    assert_eq!(answer.status, 202, "a round takes longer than nothing");
    let doc = answer.json();
    assert_eq!((&doc["kind"], &doc["state"]), (&json!("sync"), &json!("running")));
    let operation = doc["operation"].as_str().unwrap();
    assert_eq!(answer.header("location"), operation);
    front.round().await;
    let doc = front.get(operation).await.json();
    assert_eq!(doc["state"], "done");
    assert_eq!(doc["report"]["pairs"].as_array().unwrap().len(), 6, "{doc}");
    for other in ["sync-0-1", "sync", "restore-1"] {
        let answer = front.get(&format!("/admin/operations/{other}")).await;
        answer.assert_problem(404, "unknown-path");
    }
    let later = format!("{operation}000");
    front.get(&later).await.assert_problem(404, "unknown-path");
}

#[actix_web::test]
async fn a_paused_target_falls_behind_and_catches_up() {
    let front = Front::new();
    let key = front.key_of("a");
    front.round().await;
    let paused = front.ask(post("/admin/sync/pause?target=b")).await;
    assert_eq!(paused.status, 200);
    front.put(&format!("/bucket/{key}"), "v").await;
    front.clock.advance_ms(700);
    let pair = |report: serde_json::Value, target: &str| {
        let pairs = report["pairs"].as_array().unwrap().clone();
        let is = |pair: &&serde_json::Value| pair["target"] == target && pair["source"] == "a";
        pairs.iter().find(is).unwrap().clone()
    };
    let report = front.ask(post("/admin/sync?wait=10s")).await.json();
    let (b, c) = (pair(report.clone(), "b"), pair(report, "c"));
    assert_eq!((&b["paused"], &b["rows"]), (&json!(true), &json!(0)), "{b}");
    assert!(b["lag"].as_u64().unwrap() > 0, "{b}");
    assert_eq!(b["age_ms"], 700, "{b}");
    assert_eq!((&c["paused"], &c["rows"], &c["age_ms"]), (&json!(false), &json!(1), &json!(0)));
    // It grows as time goes by, without another round.
    front.clock.advance_ms(300);
    let b = pair(front.get("/admin/sync").await.json(), "b");
    assert_eq!(b["age_ms"], 1000, "{b}");
    let at_b = format!("/bucket/{key}?partition=b");
    assert_eq!(front.get(&at_b).await.status, 404);

    assert_eq!(front.ask(post("/admin/sync/resume")).await.status, 200);
    front.round().await;
    assert_eq!(front.get(&at_b).await.status, 200);
    let unknown = front.ask(post("/admin/sync/pause?target=d")).await;
    unknown.assert_problem(400, "unknown-partition");
    front.get("/admin/sync/pause").await.assert_problem(405, "method-not-allowed");
}

#[actix_web::test]
async fn an_error_is_told_with_its_time_and_remembered() {
    let front = Front::new();
    front.set_up("c", false);
    let report = front.ask(post("/admin/sync?wait=10s")).await.json();
    let of = |report: &serde_json::Value, target: &str| -> Vec<serde_json::Value> {
        let pairs = report["pairs"].as_array().unwrap().clone();
        pairs.into_iter().filter(|pair| pair["target"] == target).collect()
    };
    let c = of(&report, "c");
    assert_eq!(c.len(), 1, "{report}");
    assert!(c[0]["source"].is_null() && c[0]["error"] == "unreachable", "{report}");
    let from_c: Vec<_> = of(&report, "b").into_iter().filter(|p| p["source"] == "c").collect();
    assert_eq!(from_c[0]["error"], "unreachable", "{report}");
    assert!(from_c[0]["last_error"]["at"].as_str().unwrap().ends_with('Z'), "{report}");
    front.set_up("c", true);
    front.round().await;
    let report = front.get("/admin/sync").await.json();
    assert_eq!(of(&report, "c").len(), 2, "{report}");
    let b = of(&report, "b");
    let from_c = b.iter().find(|pair| pair["source"] == "c").unwrap();
    assert!(from_c["error"].is_null() && from_c["last_error"]["what"] == "unreachable", "{b:?}");
}

#[rstest]
#[case("wait=61s", "bad-parameter", "wait must be a duration such as 500ms or 5s, at most 1m")]
#[case("wait=soon", "bad-parameter", "given was \\\"soon\\\"")]
#[case("wiat=1s", "unknown-parameter", "did you mean wait?")]
#[actix_web::test]
async fn a_wait_has_a_form_and_a_bound(
    #[case] query: &str,
    #[case] code: &str,
    #[case] says: &str,
) {
    let front = Front::new();
    let answer = front.ask(post(&format!("/admin/sync?{query}"))).await;
    answer.assert_problem(400, code);
    assert!(answer.text().contains(says), "{}", answer.text());
}

#[actix_web::test]
async fn every_problem_has_its_page() {
    let front = Front::new();
    for &code in Code::ALL {
        let page = front.get(&code.path()).await;
        assert_eq!(page.status, 200, "{}", code.name());
        for part in [code.name(), code.title(), code.means(), code.remedy()] {
            assert!(page.text().contains(part), "{}", page.text());
        }
        let html = front.ask(get(&code.path()).insert_header(("accept", "text/html"))).await;
        assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
        assert!(html.text().contains("<h1>"));
        html.assert_protected();
    }
    front.get("/problems/nonsense").await.assert_problem(404, "unknown-path");
}

#[actix_web::test]
async fn bodies_in_flight_are_bounded() {
    let limits = HttpLimits { body_budget_bytes: 1, value_bytes_max: 40_000, ..LIMITS };
    let front = Front::with(limits);
    assert_eq!(front.put("/bucket/k", vec![b'x'; 40_000]).await.status, 201, "one always fits");
    let app = actix_web::App::new().configure(|cfg| front.pieces.configure(cfg));
    let app = actix_web::test::init_service(app).await;
    let request = get("/bucket/k").insert_header(("host", "localhost")).to_request();
    let held = actix_web::test::call_service(&app, request).await;
    assert_eq!(held.status(), 200);
    for request in [get("/bucket/k"), put("/bucket/k").set_payload("new")] {
        let refused = front.ask(request).await;
        refused.assert_problem(503, "overloaded");
        assert_eq!(refused.header("retry-after"), "1");
    }
    drop(held);
    assert_eq!(front.get("/bucket/k").await.body.len(), 40_000, "the old value stands");
}

#[actix_web::test]
async fn a_body_that_never_comes_ends_with_the_deadline() {
    let limits = HttpLimits { body_deadline: Duration::from_millis(50), ..LIMITS };
    let front = Front::with(limits);
    front.put("/bucket/k", "old").await;
    let answer = super::wire::talk(
        &front,
        b"PUT /bucket/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("body-timeout"), "{answer}");
    assert_eq!(front.get("/bucket/k").await.text(), "old");
}
