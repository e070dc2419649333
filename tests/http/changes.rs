//! PATCH, times to live, and acknowledgements.

use rstest::rstest;

use super::fixture::{Front, delete, get, patch, post, put};

const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

#[actix_web::test]
async fn patch_changes_what_exists() {
    let front = Front::new();
    for path in ["/bucket/k", "/canonicalbucket/k"] {
        front.ask(patch(path).set_payload("v")).await.assert_problem(404, "not-found");
        let star = patch(path).insert_header(("if-match", "*")).set_payload("v");
        front.ask(star).await.assert_problem(404, "not-found");
    }
    let first = front.put("/bucket/k", "old").await.header("etag").to_owned();
    let request = patch("/bucket/k").insert_header(("content-type", "image/png"));
    let patched = front.ask(request.set_payload("new")).await;
    assert_eq!((patched.status.as_u16(), patched.text()), (204, ""));
    assert!(patched.header("etag") > first.as_str());
    let read = front.get("/bucket/k").await;
    assert_eq!((read.text(), read.header("content-type")), ("new", "image/png"));
    let stale = patch("/bucket/k").insert_header(("if-match", first)).set_payload("x");
    front.ask(stale).await.assert_problem(412, "precondition-failed");
}

#[actix_web::test]
async fn a_merge_patch_keeps_what_it_does_not_touch() {
    let front = Front::new();
    let value = "{\n  \"price\": 1.10,\n  \"id\": 12345678901234567890,\n  \"old\": true\n}";
    let put = put("/bucket/k?ttl=1h").insert_header(("content-type", "application/json"));
    front.ask(put.set_payload(value)).await;
    let request = patch("/bucket/k").insert_header(MERGE);
    let merged = front.ask(request.set_payload("{\"old\":null,\"new\":[1]}")).await;
    assert_eq!(merged.status, 204);
    let read = front.get("/bucket/k").await;
    let expected = "{\n  \"price\": 1.10,\n  \"id\": 12345678901234567890,\n  \"new\":[1]\n}";
    assert_eq!(read.text(), expected);
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(read.header("datastore-expires"), "2001-09-09T02:46:40.000Z");
}

#[actix_web::test]
async fn a_merge_may_not_outgrow_a_value() {
    let front = Front::new();
    front.put("/bucket/k", format!("{{\"a\":\"{}\"}}", "x".repeat(60_000))).await;
    let patch = patch("/bucket/k").insert_header(MERGE);
    let large = format!("{{\"b\":\"{}\"}}", "x".repeat(60_000));
    let refused = front.ask(patch.set_payload(large)).await;
    refused.assert_problem(413, "value-too-large");
    assert!(refused.text().contains("the limit is 100000"), "{}", refused.text());
}

#[actix_web::test]
async fn a_merged_value_is_pushed_as_merged() {
    let front = Front::new();
    front.ask(put("/canonicalbucket/k?ttl=1h").set_payload("{\"a\":1}")).await;
    let request = patch("/canonicalbucket/k?ack=all").insert_header(MERGE);
    let merged = front.ask(request.set_payload("{\"b\":2}")).await;
    assert_eq!((merged.status.as_u16(), merged.header("datastore-acks")), (204, "3/3"));
    for partition in ["a", "b", "c"] {
        let read = front.get(&format!("/bucket/k?partition={partition}")).await;
        assert_eq!(read.text(), "{\"a\":1,\"b\":2}", "{partition}");
        assert_eq!(read.header("datastore-expires"), "2001-09-09T02:46:40.000Z");
    }
}

#[actix_web::test]
async fn a_value_expires_at_once_and_everywhere() {
    let front = Front::new();
    let written = front.ask(put("/canonicalbucket/k?ttl=1m30s").set_payload("v")).await;
    assert_eq!(written.status, 201);
    assert_eq!(
        front.get("/bucket/k").await.header("datastore-expires"),
        "2001-09-09T01:48:10.000Z"
    );
    front.clock.advance_ms(89_999);
    assert_eq!(front.get("/bucket/k").await.text(), "v");
    front.clock.advance_ms(1);
    for partition in ["a", "b", "c"] {
        let expired = front.get(&format!("/bucket/k?partition={partition}")).await;
        expired.assert_problem(404, "not-found");
        assert_eq!(front.get(&format!("/bucket/?partition={partition}")).await.text(), "");
    }
    front.get("/canonicalbucket/k").await.assert_problem(404, "not-found");
    assert_eq!(front.get("/canonicalbucket/?count=true").await.header("datastore-count"), "0");
    front.ask(delete("/bucket/k")).await.assert_problem(404, "not-found");
    front.ask(patch("/bucket/k").set_payload("v")).await.assert_problem(404, "not-found");
    let create = put("/bucket/k").insert_header(("if-none-match", "*")).set_payload("again");
    let created = front.ask(create).await;
    assert_eq!(created.status, 201);
    assert_eq!(front.get("/bucket/k").await.header("datastore-expires"), "");
}

#[rstest]
#[case::put("PUT", "", None)]
#[case::post("POST", "", None)]
#[case::patch("PATCH", "", Some("2001-09-09T02:46:40.000Z"))]
#[case::put_again("PUT", "?ttl=60", Some("2001-09-09T01:47:40.000Z"))]
#[case::post_again("POST", "?ttl=60", Some("2001-09-09T01:47:40.000Z"))]
#[case::patch_again("PATCH", "?ttl=60", Some("2001-09-09T01:47:40.000Z"))]
#[actix_web::test]
async fn a_new_value_clears_the_time_to_live_and_a_patch_keeps_it(
    #[case] method: &str,
    #[case] query: &str,
    #[case] expires: Option<&str>,
) {
    let front = Front::new();
    front.put("/bucket/k?ttl=1h", "old").await;
    let request = match method {
        "PUT" => put(&format!("/bucket/k{query}")),
        "POST" => post(&format!("/bucket/k{query}")),
        _ => patch(&format!("/bucket/k{query}")),
    };
    assert!(front.ask(request.set_payload("new")).await.status.is_success());
    let read = front.get("/bucket/k").await;
    assert_eq!(read.text(), "new");
    assert_eq!(read.header("datastore-expires"), expires.unwrap_or_default());
}

