//! Real input: the Debian package index, a value per package, through the service and back from
//! every partition.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use datastore::clock::{Clock, System};
use datastore::http::paths;
use mysql::prelude::Queryable as _;

use super::client::Connection;
use super::process::Service;
use super::servers::Servers;

/// Below this the index was never fetched.
const STANZAS_MIN: usize = 50_000;
/// Writers that wait for their answers: enough that each commit takes many writes.
const WRITERS: usize = 48;
const READERS: usize = 4;
/// Requests on the way at once, on one connection.
const PIPELINE: usize = 64;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Package name to stanza; a name that comes again has its version added.
fn index() -> Pairs {
    let dump = Command::new("apt-cache").arg("dumpavail").output();
    let dump = dump.map(|output| output.stdout).unwrap_or_default();
    let mut pairs = Pairs::new();
    let mut rest = dump.as_slice();
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\n\n").map_or(rest.len(), |at| at + 1);
        let (stanza, after) = rest.split_at(end);
        rest = after.strip_prefix(b"\n").unwrap_or(after);
        let field = |name: &[u8]| {
            let mut lines = stanza.split(|byte| *byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name)).map(<[u8]>::to_vec)
        };
        let Some(mut key) = field(b"Package: ") else { continue };
        if pairs.contains_key(&key) {
            key.push(b'=');
            key.extend(field(b"Version: ").unwrap_or_default());
        }
        pairs.insert(key, stanza.to_vec());
    }
    pairs
}

/// Runs `work` on every `of`-th pair, in as many threads.
fn spread(
    pairs: &Pairs,
    of: usize,
    work: impl Fn(&mut dyn Iterator<Item = (&[u8], &[u8])>) + Sync,
) {
    thread::scope(|scope| {
        for nth in 0..of {
            let work = &work;
            let own = pairs.iter().skip(nth).step_by(of);
            scope.spawn(move || {
                work(&mut own.map(|(key, value)| (key.as_slice(), value.as_slice())))
            });
        }
    });
}

fn store(address: SocketAddr, own: &mut dyn Iterator<Item = (&[u8], &[u8])>) {
    let mut connection = Connection::open(address).unwrap();
    for (key, value) in own {
        let answer = connection.put(&paths::emit("/bucket/", key), value);
        assert_eq!(answer.status, 201, "{}: {answer:?}", key.escape_ascii());
    }
}

fn compare(address: SocketAddr, partition: &str, own: &mut dyn Iterator<Item = (&[u8], &[u8])>) {
    let mut connection = Connection::open(address).unwrap();
    let own: Vec<_> = own.collect();
    for some in own.chunks(PIPELINE) {
        for (key, _) in some {
            let target = format!("{}?partition={partition}", paths::emit("/bucket/", key));
            connection.queue("GET", &target, &[], b"");
        }
        connection.flush().unwrap();
        for (key, value) in some {
            let answer = connection.receive().unwrap();
            assert_eq!(answer.status, 200, "{}: {answer:?}", key.escape_ascii());
            assert_eq!(answer.header("datastore-partition"), Some(partition));
            assert!(answer.body == *value, "{} differs at {partition}", key.escape_ascii());
        }
    }
}

/// All keys, by following `next`.
fn listed(address: SocketAddr, partition: &str) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(address).unwrap();
    let mut keys = Vec::new();
    let mut target = format!("/bucket/?partition={partition}");
    loop {
        let headers = [("accept", "application/json")];
        let page = connection.request("GET", &target, &headers, b"").unwrap();
        assert_eq!(page.status, 200, "{target}: {page:?}");
        let page = page.json();
        for path in page["message"].as_array().unwrap() {
            let path = path.as_str().unwrap().strip_prefix("/bucket/").unwrap();
            keys.push(paths::decode(path).unwrap());
        }
        match page["next"].as_str() {
            Some(next) => target = next.to_owned(),
            None => return keys,
        }
    }
}

/// The package index; `None`, said aloud, where it was never fetched and nothing insists on it.
fn whole_index() -> Option<Pairs> {
    let pairs = index();
    if pairs.len() >= STANZAS_MIN {
        return Some(pairs);
    }
    let complete = std::env::var_os("DATASTORE_TEST_COMPLETE").is_some();
    assert!(!complete, "{} stanzas: run apt-get update", pairs.len());
    println!("SKIPPED: {} stanzas; apt-get update fetches the package index", pairs.len());
    None
}

/// Stores all, syncs once, and reads all back from each partition; lists every key.
fn comes_back(service: &Service, pairs: &Pairs) {
    let clock = System::new();
    let address = service.address();
    spread(pairs, WRITERS, |own| store(address, own));
    println!("{} stored after {:?}", pairs.len(), clock.monotonic());
    for pair in service.sync()["pairs"].as_array().unwrap() {
        assert_eq!(pair["lag"], 0, "{pair}");
    }
    println!("synced after {:?}", clock.monotonic());
    let keys: Vec<&Vec<u8>> = pairs.keys().collect();
    for partition in ["store_1", "store_2", "store_3"] {
        spread(pairs, READERS, |own| compare(address, partition, own));
        let listed = listed(address, partition);
        assert!(listed.iter().eq(keys.iter().copied()), "{} keys listed", listed.len());
        println!("{partition} compared and listed after {:?}", clock.monotonic());
    }
}

#[test]
fn the_package_index_comes_back_byte_for_byte_from_every_partition() {
    let Some(pairs) = whole_index() else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    comes_back(&service, &pairs);
    service.stop();
}

#[test]
fn the_package_index_comes_back_from_three_servers_and_by_sql() {
    let Some(pairs) = whole_index() else { return };
    let servers = Servers::start();
    let service = servers.front_end();
    comes_back(&service, &pairs);
    service.stop();
    for nth in 0..3 {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = servers
            .admin(nth)
            .query("SELECT id, value FROM data WHERE deleted = 0 ORDER BY id")
            .unwrap();
        let rows = rows.iter().map(|(key, value)| (key, value));
        assert!(rows.eq(&pairs), "SQL shows something else at server {nth}");
    }
}
