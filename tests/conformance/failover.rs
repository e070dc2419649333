//! Changes of ownership and of the voters, over every engine: what a late row leaves behind, how
//! early rows get into a log again, and each change from its first step to its last.

use std::time::Duration;

use datastore::failover::cuts::{self, Look};
use datastore::failover::{FailoverError, ownership, voters};
use datastore::lane::batch;
use datastore::partition::engine::Engine;
use datastore::partition::upkeep::{ConflictPlace, Lost};
use datastore::partition::{Page, Partition, Push, Refusal, ReseedNumber};
use datastore::record::{Key, Record};
use datastore::register::Proposer;
use datastore::sync::ledger::{self, Tended};
use datastore::topology::change::Joining;
use datastore::topology::cut::{Cut, Cuts, SlotSet};
use datastore::topology::slots::Move;
use datastore::topology::{Incarnation, Slot, State, Topology};
use datastore::version::{Epoch, PartitionId, SetId, Version};
use datastore::write::Write;
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Home, Kind, body, entry, epoch, key, refusal, row, set, topology, version};
use crate::engines;
use crate::voting::{A, B, C, Three};

const NEVER: ReseedNumber = ReseedNumber(0);

/// The `nth` key whose slot `id` masters at first.
fn key_of(id: PartitionId, nth: usize) -> Key {
    let keys = (0..).map(|n| key(format!("k{n}")));
    keys.filter(|key| topology().master_of(key) == id).nth(nth).unwrap()
}

fn every_slot() -> SlotSet {
    Slot::all().collect()
}

/// Origin 2 was lost at epoch 3, its log known up to 1.10.
fn cuts() -> Cuts {
    Cuts::of(&[Cut { epoch: epoch(3), origin: B, upto: version(1, 10), slots: every_slot() }])
}

fn page_of(source: &mut Home, rows: Vec<Record>, cuts: Cuts) -> Page {
    let status = source.connection.status().unwrap();
    let entries = rows.iter().map(entry).collect();
    Page { source: status, segments: Vec::new(), entries, rows, cut: false, cuts }
}

fn ledger_of(home: &mut Home) -> Vec<Record> {
    let conflicts = home.connection.conflicts(None, 100).unwrap();
    conflicts.into_iter().map(|conflict| conflict.row).collect()
}

#[apply(engines)]
fn a_late_row_that_is_replaced_goes_to_the_ledger(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut source) = (bed.partition(1), bed.partition(2));
    let late = row("k", 2, version(1, 11), Some("late"));
    let page = page_of(&mut source, vec![late.clone()], Cuts::NONE);
    home.connection.apply(&page, NEVER).unwrap();
    let newer = row("k", 3, version(3, 1), Some("newer"));
    let page = page_of(&mut source, vec![newer], cuts());
    home.connection.apply(&page, NEVER).unwrap();
    assert_eq!(home.value("k").unwrap(), "newer");
    assert_eq!(ledger_of(&mut home), [late], "LOSS-1");
}

#[apply(engines)]
fn a_late_row_that_comes_too_late_goes_to_the_ledger(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut source) = (bed.partition(1), bed.partition(2));
    let newer = row("k", 3, version(3, 1), None);
    let page = page_of(&mut source, vec![newer], Cuts::NONE);
    home.connection.apply(&page, NEVER).unwrap();
    let late = row("k", 2, version(2, 40), Some("late"));
    let push = |cuts| Push { rows: vec![late.clone()], epoch: epoch(3), reseed: NEVER, cuts };
    home.connection.push(&push(cuts())).unwrap();
    assert!(home.row(&key("k")).unwrap().is_tombstone());
    assert_eq!(ledger_of(&mut home), std::slice::from_ref(&late));
    // Whatever brings it again: one entry a write.
    let page = page_of(&mut source, vec![late.clone()], cuts());
    home.connection.apply(&page, NEVER).unwrap();
    assert_eq!(ledger_of(&mut home), [late]);
}

#[apply(engines)]
fn what_is_history_or_equal_is_in_no_ledger(kind: Kind) {
    let bed = Bed::new(kind);
    let (mut home, mut source) = (bed.partition(1), bed.partition(2));
    let mut take = |rows| {
        let page = page_of(&mut source, rows, cuts());
        home.connection.apply(&page, NEVER).unwrap();
    };
    // At or below the cut; after the takeover; replaced by its own origin; equal in value.
    take(vec![
        row("known", 2, version(1, 10), Some("1")),
        row("after", 2, version(3, 9), Some("1")),
    ]);
    take(vec![
        row("own", 2, version(1, 11), Some("1")),
        row("equal", 2, version(1, 12), Some("1")),
    ]);
    take(vec![
        row("known", 3, version(4, 1), Some("2")),
        row("after", 3, version(4, 2), Some("2")),
    ]);
    take(vec![row("own", 2, version(1, 20), Some("2")), row("equal", 3, version(4, 3), Some("1"))]);
    assert_eq!(ledger_of(&mut home), []);
}

