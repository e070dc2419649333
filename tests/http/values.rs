//! Values: what is put comes back, with what there is to say about it.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use rstest::rstest;

use super::fixture::{Front, Kind, LIMITS, SET, delete, get, post, put};
use datastore::vector::{Token, Vector};
use datastore::version::{Epoch, PartitionId, Seq, SetId, Version};

#[actix_web::test]
async fn post_always_creates_and_says_where() {
    let front = Front::new();
    for value in ["red", "blue"] {
        let answer = front.ask(post("/bucket/colour").set_payload(value)).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("location"), "/bucket/colour");
        assert_eq!(answer.text(), "/bucket/colour");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert!(answer.header("etag").starts_with("\"1."), "{answer:?}");
        assert!(!answer.header("datastore-session").is_empty());
        answer.assert_protected();
        assert_eq!(front.get("/bucket/colour").await.text(), value);
    }
}

#[actix_web::test]
async fn put_tells_created_from_replaced() {
    let front = Front::new();
    let created = front.put("/bucket/a%2Fb%20c", "1").await;
    assert_eq!((created.status.as_u16(), created.text()), (201, "/bucket/a/b%20c"));
    assert_eq!(created.header("location"), "/bucket/a/b%20c");
    let replaced = front.put("/bucket/a/b%20c", "2").await;
    assert_eq!((replaced.status.as_u16(), replaced.text()), (204, ""));
    assert_ne!(replaced.header("etag"), created.header("etag"));
    assert_eq!(front.get("/bucket/a/b%20c").await.text(), "2");
    assert_eq!(front.ask(delete("/bucket/a/b%20c")).await.status, 202);
    assert_eq!(front.put("/bucket/a/b%20c", "3").await.status, 201);
}

#[actix_web::test]
async fn a_read_tells_version_partition_age_and_session() {
    let front = Front::new();
    let written = front.put("/bucket/k", "v").await;
    let read = front.get("/bucket/k").await;
    assert_eq!(read.status, 200);
    assert_eq!(read.text(), "v");
    assert_eq!(read.header("etag"), written.header("etag"));
    assert_eq!(read.header("etag"), format!("\"{}\"", read.header("datastore-version")));
    assert!(["a", "b", "c"].contains(&read.header("datastore-partition")), "{read:?}");
    assert_eq!(read.header("datastore-age"), "unknown");
    assert_eq!(read.header("datastore-session"), written.header("datastore-session"));
    assert_eq!(read.header("content-type"), "text/plain; charset=utf-8");
    read.assert_protected();
}

/// For people: by the clock of the partition that answered.
#[rstest]
#[case::memory(Kind::Memory)]
#[case::sqlite(Kind::Sqlite)]
#[case::mariadb(Kind::Mariadb)]
#[actix_web::test]
async fn a_read_tells_when_the_value_was_stored(#[case] kind: Kind) {
    let front = Front::over(kind, LIMITS);
    front.put("/bucket/k", "v").await;
    let stored = "2001-09-09T01:46:40.000Z";
    let at_master = "/bucket/k?consistency=master";
    assert_eq!(front.get(at_master).await.header("datastore-updated"), stored);
    front.masters.clock.advance_ms(1_500);
    assert_eq!(front.get(at_master).await.header("datastore-updated"), stored);
    front.masters.round().await;
    let copied = "2001-09-09T01:46:41.500Z";
    for name in ["a", "b", "c"] {
        let there = front.get(&format!("/bucket/k?partition={name}")).await;
        let is_master = front.masters.master_of("k") == name;
        let expected = if is_master { stored } else { copied };
        assert_eq!(there.header("datastore-updated"), expected, "{name}");
    }
    assert_eq!(front.get("/bucket/none").await.header("datastore-updated"), "");
}

#[actix_web::test]
async fn head_says_the_same_without_the_value() {
    let front = Front::new();
    front.put("/bucket/k", "value").await;
    front.ask(post("/admin/sync?wait=10s")).await;
    for path in ["/bucket/k", "/bucket/none", "/bucket/", "/healthz", "/nowhere"] {
        let get = front.get(path).await;
        let head = front.ask(TestRequest::with_uri(path).method(Method::HEAD)).await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        assert!(!get.body.is_empty(), "{path}");
        let sorted = |headers: &actix_web::http::header::HeaderMap| {
            let mut lines: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&head.headers), sorted(&get.headers), "{path}");
    }
}

