//! The service as a whole, over its front ends and its restarts.

use serde_json::Value;

use super::process::{Service, datastore, run, until};

/// What a command prints of the service with `--json`.
fn command(service: &Service, arguments: &[&str]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = datastore(folder.path());
    command.args(arguments).args(["--json", "--url", &service.url()]);
    let output = run(&mut command);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn states(service: &Service) -> Vec<String> {
    let (_, history) = command(service, &["service", "history"]);
    let history = history["history"].as_array().unwrap().clone();
    history.iter().map(|passage| passage["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_shutdown_ends_all_front_ends_and_the_next_start_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Service::start(folder.path()));
    assert_eq!(one.connect().put("/bucket/a", b"x").status, 201);
    until("each knows of the other", || {
        let known = one.connect().get("/admin/frontends").json();
        known["frontends"].as_array().unwrap().len() == 2
    });
    assert_eq!(command(&other, &["service", "status"]).1["state"], "RUNNING");
    let (exit, told) = command(&other, &["service", "shutdown"]);
    assert_eq!((exit, &told["state"]), (Some(0), &"EPILOGUE".into()));
    for service in [one, other] {
        let (status, log) = service.wait();
        assert!(status.success() && log.contains("told to shut down: draining"), "{log}");
    }

    let service = Service::start(folder.path());
    until("it is running", || states(&service).last().unwrap() == "RUNNING");
    let last = ["EPILOGUE", "STOPPED", "PROLOGUE", "RUNNING"];
    assert_eq!(states(&service)[3..], last);
    assert_eq!(service.connect().get("/canonicalbucket/a").status, 200);
    service.stop();
}

#[test]
fn every_key_is_deleted_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    for n in 0..100 {
        assert_eq!(service.connect().put(&format!("/bucket/{n}"), b"x").status, 201);
    }
    let (_, status) = command(&service, &["service", "status"]);
    let set = status["set"].as_str().unwrap();
    assert_eq!(command(&service, &["clear", "--confirm", "other"]).0, Some(2));
    let clear = ["clear", "--confirm", set, "--idempotency-key", "once"];
    let (exit, ended) = command(&service, &clear);
    assert_eq!((exit, &ended["message"]), (Some(0), &"100 keys were deleted".into()), "{ended}");
    let (_, again) = command(&service, &clear);
    assert_eq!(again["id"], ended["id"]);
    let (exit, all) = command(&service, &["operations"]);
    assert_eq!((exit, all["operations"].as_array().unwrap().len()), (Some(0), 1), "{all}");
    service.sync();
    for name in ["store_1", "store_2", "store_3"] {
        let keys = service.connect().get(&format!("/bucket/?count=true&partition={name}"));
        assert_eq!(keys.header("datastore-count"), Some("0"), "{keys:?}");
    }
    service.stop();
}
