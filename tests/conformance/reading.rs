//! Point reads, lists, scans and snapshots.

use bytes::Bytes;
use datastore::partition::{Listing, Range};
use datastore::record::{Body, Key, Record, Space};
use datastore::version::{Epoch, PartitionId};
use datastore::write::Write;
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Home, Kind, NOW_MS, ask, body, delete, key, set, system_key};
use crate::engines;

fn range(prefix: impl Into<Bytes>) -> Range {
    Range {
        space: Space::Data,
        prefix: prefix.into(),
        after: None,
        keys_max: 1_000,
        scanned_max: 10_000,
        value_bytes_max: None,
    }
}

fn keys(listing: &Listing) -> Vec<&[u8]> {
    listing.rows.iter().map(|row| row.key.bytes().as_ref()).collect()
}

fn list(home: &mut Home, range: &Range) -> Listing {
    home.connection.list(range).unwrap()
}

/// Reads page after page to the end.
fn list_all(home: &mut Home, range: &Range) -> Vec<Bytes> {
    let mut range = range.clone();
    let mut all = Vec::new();
    loop {
        let listing = list(home, &range);
        all.extend(listing.rows.iter().map(|row| row.key.bytes().clone()));
        match listing.next {
            Some(next) => {
                assert!(Some(&next) > range.after.as_ref(), "every page moves on");
                range.after = Some(next);
            }
            None => return all,
        }
    }
}

