//! What front ends do about ownership and about the voters: each function is one run of one change,
//! over connections that stop, through the real register.
//!
//! Anybody may suspect anybody, at any time: that no change loses anything must not rest on a good
//! reason for it.

use std::cmp::Ordering;
use std::time::Duration;

use datastore::failover::{FailoverError, cuts, ownership, voters};
use datastore::partition::{Partition, PartitionError, Result};
use datastore::register::{Proposer, Reach, RegisterError};
use datastore::topology::change::Joining;
use datastore::topology::cut::SlotSet;
use datastore::topology::slots::Move;
use datastore::topology::{Incarnation, State, Topology, Voter};
use datastore::version::{Epoch, PartitionId};

use crate::history::{History, NewOperation};
use crate::link::Net;
use crate::world::World;

/// Partitions that join in one history, at most.
const JOINING_MAX: usize = 3;

impl Reach for Net<'_> {
    fn with(
        &mut self,
        voter: &Voter,
        work: &mut dyn FnMut(&mut dyn Partition) -> Result<()>,
    ) -> Result<()> {
        if !self.world.get().exists(voter.id) {
            return Err(PartitionError::Unreachable("not made yet".into()));
        }
        let mut connection = self.connect(voter.id)?;
        work(&mut connection)
    }

    /// In scripts the first one is asked last: whoever reads the register makes durable what it
    /// reads from.
    fn seems_well(&self, voter: &Voter) -> bool {
        let mut world = self.world.get();
        if world.scripted { voter.id != PartitionId(1) } else { world.rng.bool() }
    }
}

/// Somebody with what the front end knows of the register, under an id of its own.
fn proposer(net: &Net<'_>) -> Proposer {
    let mut world = net.world.get();
    let id = world.rng.u64(..);
    world.fronts[net.front].proposer.again(id)
}

/// The front end goes on with what was read or chosen.
fn learn(net: &Net<'_>, proposer: Proposer, document: &Topology, read_at: Duration) {
    let mut world = net.world.get();
    world.act_on(document);
    let front = &mut world.fronts[net.front];
    front.proposer = proposer;
    match document.revision().cmp(&front.topology.revision()) {
        Ordering::Less => {}
        Ordering::Equal => front.read_at = front.read_at.max(read_at),
        Ordering::Greater => {
            front.topology = document.clone();
            front.read_at = read_at;
        }
    }
}

/// Reads the register for the front end, if it has a quorum.
pub fn refresh(net: &Net<'_>) -> bool {
    let calm = net.world.get().setup.calm;
    let mut reach = Net { yielder: net.yielder.filter(|_| !calm), ..*net };
    let mut proposer = proposer(net);
    let began = net.world.get().age_clock();
    match proposer.read(&mut reach) {
        Ok(document) => {
            learn(net, proposer, &document, began);
            true
        }
        Err(_) => false,
    }
}

/// Runs one change; whether it was made.
fn change(
    net: &Net<'_>,
    what: &'static str,
    run: impl FnOnce(&mut dyn Reach, &mut Proposer) -> Result<Topology, FailoverError>,
) -> bool {
    let mut proposer = proposer(net);
    let mut reach = *net;
    let result = run(&mut reach, &mut proposer);
    net.world.get().note(|| match &result {
        Ok(document) => format!("{what}: revision {}, {}", document.revision(), document.epoch()),
        Err(error) => format!("{what}: {error:?}"),
    });
    match result {
        Ok(document) => {
            learn(net, proposer, &document, Duration::ZERO);
            net.world.get().count(what);
            true
        }
        Err(error) => {
            net.world.get().count(match error {
                FailoverError::Register(RegisterError::Lost(_)) => "a change lost against another",
                FailoverError::TooFew { .. } => "too few could be fenced",
                FailoverError::Overtaken => "a change was overtaken by another",
                FailoverError::Register(_)
                | FailoverError::Change(_)
                | FailoverError::Partition { .. }
                | FailoverError::Behind { .. }
                | FailoverError::NoSuccessor
                | FailoverError::NothingToMove { .. }
                | FailoverError::NotCaughtUp { .. }
                | FailoverError::Seed { .. }
                | FailoverError::OtherDatabase { .. } => "a change was broken off",
            });
            false
        }
    }
}

pub fn take_over(net: &Net<'_>, lost: PartitionId) -> bool {
    change(net, "slots were taken over", |reach, proposer| {
        ownership::take_over(reach, proposer, lost, false)
    })
}

pub fn promote(net: &Net<'_>, moved: &Move) -> bool {
    change(net, "slots were handed over", |reach, proposer| {
        ownership::promote(reach, proposer, moved)
    })
}

pub fn unfence(net: &Net<'_>, met: Epoch) -> bool {
    change(net, "a fence was passed forward", |reach, proposer| {
        ownership::unfence(reach, proposer, met)
    })
}

