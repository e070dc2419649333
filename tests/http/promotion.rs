//! Promotions over HTTP: what is moved, what is refused and why, and what is told of it.

use actix_web::test::TestRequest;
use datastore::orchestrator::decisions::{self, About, Decision, LISTED_MAX};
use datastore::orchestrator::operation::Kind as Operation;
use datastore::orchestrator::promotion::Next;
use datastore::topology::slots::Move;
use datastore::topology::{Role, State};
use datastore::version::PartitionId;
use rstest::rstest;
use serde_json::{Value, json};

use crate::fixture::{Answer, Front, LIMITS, delete, post};
use crate::orchestrator::{another_front_end, state, states, until_ended};
use crate::support::masters::{COPY, Kind, Masters};

const ONE_MASTER: [(&str, Role); 3] =
    [("a", Role::Master), ("b", Role::Replica), ("c", Role::Replica)];
const TWO_MASTERS: [(&str, Role); 3] =
    [("a", Role::Master), ("b", Role::Master), ("c", Role::Replica)];
const KEYS: usize = 60;

fn front(kind: Kind, roles: &[(&str, Role)]) -> Front {
    Front::of(Masters::with_roles(kind, roles), LIMITS)
}

fn promote(name: &str, body: &Value) -> TestRequest {
    post(&format!("/admin/partitions/{name}/promote")).set_payload(body.to_string())
}

/// Asks for a promotion and lets it be done.
async fn promoted(front: &Front, name: &str, body: &Value) -> Value {
    let begun = front.ask(promote(name, body)).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = begun.header("location").to_owned();
    let ended = until_ended(front, &front.orchestrator, &path).await;
    assert_eq!((&ended["state"], &ended["kind"]), (&"done".into(), &"promote".into()), "{ended}");
    ended
}

async fn topology(front: &Front) -> Value {
    front.get("/admin/topology").await.json()
}

/// How many slots each voter has, and what it is.
async fn owned(front: &Front) -> Vec<(u64, String)> {
    let topology = topology(front).await;
    let voters = topology["voters"].as_array().unwrap().iter();
    let one = |voter: &Value| {
        (voter["slots"].as_u64().unwrap(), voter["role"].as_str().unwrap().to_owned())
    };
    voters.map(one).collect()
}

async fn fill(front: &Front) {
    for n in 0..KEYS {
        assert_eq!(front.put(&format!("/bucket/{n}"), format!("value {n}")).await.status, 201);
    }
}

/// Whether every key is at every partition, and read at the master as it was written.
async fn holds_all(front: &Front) {
    front.round().await;
    for n in 0..KEYS {
        for query in ["", "?partition=a", "?partition=b", "?partition=c", "?consistency=master"] {
            let read = front.get(&format!("/bucket/{n}{query}")).await;
            assert_eq!(read.text(), format!("value {n}"), "{n}{query}");
        }
    }
}

