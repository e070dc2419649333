//! F10: a disk that is full, and has room again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;

use super::client::{Answer, Connection};
use super::process::{Service, until};
use super::support::mariadb::Server;

const DISK: &str = "16m";
const BALLAST_BYTES: u64 = 6 << 20;
const VALUE_BYTES: usize = 64 << 10;
/// More than the disk can have room for.
const VALUES_MAX: usize = 10_000;

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

fn put(connection: &mut Connection, nth: usize, bytes: usize) -> Answer {
    let value = vec![b'a' + u8::try_from(nth % 26).unwrap(); bytes];
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
        let answer = put(&mut connection, taken, VALUE_BYTES);
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
    assert_eq!(put(&mut connection, taken, VALUE_BYTES).status, 503, "still full");
    fs::remove_file(ballast).unwrap();
    until("it takes writes again", || put(&mut connection, taken, VALUE_BYTES).status == 201);
    stand(&mut connection, taken + 1);
    service.stop();
}

/// What a server with nothing in it takes, and room for some values.
const SERVER_DISK_BYTES: u64 = 128 << 20;
/// How far from what it shall leave a ballast may be.
const BALLAST_SLACK_BYTES: u64 = 256 << 10;
/// Takes all room that is left on a disk, but for so much, or all that others leave of it; returns
/// where. A server that grows meanwhile gets back what it took of the room that shall be left.
fn fill(server: &Server, left: u64) -> PathBuf {
    let ballast = server.beside_data("ballast");
    let folder = ballast.parent().unwrap().to_owned();
    let free = || {
        let disk = nix::sys::statvfs::statvfs(&folder).unwrap();
        disk.blocks_available() * disk.fragment_size()
    };
    let mut file = fs::File::create(&ballast).unwrap();
    until("the disk is as full as it shall be", || {
        let free = free();
        if free < left {
            let kept = file.metadata().unwrap().len() - (left - free);
            file.set_len(kept).unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
        } else {
            // The server may have taken it first.
            let _ = std::io::copy(&mut std::io::repeat(0).take(free - left), &mut file);
        }
        free >= left && free - left <= BALLAST_SLACK_BYTES
    });
    ballast
}

/// What was written to a service, one key after the other, and what it said of that.
struct Written {
    bytes: usize,
    next: usize,
    taken: Vec<usize>,
    /// Certainly not written, and maybe.
    refused: BTreeSet<usize>,
    unknown: BTreeSet<usize>,
}

impl Written {
    /// Writes; whether it was taken.
    fn put(&mut self, connection: &mut Connection, nth: usize) -> bool {
        let answer = put(connection, nth, self.bytes);
        let code = match answer.status {
            201 | 204 => {
                self.taken.push(nth);
                return true;
            }
            503 => answer.json()["code"].clone(),
            _ => panic!("{answer:?}"),
        };
        match code.as_str() {
            Some("not-written") => self.refused.insert(nth),
            Some("outcome-unknown") => self.unknown.insert(nth),
            _ => panic!("{answer:?}"),
        };
        false
    }

    /// Writes until so many were refused since, and one more was taken, by the other master.
    fn until_refused(&mut self, connection: &mut Connection, refusals: usize) {
        let enough = self.refused.len() + self.unknown.len() + refusals;
        let mut is_taken = false;
        while self.refused.len() + self.unknown.len() < enough || !is_taken {
            assert!(self.next < VALUES_MAX, "the disk is never full");
            is_taken = self.put(connection, self.next);
            self.next += 1;
        }
    }

    /// ACK-1: what was taken can be read, whole, at its master or at a partition; what was refused
    /// is nowhere.
    fn stands(&self, connection: &mut Connection, partition: Option<&str>) {
        for &nth in &self.taken {
            let answer = connection.get(&match partition {
                Some(partition) => format!("/bucket/k{nth}?partition={partition}"),
                None => format!("/canonicalbucket/k{nth}"),
            });
            assert_eq!((answer.status, answer.body.len()), (200, self.bytes), "ACK-1: {nth}");
            assert_eq!(answer.body[0], b'a' + u8::try_from(nth % 26).unwrap(), "TALK-1: {nth}");
        }
        for nth in &self.refused {
            let answer = connection.get(&format!("/canonicalbucket/k{nth}"));
            assert_eq!(answer.status, 404, "{nth} was not written");
        }
    }
}

