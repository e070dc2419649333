//! Wrong input: refused by name, and nothing has changed.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use rstest::rstest;

use super::fixture::{Answer, Front, LIMITS, delete, get, patch, post, put};

/// Sends `request` to a front end whose `/bucket/k` holds `old`, and checks that it still does.
async fn refused(request: TestRequest) -> Answer {
    let front = Front::new();
    front.put("/bucket/k", "old").await;
    let answer = front.ask(request).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert_eq!(front.get("/bucket/k").await.text(), "old");
    assert!(front.sync.run(std::time::Duration::from_secs(10)).await.unwrap().is_clean());
    assert_eq!(front.get("/bucket/").await.text(), "/bucket/k\n", "nothing else was written");
    answer
}

#[rstest]
#[case("/bucket/%", "bad-path")]
#[case("/bucket/a%2", "bad-path")]
#[case("/bucket/a%zzb", "bad-path")]
#[case("/bucket/", "key-empty")]
#[case("/bucket/%2E", "key-unreachable")]
#[case("/bucket/..", "key-unreachable")]
#[actix_web::test]
async fn keys_that_cannot_be(#[case] path: &str, #[case] code: &str) {
    for request in [put(path), post(path), delete(path)] {
        refused(request.set_payload("new")).await.assert_problem(400, code);
    }
    if path != "/bucket/" {
        refused(get(path)).await.assert_problem(400, code);
    }
}

#[actix_web::test]
async fn keys_have_a_greatest_length_in_bytes() {
    let longest = format!("/bucket/{}%FF", "x".repeat(LIMITS.key_bytes_max - 1));
    let longer = format!("{longest}y");
    for request in [put(&longer), post(&longer), delete(&longer)] {
        let answer = refused(request.set_payload("new")).await;
        answer.assert_problem(400, "key-too-long");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("256") && detail.contains("255"), "{detail}");
    }
    refused(get(&longer)).await.assert_problem(404, "not-found");
    let front = Front::new();
    assert_eq!(front.put(&longest, "v").await.status, 201);
    assert_eq!(front.get(&longest).await.text(), "v");
}

#[actix_web::test]
async fn an_oversize_value_leaves_the_old_one() {
    let largest = vec![b'x'; LIMITS.value_bytes_max];
    let larger = vec![b'x'; LIMITS.value_bytes_max + 1];
    for request in [put("/bucket/k"), post("/bucket/k"), put("/bucket/other")] {
        let answer = refused(request.set_payload(larger.clone())).await;
        answer.assert_problem(413, "value-too-large");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("100001") && detail.contains("100000"), "{detail}");
    }
    let front = Front::new();
    assert_eq!(front.put("/bucket/k", largest.clone()).await.status, 201);
    let read = front.get("/bucket/k").await;
    assert_eq!(read.body, largest);
}

#[rstest]
#[case("content-type", "text", 400, "bad-content-type")]
#[case("content-type", "*/*", 400, "bad-content-type")]
#[case("content-type", "multipart/form-data; boundary=x", 415, "unsupported-media-type")]
#[case("content-encoding", "gzip", 415, "unsupported-content-encoding")]
#[case("if-match", "1.1", 400, "bad-condition")]
#[case("if-none-match", "\"a\" \"b\"", 400, "bad-condition")]
#[case("datastore-session", "nonsense", 400, "bad-session")]
#[actix_web::test]
async fn headers_that_make_no_sense(
    #[case] name: &'static str,
    #[case] value: &'static str,
    #[case] status: u16,
    #[case] code: &str,
) {
    for request in [put("/bucket/k"), post("/bucket/k"), put("/bucket/other")] {
        let answer = refused(request.insert_header((name, value)).set_payload("new")).await;
        answer.assert_problem(status, code);
        match code {
            "unsupported-media-type" => assert!(answer.text().contains("curl --data-binary @FILE")),
            "unsupported-content-encoding" => {
                assert_eq!(answer.header("accept-encoding"), "identity");
            }
            _ => {}
        }
    }
}

