//! BOUND-1 of the real thing: many clients with large values at once, in little memory.

use std::net::SocketAddr;
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

#[test]
fn many_large_values_at_once_are_taken_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let limited = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" serve");
    let mut command = Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_datastore")]);
    command.current_dir(folder.path()).env_clear().stdin(Stdio::null());
    // An arena per thread reserves address space, not memory: few will do.
    command.env("MALLOC_ARENA_MAX", "2");
    command.env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0");
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
