//! `/changes`: pages, waiting, streams; what the data service that the feed comes from got wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::ACCEPT;
use actix_web::test::TestRequest;
use datastore::feed::{Gone, Kind as FollowerKind, Mark, Position};
use datastore::record::{Key, Space};
use datastore::version::{PartitionId, SetId, Version};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fixture::{BOUND, Front, Kind, LIMITS, delete, get, patch, post, put};
use super::stream::{Sse, Stream};

/// What a follower knows: it keeps the greater version of each key.
#[derive(Debug, Default)]
pub struct State(BTreeMap<String, (Vec<u64>, Option<String>)>);

fn version(event: &Value) -> Vec<u64> {
    let parts = event["version"].as_str().unwrap().split('.');
    parts.map(|part| part.parse().unwrap()).collect()
}

impl State {
    pub fn take(&mut self, event: &Value) {
        let key = event["key"].as_str().unwrap().to_owned();
        let value = event["value"].as_str().map(str::to_owned);
        assert_eq!(value.is_none(), event["type"] == "delete", "{event}");
        let known = self.0.entry(key).or_default();
        if version(event) > known.0 {
            *known = (version(event), value);
        }
    }

    /// What stands, by key.
    pub fn standing(&self) -> BTreeMap<&str, &str> {
        self.0
            .iter()
            .filter_map(|(key, (_, value))| Some((key.as_str(), value.as_deref()?)))
            .collect()
    }
}

/// `+key` and `-key` of a page's events.
fn signs(page: &Value) -> Vec<String> {
    let events = page["events"].as_array().unwrap().iter();
    events.map(sign).collect()
}

fn sign(event: &Value) -> String {
    let sign = if event["type"] == "put" { "+" } else { "-" };
    format!("{sign}{}", event["key"].as_str().unwrap())
}