#[actix_web::test]
async fn a_canonical_write_is_everywhere_when_it_is_answered() {
    let front = Front::new();
    for (request, status) in [
        (put("/canonicalbucket/k").set_payload("1"), 201),
        (post("/canonicalbucket/k").set_payload("2"), 201),
        (patch("/canonicalbucket/k").set_payload("3"), 204),
    ] {
        let written = front.ask(request).await;
        assert_eq!((written.status.as_u16(), written.header("datastore-acks")), (status, "3/3"));
        if status == 201 {
            assert_eq!(written.header("location"), "/bucket/k", "a value has one name");
        }
        for partition in ["a", "b", "c"] {
            let read = front.get(&format!("/bucket/k?partition={partition}")).await;
            assert_eq!(read.header("etag"), written.header("etag"), "{partition}");
        }
    }
    let deleted = front.ask(delete("/canonicalbucket/k")).await;
    assert_eq!((deleted.status.as_u16(), deleted.header("datastore-acks")), (202, "3/3"));
    for partition in ["a", "b", "c"] {
        let gone = front.get(&format!("/bucket/k?partition={partition}")).await;
        gone.assert_problem(404, "not-found");
    }
}

#[rstest]
#[case("/bucket", "", 201, "1/3")]
#[case("/bucket", "?ack=1", 201, "1/3")]
#[case("/bucket", "?ack=majority", 201, "2/3")]
#[case("/bucket", "?ack=all", 503, "2/3")]
#[case("/canonicalbucket", "", 201, "2/3")]
#[case("/canonicalbucket", "?ack=1", 201, "1/3")]
#[case("/canonicalbucket", "?ack=majority", 201, "2/3")]
#[case("/canonicalbucket", "?ack=all", 503, "2/3")]
#[actix_web::test]
async fn with_one_partition_down_so_many_hold_a_write(
    #[case] base: &str,
    #[case] query: &str,
    #[case] status: u16,
    #[case] acks: &str,
) {
    let front = Front::new();
    front.set_up("c", false);
    let key = front.key_of("a");
    let path = format!("{base}/{key}{query}");
    let written = front.put(&path, "v").await;
    assert_eq!((written.status.as_u16(), written.header("datastore-acks")), (status, acks));
    if status == 503 {
        written.assert_problem(503, "ack-unmet");
        assert!(written.text().contains("2 of 3 partitions hold the write; 3 were to"));
        assert_eq!(written.header("retry-after"), "");
    }
    assert!(!written.header("etag").is_empty(), "the write stands");
    let request = get(&format!("/bucket/{key}"));
    let session = written.header("datastore-session").to_owned();
    let read = front.ask(request.insert_header(("datastore-session", session))).await;
    assert_eq!((read.text(), read.header("etag")), ("v", written.header("etag")));
}

#[actix_web::test]
async fn a_majority_counts_those_that_are_down() {
    let front = Front::new();
    front.set_up("b", false);
    front.set_up("c", false);
    let key = front.key_of("a");
    let refused = front.put(&format!("/bucket/{key}?ack=majority"), "v").await;
    refused.assert_problem(503, "ack-unmet");
    assert_eq!(refused.header("datastore-acks"), "1/3");
    let alone = front.ask(delete(&format!("/canonicalbucket/{key}"))).await;
    assert_eq!((alone.status.as_u16(), alone.header("datastore-acks")), (202, "1/3"));
}

#[actix_web::test]
async fn what_was_not_written_has_no_acks() {
    let front = Front::new();
    let missing = front.ask(delete("/canonicalbucket/k")).await;
    missing.assert_problem(404, "not-found");
    assert_eq!(missing.header("datastore-acks"), "");
}

#[actix_web::test]
async fn a_canonical_read_is_the_masters_word() {
    let front = Front::new();
    let key = front.key_of("b");
    let written = front.put(&format!("/bucket/{key}"), "v").await;
    let read = front.get(&format!("/canonicalbucket/{key}")).await;
    assert_eq!((read.text(), read.header("datastore-partition")), ("v", "b"));
    // The master, too, has to cover what the session has seen, elsewhere too.
    let other = front.put(&format!("/bucket/{}", front.key_of("a")), "w").await;
    let request = get(&format!("/canonicalbucket/{key}"));
    let session = other.header("datastore-session").to_owned();
    let read = front.ask(request.insert_header(("datastore-session", session.clone()))).await;
    assert_eq!((read.text(), read.header("etag")), ("v", written.header("etag")));
    assert_ne!(read.header("datastore-session"), session, "and more was seen");
    let pinned = front.get("/canonicalbucket/k?partition=a").await;
    pinned.assert_problem(400, "unknown-parameter");
}

#[actix_web::test]
async fn without_its_master_a_key_has_no_canonical_read() {
    let front = Front::new();
    let key = front.key_of("a");
    front.put(&format!("/canonicalbucket/{key}"), "v").await;
    let front = Front::new();
    front.set_up("a", false);
    front.get(&format!("/canonicalbucket/{key}")).await.assert_problem(503, "unavailable");
    front.get("/canonicalbucket/").await.assert_problem(503, "unavailable");
    let lazy = front.get(&format!("/bucket/{key}")).await;
    lazy.assert_problem(404, "not-found");
}
