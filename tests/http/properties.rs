//! What holds for any input: bytes survive every interface, and nothing makes the service fail.

use std::future::Future;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::test::TestRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datastore::http::paths;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use url::Url;

use super::fixture::{Answer, Front, get, post, put};

/// Runs `check` on drawn inputs, all against one front end.
fn for_all<S: Strategy, F: Future<Output = Result<(), TestCaseError>>>(
    cases: u32,
    strategy: S,
    check: impl Fn(&'static Front, S::Value) -> F,
) {
    let system = actix_web::rt::System::new();
    // For the rest of the process: a test can end with requests under way.
    let front: &'static Front = system.block_on(async { Box::leak(Box::new(Front::new())) });
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    runner.run(&strategy, |input| system.block_on(check(front, input))).unwrap();
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        // Mostly the bytes that paths, lists and JSON are made of.
        prop::collection::vec(prop::sample::select(b"./%2eE\\?#&=<\"\n{}+ ".to_vec()), 1..12),
        "\\PC{1,12}".prop_map(String::into_bytes),
    ]
}

fn value_of(row: &Value) -> Vec<u8> {
    match row["value"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(row["value_base64"].as_str().unwrap()).unwrap(),
    }
}

async fn batch(front: &Front, operation: Value) -> Answer {
    let doc = json!({ "operations": [operation] });
    let request = post("/batch").insert_header(("content-type", "application/json"));
    front.ask(request.set_payload(doc.to_string())).await
}

async fn survives(front: &Front, key: Vec<u8>, value: Vec<u8>) -> Result<(), TestCaseError> {
    let path = paths::emit(paths::BUCKET, &key);
    let (key64, value64) = (STANDARD.encode(&key), STANDARD.encode(&value));
    if paths::is_unreachable(&key) {
        let set = json!({"op": "set", "key_base64": key64, "value_base64": value64});
        prop_assert_eq!(&batch(front, set).await.json()["results"][0]["status"], 201);
    } else {
        // What any client makes of the path is the path.
        let url = Url::parse("http://localhost/x/y").unwrap().join(&path).unwrap();
        prop_assert_eq!(url.path(), &path);
        prop_assert_eq!((url.query(), url.fragment()), (None, None));
        let written = front.put(url.path(), value.clone()).await;
        prop_assert!([201, 204].contains(&written.status.as_u16()), "{:?}", written);
        prop_assert_eq!(&front.get(url.path()).await.body, &value);
    }
    let read = batch(front, json!({"op": "get", "key_base64": key64})).await;
    prop_assert_eq!(value_of(&read.json()["results"][0]), value.clone());
    // The first key with this prefix is the key itself.
    let query = format!("prefix={}&limit=1", paths::emit_value(&key));
    let list = front.get(&format!("/canonicalbucket/?{query}")).await;
    prop_assert_eq!(list.text(), format!("{path}\n"));
    let list = front.get(&format!("/canonicalbucket/?{query}&values=true")).await;
    let row: Value = serde_json::from_str(list.text().trim_end()).unwrap();
    let listed = match row["key"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(row["key_base64"].as_str().unwrap()).unwrap(),
    };
    prop_assert_eq!((listed, value_of(&row)), (key, value));
    Ok(())
}

#[test]
fn any_bytes_survive_path_batch_and_list() {
    let drawn = (bytes(), prop_oneof![Just(Vec::new()), bytes()]);
    for_all(200, drawn, |front, (key, value)| survives(front, key, value));
}