#[apply(engines)]
fn a_ledger_takes_entries_of_another_one_once(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let one = row("a", 2, version(1, 11), Some("1"));
    let two = row("b", 3, version(1, 12), None);
    home.connection.keep(&[one.clone(), two.clone()].map(Lost::now)).unwrap();
    home.connection.keep(&[Lost::now(two.clone())]).unwrap();
    assert_eq!(ledger_of(&mut home), [one, two]);
}

fn tend(homes: &mut [Home], retention: Option<Duration>) -> Tended {
    let mut all: Vec<&mut dyn Partition> = Vec::new();
    for home in homes {
        all.push(home.connection.as_mut());
    }
    ledger::tend(&mut all, retention).unwrap()
}

#[apply(engines)]
fn every_ledger_gets_what_any_of_them_has(kind: Kind) {
    let bed = Bed::new(kind);
    let mut homes: Vec<Home> = (1..=3).map(|id| bed.partition(id)).collect();
    let lost = |nth: u64| row("k", 2, version(1, nth), Some("lost"));
    // More than are read at once.
    homes[0].connection.keep(&(1..=40).map(lost).map(Lost::now).collect::<Vec<_>>()).unwrap();
    homes[2].connection.keep(&(35..=60).map(lost).map(Lost::now).collect::<Vec<_>>()).unwrap();
    assert_eq!(tend(&mut homes, None).given, 20 + 60 + 34);
    assert_eq!(tend(&mut homes, None).given, 0);
    let all: Vec<Record> = (1..=60).map(lost).collect();
    for home in &mut homes {
        assert_eq!(ledger_of(home), all);
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[apply(engines)]
fn an_entry_of_a_ledger_is_forgotten_when_it_is_old(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let lost = |name, days| Lost { row: row(name, 2, version(1, 11), Some("v")), age: DAY * days };
    home.connection.keep(&[lost("a", 30), lost("b", 29), lost("c", 31)]).unwrap();
    let ages: Vec<Duration> =
        home.connection.conflicts(None, 9).unwrap().iter().map(|one| one.age).collect();
    assert_eq!(ages, [DAY * 30, DAY * 29, DAY * 31]);
    let place = |name| ConflictPlace { key: key(name), version: version(1, 11) };
    let all = [place("a"), place("b"), place("c"), place("d")];
    assert_eq!(home.connection.forget_conflicts(&all[1..], DAY * 30).unwrap(), 1);
    let left =
        |home: &mut Home| -> Vec<Key> { ledger_of(home).into_iter().map(|row| row.key).collect() };
    assert_eq!(left(&mut home), [key("a"), key("b")], "only what was named");
    assert_eq!(home.connection.forget_conflicts(&all, DAY * 30).unwrap(), 1, "LOSS-1: counted");
    assert_eq!(left(&mut home), [key("b")], "only what is old");
    // One more write of the same key.
    let other = ConflictPlace { version: version(1, 12), ..place("b") };
    assert_eq!(home.connection.forget_conflicts(&[other], DAY).unwrap(), 0);
}

/// It comes back from nobody: they agree on how old it is, whatever their clocks say.
#[apply(engines)]
fn what_expired_in_every_ledger_stays_away(kind: Kind) {
    let bed = Bed::new(kind);
    let mut homes: Vec<Home> = (1..=3).map(|id| bed.partition(id)).collect();
    let lost =
        |nth: u64, days| Lost { row: row("k", 2, version(1, nth), Some("lost")), age: DAY * days };
    // More than are read at once; some were noted by several, at different times.
    homes[0].connection.keep(&(1..=40).map(|nth| lost(nth, 31)).collect::<Vec<_>>()).unwrap();
    homes[1].connection.keep(&[lost(7, 35), lost(8, 29), lost(50, 30)]).unwrap();
    homes[2].connection.keep(&[lost(60, 2)]).unwrap();
    let retention = Some(DAY * 30);
    let first = tend(&mut homes, retention);
    assert_eq!(first, Tended { given: 3, expired: vec![39, 2, 0] });
    assert_eq!(tend(&mut homes, retention), Tended { given: 0, expired: vec![0; 3] });
    for home in &mut homes {
        let left: Vec<_> = home.connection.conflicts(None, 100).unwrap();
        let ages: Vec<Duration> = left.iter().map(|one| one.age).collect();
        let versions: Vec<Version> = left.iter().map(|one| one.row.version).collect();
        assert_eq!(versions, [version(1, 8), version(1, 60)]);
        assert!(ages[0] >= DAY * 29 && ages[1] == DAY * 2, "{ages:?}");
    }
    // One that was away, and has kept it all the time.
    homes[2].connection.keep(&[lost(1, 32)]).unwrap();
    assert_eq!(tend(&mut homes, retention), Tended { given: 0, expired: vec![0, 0, 1] });
    assert_eq!(tend(&mut homes, Some(DAY)), Tended { given: 0, expired: vec![2; 3] });
    homes[0].connection.keep(&[lost(1, 3000)]).unwrap();
    assert_eq!(tend(&mut homes, None), Tended { given: 2, expired: vec![0; 3] }, "for ever");
}

#[apply(engines)]
fn early_rows_that_still_stand_are_re_issued(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let early = |nth, seq| {
        let key = key_of(B, nth);
        let body = Some(body(format!("v{seq}")));
        Record::new(key, version(1, seq), B, body)
    };
    for row in [early(0, 5), early(1, 6), early(1, 7), early(2, 8)] {
        let push = Push { rows: vec![row], epoch: Epoch::FIRST, reseed: NEVER, cuts: Cuts::NONE };
        home.connection.push(&push).unwrap();
    }
    home.connection.raise(epoch(2)).unwrap();
    let refused = refusal(home.connection.reissue(epoch(1), &every_slot()));
    assert_eq!(refused, Refusal::Fenced { clock: epoch(2) });
    let slots: SlotSet = [0, 1].map(|nth| Slot::of(&key_of(B, nth))).into_iter().collect();
    let before = home.connection.status().unwrap();
    assert_eq!(home.connection.reissue(epoch(2), &slots).unwrap().rows, 2);
    let row = home.row(&key_of(B, 1)).unwrap();
    assert_eq!((row.origin, row.body.clone()), (A, Some(body("v7"))), "the newer of the two");
    assert!(row.version > version(2, before.seq.number()));
    assert!(home.log().contains(&entry(&row)), "LOG-1");
    assert_eq!(home.row(&key_of(B, 2)).unwrap().origin, B, "of a slot that is not its own");
    assert_eq!(home.connection.reissue(epoch(2), &slots).unwrap().rows, 0, "once");
}

#[apply(engines)]
fn what_is_forgotten_may_be_founded_anew(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("k", "v")]);
    home.connection.keep(&[Lost::now(row("a", 2, version(1, 11), Some("1")))]).unwrap();
    assert_eq!(refusal(home.connection.forget(B)), Refusal::Empty, "another one's");
    home.connection.forget(A).unwrap();
    let mut fresh = home.engine.connect().unwrap();
    assert_eq!(fresh.identity().unwrap(), None);
    fresh.found(&crate::bed::identity(2)).unwrap();
    assert_eq!(fresh.status().unwrap().partition, B);
    assert!(fresh.scan(None, 10, 1000).unwrap().rows.is_empty());
    assert_eq!(fresh.conflicts(None, 10).unwrap(), []);
}

