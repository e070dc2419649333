//! How much a server reads and how often it is asked: what makes the engine fast is held fast here.

use datastore::partition::engine::Engine;
use datastore::partition::{
    Found, Get, Origins, PageRequest, Range, ReseedNumber, ReseedStep, Trim,
};
use datastore::record::{Key, Space};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Seq, Version};
use datastore::write::Write;
use mysql::prelude::Queryable;

use crate::bed::{Connection, founded, key, set, write};
use crate::support::mariadb::Server;
use crate::support::proxy::{Proxy, Strike};

const ENTRIES: u64 = 100_000;

fn version(seq: u64) -> Version {
    Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
}

/// What the server has read from its tables so far, in rows.
fn rows_read(server: &Server) -> u64 {
    let counts: Vec<(String, u64)> =
        server.admin().query("SHOW GLOBAL STATUS LIKE 'Handler_read%'").unwrap();
    counts.into_iter().map(|(_, count)| count).sum()
}

/// A partition with a long log of two origins and as many rows, on a server of its own.
fn long() -> (Server, Connection) {
    let server = Server::start();
    let database = server.database();
    let connection = founded(&server.engine(&database));
    let mut admin = server.admin_of(&database);
    let hundred: Vec<String> = (0..100).map(|n| format!("({n})")).collect();
    for sql in [
        "CREATE DATABASE helper".to_owned(),
        "CREATE TABLE helper.n (n INT PRIMARY KEY)".to_owned(),
        format!("INSERT INTO helper.n VALUES {}", hundred.join(",")),
        "CREATE VIEW helper.numbers AS SELECT 1 + a.n + 100 * b.n + 10000 * c.n AS seq
         FROM helper.n a, helper.n b, helper.n c"
            .to_owned(),
    ] {
        admin.query_drop(sql).unwrap();
    }
    let numbers = format!("FROM helper.numbers WHERE seq <= {ENTRIES} ORDER BY seq");
    let name = "CONCAT('key ', LPAD(seq, 8, '0'))";
    for origin in 1..=2 {
        admin
            .query_drop(format!(
                "INSERT INTO `change` SELECT {origin}, (1 << 44) + seq, 0, {name} {numbers}"
            ))
            .unwrap();
        admin
            .query_drop(format!("INSERT INTO `cursor` VALUES ({origin}, (1 << 44) + {ENTRIES}, 0)"))
            .unwrap();
    }
    admin.query_drop(format!("UPDATE clock SET seq = {ENTRIES}")).unwrap();
    admin
        .query_drop(format!(
            "INSERT INTO data SELECT {name}, (1 << 44) + seq, 1, 1, NULL, 0, 0, '', '' {numbers}"
        ))
        .unwrap();
    (server, connection)
}

/// How many rows the server reads for `work` at each of three depths.
fn at_three_depths(server: &Server, mut work: impl FnMut(u64)) -> [u64; 3] {
    [10, 50, 90].map(|percent| {
        // The first time costs the look into the tables' definitions.
        work(ENTRIES * percent / 100);
        let before = rows_read(server);
        work(ENTRIES * percent / 100);
        rows_read(server) - before
    })
}

/// What the question for the counters itself reads.
fn noise(server: &Server) -> u64 {
    let before = rows_read(server);
    rows_read(server) - before
}

fn assert_flat(what: &str, rows: [u64; 3], at_most: u64) {
    assert!(rows.iter().all(|rows| *rows <= at_most), "{what}: {rows:?} rows, not {at_most}");
}

#[test]
fn a_page_costs_the_same_at_any_depth() {
    let (server, mut home) = long();
    let noise = noise(&server);
    let page = |home: &mut Connection, depth: u64, rows: bool| {
        let from = [(1, depth), (2, depth)];
        let from: Vector =
            from.into_iter().map(|(id, seq)| (PartitionId(id), version(seq))).collect();
        let origins = Origins::Only([PartitionId(2)].into());
        let request = PageRequest {
            from,
            origins,
            early: true,
            rows,
            entries_max: 1_000,
            bytes_max: 1 << 30,
        };
        let page = home.page(&request);
        if rows {
            return;
        }
        assert_eq!(page.unwrap().entries.len(), 1_000);
    };
    let entries = at_three_depths(&server, |depth| page(&mut home, depth, false));
    assert_flat("entries", entries, 1_100 + noise);
}

#[test]
fn a_list_costs_the_same_at_any_depth() {
    let (server, mut home) = long();
    let noise = noise(&server);
    let listed = at_three_depths(&server, |depth| {
        let after = Some(format!("key {depth:08}").into());
        for prefix in ["", "key "] {
            let prefix = prefix.into();
            let after = Option::clone(&after);
            let range = Range {
                space: Space::Data,
                prefix,
                after,
                keys_max: 100,
                scanned_max: 512,
                value_bytes_max: None,
            };
            // All of them are tombstones, so that the scan goes to its limit.
            assert!(home.list(&range).unwrap().rows.is_empty());
        }
    });
    assert_flat("lists", listed, 2 * 520 + noise);
    let points = at_three_depths(&server, |depth| {
        let keys: Vec<Key> = (0..64).map(|n| key(format!("key {:08}", depth + n))).collect();
        // A list of a size that is not a statement's own.
        for keys in [&keys[..], &keys[..33], &keys[..1]] {
            let get = Get { keys, inline_bytes_max: 0 };
            let found = home.get(&get).unwrap().rows;
            let is_damaged = |found: &Option<Found>| matches!(found, Some(Found::Damaged));
            assert!(found.iter().all(is_damaged), "these rows have no checksums");
        }
    });
    assert_flat("points", points, 64 + 33 + 1 + 20 + noise);
}

