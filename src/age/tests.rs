use super::*;
use crate::topology::Role;
use crate::version::{Seq, Version};
use proptest::prelude::*;

const A: PartitionId = PartitionId(1);
const B: PartitionId = PartitionId(2);
const COPY: PartitionId = PartitionId(9);

fn topology() -> Topology {
    let names = ["a", "b"].map(|name| (name.to_owned(), Role::Master));
    Topology::found(&names.into()).unwrap()
}

fn version(seq: u64) -> Version {
    Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
}

fn vector(a: u64, b: u64) -> Vector {
    [(A, version(a)), (B, version(b))].into_iter().collect()
}

/// A topology that was read late enough for everything here.
const NOW: Duration = Duration::from_secs(3600);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn look(partition: PartitionId, asked: u64, vector: Vector) -> Look {
    let seq = vector.get(partition).seq();
    let status = Status {
        partition,
        run: RunId(1),
        epoch: Epoch::FIRST,
        seq,
        heads: vector.clone(),
        vector,
        floors: Vector::new(),
        reseed: ReseedNumber(0),
        reseeding: false,
    };
    Look { asked: ms(asked), status }
}

fn ages(looks: &[Look]) -> Ages {
    let mut ages = Ages::new();
    for look in looks {
        ages.note(look, &topology(), NOW);
    }
    ages
}

fn as_of(ages: &Ages, partition: PartitionId, masters: &[PartitionId]) -> Option<u64> {
    let as_of = ages.seen().as_of(partition, masters, &topology())?;
    Some(u64::try_from(as_of.as_millis()).unwrap())
}

const OVER: Over = Over { since: Duration::ZERO, reseed: ReseedNumber(0) };

fn as_of_read(ages: &Ages, over: &Over) -> Option<Duration> {
    ages.seen().as_of_read(COPY, over, &[A], &topology())
}

#[test]
fn a_partition_is_as_of_the_latest_heads_that_it_covers() {
    let mut ages = ages(&[look(A, 10, vector(1, 0)), look(A, 20, vector(2, 0))]);
    assert_eq!(as_of(&ages, COPY, &[A]), None, "never seen");
    assert_eq!(as_of(&ages, A, &[A]), Some(20));
    ages.note(&look(COPY, 30, vector(0, 0)), &topology(), NOW);
    assert_eq!(as_of(&ages, COPY, &[A]), None, "covers nothing");
    ages.note(&look(COPY, 40, vector(1, 0)), &topology(), NOW);
    assert_eq!(as_of(&ages, COPY, &[A]), Some(10));
    ages.note(&look(A, 50, vector(2, 0)), &topology(), NOW);
    assert_eq!(as_of(&ages, COPY, &[A]), Some(10), "still behind");
    ages.note(&look(COPY, 60, vector(2, 0)), &topology(), NOW);
    assert_eq!(as_of(&ages, COPY, &[A]), Some(50));
    ages.note(&look(A, 70, vector(2, 0)), &topology(), NOW);
    assert_eq!(as_of(&ages, COPY, &[A]), Some(70), "an idle master makes nobody older");
}

#[test]
fn a_key_ages_with_its_own_master_and_a_partition_with_all() {
    let looks = [
        look(A, 10, vector(1, 1)),
        look(B, 20, vector(1, 1)),
        look(COPY, 30, vector(1, 1)),
        look(A, 40, vector(1, 1)),
    ];
    let ages = ages(&looks);
    assert_eq!(as_of(&ages, COPY, &[A]), Some(40));
    assert_eq!(as_of(&ages, COPY, &[B]), Some(20), "nobody knows what B has taken since");
    assert_eq!(as_of(&ages, COPY, &[A, B]), Some(20));
    assert_eq!(as_of(&ages, B, &[B]), Some(20), "neither does B's own copy know");
}

#[test]
fn what_a_master_took_over_counts_as_its_own() {
    let taken_over = look(A, 10, vector(1, 5));
    let behind = look(COPY, 20, vector(1, 4));
    assert_eq!(as_of(&ages(&[taken_over, behind]), COPY, &[A]), None);
}