#[actix_web::test]
async fn an_over_long_content_type() {
    let long = format!("text/{}", "x".repeat(251));
    let request = put("/bucket/k").insert_header(("content-type", long)).set_payload("new");
    let answer = refused(request).await;
    answer.assert_problem(400, "bad-content-type");
    assert!(answer.text().contains("the limit is 255"), "{}", answer.text());
}

#[rstest]
#[case("tll=5s", "unknown-parameter")]
#[case("ack=two", "bad-parameter")]
#[case("ack=all&ack=1", "repeated-parameter")]
#[case("partition=a", "unknown-parameter")]
#[case("%zz", "bad-query")]
#[actix_web::test]
async fn parameters_that_a_write_does_not_know(#[case] query: &str, #[case] code: &str) {
    let path = format!("/bucket/k?{query}");
    for request in [put(&path), post(&path), delete(&path)] {
        refused(request.set_payload("new")).await.assert_problem(400, code);
    }
}

#[rstest]
#[case("pertition=a", "unknown-parameter", "did you mean partition?")]
#[case("partition=a&partition=a", "repeated-parameter", "partition")]
#[case("partition=nowhere", "unknown-partition", "there is a, b, c")]
#[case("max_age=5", "unknown-parameter", "did you mean max_age_ms?")]
#[case("max_age_ms=0", "bad-parameter", "a whole number from 1 to")]
#[case("consistency=strong", "bad-parameter", "any or session or bounded or master")]
#[case("consistency=bounded", "bad-parameter", "needs max_age_ms")]
#[case("consistency=any&max_age_ms=5", "bad-parameter", "max_age_ms is for")]
#[case("partition=a&consistency=master", "bad-parameter", "two places")]
#[case("session=header", "bad-parameter", "session must be cookie")]
#[actix_web::test]
async fn parameters_that_a_read_does_not_know(
    #[case] query: &str,
    #[case] code: &str,
    #[case] says: &str,
) {
    let answer = refused(get(&format!("/bucket/k?{query}"))).await;
    answer.assert_problem(400, code);
    assert!(answer.text().contains(says), "{}", answer.text());
}

#[rstest]
#[case("/bucket/k", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
#[case("/canonicalbucket/k", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
#[case("/bucket/", "GET, HEAD, OPTIONS")]
#[case("/canonicalbucket/", "GET, HEAD, OPTIONS")]
#[case("/canonicalbucket", "GET, HEAD, OPTIONS")]
#[case("/bucket", "GET, HEAD, OPTIONS")]
#[case("/batch", "POST, QUERY, OPTIONS")]
#[case("/canonicalbatch", "POST, QUERY, OPTIONS")]
#[case("/healthz", "GET, HEAD, OPTIONS")]
#[case("/readyz", "GET, HEAD, OPTIONS")]
#[case("/problems/not-found", "GET, HEAD, OPTIONS")]
#[case("/admin/sync", "GET, HEAD, POST, OPTIONS")]
#[case("/admin/verify", "GET, HEAD, POST, OPTIONS")]
#[case("/admin/conflicts", "GET, HEAD, OPTIONS")]
#[case("/admin/decisions", "GET, HEAD, OPTIONS")]
#[actix_web::test]
async fn a_resource_says_what_it_allows(#[case] path: &str, #[case] allow: &str) {
    let with = |method: &str| {
        TestRequest::with_uri(path).method(Method::from_bytes(method.as_bytes()).unwrap())
    };
    for method in ["TRACE", "SEARCH", "put"] {
        let answer = refused(with(method).set_payload("new")).await;
        answer.assert_problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow, "{method}");
    }
    let front = Front::new();
    let options = front.ask(with("OPTIONS")).await;
    assert_eq!((options.status.as_u16(), options.header("allow")), (204, allow));
}