/// Everything that B's slots' writes are judged by after the takeover of A.
fn three(kind: Kind) -> (Bed, Three, Proposer) {
    let bed = Bed::new(kind);
    let three = Three::new(&bed);
    let proposer = Proposer::new(1, topology());
    (bed, three, proposer)
}

fn set_key(key: &Key, value: &'static str) -> Write {
    Write::set(key.clone(), body(value))
}

/// A write of A that only `held_by` has besides, pushed ahead of the log.
fn pushed(three: &mut Three, key: &Key, value: &'static str, held_by: PartitionId) {
    three.homes[0].write(&[set_key(key, value)]);
    let row = three.homes[0].row(key).unwrap();
    let push = Push { rows: vec![row], epoch: Epoch::FIRST, reseed: NEVER, cuts: Cuts::NONE };
    three.homes[usize::from(held_by.0) - 1].connection.push(&push).unwrap();
}

#[apply(engines)]
fn a_successor_has_what_any_majority_has(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    let (known, early, other) = (key_of(A, 0), key_of(A, 1), key_of(C, 0));
    three.homes[0].write(&[set_key(&known, "1")]);
    let (first, rest) = three.homes.split_at_mut(1);
    rest[0].pull(&mut first[0]);
    pushed(&mut three, &early, "2", C);
    // H14: an origin besides the lost one.
    three.homes[2].write(&[set_key(&other, "3")]);
    three.away = vec![A];
    let next = ownership::take_over(&mut three, &mut proposer, A, false).unwrap();
    assert_eq!((next.epoch(), next.slots_of(A), next.slots_of(B)), (epoch(2), 0, 683));
    assert_eq!(next.voter(A).unwrap().state, State::Down);
    let cut = next.cuts().iter().next().unwrap().clone();
    assert_eq!((cut.origin, cut.upto), (A, version(1, 1)), "its cursor, not its highest row");
    for (key, value, origin) in [(&known, "1", A), (&early, "2", B), (&other, "3", C)] {
        let row = three.homes[1].row(key).unwrap();
        assert_eq!((row.body, row.origin), (Some(body(value)), origin), "{key:?}");
    }
    for nth in [1, 2] {
        assert_eq!(three.homes[nth].connection.status().unwrap().epoch, epoch(2));
    }
    three.away.clear();
    let refused = refusal(three.homes[1].connection.commit(epoch(1), &[set_key(&known, "4")]));
    assert_eq!(refused, Refusal::Fenced { clock: epoch(2) });
}