#[actix_web::test]
async fn a_missing_value_is_a_404_that_tells_who_looked() {
    let front = Front::new();
    let missing = front.get("/bucket/none").await;
    missing.assert_problem(404, "not-found");
    assert!(!missing.header("datastore-partition").is_empty());
    assert_eq!(missing.header("datastore-age"), "unknown");
    assert!(!missing.header("datastore-session").is_empty());
    assert_eq!(missing.header("etag"), "");
}

#[actix_web::test]
async fn delete_is_accepted_once() {
    let front = Front::new();
    front.ask(delete("/bucket/k")).await.assert_problem(404, "not-found");
    front.put("/bucket/k", "v").await;
    let deleted = front.ask(delete("/bucket/k")).await;
    assert_eq!((deleted.status.as_u16(), deleted.text()), (202, "accepted"));
    assert!(!deleted.header("etag").is_empty());
    assert!(!deleted.header("datastore-session").is_empty());
    front.get("/bucket/k").await.assert_problem(404, "not-found");
    front.ask(delete("/bucket/k")).await.assert_problem(404, "not-found");
}

#[rstest]
#[case::none(None, b"text \xc3\xa9", "text/plain; charset=utf-8")]
#[case::none_binary(None, b"\xff\xfe\x00\x01", "application/octet-stream")]
#[case::curl_d(Some("application/x-www-form-urlencoded"), b"a=b", "text/plain; charset=utf-8")]
#[case::as_sent(Some("image/PNG; a=\"B\""), b"\x89PNG", "image/PNG; a=\"B\"")]
#[case::html(Some("text/html"), b"<script>", "text/html")]
#[case::empty(None, b"", "text/plain; charset=utf-8")]
#[actix_web::test]
async fn bytes_and_type_come_back_as_they_were_put(
    #[case] content_type: Option<&'static str>,
    #[case] value: &'static [u8],
    #[case] stored: &str,
) {
    let front = Front::new();
    let mut request = put("/bucket/k").set_payload(value);
    if let Some(content_type) = content_type {
        request = request.insert_header(("content-type", content_type));
    }
    assert_eq!(front.ask(request).await.status, 201);
    let read = front.get("/bucket/k").await;
    assert_eq!(read.status, 200);
    assert_eq!(read.body, value);
    assert_eq!(read.header("content-type"), stored);
    read.assert_protected();
}

#[rstest]
#[case("/bucket/%FF", "/bucket/%FE")]
#[case("/bucket/a+b", "/bucket/a%20b")]
#[case("/bucket/a%00", "/bucket/a")]
#[case("/bucket//a", "/bucket/a")]
#[case("/bucket/a%2F", "/bucket/a")]
#[case("/bucket/%25", "/bucket/%2525")]
#[case("/bucket/AC", "/bucket/ac")]
#[case("/bucket/a%20", "/bucket/a")]
#[case("/bucket/%0A", "/bucket/%0D%0A")]
#[case("/bucket/%C3%A9", "/bucket/e%CC%81")]
#[actix_web::test]
async fn different_bytes_are_different_keys(#[case] one: &str, #[case] other: &str) {
    let front = Front::new();
    for path in [one, other] {
        let answer = front.put(path, path).await;
        assert_eq!(answer.status, 201, "{path}");
        let again = front.get(answer.header("location")).await;
        assert_eq!(again.text(), path, "{} leads back", answer.header("location"));
    }
    assert_eq!(front.get(one).await.text(), one);
}

#[actix_web::test]
async fn a_write_never_fails_negotiation() {
    let front = Front::new();
    for (accept, body) in [
        ("application/json", r#"{"message":"/bucket/k"}"#),
        ("image/png", "/bucket/k"),
        ("text/html,*/*;q=0.8", "<html><body>/bucket/k</body></html>"),
        ("application/x-xml", "<message>/bucket/k</message>"),
        ("html", "/bucket/k"),
        ("*/*", "/bucket/k"),
    ] {
        let request = post("/bucket/k").insert_header(("accept", accept)).set_payload("v");
        let answer = front.ask(request).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (201, body), "{accept}");
    }
}

#[actix_web::test]
async fn a_known_version_is_not_sent_again() {
    let front = Front::new();
    let etag = front.put("/bucket/k", "v").await.header("etag").to_owned();
    let ask = async |name: &'static str, value: String| {
        front.ask(get("/bucket/k").insert_header((name, value))).await
    };
    for tag in [etag.clone(), format!("W/{etag}"), format!("\"9.9\", {etag}"), "*".to_owned()] {
        let answer = ask("if-none-match", tag.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (304, ""), "{tag}");
        assert_eq!(answer.header("etag"), etag);
        assert!(!answer.header("datastore-session").is_empty());
        answer.assert_protected();
    }
    let rendering = format!("{};json", etag.trim_matches('"'));
    for tag in ["9.9", "never-ours", &rendering] {
        assert_eq!(ask("if-none-match", format!("\"{tag}\"")).await.status, 200, "{tag}");
    }
    assert_eq!(ask("if-match", etag).await.status, 200);
    ask("if-match", "\"9.9\"".to_owned()).await.assert_problem(412, "precondition-failed");
    ask("if-match", "9.9".to_owned()).await.assert_problem(400, "bad-condition");
}

