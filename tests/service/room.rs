//! F10: a disk that is full, and has room again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::client::Connection;
use super::process::{Service, until};

const DISK: &str = "16m";
const BALLAST_BYTES: u64 = 6 << 20;
const VALUE_BYTES: usize = 64 << 10;
/// More than the disk can have room for.
const VALUES_MAX: usize = 1_000;

/// A service whose data lies on a small disk of its own, a part of which is taken already. The disk
/// is its process's alone, and goes with it.
fn on_small_disk(folder: &Path) -> (Service, PathBuf) {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={DISK} tmpfs data && head -c {BALLAST_BYTES} /dev/zero \
         >data/ballast && exec \"$0\" serve"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    command.arg(env!("CARGO_BIN_EXE_datastore"));
    command.current_dir(folder).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0").stdin(Stdio::null());
    command.env("DATASTORE__PARTITION__STORE_1__URL", "sqlite:data/store_1.db");
    let service = Service::spawn(&mut command);
    let ballast = data.join("ballast");
    let seen = PathBuf::from(format!("/proc/{}/root{}", service.id(), ballast.display()));
    assert_eq!(fs::metadata(&seen).unwrap().size(), BALLAST_BYTES);
    (service, seen)
}

fn put(connection: &mut Connection, nth: usize) -> super::client::Answer {
    let value = vec![b'a' + u8::try_from(nth % 26).unwrap(); VALUE_BYTES];
    connection.put(&format!("/bucket/k{nth}"), &value)
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_goes_on_with_room() {
    let folder = tempfile::tempdir().unwrap();
    let (service, ballast) = on_small_disk(folder.path());
    let mut connection = service.connect();
    let mut taken = 0;
    let refused = loop {
        assert!(taken < VALUES_MAX, "the disk is never full");
        let answer = put(&mut connection, taken);
        match answer.status {
            201 => taken += 1,
            503 => break answer,
            _ => panic!("{answer:?}"),
        }
    };
    println!("{taken} values were taken");
    assert!(taken > 10);
    assert_eq!(refused.json()["code"], "not-written", "{refused:?}");
    assert!(refused.text().contains("has no room left"), "{refused:?}");
    let stand = |connection: &mut Connection, count: usize| {
        for nth in 0..count {
            let answer = connection.get(&format!("/bucket/k{nth}"));
            assert_eq!((answer.status, answer.body.len()), (200, VALUE_BYTES), "ACK-1: {nth}");
            assert_eq!(answer.body[0], b'a' + u8::try_from(nth % 26).unwrap(), "TALK-1: {nth}");
        }
    };
    stand(&mut connection, taken);
    assert_eq!(connection.get(&format!("/bucket/k{taken}")).status, 404, "not written");
    assert_eq!(put(&mut connection, taken).status, 503, "still full");
    fs::remove_file(ballast).unwrap();
    until("it takes writes again", || put(&mut connection, taken).status == 201);
    stand(&mut connection, taken + 1);
    service.stop();
}