#[test]
fn heads_of_a_fenced_or_reseeding_master_count_for_nothing() {
    let mut fenced = look(A, 10, vector(1, 0));
    fenced.status.epoch = Epoch::FIRST.next();
    let mut reseeding = look(A, 20, vector(0, 0));
    reseeding.status.reseeding = true;
    let ages = ages(&[fenced, reseeding, look(COPY, 30, vector(1, 0))]);
    assert_eq!(as_of(&ages, COPY, &[A]), None);
}

/// H16: a master that is cut off does not hear of its successor.
#[test]
fn a_master_is_as_of_the_last_reading_of_the_topology() {
    let mut ages = Ages::new();
    ages.note(&look(A, 30, vector(1, 0)), &topology(), ms(10));
    ages.note(&look(COPY, 40, vector(1, 0)), &topology(), ms(10));
    assert_eq!(as_of(&ages, A, &[A]), Some(10));
    assert_eq!(as_of(&ages, COPY, &[A]), Some(10));
    ages.note(&look(A, 50, vector(1, 0)), &topology(), ms(45));
    assert_eq!(as_of(&ages, A, &[A]), Some(45));
    assert_eq!(as_of(&ages, COPY, &[A]), Some(45));
}

#[test]
fn another_assignment_begins_with_nothing() {
    let mut ages = ages(&[look(A, 10, vector(1, 0)), look(COPY, 20, vector(1, 0))]);
    let next = topology().at_epoch(Epoch::FIRST.next());
    assert_eq!(ages.seen().as_of(COPY, &[A], &next), None);
    ages.note(&look(B, 30, vector(1, 0)), &next, NOW);
    assert_eq!(ages.seen().as_of(COPY, &[A], &next), None);
    ages.note(&look(A, 40, vector(1, 0)), &topology(), NOW);
    assert_eq!(ages.seen().as_of(COPY, &[A], &next), None, "a look of before");
    ages.note(&look(A, 50, vector(1, 0)), &next, NOW);
    assert_eq!(ages.seen().as_of(COPY, &[A], &next), Some(ms(50)));
}

#[test]
fn a_vector_tells_of_older_connections_and_of_its_reseed_number_only() {
    let ages = ages(&[look(A, 10, vector(1, 0)), look(COPY, 20, vector(1, 0))]);
    assert_eq!(as_of_read(&ages, &OVER), Some(ms(10)));
    assert_eq!(as_of_read(&ages, &Over { since: ms(20), ..OVER }), Some(ms(10)));
    assert_eq!(as_of_read(&ages, &Over { since: ms(21), ..OVER }), None);
    assert_eq!(as_of_read(&ages, &Over { reseed: ReseedNumber(1), ..OVER }), None);
}

#[test]
fn another_run_or_reseed_forgets_what_was_covered() {
    let looks = [look(A, 10, vector(1, 0)), look(COPY, 20, vector(1, 0))];
    let again = |change: fn(&mut Status)| {
        let mut ages = ages(&looks);
        let mut look = look(COPY, 30, vector(0, 0));
        change(&mut look.status);
        ages.note(&look, &topology(), NOW);
        as_of(&ages, COPY, &[A])
    };
    assert_eq!(again(|_| ()), Some(10), "the same run cannot go back");
    assert_eq!(again(|status| status.run = RunId(2)), None);
    assert_eq!(again(|status| status.reseed = ReseedNumber(1)), None);
    assert_eq!(again(|status| status.reseeding = true), None);
}

