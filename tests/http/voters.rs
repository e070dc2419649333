//! Voters that join and leave while the service runs, each operation also where its driver has
//! ended anywhere in between.

use std::sync::Arc;

use datastore::failover::service::Ownership;
use datastore::orchestrator::operation::Kind as What;
use datastore::orchestrator::service::Service;
use datastore::orchestrator::voters::NewVoter;
use datastore::orchestrator::{kept, service};
use datastore::roster::open::Opener;
use datastore::topology::change::Joining;
use datastore::topology::slots::moves;
use datastore::topology::{State, Topology, Voter};
use datastore::version::PartitionId;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::feed::{all, now};
use crate::fixture::{Answer, BOUND, Front, LIMITS, delete, get, post};
use crate::stream::Stream;
use crate::support::masters::{COPY, Kind, Masters};

const KEYS: usize = 100;
const A: PartitionId = PartitionId(1);

/// A front end over masters of these names that hold something.
async fn front(names: &[&str]) -> Front {
    let front = Front::of(Masters::named(Kind::Memory, names), LIMITS);
    for n in 0..KEYS {
        assert_eq!(front.put(&format!("/bucket/{n}"), format!("v{n}")).await.status, 201);
    }
    front.round().await;
    front
}

async fn add(front: &Front, body: &Value) -> Answer {
    front.ask(post("/admin/partitions").set_payload(body.to_string())).await
}

fn ownership(front: &Front) -> Arc<Ownership> {
    Arc::clone(front.orchestrator.ownership())
}

/// Lets the front end do its part until this holds.
async fn until(front: &Front, what: &str, holds: impl AsyncFn() -> bool) {
    let held = async {
        while !holds().await {
            front.store.look().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = Arc::clone(&front.orchestrator).run() => panic!("it has no end"),
        () = Arc::clone(front.orchestrator.roster()).follow() => panic!("it has no end"),
        held = tokio::time::timeout(BOUND, held) => held.unwrap_or_else(|_| panic!("never: {what}")),
    }
}

/// Lets the front end do its part until the operation has ended; how.
async fn ended(front: &Front, begun: &Answer) -> Value {
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = begun.header("location");
    let operation = async || front.get(path).await.json();
    until(front, "its end", async || operation().await["state"] != "running").await;
    operation().await
}

async fn done(front: &Front, begun: &Answer) -> Value {
    let operation = ended(front, begun).await;
    assert_eq!(operation["state"], "done", "{operation}");
    assert_eq!(front.get("/admin/service").await.json()["state"], "RUNNING");
    operation
}

async fn partition(front: &Front, name: &str) -> Value {
    front.get(&format!("/admin/partitions/{name}")).await.json()
}

/// Whether the partition holds all that was written.
async fn holds_all(front: &Front, name: &str) -> bool {
    for n in 0..KEYS {
        let read = front.get(&format!("/bucket/{n}?partition={name}")).await;
        if read.status != 200 || read.text() != format!("v{n}") {
            return false;
        }
    }
    true
}

#[actix_web::test]
async fn a_replica_joins_masters_and_leaves() {
    let front = front(&["a", "b", "c"]).await;
    let begun = add(&front, &json!({"role": "replica", "from": "sqlite"})).await;
    let operation = done(&front, &begun).await;
    assert_eq!(
        (&operation["kind"], &operation["message"]),
        (&"join".into(), &"voter_4 is a replica".into())
    );
    until(&front, "it is open", async || front.store.serves(PartitionId(4))).await;
    let voter = partition(&front, "voter_4").await;
    assert_eq!(
        (&voter["role"], &voter["state"], &voter["slots"]),
        (&"replica".into(), &"active".into(), &0.into())
    );
    assert!(holds_all(&front, "voter_4").await, "it was made before it was admitted");
    let written = front.put("/bucket/k?ack=all", "v").await;
    assert_eq!(written.header("datastore-acks"), "4/4");
    assert!(ownership(&front).topology().previous().is_empty(), "settled");
    assert_eq!(front.get("/readyz").await.json()["status"], "ready");

    // The masters leave, one after another: in the end it masters everything.
    for name in ["a", "b", "c"] {
        let begun = front.ask(delete(&format!("/admin/partitions/{name}"))).await;
        let message = done(&front, &begun).await["message"].clone();
        assert_eq!(message, format!("{name} is no partition any more, and is empty"));
        assert_eq!(front.identity(name), None, "{name} is empty");
        let path = format!("/admin/partitions/{name}");
        until(&front, "it is closed", async || front.get(&path).await.status == 404).await;
        assert!(holds_all(&front, "voter_4").await);
        assert_eq!(front.put("/bucket/k", name).await.status, 204);
    }
    assert_eq!(partition(&front, "voter_4").await["slots"], 1024);
    let all = front.get("/admin/partitions").await.json();
    assert_eq!(all["partitions"].as_array().unwrap().len(), 1, "{all}");
    front.ask(delete("/admin/partitions/voter_4")).await.assert_problem(409, "last-partition");
    assert_eq!(front.get("/bucket/k").await.text(), "c");
    // Its rounds have nobody left to copy from.
    front.round().await;
}

#[actix_web::test]
async fn two_voters_need_a_witness_and_say_how_to_add_one() {
    let front = front(&["a", "b"]).await;
    let warned = front.get("/readyz").await.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warned.contains("datastore partitions add --role witness mysql://"), "{warned}");
    let begun = add(&front, &json!({"role": "witness", "from": "sqlite", "name": "judge"})).await;
    assert_eq!(done(&front, &begun).await["message"], "judge is a witness");
    let ready = front.get("/readyz").await.json();
    assert_eq!((&ready["status"], &ready["warnings"]), (&"ready".into(), &Value::Null), "{ready}");
    assert_eq!(front.get("/admin/partitions").await.json()["warnings"], Value::Null);
    let judge = partition(&front, "judge").await;
    assert_eq!((&judge["role"], &judge["state"]), (&"witness".into(), &"active".into()), "{judge}");
    assert_eq!(front.put("/bucket/k?ack=all", "v").await.header("datastore-acks"), "2/2");

    // With its vote the slots of a lost master are taken over.
    front.set_up("a", false);
    let own = ownership(&front);
    let topology = spawn_blocking(move || own.take_over(A, false)).await.unwrap().unwrap();
    assert_eq!((topology.slots_of(A), topology.slots_of(PartitionId(2))), (0, 1024));
    assert_eq!(front.put("/bucket/k", "w").await.status, 204);
    front.set_up("a", true);
    let begun = front.ask(delete("/admin/partitions/judge")).await;
    done(&front, &begun).await;
    assert!(!front.get("/readyz").await.json()["warnings"][0].is_null(), "two again");
}

