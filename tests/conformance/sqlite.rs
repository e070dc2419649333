//! What is SQLite's own: the file, its settings, damage, locks.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datastore::clock::Manual;
use datastore::partition::engine::Engine;
use datastore::partition::sqlite::{PathError, Sqlite};
use datastore::partition::{Found, Get, PartitionError, Result};
use datastore::record::Key;
use datastore::version::Epoch;
use rstest::rstest;
use rusqlite::Connection;

use crate::bed::{Bed, Home, Kind, ask, identity, key, set, system_key};

fn bed() -> (Bed, Home, PathBuf) {
    let bed = Bed::new(Kind::Sqlite);
    let home = bed.partition(1);
    let path = bed.directory.path().join("store_1.db");
    (bed, home, path)
}

fn engine(path: &Path) -> Sqlite {
    Sqlite::new(path, Arc::new(Manual::at(0))).unwrap()
}

/// Runs a statement behind the partition's back.
fn tamper(path: &Path, sql: &str) {
    assert_eq!(Connection::open(path).unwrap().execute(sql, ()).unwrap(), 1, "{sql}");
}

fn damage<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(PartitionError::Damaged { what }) => what,
        Err(error @ PartitionError::DamagedRow { .. }) => error.to_string(),
        other => panic!("not found to be damaged: {other:?}"),
    }
}

fn get(home: &mut Home, keys: &[Key]) -> Result<datastore::partition::Fetched> {
    let fetched = home.connection.get(&Get { keys, inline_bytes_max: 1 << 20 })?;
    match fetched.rows.iter().position(|found| *found == Some(Found::Damaged)) {
        Some(at) => {
            Err(PartitionError::DamagedRow { key: keys[at].clone(), what: "as told".into() })
        }
        None => Ok(fetched),
    }
}

#[test]
fn files_are_the_owners_only_and_in_the_log_mode() {
    let (bed, mut home, path) = bed();
    home.write(&[set("k", "v")]);
    let directory = bed.directory.path().join("new/deep");
    engine(&directory.join("store.db")).connect().unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(Path::new(&format!("{}{suffix}", path.display()))), 0o600, "{suffix}");
    }
    assert_eq!(mode(&directory), 0o700);
    let raw = Connection::open(&path).unwrap();
    let journal: String = raw.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
}

#[rstest]
#[case("", PathError::Empty)]
#[case(":memory:", PathError::InMemory)]
#[case("file:store.db", PathError::Uri)]
#[case("FILE:store.db?mode=memory", PathError::Uri)]
fn a_path_that_is_no_path_is_refused(#[case] path: &str, #[case] error: PathError) {
    let refused = Sqlite::new(path, Arc::new(Manual::at(0))).err();
    assert_eq!(refused, Some(error));
}

#[test]
fn odd_paths_are_only_paths() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a b.db", "a?mode=memory", "ü%20#.db", "file:x"] {
        let path = directory.path().join(name);
        engine(&path).connect().unwrap().found(&identity(1)).unwrap();
        assert!(path.metadata().unwrap().len() > 0, "{name}");
    }
}

#[test]
fn one_file_has_one_locator_however_it_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let detour = directory.path().join(".").join("..").join(directory.path().file_name().unwrap());
    let absent = engine(&path).locator();
    assert_eq!(absent, engine(&detour.join("store.db")).locator());
    assert_ne!(absent, engine(&directory.path().join("other.db")).locator());
    engine(&path).connect().unwrap();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let hard = directory.path().join("hard.db");
    std::fs::hard_link(&path, &hard).unwrap();
    for other in [&link, &hard, &detour.join("store.db")] {
        assert_eq!(engine(&path).locator(), engine(other).locator(), "{}", other.display());
    }
}

#[rstest]
#[case("UPDATE data SET value = x'00' WHERE id = x'6bff'")]
#[case("UPDATE data SET value = x'' WHERE id = x'6bff'")]
#[case("UPDATE data SET content_type = 'text/html' WHERE id = x'6bff'")]
#[case("UPDATE data SET version = version + 1 WHERE id = x'6bff'")]
#[case("UPDATE data SET version = -1 WHERE id = x'6bff'")]
#[case("UPDATE data SET origin = 2 WHERE id = x'6bff'")]
#[case("UPDATE data SET origin = 70000 WHERE id = x'6bff'")]
#[case("UPDATE data SET deleted = 1 WHERE id = x'6bff'")]
#[case("UPDATE data SET deleted = 7 WHERE id = x'6bff'")]
#[case("UPDATE data SET expires_at = 5 WHERE id = x'6bff'")]
#[case("UPDATE data SET checksum = checksum + 1 WHERE id = x'6bff'")]
fn a_changed_row_is_never_served(#[case] sql: &str) {
    let (_bed, mut home, path) = bed();
    home.write(&[set(&b"k\xff"[..], "v"), set("other", "v")]);
    tamper(&path, sql);
    let name = r"Data:k\xff";
    let what = damage(get(&mut home, &[key(&b"k\xff"[..])]));
    assert!(what.contains(name), "{what}");
    for what in [
        damage(home.connection.page(&ask(Default::default()))),
        damage(home.connection.scan(None, 10, 1 << 20)),
    ] {
        assert!(what.contains(name), "{what}");
    }
    assert_eq!(home.value("other").as_deref(), Some(&b"v"[..]), "the rest is served");
    home.write(&[set(&b"k\xff"[..], "new")]);
    assert_eq!(home.value(&b"k\xff"[..]).as_deref(), Some(&b"new"[..]), "a new value heals it");
}

