//! Keys and values are bytes, whatever they look like.

use std::collections::BTreeSet;

use datastore::partition::{Found, Get};
use datastore::record::{Body, KEY_BYTES_WIDTH, Key};
use datastore::version::Epoch;
use datastore::write::Write;
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Kind, body, key, set, system_key};
use crate::engines;

/// Keys that engines like to mix up: by case, by padding, by encoding, by what ends a string.
fn odd_keys() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 20] = [
        b"a",
        b"A",
        b"a ",
        b"a  ",
        b" a",
        b"a\0",
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xff",
        b"\xfe",
        b"\xc3\x28",
        b"\xe4",
        "ä".as_bytes(),
        "a\u{308}".as_bytes(),
        "🦀".as_bytes(),
        b"%",
        b"_",
        b"'\"\\;--",
        b"1",
    ];
    let mut keys: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    keys.extend([vec![b'k'; KEY_BYTES_WIDTH], vec![b'k'; KEY_BYTES_WIDTH - 1]]);
    keys.extend([vec![0xff; KEY_BYTES_WIDTH], vec![0; KEY_BYTES_WIDTH], b"01".to_vec()]);
    keys
}

#[apply(engines)]
fn no_two_keys_are_one(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let keys = odd_keys();
    let writes: Vec<Write> =
        keys.iter().map(|bytes| set(bytes.clone(), [b"of ", bytes.as_slice()].concat())).collect();
    home.write(&writes);
    for bytes in &keys {
        let value = home.value(bytes.clone());
        assert_eq!(value.as_deref(), Some([b"of ", bytes.as_slice()].concat().as_slice()));
    }
    let listed: Vec<Vec<u8>> = home.rows().iter().map(|row| row.key.bytes().to_vec()).collect();
    let ordered: Vec<Vec<u8>> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(listed, ordered, "byte order");
}

#[apply(engines)]
fn a_key_above_the_limit_is_no_key(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let longest = Key::data(vec![b'k'; KEY_BYTES_WIDTH], KEY_BYTES_WIDTH).unwrap();
    assert!(Key::data(vec![b'k'; KEY_BYTES_WIDTH + 1], KEY_BYTES_WIDTH).is_err());
    home.write(&[Write::set(longest.clone(), body("v"))]);
    assert!(home.row(&longest).is_some());
}

#[apply(engines)]
fn keys_travel_in_logs_as_they_are(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(1), bed.partition(2));
    let writes: Vec<Write> =
        odd_keys().into_iter().map(|bytes| set(bytes.clone(), bytes)).collect();
    source.write(&writes);
    target.pull(&mut source);
    assert_eq!(target.rows(), source.rows());
    assert_eq!(target.log(), source.log());
}

#[apply(engines)]
fn the_two_spaces_do_not_meet(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "data"), Write::set(system_key("k"), body("system"))]);
    assert_eq!(home.value("k").as_deref(), Some(&b"data"[..]));
    let other = home.row(&system_key("k")).and_then(|row| row.body);
    assert_eq!(other, Some(body("system")));
    home.write(&[Write::delete(system_key("k"))]);
    assert_eq!(home.value("k").as_deref(), Some(&b"data"[..]));
    assert_eq!(home.rows().len(), 2);
}

#[apply(engines)]
fn values_come_back_byte_for_byte(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let every_byte: Vec<u8> = (0..=255).collect();
    let values = [
        Vec::new(),
        b"\0".to_vec(),
        b"'; DROP TABLE data; --".to_vec(),
        every_byte.repeat(17),
        every_byte.repeat(256),
        vec![0xab; 3 << 20],
    ];
    for value in values {
        home.write(&[set("k", value.clone())]);
        assert_eq!(home.value("k").unwrap(), value, "{} bytes", value.len());
    }
}

#[apply(engines)]
fn what_comes_with_a_value_comes_back(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let long = format!("text/plain; x=\"{}\"", "ü".repeat(110));
    for content_type in ["", "text/plain", "text/plain ", "Text/Plain", long.as_str()] {
        for expires_at in [None, Some(i64::MAX - 1), Some(1), Some(-1)] {
            let body = Body { value: "v".into(), content_type: content_type.into(), expires_at };
            home.write(&[Write::set(key("k"), body.clone())]);
            assert_eq!(home.row(&key("k")).unwrap().body, Some(body));
        }
    }
}

#[apply(engines)]
fn a_large_value_is_left_behind_with_its_size(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("empty", ""), set("ten", "0123456789"), set("large", vec![1; 1 << 20])]);
    let keys = [key("ten"), key("none"), key("large"), key("empty")];
    let mut sizes = |inline_bytes_max| -> Vec<Option<Result<usize, usize>>> {
        let fetched = home.connection.get(&Get { keys: &keys, inline_bytes_max }).unwrap();
        let size = |found: Found| match found {
            Found::Row(row) => Ok(row.body.unwrap().value.len()),
            Found::Large { bytes } => Err(bytes),
            Found::Damaged => panic!("damaged"),
        };
        fetched.rows.into_iter().map(|row| row.map(size)).collect()
    };
    assert_eq!(sizes(9), [Some(Err(10)), None, Some(Err(1 << 20)), Some(Ok(0))]);
    assert_eq!(sizes(10), [Some(Ok(10)), None, Some(Err(1 << 20)), Some(Ok(0))]);
    assert_eq!(sizes(0), [Some(Err(10)), None, Some(Err(1 << 20)), Some(Ok(0))]);
    assert_eq!(sizes(1 << 20), [Some(Ok(10)), None, Some(Ok(1 << 20)), Some(Ok(0))]);
}

#[apply(engines)]
fn a_tombstone_is_never_large(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", vec![1; 1000])]);
    let deleted = home.connection.commit(Epoch::FIRST, &[Write::delete(key("k"))]).unwrap();
    let keys = [key("k")];
    let fetched = home.connection.get(&Get { keys: &keys, inline_bytes_max: 0 }).unwrap();
    match fetched.rows[0].as_ref().unwrap() {
        Found::Row(row) => {
            assert!(row.is_tombstone());
            assert_eq!(Some(row.version), deleted[0].version());
        }
        Found::Large { bytes } => panic!("{bytes}"),
        Found::Damaged => panic!("damaged"),
    }
}
