//! Promotions: which slots a voter is to take and from whom, and what of that is left to be done.
//!
//! A promotion names the slots that the voter has at its end ([`plan`]); what is left is judged by
//! the topology as it stands ([`Promotion::next`]). So one that is begun anew, by whichever front
//! end, goes on where it was, and one whose slots somebody else took over meanwhile is told from
//! one that is done. All of it is pure; [`super::promote`] does it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::topology::cut::SlotSet;
use crate::topology::slots::{Move, moves};
use crate::topology::{SLOTS, Slot, State, Topology, Voter};
use crate::version::{Epoch, PartitionId};

/// The longest reason that an operator may give.
pub const REASON_BYTES_MAX: usize = 500;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Who is to have more slots.
    pub to: String,
    /// Which ones.
    pub share: Share,
    /// Also where the master does not answer, and what it alone has may be lost.
    pub force: bool,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// The epoch of the plan that was looked at.
    pub epoch: Option<Epoch>,
}

/// How many of the slots, and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// All of the one master.
    #[default]
    Only,
    /// All of this master.
    From(String),
    /// As many as each master should have, from those that have more.
    Fair,
}

/// Why it cannot be so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A read copy.
    #[error("{name} is a read copy, and only voters take writes: name one of {voters}")]
    NotAVoter {
        /// What was asked for.
        name: String,
        /// Those that could be.
        voters: Names,
    },
    /// A witness.
    #[error("{name} is a witness and holds no data, so it can be no master: name one of {voters}")]
    HoldsNoData {
        /// What was asked for.
        name: String,
        /// Those that could be.
        voters: Names,
    },
    /// Not in a state to take slots.
    #[error("{name} is {state}: {}", until_promotable(*.state))]
    NotActive {
        /// What was asked for.
        name: String,
        /// What it is.
        state: State,
    },
    /// It is not said whose slots.
    #[error(
        "there are several masters, {masters}: say \"from\" which one all slots are to come, or \
         \"share\" for as many of each as is fair"
    )]
    WhichMaster {
        /// Which ones.
        masters: Names,
    },
    /// Nothing can come from there.
    #[error("from is {name}, which masters nothing; what masters slots is {masters}")]
    NotAMaster {
        /// What was given.
        name: String,
        /// Which ones do.
        masters: Names,
    },
    /// A master that does not answer can hand nothing over.
    #[error(
        "{name} does not answer, so it can hand nothing over: wait until it is back or until its \
         slots are taken over, or send \"force\" with \"from\" to take them without it"
    )]
    Away {
        /// Which one.
        name: String,
    },
    /// Both cannot be.
    #[error("\"force\" takes the slots of one master: send \"from\" with it, and not \"share\"")]
    ForcedShare,
}

/// Names, as a sentence lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// What has to happen first where slots cannot be given to it.
const fn until_promotable(state: State) -> &'static str {
    match state {
        State::Active => "it can take slots",
        State::Joining => "it has not all data yet; promote it once it is active",
        State::Down => "it does not commit; promote it once it is active again",
        State::Draining | State::Retired => "it is about to go; promote another one",
        State::Quarantined => {
            "what it holds cannot be believed; retire it, and promote another one"
        }
    }
}

/// Slots that a voter is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Who.
    pub to: PartitionId,
    /// Its name.
    pub name: String,
    /// Which slots it is to gain.
    pub slots: SlotSet,
    /// Who has them.
    pub from: BTreeSet<PartitionId>,
    /// The epoch that this is based on.
    pub epoch: Epoch,
    /// Why, in the operator's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// What may be lost, where the master was away.
    #[serde(default)]
    pub warning: Option<String>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has all of them.
    Done,
    /// These slots change hands.
    Move(Move),
    /// The topology is not what it was, in words.
    Overtaken(String),
}

/// What a wish comes to. Nobody is asked whether they answer.
pub fn plan(topology: &Topology, wish: &Wish) -> Result<Promotion, Unfit> {
    let name = wish.to.clone();
    let voters = || names(topology.data_voters().filter(|voter| voter.state.gains_slots()));
    let Some(to) = topology.voter_named(&name) else {
        return Err(Unfit::NotAVoter { name, voters: voters() });
    };
    if !to.role.holds_data() {
        return Err(Unfit::HoldsNoData { name, voters: voters() });
    }
    if !to.state.gains_slots() {
        return Err(Unfit::NotActive { name, state: to.state });
    }
    if wish.force && wish.share == Share::Fair {
        return Err(Unfit::ForcedShare);
    }
    let slots = wanted(topology, to.id, &wish.share)?;
    let from = slots.iter().map(|slot| topology.owner_of(slot)).collect();
    let (epoch, reason) = (topology.epoch(), wish.reason.clone());
    Ok(Promotion { to: to.id, name, slots, from, epoch, reason, warning: None })
}

