//! Pages, what guards their application, and pushes.

use datastore::partition::{
    Entry, Origins, Page, PageRequest, Push, Refusal, ReseedNumber, Segment,
};
use datastore::record::Record;
use datastore::topology::cut::Cuts;
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Version};
use datastore::write::Write;
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{
    Bed, Home, Kind, ask, body, delete, entry, epoch, key, push, refusal, row, set, system_key,
    vector, version,
};
use crate::engines;

const NONE: ReseedNumber = ReseedNumber(0);

/// A page that carries these rows of origin 2, from nothing to the last of them.
fn page_of(source: &mut Home, rows: Vec<Record>) -> Page {
    let status = source.connection.status().unwrap();
    let end = rows.iter().map(|row| row.version).max().unwrap_or(Version::ZERO);
    let segment = Segment { origin: PartitionId(2), from: Version::ZERO, end, claim: end };
    let entries = rows.iter().map(entry).collect();
    Page { source: status, segments: vec![segment], entries, rows, cut: false, cuts: Cuts::NONE }
}

#[apply(engines)]
fn a_pass_brings_rows_entries_and_cursor(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), set("b", "2"), Write::set(system_key("s"), body("3"))]);
    source.write(&[delete("a")]);
    let page = source.page(Vector::new());
    let applied = target.connection.apply(&page, NONE).unwrap();
    assert_eq!((applied.rows, applied.changed), (3, true));
    assert!(applied.bytes > 0);
    assert_eq!(target.rows(), source.rows());
    assert_eq!(target.log(), source.log());
    assert_eq!(target.vector(), vector(&[(1, version(1, 0)), (2, version(1, 4))]));
    let heads = target.connection.status().unwrap().heads;
    assert_eq!(heads, vector(&[(2, version(1, 4))]));
}

#[apply(engines)]
fn a_page_applied_again_changes_nothing(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), set("b", "2")]);
    let page = source.page(Vector::new());
    target.connection.apply(&page, NONE).unwrap();
    let before = (target.rows(), target.log(), target.connection.status().unwrap());
    let again = target.connection.apply(&page, NONE).unwrap();
    assert_eq!(again.rows, 0);
    assert_eq!((target.rows(), target.log(), target.connection.status().unwrap()), before);
}

#[apply(engines)]
fn the_greater_version_stays_whatever_comes_first(kind: Kind) {
    let bed = Bed::new(kind);
    let old = row("k", 2, version(1, 5), Some("old"));
    let new = row("k", 3, version(2, 1), None);
    for order in [[&old, &new], [&new, &old]] {
        let mut home = Bed::new(kind).partition(1);
        for row in order {
            let mut page = page_of(&mut bed.partition(2), vec![row.clone()]);
            page.segments[0].origin = row.origin;
            home.connection.apply(&page, NONE).unwrap();
        }
        assert_eq!(home.row(&key("k")), Some(new.clone()));
        assert_eq!(home.log(), [entry(&old), entry(&new)], "both logs are whole");
        assert_eq!(home.connection.status().unwrap().epoch, epoch(2), "K9");
    }
}

#[apply(engines)]
fn equal_versions_replace_nothing(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.connection.push(&push(row("k", 2, version(1, 5), Some("first")))).unwrap();
    let page = page_of(&mut bed.partition(2), vec![row("k", 2, version(1, 5), Some("second"))]);
    assert_eq!(home.connection.apply(&page, NONE).unwrap().rows, 0);
    assert_eq!(home.value("k").as_deref(), Some(&b"first"[..]));
}

#[apply(engines)]
fn a_page_that_starts_above_the_cursor_is_refused_whole(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1")]);
    let middle = source.vector();
    source.write(&[set("b", "2")]);
    let page = source.page(middle);
    let before = (target.rows(), target.connection.status().unwrap());
    let refused = refusal(target.connection.apply(&page, NONE));
    assert_eq!(refused, Refusal::CursorMoved { origin: PartitionId(2) });
    assert_eq!((target.rows(), target.connection.status().unwrap()), before);
    target.pull(&mut source);
    let applied = target.connection.apply(&page, NONE).unwrap();
    assert_eq!(applied.rows, 0, "from above it, there is nothing new");
}

