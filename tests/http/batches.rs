//! Many operations in one request.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use rstest::rstest;
use serde_json::{Value, json};

use super::fixture::{Answer, Front, LIMITS, get, post, put};
use datastore::http::HttpLimits;

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

fn batch(operations: &Value) -> TestRequest {
    let doc = json!({ "operations": operations });
    post("/batch").insert_header(JSON).set_payload(doc.to_string())
}

fn query(path: &str) -> TestRequest {
    TestRequest::with_uri(path).method(Method::from_bytes(b"QUERY").unwrap())
}

fn statuses(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    let results = answer.json()["results"].as_array().unwrap().clone();
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

#[actix_web::test]
async fn operations_on_one_key_run_in_order_and_see_each_other() {
    let front = Front::new();
    let answer = front
        .ask(batch(&json!([
            {"op": "get", "key": "k"},
            {"op": "set", "key": "k", "value": "{\"a\":1}", "content_type": "application/json"},
            {"op": "get", "key": "k"},
            {"op": "update", "key": "k", "value": "{\"b\":2}",
                "content_type": "application/merge-patch+json", "ttl": "1h"},
            {"op": "get", "key": "k"},
            {"op": "delete", "key": "k"},
            {"op": "update", "key": "k", "value": "x"},
            {"op": "delete", "key": "k"},
        ])))
        .await;
    assert_eq!(statuses(&answer), [404, 201, 200, 204, 200, 202, 404, 404]);
    let results = &answer.json()["results"];
    assert_eq!(results[0]["error"]["code"], "not-found");
    assert_eq!(results[1]["acks"], "1/3");
    let first = json!({"status": 200, "etag": results[1]["etag"], "value": "{\"a\":1}",
        "content_type": "application/json"});
    assert_eq!(results[2], first);
    let second = json!({"status": 200, "etag": results[3]["etag"], "value": "{\"a\":1,\"b\":2}",
        "content_type": "application/json", "expires_at": "2001-09-09T02:46:40.000Z"});
    assert_eq!(results[4], second);
    assert!(results[5]["etag"].is_string());
    let session = answer.header("datastore-session").to_owned();
    let read = front.get("/bucket/k").await;
    assert_eq!((read.status.as_u16(), read.header("datastore-session")), (404, session.as_str()));
}

#[actix_web::test]
async fn many_keys_in_one_request_keep_their_order() {
    let front = Front::new();
    let sets: Vec<Value> = (0..1_000)
        .map(|n| json!({"op": "set", "key": format!("k{n}"), "value": n.to_string()}))
        .collect();
    let written = front.ask(batch(&json!(sets))).await;
    assert_eq!(statuses(&written), [201; 1_000]);
    let gets: Vec<Value> =
        (0..1_000).map(|n| json!({"op": "get", "key": format!("k{n}")})).collect();
    let doc = json!({ "operations": gets }).to_string();
    let session = written.header("datastore-session").to_owned();
    for request in [query("/batch"), query("/canonicalbatch"), post("/batch")] {
        let request = request.insert_header(("datastore-session", session.clone()));
        let read = front.ask(request.insert_header(JSON).set_payload(doc.clone())).await;
        for (n, result) in read.json()["results"].as_array().unwrap().iter().enumerate() {
            assert_eq!(result["value"], n.to_string());
        }
    }
}

#[actix_web::test]
async fn a_canonical_batch_writes_to_all() {
    let front = Front::new();
    let doc = json!({"operations": [
        {"op": "set", "key": "a", "value": "1"}, {"op": "set", "key": "b", "value": "2"},
    ]});
    let request = post("/canonicalbatch").insert_header(JSON).set_payload(doc.to_string());
    let written = front.ask(request).await;
    assert_eq!(written.json()["results"][1]["acks"], "3/3");
    for partition in ["a", "b", "c"] {
        assert_eq!(front.get(&format!("/bucket/b?partition={partition}")).await.text(), "2");
    }
}

#[actix_web::test]
async fn an_unmet_acknowledgement_is_told_of_its_operation() {
    let front = Front::new();
    front.set_up("c", false);
    let doc = json!({"operations": [{"op": "set", "key": front.key_of("a"), "value": "1"}]});
    let request = post("/batch?ack=all").insert_header(JSON).set_payload(doc.to_string());
    let answer = front.ask(request).await;
    let result = &answer.json()["results"][0];
    assert_eq!((&result["status"], &result["acks"]), (&json!(503), &json!("2/3")));
    assert_eq!(result["error"]["code"], "ack-unmet");
    assert!(result["etag"].is_string());
}

#[actix_web::test]
async fn conditions_count_in_a_batch() {
    let front = Front::new();
    let etag = front.put("/bucket/k", "v").await.header("etag").to_owned();
    let answer = front
        .ask(batch(&json!([
            {"op": "set", "key": "k", "value": "x", "if_none_match": "*"},
            {"op": "set", "key": "k", "value": "x", "if_match": "\"7.7\", \"9.9\""},
            {"op": "get", "key": "k", "if_none_match": etag},
            {"op": "get", "key": "k", "if_match": "\"9.9\""},
            {"op": "delete", "key": "k", "if_match": etag},
        ])))
        .await;
    assert_eq!(statuses(&answer), [412, 412, 304, 412, 202]);
    assert_eq!(answer.json()["results"][0]["etag"], etag, "tells what stands");
}

#[actix_web::test]
async fn any_key_and_any_value_are_reached_by_batch() {
    let front = Front::new();
    let long = "x".repeat(LIMITS.key_bytes_max + 1);
    let answer = front
        .ask(batch(&json!([
            {"op": "set", "key": "..", "value": "dots"},
            {"op": "get", "key": ".."},
            {"op": "set", "key_base64": "/wA=", "value_base64": "/v8="},
            {"op": "get", "key_base64": "/wA="},
            {"op": "set", "key": "empty", "value": ""},
            {"op": "get", "key": "empty"},
            {"op": "get", "key": long},
        ])))
        .await;
    assert_eq!(statuses(&answer), [201, 200, 201, 200, 201, 200, 404]);
    let results = &answer.json()["results"];
    assert_eq!(results[1]["value"], "dots");
    assert_eq!(results[3]["value_base64"], "/v8=");
    assert_eq!(results[3]["content_type"], "application/octet-stream");
    assert_eq!(results[5]["value"], "");
    assert_eq!(front.get("/bucket/%FF%00").await.body, b"\xfe\xff");
}

#[actix_web::test]
async fn a_line_out_for_every_line_in() {
    let front = Front::new();
    let lines =
        "{\"op\":\"set\",\"key\":\"a\",\"value\":\"1\"}\n\n{\"op\":\"get\",\"key\":\"a\"}\r\n";
    let answer = front.ask(post("/batch").insert_header(LINES).set_payload(lines)).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let results: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 2);
    assert_eq!((&results[0]["status"], &results[1]["value"]), (&json!(201), &json!("1")));
}