pub fn raise_epoch(net: &Net<'_>) {
    change(net, "an epoch was raised", |reach, proposer| {
        let base = proposer.read(reach)?;
        let next = base.at_epoch(base.epoch().next());
        proposer.change(reach, &base, &next)?;
        Ok(next)
    });
}

pub fn retire(net: &Net<'_>, id: PartitionId) -> bool {
    change(net, "a voter was retired", |reach, proposer| voters::retire(reach, proposer, id))
}

pub fn settle(net: &Net<'_>) -> bool {
    change(net, "voters were settled", |reach, proposer| voters::settle(reach, proposer))
}

pub fn admit(net: &Net<'_>, id: PartitionId) -> bool {
    change(net, "a voter was admitted", |reach, proposer| voters::admit(reach, proposer, id))
}

pub fn mark_active(net: &Net<'_>, id: PartitionId) -> bool {
    change(net, "a voter came back", |reach, proposer| {
        voters::mark(reach, proposer, id, State::Active)
    })
}

/// Drops cuts that are old by what the front end saw at an earlier look, if it was one.
pub fn drop_cuts(net: &Net<'_>) {
    let looked = net.world.get().fronts[net.front].looked.take();
    change(net, "old cuts were looked for", |reach, proposer| {
        let before = proposer.read(reach)?.cuts().iter().count();
        let (document, look) = cuts::drop_old(reach, proposer, looked.as_ref())?;
        let mut world = net.world.get();
        if document.cuts().iter().count() < before {
            world.count("old cuts were dropped");
        }
        world.fronts[net.front].looked = look;
        Ok(document)
    });
}

/// A new voter joins; its database is made as soon as it is known whose it is.
pub fn join(net: &Net<'_>) -> bool {
    let acceptor = Incarnation(net.world.get().rng.u64(1..));
    let nth = net.world.get().servers.len();
    let joining = Joining { name: format!("p{nth}"), holds_data: true, acceptor, address: None };
    change(net, "a voter joined", |reach, proposer| {
        voters::join(reach, proposer, &joining).map(|(document, _)| document)
    })
}

/// What joins is made from an active voter.
pub fn seed(net: &Net<'_>, id: PartitionId, source: PartitionId) {
    let topology = net.world.get().fronts[net.front].topology.clone();
    let result = voters::seed(&mut { *net }, &topology, (id, source));
    let mut world = net.world.get();
    world.note(|| format!("{id} is made from {source}: {result:?}"));
    if result.is_ok() {
        world.count("a voter was made from another");
    }
}

/// A retired partition that can be reached is emptied.
pub fn clear(net: &Net<'_>, id: PartitionId, into: PartitionId) {
    let topology = net.world.get().fronts[net.front].topology.clone();
    let name = format!("p{}", id.0 - 1);
    let voter = Voter::new(id, name, datastore::topology::Role::Replica);
    let result = voters::clear_retired(&mut { *net }, &topology, &voter, into);
    let mut world = net.world.get();
    world.note(|| format!("{id} is emptied into {into}: {result:?}"));
    if result.is_ok() {
        world.count("a retired partition was emptied");
    }
}

/// What a step of replacing voters may be, as the register stands.
#[derive(Clone, Copy, Debug)]
enum Replacing {
    Join,
    Seed(PartitionId, PartitionId),
    Admit(PartitionId),
    Settle,
    Retire(PartitionId),
    Clear(PartitionId, PartitionId),
    Back(PartitionId),
}

impl World {
    /// Somebody of the voters that hold data.
    pub fn any_voter(&mut self) -> PartitionId {
        let ids: Vec<PartitionId> = self.register.data_voters().map(|voter| voter.id).collect();
        self.rng.choice(ids).unwrap()
    }

    fn active(&self) -> Option<PartitionId> {
        let mut active = self.register.data_voters().filter(|v| v.state.gains_slots());
        active.next().map(|voter| voter.id)
    }

    /// What can be done next about voters that come and go.
    fn replacing(&self) -> Vec<Replacing> {
        let mut all = Vec::new();
        let register = self.register.clone();
        let wanted = self.setup.data_voters();
        let joining: Vec<&Voter> =
            register.voters().iter().filter(|voter| voter.state == State::Joining).collect();
        let joined = self.servers.len() - self.setup.servers();
        if register.data_voters().count() < wanted && joining.is_empty() && joined < JOINING_MAX {
            all.push(Replacing::Join);
        }
        let source = self.active();
        for voter in joining {
            match source {
                Some(source) if self.server(voter.id).status().reseeding => {
                    all.push(Replacing::Seed(voter.id, source));
                }
                Some(_) | None => all.push(Replacing::Admit(voter.id)),
            }
        }
        if !register.previous().is_empty() {
            all.push(Replacing::Settle);
        }
        let idle = register.data_voters().filter(|voter| register.slots_of(voter.id) == 0);
        // Whoever goes may have the only good copy of what a hand has changed.
        let may_go = register.previous().is_empty() && self.tampered.is_empty();
        if register.data_voters().count() > 2 && may_go {
            all.extend(idle.map(|voter| Replacing::Retire(voter.id)));
        }
        let returned = register.retired().iter().filter(|id| !self.server(**id).gone);
        all.extend(returned.filter_map(|id| Some(Replacing::Clear(*id, source?))));
        let down = register.voters().iter().filter(|voter| voter.state == State::Down);
        all.extend(down.map(|voter| Replacing::Back(voter.id)));
        all
    }

