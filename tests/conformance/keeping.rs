//! Trimming and reseeding.

use datastore::partition::{Refusal, ReseedNumber, ReseedStep, Trim, Trimmed};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Version};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{
    Bed, Home, Kind, ask, delete, entry, epoch, key, push, refusal, row, set, vector, version,
};
use crate::engines;

fn trim_to(floor: Vector) -> Trim {
    Trim { epoch: Epoch::FIRST, floor, entries_max: 1_000 }
}

fn versions(home: &mut Home) -> Vec<u64> {
    let request = datastore::partition::PageRequest {
        rows: false,
        ..ask(home.connection.status().unwrap().floors)
    };
    let page = home.connection.page(&request).unwrap();
    page.entries.iter().map(|entry| entry.version.seq().number()).collect()
}

#[apply(engines)]
fn trimming_shortens_the_log_and_collects_tombstones(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("dead", "v"), set("live", "v"), set("again", "v"), set("late", "v")]);
    home.write(&[delete("dead"), delete("again"), set("again", "w"), delete("late")]);
    let trimmed = home.connection.trim(&trim_to(vector(&[(1, version(1, 7))]))).unwrap();
    assert_eq!(trimmed, Trimmed { entries: 7, tombstones: 1, cut: false });
    assert_eq!(home.row(&key("dead")), None);
    assert_eq!(home.value("live").as_deref(), Some(&b"v"[..]), "live rows stay");
    assert_eq!(home.value("again").as_deref(), Some(&b"w"[..]));
    assert!(home.row(&key("late")).unwrap().is_tombstone(), "above the floor");
    assert_eq!(versions(&mut home), [8]);
    let status = home.connection.status().unwrap();
    assert_eq!(status.floors, vector(&[(1, version(1, 7))]));
    assert_eq!(status.vector.get(PartitionId(1)), version(1, 8));
    let again = home.connection.trim(&trim_to(status.floors)).unwrap();
    assert_eq!(again, Trimmed::default());
    home.connection.trim(&trim_to(status.vector.clone())).unwrap();
    let status = home.connection.status().unwrap();
    assert!(status.heads.is_empty(), "the entry at the floor goes, too");
    assert_eq!(status.vector.get(PartitionId(1)), version(1, 8));
}

#[apply(engines)]
fn a_trim_is_cut_at_its_limit_and_goes_on(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    for n in 0..10u8 {
        home.write(&[set(vec![n], "v")]);
        home.write(&[delete(vec![n])]);
    }
    let trim = Trim { entries_max: 6, ..trim_to(vector(&[(1, version(1, 20))])) };
    let mut all = Trimmed::default();
    let mut rounds = 0;
    loop {
        let trimmed = home.connection.trim(&trim).unwrap();
        assert!(trimmed.entries <= 6);
        all.entries += trimmed.entries;
        all.tombstones += trimmed.tombstones;
        rounds += 1;
        assert!(rounds < 100, "every trim moves on");
        if !trimmed.cut {
            break;
        }
    }
    assert_eq!((all.entries, all.tombstones), (20, 10));
    assert!(home.rows().is_empty());
}

#[apply(engines)]
fn a_partition_trims_at_most_to_its_own_cursor(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut home) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), delete("a")]);
    home.pull(&mut source);
    let early = row("b", 2, version(1, 9), None);
    home.connection.push(&push(early.clone())).unwrap();
    let wanted = vector(&[(1, version(1, 99)), (2, version(1, 99)), (3, version(1, 99))]);
    let trimmed = home.connection.trim(&trim_to(wanted)).unwrap();
    assert_eq!((trimmed.entries, trimmed.tombstones), (2, 1));
    assert_eq!(home.row(&key("b")), Some(early.clone()), "an early tombstone stays");
    assert_eq!(home.log(), [entry(&early)]);
    let status = home.connection.status().unwrap();
    assert_eq!(status.floors.get(PartitionId(2)), version(1, 2));
    assert_eq!(status.floors.get(PartitionId(3)), Version::ZERO);
    assert_eq!(status.vector.get(PartitionId(2)), version(1, 2), "the cursor stays");
}

#[apply(engines)]
fn a_trim_of_another_epoch_is_refused(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("a", "1")]);
    home.connection.raise(epoch(2)).unwrap();
    for wrong in [1, 3] {
        let trim = Trim { epoch: epoch(wrong), ..trim_to(home.vector()) };
        let refused = refusal(home.connection.trim(&trim));
        assert_eq!(refused, Refusal::Fenced { clock: epoch(2) });
    }
    assert_eq!(versions(&mut home), [1]);
}

#[apply(engines)]
fn who_is_below_a_floor_gets_no_page_and_brings_none(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut behind) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), delete("a")]);
    let old = behind.page(Vector::new());
    let floor = source.vector();
    source.connection.trim(&trim_to(floor)).unwrap();
    let refused = refusal(source.connection.page(&ask(behind.vector())));
    assert_eq!(refused, Refusal::BelowFloor { origin: PartitionId(2) }, "H6");
    let before = (source.rows(), source.connection.status().unwrap());
    let refused = refusal(source.connection.apply(&old, ReseedNumber(0)));
    assert_eq!(refused, Refusal::SourceBelowFloor { origin: PartitionId(2) }, "K3");
    assert_eq!((source.rows(), source.connection.status().unwrap()), before);
}

