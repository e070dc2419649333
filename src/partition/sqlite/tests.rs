//! What needs a look inside the connection; what can be asked from outside is in
//! `tests/conformance`.

use std::collections::BTreeMap;

use super::*;
use crate::clock::Manual;
use crate::partition::{Identity, SCHEMA_VERSION};
use crate::record::{Body, Key, Record, Space};
use crate::topology::{Role, Topology};
use crate::version::{Epoch, PartitionId, Seq, SetId, Version};
use crate::write::Write;

struct Fixture {
    connection: SqliteConnection,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(Manual::at(0));
    let engine = Sqlite::new(directory.path().join("store.db"), clock).unwrap();
    let mut connection = engine.open().unwrap();
    let topology = Topology::found(&BTreeMap::from([("store".to_owned(), Role::Master)])).unwrap();
    let identity =
        Identity { set: SetId(1), partition: PartitionId(1), schema: SCHEMA_VERSION, topology };
    connection.found(&identity).unwrap();
    Fixture { connection, _directory: directory }
}

fn key(name: &'static str) -> Key {
    Key::stored(Space::Data, name)
}

fn body(value: Vec<u8>) -> Body {
    Body { value: value.into(), content_type: Default::default(), expires_at: None }
}

fn row(name: &'static str, seq: u64) -> Record {
    let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
    Record::new(key(name), version, PartitionId(1), Some(body(vec![1])))
}

fn setting(connection: &Connection, name: &str) -> i64 {
    connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

#[test]
fn the_settings_that_durability_rests_on_are_in_effect() {
    let fixture = fixture();
    for connection in [&fixture.connection, &reopened(&fixture)] {
        assert_eq!(setting(&connection.connection, "synchronous"), 2);
        let mode: String = connection
            .connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(setting(&connection.connection, "busy_timeout"), 4_500);
    }
}

fn reopened(fixture: &Fixture) -> SqliteConnection {
    let clock = Arc::clone(&fixture.connection.clock);
    Sqlite::new(&fixture.connection.path, clock).unwrap().open().unwrap()
}

#[test]
fn a_new_file_has_small_pages_and_an_older_one_is_used_as_it_is() {
    let fixture = fixture();
    let copied = |connection: &Connection| {
        setting(connection, "page_size") * setting(connection, "wal_autocheckpoint")
    };
    assert_eq!(setting(&fixture.connection.connection, "page_size"), PAGE_BYTES);
    assert_eq!(copied(&fixture.connection.connection), LOG_BYTES_COPIED);
    let older = fixture.connection.path.with_extension("older");
    let made = Connection::open(&older).unwrap();
    made.execute_batch("PRAGMA page_size = 4096; CREATE TABLE t (x)").unwrap();
    drop(made);
    let clock = Arc::clone(&fixture.connection.clock);
    let connection = Sqlite::new(&older, clock).unwrap().open().unwrap().connection;
    assert_eq!(setting(&connection, "page_size"), 4096);
    assert_eq!(copied(&connection), LOG_BYTES_COPIED);
}

#[test]
fn a_connection_that_writes_keeps_more_pages() {
    let fixture = fixture();
    assert_eq!(setting(&fixture.connection.connection, "cache_size"), -WRITING_CACHE_KIB);
    assert_eq!(setting(&reopened(&fixture).connection, "cache_size"), -CACHE_KIB);
}

#[test]
fn what_stays_relaxed_is_refused() {
    let connection = Connection::open_in_memory().unwrap();
    let refused = configure(&connection);
    let Err(PartitionError::Engine { statement: "journal_mode", source }) = refused else {
        panic!("a database in memory has no log to flush: {refused:?}")
    };
    assert!(source.to_string().contains("memory"), "{source}");
}

#[test]
fn a_full_file_takes_nothing_and_heals() {
    let Fixture { mut connection, _directory } = fixture();
    let before = connection.status().unwrap();
    let pages = setting(&connection.connection, "page_count");
    connection.connection.pragma_update(None, "max_page_count", pages + 1).unwrap();
    let write = [Write::set(key("k"), body(vec![7; 100_000]))];
    let full = connection.commit(Epoch::FIRST, &write);
    assert!(matches!(full, Err(PartitionError::Full(_))), "{full:?}");
    assert_eq!(connection.status().unwrap(), before);
    connection.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    connection.commit(Epoch::FIRST, &write).unwrap();
}

#[test]
fn who_may_only_read_is_told_so() {
    let Fixture { mut connection, _directory } = fixture();
    let write = [Write::set(key("k"), body(vec![7; 10]))];
    connection.connection.pragma_update(None, "query_only", 1).unwrap();
    let refused = connection.commit(Epoch::FIRST, &write).unwrap_err();
    assert!(matches!(&refused, PartitionError::ReadOnly(_)), "{refused:?}");
    assert!(refused.is_without_effect() && refused.lost_connection());
    connection.connection.pragma_update(None, "query_only", 0).unwrap();
    connection.commit(Epoch::FIRST, &write).unwrap();
}

#[test]
fn an_error_takes_back_what_was_written_before_it() {
    let Fixture { mut connection, _directory } = fixture();
    let result: Result<()> = connection.writing(|tables| {
        tables.put_rows(&[&row("k", 1)])?;
        Err(PartitionError::Damaged { what: "planted".into() })
    });
    assert!(result.is_err());
    let standing = connection.reading(|tables| tables.versions(&[&key("k")])).unwrap();
    assert!(standing.is_empty());
}

#[test]
fn a_panic_in_a_transaction_takes_back_what_it_wrote() {
    let Fixture { mut connection, _directory } = fixture();
    let torn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        connection.writing::<()>(|tables| {
            tables.put_rows(&[&row("k", 1)])?;
            panic!("planted")
        })
    }));
    assert!(torn.is_err());
    let standing = connection.reading(|tables| tables.versions(&[&key("k")])).unwrap();
    assert!(standing.is_empty());
    connection.writing(|tables| tables.put_rows(&[&row("k", 2)])).unwrap();
}

#[test]
fn a_connection_for_point_reads_keeps_more_in_memory_and_never_less() {
    let fixture = fixture();
    let mut connection = reopened(&fixture);
    let kept = |connection: &SqliteConnection| -> i64 {
        let told = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        -connection.connection.pragma_query_value(None, "cache_size", told).unwrap()
    };
    assert_eq!(kept(&connection), CACHE_KIB);
    Partition::keep_points(&mut connection, 64 << 20).unwrap();
    assert_eq!(kept(&connection), 64 << 10);
    Partition::keep_points(&mut connection, 1).unwrap();
    assert_eq!(kept(&connection), CACHE_KIB);
}