async fn page(front: &Front, query: &str) -> Value {
    let answer = front.get(&format!("/changes?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_protected();
    answer.json()
}

/// The pages from `since` on, until there is no more; and where that is.
pub async fn all(front: &Front, since: &str, more: &str) -> (Vec<Value>, String) {
    let (mut events, mut since) = (Vec::new(), since.to_owned());
    loop {
        let page = page(front, &format!("since={since}{more}")).await;
        events.extend(page["events"].as_array().unwrap().iter().cloned());
        since = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return (events, since);
        }
    }
}

pub async fn now(front: &Front) -> String {
    page(front, "since=now").await["next"].as_str().unwrap().to_owned()
}

/// Makes `published` what stands, of the keys 1 and 2; whatever is so already is no change.
async fn publish(front: &Front, published: &[&str]) {
    for key in ["1", "2"] {
        let path = format!("/bucket/{key}");
        if published.contains(&key) {
            let new = put(&path).insert_header(("if-none-match", "*")).set_payload("v");
            front.ask(new).await;
        } else {
            front.ask(delete(&path)).await;
        }
    }
}

#[actix_web::test]
async fn what_is_published_arrives_as_differences() {
    let front = Front::new();
    let mut since = now(&front).await;
    let mut told = Vec::new();
    for published in [&["1"][..], &["1", "2"], &["1", "2"], &["2"]] {
        publish(&front, published).await;
        let (events, next) = all(&front, &since, "").await;
        told.push(events.iter().map(sign).collect::<Vec<_>>());
        since = next;
    }
    assert_eq!(told, [vec!["+1"], vec!["+2"], vec![], vec!["-1"]]);
}

#[actix_web::test]
async fn a_duplicate_is_told_by_its_version_and_ignored() {
    let front = Front::new();
    let since = now(&front).await;
    for n in 1..=3 {
        front.put("/bucket/k", format!("v{n}")).await;
    }
    let first = page(&front, &format!("since={since}&include=value")).await;
    let again = page(&front, &format!("since={since}&include=value")).await;
    assert_eq!(first["events"], again["events"]);
    assert_eq!(signs(&first), ["+k"], "three entries name one key, whose row comes once");
    let mut state = State::default();
    for event in
        first["events"].as_array().unwrap().iter().chain(again["events"].as_array().unwrap())
    {
        state.take(event);
    }
    assert_eq!(state.standing(), [("k", "v3")].into());
}

#[actix_web::test]
async fn an_event_that_was_lost_is_made_good_even_if_nothing_follows() {
    let front = Front::new();
    let key = front.key_of("b");
    let mut stream = Stream::open(&front, "since=now").await;
    let start = stream.next().await;
    assert_eq!(start.event, "heartbeat");
    front.put(&format!("/bucket/{key}"), "v").await;
    let event = stream.next().await;
    assert_eq!((event.event.as_str(), &event.data["key"]), ("put", &json!(key)));
    // As if it had never arrived: the client comes again with the last id that it was told.
    drop(stream);
    let mut stream = Stream::again(&front, "since=now", start.id()).await;
    let again = stream.next().await;
    assert_eq!((&again.event, &again.data, again.id()), (&event.event, &event.data, event.id()));
    // Nothing follows; the heartbeat says that this was all.
    let heartbeat = stream.heartbeat().await;
    assert_eq!(heartbeat.data["heads"]["b"], event.data["version"]);
    assert_eq!((heartbeat.id(), &heartbeat.data["lag"]), (event.id(), &json!(0)));
}

#[actix_web::test]
async fn a_log_that_could_not_be_read_is_made_good_when_it_can_be() {
    let front = Front::new();
    let path = format!("/bucket/{}", front.key_of("b"));
    // The store has its connections now; the feed gets none.
    front.put(&path, "v").await;
    front.set_up("b", false);
    let mut stream = Stream::open(&front, "since=now").await;
    stream.heartbeat().await;
    assert_eq!(front.put(&path, "w").await.status, 204);
    // The other logs go on.
    front.put(&format!("/bucket/{}", front.key_of("c")), "v").await;
    assert_eq!(stream.next_event().await.data["key"], json!(front.key_of("c")));
    front.set_up("b", true);
    front.feed.look();
    assert_eq!(stream.next_event().await.data["version"], "1.2");
}

#[actix_web::test]
async fn a_snapshot_joins_what_changes_meanwhile() {
    let front = Front::new();
    let put = async |n: usize, value: &str| {
        front.put(&format!("/bucket/k{n:02}"), value.to_owned()).await;
    };
    for n in 0..30 {
        put(n, "old").await;
    }
    front.round().await;
    let (mut state, mut since) = (State::default(), "0".to_owned());
    let mut pages = 0;
    loop {
        let page = page(&front, &format!("since={since}&include=value&limit=5")).await;
        for event in page["events"].as_array().unwrap() {
            state.take(event);
        }
        since = page["next"].as_str().unwrap().to_owned();
        pages += 1;
        if pages == 2 {
            // Behind the place of the snapshot and before it; new, changed and deleted.
            put(1, "new").await;
            put(29, "new").await;
            put(30, "new").await;
            front.ask(delete("/bucket/k00")).await;
            front.ask(delete("/bucket/k28")).await;
            front.round().await;
        }
        if page["more"] == false {
            break;
        }
    }
    let names: Vec<String> = (1..=30).filter(|n| *n != 28).map(|n| format!("k{n:02}")).collect();
    let value = |name: &str| if ["k01", "k29", "k30"].contains(&name) { "new" } else { "old" };
    let expected: BTreeMap<&str, &str> =
        names.iter().map(|name| (name.as_str(), value(name))).collect();
    assert_eq!(state.standing(), expected);
    assert!(pages > 6, "the snapshot was cut into pages: {pages}");
}

#[actix_web::test]
async fn another_life_of_the_front_end_goes_on_and_another_set_is_a_reset() {
    let front = Front::over(Kind::Sqlite, LIMITS);
    let since = now(&front).await;
    front.put("/bucket/k", "v").await;
    // Another front end over the same databases.
    let again = Front::of(front.masters.joined_by("d"), LIMITS);
    let (events, _) = all(&again, &since, "").await;
    assert_eq!(events.iter().map(sign).collect::<Vec<_>>(), ["+k"]);
    let other = Front::new();
    let foreign = Mark { set: Some(SetId(2)), ..since.parse().unwrap() };
    other.get(&format!("/changes?since={foreign}")).await.assert_problem(410, "reset");
    other.put("/bucket/k", "v").await;
    other.round().await;
    let mut stream = Stream::open(&other, &format!("since={foreign}")).await;
    let reset = stream.next().await;
    assert_eq!((reset.event.as_str(), reset.id()), ("reset", "0"));
    assert_eq!(stream.next().await.data["key"], "k", "then a snapshot");
    assert_eq!(stream.next().await.event, "heartbeat", "then the tail");
}

#[actix_web::test]
async fn who_stops_following_gets_nothing_and_leaves_the_others_alone() {
    let front = Front::new();
    let mut one = Stream::open(&front, "since=now&prefix=a").await;
    let mut other = Stream::open(&front, "since=now&prefix=b").await;
    one.heartbeat().await;
    other.heartbeat().await;
    assert_eq!(front.feed.followers().len(), 2);
    drop(one);
    assert_eq!(front.feed.followers().len(), 1);
    front.put("/bucket/a", "v").await;
    front.put("/bucket/b", "v").await;
    assert_eq!(other.next_event().await.data["key"], "b");
    drop(other);
    assert_eq!(front.feed.followers(), []);
}

#[actix_web::test]
async fn a_hundred_thousand_changes_wait_for_a_slow_reader() {
    let front = Front::new();
    let mut stream = Stream::open(&front, "since=now").await;
    stream.heartbeat().await;
    // The reader takes nothing while all of this is written.
    for nth in 0..100 {
        let operation =
            |n: usize| json!({"op": "set", "key": format!("k{}", nth * 1000 + n), "value": ""});
        let operations: Vec<Value> = (0..1000).map(operation).collect();
        let body = json!({ "operations": operations }).to_string();
        let request = post("/batch").insert_header(("content-type", "application/json"));
        assert_eq!(front.ask(request.set_payload(body)).await.status, 200);
    }
    assert!(front.feed.ring_bytes() <= front.feed.limits().ring_bytes_max);
    let mut keys = std::collections::BTreeSet::new();
    while keys.len() < 100_000 {
        keys.insert(stream.next_event().await.data["key"].as_str().unwrap().to_owned());
    }
}

#[actix_web::test]
async fn a_page_comes_in_two_forms_and_with_values_on_request() {
    let front = Front::new();
    let since = now(&front).await;
    front
        .ask(
            put("/bucket/a%FF")
                .insert_header(("content-type", "image/png"))
                .set_payload(vec![0xff]),
        )
        .await;
    front.ask(put("/bucket/t?ttl=60").set_payload("text")).await;
    front.ask(delete("/bucket/t")).await;
    front.ask(put("/bucket/t?ttl=60").set_payload("more")).await;
    let plain = page(&front, &format!("since={since}")).await;
    for event in plain["events"].as_array().unwrap() {
        assert!(event.get("value").is_none() && event.get("value_base64").is_none(), "{event}");
    }
    let query = format!("/changes?since={since}&include=value");
    let lines = front.ask(get(&query).insert_header((ACCEPT, "application/x-ndjson"))).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, events) = lines.split_last().unwrap();
    let full = page(&front, &format!("since={since}&include=value")).await;
    assert_eq!(&Value::from(events.to_vec()), &full["events"]);
    assert_eq!((&last["type"], &last["id"]), (&json!("heartbeat"), &full["next"]));
    let find = |name: &str, value: &str| {
        events.iter().find(|event| event[name] == value).unwrap_or_else(|| panic!("{events:?}"))
    };
    let bytes = find("key_base64", "Yf8=");
    assert_eq!(bytes["value_base64"], "/w==");
    assert_eq!((&bytes["type"], &bytes["content_type"]), (&json!("put"), &json!("image/png")));
    let key = Key::stored(Space::Data, &b"a\xff"[..]);
    let master = front.topology.voter(front.topology.master_of(&key)).unwrap();
    assert_eq!(bytes["partition"], master.name);
    let text = find("key", "t");
    assert_eq!(text["value"], "more");
    assert_eq!(text["expires_at"], "2001-09-09T01:47:40.000Z");
}

