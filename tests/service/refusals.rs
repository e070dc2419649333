//! What an operator gets wrong: each is refused with a clear answer, and nothing is changed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::process::{Service, complaint, datastore, run};

/// `serve` with these variables, which has to end by itself: its exit code and complaint.
fn refused(folder: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = datastore(folder);
    command.arg("serve").env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0");
    complaint(&run(command.envs(environment.iter().copied())))
}

/// Founds the default partitions in `folder` and stores one value.
fn founded(folder: &Path) {
    let service = Service::start(folder);
    assert_eq!(service.connect().put("/bucket/colour", b"blue").status, 201);
    service.stop();
}

/// The value that [`founded`] stored is there.
fn is_unchanged(folder: &Path) {
    let service = Service::start(folder);
    assert_eq!(service.connect().get("/bucket/colour").text(), "blue");
    service.stop();
}

/// Brings what stands in a file's log into the file, which is copied or moved next.
fn settle(file: &Path) {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[track_caller]
fn says(refused: &(Option<i32>, String), exit: i32, texts: &[&str]) {
    assert_eq!(refused.0, Some(exit), "{}", refused.1);
    for text in texts {
        assert!(refused.1.contains(text), "{text:?} is not in: {}", refused.1);
    }
}

#[test]
fn a_port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let refused = refused(folder.path(), &[("DATASTORE__SERVER__LISTEN", &address)]);
    says(&refused, 3, &[&address, "in use", "set server.listen"]);
    assert!(is_empty(folder.path()), "a start that failed left something behind");
}

#[test]
fn an_address_that_others_can_reach() {
    let folder = tempfile::tempdir().unwrap();
    let listen = [("DATASTORE__SERVER__LISTEN", "0.0.0.0:0")];
    says(&refused(folder.path(), &listen), 2, &["server.listen = 0.0.0.0:0", "--insecure"]);
    assert!(is_empty(folder.path()));
    let mut command = datastore(folder.path());
    command.args(["serve", "--insecure"]).envs(listen);
    Service::spawn(&mut command).stop();
}

#[test]
fn unknown_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("configuration.toml");
    fs::write(&file, "[server]\nlistn = '127.0.0.1:0'\n[stor]\nroot = '.'\n").unwrap();
    let texts = [
        "configuration.toml, line 2: server.listn: no such key in section [server]",
        "did you mean server.listen?",
        "configuration.toml, line 3: stor: no such section; did you mean [store]?",
        "environment variable DATASTORE__SYNC__EAGR: sync.eagr: no such key",
    ];
    says(&refused(folder.path(), &[("DATASTORE__SYNC__EAGR", "true")]), 2, &texts);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the file is there");
}

#[test]
fn two_names_for_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name, url| [(name, url), ("DATASTORE__PARTITION__A__URL", "sqlite:data/a.db")];
    let same = url("DATASTORE__PARTITION__B__URL", "sqlite:./data/a.db");
    says(
        &refused(folder.path(), &same),
        2,
        &["partition.b.url", "also the database of partition a"],
    );
    assert!(is_empty(folder.path()));
    // Another spelling that only the file system can tell.
    fs::create_dir(folder.path().join("data")).unwrap();
    std::os::unix::fs::symlink("data", folder.path().join("alias")).unwrap();
    let alias = url("DATASTORE__PARTITION__B__URL", "sqlite:alias/a.db");
    says(&refused(folder.path(), &alias), 2, &["`a` and `b` have one database"]);
}

#[test]
fn a_foreign_database() {
    let [ours, theirs] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    founded(ours.path());
    founded(theirs.path());
    let [own, foreign] = [&ours, &theirs].map(|folder| folder.path().join("data/store_2.db"));
    settle(&own);
    settle(&foreign);
    let kept = fs::read(&own).unwrap();
    fs::copy(&foreign, &own).unwrap();
    let before = fs::read(&own).unwrap();
    says(&refused(ours.path(), &[]), 2, &["`store_2` belongs to set", "correct its `url`"]);
    assert!(fs::read(&own).unwrap() == before, "the foreign database was written to");
    fs::write(&own, kept).unwrap();
    is_unchanged(ours.path());
}

#[test]
fn swapped_urls() {
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let swapped = [
        ("DATASTORE__PARTITION__STORE_1__URL", "sqlite:data/store_2.db"),
        ("DATASTORE__PARTITION__STORE_2__URL", "sqlite:data/store_1.db"),
        ("DATASTORE__PARTITION__STORE_3__URL", "sqlite:data/store_3.db"),
    ];
    says(&refused(folder.path(), &swapped), 2, &["`store_1`", "`store_2`", "swap them back"]);
    is_unchanged(folder.path());
}

#[test]
fn a_changed_topology() {
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let urls = [
        ("DATASTORE__PARTITION__STORE_1__URL", "sqlite:data/store_1.db"),
        ("DATASTORE__PARTITION__STORE_2__URL", "sqlite:data/store_2.db"),
        ("DATASTORE__PARTITION__STORE_3__URL", "sqlite:data/store_3.db"),
    ];
    says(&refused(folder.path(), &urls[..2]), 2, &["`store_3` stored but not configured"]);
    is_unchanged(folder.path());
}

/// Roles are said once, to an empty set: later ones are told of and ignored.
#[test]
fn a_changed_role_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let role = [
        ("DATASTORE__PARTITION__STORE_1__URL", "sqlite:data/store_1.db"),
        ("DATASTORE__PARTITION__STORE_2__URL", "sqlite:data/store_2.db"),
        ("DATASTORE__PARTITION__STORE_3__URL", "sqlite:data/store_3.db"),
        ("DATASTORE__PARTITION__STORE_2__ROLE", "replica"),
    ];
    let service = Service::start_with(folder.path(), &role);
    let partitions = service.connect().get("/admin/partitions").json();
    let roles: Vec<&str> = partitions["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["master"; 3], "{partitions}");
    service.stop();
}

#[test]
fn a_lost_database() {
    let folder = tempfile::tempdir().unwrap();
    founded(folder.path());
    let [file, kept] = ["data/store_2.db", "store_2.kept"].map(|name| folder.path().join(name));
    settle(&file);
    fs::rename(&file, &kept).unwrap();
    says(&refused(folder.path(), &[]), 2, &["the databases of `store_2` are empty"]);
    fs::rename(&kept, &file).unwrap();
    for stale in ["data/store_2.db-wal", "data/store_2.db-shm"] {
        drop(fs::remove_file(folder.path().join(stale)));
    }
    is_unchanged(folder.path());
}

#[test]
fn a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let file = folder.path().join("data/store_2.db");
    fs::write(&file, "This is a letter to my aunt, not a database.\n".repeat(100)).unwrap();
    let before = fs::read(&file).unwrap();
    let (exit, text) = refused(folder.path(), &[]);
    assert!(matches!(exit, Some(2 | 3)), "{text}");
    assert!(text.contains("store_2"), "{text}");
    assert!(fs::read(&file).unwrap() == before, "the file was written to");
}

#[test]
fn two_front_ends_found_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let services = std::thread::scope(|scope| {
        let start = || scope.spawn(|| Service::start(folder.path()));
        [start(), start()].map(|thread| thread.join().unwrap())
    });
    let [one, other] = &services;
    assert_eq!(one.connect().put("/bucket/colour", b"blue").status, 201);
    assert_eq!(other.connect().get("/bucket/colour").text(), "blue");
    for service in services {
        service.stop();
    }
}