#[actix_web::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let front = front(&["a", "b", "c"]).await;
    for (body, status, code, says) in [
        (json!({"role": "master", "from": "sqlite"}), 400, "bad-partition", "once slots are given"),
        (
            json!({"role": "judge", "from": "sqlite"}),
            400,
            "bad-partition",
            "copy, replica or witness",
        ),
        (json!({"role": "replica"}), 400, "bad-partition", "Give a url"),
        (
            json!({"role": "replica", "from": "mariadb"}),
            400,
            "bad-partition",
            "ends with its front end",
        ),
        (
            json!({"role": "replica", "from": "sqlite", "count": 2}),
            400,
            "bad-partition",
            "one at a time",
        ),
        (json!({"role": "replica", "url": "sqlite:x.db"}), 400, "bad-partition", "mysql://"),
        (json!({"name": "x", "from": "sqlite"}), 400, "bad-partition", "names of their own"),
        (
            json!({"role": "replica", "from": "sqlite", "name": "A B"}),
            400,
            "bad-partition",
            "lower case",
        ),
        (
            json!({"role": "replica", "from": "sqlite", "name": "copy_9"}),
            400,
            "bad-partition",
            "read copies",
        ),
        (json!({"role": "replica", "from": "sqlite", "name": "b"}), 409, "name-taken", "already"),
        (json!({"role": "replica", "from": "standby"}), 409, "no-standby", "scaling.standby"),
        (json!({"role": "witness", "url": "mysql://u:p@h/d"}), 409, "no-key-file", "key_file"),
    ] {
        let answer = add(&front, &body).await;
        assert!(answer.assert_problem(status, code).text().contains(says), "{}", answer.text());
    }
    front.ask(delete("/admin/partitions/nobody")).await.assert_problem(404, "no-such-partition");
    assert_eq!(front.get("/admin/service").await.json()["state"], "RUNNING");
    assert_eq!(*ownership(&front).topology(), front.topology);

    // Of two at once one wins.
    let body = json!({"role": "replica", "from": "sqlite"});
    let first = add(&front, &body).await;
    add(&front, &body).await.assert_problem(409, "wrong-state");
    front.ask(delete("/admin/partitions/a")).await.assert_problem(409, "wrong-state");
    done(&front, &first).await;
}

