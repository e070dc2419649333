//! JSON shapes of the topology, and of what would be done to it.

use std::time::Duration;

use serde::Serialize;

use super::answer::age_ms;
use crate::orchestrator::promote::Planned;
use crate::orchestrator::promotion::name_of;
use crate::store::looks::Standing;
use crate::topology::cut::{Cut, SlotSet};
use crate::topology::{Slot, Topology, Voter};
use crate::version::SetId;

/// The document that this front end goes by.
#[derive(Debug, Serialize)]
pub struct TopologyDoc<'a> {
    set: String,
    epoch: u32,
    revision: u64,
    /// Whether a majority of the voters has told it since the start of this front end.
    by_quorum: bool,
    /// How long ago a majority told it last.
    quorum_age_ms: Option<u64>,
    voters: Vec<VoterDoc<'a>>,
    /// The voters before the last change of them; none: that change is settled.
    previous: Vec<VoterDoc<'a>>,
    /// Ids that are never used again.
    retired: Vec<u16>,
    cuts: Vec<CutDoc>,
}

#[derive(Debug, Serialize)]
struct VoterDoc<'a> {
    id: u16,
    name: &'a str,
    role: String,
    state: String,
    slots: usize,
    slot_ranges: Vec<String>,
    address: Option<&'a str>,
}

/// What a takeover wrote down.
#[derive(Debug, Serialize)]
struct CutDoc {
    epoch: u32,
    origin: String,
    upto: String,
    slots: usize,
    slot_ranges: Vec<String>,
}

impl<'a> TopologyDoc<'a> {
    /// As it stands. `standings`: how this front end reaches those that the document has no address
    /// of. `quorum_age`: how long ago a quorum told it.
    pub fn new(
        set: SetId,
        topology: &'a Topology,
        standings: &'a [Standing],
        quorum_age: Option<Duration>,
    ) -> Self {
        let voter = |voter: &'a Voter| {
            let slots = topology.owned_by(voter.id);
            let known = standings.iter().find(|one| one.health.partition.id == voter.id);
            let address = voter.address.as_ref().map(|address| address.url.as_str());
            VoterDoc {
                id: voter.id.0,
                name: &voter.name,
                role: voter.role.to_string(),
                state: voter.state.to_string(),
                slots: slots.len(),
                slot_ranges: ranges(&slots),
                address: address.or_else(|| known.map(|one| &*one.url)),
            }
        };
        let cut = |cut: &Cut| CutDoc {
            epoch: cut.epoch.number(),
            origin: name_of(topology, cut.origin),
            upto: cut.upto.to_string(),
            slots: cut.slots.len(),
            slot_ranges: ranges(&cut.slots),
        };
        Self {
            set: set.to_string(),
            epoch: topology.epoch().number(),
            revision: topology.revision(),
            by_quorum: quorum_age.is_some(),
            quorum_age_ms: quorum_age.map(age_ms),
            voters: topology.voters().iter().map(voter).collect(),
            previous: topology.previous().iter().map(voter).collect(),
            retired: topology.retired().iter().map(|id| id.0).collect(),
            cuts: topology.cuts().iter().map(cut).collect(),
        }
    }
}

/// `0-3`, `7`: slots that follow each other stand together.
fn ranges(slots: &SlotSet) -> Vec<String> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for slot in slots.iter().map(Slot::index) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            Some(_) | None => ranges.push((slot, slot)),
        }
    }
    let text = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect()
}

/// What would be done to give a voter more slots.
#[derive(Debug, Serialize)]
pub struct MovesDoc<'a> {
    /// The epoch that it is based on.
    epoch: u32,
    promote: &'a str,
    /// How many slots it gains.
    slots: usize,
    steps: Vec<MoveDoc<'a>>,
    /// What may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct MoveDoc<'a> {
    /// `move` or `take over`.
    step: &'static str,
    partition: &'a str,
    from: String,
    slots: usize,
    slot_ranges: Vec<String>,
}

impl<'a> MovesDoc<'a> {
    /// As it was made.
    pub fn new(planned: &'a Planned) -> Self {
        let Planned { promotion, topology, lost } = planned;
        let step = |(from, slots): (_, SlotSet)| MoveDoc {
            step: if Some(from) == *lost { "take over" } else { "move" },
            partition: &promotion.name,
            from: name_of(topology, from),
            slots: slots.len(),
            slot_ranges: ranges(&slots),
        };
        Self {
            epoch: promotion.epoch.number(),
            promote: &promotion.name,
            slots: promotion.slots.len(),
            steps: promotion.owners(topology).into_iter().map(step).collect(),
            warning: promotion.warning.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_follow_each_other_stand_together() {
        let of = |numbers: &[usize]| -> SlotSet {
            Slot::all().filter(|slot| numbers.contains(&slot.index())).collect()
        };
        assert_eq!(ranges(&of(&[])), [""; 0]);
        assert_eq!(ranges(&of(&[0, 1, 2, 5, 1022, 1023])), ["0-2", "5", "1022-1023"]);
        assert_eq!(ranges(&Slot::all().collect()), ["0-1023"]);
    }
}
