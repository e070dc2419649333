//! Operations of `docs/acceptance.md` that want a running service under load, and its log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::added::{KEYS, add, ask, fill, holds_all, remove, state};
use super::process::{Service, until};
use super::support::mariadb::Server;

/// Ends the load when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_copy_that_goes_under_load_fails_no_read() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    fill(&service);
    add(&service, &json!({"count": 2}));
    assert!(holds_all(&service, "copy_1") && holds_all(&service, "copy_2"));
    let (end, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for reader in 0..4 {
            let (end, reads, mut connection) = (&end, &reads, service.connect());
            scope.spawn(move || {
                for n in (reader..KEYS).cycle().take_while(|_| !end.load(Ordering::SeqCst)) {
                    let answer = connection.get(&format!("/bucket/{n}"));
                    assert_eq!((answer.status, answer.text()), (200, &*format!("value {n}")));
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let ends = Ends(&end);
        until("reads", || reads.load(Ordering::SeqCst) > 100);
        for name in ["copy_1", "copy_2"] {
            remove(&service, name);
        }
        let before = reads.load(Ordering::SeqCst);
        until("reads go on", || reads.load(Ordering::SeqCst) > before + 100);
        drop(ends);
    });
    assert_eq!(state(&service), "RUNNING");
    service.stop();
}

#[test]
fn a_copy_that_comes_under_load_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    fill(&service);
    let (end, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let mut connection = service.connect();
        let (end_seen, count) = (&end, &written);
        scope.spawn(move || {
            while !end_seen.load(Ordering::SeqCst) {
                let n = count.load(Ordering::SeqCst);
                let answer = connection.put(&format!("/bucket/late-{n}"), b"v");
                assert_eq!(answer.status, 201, "{answer:?}");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let ends = Ends(&end);
        until("writes", || written.load(Ordering::SeqCst) > 50);
        add(&service, &json!({"count": 1}));
        let before = written.load(Ordering::SeqCst);
        until("writes go on", || written.load(Ordering::SeqCst) > before + 50);
        drop(ends);
    });
    service.sync();
    assert!(holds_all(&service, "copy_1"));
    let count = |partition: &str| {
        let list = service.connect().get(&format!("/bucket/?count=true&partition={partition}"));
        list.header("datastore-count").unwrap().parse::<usize>().unwrap()
    };
    let all = KEYS + written.load(Ordering::SeqCst);
    assert_eq!((count("copy_1"), count("store_1")), (all, all));
    service.stop();
}

/// In no answer, and in no line of the log, whatever goes wrong.
#[test]
fn no_password_is_ever_said() {
    let mut server = Server::start();
    let (database, named) = (server.database(), server.database());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a line of random text").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let environment = [
        ("DATASTORE__PARTITION__STORE_1__URL", &*server.url_text(&database)),
        ("DATASTORE__ORCHESTRATOR__KEY_FILE", "key"),
        ("DATASTORE__SERVER__DEADLINE", "2s"),
        ("RUST_LOG", "datastore=debug"),
    ];
    let service = Service::start_with(folder.path(), &environment);
    fill(&service);
    let url = server.url_text(&named);
    add(&service, &json!({"url": url}));
    let nowhere = url.replace(&format!(":{}/", server.port()), ":1/");
    let mut told = vec![
        ask(&service, "POST", "/admin/partitions", &json!({"url": url}).to_string()).1,
        ask(&service, "POST", "/admin/partitions", &json!({"url": url, "count": 7}).to_string()).1,
        ask(&service, "POST", "/admin/partitions", &format!("{{\"url\": \"{nowhere}")).1,
    ];
    let looks = ["partitions", "topology", "drivers", "frontends", "operations", "sync", "scaling"];
    told.extend(looks.map(|name| ask(&service, "GET", &format!("/admin/{name}"), "").1));
    server.kill();
    until("it is missed", || {
        !ask(&service, "GET", "/admin/partitions/store_1", "").1["trouble"].is_null()
    });
    told.push(service.connect().put("/bucket/a", b"x").json());
    told.extend(looks.map(|name| ask(&service, "GET", &format!("/admin/{name}"), "").1));
    server.restart();
    until("it is back", || service.connect().put("/bucket/a", b"x").status < 300);
    service.signal("TERM");
    let (status, log) = service.wait();
    assert!(status.success() && log.contains("DEBUG"), "{log}");
    // As it is, and as a url writes it.
    for password in ["t:e@s", "t%3Ae%40s"] {
        assert!(!log.contains(password), "{log}");
        assert!(!told.iter().any(|one| one.to_string().contains(password)), "{told:?}");
    }
}
