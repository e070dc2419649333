//! BOUND-1 of the real thing: many clients with large values at once, and a replica that is far
//! behind, in little memory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::client::Connection;
use super::process::{Service, until};

const CLIENTS: usize = 128;
const VALUE_BYTES: usize = 8 << 20;
/// All address space that the process may have, in KiB: less than a third of what the clients send.
/// Code, stacks and the three databases' caches are in it, too.
const ADDRESS_SPACE_KIB: usize = 900 << 10;

/// Told whenever a value was taken: then there may be room for another.
#[derive(Default)]
struct Room(Mutex<()>, Condvar);

impl Room {
    fn wait(&self) {
        let guard = self.0.lock().unwrap();
        drop(self.1.wait_timeout(guard, Duration::from_secs(1)).unwrap());
    }
}

/// Sends until it is taken; overload is an answer, and a connection may be closed on us meanwhile.
fn store(address: SocketAddr, nth: usize, room: &Room) -> usize {
    let value = vec![b'a' + u8::try_from(nth % 26).unwrap(); VALUE_BYTES];
    let mut refusals = 0;
    until("the value is taken", || {
        let answer = Connection::open(address)
            .and_then(|mut connection| connection.request("PUT", &path(nth), &[], &value));
        let status = answer.map(|answer| answer.status);
        match status {
            Ok(201 | 204) => {
                room.1.notify_one();
                return true;
            }
            Ok(503 | 408) | Err(_) => {}
            Ok(status) => panic!("{status}"),
        }
        refusals += 1;
        room.wait();
        false
    });
    refusals
}

fn path(nth: usize) -> String {
    format!("/bucket/large {nth}").replace(' ', "%20")
}

/// The service in `folder` with so much address space, not started yet.
fn limited(folder: &Path, address_space_kib: usize) -> Command {
    let limited = format!("ulimit -v {address_space_kib} && exec \"$0\" serve");
    let mut command = Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_datastore")]);
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    // What the allocator reserves, and keeps when it is free, is address space, not memory.
    command.env("MALLOC_CONF", "narenas:2,retain:false");
    command.env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0");
    command
}

#[test]
fn many_large_values_at_once_are_taken_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = limited(folder.path(), ADDRESS_SPACE_KIB);
    command.env("DATASTORE__SERVER__BODY_BUDGET_BYTES", (64 << 20).to_string());
    let service = Service::spawn(&mut command);
    let address = service.address();
    let room = Room::default();
    let refusals: usize = thread::scope(|scope| {
        let room = &room;
        let clients: Vec<_> =
            (0..CLIENTS).map(|nth| scope.spawn(move || store(address, nth, room))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    println!("{refusals} refusals before all {CLIENTS} values were taken");
    let mut connection = service.connect();
    for nth in [0, CLIENTS - 1] {
        let answer = connection.get(&path(nth));
        assert_eq!((answer.status, answer.body.len()), (200, VALUE_BYTES));
    }
    service.stop();
}

/// Rows that a replica lacks; a soak takes a million.
const BEHIND: usize = 100_000;
const BEHIND_VALUE_BYTES: usize = 2 << 10;
const AT_ONCE: usize = 1_000;
/// What a service has in memory that reads them by pages (131 MiB were seen), and room for less
/// than half of the values of [`BEHIND`] rows.
const CATCHING_UP_KIB: usize = 200 << 10;
/// With what is reserved only (341 MiB were seen).
const CATCHING_UP_ADDRESSES_KIB: usize = 448 << 10;

#[test]
fn a_replica_that_is_far_behind_catches_up_in_little_memory() {
    let rows = std::env::var_os("DATASTORE_ROWS_BEHIND")
        .map_or(BEHIND, |rows| rows.to_str().unwrap().parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut command = limited(folder.path(), CATCHING_UP_ADDRESSES_KIB);
    command.envs([
        ("DATASTORE__PARTITION__STORE_1__URL", "sqlite:store_1.db"),
        ("DATASTORE__PARTITION__STORE_2__URL", "sqlite:store_2.db"),
        ("DATASTORE__PARTITION__STORE_2__ROLE", "replica"),
        ("DATASTORE__SYNC__EAGER", "false"),
        // Once a year: only when it is asked for.
        ("DATASTORE__SYNC__SCHEDULE", "0 0 0 1 1 *"),
    ]);
    let service = Service::spawn(&mut command);
    let mut connection = service.connect();
    for first in (0..rows).step_by(AT_ONCE) {
        let sets: Vec<_> = (first..rows.min(first + AT_ONCE)).map(set).collect();
        let batch = serde_json::json!({ "operations": sets }).to_string();
        let json = [("content-type", "application/json")];
        let answer = connection.request("POST", "/batch", &json, batch.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let behind = connection.get("/bucket/?partition=store_2&limit=1");
    assert_eq!((behind.status, behind.text()), (200, ""), "nothing is there yet");
    let last = format!("/bucket/key%20{:07}?partition=store_2", rows - 1);
    let rounds_max = 2 + rows / BEHIND;
    let caught_up = (0..rounds_max).any(|_| {
        let answer = connection.request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        connection.get(&last).status == 200
    });
    assert!(caught_up, "the replica lacks rows after {rounds_max} waits");
    for nth in [0, rows / 2, rows - 1] {
        let answer = connection.get(&format!("/bucket/key%20{nth:07}?partition=store_2"));
        assert_eq!((answer.status, answer.body.len()), (200, BEHIND_VALUE_BYTES), "{nth}");
    }
    let most = most_held_kib(service.id());
    assert!(most < CATCHING_UP_KIB, "{most} KiB");
    service.stop();
}

/// The most memory that a process has had, in KiB.
fn most_held_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

fn set(nth: usize) -> serde_json::Value {
    let value = char::from(b'a' + u8::try_from(nth % 26).unwrap());
    serde_json::json!({
        "op": "set",
        "key": format!("key {nth:07}"),
        "value": value.to_string().repeat(BEHIND_VALUE_BYTES),
    })
}
