//! The register while its voters change, by two proposers at once.
//!
//! Acceptor 2 was removed a moment ago; the second proposer has not heard of it. The first lets
//! acceptor 3 in, then removes acceptor 0; the second changes what it finds.

use std::collections::{BTreeMap, BTreeSet};

use datastore::partition::acceptor::Ballot;
use datastore::register::ballots::{Document, Electorate, Seat, Verdict, Vote, all_agree, judge};
use datastore::topology::Incarnation;
use datastore::version::PartitionId;
use stateright::{Checker, Model, Property};

const ACCEPTORS: u16 = 4;
const PROPOSERS: usize = 2;
const BALLOTS: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// Who has to accept is taken from the value before.
    OldElectorate,
    /// What one acceptor holds is acted on.
    ReadFromOne,
    /// An acceptor that forgot its promises votes as before.
    Amnesia,
}

/// A document of which only the voters matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Doc {
    revision: u64,
    voters: BTreeSet<u16>,
    previous: BTreeSet<u16>,
    by: usize,
}

impl Document for Doc {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn electorates(&self) -> Vec<Electorate> {
        let one = |ids: &BTreeSet<u16>| Electorate::of(ids.iter().map(|id| seat(*id)));
        let all = [&self.voters, &self.previous];
        all.into_iter().filter(|ids| !ids.is_empty()).map(one).collect()
    }
}