#[test]
fn what_is_needed_is_the_least_that_will_do() {
    let looks = [
        look(A, 10, vector(1, 0)),
        look(A, 20, vector(2, 0)),
        look(A, 30, vector(3, 0)),
        look(B, 25, vector(0, 7)),
    ];
    let ages = ages(&looks);
    let needed = |max_age, masters| ages.needed(ms(40), ms(max_age), masters, &topology());
    assert_eq!(needed(100, &[A]), Some((vector(1, 0), ms(10))));
    assert_eq!(needed(20, &[A]), Some((vector(2, 0), ms(20))));
    assert_eq!(needed(15, &[A]), Some((vector(3, 0), ms(30))));
    assert_eq!(needed(9, &[A]), None, "nobody looked since");
    assert_eq!(needed(15, &[A, B]), Some((vector(3, 7), ms(25))));
    assert_eq!(needed(12, &[A, B]), None);
    let next = topology().at_epoch(Epoch::FIRST.next());
    assert_eq!(ages.needed(ms(40), ms(100), &[A], &next), None);
}

#[test]
fn few_heads_are_kept_and_the_first_among_them() {
    let mut ages = Ages::new();
    for n in 1..=10_000 {
        ages.note(&look(A, n * 100, vector(n, 0)), &topology(), NOW);
    }
    let heads = &ages.heads[&A];
    assert!(heads.len() <= HEADS_MAX, "BOUND-1: {}", heads.len());
    assert_eq!(heads.front().unwrap().asked, ms(100));
    let dense = heads.iter().rev().take(30).map(|heads| heads.asked.as_millis());
    assert_eq!(
        dense.collect::<Vec<_>>(),
        (9_971..=10_000).rev().map(|n| n * 100).collect::<Vec<_>>()
    );
}

/// What happens to a master, a copy and whoever looks at them.
#[derive(Clone, Copy, Debug)]
enum Event {
    Write,
    /// The copy gets so many of what it lacks.
    Copied(u64),
    /// A look is begun, or answered. Both may wait long.
    Ask(PartitionId),
    Answer(PartitionId),
    /// The copy goes back by so much, in another run.
    Crash(u64),
    Read,
}

fn event() -> impl Strategy<Value = Event> {
    let who = prop_oneof![Just(A), Just(COPY)];
    prop_oneof![
        4 => Just(Event::Write),
        4 => (0..4_u64).prop_map(Event::Copied),
        4 => who.clone().prop_map(Event::Ask),
        4 => who.prop_map(Event::Answer),
        1 => (0..4_u64).prop_map(Event::Crash),
        4 => Just(Event::Read),
    ]
}

proptest! {
    /// AGE-1, for every order of events: what is read has all that was written before its age.
    #[test]
    fn a_told_age_is_never_smaller_than_the_truth(events in prop::collection::vec(event(), 1..200)) {
        let mut ages = Ages::new();
        let (mut written, mut has, mut run, mut since) = (Vec::<u64>::new(), 0, 1, 0);
        let mut asked: BTreeMap<PartitionId, Look> = BTreeMap::new();
        for (now, event) in (1_u64..).zip(events) {
            match event {
                Event::Write => written.push(now),
                Event::Copied(n) => has = (has + n).min(written.len() as u64),
                Event::Ask(who) => {
                    let at = if who == A { written.len() as u64 } else { has };
                    let mut look = look(who, now, vector(at, 0));
                    look.status.run = RunId(if who == A { 1 } else { run });
                    asked.insert(who, look);
                }
                Event::Answer(who) => {
                    if let Some(look) = asked.remove(&who) {
                        ages.note(&look, &topology(), NOW);
                    }
                }
                Event::Crash(n) => (has, run, since) = (has.saturating_sub(n), run + 1, now),
                Event::Read => {
                    let over = Over { since: ms(since), ..OVER };
                    if let Some(as_of) = as_of_read(&ages, &over) {
                        let before = written.iter().filter(|at| ms(**at) < as_of).count() as u64;
                        prop_assert!(has >= before, "has {has} of {before} before {as_of:?}");
                    }
                    if let Some((needed, as_of)) = ages.needed(ms(now), ms(20), &[A], &topology())
                        && vector(has, 0).covers(&needed)
                    {
                        let before = written.iter().filter(|at| ms(**at) < as_of).count() as u64;
                        prop_assert!(has >= before && as_of + ms(20) >= ms(now));
                    }
                }
            }
        }
    }
}
