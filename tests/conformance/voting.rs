//! The acceptor of the topology register, and the register over three of them.

use datastore::partition::acceptor::Ballot;
use datastore::partition::{Partition, PartitionError, Refusal, Result};
use datastore::register::{Proposer, Reach, RegisterError};
use datastore::topology::{Incarnation, State, Voter};
use datastore::version::PartitionId;
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Home, Kind, epoch, refusal, set, topology};
use crate::engines;

/// As `found` lists it: nobody has seeded the topology of the suite.
const LIFE: Incarnation = Incarnation(0);

const fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: 7 }
}

#[apply(engines)]
fn a_founded_acceptor_has_accepted_the_first_document(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let acceptor = home.connection.acceptor().unwrap();
    assert_eq!(acceptor.partition, PartitionId(1));
    assert_eq!(acceptor.run, home.connection.status().unwrap().run);
    assert_eq!(acceptor.row.accepted, Ballot::FOUNDING);
    assert_eq!(acceptor.row.promised, Ballot::FOUNDING);
    assert_eq!((acceptor.row.incarnation, acceptor.row.document), (LIFE, topology()));
}

#[apply(engines)]
fn a_promise_holds_off_what_is_lower(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    let given = home.connection.promise(LIFE, ballot(5)).unwrap();
    assert_eq!(given.row.accepted, Ballot::FOUNDING, "what was accepted is told, and stays");
    let outbid = Refusal::Outbid { promised: ballot(5) };
    for lower in [ballot(4), ballot(5), Ballot { round: 5, proposer: 6 }] {
        assert_eq!(refusal(home.connection.promise(LIFE, lower)), outbid);
    }
    let next = topology().at_epoch(epoch(2));
    assert_eq!(refusal(home.connection.accept(LIFE, ballot(4), &next)), outbid);
    home.connection.accept(LIFE, ballot(5), &next).unwrap();
    home.connection.accept(LIFE, ballot(5), &next).unwrap();
    let mut other = home.engine.connect().unwrap();
    let row = other.acceptor().unwrap().row;
    assert_eq!((row.promised, row.accepted, &row.document), (ballot(5), ballot(5), &next));
    assert_eq!(other.identity().unwrap().unwrap().topology, next);
    assert_eq!(refusal(other.promise(LIFE, ballot(5))), Refusal::Outbid { promised: ballot(5) });
}

#[apply(engines)]
fn an_acceptor_votes_in_one_life_only(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let before = home.connection.acceptor().unwrap();
    let other = Incarnation(u64::MAX);
    assert_eq!(refusal(home.connection.promise(other, ballot(9))), Refusal::OtherIncarnation);
    let next = topology().at_epoch(epoch(9));
    let refused = refusal(home.connection.accept(other, ballot(9), &next));
    assert_eq!(refused, Refusal::OtherIncarnation);
    assert_eq!(home.connection.acceptor().unwrap(), before);
    assert_eq!(home.connection.status().unwrap().epoch, epoch(1));
}

#[apply(engines)]
fn accepting_an_epoch_fences_below_it(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("a", "1")]);
    home.connection.accept(LIFE, ballot(2), &topology().at_epoch(epoch(3))).unwrap();
    let refused = refusal(home.connection.commit(epoch(1), &[set("a", "2")]));
    assert_eq!(refused, Refusal::Fenced { clock: epoch(3) }, "FENCE-1");
    home.connection.commit(epoch(3), &[set("a", "2")]).unwrap();
    home.connection.raise(epoch(8)).unwrap();
    home.connection.accept(LIFE, ballot(3), &topology().at_epoch(epoch(4))).unwrap();
    assert_eq!(home.connection.status().unwrap().epoch, epoch(8), "clocks never go down");
}

/// Three partitions, some of them out of reach.
pub struct Three {
    pub homes: Vec<Home>,
    pub away: Vec<PartitionId>,
    asked: usize,
}

impl Three {
    pub fn new(bed: &Bed) -> Self {
        Self { homes: (1..=3).map(|n| bed.partition(n)).collect(), away: Vec::new(), asked: 0 }
    }
}

impl Reach for Three {
    fn with(
        &mut self,
        voter: &Voter,
        work: &mut dyn FnMut(&mut dyn Partition) -> Result<()>,
    ) -> Result<()> {
        self.asked += 1;
        if self.away.contains(&voter.id) {
            return Err(PartitionError::Unreachable("away".into()));
        }
        match self.homes.get_mut(usize::from(voter.id.0) - 1) {
            Some(home) => work(home.connection.as_mut()),
            None => Err(PartitionError::Unreachable("not made yet".into())),
        }
    }
}

pub const A: PartitionId = PartitionId(1);
pub const B: PartitionId = PartitionId(2);
pub const C: PartitionId = PartitionId(3);