#[rstest]
#[case(Kind::Memory)]
#[case(Kind::Sqlite)]
#[actix_web::test]
async fn a_replica_takes_all_slots_and_every_write_goes_there(#[case] kind: Kind) {
    let front = front(kind, &ONE_MASTER);
    fill(&front).await;
    let before = topology(&front).await;
    let why = json!({"from": "a", "reason": "maintenance of a"});
    let ended = promoted(&front, "b", &why).await;
    assert_eq!(ended["partitions"], json!(["b"]));
    let message = ended["message"].as_str().unwrap();
    assert!(message.contains("`b` has 1024 slots of `a`, in epoch 2"), "{message}");
    let roles = [(0, "replica".to_owned()), (1024, "master".to_owned()), (0, "replica".to_owned())];
    assert_eq!(owned(&front).await, roles);
    let after = topology(&front).await;
    assert_eq!((&before["epoch"], &after["epoch"]), (&1.into(), &2.into()));
    assert!(after["revision"].as_u64() > before["revision"].as_u64(), "{after}");
    assert_eq!(after["voters"][1]["slot_ranges"], json!(["0-1023"]));
    assert_eq!((&after["by_quorum"], &after["cuts"]), (&true.into(), &json!([])));
    assert!(after["quorum_age_ms"].is_u64() && after["voters"][0]["address"].is_string());
    holds_all(&front).await;
    // FENCE-1: nobody commits there under the epoch before.
    let clocks: Vec<u32> = front.statuses().iter().map(|status| status.epoch.number()).collect();
    assert_eq!(clocks, [2, 2, 2]);
    let written = front.put("/bucket/after", "v").await;
    assert_eq!(written.header("datastore-partition"), "b", "{written:?}");
    assert!(written.header("etag").starts_with("\"2."), "{written:?}");
    assert_eq!(states(&front).await[3..], ["ADAPTING", "RUNNING"]);

    let decisions = front.get("/admin/decisions").await.json();
    let decision = &decisions["decisions"][0];
    assert_eq!((&decision["kind"], &decision["action"]), (&"promotion".into(), &"promote".into()));
    assert_eq!((&decision["partition"], &decision["epoch"]), (&"b".into(), &2.into()));
    let reason = decision["reason"].as_str().unwrap();
    assert!(reason.contains("an operator") && reason.contains("maintenance of a"), "{reason}");
    assert_eq!((&decision["outcome"], &decision["frontend"]), (&ended["message"], &"f1".into()));
}

#[actix_web::test]
async fn one_more_master_takes_its_share_of_each_and_a_master_is_relieved_of_all() {
    let front = front(Kind::Sqlite, &TWO_MASTERS);
    fill(&front).await;
    let plan = front.get("/admin/plan?promote=c&share=true").await.json();
    assert_eq!((&plan["epoch"], &plan["slots"]), (&1.into(), &341.into()), "{plan}");
    let steps = plan["steps"].as_array().unwrap();
    let step = |nth: usize| (&steps[nth]["step"], &steps[nth]["from"], &steps[nth]["slots"]);
    assert_eq!(step(0), (&"move".into(), &"a".into(), &170.into()));
    assert_eq!(step(1), (&"move".into(), &"b".into(), &171.into()));
    assert_eq!(topology(&front).await["epoch"], 1, "a plan changes nothing");

    let request = json!({"share": true});
    let epoch = |epoch: u32| {
        let path = format!("/admin/partitions/c/promote?epoch={epoch}");
        post(&path).set_payload(request.to_string())
    };
    front.ask(epoch(7)).await.assert_problem(409, "epoch-moved");
    let begun = front.ask(epoch(1)).await;
    let path = begun.header("location").to_owned();
    let ended = until_ended(&front, &front.orchestrator, &path).await;
    assert_eq!(ended["state"], "done", "{ended}");
    let counts: Vec<u64> = owned(&front).await.into_iter().map(|(slots, _)| slots).collect();
    assert_eq!(counts, [342, 341, 341]);
    // One change of ownership for each of those that gave some.
    assert_eq!(topology(&front).await["epoch"], 3);
    front.ask(epoch(1)).await.assert_problem(409, "epoch-moved");
    holds_all(&front).await;

    promoted(&front, "b", &json!({"from": "a"})).await;
    let counts: Vec<u64> = owned(&front).await.into_iter().map(|(slots, _)| slots).collect();
    assert_eq!(counts, [0, 683, 341]);
    holds_all(&front).await;
}

#[actix_web::test]
async fn whoever_has_the_slots_already_is_told_so_at_once() {
    let front = front(Kind::Memory, &ONE_MASTER);
    for body in [json!({}), json!({"from": "a"}), json!({"share": true}), json!({"force": true})] {
        let told = front.ask(promote("a", &body)).await;
        assert_eq!(
            (told.status.as_u16(), &told.json()["state"]),
            (202, &"done".into()),
            "{told:?}"
        );
        let message = told.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`a` has these slots already"), "{message}");
        let again = front.get(told.header("location")).await;
        assert_eq!(again.json()["message"], message);
    }
    assert_eq!(states(&front).await, ["INIT", "PROLOGUE", "RUNNING"]);
    assert_eq!(topology(&front).await["epoch"], 1);
    assert_eq!(front.get("/admin/decisions").await.json()["decisions"], json!([]));
}

