//! Expiry, comparing and mending rows, and the ledger.

use std::sync::LazyLock;
use std::time::Duration;

use datastore::partition::upkeep::{
    ConflictPlace, Expired, Inspected, Repair, Repaired, Stride, Sum, fingerprint_of,
};
use datastore::partition::{Found, Get, PartitionError, Refusal, Trim};
use datastore::record::{Body, Key, Record, Space};
use datastore::version::{Epoch, PartitionId};
use datastore::write::{Change, Condition, Expected, Outcome, Write};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{
    Bed, Home, Kind, NOW_MS, body, delete, key, push, refusal, row, set, system_key, vector,
    version,
};
use crate::engines;

/// Expires `after` milliseconds from the time that every test starts at.
fn lasting(name: Key, after: u64) -> Write {
    Write { ttl: Some(Duration::from_millis(after)), ..Write::set(name, body("v")) }
}

fn commit(home: &mut Home, write: Write) -> Outcome {
    home.connection.commit(Epoch::FIRST, &[write]).unwrap().remove(0)
}

fn all(home: &mut Home, rows_max: usize) -> Vec<(Sum, usize)> {
    let mut sums = Vec::new();
    let mut rest = Some(Stride::all(Space::Data, rows_max));
    while let Some(stride) = rest {
        let digest = home.connection.digest(&stride).unwrap();
        sums.push((digest.sum, home.connection.survey(&stride).unwrap().marks.len()));
        rest = stride.after(&digest.upto);
    }
    sums
}

fn inspect(home: &mut Home, name: &'static str) -> Option<Inspected> {
    home.connection.inspect(&key(name)).unwrap().row
}

/// What puts `right` in the place of what stands.
fn repair(home: &mut Home, name: &'static str, right: Option<Record>) -> Repair {
    let inspection = home.connection.inspect(&key(name)).unwrap();
    Repair {
        key: key(name),
        seen: inspection.row.map(|row| row.mark.fingerprint),
        right,
        source: inspection.source.vector,
        reseed: inspection.source.reseed,
        keep: false,
    }
}

#[apply(engines)]
fn what_has_expired_is_told_in_the_order_of_time(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    for (name, after) in
        [(key("c"), 5), (system_key("b"), 5), (key("b"), 5), (key("a"), 9), (key("z"), 1)]
    {
        commit(&mut home, lasting(name, after));
    }
    commit(&mut home, set("never", "v"));
    let told = |home: &mut Home, max| {
        let mut names = Vec::new();
        let mut after: Option<Expired> = None;
        loop {
            let page = home.connection.expired(after.as_ref(), max).unwrap();
            assert!(page.len() <= max);
            names.extend(page.iter().map(|expired| expired.key.clone()));
            match page.last() {
                Some(last) => after = Some(last.clone()),
                None => return names,
            }
        }
    };
    assert_eq!(told(&mut home, 10), []);
    bed.clock.advance_ms(5);
    let over = [key("z"), key("b"), key("c"), system_key("b")];
    for max in [1, 2, 3, 10] {
        assert_eq!(told(&mut home, max), over, "{max} at a time");
    }
    bed.clock.advance_ms(4);
    assert_eq!(told(&mut home, 10).last(), Some(&key("a")));
}

#[apply(engines)]
fn an_expired_row_is_absent_until_the_sweep_buries_it(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let written = commit(&mut home, lasting(key("k"), 5)).version().unwrap();
    let expire = || Write::expire(key("k"), written);
    assert_eq!(commit(&mut home, expire()), Outcome::Absent, "not over yet");
    bed.clock.advance_ms(5);
    assert_eq!(commit(&mut home, delete("k")), Outcome::Absent);
    let absent = Condition { if_match: None, if_none_match: Some(Expected::Any) };
    let create = || Write { condition: absent.clone(), ..lasting(key("k"), 5) };
    let fresh = commit(&mut home, create()).version().unwrap();
    assert_eq!(commit(&mut home, expire()), Outcome::Absent, "another version");
    assert!(!home.row(&key("k")).unwrap().is_tombstone());
    bed.clock.advance_ms(5);
    let expired = home.connection.expired(None, 10).unwrap();
    assert_eq!(expired[0].version, fresh);
    let buried = commit(&mut home, Write::expire(key("k"), fresh));
    assert!(matches!(buried, Outcome::Deleted { .. }), "{buried:?}");
    assert!(home.row(&key("k")).unwrap().is_tombstone());
    assert_eq!(home.connection.expired(None, 10).unwrap(), []);
}