/// The slots that it has not and is to have.
fn wanted(topology: &Topology, to: PartitionId, share: &Share) -> Result<SlotSet, Unfit> {
    let owners: BTreeSet<PartitionId> = Slot::all().map(|slot| topology.owner_of(slot)).collect();
    let masters = || names(topology.voters().iter().filter(|voter| owners.contains(&voter.id)));
    let all_of = |id| if id == to { SlotSet::EMPTY } else { topology.owned_by(id) };
    match share {
        _ if topology.slots_of(to) == usize::from(SLOTS) => Ok(SlotSet::EMPTY),
        Share::Only => match owners.first() {
            Some(only) if owners.len() == 1 => Ok(all_of(*only)),
            Some(_) | None => Err(Unfit::WhichMaster { masters: masters() }),
        },
        Share::From(name) => {
            let from = topology.voter_named(name).filter(|voter| owners.contains(&voter.id));
            let not_one = || Unfit::NotAMaster { name: name.clone(), masters: masters() };
            from.map(|voter| all_of(voter.id)).ok_or_else(not_one)
        }
        Share::Fair => {
            let sharing = owners.iter().copied().chain([to]).collect();
            let to_it = moves(topology, &sharing).into_iter().filter(|one| one.to == to);
            Ok(to_it.flat_map(|one| one.slots.iter().collect::<Vec<_>>()).collect())
        }
    }
}

impl Promotion {
    /// What is left to be done as the topology stands. Each step is one change of ownership.
    pub fn next(&self, topology: &Topology) -> Next {
        let mut left = self.owners(topology);
        left.remove(&self.to);
        if left.is_empty() {
            return Next::Done;
        }
        let able = topology.voter(self.to).filter(|voter| voter.state.gains_slots());
        if able.is_none() {
            return Next::Overtaken(format!("`{}` cannot take slots any more", self.name));
        }
        if let Some(other) = left.keys().find(|owner| !self.from.contains(owner)) {
            let other = name_of(topology, *other);
            return Next::Overtaken(format!("`{other}` has taken some of the slots meanwhile"));
        }
        match left.into_iter().next() {
            Some((from, slots)) => Next::Move(Move { from, to: self.to, slots }),
            None => Next::Done,
        }
    }

    /// How many of the slots it has.
    pub fn moved(&self, topology: &Topology) -> usize {
        self.owners(topology).get(&self.to).map_or(0, SlotSet::len)
    }

    /// Who has which of them, as the topology stands.
    pub fn owners(&self, topology: &Topology) -> BTreeMap<PartitionId, SlotSet> {
        let mut owners: BTreeMap<PartitionId, SlotSet> = BTreeMap::new();
        for slot in self.slots.iter() {
            owners.entry(topology.owner_of(slot)).or_insert(SlotSet::EMPTY).insert(slot);
        }
        owners
    }
}

/// The name of a partition that may be gone.
pub fn name_of(topology: &Topology, id: PartitionId) -> String {
    topology.voter(id).map_or_else(|| id.to_string(), |voter| voter.name.clone())
}

