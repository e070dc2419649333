//! Which slots move when masters come and go: as few as can be.
//!
//! With `n` masters each owns 1024 / n slots, give or take one. Whoever owns no more than that
//! keeps all it has, so the n-th master takes about 1/n of the slots and nothing else moves.

use std::collections::{BTreeMap, BTreeSet};

use super::cut::SlotSet;
use super::{SLOTS, Slot, Topology};
use crate::version::PartitionId;

/// Slots that change hands together: one planned change of ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Who has them.
    pub from: PartitionId,
    /// Who gets them.
    pub to: PartitionId,
    /// Which ones.
    pub slots: SlotSet,
}

/// The moves that make `masters` share all slots evenly; none where they do already, or where there
/// is no master.
pub fn moves(topology: &Topology, masters: &BTreeSet<PartitionId>) -> Vec<Move> {
    let mut free = quotas(topology, masters);
    let mut homeless = Vec::new();
    for slot in Slot::all() {
        match free.get_mut(&topology.owner_of(slot)).filter(|quota| **quota > 0) {
            Some(quota) => *quota -= 1,
            None => homeless.push(slot),
        }
    }
    let takers = free.into_iter().flat_map(|(id, quota)| std::iter::repeat_n(id, quota));
    let mut moves: BTreeMap<(PartitionId, PartitionId), SlotSet> = BTreeMap::new();
    for (slot, to) in homeless.into_iter().zip(takers) {
        let from = topology.owner_of(slot);
        moves.entry((from, to)).or_insert(SlotSet::EMPTY).insert(slot);
    }
    moves.into_iter().map(|((from, to), slots)| Move { from, to, slots }).collect()
}

/// How many slots each master should have; the odd ones go to who has most.
fn quotas(topology: &Topology, masters: &BTreeSet<PartitionId>) -> BTreeMap<PartitionId, usize> {
    let mut order: Vec<PartitionId> = masters.iter().copied().collect();
    order.sort_by_key(|id| (std::cmp::Reverse(topology.slots_of(*id)), *id));
    let (all, masters) = (usize::from(SLOTS), order.len().max(1));
    let quota = |nth: usize| all / masters + usize::from(nth < all % masters);
    order.into_iter().enumerate().map(|(nth, id)| (id, quota(nth))).collect()
}