/// What has no room on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    /// MariaDB says that the table is full.
    Rows,
    /// MariaDB tries for five seconds and ends itself, and does not start again before there is
    /// room (seen with 10.11).
    LargeValues,
    /// MariaDB waits for room, with all its locks.
    BinaryLog,
}

/// The same of a server: nothing takes along what was acknowledged, and the other master goes on.
#[rstest]
#[case::rows(Full::Rows, 4_000, 4 << 20, 20)]
#[case::large_values(Full::LargeValues, 64 << 10, 12 << 20, 20)]
#[case::binary_log(Full::BinaryLog, 4_000, 0, 2)]
fn a_full_disk_of_a_server_refuses_writes_loses_nothing_and_goes_on_with_room(
    #[case] full: Full,
    #[case] bytes: usize,
    #[case] room: u64,
    #[case] refusals: usize,
) {
    let options = match full {
        Full::Rows | Full::LargeValues => &[][..],
        Full::BinaryLog => &["--log-bin=binary", "--sync-binlog=1", "--binlog-format=ROW"],
    };
    let mut server = Server::start_on_disk(options, SERVER_DISK_BYTES);
    let database = server.database();
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(
        folder.path(),
        &[
            ("DATASTORE__PARTITION__STORE_1__URL", &server.url_text(&database)),
            ("DATASTORE__PARTITION__STORE_2__URL", "sqlite:store_2.db"),
        ],
    );
    let mut connection = service.connect();
    let (refused, unknown) = (BTreeSet::new(), BTreeSet::new());
    let mut written = Written { bytes, next: 0, taken: Vec::new(), refused, unknown };
    for nth in 0..100 {
        // Tables that have grown have some room in them.
        assert!(written.put(&mut connection, nth));
    }
    written.next = 100;
    let ballast = fill(&server, room);
    written.until_refused(&mut connection, refusals);
    let Written { taken, refused, unknown, .. } = &written;
    let all = refused.union(unknown).copied();
    println!("{} were taken, {refused:?} refused, {unknown:?} unknown", taken.len());
    let first = all.min().unwrap();
    if full != Full::LargeValues {
        written.stands(&mut connection, None);
    }
    if full == Full::Rows {
        // The server says what is wrong; so does the service.
        assert!(unknown.is_empty(), "{unknown:?}");
        let answer = put(&mut connection, first, bytes);
        assert!(answer.text().contains("has no room left"), "{answer:?}");
        let report = connection.request("POST", "/admin/sync?wait=60s", &[], b"").unwrap().json();
        let failed = |pair: &&serde_json::Value| !pair["error"].is_null();
        let pairs = report["pairs"].as_array().unwrap();
        let errors = pairs.iter().filter(failed).map(|pair| (&pair["target"], &pair["error"]));
        assert_eq!(errors.collect::<Vec<_>>(), [(&"store_1".into(), &"full".into())], "{report}");
    }
    fs::remove_file(ballast).unwrap();
    if full != Full::Rows {
        // One has ended itself, and one looks only once a minute whether there is room.
        server.restart();
    }
    let again = written.refused.pop_first().or_else(|| written.unknown.pop_first()).unwrap();
    until("it takes writes again", || written.put(&mut connection, again));
    written.refused.remove(&again);
    server.restart();
    until("it can be read again", || {
        let read = connection.get(&format!("/bucket/k{again}?partition=store_1"));
        read.status == 200
    });
    written.stands(&mut connection, None);
    service.sync();
    for partition in ["store_1", "store_2"] {
        written.stands(&mut connection, Some(partition));
    }
    service.stop();
}
