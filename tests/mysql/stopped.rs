//! Servers that crash or stand still, and front ends that stand still inside a transaction.

use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::{Mysql, Patience};
use datastore::partition::{Jump, OPENING_JUMP, OPENING_SPREAD, PartitionError, Refusal};
use datastore::version::{Epoch, PartitionId};
use mysql::prelude::Queryable;

use crate::bed::{SHORT, founded, kind, set, value, write};
use crate::support::mariadb::Server;
use crate::support::proxy::{Proxy, Strike};

#[test]
fn a_front_end_stopped_inside_its_transaction_blocks_others_for_a_bounded_time() {
    let server = Server::shared();
    let database = server.database();
    let mut other = founded(&server.engine(&database));
    let proxy = Proxy::to(server.port());
    // It holds the clock, and then its way to the server is gone, as if it were stopped.
    let url = server.url_by(proxy.port(), &database);
    let idle = Duration::from_secs(2);
    let patience = Patience { idle, answer: Duration::from_secs(30), ..SHORT };
    let mut stopped = Mysql::new(url).with_patience(patience).connect().unwrap();
    proxy.strike_at(0, Strike::HoldAnswer);
    let clock = System::new();
    let blocked = std::thread::scope(|scope| {
        let stuck = scope.spawn(move || write(&mut stopped, &[set("k", "of the stopped one")]));
        wait_for_lock(server, &database);
        let began = clock.monotonic();
        write(&mut other, &[set("k", "v")]).unwrap();
        let blocked = clock.monotonic() - began;
        proxy.heal();
        let error = stuck.join().unwrap().unwrap_err();
        assert_eq!(kind(&error), "unreachable", "its commit was never sent");
        blocked
    });
    assert!(blocked < idle + Duration::from_secs(2), "{blocked:?}");
    assert_eq!(value(&mut other, "k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Waits until somebody holds the clock of the database.
fn wait_for_lock(server: &Server, database: &str) {
    let mut admin = server.admin_of(database);
    let clock = System::new();
    // Rows are asked for: the driver drops an error that comes after the names of the columns.
    while admin.query::<u8, _>("SELECT id FROM clock FOR UPDATE NOWAIT").is_ok() {
        assert!(clock.monotonic() < Duration::from_secs(10), "nobody takes the lock");
    }
}

#[test]
fn who_waits_too_long_for_a_lock_is_told_and_can_go_on() {
    let server = Server::shared();
    let database = server.database();
    let engine = server.engine(&database).with_patience(SHORT);
    let mut home = founded(&engine);
    write(&mut home, &[set("k", "v")]).unwrap();
    let mut holder = server.admin_of(&database);
    holder.query_drop("START TRANSACTION").unwrap();
    holder.query_drop("UPDATE clock SET seq = seq + 1").unwrap();
    let busy = write(&mut home, &[set("k", "w")]).unwrap_err();
    assert_eq!(kind(&busy), "busy");
    assert!(busy.keeps_connection());
    assert_eq!(value(&mut home, "k").unwrap().as_deref(), Some(&b"v"[..]), "readers do not wait");
    holder.query_drop("ROLLBACK").unwrap();
    write(&mut home, &[set("k", "w")]).unwrap();
}

#[test]
fn a_server_that_stands_still_is_left_in_time_and_found_again() {
    let server = Server::start();
    let database = server.database();
    let engine = server.engine(&database).with_patience(SHORT);
    let (mut reader, mut writer) = (founded(&engine), engine.connect().unwrap());
    server.stop();
    let clock = System::new();
    assert_eq!(kind(&value(&mut reader, "k").unwrap_err()), "unreachable");
    let error = write(&mut writer, &[set("k", "v")]).unwrap_err();
    assert_eq!(kind(&error), "unreachable", "the commit was not sent");
    assert_eq!(kind(&engine.connect().map(drop).unwrap_err()), "unreachable");
    let took = clock.monotonic();
    assert!(took < 5 * SHORT.answer, "{took:?}");
    drop((reader, writer));
    server.resume();
    let mut home = engine.connect().unwrap();
    write(&mut home, &[set("k", "v")]).unwrap();
    assert_eq!(value(&mut home, "k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_crash_ends_the_run_and_gives_no_version_twice() {
    let mut server = Server::start();
    let database = server.database();
    let engine = server.engine(&database);
    let mut home = founded(&engine);
    write(&mut home, &[set("k", "1"), set("l", "2")]).unwrap();
    let before = home.status().unwrap();
    server.kill();
    assert_eq!(kind(&home.status().unwrap_err()), "unreachable");
    assert_eq!(kind(&engine.connect().map(drop).unwrap_err()), "unreachable");
    server.restart();
    let mut home = engine.connect().unwrap();
    assert_eq!(value(&mut home, "l").unwrap().as_deref(), Some(&b"2"[..]), "ACK-1");
    let after = home.status().unwrap();
    assert_ne!(after.run, before.run);
    assert_eq!((after.seq, after.vector.clone()), (before.seq, before.vector.clone()));
    let ended = home.barrier(before.run).unwrap_err();
    assert!(matches!(ended, PartitionError::Refused(Refusal::RunEnded)), "{ended:?}");
    home.barrier(after.run).unwrap();
    // OPEN-1, and only once a run.
    for _ in 0..2 {
        assert_eq!(engine.connect().unwrap().open_lane().unwrap(), Epoch::FIRST);
    }
    let opened = home.status().unwrap();
    let far = opened.seq.number() - before.seq.number();
    assert!((OPENING_JUMP..OPENING_JUMP + OPENING_SPREAD).contains(&far), "{far}");
    assert_eq!(home.jumps().unwrap(), [Jump { before: before.seq, after: opened.seq }]);
    write(&mut home, &[set("k", "3")]).unwrap();
    let row = crate::bed::read(&mut home, "k").unwrap().unwrap();
    assert!(row.version > before.vector.get(PartitionId(1)));
}
