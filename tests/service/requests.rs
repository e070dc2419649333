//! Wrong requests to the real service: a clear answer, and nothing changed.

use super::client::Answer;
use super::process::Service;

/// Status and stable code of an error.
fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

#[test]
fn an_oversize_value_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let limit = [("DATASTORE__STORE__VALUE_BYTES_MAX", "1000")];
    let service = Service::start_with(folder.path(), &limit);
    let mut connection = service.connect();
    assert_eq!(connection.put("/bucket/a", b"old").status, 201);
    assert_eq!(connection.put("/bucket/full", &[b'x'; 1000]).status, 201);
    let answer = service.connect().put("/bucket/a", &[b'x'; 1001]);
    assert_eq!(answer.status, 413, "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("1000"), "{detail}");
    let mut connection = service.connect();
    assert_eq!(connection.get("/bucket/a").text(), "old");
    assert_eq!(connection.get("/bucket/full").body.len(), 1000);
    service.stop();
}

#[test]
fn an_over_long_key_is_never_stored() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let [longest, longer] = [255, 256].map(|length| format!("/bucket/{}", "k".repeat(length)));
    assert_eq!(service.connect().put(&longest, b"fits").status, 201);
    let answer = service.connect().put(&longer, b"does not");
    assert_eq!(answer.status, 400, "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("255") && detail.contains("256"), "{detail}");
    assert_eq!(service.connect().get(&longer).status, 404);
    service.sync();
    assert_eq!(service.connect().get("/bucket/").text().lines().count(), 1);
    service.stop();
}

#[test]
fn bad_escapes_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    for target in ["/bucket/%", "/bucket/a%zz", "/bucket/%f", "/bucket/?prefix=%g0"] {
        let answer = service.connect().request("PUT", target, &[], b"x").unwrap();
        assert!(matches!(answer.status, 400 | 405), "{target}: {answer:?}");
        let answer = service.connect().get(target);
        assert_eq!(problem(&answer).0, 400, "{target}: {answer:?}");
    }
    assert_eq!(service.connect().get("/bucket/").text(), "");
    service.stop();
}

#[test]
fn keys_are_any_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let mut connection = service.connect();
    let keys = ["%00", "%FF%FE", "a%2Fb", "A", "a", "a%20", "+", "%F0%9F%A6%80"];
    for key in keys {
        assert_eq!(connection.put(&format!("/bucket/{key}"), key.as_bytes()).status, 201, "{key}");
    }
    for key in keys {
        assert_eq!(connection.get(&format!("/bucket/{key}")).text(), key);
    }
    service.stop();
}

#[test]
fn foreign_hosts_and_sites_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(folder.path(), &[("DATASTORE__SERVER__HOSTS", "kv.test")]);
    let with = |method: &str, headers: &[(&str, &str)]| {
        service.connect().request(method, "/bucket/a", headers, b"x").unwrap().status
    };
    assert_eq!(with("PUT", &[("host", "kv.test")]), 201);
    assert_eq!(with("GET", &[("host", "kv.test:8080")]), 200);
    for host in ["evil.test", "127.0.0.1.evil.test"] {
        let status = with("PUT", &[("host", host)]);
        assert!((400..500).contains(&status), "{host}: {status}");
    }
    assert_eq!(with("PUT", &[("sec-fetch-site", "same-origin")]), 204);
    assert_eq!(with("PUT", &[("sec-fetch-site", "cross-site")]), 403);
    service.stop();
}