#[actix_web::test]
async fn only_keys_with_the_prefix_are_told_and_the_position_moves_on() {
    let front = Front::new();
    for key in ["a", "b1", "b2", "c"] {
        front.put(&format!("/bucket/{key}"), "v").await;
    }
    front.round().await;
    let (events, since) = all(&front, "0", "&prefix=b").await;
    assert_eq!(events.iter().map(sign).collect::<Vec<_>>(), ["+b1", "+b2"]);
    front.put("/bucket/a", "w").await;
    let quiet = page(&front, &format!("since={since}&prefix=b")).await;
    assert_eq!((&quiet["events"], &quiet["lag"]), (&json!([]), &json!(0)));
    assert_ne!(quiet["next"], json!(since), "what it does not follow lies behind it");
}

#[actix_web::test]
async fn a_position_is_a_session_token_and_a_session_token_a_position() {
    let front = Front::new();
    let written = front.put("/bucket/k", "v").await;
    let token = written.header("datastore-session").to_owned();
    let after = page(&front, &format!("since={token}")).await;
    assert_eq!(signs(&after), Vec::<String>::new(), "what the session wrote lies behind it");
    let (_, since) = all(&front, "0", "").await;
    let read = get("/bucket/k").insert_header(("datastore-session", since));
    assert_eq!(front.ask(read).await.text(), "v");
}

