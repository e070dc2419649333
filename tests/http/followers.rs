//! Subscriptions, all followers, and the front ends at which they follow.

use actix_web::http::header::ACCEPT;
use datastore::http::drivers::{Configured, Drivers};
use datastore::partition::engine::EngineKind;
use datastore::partition::mysql::MysqlUrl;
use serde_json::{Value, json};

use super::fixture::{Front, delete, get, post, put};
use super::stream::Stream;

async fn subscribe(front: &Front, query: &str) -> Value {
    let answer = front.ask(put(&format!("/subscriptions/index{query}"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

async fn page(front: &Front) -> Value {
    let answer = front.get("/subscriptions/index?include=value").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_protected();
    answer.json()
}

fn keys(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().unwrap().iter();
    events.map(|event| event["key"].as_str().unwrap()).collect()
}

async fn acknowledge(front: &Front, page: &Value) -> super::fixture::Answer {
    let position = page["next"].as_str().unwrap();
    front.ask(post(&format!("/subscriptions/index/ack?position={position}"))).await
}

#[actix_web::test]
async fn a_page_is_given_until_it_is_acknowledged() {
    let front = Front::new();
    front.put("/bucket/before", "v").await;
    let made = subscribe(&front, "?lease=1h").await;
    assert_eq!((&made["name"], &made["prefix"]), (&json!("index"), &json!("")));
    assert_eq!(
        (&made["lease"], &made["expires_at"]),
        (&json!("1h"), &json!("2001-09-09T02:46:40.000Z"))
    );
    front.put("/bucket/a", "v").await;
    let first = page(&front).await;
    assert_eq!(keys(&first), ["a"]);
    assert_eq!(keys(&page(&front).await), ["a"], "given again");
    assert_eq!(acknowledge(&front, &first).await.status, 200);
    assert_eq!(keys(&page(&front).await), Vec::<&str>::new());
    front.put("/bucket/b", "v").await;
    let second = page(&front).await;
    assert_eq!(keys(&second), ["b"]);
    assert_eq!(acknowledge(&front, &second).await.json()["position"], second["next"]);
    assert_eq!(acknowledge(&front, &second).await.status, 200, "once more changes nothing");
    acknowledge(&front, &first).await.assert_problem(409, "position-behind");
    assert_eq!(keys(&page(&front).await), Vec::<&str>::new());
}

#[actix_web::test]
async fn a_subscription_may_begin_with_a_snapshot_of_a_prefix() {
    let front = Front::new();
    for key in ["a1", "a2", "b1"] {
        front.put(&format!("/bucket/{key}"), "v").await;
    }
    front.round().await;
    subscribe(&front, "?prefix=a&since=0").await;
    let snapshot = page(&front).await;
    assert_eq!((keys(&snapshot), &snapshot["snapshot"]), (vec!["a1", "a2"], &json!(false)));
    acknowledge(&front, &snapshot).await;
    front.put("/bucket/a3", "v").await;
    front.put("/bucket/b2", "v").await;
    assert_eq!(keys(&page(&front).await), ["a3"]);
    // It begins again; what is not said stays.
    let again = front.ask(put("/subscriptions/index?since=0")).await;
    assert_eq!((again.status.as_u16(), &again.json()["prefix"]), (200, &json!("a")));
    front.round().await;
    assert_eq!(keys(&page(&front).await), ["a1", "a2", "a3"]);
}

#[actix_web::test]
async fn a_subscription_that_is_silent_for_its_lease_ends() {
    let front = Front::new();
    subscribe(&front, "?lease=60s").await;
    for _ in 0..5 {
        front.clock.advance_ms(40_000);
        // Asking renews the lease.
        page(&front).await;
    }
    let listed = front.get("/subscriptions").await.json();
    assert_eq!(listed["subscriptions"][0]["name"], "index");
    front.clock.advance_ms(60_000);
    front.get("/subscriptions/index").await.assert_problem(404, "unknown-subscription");
    assert_eq!(front.get("/subscriptions").await.json()["subscriptions"], json!([]));
    subscribe(&front, "").await;
}

#[actix_web::test]
async fn a_subscription_can_be_deleted_and_leaves_the_others_alone() {
    let front = Front::new();
    subscribe(&front, "").await;
    assert_eq!(front.ask(put("/subscriptions/other")).await.status, 201);
    assert_eq!(front.ask(delete("/subscriptions/index")).await.status, 204);
    front.ask(delete("/subscriptions/index")).await.assert_problem(404, "unknown-subscription");
    front.get("/subscriptions/index").await.assert_problem(404, "unknown-subscription");
    let ack = post("/subscriptions/index/ack?position=0");
    front.ask(ack).await.assert_problem(404, "unknown-subscription");
    front.put("/bucket/k", "v").await;
    let other = front.get("/subscriptions/other").await.json();
    assert_eq!(keys(&other), ["k"]);
}

#[actix_web::test]
async fn a_subscription_below_the_floor_is_told_and_can_begin_again() {
    let front = Front::new();
    subscribe(&front, "").await;
    front.put("/bucket/k", "v").await;
    for _ in 0..3 {
        front.round().await;
        front.clock.advance_ms(61_000);
    }
    front.get("/subscriptions/index").await.assert_problem(410, "reset");
    assert_eq!(front.ask(put("/subscriptions/index?since=0")).await.status, 200);
    assert_eq!(keys(&page(&front).await), ["k"]);
}

#[actix_web::test]
async fn all_followers_are_listed_with_how_far_they_are_behind() {
    let front = Front::new();
    subscribe(&front, "?prefix=a").await;
    let mut stream = Stream::open(&front, "since=now&prefix=b").await;
    stream.heartbeat().await;
    front.put("/bucket/b1", "v").await;
    front.put("/bucket/b2", "v").await;
    stream.next_event().await;
    stream.next_event().await;
    front.frontends.beat().await;
    let listed = front.get("/subscriptions").await.json();
    // The subscription's own record is a write, too.
    assert_eq!(listed["subscriptions"][0]["lag"], 3, "{listed}");
    let follower = &listed["followers"][0];
    assert_eq!((&follower["kind"], &follower["prefix"]), (&json!("stream"), &json!("b")));
    assert_eq!((&follower["lag"], &follower["frontend"]), (&json!(0), &json!("f1")));
    assert_eq!(listed["following"], 1);
    drop(stream);
    front.frontends.beat().await;
    assert_eq!(front.get("/subscriptions").await.json()["following"], 0);
}

#[actix_web::test]
async fn front_ends_are_listed_until_they_are_silent() {
    let front = Front::new();
    assert_eq!(front.get("/admin/frontends").await.json(), json!({"frontends": []}));
    front.frontends.beat().await;
    front.clock.advance_ms(15_000);
    let listed = front.get("/admin/frontends").await.json();
    let one = &listed["frontends"][0];
    assert_eq!((&one["id"], &one["is_self"]), (&json!("f1"), &json!(true)));
    assert_eq!((&one["silent_ms"], &one["heartbeat"]), (&json!(15_000), &json!("5s")));
    assert_eq!((&one["address"], &one["following"]), (&json!("127.0.0.1:8080"), &json!(0)));
    assert_eq!(one["serves"].as_array().unwrap().len(), 3);
    let serves = json!({
        "partition": "a", "engine": "memory", "readable": true, "writable": true, "trouble": null,
    });
    assert_eq!(one["serves"][0], serves);
    front.clock.advance_ms(1);
    assert_eq!(front.get("/admin/frontends").await.json(), json!({"frontends": []}));
    front.frontends.beat().await;
    // One partition is enough to be heard.
    front.set_up("a", false);
    assert_eq!(front.get("/admin/frontends").await.json()["frontends"][0]["silent_ms"], 0);
    front.frontends.leave().await;
    assert_eq!(front.get("/admin/frontends").await.json(), json!({"frontends": []}));
}

#[actix_web::test]
async fn what_is_wrong_with_a_request_is_told() {
    let front = Front::new();
    let name = "x".repeat(65);
    for path in ["/subscriptions/a%2Fb", "/subscriptions/%FF", &format!("/subscriptions/{name}")] {
        front.ask(put(path)).await.assert_problem(400, "bad-parameter");
    }
    front.ask(put("/subscriptions/a?lease=0")).await.assert_problem(400, "bad-parameter");
    front.ask(put("/subscriptions/a?since=then")).await.assert_problem(400, "bad-position");
    front.ask(put("/subscriptions/a?wait=1s")).await.assert_problem(400, "unknown-parameter");
    subscribe(&front, "").await;
    front.ask(post("/subscriptions/index/ack")).await.assert_problem(400, "bad-parameter");
    front.ask(post("/subscriptions/index")).await.assert_problem(405, "method-not-allowed");
    front.ask(put("/subscriptions")).await.assert_problem(405, "method-not-allowed");
    front.ask(put("/admin/frontends")).await.assert_problem(405, "method-not-allowed");
    front.get("/admin/frontends?all=1").await.assert_problem(400, "unknown-parameter");
    let stream = get("/subscriptions/index").insert_header((ACCEPT, "text/event-stream"));
    front.ask(stream).await.assert_problem(406, "not-acceptable");
}

#[actix_web::test]
async fn drivers_tell_their_settings_and_no_secrets() {
    let front = Front::new();
    let configured = Configured {
        name: "store_1".into(),
        engine: EngineKind::Mysql,
        url: "mysql://u@h/d"
            .parse::<MysqlUrl>()
            .unwrap()
            .with_password("hunter2".into())
            .to_string(),
        role: "master".into(),
    };
    let pieces = front.pieces.clone().configured_as(Drivers(vec![configured]));
    let front = Front { pieces, ..front };
    let answer = front.get("/admin/drivers").await;
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    let drivers = answer.json();
    let mysql = &drivers["drivers"][0];
    assert_eq!(mysql["engine"], "mysql");
    let partition = &mysql["partitions"][0];
    assert_eq!((&partition["name"], &partition["role"]), (&json!("store_1"), &json!("master")));
    let secret: Vec<&Value> = mysql["settings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|setting| setting["secret"] == true)
        .map(|setting| &setting["name"])
        .collect();
    assert_eq!(secret, ["url: password"]);
    assert_eq!(drivers["drivers"][1]["engine"], "sqlite");
    assert_eq!(drivers["drivers"][1]["partitions"], json!([]));
}
