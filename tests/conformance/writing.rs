//! Group commits: versions, conditions, the fence, and that a refusal changes nothing.

use datastore::merge::Patch;
use datastore::partition::{Entry, Refusal};
use datastore::record::Body;
use datastore::version::{Epoch, PartitionId, Version};
use datastore::write::{Change, Condition, Expected, Outcome, Write};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Home, Kind, NOW_MS, body, delete, epoch, key, refusal, set, version};
use crate::engines;

fn update(name: &'static str, value: &'static str) -> Write {
    Write::new(key(name), Change::Update(body(value)))
}

fn if_match(write: Write, expected: Expected) -> Write {
    Write { condition: Condition { if_match: Some(expected), if_none_match: None }, ..write }
}

fn if_none_match(write: Write, expected: Expected) -> Write {
    Write { condition: Condition { if_match: None, if_none_match: Some(expected) }, ..write }
}

fn tell(write: Write) -> Write {
    Write { tell_created: true, ..write }
}

fn commit(home: &mut Home, write: Write) -> Outcome {
    home.connection.commit(Epoch::FIRST, &[write]).unwrap().remove(0)
}

#[apply(engines)]
fn versions_rise_by_one_in_the_order_of_writes(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let outcomes = home
        .connection
        .commit(Epoch::FIRST, &[set("b", "1"), set("a", "2"), set("b", "3"), delete("c")])
        .unwrap();
    let written = |seq| Outcome::Written { version: version(1, seq), created: None, body: None };
    assert_eq!(outcomes, [written(1), written(2), written(3), Outcome::Absent]);
    // Of a key the batch stores the last row, and an entry for each write: whoever's log covers the
    // first has to have the last. A number that was not used is a gap.
    let log: Vec<_> = home.log().into_iter().map(|entry| (entry.version, entry.key)).collect();
    let expected = [(1, "b"), (2, "a"), (3, "b")].map(|(seq, name)| (version(1, seq), key(name)));
    assert_eq!(log, expected);
    assert_eq!(home.vector().get(PartitionId(1)), version(1, 4));
    assert_eq!(home.write(&[set("d", "5")]), version(1, 5));
    let heads = home.connection.status().unwrap().heads;
    assert_eq!(heads.get(PartitionId(1)), version(1, 5));
}

#[apply(engines)]
fn an_empty_commit_is_a_commit(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    assert_eq!(home.connection.commit(Epoch::FIRST, &[]).unwrap(), []);
    assert_eq!(home.vector().get(PartitionId(1)), version(1, 0));
}

#[apply(engines)]
fn rows_carry_origin_and_version_of_their_write(kind: Kind) {
    let mut home = Bed::new(kind).partition(3);
    home.connection.raise(epoch(2)).unwrap();
    home.connection.commit(epoch(2), &[set("k", "v")]).unwrap();
    let row = home.row(&key("k")).unwrap();
    assert_eq!((row.origin, row.version), (PartitionId(3), version(2, 1)));
    let entry = Entry { origin: row.origin, version: row.version, key: row.key };
    assert_eq!(home.log(), [entry]);
}

#[apply(engines)]
fn the_fence_lets_one_epoch_through(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.connection.raise(epoch(5)).unwrap();
    for wrong in [1, 4, 6] {
        let refused = home.connection.commit(epoch(wrong), &[set("k", "v")]);
        assert_eq!(refusal(refused), Refusal::Fenced { clock: epoch(5) });
    }
    assert_eq!(home.value("k"), None);
    assert_eq!(home.vector().get(PartitionId(1)), version(5, 0), "no sequence was given");
    home.connection.commit(epoch(5), &[set("k", "v")]).unwrap();
    assert_eq!(home.row(&key("k")).unwrap().version, version(5, 1));
}

#[apply(engines)]
fn created_is_told_from_replaced(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let created = |outcome| match outcome {
        Outcome::Written { created, .. } => created,
        other @ (Outcome::Deleted { .. }
        | Outcome::Absent
        | Outcome::Unmet { .. }
        | Outcome::Unmergeable { .. }
        | Outcome::Damaged) => {
            panic!("{other:?}")
        }
    };
    assert_eq!(created(commit(&mut home, tell(set("k", "1")))), Some(true));
    assert_eq!(created(commit(&mut home, tell(set("k", "2")))), Some(false));
    assert_eq!(created(commit(&mut home, set("k", "3"))), None);
    commit(&mut home, delete("k"));
    assert_eq!(created(commit(&mut home, tell(set("k", "4")))), Some(true));
}

#[apply(engines)]
fn update_and_delete_need_something_visible(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    assert_eq!(commit(&mut home, update("k", "1")), Outcome::Absent);
    assert_eq!(commit(&mut home, delete("k")), Outcome::Absent);
    assert_eq!(home.row(&key("k")), None, "no tombstone of what never was");
    commit(&mut home, set("k", "1"));
    assert!(commit(&mut home, update("k", "2")).version().is_some());
    assert_eq!(home.value("k").as_deref(), Some(&b"2"[..]));
    let deleted = commit(&mut home, delete("k"));
    let row = home.row(&key("k")).unwrap();
    assert!(row.is_tombstone());
    assert_eq!(deleted, Outcome::Deleted { version: row.version });
    assert_eq!(commit(&mut home, delete("k")), Outcome::Absent);
    assert_eq!(commit(&mut home, update("k", "3")), Outcome::Absent);
}