fn filled(kind: Kind, names: &[&'static [u8]]) -> (Bed, Home) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&names.iter().map(|name| set(*name, *name)).collect::<Vec<_>>());
    (bed, home)
}

#[apply(engines)]
fn a_list_keeps_to_its_space(kind: Kind) {
    let (_bed, mut home) = filled(kind, &[b"a", b"b"]);
    let records = [system_key("a"), system_key("c")];
    home.write(&records.map(|key| Write::set(key, body("record"))));
    assert_eq!(keys(&list(&mut home, &range(""))), [b"a", b"b"]);
    let system = Range { space: Space::System, ..range("") };
    assert_eq!(keys(&list(&mut home, &system)), [b"a", b"c"]);
}

#[apply(engines)]
fn a_point_read_answers_in_the_order_of_its_keys(kind: Kind) {
    let (_bed, mut home) = filled(kind, &[b"a", b"b", b"c"]);
    home.write(&[delete("b")]);
    let fetched = home.fetch(&[key("c"), key("x"), key("b"), key("a"), system_key("a")]);
    let present: Vec<bool> = fetched.rows.iter().map(Option::is_some).collect();
    assert_eq!(present, [true, false, true, true, false]);
    assert_eq!(fetched.now_ms, NOW_MS);
    assert!(home.fetch(&[]).rows.is_empty());
}

#[apply(engines)]
fn a_list_is_in_byte_order_and_within_its_prefix(kind: Kind) {
    let names: &[&[u8]] = &[b"b", b"a/2", b"a/10", b"a", b"a/", b"A/1", b"a0", b"\xff", b"a/\xff"];
    let (_bed, mut home) = filled(kind, names);
    let all = list(&mut home, &range(""));
    let ordered: [&[u8]; 9] =
        [b"A/1", b"a", b"a/", b"a/10", b"a/2", b"a/\xff", b"a0", b"b", b"\xff"];
    assert_eq!(keys(&all), ordered);
    assert_eq!(all.next, None);
    let within: [&[u8]; 4] = [b"a/", b"a/10", b"a/2", b"a/\xff"];
    assert_eq!(keys(&list(&mut home, &range("a/"))), within);
    assert_eq!(keys(&list(&mut home, &range("zzz"))), [&[0u8; 0]; 0]);
}

#[apply(engines)]
fn a_prefix_may_end_in_the_greatest_byte(kind: Kind) {
    let names: &[&[u8]] = &[
        b"a",
        b"a\xfe",
        b"a\xff",
        b"a\xff\0",
        b"a\xff\xff",
        b"b",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff1",
    ];
    let (_bed, mut home) = filled(kind, names);
    let within: [&[u8]; 3] = [b"a\xff", b"a\xff\0", b"a\xff\xff"];
    assert_eq!(keys(&list(&mut home, &range(&b"a\xff"[..]))), within);
    let within: [&[u8]; 3] = [b"\xff", b"\xff\xff", b"\xff\xff1"];
    assert_eq!(keys(&list(&mut home, &range(&b"\xff"[..]))), within);
    assert_eq!(keys(&list(&mut home, &range(&b"\xff\xff"[..]))), within[1..]);
    assert_eq!(keys(&list(&mut home, &range(&b"\xff\xff\xff"[..]))), [&[0u8; 0]; 0]);
}

#[apply(engines)]
fn after_is_exclusive_wherever_it_lies(kind: Kind) {
    let (_bed, mut home) = filled(kind, &[b"a", b"p", b"p1", b"p1\0", b"p2", b"q"]);
    for (after, expected) in [
        (&b""[..], vec!["p", "p1", "p1\0", "p2"]),
        (b"a", vec!["p", "p1", "p1\0", "p2"]),
        (b"p", vec!["p1", "p1\0", "p2"]),
        (b"p1", vec!["p1\0", "p2"]),
        (b"p1\0", vec!["p2"]),
        (b"p1zz", vec!["p2"]),
        (b"p2", vec![]),
        (b"q", vec![]),
        (b"\xff\xff", vec![]),
    ] {
        let asked = Range { after: Some(after.to_vec().into()), ..range("p") };
        let listing = list(&mut home, &asked);
        let expected: Vec<&[u8]> = expected.into_iter().map(str::as_bytes).collect();
        assert_eq!(keys(&listing), expected, "after {}", after.escape_ascii());
        assert_eq!(listing.next, None);
    }
}

#[apply(engines)]
fn a_list_hides_what_is_deleted_expired_or_of_the_service(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let expiring = |at| Body { expires_at: Some(at), ..body("v") };
    home.write(&[
        set("dead", "v"),
        Write::set(key("expired"), expiring(NOW_MS)),
        Write::set(key("later"), expiring(NOW_MS + 5)),
        set("live", "v"),
        Write::set(system_key("service"), body("v")),
    ]);
    home.write(&[delete("dead")]);
    let visible: [&[u8]; 2] = [b"later", b"live"];
    assert_eq!(keys(&list(&mut home, &range(""))), visible);
    bed.clock.advance_ms(5);
    assert_eq!(keys(&list(&mut home, &range(""))), visible[1..]);
}

#[apply(engines)]
fn pages_of_a_list_join_without_gap_or_overlap(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let names: Vec<Bytes> = (0..700u32).map(|n| format!("k{n:04}").into()).collect();
    home.write(&names.iter().map(|name| set(name.clone(), "v")).collect::<Vec<_>>());
    let dead: Vec<Write> = names[10..300].iter().map(|name| delete(name.clone())).collect();
    home.write(&dead);
    let alive: Vec<Bytes> = [&names[..10], &names[300..]].concat();
    for (keys_max, scanned_max) in [(1_000, 10_000), (7, 10_000), (256, 256), (3, 10), (1, 1)] {
        let asked = Range { keys_max, scanned_max, ..range("k") };
        assert_eq!(list_all(&mut home, &asked), alive, "{keys_max} {scanned_max}");
        let first = list(&mut home, &asked);
        assert!(first.rows.len() <= keys_max);
    }
    let exact = Range { keys_max: alive.len(), ..range("k") };
    assert_eq!(list(&mut home, &exact).next, None, "a full last page is the last page");
}

#[apply(engines)]
fn a_list_looks_at_so_many_rows_and_no_more(kind: Kind) {
    let (_bed, mut home) = filled(kind, &[b"a", b"b", b"c", b"d"]);
    home.write(&[delete("a"), delete("b")]);
    let asked = Range { scanned_max: 2, ..range("") };
    let listing = list(&mut home, &asked);
    assert!(listing.rows.is_empty());
    assert_eq!(listing.next.as_deref(), Some(&b"b"[..]), "tombstones count, and are passed over");
    let listing = list(&mut home, &Range { after: listing.next, ..asked });
    assert_eq!(keys(&listing), [b"c", b"d"]);
}

#[apply(engines)]
fn values_are_listed_only_when_asked_for_and_up_to_a_size(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("a", vec![1; 400]), set("b", vec![2; 400]), set("c", vec![3; 5_000])]);
    let bare = list(&mut home, &range(""));
    assert!(bare.rows.iter().all(|row| row.body.as_ref().unwrap().value.is_empty()));
    assert_eq!(bare.rows[0].body.as_ref().unwrap().content_type.as_str(), "text/plain");
    assert_eq!(bare.rows[0].version, home.row(&key("a")).unwrap().version);
    let full = list(&mut home, &Range { value_bytes_max: Some(1 << 20), ..range("") });
    let sizes: Vec<usize> =
        full.rows.iter().map(|row| row.body.as_ref().unwrap().value.len()).collect();
    assert_eq!(sizes, [400, 400, 5_000]);
    let small = Range { value_bytes_max: Some(1_000), ..range("") };
    let cut = list(&mut home, &small);
    assert_eq!(keys(&cut), [b"a", b"b"]);
    assert_eq!(cut.next.as_deref(), Some(&b"b"[..]));
    let alone = list(&mut home, &Range { after: cut.next, ..small });
    assert_eq!(keys(&alone), [b"c"], "the first row comes, however large");
}

