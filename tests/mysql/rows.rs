//! What is stored: changed behind the partition's back, too large, or another program's.

use std::collections::BTreeSet;

use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Origins, PageRequest, PartitionError, Result};
use datastore::vector::Vector;
use datastore::write::Write;
use mysql::prelude::Queryable;
use rstest::rstest;

use crate::bed::{Connection, founded, identity, kind, read, set, value, write};
use crate::support::mariadb::{Server, mysqld_root};

struct Home {
    database: String,
    engine: Mysql,
    connection: Connection,
}

fn home() -> Home {
    let server = Server::shared();
    let database = server.database();
    let engine = server.engine(&database);
    let connection = founded(&engine);
    Home { database, engine, connection }
}

impl Home {
    /// Runs a statement behind the partition's back.
    fn tamper(&self, sql: &str) {
        let mut admin = Server::shared().admin_of(&self.database);
        admin.query_drop(sql).unwrap();
        assert_eq!(admin.affected_rows(), 1, "{sql}");
    }
}

fn damage<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(PartitionError::Damaged { what }) => what,
        Err(error @ PartitionError::DamagedRow { .. }) => error.to_string(),
        other => panic!("not found to be damaged: {other:?}"),
    }
}

fn everything() -> PageRequest {
    PageRequest {
        from: Vector::new(),
        origins: Origins::AllBut(None),
        early: true,
        rows: true,
        entries_max: 10,
        bytes_max: 1 << 20,
    }
}