#[apply(engines)]
fn conditions_are_judged_against_the_current_row(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let none = Outcome::Unmet { current: None };
    assert_eq!(commit(&mut home, if_match(set("k", "0"), Expected::Any)), none);
    let first = commit(&mut home, if_none_match(set("k", "1"), Expected::Any)).version().unwrap();
    let unmet = Outcome::Unmet { current: Some(first) };
    assert_eq!(commit(&mut home, if_none_match(set("k", "2"), Expected::Any)), unmet);
    let other = Expected::OneOf(vec![version(1, 99), version(2, first.seq().number())]);
    assert_eq!(commit(&mut home, if_match(set("k", "3"), other.clone())), unmet);
    assert_eq!(commit(&mut home, if_match(delete("k"), other)), unmet);
    assert_eq!(home.value("k").as_deref(), Some(&b"1"[..]));
    let right = Expected::OneOf(vec![version(1, 99), first]);
    let second = commit(&mut home, if_match(set("k", "4"), right.clone())).version().unwrap();
    assert!(second > first);
    let unmet = Outcome::Unmet { current: Some(second) };
    assert_eq!(commit(&mut home, if_match(set("k", "5"), right)), unmet);
}

#[apply(engines)]
fn an_expired_row_is_absent_by_the_clock_of_the_partition(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let brief = Body { expires_at: Some(NOW_MS + 10), ..body("v") };
    commit(&mut home, Write::set(key("k"), brief));
    let there = commit(&mut home, if_none_match(set("k", "w"), Expected::Any));
    assert!(matches!(there, Outcome::Unmet { current: Some(_) }), "{there:?}");
    bed.clock.advance_ms(10);
    assert_eq!(commit(&mut home, delete("k")), Outcome::Absent);
    assert_eq!(commit(&mut home, update("k", "w")), Outcome::Absent);
    let fetched = home.fetch(&[key("k")]);
    assert_eq!(fetched.now_ms, NOW_MS + 10);
    let created = commit(&mut home, tell(set("k", "w")));
    assert!(matches!(created, Outcome::Written { created: Some(true), .. }), "{created:?}");
}

#[apply(engines)]
fn writes_of_one_batch_see_each_other(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let outcomes = home
        .connection
        .commit(
            Epoch::FIRST,
            &[
                tell(set("k", "1")),
                if_match(set("k", "2"), Expected::OneOf(vec![version(1, 1)])),
                if_match(set("k", "3"), Expected::OneOf(vec![version(1, 1)])),
                delete("k"),
                update("k", "4"),
                if_none_match(set("k", "5"), Expected::Any),
            ],
        )
        .unwrap();
    assert_eq!(
        outcomes,
        [
            Outcome::Written { version: version(1, 1), created: Some(true), body: None },
            Outcome::Written { version: version(1, 2), created: None, body: None },
            Outcome::Unmet { current: Some(version(1, 2)) },
            Outcome::Deleted { version: version(1, 4) },
            Outcome::Absent,
            Outcome::Written { version: version(1, 6), created: None, body: None },
        ]
    );
    assert_eq!(home.value("k").as_deref(), Some(&b"5"[..]));
    assert_eq!(home.log().len(), 4);
}

#[apply(engines)]
fn a_commit_of_a_full_batch_is_whole(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let writes: Vec<Write> = (0..256u32).map(|n| set(n.to_be_bytes().to_vec(), "v")).collect();
    for round in 1..=3 {
        assert_eq!(home.write(&writes), version(1, 256 * round));
        assert_eq!(home.rows().len(), 256);
        assert_eq!(home.log().len() as u64, 256 * round);
    }
}

#[apply(engines)]
fn commits_of_many_connections_give_every_version_once(kind: Kind) {
    const EACH: u64 = 50;
    let mut home = Bed::new(kind).partition(1);
    let mut versions: Vec<Version> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|nth| {
                let mut connection = home.engine.connect().unwrap();
                scope.spawn(move || {
                    let write = [set(format!("{nth}"), "v")];
                    let mut one = || connection.commit(Epoch::FIRST, &write).unwrap().remove(0);
                    let versions: Vec<Version> =
                        (0..EACH).map(|_| one().version().unwrap()).collect();
                    assert!(versions.is_sorted());
                    versions
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    versions.sort_unstable();
    let expected: Vec<Version> = (1..=4 * EACH).map(|seq| version(1, seq)).collect();
    assert_eq!(versions, expected, "VER-1");
    assert_eq!(home.log().len() as u64, 4 * EACH);
}

/// Conditions look at no value, merges do; of any size, and all in one batch.
#[apply(engines)]
fn large_values_are_judged_and_merged(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let json = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
    let last = home.write(&[set("large", vec![7; 300_000]), set("json", json(200_000))]);
    let patch = Patch::parse("{\"b\":1}".into()).unwrap();
    let merge = |name| {
        let patch = patch.clone();
        Write::new(key(name), Change::Merge { patch, value_bytes_max: 1 << 20 })
    };
    let stands = home.row(&key("large")).unwrap().version;
    let writes = [
        merge("json"),
        if_match(set("large", "small"), Expected::OneOf(vec![stands])),
        if_match(set("json", "too late"), Expected::OneOf(vec![last])),
        merge("json"),
        tell(set("new", "v")),
        delete("large"),
    ];
    let outcomes = home.connection.commit(Epoch::FIRST, &writes).unwrap();
    let is_written = |outcome: &Outcome| outcome.version().is_some();
    let written: Vec<bool> = outcomes.iter().map(is_written).collect();
    assert_eq!(written, [true, true, false, true, true, true], "{outcomes:?}");
    let merged = String::from_utf8(home.value("json").unwrap().to_vec()).unwrap();
    assert!(merged.starts_with("{\"a\":\"xxx") && merged.ends_with("\"b\":1}"), "{}", merged.len());
    assert_eq!(home.value("large"), None);
}