/// Large values come one at a time; to whoever asks that makes no difference.
#[apply(engines)]
fn values_of_every_size_are_listed_and_scanned(kind: Kind) {
    const LARGE: usize = 64 << 10;
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    for (n, bytes) in (0u8..).zip([LARGE + 1, 5, LARGE, 200_000, 0, 90_000, 7, 150_000]) {
        home.write(&[set(vec![b'k', n], vec![n; bytes])]);
    }
    let expiring = Body { expires_at: Some(NOW_MS), ..body(vec![9; 300_000]) };
    home.write(&[Write::set(key(&b"k\x02\xff"[..]), expiring), delete(vec![b'k', 4])]);
    let whole = home.rows();
    let visible: Vec<Record> =
        whole.iter().filter(|row| row.visible(NOW_MS).is_some()).cloned().collect();
    assert_eq!((whole.len(), visible.len()), (9, 7));
    for bytes_max in [1, 100_000, 250_000, 1 << 20] {
        let mut asked = Range { value_bytes_max: Some(bytes_max), ..range("k") };
        let mut listed = Vec::new();
        loop {
            let page = list(&mut home, &asked);
            let weight: usize = page.rows.iter().map(Record::weight).sum();
            assert!(page.rows.len() <= 1 || weight <= bytes_max, "BOUND-1: {weight}");
            listed.extend(page.rows);
            let Some(next) = page.next else { break };
            assert!(Some(&next) > asked.after.as_ref(), "every page moves on");
            asked.after = Some(next);
        }
        assert_eq!(listed, visible, "{bytes_max}");
        let (mut scanned, mut after) = (Vec::new(), None);
        loop {
            let chunk = home.connection.scan(after.as_ref(), 100, bytes_max).unwrap();
            after = chunk.rows.last().map(|row| row.key.clone());
            scanned.extend(chunk.rows);
            if !chunk.more {
                break;
            }
        }
        assert_eq!(scanned, whole, "{bytes_max}");
    }
}

#[apply(engines)]
fn a_scan_brings_everything_in_order_by_chunks(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    for n in 0..30u8 {
        home.write(&[set(vec![n], vec![n; 10]), Write::set(system_key(vec![n]), body("s"))]);
    }
    home.write(&[delete(vec![7])]);
    let whole = home.rows();
    assert_eq!(whole.len(), 60);
    assert!(whole.is_sorted_by(|a, b| a.key < b.key));
    for (rows_max, bytes_max) in [(1, 1 << 20), (7, 1 << 20), (60, 1 << 20), (100, 1), (100, 400)] {
        let mut after: Option<Key> = None;
        let mut rows = Vec::new();
        loop {
            let chunk = home.connection.scan(after.as_ref(), rows_max, bytes_max).unwrap();
            assert!(chunk.rows.len() <= rows_max);
            assert_eq!(chunk.source.partition, PartitionId(1));
            after = chunk.rows.last().map(|row| row.key.clone()).or(after);
            rows.extend(chunk.rows);
            if !chunk.more {
                break;
            }
        }
        assert_eq!(rows, whole, "{rows_max} {bytes_max}");
    }
    let last = Key::stored(Space::System, vec![29]);
    assert!(home.connection.scan(Some(&last), 1, 1).unwrap().rows.is_empty());
}

/// Pairs of keys are always written together: whoever reads sees both or neither, and the vector
/// that belongs to them.
#[apply(engines)]
fn whoever_reads_sees_one_snapshot(kind: Kind) {
    const ROUNDS: u32 = 100;
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("left", "0"), set("right", "0")]);
    let mut writer = home.engine.connect().unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for round in 1..=ROUNDS {
                let pair = [set("left", round.to_string()), set("right", round.to_string())];
                writer.commit(Epoch::FIRST, &pair).unwrap();
            }
        });
        let mut done = false;
        while !done {
            done = writing.is_finished();
            let fetched = home.fetch(&[key("left"), key("right")]);
            let values: Vec<String> = fetched.rows.iter().map(|row| format!("{row:?}")).collect();
            let value = |text: &str| text.rsplit("\"").nth(1).map(str::to_owned);
            assert_eq!(value(&values[0]), value(&values[1]));
            let page = home.page(Default::default());
            let own = page.source.vector.get(PartitionId(1));
            assert_eq!(own.seq().number() % 2, 0);
            assert_eq!(page.entries.last().map(|entry| entry.version), Some(own));
            assert_eq!(page.rows.iter().map(|row| row.version).max(), Some(own));
            assert_eq!(page.entries.len() as u64, own.seq().number(), "the log has no gap");
        }
    });
    assert_eq!(home.value("left").unwrap(), ROUNDS.to_string());
    assert!(!home.connection.page(&ask(Default::default())).unwrap().cut);
}