    /// Whether a partition that never comes back would have to, for a change to be settled.
    fn needs_the_lost(&self) -> bool {
        let is_voter = self.lost.is_some_and(|lost| self.register.voter(lost).is_some());
        is_voter && !self.register.previous().is_empty()
    }

    /// Slots that could change hands.
    fn draw_move(&mut self) -> Option<Move> {
        let register = self.register.clone();
        let (from, to) = (self.any_voter(), self.any_voter());
        let slots: Vec<_> = register.owned_by(from).iter().collect();
        let some = self.rng.bool();
        let slots: SlotSet = slots.into_iter().filter(|_| !some || self.rng.bool()).collect();
        (from != to && !slots.is_empty()).then_some(Move { from, to, slots })
    }
}

fn run_step(net: &Net<'_>, step: Replacing) {
    match step {
        Replacing::Join => {
            join(net);
        }
        Replacing::Seed(id, source) => seed(net, id, source),
        Replacing::Admit(id) => {
            admit(net, id);
        }
        Replacing::Settle => {
            settle(net);
        }
        Replacing::Retire(id) => {
            retire(net, id);
        }
        Replacing::Clear(id, into) => clear(net, id, into),
        Replacing::Back(id) => {
            mark_active(net, id);
        }
    }
}

impl History {
    /// Some front end believes that a master is lost: as often as not it cannot reach it.
    pub fn suspect(&mut self) {
        let front = self.front();
        let lost = {
            let mut world = self.world.get();
            let masters: Vec<PartitionId> = world.ids();
            let owns = |id: &PartitionId| world.register.slots_of(*id) > 0;
            let masters: Vec<PartitionId> = masters.into_iter().filter(owns).collect();
            let away: Vec<PartitionId> =
                masters.iter().copied().filter(|id| !world.reaches(front, *id)).collect();
            let choices = if away.is_empty() || world.rng.u8(..4) == 0 { masters } else { away };
            world.rng.choice(choices)
        };
        if let Some(lost) = lost {
            self.spawn(NewOperation::new("take over", front, move |net| {
                take_over(net, lost);
            }));
        }
    }

    pub fn hand_over(&mut self) {
        let front = self.front();
        let Some(moved) = self.world.get().draw_move() else { return };
        self.spawn(NewOperation::new("hand over", front, move |net| {
            promote(net, &moved);
        }));
    }

    pub fn replace_voters(&mut self) {
        let front = self.front();
        let step = {
            let mut world = self.world.get();
            let all = world.replacing();
            world.rng.choice(all)
        };
        if let Some(step) = step {
            let work = move |net: &Net<'_>| run_step(net, step);
            self.spawn(NewOperation::new("replace voters", front, work));
        }
    }

    /// Whatever was begun with the voters is brought to its end, and fences that were left behind
    /// are passed; a partition that never comes back is taken over from and retired.
    pub fn finish_changes(&self) {
        let net = Net { world: &self.world, front: 0, yielder: None };
        if !refresh(&net) {
            self.world.get().find_again();
        }
        for _ in 0..8 {
            // A change of the voters that was broken off needs all who stay: one of them may have
            // what only whoever goes has as well (K5), and of two that are left neither can be
            // lost. What one acceptor had accepted may be chosen by any later change.
            if self.world.get().needs_the_lost() {
                self.world.get().find_again();
            }
            refresh(&net);
            let lost = self.world.get().lost;
            let (greatest, epoch) = {
                let world = self.world.get();
                let clocks = world.servers.iter().filter(|server| server.is_there());
                (clocks.map(|server| server.status().epoch).max().unwrap(), world.register.epoch())
            };
            if greatest > epoch {
                unfence(&net, greatest);
            }
            if let Some(lost) = lost {
                if self.world.get().register.slots_of(lost) > 0 {
                    take_over(&net, lost);
                } else if self.world.get().register.voter(lost).is_some() {
                    retire(&net, lost);
                }
            }
            let steps = self.world.get().replacing();
            let unfinished = |step: &Replacing| match step {
                Replacing::Join | Replacing::Retire(_) => false,
                Replacing::Back(id) => Some(*id) != lost,
                Replacing::Clear(id, _) => Some(*id) != lost,
                Replacing::Seed(..) | Replacing::Admit(_) | Replacing::Settle => true,
            };
            let Some(step) = steps.into_iter().find(unfinished) else { continue };
            run_step(&net, step);
            self.world.get().check_step();
        }
        let fronts = self.world.get().fronts.len();
        for front in 0..fronts {
            refresh(&Net { front, ..net });
        }
    }
}
