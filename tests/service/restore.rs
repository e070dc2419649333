//! Backups put back: unannounced, which is noticed, and as the beginning of a new set.

use std::fs;
use std::path::Path;

use super::client::Connection;
use super::process::{Service, complaint, datastore, run};

const STORE: &str = "data/store_1.db";

/// A folder with three partitions, a copy of the first one's file from before the last writes, and
/// the token of whoever has seen all.
struct Scene {
    folder: tempfile::TempDir,
    token: String,
}

fn put_all(connection: &mut Connection, value: &str) -> String {
    let mut token = String::new();
    for n in 0..30 {
        let session: Vec<(&str, &str)> =
            if token.is_empty() { Vec::new() } else { vec![("datastore-session", &token)] };
        let path = format!("/bucket/k{n}");
        let answer = connection.request("PUT", &path, &session, value.as_bytes()).unwrap();
        assert!(answer.status < 300, "{answer:?}");
        token = answer.header("datastore-session").unwrap().to_owned();
    }
    token
}

fn values(connection: &mut Connection) -> Vec<String> {
    let value = |n| {
        let answer = connection.get(&format!("/bucket/k{n}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_owned()
    };
    (0..30).map(value).collect()
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(folder.path());
        put_all(&mut service.connect(), "old");
        service.sync();
        service.stop();
        fs::copy(folder.path().join(STORE), folder.path().join("backup")).unwrap();
        let service = Service::start(folder.path());
        let token = put_all(&mut service.connect(), "new");
        service.sync();
        service.stop();
        Self { folder, token }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The copy in the place of the file.
    fn put_back(&self) {
        for suffix in ["-wal", "-shm"] {
            // Gone already where the last connection was closed in order.
            drop(fs::remove_file(self.path().join(format!("{STORE}{suffix}"))));
        }
        fs::copy(self.path().join("backup"), self.path().join(STORE)).unwrap();
    }

    fn begin_anew(&self, name: &str) {
        let output = run(datastore(self.path()).args(["init", "--restored", name]));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains(&format!("begins with `{name}`")), "{said}");
    }
}

/// H10: an older copy is never gone on with, and nothing of it is served; who has the rest goes on.
#[test]
fn a_copy_put_back_unannounced_is_set_aside() {
    let scene = Scene::new();
    scene.put_back();
    let mut service = Service::start(scene.path());
    let line = service.wait_for("older copy");
    assert!(line.contains("store_1") && line.contains("init --restored"), "{line}");
    let mut connection = service.connect();
    let mut refused = 0;
    for n in 0..30 {
        assert_eq!(connection.get(&format!("/bucket/k{n}")).text(), "new", "from the others");
        refused += u32::from(connection.put(&format!("/bucket/k{n}"), b"newer").status == 503);
        let there = connection.get(&format!("/bucket/k{n}?partition=store_1"));
        assert_eq!(there.status, 503, "{there:?}");
    }
    assert!(refused > 0, "the writes of its keys");
    let ready = connection.get("/readyz");
    assert!(ready.text().contains("store_1"), "{ready:?}");
    service.stop();

    // Any good partition is the beginning of a new set, without a gap.
    scene.begin_anew("store_2");
    let service = Service::start(scene.path());
    let mut connection = service.connect();
    service.sync();
    let values = values(&mut connection);
    assert!(values.iter().all(|value| value.starts_with("new")), "{values:?}");
    put_all(&mut connection, "after");
    service.stop();
}

#[test]
fn a_set_begins_anew_with_a_backup() {
    let scene = Scene::new();
    scene.put_back();
    scene.begin_anew("store_1");
    let service = Service::start(scene.path());
    let mut connection = service.connect();
    assert_eq!(values(&mut connection), ["old"; 30], "as it was");
    for name in ["store_1", "store_2", "store_3"] {
        assert_eq!(connection.get(&format!("/bucket/k1?partition={name}")).text(), "old");
    }
    let session = [("datastore-session", scene.token.as_str())];
    let lost = connection.request("GET", "/bucket/k1", &session, b"").unwrap();
    assert_eq!((lost.status, &lost.json()["code"]), (503, &"session-lost".into()));
    put_all(&mut connection, "after");
    service.sync();
    service.stop();
    let (exit, complaint) =
        complaint(&run(datastore(scene.path()).args(["init", "--restored", "store_9"])));
    assert_eq!(exit, Some(2), "{complaint}");
    assert!(complaint.contains("store_9"), "{complaint}");
}