#[rstest]
#[case::no_json("{", "EOF")]
#[case::no_object("[]", "invalid")]
#[case::no_operations("{}", "missing field `operations`")]
#[case::more(r#"{"operations":[],"x":1}"#, "unknown field `x`")]
#[case::no_op(r#"{"operations":[{"key":"a"}]}"#, "missing field `op`")]
#[case::other_op(r#"{"operations":[{"op":"put","key":"a"}]}"#, "unknown variant `put`")]
#[case::no_key(r#"{"operations":[{"op":"get"}]}"#, "operations[0]: an operation has a key")]
#[case::two_keys(r#"{"operations":[{"op":"get","key":"a","key_base64":"YQ=="}]}"#, "not both")]
#[case::twice(r#"{"operations":[{"op":"get","key":"a","key":"b"}]}"#, "duplicate field `key`")]
#[case::misspelt(r#"{"operations":[{"op":"delete","key":"a","if-match":"*"}]}"#, "`if-match`")]
#[case::bad_base64(r#"{"operations":[{"op":"get","key_base64":"YQ"}]}"#, "not base64")]
#[case::no_value(r#"{"operations":[{"op":"set","key":"a"}]}"#, "has a value or a value_base64")]
#[case::a_value(r#"{"operations":[{"op":"get","key":"a","value":""}]}"#, "only set and update")]
#[case::no_text(r#"{"operations":[{"op":"set","key":"a","value":{}}]}"#, "expected a string")]
#[case::bad_type(
    r#"{"operations":[{"op":"set","key":"a","value":"","content_type":"x"}]}"#,
    "is not a media type"
)]
#[case::bad_ttl(
    r#"{"operations":[{"op":"set","key":"a","value":"","ttl":"soon"}]}"#,
    "ttl must be"
)]
#[case::no_ttl(r#"{"operations":[{"op":"set","key":"a","value":"","ttl":0}]}"#, "ttl must be")]
#[case::get_ttl(r#"{"operations":[{"op":"get","key":"a","ttl":5}]}"#, "neither a ttl")]
#[case::bad_tag(r#"{"operations":[{"op":"delete","key":"a","if_match":"1.1"}]}"#, "double quotes")]
#[case::bad_patch(
    r#"{"operations":[{"op":"update","key":"a","value":"{","content_type":"application/merge-patch+json"}]}"#,
    "not JSON"
)]
#[case::empty_key(r#"{"operations":[{"op":"get","key":""}]}"#, "at least one byte")]
#[actix_web::test]
async fn a_malformed_batch_does_nothing(#[case] text: &str, #[case] says: &str) {
    let front = Front::new();
    // After a well-formed operation, where the text is a list of them.
    let good = r#"{"operations":[{"op":"set","key":"good","value":"v"},"#;
    let text = text.replace(r#"{"operations":[{"#, &format!("{good}{{"));
    let says = says.replace("operations[0]", "operations[1]");
    let answer = front.ask(post("/batch").insert_header(JSON).set_payload(text)).await;
    answer.assert_problem(400, "bad-batch");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&says), "{detail}");
    assert_eq!(front.get("/canonicalbucket/").await.text(), "");
}