#[rstest]
#[case("UPDATE data SET value = x'00' WHERE id = 'k'")]
#[case("UPDATE data SET value = x'' WHERE id = 'k'")]
#[case("UPDATE data SET content_type = 'text/html' WHERE id = 'k'")]
#[case("UPDATE data SET version = version + 1 WHERE id = 'k'")]
#[case("UPDATE data SET version = -1 WHERE id = 'k'")]
#[case("UPDATE data SET origin = 2 WHERE id = 'k'")]
#[case("UPDATE data SET deleted = 1 WHERE id = 'k'")]
#[case("UPDATE data SET deleted = 7 WHERE id = 'k'")]
#[case("UPDATE data SET expires_at = 5 WHERE id = 'k'")]
#[case("UPDATE data SET checksum = checksum + 1 WHERE id = 'k'")]
fn a_changed_row_is_never_served(#[case] sql: &str) {
    let mut home = home();
    write(&mut home.connection, &[set("k", "v"), set("other", "v")]).unwrap();
    home.tamper(sql);
    for what in [
        damage(read(&mut home.connection, "k")),
        damage(home.connection.scan(None, 10, 1 << 20)),
        damage(home.connection.page(&everything())),
    ] {
        assert!(what.contains("Data:k"), "{what}");
    }
    assert_eq!(value(&mut home.connection, "other").unwrap().as_deref(), Some(&b"v"[..]));
    write(&mut home.connection, &[set("k", "new")]).unwrap();
    assert_eq!(value(&mut home.connection, "k").unwrap().as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_row_under_another_key_is_never_served() {
    let mut home = home();
    write(&mut home.connection, &[set("a", "v")]).unwrap();
    home.tamper("UPDATE data SET id = 'b'");
    assert!(damage(read(&mut home.connection, "b")).contains("Data:b"), "TALK-1");
}

#[rstest]
#[case("UPDATE clock SET epoch = 1 << 19")]
#[case("UPDATE clock SET seq = -1")]
#[case("UPDATE clock SET reseeding = 2")]
fn a_clock_that_cannot_be_is_damage(#[case] sql: &str) {
    let mut home = home();
    home.tamper(sql);
    damage(home.connection.status());
}

#[rstest]
#[case("UPDATE topology SET digest = digest + 1")]
#[case("UPDATE topology SET document = '{}'")]
#[case("DELETE FROM topology")]
fn an_identity_that_cannot_be_is_damage(#[case] sql: &str) {
    let mut home = home();
    home.tamper(sql);
    damage(home.connection.identity());
}

#[test]
fn rows_without_an_owner_are_not_taken_over() {
    let mut home = home();
    write(&mut home.connection, &[set("k", "v")]).unwrap();
    home.tamper("DELETE FROM clock");
    assert_eq!(home.connection.identity().unwrap(), None);
    let mut connection = home.engine.connect().unwrap();
    damage(connection.found(&identity()));
}

#[test]
fn another_programs_database_is_left_alone() {
    let server = Server::shared();
    let database = server.database();
    server.admin_of(&database).query_drop("CREATE TABLE theirs (x INT)").unwrap();
    let engine = server.engine(&database);
    damage(engine.connect().unwrap().identity());
    damage(engine.connect().unwrap().found(&identity()));
    let tables: Vec<String> = server.admin_of(&database).query("SHOW TABLES").unwrap();
    assert_eq!(tables, ["theirs"]);
}

#[test]
fn a_founding_that_broke_off_goes_on() {
    let server = Server::shared();
    let database = server.database();
    let schema = include_str!("../../database_definition.sql");
    let begun = &schema[..schema.find("CREATE TABLE IF NOT EXISTS `clock`").unwrap()];
    server.admin_of(&database).query_drop(begun).unwrap();
    let mut connection = server.engine(&database).connect().unwrap();
    assert_eq!(connection.identity().unwrap(), None);
    assert_eq!(connection.found(&identity()).unwrap(), identity());
}

#[test]
fn values_up_to_the_servers_limit_are_kept_and_larger_ones_are_refused_whole() {
    let mut home = home();
    // The server of the tests takes packets of 16 MiB.
    let packet = home.engine.settings().unwrap().max_allowed_packet;
    assert_eq!(packet, 16 << 20);
    for bytes in [0, 1, (1 << 20) + 1, 8 << 20, packet - (2 << 10)] {
        write(&mut home.connection, &[set("k", vec![7; bytes])]).unwrap();
        let read = value(&mut home.connection, "k").unwrap().unwrap();
        assert!(read.len() == bytes && read.iter().all(|byte| *byte == 7), "{bytes}");
    }
    for bytes in [packet, packet + 1, 2 * packet] {
        let writes = [set("small", "v"), set("k", vec![8; bytes])];
        let error = write(&mut home.connection, &writes).unwrap_err();
        assert_eq!(kind(&error), "engine", "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("max_allowed_packet"), "{cause}");
        assert_eq!(read(&mut home.connection, "small").unwrap(), None, "all or nothing");
    }
    let many: Vec<Write> = (0..20).map(|n| set(format!("m{n}"), vec![n; 3 << 20])).collect();
    write(&mut home.connection, &many).unwrap();
    let read = value(&mut home.connection, "m19").unwrap().unwrap();
    assert!(read.len() == 3 << 20 && read.iter().all(|byte| *byte == 19));
}

#[test]
fn what_the_file_says_is_what_the_server_makes() {
    let home = home();
    let file = include_str!("../../database_definition.sql");
    let mut admin = Server::shared().admin_of(&home.database);
    let made: BTreeSet<(String, String)> = admin
        .query(
            "SELECT table_name, column_name FROM information_schema.columns
             WHERE table_schema = DATABASE() AND column_comment <> ''",
        )
        .unwrap()
        .into_iter()
        .collect();
    let mut table = String::new();
    let mut said = BTreeSet::new();
    for line in file.lines() {
        let name = || line.split('`').nth(1).unwrap().to_owned();
        if line.starts_with("CREATE TABLE") {
            table = name();
        } else if line.starts_with("  `") {
            said.insert((table.clone(), name()));
        }
    }
    assert_eq!(made, said);
}

#[test]
fn the_server_tells_what_durability_rests_on() {
    let settings = home().engine.settings().unwrap();
    assert_eq!(settings.is_mariadb(), mysqld_root().is_none(), "{}", settings.version);
    assert_eq!((settings.flush_log_at_trx_commit, settings.sync_binlog), (1, None));
    assert!(settings.doublewrite && !settings.read_only);
    // As tests set it, to be fast: a partition on such a server is shown as relaxed.
    assert_eq!(settings.relaxed(), ["innodb_flush_method is nosync"]);
}

/// A clock that was turned back gives a version anew: its log entry stands, and stops it.
#[test]
fn no_version_is_given_twice_whoever_turns_the_clock_back() {
    for writes in [1, 40] {
        let mut home = home();
        let batch = |value: &str| -> Vec<Write> {
            (0..writes).map(|nth| set(format!("k{nth}"), value.to_owned())).collect()
        };
        write(&mut home.connection, &batch("first")).unwrap();
        home.tamper(&format!("UPDATE clock SET seq = seq - {writes}"));
        let error = write(&mut home.connection, &batch("second")).unwrap_err();
        assert_eq!(kind(&error), "engine", "VER-1: {error:?}");
        assert_eq!(value(&mut home.connection, "k0").unwrap().as_deref(), Some(&b"first"[..]));
    }
}

#[test]
fn a_partition_that_was_founded_anew_under_a_connection_is_written_to_as_what_it_is() {
    let mut home = home();
    write(&mut home.connection, &[set("k", "v")]).unwrap();
    home.tamper("UPDATE clock SET partition_id = 9");
    write(&mut home.connection, &[set("k", "w")]).unwrap();
    assert_eq!(read(&mut home.connection, "k").unwrap().unwrap().origin.0, 9);
}