const fn seat(id: u16) -> Seat {
    (PartitionId(id), Incarnation(0))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Acceptor {
    promised: Ballot,
    accepted: Ballot,
    doc: Doc,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Promising { asked: BTreeSet<u16>, given: BTreeMap<Seat, Vote<Doc>>, whom: Doc },
    Accepting { asked: BTreeSet<u16>, ayes: BTreeSet<Seat>, value: Doc, judge_by: Doc },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposer {
    ballots: u64,
    known: Doc,
    chosen: Doc,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    acceptors: Vec<Acceptor>,
    proposers: Vec<Proposer>,
    /// Everything that somebody acted on.
    acted: BTreeSet<Doc>,
    forgotten: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Begin(usize),
    Ask(usize, u16),
    Decide(usize),
    ReadOne(usize, u16),
    Forget(u16),
}

struct Register(Mutant);

impl Register {
    /// What a proposer makes of a value: one change of the voters, or, before the next one, that
    /// the last is settled.
    fn next(&self, by: usize, base: &Doc) -> Doc {
        let mut next = Doc { revision: base.revision + 1, by, ..base.clone() };
        if !base.previous.is_empty() && self.0 != Mutant::OldElectorate {
            next.previous.clear();
            return next;
        }
        next.previous = base.voters.clone();
        if by == 0 && !next.voters.insert(3) {
            next.voters.remove(&0);
        }
        next
    }

    fn ask(&self, state: &mut State, nth: usize, id: u16) {
        let proposer = &mut state.proposers[nth];
        let ballot = Ballot { round: 2 + proposer.ballots, proposer: nth as u64 };
        let acceptor = &mut state.acceptors[usize::from(id)];
        match &mut proposer.phase {
            Phase::Idle => {}
            Phase::Promising { asked, given, .. } => {
                asked.insert(id);
                if ballot > acceptor.promised {
                    acceptor.promised = ballot;
                    let document = acceptor.doc.clone();
                    given.insert(seat(id), Vote { accepted: acceptor.accepted, document });
                }
            }
            Phase::Accepting { asked, ayes, value, .. } => {
                asked.insert(id);
                if ballot >= acceptor.promised {
                    *acceptor = Acceptor { promised: ballot, accepted: ballot, doc: value.clone() };
                    ayes.insert(seat(id));
                }
            }
        }
    }

    fn decide(&self, state: &mut State, nth: usize) {
        let proposer = &mut state.proposers[nth];
        match proposer.phase.clone() {
            Phase::Idle => {}
            Phase::Promising { asked, given, whom } => match judge(&whom, &given) {
                Verdict::NoQuorum => proposer.phase = Phase::Idle,
                Verdict::Ask(doc) if self.0 != Mutant::OldElectorate => {
                    proposer.known = doc.clone();
                    proposer.phase = Phase::Promising { asked, given, whom: doc };
                }
                Verdict::Ask(doc) | Verdict::Free(doc) => {
                    proposer.known = doc.clone();
                    let certain = doc == proposer.chosen || self.0 == Mutant::OldElectorate;
                    let value = if certain { self.next(nth, &doc) } else { doc.clone() };
                    let judge_by = match self.0 {
                        Mutant::OldElectorate => Doc { previous: BTreeSet::new(), ..doc },
                        Mutant::None | Mutant::ReadFromOne | Mutant::Amnesia => value.clone(),
                    };
                    let (asked, ayes) = (BTreeSet::new(), BTreeSet::new());
                    proposer.phase = Phase::Accepting { asked, ayes, value, judge_by };
                }
            },
            Phase::Accepting { ayes, value, judge_by, .. } => {
                proposer.phase = Phase::Idle;
                if all_agree(&judge_by, &ayes) {
                    proposer.known = value.clone();
                    proposer.chosen = value.clone();
                    state.acted.insert(value);
                }
            }
        }
    }
}

impl Model for Register {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let doc = |revision, voters| {
            let voters: BTreeSet<u16> = (0..voters).collect();
            Doc { revision, voters, previous: BTreeSet::new(), by: PROPOSERS }
        };
        let (first, second) = (doc(1, 3), doc(2, 2));
        let acceptor = |round, doc: &Doc| {
            let ballot = Ballot { round, proposer: 0 };
            Acceptor { promised: ballot, accepted: ballot, doc: doc.clone() }
        };
        let proposer = |chosen: &Doc| Proposer {
            ballots: 0,
            known: chosen.clone(),
            chosen: chosen.clone(),
            phase: Phase::Idle,
        };
        let ballots = [(2, &second), (2, &second), (1, &first), (0, &second)];
        vec![State {
            acceptors: ballots.map(|(round, doc)| acceptor(round, doc)).to_vec(),
            proposers: vec![proposer(&second), proposer(&first)],
            acted: BTreeSet::from([first, second]),
            forgotten: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (nth, proposer) in state.proposers.iter().enumerate() {
            let open = |asked: &BTreeSet<u16>, of: &Doc| -> Vec<u16> {
                let whom = of.voters.union(&of.previous).copied();
                whom.filter(|id| !asked.contains(id)).collect()
            };
            match &proposer.phase {
                Phase::Idle if proposer.ballots < BALLOTS => actions.push(Action::Begin(nth)),
                Phase::Idle => {}
                Phase::Promising { asked, whom, .. } => {
                    actions.extend(open(asked, whom).into_iter().map(|id| Action::Ask(nth, id)));
                    actions.push(Action::Decide(nth));
                }
                Phase::Accepting { asked, value, ayes, judge_by } => {
                    actions.extend(open(asked, value).into_iter().map(|id| Action::Ask(nth, id)));
                    if all_agree(judge_by, ayes) || open(asked, value).is_empty() {
                        actions.push(Action::Decide(nth));
                    }
                }
            }
            if self.0 == Mutant::ReadFromOne {
                actions.extend((0..ACCEPTORS).map(|id| Action::ReadOne(nth, id)));
            }
        }
        if self.0 == Mutant::Amnesia && !state.forgotten {
            actions.extend((0..3).map(Action::Forget));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(nth) => {
                let proposer = &mut state.proposers[nth];
                proposer.ballots += 1;
                let (asked, given) = (BTreeSet::new(), BTreeMap::new());
                let whom = proposer.known.clone();
                proposer.phase = Phase::Promising { asked, given, whom };
            }
            Action::Ask(nth, id) => self.ask(&mut state, nth, id),
            Action::Decide(nth) => self.decide(&mut state, nth),
            Action::ReadOne(nth, id) => {
                let doc = state.acceptors[usize::from(id)].doc.clone();
                state.proposers[nth].known = doc.clone();
                state.acted.insert(doc);
            }
            Action::Forget(id) => {
                let mut first = self.init_states().remove(0);
                state.acceptors[usize::from(id)] = first.acceptors.swap_remove(usize::from(id));
                state.forgotten = true;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one value a revision", |_, state: &State| {
                let revisions: BTreeSet<u64> = state.acted.iter().map(|doc| doc.revision).collect();
                revisions.len() == state.acted.len()
            }),
            Property::sometimes("a change is settled", |_, state: &State| {
                let settled = |doc: &Doc| doc.voters.contains(&3) && doc.previous.is_empty();
                state.acted.iter().any(settled)
            }),
        ]
    }
}

#[test]
fn one_value_is_chosen_for_a_revision() {
    super::exhaust("voters", Register(Mutant::None)).assert_properties();
}

#[test]
fn every_mutant_is_caught() {
    for mutant in [Mutant::OldElectorate, Mutant::ReadFromOne, Mutant::Amnesia] {
        let found = super::first_failure(Register(mutant), "one value a revision");
        println!("{mutant:?}: {found:?}");
    }
}
