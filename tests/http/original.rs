//! The original system's own suite, 9 behaviours on each of its two ways, and the bugs that it had,
//! each as a test named after its number in the list of them.

use std::sync::Arc;

use rstest::rstest;
use rstest_reuse::{apply, template};

use super::fixture::{Answer, Front, Kind, LIMITS, Masters, NAMES, delete, get, patch, post, put};
use datastore::http::HttpLimits;
use datastore::record::{Key, Space};
use datastore::topology::Slot;

/// As the original is configured.
const ORIGINAL: HttpLimits = HttpLimits { key_bytes_max: 32, ..LIMITS };

#[template]
#[rstest]
#[case::lazy_memory("/bucket", Kind::Memory)]
#[case::lazy_sqlite("/bucket", Kind::Sqlite)]
#[case::lazy_mariadb("/bucket", Kind::Mariadb)]
#[case::canonical_memory("/canonicalbucket", Kind::Memory)]
#[case::canonical_sqlite("/canonicalbucket", Kind::Sqlite)]
#[case::canonical_mariadb("/canonicalbucket", Kind::Mariadb)]
fn ways(#[case] base: &str, #[case] kind: Kind) {}

#[template]
#[rstest]
fn kinds(#[values(Kind::Memory, Kind::Sqlite, Kind::Mariadb)] kind: Kind) {}

fn front(kind: Kind) -> Front {
    Front::over(kind, ORIGINAL)
}

async fn insert(front: &Front, base: &str, key: &str, value: &'static str) -> Answer {
    let answer = front.ask(post(&format!("{base}/{key}")).set_payload(value)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

/// Reads what `last` has done: any partition may answer a lazy read, so it has to be told.
async fn read_after(front: &Front, last: &Answer, base: &str, key: &str) -> Answer {
    let seen = last.header("datastore-session").to_owned();
    assert_ne!(seen, "", "{last:?}");
    front.ask(get(&format!("{base}/{key}")).insert_header(("datastore-session", seen))).await
}

#[apply(ways)]
#[actix_web::test]
async fn a_list_contains_what_was_inserted(base: &str, kind: Kind) {
    let front = front(kind);
    insert(&front, base, "c221", "v").await;
    front.round().await;
    let list = get(&format!("{base}/")).insert_header(("accept", "application/json"));
    let paths = front.ask(list).await.json()["message"].clone();
    assert_eq!(paths, serde_json::json!(["/bucket/c221"]));
}

#[apply(ways)]
#[actix_web::test]
async fn a_value_is_got(base: &str, kind: Kind) {
    let front = front(kind);
    let inserted = insert(&front, base, "l555", "value").await;
    let read = read_after(&front, &inserted, base, "l555").await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "value"));
}

#[apply(ways)]
#[actix_web::test]
async fn a_missing_value_is_404(base: &str, kind: Kind) {
    let front = front(kind);
    assert_eq!(front.get(&format!("{base}/missing")).await.status, 404);
}

#[apply(ways)]
#[actix_web::test]
async fn an_insert_is_201_with_its_location(base: &str, kind: Kind) {
    let front = front(kind);
    let answer = front.ask(post(&format!("{base}/c221")).set_payload("v")).await;
    assert_eq!(answer.status, 201);
    assert_eq!((answer.header("location"), answer.text()), ("/bucket/c221", "/bucket/c221"));
}

#[apply(ways)]
#[actix_web::test]
async fn an_insert_overwrites(base: &str, kind: Kind) {
    let front = front(kind);
    insert(&front, base, "c221", "old").await;
    let inserted = insert(&front, base, "c221", "new").await;
    assert_eq!(read_after(&front, &inserted, base, "c221").await.text(), "new");
}

#[apply(ways)]
#[actix_web::test]
async fn a_long_key_is_400_to_write_and_404_to_read(base: &str, kind: Kind) {
    let front = front(kind);
    let path = format!("{base}/{}", "0123456789".repeat(7));
    for request in [post(&path), put(&path), patch(&path), delete(&path)] {
        front.ask(request.set_payload("v")).await.assert_problem(400, "key-too-long");
    }
    front.get(&path).await.assert_problem(404, "not-found");
    let (longest, longer) = ("x".repeat(32), "x".repeat(33));
    insert(&front, base, &longest, "v").await;
    let refused = front.ask(post(&format!("{base}/{longer}")).set_payload("v")).await;
    refused.assert_problem(400, "key-too-long");
}

#[apply(ways)]
#[actix_web::test]
async fn a_delete_is_202_and_then_404(base: &str, kind: Kind) {
    let front = front(kind);
    insert(&front, base, "c221", "v").await;
    let deleted = front.ask(delete(&format!("{base}/c221"))).await;
    assert_eq!((deleted.status.as_u16(), deleted.text()), (202, "accepted"));
    assert_eq!(read_after(&front, &deleted, base, "c221").await.status, 404);
}

#[apply(ways)]
#[actix_web::test]
async fn deleting_what_is_missing_is_404(base: &str, kind: Kind) {
    let front = front(kind);
    assert_eq!(front.ask(delete(&format!("{base}/missing"))).await.status, 404);
    insert(&front, base, "c221", "v").await;
    assert_eq!(front.ask(delete(&format!("{base}/c221"))).await.status, 202);
    assert_eq!(front.ask(delete(&format!("{base}/c221"))).await.status, 404);
}

#[apply(ways)]
#[actix_web::test]
async fn what_was_deleted_is_inserted_again(base: &str, kind: Kind) {
    let front = front(kind);
    insert(&front, base, "c221", "old").await;
    front.ask(delete(&format!("{base}/c221"))).await;
    let inserted = insert(&front, base, "c221", "new").await;
    assert_eq!(read_after(&front, &inserted, base, "c221").await.text(), "new");
}

async fn at(front: &Front, key: &str, partition: &str) -> Option<String> {
    let read = front.get(&format!("/bucket/{key}?partition={partition}")).await;
    (read.status == 200).then(|| read.text().to_owned())
}

async fn assert_everywhere(front: &Front, key: &str, value: Option<&str>) {
    front.round().await;
    for partition in NAMES {
        assert_eq!(at(front, key, partition).await.as_deref(), value, "{key} at {partition}");
    }
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_1_a_write_after_a_canonical_delete_is_not_lost(kind: Kind) {
    let front = front(kind);
    for master in NAMES {
        let key = front.key_of(master);
        insert(&front, "/canonicalbucket", &key, "old").await;
        let deleted = front.ask(delete(&format!("/canonicalbucket/{key}"))).await;
        assert_eq!(deleted.status, 202);
        insert(&front, "/bucket", &key, "new").await;
        assert_everywhere(&front, &key, Some("new")).await;
    }
}

/// Changes a key while rounds run over it, and checks that the last change stands everywhere.
async fn change_while_syncing(kind: Kind, prepare: &'static str, change: &'static str) {
    let front = Arc::new(front(kind));
    let key = front.key_of("b");
    let path = format!("/bucket/{key}");
    for n in 0..20 {
        front.ask(step(&path, prepare, n)).await;
        front.sync.wake();
        front.ask(step(&path, change, n)).await;
        let expected = (change == "POST").then(|| format!("POST {n}"));
        assert_everywhere(&front, &key, expected.as_deref()).await;
    }
}

fn step(path: &str, method: &str, n: usize) -> actix_web::test::TestRequest {
    match method {
        "DELETE" => delete(path),
        "PUT" => put(path).set_payload(format!("PUT {n}")),
        _ => post(path).set_payload(format!("POST {n}")),
    }
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_2_an_update_during_a_sync_is_not_lost(kind: Kind) {
    change_while_syncing(kind, "PUT", "POST").await;
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_3_what_is_created_again_during_a_sync_is_not_lost(kind: Kind) {
    change_while_syncing(kind, "DELETE", "POST").await;
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_4_what_is_deleted_during_a_sync_does_not_come_back(kind: Kind) {
    change_while_syncing(kind, "PUT", "DELETE").await;
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_5_overwriting_leaves_no_gap_and_a_failed_write_no_hole(kind: Kind) {
    let front = Arc::new(front(kind));
    insert(&front, "/bucket", "k", "v").await;
    let writer = Arc::clone(&front);
    let writing = actix_web::rt::spawn(async move {
        for _ in 0..100 {
            insert(&writer, "/canonicalbucket", "k", "w").await;
        }
    });
    while !writing.is_finished() {
        assert_eq!(front.get("/canonicalbucket/k").await.status, 200);
        assert_eq!(front.get("/bucket/k").await.status, 200);
        // Reads of a local engine never wait, and would leave the writer no turn.
        actix_web::rt::task::yield_now().await;
    }
    writing.await.unwrap();
    let large = vec![b'x'; ORIGINAL.value_bytes_max + 1];
    let refused = front.ask(post("/canonicalbucket/k").set_payload(large)).await;
    refused.assert_problem(413, "value-too-large");
    assert_eq!(front.get("/canonicalbucket/k").await.text(), "w");
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_6_a_partial_canonical_write_is_completed(kind: Kind) {
    let front = front(kind);
    front.set_up("c", false);
    let key = front.key_of("a");
    let answer = front.ask(post(&format!("/canonicalbucket/{key}")).set_payload("v")).await;
    assert_eq!((answer.status.as_u16(), answer.header("datastore-acks")), (201, "2/3"));
    front.set_up("c", true);
    assert_everywhere(&front, &key, Some("v")).await;
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_7_an_older_copy_never_wins(kind: Kind) {
    let front = front(kind);
    for master in NAMES {
        // One partition has the older write by a round, another the newer one by a push.
        let key = front.key_of(master);
        insert(&front, "/bucket", &key, "older").await;
        front.round().await;
        let pushed = front.ask(post(&format!("/bucket/{key}?ack=majority")).set_payload("newer"));
        assert_eq!(pushed.await.status, 201);
        assert_everywhere(&front, &key, Some("newer")).await;
    }
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_8_no_clock_decides_which_write_is_newer(kind: Kind) {
    let front = front(kind);
    insert(&front, "/canonicalbucket", "k", "first").await;
    front.clock.step_wall_ms(-3_600_000);
    insert(&front, "/bucket", "k", "second").await;
    assert_everywhere(&front, "k", Some("second")).await;
    let read = front.get("/bucket/k").await;
    assert_eq!((read.header("last-modified"), read.header("etag").is_empty()), ("", false));
}

/// The owner of a key was computed from the number of partitions: with another one most keys were
/// looked for where they are not, and older copies could win.
#[apply(kinds)]
#[actix_web::test]
async fn bug_9_the_number_of_partitions_does_not_move_a_key(kind: Kind) {
    let front = Front::of(Masters::named(kind, &["a", "b"]), ORIGINAL);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let mut owners = Vec::new();
    for key in &keys {
        insert(&front, "/bucket", key, "v").await;
        owners.push(front.master_of(key));
    }
    // Before anything was copied: only its master has a key.
    let front = Front::of(front.masters.joined_by("c"), ORIGINAL);
    for (key, owner) in keys.iter().zip(&owners) {
        let path = format!("/canonicalbucket/{key}");
        let read = front.get(&path).await;
        assert_eq!((read.status.as_u16(), read.text()), (200, "v"), "{key}");
        assert_eq!(read.header("datastore-partition"), owner, "{key}");
        let etag = read.header("etag").to_owned();
        let change = put(&path).insert_header(("if-match", etag)).set_payload("w");
        assert_eq!(front.ask(change).await.status, 204, "{key}");
    }
    front.round().await;
    for key in &keys {
        assert_eq!(at(&front, key, "c").await.as_deref(), Some("w"), "{key}");
    }
    // What of a key decides is the same for ever: these stand in databases.
    let slot = |key: &str| Slot::of(&Key::stored(Space::Data, key.to_owned())).index();
    assert_eq!([slot("c221"), slot("l555")], [330, 536]);
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_10_a_failing_partition_is_answered_for_and_avoided(kind: Kind) {
    let front = front(kind);
    front.set_up("a", false);
    let key = front.key_of("a");
    let path = format!("/bucket/{key}");
    for request in [post(&path), put(&path), delete(&path)] {
        front.ask(request.set_payload("v")).await.assert_problem(503, "not-written");
    }
    front.get(&format!("/canonicalbucket/{key}")).await.assert_problem(503, "unavailable");
    for _ in 0..5 {
        let lazy = front.get(&path).await;
        assert_eq!(lazy.status, 404, "another partition answers");
        assert_ne!(lazy.header("datastore-partition"), "a");
    }
}

#[rstest]
#[case("ac", "AC")]
#[case("a", "a%20")]
#[case("e%CC%81", "%C3%A9")]
#[case("ss", "%C3%9F")]
#[actix_web::test]
async fn bug_12_keys_are_compared_as_bytes(
    #[case] one: &str,
    #[case] other: &str,
    #[values(Kind::Memory, Kind::Sqlite, Kind::Mariadb)] kind: Kind,
) {
    let front = front(kind);
    insert(&front, "/bucket", one, "one").await;
    insert(&front, "/bucket", other, "other").await;
    assert_everywhere(&front, one, Some("one")).await;
    assert_everywhere(&front, other, Some("other")).await;
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_13_a_dead_partition_stops_nobody_and_is_filled_when_it_returns(kind: Kind) {
    let front = front(kind);
    front.set_up("c", false);
    let keys = [front.key_of("a"), front.key_of("b")];
    for key in &keys {
        insert(&front, "/bucket", key, "v").await;
    }
    let report = front.ask(post("/admin/sync?wait=10s")).await.json();
    let failed = |pair: &&serde_json::Value| !pair["error"].is_null();
    let pairs = report["pairs"].as_array().unwrap();
    assert!(pairs.iter().filter(failed).all(|pair| pair["target"] == "c" || pair["source"] == "c"));
    for key in &keys {
        assert_eq!(at(&front, key, "a").await.as_deref(), Some("v"));
        assert_eq!(at(&front, key, "b").await.as_deref(), Some("v"));
    }
    front.set_up("c", true);
    for key in &keys {
        assert_everywhere(&front, key, Some("v")).await;
    }
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_14_a_list_can_be_had_that_lacks_nothing(kind: Kind) {
    let front = front(kind);
    let mut session = String::new();
    for n in 0..6 {
        let request = post(&format!("/bucket/k{n}")).set_payload("v");
        let request = match session.as_str() {
            "" => request,
            seen => request.insert_header(("datastore-session", seen.to_owned())),
        };
        session = front.ask(request).await.header("datastore-session").to_owned();
    }
    let all: String = (0..6).map(|n| format!("/bucket/k{n}\n")).collect();
    assert_eq!(front.get("/canonicalbucket/").await.text(), all);
    let mine = get("/bucket/").insert_header(("datastore-session", session));
    assert_eq!(front.ask(mine).await.text(), all);
    for partition in NAMES {
        assert_eq!(front.get(&format!("/bucket/?partition={partition}")).await.text(), all);
    }
}

#[rstest]
#[case("text/html")]
#[case("application/xml")]
#[case("application/json")]
#[actix_web::test]
async fn bug_15_nothing_breaks_out_of_its_rendering(
    #[case] accept: &'static str,
    #[values(Kind::Memory, Kind::Sqlite, Kind::Mariadb)] kind: Kind,
) {
    let front = front(kind);
    let script = "</message></body><script>alert(1)</script>";
    let request = post("/bucket/%3Cscript%3E").insert_header(("accept", accept));
    let written = front.ask(request.set_payload(script)).await;
    front.round().await;
    let request = put("/bucket/png").insert_header(("content-type", "image/png"));
    front.ask(request.set_payload(script)).await;
    for answer in [
        written,
        front.ask(get("/bucket/").insert_header(("accept", accept))).await,
        front.ask(get("/bucket/png").insert_header(("accept", accept))).await,
        front.ask(get("/bucket/%3Cscript%3E2").insert_header(("accept", accept))).await,
    ] {
        let is_json = answer.header("content-type").contains("json");
        assert!(is_json || !answer.text().contains("<script>"), "{}", answer.text());
        answer.assert_protected();
    }
}

#[apply(kinds)]
#[actix_web::test]
async fn bug_18_location_is_a_path_and_no_host_gets_into_it(kind: Kind) {
    let front = front(kind);
    let request = post("/bucket/a%20b%0D%0Ac").insert_header(("host", "db.example.org:8080"));
    let answer = front.ask(request.set_payload("v")).await;
    assert_eq!(answer.header("location"), "/bucket/a%20b%0D%0Ac");
    let evil = post("/bucket/k").insert_header(("host", "evil.example")).set_payload("v");
    front.ask(evil).await.assert_problem(421, "unknown-host");
}
