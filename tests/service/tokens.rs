//! RYW-1 between processes: what was written at one front end is read with its token at another
//! one, and at the copy inside of that.

use std::path::Path;
use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::http::paths;
use datastore::vector::Token;
use datastore::version::Version;
use rstest::rstest;

use super::process::{Service, until};
use super::servers::{Servers, key_of, put};
use super::support::mariadb::Server;

const KEYS: usize = 50;

/// How often; the soak asks for more.
fn times() -> usize {
    std::env::var_os("DATASTORE_TOKEN_READS")
        .map_or(500, |times| times.to_str().unwrap().parse().unwrap())
}

fn front_end(folder: &Path, databases: &[String], copy: &str) -> Service {
    let server = Server::shared();
    let mut environment = vec![("DATASTORE__EMBEDDED_COPY__ENGINE".to_owned(), copy.to_owned())];
    for (nth, database) in databases.iter().enumerate() {
        let name = format!("DATASTORE__PARTITION__STORE_{}__URL", nth + 1);
        environment.push((name, server.url_text(database)));
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Service::start_with(folder, &environment)
}

/// The median and the 99th of a hundred: told, not held against the clock.
fn told(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    format!("median {:?}, p99 {:?}", at(50), at(99))
}

/// What a session has seen at a master, and a crash took back before it was durable, is told to be
/// lost: no vector covers it, however far it has gone on since.
#[test]
fn a_token_that_names_what_a_crash_took_back_is_told_so() {
    let mut servers = Servers::start();
    let service = servers.front_end();
    let target = paths::emit("/bucket/", key_of(0).as_bytes());
    let written = service.connect().put(&target, b"before");
    assert_eq!(written.status, 201, "{written:?}");
    let token: Token = written.header("datastore-session").unwrap().parse().unwrap();
    servers.crash(0);
    until("the master takes writes again", || put(service.address(), &key_of(0), "after") == 204);
    // As if it had seen the write that would have been the next one.
    let (origin, version) = token.vector.iter().next().unwrap();
    let next = Version::new(version.epoch(), version.seq().advanced(1).unwrap());
    let lost = Token { vector: [(origin, next)].into_iter().collect(), ..token.clone() };
    let read = |token: &Token| {
        let session = [("datastore-session", token.to_string())];
        let session = session.each_ref().map(|(name, token)| (*name, token.as_str()));
        service.connect().request("GET", &target, &session, b"").unwrap()
    };
    until("it is told", || {
        let answer = read(&lost);
        answer.status == 503 && answer.json()["code"] == "session-lost"
    });
    assert_eq!((read(&token).status, read(&token).text()), (200, "after"), "RYW-1");
    service.stop();
}

#[rstest]
#[case::memory("memory")]
#[case::sqlite("sqlite")]
fn what_was_written_at_one_front_end_is_read_at_another_and_its_copy(#[case] copy: &str) {
    let databases: Vec<String> = (0..3).map(|_| Server::shared().database()).collect();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let writer = front_end(folders[0].path(), &databases, "none");
    let reader = front_end(folders[1].path(), &databases, copy);
    until("the copy serves", || {
        reader.connect().get("/bucket/k?partition=embedded_copy").status == 404
    });
    let (mut writes, mut reads) = (writer.connect(), reader.connect());
    let clock = System::new();
    let (mut anywhere, mut at_copy) = (Vec::new(), Vec::new());
    let (mut refused, mut by_copy) = (0, 0);
    for n in 0..times() {
        let (key, value) = (format!("/bucket/k{}", n % KEYS), n.to_string());
        let written = writes.put(&key, value.as_bytes());
        assert!(matches!(written.status, 201 | 204), "{written:?}");
        let token = [("datastore-session", written.header("datastore-session").unwrap())];
        // Every second one first where it likes, then at the copy; the others the other way round.
        let pinned = format!("{key}?partition=embedded_copy&consistency=session");
        let mut targets = [(key.as_str(), false), (pinned.as_str(), true)];
        targets.rotate_left(n % 2);
        for (target, is_pinned) in targets {
            let began = clock.monotonic();
            let read = reads.request("GET", target, &token, b"").unwrap();
            let took = clock.monotonic() - began;
            // Behind for longer than a read may wait: refused, and never an older answer.
            if is_pinned && read.status == 503 && read.json()["code"] == "too-stale" {
                refused += 1;
                continue;
            }
            assert_eq!((read.status, read.text()), (200, value.as_str()), "RYW-1: {read:?}");
            assert_eq!(read.header("etag"), written.header("etag"), "RYW-1: {read:?}");
            let times = if is_pinned { &mut at_copy } else { &mut anywhere };
            times.push(took);
            by_copy += usize::from(read.header("datastore-partition") == Some("embedded_copy"));
        }
    }
    println!("{copy}: anywhere {}; at the copy {}", told(anywhere), told(at_copy));
    println!("{copy}: {by_copy} reads served by the copy, {refused} refused as too stale");
    assert!(refused * 10 < times(), "{refused} of {} were refused", times());
    writer.stop();
    reader.stop();
}