#[actix_web::test]
async fn the_embedded_copy_is_its_front_ends() {
    let front = Front::of(Masters::over(Kind::Memory).with_copy(), LIMITS);
    let refused = front.ask(delete(&format!("/admin/partitions/{COPY}"))).await;
    refused.assert_problem(409, "not-a-copy");
}

#[actix_web::test]
async fn a_database_that_is_not_empty_is_no_new_voter() {
    let front = front(&["a", "b", "c"]).await;
    let first = add(&front, &json!({"role": "replica", "from": "sqlite", "name": "d"})).await;
    done(&front, &first).await;
    let own = ownership(&front);
    // Of another life of the set: it is nobody's any more, and not empty.
    let path = front.database_path("data/e.db");
    std::fs::copy(front.database_path("data/d.db"), &path).unwrap();
    let before = own.topology();
    let begun = add(&front, &json!({"role": "replica", "from": "sqlite", "name": "e"})).await;
    let failed = ended(&front, &begun).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["message"].as_str().unwrap().contains("not empty"), "{failed}");
    assert_eq!(own.topology(), before);
    assert_eq!(front.get("/admin/service").await.json()["state"], "RUNNING");
}

/// What the operation that is under way is about.
async fn under_way(front: &Front) -> What {
    let kept = kept::read::<Service>(&front.store, service::NAME, true).await.unwrap().unwrap();
    kept.value.operation.unwrap().kind
}

/// Does the first `steps` of a join, as a front end that ends then.
fn begin_join(own: &Ownership, opener: &Opener, new: &NewVoter, steps: usize) {
    let joining = Joining {
        name: new.name.clone(),
        holds_data: new.holds_data,
        acceptor: new.acceptor,
        address: Some(new.address.clone()),
    };
    let mut id = PartitionId(0);
    for step in 0..steps {
        match step {
            0 => {
                let topology = own.join(&joining).unwrap();
                id = topology.voter_named(&new.name).unwrap().id;
            }
            1 => {
                let topology = own.topology();
                let database = opener.database(topology.voter(id).unwrap()).unwrap();
                own.found(id, database.way.as_ref()).unwrap();
            }
            2 => own.seed(id, A).unwrap(),
            3 => drop(own.admit(id).unwrap()),
            _ => drop(own.settle().unwrap()),
        }
    }
}

#[actix_web::test]
async fn a_join_goes_on_wherever_its_driver_has_ended() {
    for steps in 1..=5 {
        let front = front(&["a", "b", "c"]).await;
        let begun = add(&front, &json!({"role": "replica", "from": "sqlite"})).await;
        let What::Join { voter } = under_way(&front).await else { panic!("a join") };
        let (own, opener) = (ownership(&front), Arc::clone(front.orchestrator.roster().opener()));
        spawn_blocking(move || begin_join(&own, &opener, &voter, steps)).await.unwrap();
        done(&front, &begun).await;
        let topology = ownership(&front).topology();
        let voter = topology.voter_named("voter_4").unwrap();
        assert_eq!((voter.id, voter.state), (PartitionId(4), State::Active), "after {steps} steps");
        assert!(topology.previous().is_empty(), "settled");
        until(&front, "it is open", async || front.store.serves(PartitionId(4))).await;
        assert!(holds_all(&front, "voter_4").await, "after {steps} steps");
    }
}