#[actix_web::test]
async fn a_request_may_wait_for_something_to_happen() {
    let front = Front::new();
    let since = now(&front).await;
    let quiet = page(&front, &format!("since={since}&wait=20ms")).await;
    assert_eq!((&quiet["events"], &quiet["more"]), (&json!([]), &json!(false)));
    let waiting = async { page(&front, &format!("since={since}&wait=60s&prefix=k")).await };
    let writing = async {
        // Not before the other one waits.
        while front.feed.followers().is_empty() {
            tokio::task::yield_now().await;
        }
        front.put("/bucket/other", "v").await;
        front.put("/bucket/k", "v").await;
    };
    let (told, ()) = timeout(BOUND, async { tokio::join!(waiting, writing) }).await.unwrap();
    assert_eq!(signs(&told), ["+k"]);
    assert!(front.feed.followers().is_empty());
}

#[actix_web::test]
async fn a_position_below_the_floor_is_a_reset() {
    let front = Front::new();
    let since = now(&front).await;
    front.put("/bucket/k", "v").await;
    front.ask(delete("/bucket/k")).await;
    front.put("/bucket/l", "v").await;
    front.round().await;
    // Everybody has it, and the time for which logs are kept passes.
    front.clock.advance_ms(61_000);
    front.round().await;
    front.clock.advance_ms(61_000);
    front.round().await;
    front.get(&format!("/changes?since={since}")).await.assert_problem(410, "reset");
    let mut stream = Stream::again(&front, "since=now", &since).await;
    assert_eq!(stream.next().await.event, "reset");
    assert_eq!(stream.next().await.data["key"], "l");
    assert_eq!(stream.next().await.event, "heartbeat");
    front.put("/bucket/m", "v").await;
    assert_eq!(stream.next_event().await.data["key"], "m");
}

#[actix_web::test]
async fn a_position_that_its_origin_never_gave_is_a_reset() {
    // A copy of the databases that was put back: the same set, an earlier clock.
    let (front, earlier) = (Front::new(), Front::new());
    front.put("/bucket/k", "v").await;
    let since = now(&front).await;
    earlier.get(&format!("/changes?since={since}")).await.assert_problem(410, "reset");
}

#[actix_web::test]
async fn what_is_wrong_with_a_request_is_told() {
    let front = Front::new();
    for (query, code) in [
        ("since=yesterday", "bad-position"),
        ("since=", "bad-position"),
        ("sinse=0", "unknown-parameter"),
        ("include=keys", "bad-parameter"),
        ("limit=0", "bad-parameter"),
        ("wait=61s", "bad-parameter"),
    ] {
        front.get(&format!("/changes?{query}")).await.assert_problem(400, code);
    }
    let image = get("/changes").insert_header((ACCEPT, "image/png"));
    front.ask(image).await.assert_problem(406, "not-acceptable");
    front.ask(patch("/changes")).await.assert_problem(405, "method-not-allowed");
    let options = front.ask(TestRequest::with_uri("/changes").method(Method::OPTIONS)).await;
    assert_eq!((options.status.as_u16(), options.header("allow")), (204, "GET, HEAD, OPTIONS"));
}

#[actix_web::test]
async fn a_stream_says_how_far_it_is_and_where_to_go_on() {
    let front = Front::new();
    front.put("/bucket/k", "v").await;
    front.round().await;
    let mut stream = Stream::open(&front, "since=0&include=value").await;
    let first = stream.next().await;
    assert_eq!((first.event.as_str(), &first.data["value"]), ("put", &json!("v")));
    let heartbeat = stream.next().await;
    assert_eq!(heartbeat.event, "heartbeat");
    let name = front.master_of("k");
    assert_eq!(heartbeat.data["heads"][&name], "1.1");
    assert_eq!(
        (&heartbeat.data["lag"], &heartbeat.data["id"]),
        (&json!(0), &json!(heartbeat.id()))
    );
    // Quiet for the time of a heartbeat.
    assert_eq!(stream.next().await.event, "heartbeat");
    front.put("/bucket/k", "w").await;
    let event = stream.next_event().await;
    assert_eq!((&event.data["value"], &event.data["version"]), (&json!("w"), &json!("1.2")));
    let mut stream = Stream::again(&front, "since=0", event.id()).await;
    assert_eq!(stream.next().await.event, "heartbeat", "nothing is told again");
}