fn names<'a>(voters: impl Iterator<Item = &'a Voter>) -> Names {
    Names(voters.map(|voter| voter.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Role;

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);
    const C: PartitionId = PartitionId(3);

    fn set(roles: &[(&str, Role)]) -> Topology {
        Topology::found(&roles.iter().map(|&(name, role)| (name.to_owned(), role)).collect())
            .unwrap()
    }

    fn one_master() -> Topology {
        set(&[("a", Role::Master), ("b", Role::Replica), ("c", Role::Replica)])
    }

    fn two_masters() -> Topology {
        set(&[("a", Role::Master), ("b", Role::Master), ("c", Role::Replica)])
    }

    fn wish(to: &str, share: Share) -> Wish {
        Wish { to: to.to_owned(), share, ..Wish::default() }
    }

    /// Carries out what is next, and returns what stands then.
    fn step(topology: &Topology, promotion: &Promotion) -> Topology {
        let next = promotion.next(topology);
        let Next::Move(moved) = next else { panic!("{next:?}") };
        topology.promote(&moved, topology.epoch().next()).unwrap()
    }

    #[test]
    fn all_slots_of_the_one_master_move_at_once() {
        let topology = one_master();
        for share in [Share::Only, Share::From("a".to_owned())] {
            let promotion = plan(&topology, &wish("b", share)).unwrap();
            assert_eq!((promotion.slots.len(), promotion.epoch), (1024, topology.epoch()));
            let after = step(&topology, &promotion);
            assert_eq!((after.slots_of(B), promotion.next(&after)), (1024, Next::Done));
            assert_eq!(promotion.moved(&after), 1024);
        }
    }

    #[test]
    fn a_fair_share_comes_from_every_master_and_nothing_else_moves() {
        let topology = two_masters();
        let promotion = plan(&topology, &wish("c", Share::Fair)).unwrap();
        assert_eq!(promotion.slots.len(), 341);
        let sources: Vec<usize> = promotion.owners(&topology).values().map(SlotSet::len).collect();
        assert_eq!(sources, [170, 171]);
        let half = step(&topology, &promotion);
        let after = step(&half, &promotion);
        assert_eq!(promotion.next(&after), Next::Done);
        let owned = [A, B, C].map(|id| after.slots_of(id));
        assert_eq!(owned, [342, 341, 341]);
        let again = plan(&after, &wish("c", Share::Fair)).unwrap();
        assert!(again.slots.is_empty(), "it has what it should have");
    }

    #[test]
    fn whoever_has_all_of_it_gains_nothing() {
        let topology = one_master();
        for share in [Share::Only, Share::From("a".to_owned()), Share::Fair] {
            let promotion = plan(&topology, &wish("a", share)).unwrap();
            assert_eq!(promotion.slots, SlotSet::EMPTY);
            assert_eq!(promotion.next(&topology), Next::Done);
        }
        let promotion = plan(&topology, &wish("a", Share::From("b".to_owned()))).unwrap();
        assert!(promotion.slots.is_empty(), "all of it is more than all of b");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let set = set(&[("a", Role::Master), ("b", Role::Replica), ("w", Role::Witness)]);
        let why = |topology: &Topology, wish: &Wish| plan(topology, wish).unwrap_err().to_string();
        let witness = why(&set, &wish("w", Share::Only));
        assert!(witness.contains("w is a witness") && witness.contains("a, b"), "{witness}");
        let copy = why(&set, &wish("copy_1", Share::Only));
        assert!(copy.contains("copy_1 is a read copy"), "{copy}");
        let down = set.mark(B, State::Down).unwrap();
        let down = why(&down, &wish("b", Share::Only));
        assert!(down.contains("b is down") && down.contains("active again"), "{down}");
        let several = why(&two_masters(), &wish("c", Share::Only));
        assert!(several.contains("a, b") && several.contains("\"share\""), "{several}");
        let none = why(&two_masters(), &wish("c", Share::From("c".to_owned())));
        assert!(none.contains("c, which masters nothing"), "{none}");
        let forced = Wish { force: true, ..wish("c", Share::Fair) };
        assert_eq!(plan(&two_masters(), &forced), Err(Unfit::ForcedShare));
    }

    #[test]
    fn slots_that_somebody_else_took_are_not_taken_away_again() {
        let topology = one_master();
        let promotion = plan(&topology, &wish("b", Share::Only)).unwrap();
        let upto = crate::version::Version::ZERO;
        let taken = topology.take_over(A, C, upto, topology.epoch().next()).unwrap();
        let next = promotion.next(&taken);
        let Next::Overtaken(why) = next else { panic!("{next:?}") };
        assert!(why.contains("`c` has taken"), "{why}");
        // By who was to have them anyway: done.
        let taken = topology.take_over(A, B, upto, topology.epoch().next()).unwrap();
        assert_eq!(promotion.next(&taken), Next::Done);
        let gone = topology.mark(B, State::Down).unwrap();
        assert!(matches!(promotion.next(&gone), Next::Overtaken(_)));
    }

    #[test]
    fn it_is_the_same_after_it_was_written_down() {
        let promotion = plan(&two_masters(), &wish("c", Share::Fair)).unwrap();
        let written = serde_json::to_string(&promotion).unwrap();
        assert_eq!(serde_json::from_str::<Promotion>(&written).unwrap(), promotion);
    }
}