#[apply(engines)]
fn what_a_cut_off_master_went_on_with_is_kept(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    let key = key_of(A, 0);
    three.away = vec![A];
    let next = ownership::take_over(&mut three, &mut proposer, A, false).unwrap();
    let owner = next.master_of(&key);
    three.homes[0].write(&[set_key(&key, "late")]);
    let late = three.homes[0].row(&key).unwrap();
    let master = &mut three.homes[usize::from(owner.0) - 1].connection;
    batch::open(master.as_mut(), &next).unwrap();
    master.commit(next.epoch(), &[set_key(&key, "newer")]).unwrap();
    let (first, rest) = three.homes.split_at_mut(1);
    let from = &mut rest[usize::from(owner.0) - 2];
    let page = Page { cuts: next.cuts(), ..from.page(first[0].vector()) };
    first[0].connection.apply(&page, NEVER).unwrap();
    assert_eq!(ledger_of(&mut first[0]), [late], "overwritten at home");
    let page = Page { cuts: next.cuts(), ..first[0].page(from.vector()) };
    from.connection.apply(&page, NEVER).unwrap();
    assert_eq!(from.row(&key).unwrap().body, Some(body("newer")));
}

#[apply(engines)]
fn too_few_to_fence_change_nothing(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    three.away = vec![A];
    // All voters answer the register, and one of them does not serve.
    three.homes[2].connection.set_aside().unwrap();
    let failed = ownership::take_over(&mut three, &mut proposer, A, false);
    let few = matches!(failed, Err(FailoverError::TooFew { fenced: 1, needed: 2 }));
    assert!(few, "{failed:?}");
    assert_eq!(three.homes[1].connection.status().unwrap().epoch, epoch(1), "nobody was fenced");
    let next = ownership::take_over(&mut three, &mut proposer, A, true).unwrap();
    assert_eq!(next.slots_of(A), 0, "by force");
    let failed = ownership::take_over(&mut three, &mut proposer, A, false);
    assert!(matches!(failed, Err(FailoverError::NothingToMove { id }) if id == A), "{failed:?}");
}

#[apply(engines)]
fn a_promotion_loses_nothing(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    let (moved, stays) = (key_of(A, 0), key_of(A, 1));
    three.homes[0].write(&[set_key(&moved, "1"), set_key(&stays, "2")]);
    let slots = [Slot::of(&moved)].into_iter().collect();
    let change = Move { from: A, to: C, slots };
    let next = ownership::promote(&mut three, &mut proposer, &change).unwrap();
    assert_eq!((next.master_of(&moved), next.master_of(&stays)), (C, A));
    assert!(next.cuts().is_empty(), "nothing can be late");
    assert_eq!(three.homes[2].row(&moved).unwrap().body, Some(body("1")));
    let written = three.homes[2].connection.commit(next.epoch(), &[set_key(&moved, "3")]).unwrap();
    assert!(written[0].version().unwrap() > three.homes[0].row(&moved).unwrap().version);
    let failed = ownership::promote(&mut three, &mut proposer, &change);
    assert!(matches!(failed, Err(FailoverError::Change(_))), "{failed:?}");
}

