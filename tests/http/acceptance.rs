//! What operators rely on of every administrative request (`docs/acceptance.md`): what is wrong is
//! refused before anything changes, what is read changes nothing, what is told agrees.

use serde_json::{Value, json};

use crate::fixture::{Front, delete, post};
use crate::orchestrator::{state, until_ended};

/// What an operator can look at.
const RESOURCES: [&str; 16] = [
    "/admin/partitions",
    "/admin/partitions/a",
    "/admin/topology",
    "/admin/plan?copies=2",
    "/admin/plan?promote=a&from=b",
    "/admin/scaling",
    "/admin/decisions",
    "/admin/service",
    "/admin/service/history",
    "/admin/service/performance",
    "/admin/operations",
    "/admin/sync",
    "/admin/conflicts",
    "/admin/drivers",
    "/admin/verify",
    "/readyz",
];

#[actix_web::test]
async fn looking_twice_changes_nothing() {
    let front = Front::new();
    for n in 0..20 {
        assert_eq!(front.put(&format!("/bucket/{n}"), "v").await.status, 201);
    }
    front.round().await;
    let before = front.statuses();
    for path in RESOURCES {
        let first = front.get(path).await;
        assert_eq!(first.status, 200, "{path}: {first:?}");
        let second = front.get(path).await;
        // Ages and times to answer differ; what is told, by which names, does not.
        assert_eq!(names(&first.json()), names(&second.json()), "{path}");
    }
    let documents = ["/admin/service/history", "/admin/operations", "/admin/decisions"];
    for path in documents {
        assert_eq!(front.get(path).await.json(), front.get(path).await.json(), "{path}");
    }
    assert_eq!(front.statuses(), before, "no partition was written to");
}

/// The shape of a document: its members' names, in order.
fn names(doc: &Value) -> Vec<String> {
    match doc {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| {
                let below = names(value).into_iter().map(move |below| format!("{name}.{below}"));
                std::iter::once(name.clone()).chain(below)
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(names).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[actix_web::test]
async fn an_unknown_partition_is_told_so_and_the_service_goes_on_running() {
    let front = Front::new();
    front.get("/admin/partitions/nobody").await.assert_problem(404, "unknown-path");
    for request in [
        delete("/admin/partitions/nobody"),
        post("/admin/partitions/nobody/crash"),
        post("/admin/partitions/nobody/promote"),
    ] {
        front.ask(request).await.assert_problem(404, "no-such-partition");
        let service = state(&front).await;
        assert_eq!((&service["state"], &service["operation"]), (&"RUNNING".into(), &Value::Null));
    }
    assert_eq!(front.get("/admin/operations").await.json()["operations"], json!([]));
}

#[actix_web::test]
async fn the_state_is_the_last_one_of_the_history() {
    let front = Front::new();
    let agree = async |expected: &str| {
        let history = front.get("/admin/service/history").await.json();
        let last = history["history"].as_array().unwrap().last().unwrap().clone();
        let service = state(&front).await;
        assert_eq!(service["state"], expected);
        assert_eq!(
            (&service["state"], &service["since"], &service["reason"]),
            (&last["state"], &last["time"], &last["reason"])
        );
    };
    agree("RUNNING").await;
    let promote = post("/admin/partitions/a/promote").set_payload(r#"{"from": "b"}"#);
    let begun = front.ask(promote).await;
    agree("ADAPTING").await;
    front.ask(post("/admin/service/shutdown")).await.assert_problem(409, "wrong-state");
    until_ended(&front, &front.orchestrator, begun.header("location")).await;
    agree("RUNNING").await;
    front.ask(post("/admin/service/shutdown")).await;
    agree("EPILOGUE").await;
}