#[apply(engines)]
fn an_older_page_moves_no_cursor_back(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1")]);
    let old = source.page(Vector::new());
    source.write(&[set("a", "2")]);
    target.pull(&mut source);
    let before = target.vector();
    target.connection.apply(&old, NONE).unwrap();
    assert_eq!(target.vector(), before);
    assert_eq!(target.value("a").as_deref(), Some(&b"2"[..]));
}

#[apply(engines)]
fn pages_are_cut_and_continued(kind: Kind) {
    let bed = Bed::new(kind);
    for (entries_max, bytes_max) in [(1, 1 << 20), (3, 1 << 20), (100, 1), (100, 1_000)] {
        let (mut source, mut target) = (Bed::new(kind).partition(2), Bed::new(kind).partition(1));
        let mut third = bed.partition(3);
        for n in 0..10u8 {
            source.write(&[set(vec![n], vec![n; 300]), set("shared", vec![n; 10])]);
        }
        third.write(&[set("x", "1"), set("y", "2")]);
        source.pull(&mut third);
        let mut pages = 0;
        loop {
            let request = PageRequest { entries_max, bytes_max, ..ask(target.vector()) };
            let page = source.connection.page(&request).unwrap();
            assert!(page.entries.len() <= entries_max);
            target.connection.apply(&page, NONE).unwrap();
            pages += 1;
            assert!(pages < 100, "every page moves on");
            if !page.cut {
                break;
            }
        }
        assert_eq!(target.rows(), source.rows());
        assert_eq!(target.log(), source.log());
        let own = vector(&[(1, version(1, 0))]);
        let mut expected = source.vector();
        expected.join(&own);
        assert_eq!(target.vector(), expected);
    }
}

#[apply(engines)]
fn a_page_reads_only_the_logs_that_were_asked_for(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut third) = (bed.partition(2), bed.partition(3));
    third.write(&[set("x", "3")]);
    source.write(&[set("y", "2")]);
    source.pull(&mut third);
    let mut origins = |origins| -> Vec<PartitionId> {
        let request = PageRequest { origins, ..ask(Vector::new()) };
        let page = source.connection.page(&request).unwrap();
        page.entries.iter().map(|entry| entry.origin).collect()
    };
    assert_eq!(origins(Origins::AllBut(None)), [PartitionId(2), PartitionId(3)]);
    assert_eq!(origins(Origins::AllBut(Some(PartitionId(2)))), [PartitionId(3)]);
    assert_eq!(origins(Origins::Only([PartitionId(2)].into())), [PartitionId(2)]);
    assert_eq!(origins(Origins::Only([].into())), []);
}

#[apply(engines)]
fn a_page_may_leave_the_rows_out(kind: Kind) {
    let mut source = Bed::new(kind).partition(2);
    source.write(&[set("a", vec![1; 1000]), set("b", "2")]);
    let request = PageRequest { rows: false, bytes_max: 1, ..ask(Vector::new()) };
    let page = source.connection.page(&request).unwrap();
    assert_eq!((page.entries.len(), page.rows.len(), page.cut), (2, 0, false));
}

#[apply(engines)]
fn a_partition_takes_nothing_of_its_own_log_from_others(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut other) = (bed.partition(1), bed.partition(2));
    home.write(&[set("a", "1")]);
    other.pull(&mut home);
    let before = (home.log(), home.connection.status().unwrap());
    let page = other.page(Vector::new());
    home.connection.apply(&page, NONE).unwrap();
    assert_eq!(home.log(), before.0);
    assert_eq!(home.vector().get(PartitionId(1)), before.1.vector.get(PartitionId(1)));
}