/// The same rows give the same fingerprints in every engine, and so the same sums.
#[apply(engines)]
fn fingerprints_are_the_same_in_every_engine(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let odd =
        Body { value: vec![0xff, 0, b'\''].into(), content_type: "é".into(), expires_at: None };
    let large = Body { value: vec![7; 100_000].into(), ..odd.clone() };
    let writes = [
        Write::set(key("plain"), body("v")),
        Write::set(key(&b"\x00\xff"[..]), odd),
        Write::set(key("large"), large),
        Write::set(key("empty"), body("")),
        lasting(key("lasting"), 5),
        delete("plain"),
    ];
    home.connection.commit(Epoch::FIRST, &writes).unwrap();
    let marks = home.connection.survey(&Stride::all(Space::Data, 10)).unwrap().marks;
    let rows = home.rows();
    assert_eq!(marks.len(), rows.len());
    let mut sum = Sum::default();
    for (mark, row) in marks.iter().zip(&rows) {
        assert_eq!(mark.key, row.key);
        assert_eq!((mark.version, mark.origin), (row.version, row.origin));
        assert_eq!(mark.deleted, row.is_tombstone());
        assert_eq!(mark.fingerprint, fingerprint_of(row, row.checksum()), "{row:?}");
        sum.add(mark);
    }
    assert_eq!(sum.rows, 4, "tombstones are left out");
    assert_eq!(all(&mut home, 10), [(sum, 5)]);
}

#[apply(engines)]
fn a_stretch_is_summed_in_steps(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let writes: Vec<Write> = (0..25).map(|n| set(format!("k{n:02}"), "v")).collect();
    home.connection.commit(Epoch::FIRST, &writes).unwrap();
    home.write(&[delete("k03")]);
    let whole = all(&mut home, 100);
    let steps = all(&mut home, 10);
    assert_eq!(steps.iter().map(|(sum, _)| sum.rows).collect::<Vec<_>>(), [9, 10, 5]);
    let together = steps.iter().fold(0, |all, (sum, _)| all ^ sum.fingerprints);
    assert_eq!(together, whole[0].0.fingerprints);
    let some = Stride { from: "k05".into(), upto: "k07".into(), ..Stride::all(Space::Data, 100) };
    assert_eq!(home.connection.digest(&some).unwrap().sum.rows, 3);
    assert_eq!(home.connection.digest(&some).unwrap().upto, "k07");
    assert_eq!(all(&mut Bed::new(kind).partition(1), 10), [(Sum::default(), 0)]);
}

#[apply(engines)]
fn a_damaged_row_is_told_from_all_others(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("bad", "v"), set("good", "v")]);
    let before = all(&mut home, 10);
    bed.tamper("store_1.db", "bad", "x");
    let keys = [key("bad"), key("good")];
    let fetched = home.fetch(&keys);
    assert_eq!(fetched.rows[0], Some(Found::Damaged));
    assert!(matches!(fetched.rows[1], Some(Found::Row(_))));
    let one = Get { keys: &keys[..1], inline_bytes_max: 1 << 10 };
    assert_eq!(home.connection.get(&one).unwrap().rows, [Some(Found::Damaged)]);
    let scanned = home.connection.scan(None, 10, 1 << 20);
    assert!(matches!(scanned, Err(PartitionError::DamagedRow { .. })), "{scanned:?}");
    assert!(scanned.unwrap_err().keeps_connection());
    let after = all(&mut home, 10);
    assert_eq!(before[0].0.rows, after[0].0.rows);
    assert_ne!(before, after);
    assert_eq!(inspect(&mut home, "bad").unwrap().row, None);
    assert!(inspect(&mut home, "good").unwrap().row.is_some());
}

