//! F7 through the whole service: whatever error a server answers to whichever command, a request
//! ends in time, says what is certain, and is never our fault.

use datastore::clock::{Clock, System};

use super::client::{Answer, Connection};
use super::process::{BOUND, Service, until};
use super::support::mariadb::Server;
use super::support::proxy::{Proxy, Strike};

/// Deadlock, lock wait, changed row, too many connections, read only (twice), table and disk full,
/// gone (three kinds), duplicate key, no such table, no right, and one that nobody knows.
const CODES: [u16; 15] =
    [1213, 1205, 1020, 1040, 1290, 1836, 1114, 1021, 2006, 2013, 1927, 1062, 1146, 1142, 65535];
/// More commands than a request sends, those of a new connection and a second try included.
const COMMANDS: usize = 14;

/// Whether the request did what it was to do; what it says otherwise, it says for certain.
fn is_done(answer: &Answer, method: &str) -> bool {
    match answer.status {
        200 | 201 | 202 | 204 => true,
        503 => {
            let code = answer.json()["code"].as_str().unwrap().to_owned();
            let known = match method {
                "GET" => &["unavailable", "too-stale"][..],
                _ => &["not-written", "outcome-unknown"],
            };
            assert!(known.contains(&code.as_str()), "{method}: {answer:?}");
            false
        }
        _ => panic!("{method}: {answer:?}"),
    }
}

#[test]
fn whatever_a_server_answers_to_whichever_command_no_request_fails_by_our_fault() {
    let server = Server::start();
    let database = server.database();
    let proxy = Proxy::to(server.port());
    let url = server.url_text(&database);
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let folder = tempfile::tempdir().unwrap();
    let service =
        Service::start_with(folder.path(), &[("DATASTORE__PARTITION__STORE_1__URL", &url)]);
    let mut connection = service.connect();
    assert_eq!(connection.put("/bucket/k", b"0").status, 201);
    let (mut last, mut unknown) = ("0".to_owned(), Vec::new());
    let (mut struck, mut refused) = (0, 0);
    let clock = System::new();
    for code in CODES {
        for nth in 0..COMMANDS {
            let value = format!("{code} {nth}");
            proxy.strike_at(nth, Strike::Error(code));
            let began = clock.monotonic();
            let put = connection.put("/bucket/k", value.as_bytes());
            if is_done(&put, "PUT") {
                (last, unknown) = (value, Vec::new());
            } else {
                refused += 1;
                if put.json()["code"] == "outcome-unknown" {
                    unknown.push(value);
                }
            }
            for target in ["/bucket/k", "/bucket/?values=true", "/changes?since=0"] {
                refused += usize::from(!is_done(&connection.get(target), "GET"));
            }
            assert!(clock.monotonic() - began < BOUND, "{code} at {nth}");
            struck += usize::from(proxy.has_struck());
            let stands = read(&mut connection);
            assert!(stands == last || unknown.contains(&stands), "{stands}, not {last}");
            last = stands;
        }
    }
    println!("{struck} struck, {refused} requests refused");
    assert!(struck > CODES.len() * COMMANDS / 2 && refused > CODES.len());
    service.stop();
}

/// What stands, as soon as it can be read: nothing is struck any more.
fn read(connection: &mut Connection) -> String {
    let mut read = None;
    until("it can be read", || {
        let answer = connection.get("/canonicalbucket/k");
        read = is_done(&answer, "GET").then(|| answer.text().to_owned());
        read.is_some()
    });
    read.unwrap()
}