#[actix_web::test]
async fn what_cannot_be_promoted_is_refused_by_name_and_nothing_changes() {
    let front = Front::of(Masters::with_roles(Kind::Memory, &TWO_MASTERS).with_copy(), LIMITS);
    let revision = topology(&front).await["revision"].clone();
    let refused = async |name: &str, body: Value, status: u16, code: &str, says: &str| {
        let answer: Answer = front.ask(promote(name, &body)).await;
        answer.assert_problem(status, code);
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{answer:?}");
        assert_eq!(state(&front).await["state"], "RUNNING");
    };
    refused("nobody", json!({}), 404, "no-such-partition", "nobody").await;
    refused(COPY, json!({}), 409, "not-a-voter", "a, b, c").await;
    refused("c", json!({}), 400, "which-master", "a, b").await;
    refused("c", json!({"from": "c"}), 400, "bad-promotion", "masters nothing").await;
    refused("c", json!({"from": "nobody"}), 400, "bad-promotion", "nobody").await;
    refused("c", json!({"from": "a", "share": true}), 400, "bad-promotion", "send one").await;
    refused("c", json!({"share": true, "force": true}), 400, "bad-promotion", "\"from\"").await;
    refused("c", json!({"shares": true}), 400, "bad-promotion", "shares").await;
    refused("c", json!({"reason": "x".repeat(501)}), 400, "bad-promotion", "501 bytes").await;
    refused("c", json!([]), 400, "bad-promotion", "").await;
    let c = PartitionId(3);
    front.orchestrator.ownership().mark(c, State::Down).unwrap();
    refused("c", json!({"from": "a"}), 409, "not-active", "is down").await;
    front.orchestrator.ownership().mark(c, State::Active).unwrap();
    // A master that is marked as down hands nothing over.
    front.orchestrator.ownership().mark(PartitionId(1), State::Down).unwrap();
    refused("c", json!({"from": "a"}), 409, "master-away", "\"force\"").await;
    refused("c", json!({"share": true}), 409, "master-away", "a does not answer").await;
    front.orchestrator.ownership().mark(PartitionId(1), State::Active).unwrap();
    for (path, code) in [
        ("/admin/plan?promote=nobody", "no-such-partition"),
        ("/admin/plan?promote=c", "which-master"),
        ("/admin/plan?from=a", "bad-parameter"),
        ("/admin/plan?promot=c", "unknown-parameter"),
    ] {
        assert_eq!(front.get(path).await.json()["code"], code, "{path}");
    }
    front.ask(delete("/admin/topology")).await.assert_problem(405, "method-not-allowed");
    front.get("/admin/partitions/c/promote").await.assert_problem(405, "method-not-allowed");
    let after = topology(&front).await;
    assert_eq!(after["revision"].as_u64(), revision.as_u64().map(|revision| revision + 4));
    assert_eq!(after["epoch"], 1, "nobody was fenced");
}

#[actix_web::test]
async fn a_promotion_is_one_operation_and_a_repeated_request_meets_it() {
    let front = front(Kind::Memory, &ONE_MASTER);
    let with_key = |name: &str| promote(name, &json!({})).insert_header(("idempotency-key", "one"));
    let begun = front.ask(with_key("b")).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    assert_eq!(state(&front).await["state"], "ADAPTING");
    let path = begun.header("location").to_owned();
    assert_eq!(front.ask(with_key("b")).await.header("location"), path);
    front.ask(with_key("c")).await.assert_problem(409, "key-reused");
    let other = front.ask(promote("c", &json!({}))).await;
    assert!(other.assert_problem(409, "wrong-state").text().contains("ADAPTING"));
    // What would be nothing is refused in this state, too.
    front.ask(promote("a", &json!({}))).await.assert_problem(409, "wrong-state");
    front.ask(promote("nobody", &json!({}))).await.assert_problem(404, "no-such-partition");
    until_ended(&front, &front.orchestrator, &path).await;
    let again = front.ask(with_key("b")).await;
    assert_eq!((again.header("location"), &again.json()["state"]), (&*path, &"done".into()));
    assert_eq!(topology(&front).await["epoch"], 2, "not made twice");
}