#[apply(engines)]
fn a_fence_that_was_left_behind_is_passed_forward(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    three.homes[0].connection.raise(epoch(7)).unwrap();
    let next = ownership::unfence(&mut three, &mut proposer, epoch(7)).unwrap();
    assert_eq!((next.epoch(), next.slots_of(A)), (epoch(7), topology().slots_of(A)));
    for home in &mut three.homes {
        assert_eq!(home.connection.status().unwrap().epoch, epoch(7));
    }
    let again = ownership::unfence(&mut three, &mut proposer, epoch(7)).unwrap();
    assert_eq!(again, next, "there is nothing to pass any more");
}

#[apply(engines)]
fn a_lost_voter_is_replaced(kind: Kind) {
    let (bed, mut three, mut proposer) = three(kind);
    let (key, late) = (key_of(A, 0), key_of(A, 1));
    three.homes[0].write(&[set_key(&key, "1")]);
    let (first, rest) = three.homes.split_at_mut(1);
    rest.iter_mut().for_each(|home| home.pull(&mut first[0]));
    three.away = vec![A];
    ownership::take_over(&mut three, &mut proposer, A, false).unwrap();
    three.homes[0].write(&[set_key(&late, "late")]);
    let retired = voters::retire(&mut three, &mut proposer, A).unwrap();
    assert_eq!((retired.majority(), retired.previous().len()), (2, 3));
    let settled = voters::settle(&mut three, &mut proposer).unwrap();
    assert!(settled.previous().is_empty() && settled.retired().contains(&A));

    let joining = Joining {
        name: "store_4".to_owned(),
        holds_data: true,
        acceptor: Incarnation(4),
        address: None,
    };
    let (joined, id) = voters::join(&mut three, &mut proposer, &joining).unwrap();
    assert_eq!((id, joined.majority()), (PartitionId(4), 2), "it counts for nothing yet");
    let engine = bed.database("store_4.db");
    three.homes.push(home_of(&bed, engine));
    let early = voters::admit(&mut three, &mut proposer, id);
    assert!(early.is_err(), "it is not even founded: {early:?}");
    voters::found(&mut three, SetId(0xfeed), &joined, id).unwrap();
    voters::found(&mut three, SetId(0xfeed), &joined, id).unwrap();
    let early = voters::admit(&mut three, &mut proposer, id);
    assert!(matches!(early, Err(FailoverError::NotCaughtUp { .. })), "it holds nothing: {early:?}");
    voters::seed(&mut three, &joined, (id, C)).unwrap();
    let admitted = voters::admit(&mut three, &mut proposer, id).unwrap();
    assert_eq!((admitted.data_voters().count(), admitted.previous().len()), (3, 3));
    let settled = voters::settle(&mut three, &mut proposer).unwrap();
    assert_eq!(settled.voter(id).unwrap().state, State::Active);
    assert_eq!(three.homes[3].row(&key).unwrap().body, Some(body("1")));
    // Without the new voter's vote there is no majority any more.
    three.away = vec![A, C];
    assert_eq!(Proposer::new(9, settled.clone()).read(&mut three).unwrap(), settled);

    // The lost one comes back: what it alone has is kept, then it is empty.
    three.away.clear();
    let lost = topology().voter(A).unwrap().clone();
    voters::clear_retired(&mut three, &settled, &lost, B).unwrap();
    let kept: Vec<Key> = ledger_of(&mut three.homes[1]).into_iter().map(|row| row.key).collect();
    assert_eq!(kept, [late]);
    assert_eq!(three.homes[0].engine.connect().unwrap().identity().unwrap(), None);
    voters::clear_retired(&mut three, &settled, &lost, B).unwrap();
}

fn home_of(bed: &Bed, engine: Box<dyn Engine>) -> Home {
    let connection = engine.connect().unwrap();
    bed.home(engine, connection)
}

/// K5: what A and C acknowledged together is not on B, which alone would be enough once A is
/// retired.
#[apply(engines)]
fn a_takeover_right_after_a_retirement_fences_for_the_voters_before(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    let moved = Move { from: A, to: C, slots: topology().owned_by(A) };
    let next = ownership::promote(&mut three, &mut proposer, &moved).unwrap();
    let retired: Topology = voters::retire(&mut three, &mut proposer, A).unwrap();
    assert!(!retired.previous().is_empty() && retired.epoch() > next.epoch());
    three.away = vec![A, C];
    let mut other = Proposer::new(2, retired.clone());
    let failed = ownership::take_over(&mut three, &mut other, C, false);
    assert!(failed.is_err(), "{failed:?}");
    three.away.clear();
    voters::settle(&mut three, &mut proposer).unwrap();
}