#[rstest]
#[case("/")]
#[case("/nowhere")]
#[case("/Bucket/k")]
#[case("/%62ucket/k")]
#[case("/canonicalbucke/k")]
#[case("/admin")]
#[case("/problems/nonsense")]
#[case("/problems/")]
#[case("//bucket/k")]
#[actix_web::test]
async fn elsewhere_there_is_nothing(#[case] path: &str) {
    let told = refused(get(path)).await;
    told.assert_problem(404, "unknown-path");
    if path == "/" {
        let detail = told.json()["detail"].to_string();
        assert!(detail.contains("/bucket/{key}") && detail.contains("/console/"), "{detail}");
    }
    if !path.starts_with("/problems/n") {
        refused(put(path).set_payload("new")).await.assert_problem(404, "unknown-path");
    }
}

#[rstest]
#[case("host", "evil.example", 421, "unknown-host")]
#[case("host", "localhost:x", 400, "bad-host")]
#[case("sec-fetch-site", "cross-site", 403, "cross-site")]
#[case("sec-fetch-site", "same-site", 403, "cross-site")]
#[case("origin", "http://evil.example", 403, "cross-site")]
#[actix_web::test]
async fn requests_from_elsewhere(
    #[case] name: &'static str,
    #[case] value: &'static str,
    #[case] status: u16,
    #[case] code: &str,
) {
    for request in [put("/bucket/k"), post("/bucket/new"), delete("/bucket/k"), post("/admin/sync")]
    {
        let request = request.insert_header((name, value)).set_payload("new");
        refused(request).await.assert_problem(status, code);
    }
    let read = get("/bucket/k").insert_header((name, value));
    let front = Front::new();
    front.put("/bucket/k", "old").await;
    let answer = front.ask(read).await;
    if status == 403 {
        assert_eq!(answer.text(), "old", "reading is the browser's business");
    } else {
        answer.assert_problem(status, code);
    }
}

#[actix_web::test]
async fn configured_names_and_our_own_pages_may() {
    let front = Front::new();
    let request = put("/bucket/k").insert_header(("host", "db.example.org:8080"));
    let request = request.insert_header(("sec-fetch-site", "same-origin"));
    assert_eq!(front.ask(request.set_payload("v")).await.status, 201);
}

#[actix_web::test]
async fn header_injection_stays_in_the_path() {
    let front = Front::new();
    let path = "/bucket/a%0D%0ASet-Cookie:%20x=1";
    let answer = front.put(path, "v").await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), "/bucket/a%0D%0ASet-Cookie:%20x%3D1");
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!(front.get(answer.header("location")).await.text(), "v");
}

#[rstest]
#[case("ttl=0s", "bad-parameter", "longer than nothing")]
#[case("ttl=1.5s", "bad-parameter", "a duration such as")]
#[case("ttl=36501d", "bad-parameter", "at most 36500d")]
#[case("ttl=5s&ttl=5s", "repeated-parameter", "ttl")]
#[actix_web::test]
async fn times_to_live_that_cannot_be(#[case] query: &str, #[case] code: &str, #[case] says: &str) {
    let path = format!("/bucket/k?{query}");
    for request in [put(&path), post(&path), patch(&path)] {
        let answer = refused(request.set_payload("new")).await;
        answer.assert_problem(400, code);
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    refused(delete("/bucket/k?ttl=5s")).await.assert_problem(400, "unknown-parameter");
}

#[rstest]
#[case("application/json-patch+json", "[]", 415, "unsupported-patch")]
#[case("text/x-patch", "--- a", 415, "unsupported-patch")]
#[case("application/merge-patch+json", "{", 400, "bad-patch")]
#[case("application/merge-patch+json", "", 400, "bad-patch")]
#[case("Application/Merge-Patch+JSON; charset=utf-8", "{\"a\":1,\"a\":2}", 400, "bad-patch")]
#[case("application/merge-patch+json", "{}", 409, "unmergeable")]
#[actix_web::test]
async fn patches_that_cannot_be(
    #[case] kind: &'static str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] code: &str,
) {
    for base in ["/bucket/k", "/canonicalbucket/k"] {
        let request = patch(base).insert_header(("content-type", kind)).set_payload(body);
        let answer = refused(request).await;
        answer.assert_problem(status, code);
        if status == 415 {
            assert_eq!(answer.header("accept-patch"), "application/merge-patch+json");
        }
    }
}