#[test]
fn trimming_reads_what_it_removes() {
    let (server, mut home) = long();
    let noise = noise(&server);
    let mut trimmed = 0;
    for nth in 1..=3 {
        let before = rows_read(&server);
        let floor = [(PartitionId(2), version(nth * 1_000))].into_iter().collect();
        let trim = Trim { epoch: Epoch::FIRST, floor, entries_max: 10_000 };
        trimmed += home.trim(&trim).unwrap().entries;
        let read = rows_read(&server) - before;
        assert!(read <= 12_100 + noise, "{read} rows");
    }
    assert_eq!(trimmed, 3_000);
}

/// How many commands `work` sends over a connection that has done it before.
fn round_trips(work: impl Fn(&mut Connection)) -> usize {
    let server = Server::shared();
    let database = server.database();
    drop(founded(&server.engine(&database)));
    let proxy = Proxy::to(server.port());
    let url = server.url_by(proxy.port(), &database);
    let mut connection = datastore::partition::mysql::Mysql::new(url).connect().unwrap();
    work(&mut connection);
    // Nothing is struck: only counting begins anew.
    proxy.strike_at(usize::MAX, Strike::CutBefore);
    work(&mut connection);
    proxy.commands()
}

#[test]
fn round_trips_are_few() {
    let get = |keys: usize| {
        move |connection: &mut Connection| {
            let keys: Vec<Key> = (0..keys).map(|n| key(format!("k{n}"))).collect();
            connection.get(&Get { keys: &keys, inline_bytes_max: 64 << 10 }).unwrap();
        }
    };
    assert_eq!(round_trips(get(1)), 1);
    assert_eq!(round_trips(get(64)), 1);
    let sets = |rows: usize| {
        move |connection: &mut Connection| {
            let writes: Vec<Write> = (0..rows).map(|n| set(format!("k{n}"), "v")).collect();
            write(connection, &writes).unwrap();
        }
    };
    assert_eq!(round_trips(sets(1)), 3, "fence and sequence, rows, entries with the end");
    assert_eq!(round_trips(sets(32)), 3);
    assert_eq!(round_trips(sets(33)), 4, "most of the entries on their own");
    assert_eq!(round_trips(sets(100)), 4);
    assert_eq!(round_trips(sets(256)), 4);
    let barrier = |connection: &mut Connection| {
        let run = connection.status().unwrap().run;
        connection.barrier(run).unwrap();
    };
    let status = |connection: &mut Connection| drop(connection.status().unwrap());
    assert_eq!(round_trips(barrier) - round_trips(status), 2);
}

#[test]
fn emptying_a_large_partition_takes_many_short_statements() {
    let (_server, mut home) = long();
    home.set_aside().unwrap();
    let number = home.reseed(ReseedNumber(0), &ReseedStep::Begin).unwrap();
    let status = home.status().unwrap();
    assert_eq!(status.reseed, number);
    assert!(status.heads.is_empty() && status.reseeding);
}

/// What the server has sent so far, in bytes.
fn bytes_sent(server: &Server) -> u64 {
    let sent: Vec<(String, u64)> =
        server.admin().query("SHOW GLOBAL STATUS LIKE 'Bytes_sent'").unwrap();
    sent.into_iter().map(|(_, bytes)| bytes).sum()
}

/// BOUND-1: a list is cut before its values are sent, and who only judges a row is sent none.
#[test]
fn values_that_nobody_looks_at_stay_at_the_server() {
    const VALUES: u64 = 16;
    const VALUE_BYTES: u64 = 1 << 20;
    let server = Server::start();
    let mut home = founded(&server.engine(&server.database()));
    for n in 0..VALUES {
        let value = vec![7; usize::try_from(VALUE_BYTES).unwrap()];
        write(&mut home, &[set(format!("k {n:02}"), value)]).unwrap();
    }
    let asked = |value_bytes_max| Range {
        space: Space::Data,
        prefix: "k".into(),
        after: None,
        keys_max: 1_000,
        scanned_max: 1_000,
        value_bytes_max,
    };
    let before = bytes_sent(&server);
    let page = home.list(&asked(Some(3 << 20))).unwrap();
    let sent = bytes_sent(&server) - before;
    assert_eq!(page.rows.len(), 2, "two values and their keys are less than three MiB");
    assert!(sent < 3 * VALUE_BYTES, "{sent} bytes for a page of 3 MiB");
    let before = bytes_sent(&server);
    assert_eq!(home.list(&asked(None)).unwrap().rows.len(), 16);
    let judged: Vec<Write> = (0..VALUES)
        .map(|n| Write { tell_created: true, ..set(format!("k {n:02}"), "small") })
        .collect();
    write(&mut home, &judged).unwrap();
    let sent = bytes_sent(&server) - before;
    assert!(sent < VALUE_BYTES, "{sent} bytes for keys and conditions");
}