#[apply(engines)]
fn a_collected_tombstone_does_not_come_back(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut home) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), delete("a")]);
    let page = source.page(Vector::new());
    home.connection.apply(&page, ReseedNumber(0)).unwrap();
    home.connection.trim(&trim_to(page.source.vector.clone())).unwrap();
    assert!(home.rows().is_empty());
    home.connection.apply(&page, ReseedNumber(0)).unwrap();
    assert!(home.rows().is_empty() && home.log().is_empty(), "DEL-1");
}

/// Copies `source` into `target` as a reseed does; the chunks have one row each.
fn reseed(target: &mut Home, source: &mut Home) -> ReseedNumber {
    let number = target.begin_reseed();
    let connection = &mut target.connection;
    let noted = source.vector();
    let mut after = None;
    loop {
        let chunk = source.connection.scan(after.as_ref(), 1, 1 << 20).unwrap();
        after = chunk.rows.last().map(|row| row.key.clone());
        connection.reseed(number, &ReseedStep::Rows(chunk.rows)).unwrap();
        if !chunk.more {
            break;
        }
    }
    let floors = source.connection.status().unwrap().floors;
    connection.reseed(number, &ReseedStep::Log(source.log())).unwrap();
    connection.reseed(number, &ReseedStep::End { noted, floors }).unwrap();
    number
}

#[apply(engines)]
fn a_reseeded_partition_is_a_copy_of_its_source(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.connection.raise(epoch(3)).unwrap();
    source.connection.commit(epoch(3), &[set("a", "1"), set("b", "2"), delete("b")]).unwrap();
    let floor = Trim { epoch: epoch(3), ..trim_to(vector(&[(2, version(3, 1))])) };
    source.connection.trim(&floor).unwrap();
    target.write(&[set("left over", "x")]);
    let number = reseed(&mut target, &mut source);
    assert_eq!(target.rows(), source.rows());
    assert_eq!(target.log(), source.log());
    let status = target.connection.status().unwrap();
    assert_eq!((status.reseed, status.reseeding), (number, false));
    assert_eq!(status.epoch, epoch(3), "K9");
    assert_eq!(status.seq.number(), 1, "its own clock goes on");
    assert_eq!(status.floors, vector(&[(2, version(3, 1))]));
    assert_eq!(status.vector, vector(&[(1, version(3, 1)), (2, version(3, 3))]));
}

#[apply(engines)]
fn while_it_is_reseeded_a_partition_serves_nothing_and_takes_nothing(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut home) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1")]);
    let page = source.page(Vector::new());
    home.write(&[set("k", "v")]);
    let number = home.begin_reseed();
    assert_eq!(number, ReseedNumber(2), "the number that is passed in does not count");
    let status = home.connection.status().unwrap();
    assert!(status.reseeding);
    assert_eq!(status.reseed, number);
    let keys = [key("k")];
    let get = datastore::partition::Get { keys: &keys, inline_bytes_max: 1 };
    let refusals = [
        refusal(home.connection.get(&get)),
        refusal(home.connection.page(&ask(Vector::new()))),
        refusal(home.connection.scan(None, 1, 1)),
        refusal(home.connection.commit(Epoch::FIRST, &[set("k", "v")])),
        refusal(home.connection.push(&push(row("k", 2, version(1, 1), None)))),
        refusal(home.connection.apply(&page, ReseedNumber(0))),
        refusal(home.connection.apply(&page, number)),
        refusal(home.connection.reseed(ReseedNumber(0), &ReseedStep::Rows(vec![]))),
        refusal(home.connection.reseed(ReseedNumber(3), &ReseedStep::Log(vec![]))),
    ];
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::Reseeding), "{refusals:?}");
}

#[apply(engines)]
fn a_reseed_that_begins_again_ends_the_one_before(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let first = home.begin_reseed();
    let rows = vec![row("k", 2, version(1, 1), Some("v"))];
    home.connection.reseed(first, &ReseedStep::Rows(rows)).unwrap();
    let second = home.connection.reseed(ReseedNumber(0), &ReseedStep::Begin).unwrap();
    assert!(second > first);
    let end = ReseedStep::End { noted: Vector::new(), floors: Vector::new() };
    assert_eq!(refusal(home.connection.reseed(first, &end)), Refusal::Reseeding);
    home.connection.reseed(second, &end).unwrap();
    assert!(home.rows().is_empty() && home.log().is_empty());
    assert_eq!(refusal(home.connection.reseed(second, &end)), Refusal::Reseeding, "it is over");
}

/// K2: whoever comes late to make a voter finds that it was made.
#[apply(engines)]
fn a_voter_that_was_made_is_not_emptied(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "v")]);
    let begin = |home: &mut Home| home.connection.reseed(ReseedNumber(0), &ReseedStep::Begin);
    assert_eq!(refusal(begin(&mut home)), Refusal::Made);
    assert_eq!(home.value("k").as_deref(), Some(&b"v"[..]));
    let number = home.begin_reseed();
    let end = ReseedStep::End { noted: Vector::new(), floors: Vector::new() };
    home.connection.reseed(number, &end).unwrap();
    assert_eq!(refusal(begin(&mut home)), Refusal::Made);
}

#[apply(engines)]
fn a_reseed_whose_source_trimmed_past_it_starts_again(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let number = home.begin_reseed();
    let end = ReseedStep::End {
        noted: vector(&[(2, version(1, 5))]),
        floors: vector(&[(2, version(1, 6))]),
    };
    let refused = refusal(home.connection.reseed(number, &end));
    assert_eq!(refused, Refusal::BelowFloor { origin: PartitionId(2) });
    assert!(home.connection.status().unwrap().reseeding, "nothing has changed");
}