/// Everybody takes in what everybody has, under `topology`.
fn round(three: &mut Three, topology: &Topology) {
    for (target, source) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let from = three.homes[target].vector();
        let page = Page { cuts: topology.cuts(), ..three.homes[source].page(from) };
        three.homes[target].connection.apply(&page, NEVER).unwrap();
    }
}

#[apply(engines)]
fn a_cut_goes_once_nobody_needs_it(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    let key = key_of(A, 0);
    three.away = vec![A];
    let taken = ownership::take_over(&mut three, &mut proposer, A, false).unwrap();
    let mut look = |three: &mut Three, first: Option<&Look>| {
        cuts::drop_old(three, &mut proposer, first).map(|(document, look)| {
            assert_eq!(document.cuts().is_empty(), look.is_none(), "{document:?}");
            look
        })
    };
    assert!(look(&mut three, None).is_err(), "one that cannot be asked may need it");
    three.homes[0].write(&[set_key(&key, "late")]);
    three.away.clear();

    // Nothing moves; and yet the lost master's log is not everywhere.
    let first = look(&mut three, None).unwrap();
    let first = look(&mut three, first.as_ref()).unwrap();
    let first = look(&mut three, first.as_ref()).unwrap();
    assert!(first.is_some(), "it may go on writing");

    three.homes[0].connection.raise(taken.epoch()).unwrap();
    let master = usize::from(taken.master_of(&key).0) - 1;
    let newer = |three: &mut Three, value| {
        let master = &mut three.homes[master].connection;
        master.commit(taken.epoch(), &[set_key(&key, value)]).unwrap();
    };
    newer(&mut three, "newer");
    let late = three.homes[0].row(&key).unwrap();
    for target in [1, 2] {
        let from = three.homes[target].vector();
        let page = Page { cuts: taken.cuts(), ..three.homes[0].page(from) };
        three.homes[target].connection.apply(&page, NEVER).unwrap();
    }
    // All have the lost master's log, and itself has not met what its successor wrote before.
    let first = look(&mut three, first.as_ref()).unwrap();
    let first = look(&mut three, first.as_ref()).unwrap();
    assert!(first.is_some(), "the late row still stands where it was written");
    assert_eq!(ledger_of(&mut three.homes[0]), []);
    round(&mut three, &taken);
    assert_eq!(ledger_of(&mut three.homes[0]), std::slice::from_ref(&late), "LOSS-1");
    let mut first = look(&mut three, first.as_ref()).unwrap();
    for _ in 0..2 {
        // Whatever goes on meanwhile.
        newer(&mut three, "goes on");
        round(&mut three, &taken);
        first = look(&mut three, first.as_ref()).unwrap();
    }
    assert_eq!(first, None);
    let standing = Proposer::new(9, taken.clone()).read(&mut three).unwrap();
    assert_eq!((standing.epoch(), standing.cuts().is_empty()), (taken.epoch(), true));
    assert_eq!(ledger_of(&mut three.homes[master]), [late]);
}

/// A retired origin never comes to the takeover's epoch.
#[apply(engines)]
fn the_cut_of_a_retired_partition_goes(kind: Kind) {
    let (_bed, mut three, mut proposer) = three(kind);
    three.away = vec![A];
    ownership::take_over(&mut three, &mut proposer, A, false).unwrap();
    voters::retire(&mut three, &mut proposer, A).unwrap();
    let mut look = None;
    for _ in 0..3 {
        let (standing, next) = cuts::drop_old(&mut three, &mut proposer, look.as_ref()).unwrap();
        assert!(!standing.cuts().is_empty(), "others may lack what one of them has of it");
        look = next;
    }
    let settled = voters::settle(&mut three, &mut proposer).unwrap();
    assert!(!settled.cuts().is_empty());
    let (_, first) = cuts::drop_old(&mut three, &mut proposer, None).unwrap();
    let (one, other) = three.homes.split_at_mut(2);
    one[1].pull(&mut other[0]);
    other[0].pull(&mut one[1]);
    let (_, first) = cuts::drop_old(&mut three, &mut proposer, first.as_ref()).unwrap();
    let (standing, first) = cuts::drop_old(&mut three, &mut proposer, first.as_ref()).unwrap();
    assert!(standing.cuts().is_empty() && first.is_none(), "{standing:?}");
}
