//! Verify, the ledger and damaged values, over HTTP.

use std::time::Duration;

use actix_web::http::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fixture::{BOUND, Front, LIMITS, get, post, put};
use crate::support::masters::{Kind, LEDGER_RETENTION};

async fn verify(front: &Front) -> Value {
    let answer = front.ask(post("/admin/verify?wait=60s")).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.json()
}

async fn stored(front: &Front, key: &str, value: &'static str) {
    let answer = front.ask(put(&format!("/bucket/{key}")).set_payload(value)).await;
    assert!(answer.status.is_success(), "{}", answer.status);
    front.masters.round().await;
}

/// F23: a hand-edited row, at a replica and at a master, is found and put right within one pass,
/// and in the meantime never served.
#[rstest]
#[case::memory(Kind::Memory)]
#[case::sqlite(Kind::Sqlite)]
#[case::mariadb(Kind::Mariadb)]
#[actix_web::test]
async fn what_a_hand_has_changed_is_put_right_in_one_pass(#[case] kind: Kind) {
    let front = Front::over(kind, LIMITS);
    let (at_master, at_replica) = (front.masters.key_of("a"), front.masters.key_of("b"));
    stored(&front, &at_master, "right").await;
    stored(&front, &at_replica, "right").await;
    front.masters.tamper("a", &at_master, "wrong");
    front.masters.tamper("a", &at_replica, "wrong");

    for key in [&at_master, &at_replica] {
        let there = front.get(&format!("/bucket/{key}?partition=a")).await;
        assert_eq!(there.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(there.text().contains("damaged"), "{}", there.text());
        let anywhere = front.get(&format!("/bucket/{key}")).await;
        assert_eq!(anywhere.text(), "right", "served from elsewhere");
    }
    let report = verify(&front).await;
    assert_eq!((&report["mended"], &report["left"]), (&json!(2), &json!(0)), "{report}");
    for difference in report["differences"].as_array().unwrap() {
        assert_eq!(difference["partition"], "a");
        assert_eq!(
            (&difference["wrong"], &difference["mended"]),
            (&json!("damaged"), &json!(true))
        );
    }
    for key in [&at_master, &at_replica] {
        assert_eq!(front.get(&format!("/bucket/{key}?partition=a")).await.text(), "right");
    }
    let again = verify(&front).await;
    assert_eq!((&again["rows"], &again["mended"]), (&json!(2), &json!(0)), "{again}");
    assert_eq!(front.get("/admin/verify").await.json(), again);
}

#[actix_web::test]
async fn before_the_first_pass_there_is_none() {
    let front = Front::new();
    for path in ["/admin/verify", "/admin/verify?wait=1s"] {
        let none = front.get(path).await.json();
        assert_eq!((&none["pass"], &none["done"]), (&json!(0), &json!(false)));
    }
}

#[actix_web::test]
async fn who_cannot_be_asked_is_named() {
    let front = Front::new();
    // Nobody has a connection to it yet.
    front.masters.set_up("b", false);
    let report = verify(&front).await;
    let errors: Vec<&Value> =
        report["partitions"].as_array().unwrap().iter().map(|one| &one["error"]).collect();
    assert!(errors.iter().any(|error| **error == json!("unreachable")), "{report}");
}

/// LOSS-1: what the master lacks goes, and can be read in the ledger.
#[actix_web::test]
async fn what_is_dropped_can_be_read_in_the_ledger() {
    let front = Front::over(Kind::Memory, LIMITS);
    let keys: Vec<String> = {
        let all = (0..).map(|n| format!("k{n}"));
        all.filter(|key| front.masters.master_of(key) == "a").take(3).collect()
    };
    for key in &keys {
        stored(&front, key, "kept").await;
        front.masters.lose("a", key);
    }
    let report = verify(&front).await;
    assert_eq!(report["left"], 0, "{report}");
    let mut told = Vec::new();
    let mut path = "/admin/conflicts?limit=2".to_owned();
    loop {
        let page = front.get(&path).await.json();
        told.extend(page["conflicts"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    let mut wanted = keys.clone();
    wanted.sort();
    let of = |name: &str| told.iter().map(|one| one[name].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("key"), wanted);
    assert_eq!(of("value"), ["kept"; 3]);
    assert!(told.iter().all(|one| one["kept_by"][0].is_string()), "{told:?}");
    for key in &keys {
        assert_eq!(front.get(&format!("/bucket/{key}")).await.status, StatusCode::NOT_FOUND);
    }
    // One by itself, and written once more.
    let id = told[0]["id"].as_str().unwrap();
    let path = format!("/admin/conflicts/{id}");
    assert_eq!(front.get(&path).await.json(), told[0]);
    let again = || post(&format!("{path}/replay"));
    let unmet = front.ask(again().insert_header(("if-match", "*"))).await;
    assert_eq!(unmet.status, StatusCode::PRECONDITION_FAILED);
    let replayed = front.ask(again().insert_header(("if-none-match", "*"))).await;
    assert_eq!(replayed.status, StatusCode::OK, "{replayed:?}");
    let read = front.get(&format!("/canonicalbucket/{}", wanted[0])).await;
    assert_eq!((read.text(), read.header("etag")), ("kept", replayed.header("etag")));
    for path in ["/admin/conflicts/x", "/admin/conflicts/AAAAAAAAAAAAb25l"] {
        front.get(path).await.assert_problem(404, "unknown-path");
    }
    let wrong = front.get("/admin/conflicts?after=x").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

/// LOSS-1: nothing goes out of the ledger without being counted.
#[rstest]
#[case::memory(Kind::Memory)]
#[case::sqlite(Kind::Sqlite)]
#[case::mariadb(Kind::Mariadb)]
#[actix_web::test]
async fn what_the_ledger_has_kept_for_long_enough_goes(#[case] kind: Kind) {
    let front = Front::over(kind, LIMITS);
    let key = front.masters.key_of("a");
    stored(&front, &key, "kept").await;
    front.masters.lose("a", &key);
    verify(&front).await;
    let ledger = async || front.get("/admin/conflicts").await.json();
    let swept = async |holds: &dyn Fn(&Value) -> bool| {
        let swept = async {
            loop {
                front.masters.upkeep.wake_sweep();
                let page = ledger().await;
                if holds(&page) {
                    return page;
                }
            }
        };
        timeout(BOUND, swept).await.unwrap()
    };
    let kept_by = |page: &Value| page["conflicts"][0]["kept_by"].as_array().map_or(0, Vec::len);
    let page = swept(&|page| kept_by(page) == 3).await;
    let none = json!({"a": 0, "b": 0, "c": 0});
    assert_eq!((&page["retention"], &page["expired"]), (&json!("1h"), &none));

    front.masters.clock.advance_ms(LEDGER_RETENTION.as_millis().try_into().unwrap());
    let all = json!({"a": 1, "b": 1, "c": 1});
    let page = swept(&|page| page["expired"] == all).await;
    assert_eq!(page["conflicts"], json!([]));
    let metrics = front.get("/metrics").await;
    for name in ["a", "b", "c"] {
        let line = format!("datastore_ledger_expired_total{{partition=\"{name}\"}} 1\n");
        assert!(metrics.text().contains(&line), "{}", metrics.text());
    }
}

/// An expired value is gone at once; the sweep makes a tombstone of it, at its master only, and
/// writes nothing where nothing has expired.
#[rstest]
#[case::memory(Kind::Memory)]
#[case::sqlite(Kind::Sqlite)]
#[case::mariadb(Kind::Mariadb)]
#[actix_web::test]
async fn what_has_expired_is_buried(#[case] kind: Kind) {
    let front = Front::over(kind, LIMITS);
    let key = front.masters.key_of("b");
    let answer = front.ask(put(&format!("/bucket/{key}?ttl=5s")).set_payload("v")).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    front.masters.round().await;
    let before = front.masters.statuses();
    front.masters.sweep();
    assert_eq!(front.masters.statuses(), before, "nothing has expired");
    front.masters.clock.advance_ms(5000);
    assert_eq!(front.ask(get(&format!("/bucket/{key}"))).await.status, StatusCode::NOT_FOUND);
    assert_eq!(front.masters.statuses(), before);
    front.masters.sweep();
    let swept = front.masters.statuses();
    let changed: Vec<bool> = swept.iter().zip(&before).map(|(now, then)| now != then).collect();
    assert_eq!(changed, [false, true, false], "the master alone writes");
    front.masters.sweep();
    assert_eq!(front.masters.statuses(), swept);
    front.masters.round().await;
    let verified = front.masters.upkeep.verify(Duration::from_secs(60)).await.unwrap();
    assert!(verified.is_clean() && verified.findings.rows == 0, "{verified:?}");
}