#[actix_web::test]
async fn a_snapshot_is_resumed_where_it_was_cut() {
    let front = Front::new();
    for n in 0..1_000 {
        front.put(&format!("/bucket/k{n:04}"), "v").await;
    }
    front.round().await;
    let mut stream = Stream::open(&front, "since=0").await;
    let mut last = None;
    for _ in 0..900 {
        let event: Sse = stream.next().await;
        assert_eq!(event.event, "put");
        last = event.id.or(last);
    }
    drop(stream);
    let mut stream = Stream::again(&front, "since=0", &last.unwrap()).await;
    let first = stream.next().await.data["key"].as_str().unwrap().to_owned();
    assert!(first.as_str() >= "k0700", "it goes on at {first}, not at the beginning");
    let mut count = 1;
    while stream.next().await.event == "put" {
        count += 1;
    }
    assert!(first == format!("k{:04}", 1_000 - count), "{first} and {count} more");
}

#[actix_web::test]
async fn drain_ends_streams_and_sends_those_who_wait_home() {
    let front = Front::new();
    let mut stream = Stream::open(&front, "since=now").await;
    stream.heartbeat().await;
    let waiting = async { page(&front, "since=now&wait=60s").await };
    let closing = async {
        while front.feed.followers().len() < 2 {
            tokio::task::yield_now().await;
        }
        front.feed.close();
    };
    let (page, ()) = timeout(BOUND, async { tokio::join!(waiting, closing) }).await.unwrap();
    assert_eq!(page["events"], json!([]));
    let rest = stream.rest().await;
    let retry: u64 = rest.strip_prefix("retry: ").unwrap().trim().parse().unwrap();
    assert!((1_000..3_000).contains(&retry), "{retry}");
    let request = get("/changes?since=now").insert_header((ACCEPT, "text/event-stream"));
    front.ask(request).await.assert_problem_as(503, "stopping");
}

#[actix_web::test]
async fn there_are_so_many_followers_and_no_more() {
    let front = Front::new();
    let most = front.feed.limits().followers_max;
    let follow = || Arc::clone(&front.feed).follow(Position::Start, "".into(), FollowerKind::Wait);
    let followers: Vec<_> = (0..most).map(|_| follow().unwrap()).collect();
    let request = get("/changes?since=now").insert_header((ACCEPT, "text/event-stream"));
    let refused = front.ask(request).await;
    refused.assert_problem_as(503, "overloaded");
    assert!(!refused.header("retry-after").is_empty());
    drop(followers);
    Stream::open(&front, "since=now").await.heartbeat().await;
}

/// Who is in the middle of a snapshot when what it began with is lost is told, as who follows is:
/// nobody would ever give it the rest.
#[actix_web::test]
async fn a_snapshot_of_what_nobody_has_any_more_begins_again() {
    let front = Front::new();
    for key in ["a", "b", "c"] {
        front.ask(put(&format!("/bucket/{key}")).set_payload("v")).await;
    }
    let first = page(&front, "since=0&limit=1").await;
    assert_eq!(first["more"], true, "{first}");
    let since = first["next"].as_str().unwrap();
    let gone = |id| Gone { origin: PartitionId(id), above: Version::ZERO, below: None };
    front.feed.lose((1..4).map(gone).collect());
    front.get(&format!("/changes?since={since}")).await.assert_problem(410, "reset");
    let mut stream = Stream::again(&front, "since=0", since).await;
    assert_eq!(stream.next().await.event, "reset");
}

#[actix_web::test]
async fn records_of_the_service_are_nobodys_changes() {
    let front = Front::new();
    let since = now(&front).await;
    let answer = front.ask(put("/subscriptions/mine?since=now")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    front.round().await;
    assert_eq!(all(&front, &since, "").await.0, Vec::<Value>::new());
    assert_eq!(all(&front, "0", "").await.0, Vec::<Value>::new());
}
