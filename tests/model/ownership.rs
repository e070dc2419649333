//! Register, fence, takeover, and the return of a lost master with late writes.
//!
//! Three voters that hold one key. A front end writes at whom its topology names as the master, and
//! pushes for a majority; two others take ownership over from a master that they cannot reach, and
//! one of them writes, too. The first master comes back once; then passes run. Every step may come
//! late or never: whoever is away, or has crashed, is one whose steps do not come. The answers to
//! one promise round come at once; [`crate::voters`] takes them one by one.

use std::collections::{BTreeMap, BTreeSet};

use datastore::partition::acceptor::Ballot;
use datastore::register::ballots::{
    Document, Electorate, Seat, Verdict, Vote, all_agree, chosen, judge,
};
use datastore::topology::Incarnation;
use datastore::version::PartitionId;
use stateright::{Model, Property};

use crate::{exhaust, first_failure};

type Part = usize;
const VOTERS: Part = 3;
const FRONTS: usize = 3;
/// The first of them write, once each.
const WRITERS: usize = 2;
const CUTS_MAX: usize = 4;
/// Ballots of each front end: the first, cut off, takes nothing over. The wide bounds are 22.7
/// million states, ten times as many: `scripts/soak` asks for them.
const BALLOTS: [u64; FRONTS] = [0, 2, 1];
const WIDE_BALLOTS: [u64; FRONTS] = [0, 2, 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// A takeover raises no clocks first.
    NoFence,
    /// What one acceptor holds is acted on.
    ReadFromOne,
    /// The successor takes over without pulling from those that were fenced.
    NoCatchUp,
    /// What overwrites a late row does not note it.
    NoLedger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Doc {
    revision: u64,
    epoch: u8,
    owner: Part,
    /// The lost master, the epoch of the takeover, and the writes that the successor had.
    cuts: [Option<(Part, u8, u8)>; CUTS_MAX],
    by: usize,
}

impl Document for Doc {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn electorates(&self) -> Vec<Electorate> {
        vec![Electorate::of((0..VOTERS).map(seat))]
    }
}

fn seat(id: Part) -> Seat {
    (PartitionId(u16::try_from(id).unwrap()), Incarnation(0))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Voter {
    clock: u8,
    /// The key's current row: a write, from 1; 0: none.
    row: usize,
    /// The writes whose log entries are here.
    held: u8,
    ledger: u8,
    promised: Ballot,
    accepted: Ballot,
    doc: Doc,
}

/// One write. Its version orders by epoch, then by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    epoch: u8,
    at: Part,
    by: usize,
    /// What its master had seen: it is history, not lost.
    history: u8,
    by_majority: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Fencing { epoch: u8 },
    Pulling { epoch: u8, successor: Part },
    Proposing { epoch: u8, successor: Part },
    Accepting { value: Doc, ayes: BTreeSet<Seat> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Front {
    doc: Doc,
    ballots: u64,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    voters: Vec<Voter>,
    fronts: Vec<Front>,
    writes: Vec<Write>,
    /// Which documents were chosen, whoever knows.
    decided: Vec<Doc>,
    returned: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Return,
    Write(usize),
    Push(usize, Part),
    Refresh(usize),
    RefreshFrom(usize, Part),
    Begin(usize),
    Fence(usize),
    Pull(usize),
    Promise(usize, Part),
    Accept(usize, Part),
    Pass(usize, Part, Part),
}

struct Ownership {
    mutant: Mutant,
    ballots: [u64; FRONTS],
}

const fn bit(nth: usize) -> u8 {
    1 << nth
}

/// The data voters other than `lost`: fencing N - majority(N) + 1 of three takes both.
fn others(lost: Part) -> impl Iterator<Item = Part> {
    (0..VOTERS).filter(move |id| *id != lost)
}

impl Front {
    const fn ballot(&self, by: usize) -> Ballot {
        Ballot { round: 1 + self.ballots, proposer: by as u64 }
    }
}

impl State {
    fn version(&self, row: usize) -> (u8, usize) {
        row.checked_sub(1).map_or((0, 0), |nth| (self.writes[nth].epoch, row))
    }

    fn is_late(&self, row: usize, doc: &Doc) -> bool {
        let write = &self.writes[row - 1];
        doc.cuts.into_iter().flatten().any(|(lost, epoch, cut)| {
            write.at == lost && write.epoch < epoch && cut & bit(row - 1) == 0
        })
    }

    /// Takes in the current row of another partition.
    fn merge(&mut self, to: Part, row: usize, doc: &Doc, ledger: bool) {
        let standing = self.voters[to].row;
        if row == 0 || row == standing {
            return;
        }
        let wins = self.version(row) > self.version(standing);
        let loser = if wins { standing } else { row };
        let known =
            loser == 0 || self.history(if wins { row } else { standing }) & bit(loser - 1) != 0;
        if ledger && !known && self.is_late(loser, doc) {
            self.voters[to].ledger |= bit(loser - 1);
        }
        if wins {
            self.voters[to].row = row;
        }
        let epoch = self.version(row).0;
        self.voters[to].clock = self.voters[to].clock.max(epoch);
    }

    fn history(&self, row: usize) -> u8 {
        row.checked_sub(1).map_or(0, |nth| self.writes[nth].history | bit(nth))
    }

    /// Whether a front end has nothing under way that could still come to its end.
    fn is_stuck(&self, by: usize) -> bool {
        let ballot = self.fronts[by].ballot(by);
        let outbid = self.voters.iter().filter(|voter| voter.promised > ballot);
        match self.fronts[by].phase {
            Phase::Idle => true,
            Phase::Fencing { .. } | Phase::Pulling { .. } => false,
            Phase::Proposing { .. } | Phase::Accepting { .. } => outbid.count() * 2 > VOTERS,
        }
    }

    /// What reading all rows, without a ballot, shows to be chosen.
    fn shown(&self) -> Option<Doc> {
        let vote = |id: Part| {
            let voter = &self.voters[id];
            (seat(id), Vote { accepted: voter.accepted, document: voter.doc })
        };
        chosen(&(0..VOTERS).map(vote).collect()).map(|(_, doc)| doc)
    }
}

impl Ownership {
    fn write(state: &mut State, by: usize) {
        let doc = state.fronts[by].doc;
        let voter = &mut state.voters[doc.owner];
        if voter.clock > doc.epoch {
            return;
        }
        voter.clock = doc.epoch;
        let (epoch, at, row) = (doc.epoch, doc.owner, state.writes.len() + 1);
        let before = voter.row;
        let history = state.history(before);
        state.writes.push(Write { epoch, at, by, history, by_majority: false });
        state.voters[at].row = row;
        state.voters[at].held |= bit(row - 1);
    }

    fn push(state: &mut State, nth: usize, to: Part) {
        let write = state.writes[nth].clone();
        if state.voters[to].clock > write.epoch {
            return;
        }
        let doc = state.fronts[write.by].doc;
        state.voters[to].held |= bit(nth);
        state.merge(to, nth + 1, &doc, true);
        state.writes[nth].by_majority = true;
    }

    /// Both at once: what comes in between is at one of them, and could as well come before or
    /// after.
    fn fence(&self, state: &mut State, by: usize) {
        let Phase::Fencing { epoch } = state.fronts[by].phase else { return };
        let lost = state.fronts[by].doc.owner;
        for id in others(lost).filter(|_| self.mutant != Mutant::NoFence) {
            state.voters[id].clock = state.voters[id].clock.max(epoch);
        }
        let furthest = |id: &Part| (state.voters[*id].held.count_ones(), *id);
        let successor = others(lost).max_by_key(furthest).unwrap();
        state.fronts[by].phase = Phase::Pulling { epoch, successor };
    }

    fn pull(&self, state: &mut State, by: usize) {
        let Phase::Pulling { epoch, successor } = state.fronts[by].phase else { return };
        let doc = state.fronts[by].doc;
        let other = others(doc.owner).find(|id| *id != successor).unwrap();
        if self.mutant != Mutant::NoCatchUp {
            let (held, row) = (state.voters[other].held, state.voters[other].row);
            state.voters[successor].held |= held;
            state.merge(successor, row, &doc, true);
        }
        state.fronts[by].phase = Phase::Proposing { epoch, successor };
    }

    /// All but `without` are asked for a promise; what they say decides.
    fn promise(state: &mut State, by: usize, without: Part) {
        let front = &state.fronts[by];
        let (ballot, base) = (front.ballot(by), front.doc);
        let Phase::Proposing { epoch, successor } = front.phase else { return };
        let mut given = BTreeMap::new();
        for id in others(without) {
            let voter = &mut state.voters[id];
            if ballot > voter.promised {
                voter.promised = ballot;
                given.insert(seat(id), Vote { accepted: voter.accepted, document: voter.doc });
            }
        }
        let fenced_further = others(base.owner).any(|id| state.voters[id].clock > epoch);
        state.fronts[by].phase = match judge(&base, &given) {
            Verdict::NoQuorum | Verdict::Ask(_) => Phase::Idle,
            Verdict::Free(standing) if standing == base && fenced_further => Phase::Idle,
            Verdict::Free(standing) if standing == base => {
                let mut cuts = base.cuts;
                let free = cuts.iter().position(Option::is_none).unwrap();
                cuts[free] = Some((base.owner, epoch, state.voters[successor].held));
                let revision = base.revision + 1;
                let value = Doc { revision, epoch, owner: successor, cuts, by };
                Phase::Accepting { value, ayes: BTreeSet::new() }
            }
            // Another one: it is brought to its end.
            Verdict::Free(value) => Phase::Accepting { value, ayes: BTreeSet::new() },
        };
    }

    fn accept(state: &mut State, by: usize, id: Part) {
        let front = &mut state.fronts[by];
        let ballot = front.ballot(by);
        let Phase::Accepting { value, ayes } = &mut front.phase else { return };
        let (value, voter) = (*value, &mut state.voters[id]);
        if ballot >= voter.promised {
            voter.promised = ballot;
            voter.accepted = ballot;
            voter.doc = value;
            voter.clock = voter.clock.max(value.epoch);
            ayes.insert(seat(id));
        }
        if all_agree(&value, ayes) {
            front.doc = value;
            front.phase = Phase::Idle;
            if !state.decided.contains(&value) {
                state.decided.push(value);
            }
        }
    }

    fn actions_of(&self, state: &State, by: usize, actions: &mut Vec<Action>) {
        let front = &state.fronts[by];
        if by < WRITERS && state.writes.iter().all(|write| write.by != by) {
            actions.push(Action::Write(by));
        }
        let newest = state.decided[state.decided.len() - 1];
        // The first one stays cut off: it never hears of a change.
        let reads = by == 1 || (by > 1 && front.ballots < self.ballots[by] && !state.returned);
        if reads && newest.revision > front.doc.revision && front.phase == Phase::Idle {
            actions.push(Action::Refresh(by));
        }
        if self.mutant == Mutant::ReadFromOne {
            actions.extend((0..VOTERS).map(|id| Action::RefreshFrom(by, id)));
        }
        // The first front end is cut off together with the first master: it takes nothing over.
        if by > 0 && front.ballots < self.ballots[by] && !state.returned && state.is_stuck(by) {
            actions.push(Action::Begin(by));
        }
        match &front.phase {
            Phase::Idle => {}
            Phase::Fencing { .. } => actions.push(Action::Fence(by)),
            Phase::Pulling { .. } => actions.push(Action::Pull(by)),
            Phase::Proposing { .. } => {
                actions.extend((0..VOTERS).map(|without| Action::Promise(by, without)));
            }
            Phase::Accepting { ayes, .. } => {
                let open = (0..VOTERS).filter(|id| !ayes.contains(&seat(*id)));
                actions.extend(open.map(|id| Action::Accept(by, id)));
            }
        }
    }

    /// Passes run once the lost master is back, under the newest topology (K7).
    fn passes(state: &State, actions: &mut Vec<Action>) {
        let Some(newest) = state.decided.last() else { return };
        if !state.returned || state.fronts.iter().all(|front| front.doc != *newest) {
            return;
        }
        for (to, from) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            let (ours, theirs) = (&state.voters[to], &state.voters[from]);
            if ours.row != theirs.row || ours.held | theirs.held != ours.held {
                let by = state.fronts.iter().position(|front| front.doc == *newest).unwrap();
                actions.push(Action::Pass(by, to, from));
            }
        }
    }
}

impl Model for Ownership {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let doc = Doc { revision: 1, epoch: 1, owner: 0, cuts: [None; CUTS_MAX], by: FRONTS };
        let voter = Voter {
            clock: 1,
            row: 0,
            held: 0,
            ledger: 0,
            promised: Ballot::FOUNDING,
            accepted: Ballot::FOUNDING,
            doc,
        };
        vec![State {
            voters: vec![voter; VOTERS],
            fronts: vec![Front { doc, ballots: 0, phase: Phase::Idle }; FRONTS],
            writes: Vec::new(),
            decided: vec![doc],
            returned: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.returned && state.decided.len() > 1 {
            actions.push(Action::Return);
        }
        for by in 0..FRONTS {
            self.actions_of(state, by, actions);
        }
        for (nth, write) in state.writes.iter().enumerate().filter(|(_, w)| !w.by_majority) {
            actions.extend(others(write.at).map(|id| Action::Push(nth, id)));
        }
        Self::passes(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Return => state.returned = true,
            Action::Write(by) => Self::write(&mut state, by),
            Action::Push(nth, to) => Self::push(&mut state, nth, to),
            Action::Refresh(by) => state.fronts[by].doc = *state.decided.last()?,
            Action::RefreshFrom(by, id) => state.fronts[by].doc = state.voters[id].doc,
            Action::Begin(by) => {
                let known = state.fronts[by].doc;
                let seen = others(known.owner).map(|id| state.voters[id].clock).max()?;
                let front = &mut state.fronts[by];
                front.ballots += 1;
                front.phase = Phase::Fencing { epoch: 1 + seen.max(known.epoch) };
            }
            Action::Fence(by) => self.fence(&mut state, by),
            Action::Pull(by) => self.pull(&mut state, by),
            Action::Promise(by, without) => Self::promise(&mut state, by, without),
            Action::Accept(by, id) => Self::accept(&mut state, by, id),
            Action::Pass(by, to, from) => {
                let doc = state.fronts[by].doc;
                let (row, held) = (state.voters[from].row, state.voters[from].held);
                let ledger = state.voters[from].ledger;
                state.merge(to, row, &doc, self.mutant != Mutant::NoLedger);
                state.voters[to].held |= held;
                state.voters[to].ledger |= ledger;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one value a revision", |_, state: &State| {
                let pairs = state.decided.windows(2);
                pairs.clone().all(|pair| pair[0].revision < pair[1].revision)
            }),
            Property::always("reading shows what was chosen", |_, state: &State| {
                state.shown().is_none_or(|doc| state.decided.contains(&doc))
            }),
            Property::always("FENCE-1: one master an epoch", |_, state: &State| {
                let same =
                    |one: &Write, other: &Write| one.epoch != other.epoch || one.at == other.at;
                state.writes.iter().all(|one| state.writes.iter().all(|other| same(one, other)))
            }),
            Property::always("ACK-1: the master has what a majority has", |_, state: &State| {
                let owner = &state.voters[state.decided.last().unwrap().owner];
                let has = |nth: usize| owner.held & bit(nth) != 0;
                (0..state.writes.len()).all(|nth| !state.writes[nth].by_majority || has(nth))
            }),
            Property::always(
                "LOSS-1: a write stands, is history, or is in the ledger",
                |_, state: &State| {
                    let rows = state.voters.iter().map(|voter| state.history(voter.row));
                    let ledgers = state.voters.iter().map(|voter| voter.ledger);
                    let kept = rows.chain(ledgers).fold(0, |all, some| all | some);
                    (0..state.writes.len()).all(|nth| kept & bit(nth) != 0)
                },
            ),
            Property::sometimes("a late write is in the ledger", |_, state: &State| {
                state.voters.iter().any(|voter| voter.ledger != 0)
            }),
            Property::sometimes("ownership changes twice", |_, state: &State| {
                state.decided.len() == 3
            }),
        ]
    }
}

#[test]
fn nothing_is_lost_in_any_order_of_steps() {
    use stateright::Checker;
    let wide = std::env::var_os("DATASTORE_MODEL_WIDE").is_some();
    let ballots = if wide { WIDE_BALLOTS } else { BALLOTS };
    let name = format!("ownership, ballots {ballots:?}");
    exhaust(&name, Ownership { mutant: Mutant::None, ballots }).assert_properties();
}

#[test]
fn every_mutant_is_caught() {
    for (mutant, property) in [
        (Mutant::NoFence, "ACK-1: the master has what a majority has"),
        (Mutant::ReadFromOne, "ACK-1: the master has what a majority has"),
        (Mutant::NoCatchUp, "ACK-1: the master has what a majority has"),
        (Mutant::NoLedger, "LOSS-1: a write stands, is history, or is in the ledger"),
    ] {
        let found = first_failure(Ownership { mutant, ballots: [0, 1, 1] }, property);
        println!("{mutant:?}: {found:?}");
    }
}