/// FEED-1: a follower that has not come to the end of a log finds the rest of it at others once its
/// origin has left, at a front end that has never known that as well.
#[actix_web::test]
async fn the_log_of_a_partition_that_has_left_is_followed_to_its_end() {
    let front = front(&["a", "b", "c"]).await;
    let since = now(&front).await;
    let key = front.key_of("a");
    let written = front.put(&format!("/bucket/{key}"), "after").await;
    assert_eq!(written.status, 201, "{written:?}");
    front.round().await;
    done(&front, &front.ask(delete("/admin/partitions/a")).await).await;
    assert_eq!(front.identity("a"), None, "it is gone");
    is_told(&front, &since, &key).await;
    let topology = Topology::clone(&ownership(&front).topology());
    is_told(&Front::of(front.masters.again_under(topology), LIMITS), &since, &key).await;
}

/// Whether all that a follower has missed since then is this key: page by page, and on a stream.
async fn is_told(front: &Front, since: &str, key: &str) {
    let (events, _) = all(front, since, "").await;
    let keys: Vec<&Value> = events.iter().map(|event| &event["key"]).collect();
    assert_eq!(keys, [key]);
    let mut stream = Stream::again(front, "since=now", since).await;
    assert_eq!(stream.next_event().await.data["key"], key);
}

/// Does the first `steps` of a retirement, as a front end that ends then.
fn begin_retirement(own: &Ownership, id: PartitionId, steps: usize) {
    for step in 0..steps {
        match step {
            0 => {
                let topology: Arc<Topology> = own.read().unwrap();
                let others = topology.data_voters().map(|voter: &Voter| voter.id);
                let others = others.filter(|other| *other != id).collect();
                for moved in moves(&topology, &others) {
                    own.promote(&moved).unwrap();
                }
            }
            1 => drop(own.mark(id, State::Draining).unwrap()),
            2 => drop(own.retire(id).unwrap()),
            _ => drop(own.settle().unwrap()),
        }
    }
}

#[actix_web::test]
async fn a_retirement_goes_on_wherever_its_driver_has_ended() {
    for steps in 1..=4 {
        let front = front(&["a", "b", "c"]).await;
        let begun = front.ask(delete("/admin/partitions/a")).await;
        let own = ownership(&front);
        spawn_blocking(move || begin_retirement(&own, A, steps)).await.unwrap();
        if steps == 2 {
            assert_eq!(partition(&front, "a").await["state"], "draining");
        }
        done(&front, &begun).await;
        let topology = ownership(&front).topology();
        assert!(topology.retired().contains(&A) && topology.previous().is_empty(), "{topology:?}");
        assert_eq!(front.identity("a"), None, "after {steps} steps");
        assert!(holds_all(&front, "b").await && holds_all(&front, "c").await);
    }
}

#[actix_web::test]
async fn a_lost_voter_is_removed_and_emptied_when_it_is_back() {
    let front = front(&["a", "b", "c"]).await;
    // What nobody else has.
    let late = front.key_of("a");
    assert_eq!(front.put(&format!("/bucket/{late}"), "late").await.status, 201);
    front.set_up("a", false);
    front.store.look().await;
    let operation = done(&front, &front.ask(delete("/admin/partitions/a")).await).await;
    let message = operation["message"].as_str().unwrap();
    assert!(message.contains("when it can be asked"), "{message}");
    until(&front, "it is listed as retired", async || {
        let left = partition(&front, "a").await;
        left["state"] == "retired" && left["slots"] == 0
    })
    .await;
    assert_eq!(front.get("/readyz").await.json()["status"], "ready");
    assert_eq!(front.put("/bucket/other?ack=all", "v").await.header("datastore-acks"), "2/2");
    let begun = add(&front, &json!({"role": "replica", "from": "sqlite"})).await;
    done(&front, &begun).await;

    front.set_up("a", true);
    front.clock.advance_ms(6_000);
    until(&front, "it is empty", async || front.identity("a").is_none()).await;
    until(&front, "nothing is left of it", async || {
        // Little at a time: what is under way has seconds of this clock.
        front.clock.advance_ms(50);
        front.get("/admin/partitions/a").await.status == 404
    })
    .await;
    let kept = front.get("/admin/conflicts").await.json();
    let keys: Vec<&str> = kept["conflicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, [late.as_str()], "{kept}");
    let read = front.ask(get(&format!("/bucket/{late}"))).await;
    assert_eq!(read.status, 404, "it was acknowledged by its master alone, and is in the ledger");
}