#[apply(engines)]
fn what_one_has_changed_every_other_reads(kind: Kind) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let (mut one, mut other) = (Proposer::new(1, topology()), Proposer::new(2, topology()));
    let base = one.read(&mut three).unwrap();
    assert_eq!(base, topology());
    let next = base.take_over(A, B, crate::bed::version(1, 4), epoch(2)).unwrap();
    three.away = vec![A];
    one.change(&mut three, &base, &next).unwrap();
    three.away = vec![C];
    assert_eq!(other.read(&mut three).unwrap(), next);
    three.away.clear();
    let late = base.mark(C, State::Down).unwrap();
    match other.change(&mut three, &base, &late) {
        Err(RegisterError::Lost(standing)) => assert_eq!(*standing, next),
        otherwise => panic!("{otherwise:?}"),
    }
    for home in &mut three.homes {
        assert_eq!(home.connection.status().unwrap().epoch, epoch(2));
    }
}

#[apply(engines)]
fn a_quiet_register_is_read_and_not_written(kind: Kind) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let before: Vec<_> =
        three.homes.iter_mut().map(|home| home.connection.acceptor().unwrap()).collect();
    let mut proposer = Proposer::new(1, topology());
    proposer.read(&mut three).unwrap();
    three.asked = 0;
    proposer.read(&mut three).unwrap();
    assert_eq!(three.asked, 2, "a majority says the same: that is all there is to ask");
    let after: Vec<_> =
        three.homes.iter_mut().map(|home| home.connection.acceptor().unwrap()).collect();
    assert_eq!(before, after);
}

#[apply(engines)]
fn a_minority_neither_reads_nor_changes(kind: Kind) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let mut proposer = Proposer::new(1, topology());
    let base = proposer.read(&mut three).unwrap();
    three.away = vec![A, C];
    let next = base.at_epoch(epoch(2));
    let failed = proposer.change(&mut three, &base, &next);
    assert!(matches!(failed, Err(RegisterError::NoQuorum)), "{failed:?}");
    let failed = proposer.read(&mut three);
    assert!(matches!(failed, Err(RegisterError::NoQuorum)), "{failed:?}");
}

/// A value that only one acceptor has may have been chosen with one that is away: whoever comes
/// next brings it to its end.
#[apply(engines)]
fn a_change_that_was_broken_off_is_brought_to_its_end(kind: Kind) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let next = topology().at_epoch(epoch(2));
    let died = Ballot { round: 2, proposer: 9 };
    three.homes[2].connection.promise(LIFE, died).unwrap();
    three.homes[2].connection.accept(LIFE, died, &next).unwrap();
    three.away = vec![A];
    let mut proposer = Proposer::new(1, topology());
    assert_eq!(proposer.read(&mut three).unwrap(), next);
    three.away = vec![C];
    assert_eq!(Proposer::new(2, topology()).read(&mut three).unwrap(), next);
}

/// Only A has accepted a document without C, and is lost then. A proposer that has met it there
/// goes on with those who are left.
#[apply(engines)]
fn a_document_that_was_never_chosen_holds_nobody_up(
    kind: Kind,
    #[values(false, true)] differ: bool,
) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let mut proposer = Proposer::new(1, topology());
    let base = proposer.read(&mut three).unwrap();
    let lost = base.take_over(C, A, crate::bed::version(1, 0), epoch(2)).unwrap();
    proposer.change(&mut three, &base, &lost).unwrap();
    let retired = lost.retire(C, epoch(3)).unwrap();
    let died = Ballot { round: 20, proposer: 9 };
    three.homes[0].connection.promise(LIFE, died).unwrap();
    three.homes[0].connection.accept(LIFE, died, &retired).unwrap();
    if differ {
        let again = Ballot { round: 19, proposer: 9 };
        three.homes[1].connection.promise(LIFE, again).unwrap();
        three.homes[1].connection.accept(LIFE, again, &lost).unwrap();
    }
    three.away = vec![B, C];
    let failed = proposer.read(&mut three);
    assert!(matches!(failed, Err(RegisterError::NoQuorum)), "{failed:?}");
    three.away = vec![A];
    assert_eq!(proposer.read(&mut three).unwrap(), lost);
    let next = lost.take_over(A, B, crate::bed::version(1, 0), epoch(3)).unwrap();
    proposer.change(&mut three, &lost, &next).unwrap();
    three.away.clear();
    assert_eq!(Proposer::new(2, topology()).read(&mut three).unwrap(), next);
}

/// While a change of the voters is not settled, the voters before it have to agree, too.
#[apply(engines)]
fn a_new_voter_alone_decides_nothing(kind: Kind) {
    let bed = Bed::new(kind);
    let mut three = Three::new(&bed);
    let mut proposer = Proposer::new(1, topology());
    let base = proposer.read(&mut three).unwrap();
    let down = base.mark(C, State::Down).unwrap();
    proposer.change(&mut three, &base, &down).unwrap();
    let lost = down.take_over(C, A, crate::bed::version(1, 0), epoch(2)).unwrap();
    proposer.change(&mut three, &down, &lost).unwrap();
    let retired = lost.retire(C, epoch(3)).unwrap();
    three.away = vec![B];
    let failed = proposer.change(&mut three, &lost, &retired);
    assert!(matches!(failed, Err(RegisterError::NoQuorum)), "two of two, and two of three");
    three.away = vec![C];
    assert_eq!(proposer.read(&mut three).unwrap(), retired, "what was begun is brought to its end");
    let settled = retired.settle();
    proposer.change(&mut three, &retired, &settled).unwrap();
    three.away = vec![A];
    assert!(proposer.read(&mut three).is_err(), "C counts for nothing any more");
}