#[test]
fn a_row_under_another_key_is_never_served() {
    let (_bed, mut home, path) = bed();
    home.write(&[set("a", "v")]);
    tamper(&path, "UPDATE data SET id = x'62'");
    assert!(damage(get(&mut home, &[key("b")])).contains("Data:b"), "TALK-1");
}

#[test]
fn a_changed_row_of_the_service_is_named_as_such() {
    let (_bed, mut home, path) = bed();
    home.write(&[datastore::write::Write::set(system_key("s"), crate::bed::body("v"))]);
    tamper(&path, "UPDATE system SET value = x'00'");
    assert!(damage(get(&mut home, &[system_key("s")])).contains("System:s"));
}

#[rstest]
#[case("UPDATE clock SET epoch = 1 << 19")]
#[case("UPDATE clock SET seq = -1")]
#[case("UPDATE clock SET reseeding = 2")]
fn a_clock_that_cannot_be_is_damage(#[case] sql: &str) {
    let (_bed, mut home, path) = bed();
    tamper(&path, sql);
    damage(home.connection.status());
}

#[rstest]
#[case("UPDATE topology SET digest = digest + 1")]
#[case("UPDATE topology SET document = '{}'")]
#[case("DELETE FROM topology")]
#[case("UPDATE clock SET set_id = x'00'")]
fn an_identity_that_cannot_be_is_damage(#[case] sql: &str) {
    let (_bed, mut home, path) = bed();
    tamper(&path, sql);
    damage(home.connection.identity());
}

#[test]
fn what_is_no_database_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    std::fs::write(&path, "not a database at all, but long enough to have a header".repeat(100))
        .unwrap();
    let result = engine(&path).connect().map(drop);
    assert!(matches!(result, Err(PartitionError::Damaged { .. })), "{result:?}");
}

#[test]
fn another_programs_database_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    Connection::open(&path).unwrap().execute("CREATE TABLE theirs (x)", ()).unwrap();
    let mut home = engine(&path).connect().unwrap();
    damage(home.identity());
    damage(home.found(&identity(1)));
    let raw = Connection::open(&path).unwrap();
    let tables: i64 =
        raw.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_schema_loaded_by_hand_is_empty_until_founded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let schema = include_str!("../../src/partition/sqlite/schema.sql");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    let mut home = engine(&path).connect().unwrap();
    assert_eq!(home.identity().unwrap(), None);
    assert_eq!(crate::bed::refusal(home.status()), datastore::partition::Refusal::Empty);
    assert_eq!(home.found(&identity(1)).unwrap(), identity(1));
}

#[test]
fn flipped_bytes_are_told_or_harmless_never_served() {
    let (_bed, mut home, path) = bed();
    let rows: Vec<(String, String)> =
        (0..300).map(|n| (format!("key {n:03}"), format!("value of key {n:03}"))).collect();
    home.write(&rows.iter().map(|(k, v)| set(k.clone(), v.clone())).collect::<Vec<_>>());
    drop(home);
    let whole = std::fs::read(&path).unwrap();
    let copy = path.with_file_name("copy.db");
    for place in (100..whole.len()).step_by(1_009) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x15;
        std::fs::write(&copy, &bytes).unwrap();
        let Ok(mut connection) = engine(&copy).connect() else { continue };
        for (name, value) in &rows {
            let keys = [key(name.clone())];
            let get = Get { keys: &keys, inline_bytes_max: 1 << 20 };
            let Ok(fetched) = connection.get(&get) else { continue };
            if let Some(datastore::partition::Found::Row(row)) = &fetched.rows[0] {
                let served = row.body.as_ref().map(|body| body.value.as_ref());
                assert_eq!(served, Some(value.as_bytes()), "byte {place}");
            }
        }
    }
}

#[test]
fn a_file_that_was_removed_or_replaced_takes_no_more_writes() {
    let (_bed, mut home, path) = bed();
    home.write(&[set("k", "v")]);
    let aside = path.with_file_name("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    let lost = |result: Result<_>| match result {
        Err(error @ PartitionError::Unreachable(_)) => assert!(!error.keeps_connection()),
        other => panic!("{other:?}"),
    };
    lost(home.connection.commit(Epoch::FIRST, &[set("k", "w")]));
    std::fs::write(&path, "").unwrap();
    lost(home.connection.commit(Epoch::FIRST, &[set("k", "w")]));
    std::fs::rename(&aside, &path).unwrap();
    home.write(&[set("k", "x")]);
}

#[test]
fn a_directory_that_cannot_be_made_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let result = engine(&file.join("store.db")).connect().map(drop);
    assert!(matches!(result, Err(PartitionError::Unreachable(_))), "{result:?}");
}

#[test]
fn who_waits_too_long_for_another_process_is_told_and_can_go_on() {
    let (_bed, mut home, path) = bed();
    home.write(&[set("k", "v")]);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = home.connection.commit(Epoch::FIRST, &[set("k", "w")]);
    assert!(matches!(busy, Err(PartitionError::Busy(_))), "{busy:?}");
    assert_eq!(home.value("k").as_deref(), Some(&b"v"[..]), "readers do not wait");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.write(&[set("k", "w")]).seq().number(), 2, "the connection is as good as ever");
}
