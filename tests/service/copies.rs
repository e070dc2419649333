//! The embedded copy of the real service: warm after a restart, made anew where it does not fit.

use std::path::Path;

use crate::process::{Service, until};

const SQLITE: (&str, &str) = ("DATASTORE__EMBEDDED_COPY__ENGINE", "sqlite");
const FILE: &str = "data/embedded_copy.db";

/// Who answers a read of `key` that names no partition, and what: a problem, where a copy does not
/// have the key yet.
fn read(service: &Service, key: &str) -> (String, String) {
    let answer = service.connect().request("GET", &format!("/bucket/{key}"), &[], b"").unwrap();
    assert!([200, 404].contains(&answer.status), "{answer:?}");
    let partition = answer.header("datastore-partition").unwrap_or_default().to_owned();
    (partition, String::from_utf8(answer.body).unwrap())
}

fn write(service: &Service, key: &str, value: &str) {
    let path = format!("/bucket/{key}");
    let answer = service.connect().request("PUT", &path, &[], value.as_bytes()).unwrap();
    assert!([201, 204].contains(&answer.status), "{answer:?}");
}

fn start(folder: &Path) -> Service {
    Service::start_with(folder, &[SQLITE])
}

fn until_it_serves(service: &Service, key: &str, value: &str) {
    let wanted = ("embedded_copy".to_owned(), value.to_owned());
    until("the copy serves", || read(service, key) == wanted);
}

/// Ends the service; its log says that the copy was thrown away, and why.
fn assert_was_thrown_away(service: Service, why: &str) {
    service.signal("TERM");
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    let line = log.lines().find(|line| line.contains("the read copy is thrown away")).unwrap();
    assert!(line.contains(why), "{line}");
}

#[test]
fn a_copy_in_a_file_is_warm_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = start(folder.path());
    service.wait_for("seeded; it serves from now on");
    write(&service, "k", "first");
    until_it_serves(&service, "k", "first");
    service.kill();

    let service = start(folder.path());
    // At once: nothing has to be copied first.
    assert_eq!(read(&service, "k"), ("embedded_copy".to_owned(), "first".to_owned()));
    write(&service, "k", "second");
    until_it_serves(&service, "k", "second");
    service.signal("TERM");
    let (status, log) = service.wait();
    assert!(status.success() && !log.contains("seeded;"), "{log}");
}

#[test]
fn a_file_that_does_not_fit_is_made_anew_and_a_voters_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path());
    write(&service, "k", "value");
    until_it_serves(&service, "k", "value");
    service.stop();

    std::fs::write(folder.path().join(FILE), "no database ".repeat(1000)).unwrap();
    let service = start(folder.path());
    until_it_serves(&service, "k", "value");
    assert_was_thrown_away(service, "not a database");

    // Of another set, as after a restore.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("data")).unwrap();
    std::fs::copy(folder.path().join(FILE), other.path().join(FILE)).unwrap();
    let service = start(other.path());
    write(&service, "k", "other");
    until_it_serves(&service, "k", "other");
    assert_was_thrown_away(service, "it is of another set, topology or schema");

    let voter = folder.path().join("data/store_1.db");
    let bytes = std::fs::read(&voter).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.path().join(format!("{FILE}{suffix}"))));
    }
    std::fs::copy(&voter, folder.path().join(FILE)).unwrap();
    let service = start(folder.path());
    until("it is told", || {
        let report = service.connect().request("GET", "/admin/sync", &[], b"").unwrap().json();
        let pairs = report["pairs"].as_array().unwrap().clone();
        pairs
            .iter()
            .any(|pair| pair["target"] == "embedded_copy" && pair["error"] == "is another database")
    });
    assert_eq!(read(&service, "k").1, "value", "the others serve");
    service.stop();
    assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap().len(), bytes.len());
}