/// Nothing that a client sends is our fault: no 5xx, but where its token asks for too much.
fn is_answered(answer: &Answer) -> Result<(), TestCaseError> {
    let refused = ["session-lost", "too-stale"]
        .iter()
        .any(|code| answer.status == 503 && String::from_utf8_lossy(&answer.body).contains(code));
    prop_assert!(refused || !answer.status.is_server_error(), "{:?}", answer);
    prop_assert_eq!(answer.header("x-content-type-options"), "nosniff");
    Ok(())
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"];

fn targets() -> impl Strategy<Value = String> {
    let base = prop::sample::select(vec![
        "/bucket",
        "/bucket/",
        "/canonicalbucket/",
        "/batch",
        "/canonicalbatch",
        "/problems/",
        "/admin/sync",
        "/admin/verify",
        "/admin/conflicts",
        "/admin/decisions",
        "/changes",
        "/subscriptions",
        "/subscriptions/",
        "/",
    ]);
    let query = prop::sample::select(vec![
        "limit",
        "prefix",
        "after",
        "values",
        "count",
        "partition",
        "ttl",
        "ack",
        "wait",
        "since",
        "include",
        "lease",
        "position",
        "x",
    ]);
    let text = "[a-z0-9%/.+&=?!~{}-]{0,12}";
    (base, text, prop::option::of((query, text))).prop_map(|(base, path, query)| match query {
        Some((name, value)) => format!("{base}{path}?{name}={value}"),
        None => format!("{base}{path}"),
    })
}

fn headers() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let name = prop::sample::select(vec![
        "accept",
        "content-type",
        "content-encoding",
        "if-match",
        "if-none-match",
        "datastore-session",
        "origin",
        "sec-fetch-site",
        "x-any",
    ]);
    let value = prop_oneof![
        "[a-z*/;=q.0-9, \"\\\\+-]{0,24}".prop_map(String::into_bytes),
        "(\"|W/|\\*|[0-9.]|,|;json| ){0,8}".prop_map(String::into_bytes),
        "AQ[A-Za-z0-9_-]{20,60}".prop_map(String::into_bytes),
        prop::collection::vec(0x20_u8..=0xff, 0..12),
    ];
    (name, value)
}

#[test]
fn no_request_makes_the_service_fail() {
    let method = prop::sample::select(METHODS.to_vec());
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let drawn = (method, targets(), prop::collection::vec(headers(), 0..3), body);
    for_all(2_000, drawn, |front, (method, target, headers, body)| async move {
        // What the parser of the framework refuses never gets to us.
        if Uri::try_from(target.as_str()).is_err() {
            return Ok(());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = TestRequest::with_uri(&target).method(method);
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request = request.append_header((HeaderName::from_static(name), value));
            }
        }
        is_answered(&front.ask(request.set_payload(body)).await)
    });
}

#[test]
fn no_batch_makes_the_service_fail() {
    let name = "(op|key|key_base64|value|value_base64|content_type|ttl|if_match|if_none_match|x)";
    let text = "(get|set|update|delete|a|YQ==|\\*|1h|text/plain|application/merge-patch\\+json|9)";
    let member =
        (name, prop_oneof![text.prop_map(Value::from), any::<i32>().prop_map(Value::from)]);
    let operation = prop::collection::vec(member, 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    let well_formed = prop::collection::vec(operation, 0..4)
        .prop_map(|operations| json!({ "operations": operations }).to_string());
    let lines = "([{}\\[\\]:,\"a-z0-9]|\"op\":\"set\"|\"key\":\"a\"|\n){0,20}";
    let drawn = (prop_oneof![well_formed, lines], any::<bool>());
    for_all(2_000, drawn, |front, (text, as_lines)| async move {
        let kind = if as_lines { "application/x-ndjson" } else { "application/json" };
        let request = post("/batch").insert_header(("content-type", kind)).set_payload(text);
        is_answered(&front.ask(request).await)
    });
}

#[test]
fn no_patch_makes_the_service_fail() {
    let text = "([{}\\[\\]:,\"a-c0-9 ]|null|\"a\":|\\\\u00e9|\\{\"a\":\\{){0,12}";
    for_all(1_000, (text, text), |front, (standing, patch)| async move {
        is_answered(&front.ask(put("/bucket/k").set_payload(standing)).await)?;
        let request = super::fixture::patch("/bucket/k");
        let request = request.insert_header(("content-type", "application/merge-patch+json"));
        is_answered(&front.ask(request.set_payload(patch)).await)?;
        is_answered(&front.ask(get("/bucket/k")).await)
    });
}