/// Of a batch only what has to know the damaged row is refused.
#[apply(engines)]
fn writes_go_past_a_damaged_row(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("bad", "v"), set("worse", "v")]);
    bed.tamper("store_1.db", "bad", "x");
    bed.tamper("store_1.db", "worse", "x");
    let met = Condition { if_match: Some(Expected::Any), if_none_match: None };
    let writes = [
        Write { condition: met, ..set("bad", "new") },
        Write { tell_created: true, ..set("other", "v") },
        delete("worse"),
    ];
    let outcomes = home.connection.commit(Epoch::FIRST, &writes).unwrap();
    assert_eq!(outcomes[0], Outcome::Damaged);
    assert!(outcomes[1].version().is_some() && outcomes[2].version().is_some());
    assert!(home.row(&key("worse")).unwrap().is_tombstone());
    home.write(&[set("bad", "new")]);
    assert_eq!(home.value("bad").as_deref(), Some(&b"new"[..]));
}

/// The same of rows whose values are not read to judge a write: what depends on their other columns
/// believes none of them unseen.
#[apply(engines)]
fn writes_go_past_a_large_damaged_row(kind: Kind) {
    /// Above what comes with the rows that writes are judged by.
    static DAMAGED: LazyLock<String> = LazyLock::new(|| "x".repeat(100_000));
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let large = |name: &str| {
        let ttl = Some(Duration::from_millis(5));
        let value = Body { value: vec![7; 100_000].into(), ..body("") };
        Write { ttl, ..Write::set(key(name.to_owned()), value) }
    };
    let names = ["updated", "matched", "expired", "replaced", "deleted", "good"];
    let last = home.write(&names.map(large));
    for name in &names[..5] {
        bed.tamper("store_1.db", name, &DAMAGED);
    }
    let stands = |name: &str, home: &mut Home| home.connection.inspect(&key(name.to_owned()));
    let version = stands("expired", &mut home).unwrap().row.unwrap().mark.version;
    let met = |version| {
        let if_match = Some(Expected::OneOf(vec![version]));
        Condition { if_match, if_none_match: None }
    };
    let matched = stands("matched", &mut home).unwrap().row.unwrap().mark.version;
    let writes = [
        Write::new(key("updated"), Change::Update(body("new"))),
        Write { condition: met(matched), ..set("matched", "new") },
        Write { tell_created: true, ..set("replaced", "new") },
        delete("deleted"),
        Write { condition: met(last), ..set("good", "new") },
    ];
    let outcomes = home.connection.commit(Epoch::FIRST, &writes).unwrap();
    let is_written = |outcome: &Outcome| outcome.version().is_some();
    let written: Vec<bool> = outcomes.iter().map(is_written).collect();
    assert_eq!(written, [false, false, true, true, true], "{outcomes:?}");
    assert_eq!(outcomes[..2], [Outcome::Damaged, Outcome::Damaged]);
    bed.clock.advance_ms(5);
    let expire = Write::expire(key("expired"), version);
    assert_eq!(commit(&mut home, expire), Outcome::Damaged, "its time may be damaged as well");
}

/// A page without the row that its entries name would claim what it does not bring.
#[apply(engines)]
fn a_damaged_row_leaves_with_no_page(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("bad", "v")]);
    bed.tamper("store_1.db", "bad", "x");
    let page = home.connection.page(&crate::bed::ask(vector(&[])));
    assert!(matches!(page, Err(PartitionError::DamagedRow { .. })), "{page:?}");
}

#[apply(engines)]
fn a_good_copy_replaces_a_damaged_row(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut other) = (bed.partition(1), bed.partition(2));
    home.write(&[set("k", "v")]);
    other.pull(&mut home);
    bed.tamper("store_1.db", "k", "x");
    let good = other.row(&key("k"));
    let wanted = repair(&mut home, "k", good.clone());
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Done);
    assert_eq!(home.row(&key("k")), good);
    assert_eq!(all(&mut home, 10), all(&mut other, 10));
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Overtaken, "it stood");
}

