//! Verify over real servers: what it moves, and passes that are cut (F23).

use datastore::clock::System;
use datastore::record::Key;
use datastore::sync::barrier::Barriers;
use datastore::sync::verify::{Findings, Side, verify};
use datastore::write::Write;
use mysql::prelude::Queryable;

use crate::bed::{key, set};
use crate::support::mariadb::Server;
use crate::support::proxy::Strike;
use crate::sync::Set;

const VALUE_BYTES: usize = 100;
/// Rows that are written, and copied, at once.
const AT_ONCE: usize = 1000;
/// A digest may cost so much less than the values that it stands for.
const LESS: u64 = 50;

/// How many equal rows there are; the soak asks for more.
fn rows() -> usize {
    std::env::var_os("DATASTORE_VERIFY_ROWS")
        .map_or(20_000, |rows| rows.to_str().unwrap().parse().unwrap())
}

/// One pass over the three, by way of their proxies.
fn pass(set: &Set) -> Findings {
    let voters = set.members.iter().filter(|member| !member.id.is_copy());
    let mut open: Vec<_> =
        voters.filter_map(|voter| Some((voter.id, voter.connect.connect().ok()?))).collect();
    let mut sides: Vec<Side<'_>> = open
        .iter_mut()
        .map(|(id, connection)| Side { id: *id, partition: connection.as_mut(), trouble: None })
        .collect();
    let (topology, barriers, clock) = (set.topology.load(), Barriers::default(), System::new());
    verify(&mut sides, &topology, &barriers, &clock, |_| {})
}

/// A key that the `nth` masters.
fn key_of(set: &Set, nth: usize) -> Key {
    let topology = set.topology.load();
    let id = topology.voters()[nth].id;
    (0..).map(|n| key(format!("k{n}"))).find(|key| topology.master_of(key) == id).unwrap()
}

#[test]
fn a_verify_of_equal_rows_moves_digests_and_no_rows() {
    let server = Server::start();
    let mut all = Set::on(&server);
    let rows = rows();
    let name = |n: usize| format!("{n:08}");
    for first in (0..rows).step_by(AT_ONCE) {
        let write = |n| set(name(n), format!("{n:0>VALUE_BYTES$}"));
        let writes: Vec<Write> = (first..rows.min(first + AT_ONCE)).map(write).collect();
        all.write(0, &writes);
        for other in &all.databases[1..] {
            let copy = format!(
                "INSERT INTO {other}.data SELECT * FROM {}.data WHERE id >= '{}' AND id < '{}'",
                all.databases[0],
                name(first),
                name(first + AT_ONCE)
            );
            server.admin().query_drop(copy).unwrap();
        }
    }
    let moved = |set: &Set| set.proxies.iter().map(|proxy| proxy.bytes_to_client()).sum::<u64>();
    let before = moved(&all);
    let clock = System::new();
    let found = pass(&all);
    let took = datastore::clock::Clock::monotonic(&clock);
    let wire = moved(&all) - before;
    assert_eq!((found.rows, found.marks), (rows as u64, 0), "{found:?}");
    assert_eq!((found.mended, found.left), (0, 0), "{found:?}");
    let stored = 3 * (rows * VALUE_BYTES) as u64;
    println!("{rows} rows at three partitions: {wire} bytes moved for {stored}, in {took:?}");
    assert!(wire * LESS < stored, "{wire} bytes for {rows} rows");
}

/// Whatever a pass is cut at, the next one puts right what it has left.
#[test]
fn f23_a_pass_may_be_cut_anywhere() {
    let server = Server::shared();
    let mut all = Set::on(server);
    for nth in 0..3 {
        let key = key_of(&all, nth);
        all.write(nth, &[set(key.bytes().clone(), "right")]);
    }
    all.settle();
    // At its master, and at a replica.
    let edited = [key_of(&all, 0), key_of(&all, 1)];
    let mut admin = server.admin_of(&all.databases[0]);
    let mut struck = 0;
    for nth in 0..10 {
        for (partition, strike) in [
            (0, Strike::CutBefore),
            (0, Strike::CutAnswer),
            (1, Strike::CutBefore),
            (1, Strike::CutAnswer),
        ] {
            for key in &edited {
                let wrong = "UPDATE data SET value = 'wrong' WHERE id = ?";
                admin.exec_drop(wrong, (key.bytes().as_ref(),)).unwrap();
            }
            all.proxies[partition].strike_at(nth, strike);
            pass(&all);
            struck += usize::from(all.proxies[partition].has_struck());
            let found = pass(&all);
            assert_eq!(found.left, 0, "{nth} {partition} {strike:?}: {found:?}");
            all.assert_same(3);
        }
    }
    assert!(struck > 20, "only {struck} commands were struck");
}