/// The front end that took it ends when half of it is done.
#[actix_web::test]
async fn another_front_end_goes_on_with_a_promotion() {
    let front = front(Kind::Sqlite, &TWO_MASTERS);
    fill(&front).await;
    let begun = front.ask(promote("c", &json!({"share": true}))).await;
    let path = begun.header("location").to_owned();
    let half = front.orchestrator.service().await.unwrap().operation.unwrap();
    let Operation::Promote { promotion } = half.kind else { panic!("{half:?}") };
    let base = front.orchestrator.ownership().read().unwrap();
    let Next::Move(moved) = promotion.next(&base) else { panic!("{promotion:?}") };
    front.orchestrator.ownership().promote(&moved).unwrap();
    let other = another_front_end(&front).await;
    let ended = until_ended(&front, &other, &path).await;
    assert_eq!(ended["state"], "done", "{ended}");
    let counts: Vec<u64> = owned(&front).await.into_iter().map(|(slots, _)| slots).collect();
    assert_eq!(counts, [342, 341, 341]);
    assert_eq!(topology(&front).await["epoch"], 3, "what was done was not done again");
    holds_all(&front).await;
}

/// Somebody else takes the slots over before the promotion is carried out.
#[actix_web::test]
async fn a_promotion_that_was_overtaken_says_so_and_takes_nothing_away() {
    let front = front(Kind::Memory, &ONE_MASTER);
    let begun = front.ask(promote("b", &json!({}))).await;
    let path = begun.header("location").to_owned();
    let base = front.orchestrator.ownership().read().unwrap();
    let slots = base.owned_by(PartitionId(1));
    let moved = Move { from: PartitionId(1), to: PartitionId(3), slots };
    front.orchestrator.ownership().promote(&moved).unwrap();
    let ended = until_ended(&front, &front.orchestrator, &path).await;
    assert_eq!(ended["state"], "failed", "{ended}");
    let why = ended["message"].as_str().unwrap();
    assert!(why.contains("`c` has taken") && why.contains("0 of 1024"), "{why}");
    assert_eq!(state(&front).await["state"], "RUNNING");
    let counts: Vec<u64> = owned(&front).await.into_iter().map(|(slots, _)| slots).collect();
    assert_eq!(counts, [0, 0, 1024]);
    let decision = front.get("/admin/decisions").await.json()["decisions"][0].clone();
    assert_eq!((&decision["epoch"], &decision["outcome"]), (&Value::Null, &ended["message"]));
}

#[actix_web::test]
async fn of_more_decisions_than_are_listed_the_latest_are() {
    let front = front(Kind::Memory, &ONE_MASTER);
    let many = i64::try_from(LISTED_MAX).unwrap() + 5;
    for at_ms in 1..=many {
        let decision = Decision {
            kind: About::Failover,
            at_ms,
            by: "f1".to_owned(),
            partition: "a".to_owned(),
            action: "came back".to_owned(),
            reason: at_ms.to_string(),
            outcome: "it is a replica".to_owned(),
            epoch: Some(1),
        };
        decisions::record(&front.masters.store, &decision, "f1").await;
    }
    let listed = front.get("/admin/decisions").await.json();
    let listed = listed["decisions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), LISTED_MAX);
    assert_eq!(
        (&listed[0]["reason"], &listed[0]["kind"]),
        (&json!(many.to_string()), &json!("failover"))
    );
}