#[apply(engines)]
fn a_repair_is_overtaken_by_any_write(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "old")]);
    let wanted = repair(&mut home, "k", None);
    home.write(&[set("k", "new")]);
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Overtaken);
    let absent = Repair { seen: None, ..wanted };
    assert_eq!(home.connection.repair(&absent).unwrap(), Repaired::Overtaken);
    assert_eq!(home.value("k").as_deref(), Some(&b"new"[..]));
}

/// H3: a tombstone that was collected since would be undone.
#[apply(engines)]
fn a_repair_never_undoes_a_collected_delete(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut other) = (bed.partition(1), bed.partition(2));
    home.write(&[set("k", "v")]);
    other.pull(&mut home);
    let stale = repair(&mut other, "none", None).source;
    let old = other.row(&key("k"));
    home.write(&[delete("k")]);
    let floor = home.vector();
    let trim = Trim { epoch: Epoch::FIRST, floor, entries_max: 100 };
    assert_eq!(home.connection.trim(&trim).unwrap().tombstones, 1);
    let wanted = Repair { source: stale, ..repair(&mut home, "k", old) };
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Overtaken);
    assert_eq!(home.row(&key("k")), None);
}

/// LOG-1 and K9: a row that a repair brings has its entry, and no older epoch is written under it.
#[apply(engines)]
fn a_repaired_row_brings_its_entry(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let brought = row("k", 2, version(3, 7), Some("v"));
    let wanted = repair(&mut home, "k", Some(brought.clone()));
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Done);
    assert_eq!(home.row(&key("k")), Some(brought.clone()));
    let status = home.connection.status().unwrap();
    assert_eq!(status.heads.get(PartitionId(2)), brought.version);
    assert_eq!(status.epoch, version(3, 0).epoch());
}

#[apply(engines)]
fn nothing_is_repaired_in_a_partition_that_was_emptied_since(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let wanted = repair(&mut home, "k", Some(row("k", 2, version(1, 7), Some("v"))));
    home.begin_reseed();
    assert_eq!(refusal(home.connection.repair(&wanted)), Refusal::Reseeding);
    assert_eq!(refusal(home.connection.digest(&Stride::all(Space::Data, 1))), Refusal::Reseeding);
}

/// LOSS-1: the row that a repair drops is in the ledger from the same transaction on, once.
#[apply(engines)]
fn what_is_dropped_is_kept_in_the_ledger(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let mut dropped = Vec::new();
    for (name, seq) in [("b", 1), ("a", 2), ("a", 3), ("c", 4)] {
        let lost = row(name, 2, version(1, seq), Some("v"));
        home.connection.push(&push(lost.clone())).unwrap();
        for keep in [true, true] {
            let wanted = Repair { keep, ..repair(&mut home, name, None) };
            assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Done);
        }
        dropped.push(lost);
    }
    // What is damaged is nobody's write.
    home.write(&[set("d", "v")]);
    bed.tamper("store_1.db", "d", "x");
    let wanted = Repair { keep: true, ..repair(&mut home, "d", None) };
    assert_eq!(home.connection.repair(&wanted).unwrap(), Repaired::Done);
    dropped.sort_by_key(|row| (row.key.clone(), row.version));
    for max in [1, 2, 10] {
        let mut kept = Vec::new();
        let mut after: Option<ConflictPlace> = None;
        loop {
            let page = home.connection.conflicts(after.as_ref(), max).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(ConflictPlace { key: last.row.key.clone(), version: last.row.version });
            assert!(page.iter().all(|conflict| conflict.noted_ms == NOW_MS));
            kept.extend(page.into_iter().map(|conflict| conflict.row));
        }
        assert_eq!(kept, dropped, "{max} at a time");
    }
}
