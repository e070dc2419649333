//! The service as a whole: its states, and one operation at a time.

use std::sync::Arc;
use std::time::Duration;

use actix_web::test::TestRequest;
use datastore::frontends::{Frontends, FrontendsParts};
use datastore::orchestrator::Orchestrator;
use serde_json::Value;

use crate::fixture::{BOUND, Front, SET, delete, get, orchestrator, post};

/// Where every key is deleted.
fn clear() -> TestRequest {
    post(&format!("/admin/clear?confirm={SET}"))
}

/// One more front end over the same store; of the first one nobody has ever heard.
pub async fn another_front_end(front: &Front) -> Arc<Orchestrator> {
    let other = Frontends::start(FrontendsParts {
        id: "f2".to_owned(),
        address: "127.0.0.1:8081".to_owned(),
        interval: Duration::from_millis(1),
        partitions: front.masters.connects(),
        store: Arc::clone(&front.masters.store),
        feed: Arc::clone(&front.masters.feed),
        clock: front.masters.clock.clone(),
    });
    let other = Arc::new(other.unwrap());
    other.beat().await;
    orchestrator(&front.masters, &other)
}

pub async fn state(front: &Front) -> Value {
    front.get("/admin/service").await.json()
}

pub async fn states(front: &Front) -> Vec<String> {
    let history = front.get("/admin/service/history").await.json();
    let history = history["history"].as_array().unwrap().clone();
    history.iter().map(|passage| passage["state"].as_str().unwrap().to_owned()).collect()
}

/// Lets `orchestrator` work until the operation at `path` is no longer running.
pub async fn until_ended(front: &Front, orchestrator: &Arc<Orchestrator>, path: &str) -> Value {
    let ended = async {
        loop {
            let operation = front.get(path).await;
            assert_eq!(operation.status, 200, "{operation:?}");
            if operation.json()["state"] != "running" {
                return operation.json();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = Arc::clone(orchestrator).run() => panic!("it has no end"),
        ended = tokio::time::timeout(BOUND, ended) => ended.unwrap(),
    }
}

#[actix_web::test]
async fn a_service_that_was_never_told_anything_runs() {
    let front = Front::new();
    let service = state(&front).await;
    assert_eq!((&service["state"], &service["operation"]), (&"RUNNING".into(), &Value::Null));
    assert_eq!(service["set"], SET.to_string());
    assert_eq!(states(&front).await, ["INIT", "PROLOGUE", "RUNNING"]);
    let none = front.get("/admin/operations").await.json();
    assert_eq!(none["operations"], Value::Array(Vec::new()));
    front.get("/admin/operations/op-0").await.assert_problem(404, "unknown-path");
    front.ask(delete("/admin/service")).await.assert_problem(405, "method-not-allowed");
}

#[actix_web::test]
async fn one_operation_at_a_time_and_a_repeated_request_meets_its_own() {
    let front = Front::new();
    for n in 0..300 {
        assert_eq!(front.put(&format!("/bucket/{n}"), "x").await.status, 201);
    }
    front.ask(post("/admin/clear")).await.assert_problem(400, "unconfirmed");
    let with_key = |key: &str| clear().insert_header(("idempotency-key", key.to_owned()));
    let begun = front.ask(with_key("first")).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = begun.header("location").to_owned();
    let service = state(&front).await;
    assert_eq!(service["state"], "ADAPTING");
    assert_eq!(service["operation"]["operation"], path.as_str());
    // Nobody drives it yet, so it stands.
    assert_eq!(front.ask(with_key("first")).await.header("location"), path);
    front.ask(with_key("second")).await.assert_problem(409, "wrong-state");
    front.ask(clear()).await.assert_problem(409, "wrong-state");
    let down = front.ask(post("/admin/service/shutdown")).await;
    assert!(down.assert_problem(409, "wrong-state").text().contains("ADAPTING"));
    front.ask(with_key("")).await.assert_problem(400, "bad-idempotency-key");

    let ended = until_ended(&front, &front.orchestrator, &path).await;
    assert_eq!((&ended["state"], &ended["kind"]), (&"done".into(), &"clear".into()), "{ended}");
    assert_eq!(ended["message"], "300 keys were deleted");
    let keys = front.get("/canonicalbucket/?count=true").await;
    assert_eq!(keys.header("datastore-count"), "0");
    assert_eq!(states(&front).await[3..], ["ADAPTING", "RUNNING"]);
    // Long after, the key still names it, and nothing else.
    assert_eq!(front.ask(with_key("first")).await.header("location"), path);
    let other =
        post(&format!("/admin/clear?confirm={SET}&")).insert_header(("idempotency-key", "first"));
    front.ask(other).await.assert_problem(409, "key-reused");
    let all = front.get("/admin/operations").await.json();
    assert_eq!(all["operations"].as_array().unwrap().len(), 1, "{all}");
}

/// The front end that took the operation never came to do it.
#[actix_web::test]
async fn another_front_end_takes_an_operation_over() {
    let front = Front::new();
    assert_eq!(front.put("/bucket/a", "x").await.status, 201);
    let begun = front.ask(clear()).await;
    let other = another_front_end(&front).await;
    let ended = until_ended(&front, &other, begun.header("location")).await;
    assert_eq!(ended["message"], "1 keys were deleted");
    assert_eq!(front.ask(get("/canonicalbucket/a")).await.status, 404);
}

#[actix_web::test]
async fn a_service_that_is_told_to_shut_down_stops_and_starts_again() {
    let front = Front::new();
    let told = front.ask(post("/admin/service/shutdown")).await;
    assert_eq!((told.status.as_u16(), &told.json()["state"]), (202, &"EPILOGUE".into()));
    front.ask(clear()).await.assert_problem(409, "wrong-state");
    front.ask(post("/admin/service/shutdown")).await.assert_problem(409, "wrong-state");
    // Started after it was told: it does not drain, it begins anew.
    let again = orchestrator(&front.masters, &front.frontends);
    let is_running = async {
        while states(&front).await.last().unwrap() != "RUNNING" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = Arc::clone(&again).run() => panic!("it has no end"),
        () = again.told_to_stop() => panic!("that was before its time"),
        running = tokio::time::timeout(BOUND, is_running) => running.unwrap(),
    }
    let states = states(&front).await;
    assert_eq!(states[3..], ["EPILOGUE", "STOPPED", "PROLOGUE", "RUNNING"]);
}
