//! SIGTERM drains: what was accepted is answered, and a balancer is told first.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use super::client::Connection;
use super::process::{BOUND, Service, datastore, until};

#[test]
fn a_request_in_flight_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path());
    let mut slow = service.connect();
    let head = "PUT /bucket/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 6\r\n";
    slow.send(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    // It waits for the body by now: the request is in flight.
    assert_eq!(slow.receive().unwrap().status, 100);
    slow.send(b"hal").unwrap();
    service.signal("TERM");
    service.wait_for("draining");
    let address = service.address();
    until("the listener is closed", || Connection::open(address).is_err());
    slow.send(b"ves").unwrap();
    assert_eq!(slow.receive().unwrap().status, 201);
    let (status, log) = service.wait();
    assert!(status.success(), "{status}:\n{log}");
    assert!(log.contains("stopped"), "{log}");
    let service = Service::start(folder.path());
    assert_eq!(service.connect().get("/bucket/slow").text(), "halves");
    service.stop();
}

#[test]
fn readiness_fails_before_the_listener_closes() {
    let folder = tempfile::tempdir().unwrap();
    let delay = [("DATASTORE__SERVER__DRAIN_DELAY", "10m")];
    let mut service = Service::start_with(folder.path(), &delay);
    assert_eq!(service.connect().get("/readyz").status, 200);
    service.signal("TERM");
    service.wait_for("draining");
    let answer = service.connect().get("/readyz");
    assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("draining")));
    assert_eq!(service.connect().put("/bucket/late", b"served").status, 201);
    // Whoever is in a hurry says so.
    service.signal("INT");
    let (status, log) = service.wait();
    assert!(status.success(), "{status}:\n{log}");
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let told = |what: &str| {
        let mut message = [0; 256];
        loop {
            let length = manager.recv(&mut message).unwrap();
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == what) {
                return;
            }
        }
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let service = Service::start_with(folder.path(), &environment);
    told("READY=1");
    told("WATCHDOG=1");
    service.signal("TERM");
    told("STOPPING=1");
    service.wait();
}

#[test]
fn a_client_that_stalls_does_not_hold_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let environment =
        [("DATASTORE__SERVER__DEADLINE", "1s"), ("DATASTORE__SERVER__SHUTDOWN_DEADLINE", "1s")];
    let service = Service::start_with(folder.path(), &environment);
    let mut stalled = service.connect();
    stalled
        .send(b"PUT /bucket/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 6\r\n\r\nhal")
        .unwrap();
    let mut idle = service.connect();
    assert_eq!(idle.get("/healthz").status, 200);
    service.signal("TERM");
    let (status, log) = service.wait();
    assert!(status.success(), "{status}:\n{log}");
}

/// As in `datastore serve 2>&1 | head`: a line that cannot be written takes nobody along.
#[test]
fn it_ends_when_nobody_reads_its_log_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = datastore(folder.path());
    command.arg("serve").env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("listening on http://")));
    drop(log);
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let mut ended = None;
    until("the service has ended", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{ended:?}");
}