#[actix_web::test]
async fn conditions_decide_whether_a_write_is_made() {
    let front = Front::new();
    let write = async |request: TestRequest, name: &'static str, tag: &str| {
        front.ask(request.insert_header((name, tag)).set_payload("new")).await
    };
    write(put("/bucket/k"), "if-match", "*").await.assert_problem(412, "precondition-failed");
    assert_eq!(write(put("/bucket/k"), "if-none-match", "*").await.status, 201);
    let again = write(put("/bucket/k"), "if-none-match", "*").await;
    again.assert_problem(412, "precondition-failed");
    let etag = front.put("/bucket/k", "old").await.header("etag").to_owned();
    for stale in ["\"1.1\"", "\"x\"", &format!("W/{etag}")] {
        for request in [put("/bucket/k"), post("/bucket/k"), delete("/bucket/k")] {
            let answer = write(request, "if-match", stale).await;
            answer.assert_problem(412, "precondition-failed");
            assert_eq!(answer.header("etag"), etag, "tells what stands");
        }
    }
    assert_eq!(front.get("/bucket/k").await.text(), "old", "nothing changed");
    let rendering = etag.trim_matches('"').to_owned();
    let answer = write(put("/bucket/k"), "if-match", &format!("\"{rendering};json\"")).await;
    assert_eq!(answer.status, 204);
    let etag = answer.header("etag").to_owned();
    assert_eq!(write(delete("/bucket/k"), "if-match", &etag).await.status, 202);
    // What is not there is a 404 with or without conditions.
    write(delete("/bucket/k"), "if-match", &etag).await.assert_problem(404, "not-found");
}

#[actix_web::test]
async fn a_session_reads_what_it_wrote_wherever_it_reads() {
    let front = Front::new();
    let session = front.put("/bucket/k", "v").await.header("datastore-session").to_owned();
    let master = front.get("/bucket/k").await.header("datastore-partition").to_owned();
    let other = if master == "a" { "b" } else { "a" };
    let at = front.get(&format!("/bucket/k?partition={other}")).await;
    at.assert_problem(404, "not-found");
    assert_eq!(at.header("datastore-partition"), other);
    let with = |path: &str| get(path).insert_header(("datastore-session", session.clone()));
    assert_eq!(front.ask(with("/bucket/k")).await.text(), "v");
    let pinned = front.ask(with(&format!("/bucket/k?partition={other}"))).await;
    assert_eq!(pinned.status, 404, "a pinned read is answered as it is");
    assert_eq!(pinned.header("datastore-session"), session, "and takes nothing back");
    front.ask(post("/admin/sync?wait=10s")).await;
    assert_eq!(front.get(&format!("/bucket/k?partition={other}")).await.text(), "v");
}

#[actix_web::test]
async fn a_deleted_value_stays_deleted_for_its_session() {
    let front = Front::new();
    front.put("/bucket/k", "v").await;
    let session = front.ask(delete("/bucket/k")).await.header("datastore-session").to_owned();
    let missing = front.get("/bucket/k").await;
    assert_eq!(missing.header("datastore-session"), session, "a tombstone is seen, too");
}

#[actix_web::test]
async fn a_token_that_nothing_here_covers_is_refused() {
    let front = Front::new();
    let seen = |set: SetId, seq: u64| {
        let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        let vector: Vector = [(PartitionId(1), version)].into_iter().collect();
        Token { set, vector }.to_string()
    };
    for request in [get("/bucket/k"), get("/bucket/"), put("/bucket/k").set_payload("v")] {
        let foreign = request.insert_header(("datastore-session", seen(SetId(2), 1)));
        let refused = front.ask(foreign).await;
        refused.assert_problem(503, "session-lost");
        assert_eq!(refused.header("retry-after"), "", "waiting does not help");
    }
    front.get("/bucket/k").await.assert_problem(404, "not-found");
    let ahead = get("/bucket/k").insert_header(("datastore-session", seen(SET, 1 << 40)));
    let stale = front.ask(ahead).await;
    stale.assert_problem(503, "too-stale");
    assert_eq!(stale.header("retry-after"), "1");
    assert!(stale.text().contains("origin 1"), "{}", stale.text());
}