#[apply(engines)]
fn a_pushed_row_is_early_until_a_page_covers_it(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), set("b", "2")]);
    let pushed = source.row(&key("b")).unwrap();
    target.connection.push(&push(pushed.clone())).unwrap();
    assert_eq!(target.row(&key("b")), Some(pushed.clone()));
    assert_eq!(target.log(), [entry(&pushed)], "K6: it brings its entry");
    let status = target.connection.status().unwrap();
    assert_eq!(status.vector.get(PartitionId(2)), Version::ZERO, "and moves no cursor");
    assert_eq!(status.heads.get(PartitionId(2)), pushed.version);
    // H11: a page carries it on, without claiming what lies below it.
    let page = target.page(Vector::new());
    assert_eq!(page.entries, [entry(&pushed)]);
    let segment = page.segments.iter().find(|s| s.origin == PartitionId(2)).unwrap();
    assert_eq!(segment.claim, Version::ZERO);
    let late = PageRequest { early: false, ..ask(Vector::new()) };
    assert!(target.connection.page(&late).unwrap().entries.is_empty());
    let mut third = bed.partition(3);
    third.pull(&mut target);
    assert_eq!(third.row(&key("b")), Some(pushed));
    assert_eq!(third.vector().get(PartitionId(2)), Version::ZERO);
    target.pull(&mut source);
    assert_eq!((target.rows(), target.log()), (source.rows(), source.log()));
}

#[apply(engines)]
fn a_push_is_idempotent_and_never_overwrites_what_is_newer(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let newer = row("k", 2, version(1, 5), Some("newer"));
    let older = row("k", 2, version(1, 4), Some("older"));
    for row in [&newer, &newer, &older, &older] {
        home.connection.push(&push(row.clone())).unwrap();
    }
    assert_eq!(home.row(&key("k")), Some(newer.clone()));
    assert_eq!(home.log(), [entry(&older), entry(&newer)], "LOG-1");
}

#[apply(engines)]
fn many_rows_are_pushed_at_once(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let [old, new, other] = [("k", 1, "old"), ("k", 3, "new"), ("l", 2, "other")]
        .map(|(name, seq, value)| row(name, 2, version(1, seq), Some(value)));
    let mut pushed = push(new.clone());
    pushed.rows.extend([old.clone(), other.clone()]);
    home.connection.push(&pushed).unwrap();
    assert_eq!(home.rows(), [new.clone(), other.clone()]);
    assert_eq!(home.log(), [entry(&old), entry(&other), entry(&new)], "LOG-1");
}

#[apply(engines)]
fn a_push_at_or_below_the_cursor_counts_as_held(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1"), set("b", "2")]);
    target.pull(&mut source);
    let before = (target.rows(), target.log(), target.connection.status().unwrap());
    for seq in [1, 2] {
        target.connection.push(&push(row("never", 2, version(1, seq), Some("x")))).unwrap();
    }
    assert_eq!((target.rows(), target.log(), target.connection.status().unwrap()), before, "H4");
}

#[apply(engines)]
fn a_push_under_an_older_epoch_or_reseed_is_refused(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.connection.raise(epoch(3)).unwrap();
    let at = |number, reseed| Push {
        rows: vec![row("k", 2, version(1, 1), Some("v"))],
        epoch: epoch(number),
        reseed: ReseedNumber(reseed),
        cuts: Cuts::NONE,
    };
    let refused = refusal(home.connection.push(&at(2, 0)));
    assert_eq!(refused, Refusal::Fenced { clock: epoch(3) }, "H12");
    assert_eq!(refusal(home.connection.push(&at(3, 1))), Refusal::Reseeding, "K2");
    assert!(home.rows().is_empty() && home.log().is_empty());
    home.connection.push(&at(4, 0)).unwrap();
    assert_eq!(home.rows().len(), 1);
}

#[apply(engines)]
fn a_page_asked_under_another_reseed_is_refused(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut source, mut target) = (bed.partition(2), bed.partition(1));
    source.write(&[set("a", "1")]);
    let page = source.page(Vector::new());
    assert_eq!(refusal(target.connection.apply(&page, ReseedNumber(1))), Refusal::Reseeding);
    assert!(target.rows().is_empty());
}

#[apply(engines)]
fn a_log_entry_that_stands_is_left_alone(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let first = row("k", 2, version(1, 1), Some("v"));
    home.connection.push(&push(first.clone())).unwrap();
    let mut page = page_of(&mut bed.partition(2), vec![first.clone()]);
    page.entries.push(Entry { version: version(1, 2), ..entry(&first) });
    page.segments[0].end = version(1, 2);
    page.segments[0].claim = version(1, 2);
    home.connection.apply(&page, NONE).unwrap();
    let versions: Vec<Version> = home.log().iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [version(1, 1), version(1, 2)]);
    assert_eq!(home.connection.status().unwrap().epoch, Epoch::FIRST);
}