#[actix_web::test]
async fn a_malformed_line_is_named() {
    let front = Front::new();
    let lines = "{\"op\":\"set\",\"key\":\"a\",\"value\":\"1\"}\n{\"op\":\"get\"}\n";
    let answer = front.ask(post("/batch").insert_header(LINES).set_payload(lines)).await;
    answer.assert_problem(400, "bad-batch");
    assert!(answer.text().contains("line 2: "), "{}", answer.text());
    assert_eq!(front.get("/canonicalbucket/").await.text(), "");
}

#[actix_web::test]
async fn a_batch_has_its_bounds() {
    let front = Front::new();
    let gets = |n: usize| json!(vec![json!({"op": "get", "key": "a"}); n]);
    assert_eq!(statuses(&front.ask(batch(&gets(1_000))).await).len(), 1_000);
    let many = front.ask(batch(&gets(1_001))).await;
    many.assert_problem(400, "bad-batch");
    assert!(many.text().contains("at most 1000 operations"), "{}", many.text());
    let line = "{\"op\":\"get\",\"key\":\"a\"}\n".repeat(1_001);
    let many = front.ask(post("/batch").insert_header(LINES).set_payload(line)).await;
    many.assert_problem(400, "bad-batch");
    let large = batch(&json!([{"op": "set", "key": "a", "value": "x".repeat(100_000)}]));
    front.ask(large).await.assert_problem(413, "value-too-large");
    let form = post("/batch").insert_header(("content-type", "text/csv")).set_payload("a,b");
    front.ask(form).await.assert_problem(415, "unsupported-batch");
}

#[actix_web::test]
async fn the_values_of_an_answer_are_bounded() {
    let front = Front::new();
    for key in ["a", "b", "c"] {
        front.put(&format!("/bucket/{key}"), vec![b'x'; 40_000]).await;
    }
    let gets = json!([
        {"op": "get", "key": "a"}, {"op": "get", "key": "b"}, {"op": "get", "key": "c"},
    ]);
    let answer = front.ask(batch(&gets)).await;
    assert_eq!(statuses(&answer), [200, 200, 413]);
    let left_out = &answer.json()["results"][2];
    assert_eq!(left_out["error"]["code"], "batch-full");
    assert!(left_out["etag"].is_string() && left_out["value"].is_null());
}

#[actix_web::test]
async fn values_that_wait_for_their_answer_count_against_the_budget() {
    let limits = HttpLimits { body_budget_bytes: 1, value_bytes_max: 70_000, ..LIMITS };
    let front = Front::with(limits);
    for key in ["a", "b"] {
        front.put(&format!("/bucket/{key}"), vec![b'x'; 40_000]).await;
    }
    let answer =
        front.ask(batch(&json!([{"op": "get", "key": "a"}, {"op": "get", "key": "b"}]))).await;
    let mut codes = statuses(&answer);
    codes.sort_unstable();
    assert_eq!(codes, [200, 503]);
    assert_eq!(front.get("/bucket/a").await.body.len(), 40_000, "all was given back");
}

#[actix_web::test]
async fn query_only_reads() {
    let front = Front::new();
    let doc = json!({"operations": [{"op": "get", "key": "a"}, {"op": "delete", "key": "a"}]});
    let request = query("/batch").insert_header(JSON).set_payload(doc.to_string());
    front.ask(request).await.assert_problem(400, "bad-batch");
    let request = query("/batch?ack=all").insert_header(JSON).set_payload("{\"operations\":[]}");
    front.ask(request).await.assert_problem(400, "unknown-parameter");
    let request = query("/batch").set_payload("{\"operations\":[]}");
    assert_eq!(front.ask(request).await.json(), json!({"results": []}));
    let options = TestRequest::with_uri("/batch").method(Method::OPTIONS);
    let options = front.ask(options).await;
    assert_eq!(options.header("accept-query"), "application/json, application/x-ndjson");
    for path in ["/batch", "/canonicalbatch"] {
        for request in [get(path), put(path).set_payload("{}")] {
            let refused = front.ask(request).await;
            refused.assert_problem(405, "method-not-allowed");
            assert_eq!(refused.header("allow"), "POST, QUERY, OPTIONS");
        }
    }
}
