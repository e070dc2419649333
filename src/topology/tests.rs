use proptest::prelude::*;

use super::change::{ChangeError, Joining};
use super::slots::{Move, moves};
use super::*;
use crate::record::{Body, Record, Space};
use crate::vector::Vector;
use crate::version::{Seq, Version};

fn found(roles: &[(&str, Role)]) -> Result<Topology, TopologyError> {
    Topology::found(&roles.iter().map(|&(name, role)| (name.to_owned(), role)).collect())
}

#[test]
fn masters_share_the_slots_evenly() {
    let topology = found(&[
        ("c", Role::Master),
        ("a", Role::Master),
        ("b", Role::Replica),
        ("d", Role::Master),
        ("w", Role::Witness),
    ])
    .unwrap();
    let slots: Vec<usize> = topology.voters().iter().map(|v| topology.slots_of(v.id)).collect();
    assert_eq!(slots, [342, 0, 341, 341, 0]);
    assert_eq!(topology.majority(), 3);
    assert_eq!(topology.check(), Ok(()));
}

#[test]
fn a_set_needs_a_master() {
    assert_eq!(found(&[("a", Role::Replica)]), Err(TopologyError::NoMaster));
}

#[test]
fn the_digest_tells_names_roles_and_slots_but_not_the_epoch() {
    let base = found(&[("a", Role::Master), ("b", Role::Master)]).unwrap();
    assert_eq!(base.digest(), base.at_epoch(base.epoch().next()).digest());
    for other in [
        found(&[("a", Role::Master), ("c", Role::Master)]).unwrap(),
        found(&[("a", Role::Master), ("b", Role::Replica)]).unwrap(),
        found(&[("a", Role::Master)]).unwrap(),
    ] {
        assert_ne!(base.digest(), other.digest());
    }
}

#[test]
fn every_key_has_a_master() {
    let topology = found(&[("a", Role::Master), ("b", Role::Master)]).unwrap();
    let key = Key::stored(Space::Data, "colour");
    assert_eq!(topology.master_of(&key), topology.slots[Slot::of(&key).index()]);
}

fn three() -> Topology {
    let roles = [("a", Role::Master), ("b", Role::Master), ("c", Role::Replica)];
    found(&roles).unwrap().seeded(SetId(7))
}

const A: PartitionId = PartitionId(1);
const B: PartitionId = PartitionId(2);
const C: PartitionId = PartitionId(3);

fn version(epoch: u32, seq: u64) -> Version {
    Version::new(Epoch::new(epoch).unwrap(), Seq::new(seq).unwrap())
}

fn joining(name: &str) -> Joining {
    Joining { name: name.into(), holds_data: true, acceptor: Incarnation(9), address: None }
}

#[test]
fn a_stored_document_of_before_is_still_read() {
    let slots = vec!["1"; 1024].join(",");
    let old = format!(
        r#"{{"epoch":1,"voters":[{{"id":1,"name":"a","role":"master"}}],"slots":[{slots}]}}"#
    );
    let topology: Topology = serde_json::from_str(&old).unwrap();
    assert_eq!(topology.check(), Ok(()));
    assert_eq!(topology, found(&[("a", Role::Master)]).unwrap());
}

#[test]
fn a_document_survives_its_text() {
    let lost = three().take_over(A, C, version(1, 7), Epoch::new(5).unwrap()).unwrap();
    let (next, _) = lost.join(&joining("d"), Epoch::new(6).unwrap()).unwrap();
    let text = serde_json::to_string(&next).unwrap();
    assert_eq!(serde_json::from_str::<Topology>(&text).unwrap(), next);
}

#[test]
fn a_takeover_gives_all_slots_to_the_successor_and_notes_its_cut() {
    let before = three();
    let after = before.take_over(A, C, version(1, 7), before.epoch().next()).unwrap();
    assert_eq!(after.slots_of(A), 0);
    assert_eq!(after.slots_of(C), before.slots_of(A));
    assert_eq!(after.voter(A).map(|v| (v.role, v.state)), Some((Role::Replica, State::Down)));
    assert_eq!(after.voter(C).map(|v| v.role), Some(Role::Master));
    assert_eq!((after.revision(), after.check()), (1, Ok(())));
    let key = (0..).map(|n| Key::stored(Space::Data, format!("k{n}")));
    let key = key.into_iter().find(|key| before.master_of(key) == A).unwrap();
    let body = Body { value: "v".into(), content_type: Default::default(), expires_at: None };
    let row = |origin, version| Record::new(key.clone(), version, origin, None);
    let cuts = after.cuts();
    assert!(cuts.make_late(&row(A, version(1, 8))));
    assert!(cuts.make_late(&Record { body: Some(body), ..row(A, version(1, 8)) }));
    for known in [row(A, version(1, 7)), row(A, version(2, 1)), row(B, version(1, 8))] {
        assert!(!cuts.make_late(&known), "{known:?}");
    }
    let covered = Vector::from_iter([(A, version(2, 0))]);
    assert!(after.without_old_cuts(&covered).cuts().is_empty());
    assert!(!after.without_old_cuts(&Vector::new()).cuts().is_empty());
}

#[test]
fn voters_change_one_at_a_time() {
    let epoch = |n| Epoch::new(n).unwrap();
    let (joined, d) = three().join(&joining("d"), epoch(2)).unwrap();
    assert_eq!((joined.majority(), joined.data_voters().count()), (2, 3), "it counts for nothing");
    assert_eq!(joined.holding_back().count(), 4, "logs are kept for it");
    let active = joined.activate(d, epoch(3)).unwrap();
    assert_eq!(active.majority(), 3);
    assert_eq!(active.previous(), joined.voters());
    let drained = active.mark(C, State::Draining).unwrap();
    assert_eq!(drained.retire(C, epoch(4)), Err(ChangeError::Unsettled));
    let settled = drained.settle();
    let retired = settled.retire(C, epoch(4)).unwrap();
    assert!(retired.retired().contains(&C) && retired.voter(C).is_none());
    let (again, new) = retired.settle().join(&joining("c"), epoch(5)).unwrap();
    assert!(new > d, "a retired id is never used again");
    assert_eq!(
        again.join(&joining("c"), epoch(6)).unwrap_err(),
        ChangeError::NameTaken { name: "c".into() }
    );
}

#[test]
fn who_owns_slots_is_not_retired_and_who_joins_owns_none() {
    let (joined, d) = three().join(&joining("d"), Epoch::new(2).unwrap()).unwrap();
    let moved = Move { from: A, to: d, slots: joined.owned_by(A) };
    let refused = joined.promote(&moved, Epoch::new(3).unwrap()).unwrap_err();
    assert!(matches!(refused, ChangeError::CannotOwn { .. }), "{refused}");
    let drained = three().mark(A, State::Draining).unwrap();
    let refused = drained.retire(A, Epoch::new(2).unwrap()).unwrap_err();
    assert_eq!(refused, ChangeError::OwnsSlots { id: A, slots: 512 });
    let refused = three().promote(&Move { to: C, ..moved }, Epoch::FIRST).unwrap_err();
    assert!(matches!(refused, ChangeError::EpochNotNew { .. }), "{refused}");
}

#[test]
fn the_table_of_states_is_closed() {
    let ways = State::ALL.into_iter().flat_map(|from| {
        State::ALL.into_iter().filter(move |to| from.may_become(*to)).map(move |to| (from, to))
    });
    assert_eq!(ways.count(), 11);
    for state in State::ALL {
        assert!(!state.gains_slots() || state.keeps_slots());
        assert!(!state.votes() || state.counts(), "who counts for nothing has no vote");
        assert!(!state.counts() || state.holds_back());
        assert!(!state.serves() || state.is_source());
    }
}

#[test]
fn the_nth_master_takes_an_nth_of_the_slots() {
    let mut topology = found(&[("m01", Role::Master)]).unwrap();
    for nth in 2..=20 {
        let name = format!("m{nth:02}");
        let (joined, id) = topology.join(&joining(&name), topology.epoch().next()).unwrap();
        topology = joined.activate(id, joined.epoch().next()).unwrap().settle();
        let masters = topology.voters().iter().map(|voter| voter.id).collect();
        for moved in moves(&topology.clone(), &masters) {
            assert_eq!(moved.to, id, "nothing moves but to the new one");
            topology = topology.promote(&moved, topology.epoch().next()).unwrap();
        }
        let share = usize::from(SLOTS) / nth;
        let mut each = topology.voters().iter().map(|voter| topology.slots_of(voter.id));
        assert!(each.all(|slots| slots == share || slots == share + 1), "{nth}");
        assert!(moves(&topology, &masters).is_empty());
    }
}

/// A change that the property test draws: which, and of whom.
fn step(topology: &Topology, kind: u8, nth: usize, name: usize) -> Result<Topology, ChangeError> {
    let voters = topology.voters();
    let id = voters[nth % voters.len()].id;
    let epoch = topology.epoch().next();
    let state = State::ALL[name % State::ALL.len()];
    match kind {
        0 => topology.join(&joining(&format!("n{}", name % 9)), epoch).map(|(next, _)| next),
        1 => topology.activate(id, epoch),
        2 => topology.retire(id, epoch),
        3 => topology.mark(id, state),
        4 => Ok(topology.settle()),
        5 => topology.readmit(id, Incarnation(name as u64), epoch),
        6 => {
            let from = topology.owner_of(Slot::of(&Key::stored(Space::Data, format!("{name}"))));
            let moved = Move { from, to: id, slots: topology.owned_by(from) };
            topology.promote(&moved, epoch)
        }
        _ => topology.take_over(id, voters[name % voters.len()].id, version(1, 1), epoch),
    }
}

proptest! {
    #[test]
    fn whatever_changes_the_document_stays_whole(
        steps in prop::collection::vec((0u8..8, 0usize..9, 0usize..99), 1..60)
    ) {
        let mut topology = three();
        for (kind, nth, name) in steps {
            let Ok(next) = step(&topology, kind, nth, name) else { continue };
            prop_assert_eq!(next.check(), Ok(()));
            prop_assert_eq!(next.revision(), topology.revision() + 1);
            prop_assert!(next.epoch() >= topology.epoch());
            prop_assert!(next.retired().is_superset(topology.retired()));
            let owners = |t: &Topology| Slot::all().map(|s| t.owner_of(s)).collect::<Vec<_>>();
            let counting = |t: &Topology| {
                let counts = t.voters().iter().filter(|v| v.state.counts());
                counts.map(|v| (v.id, v.acceptor)).collect::<BTreeSet<_>>()
            };
            let changed_hands = owners(&next) != owners(&topology);
            let mut votes = counting(&topology);
            let now = counting(&next);
            if changed_hands || now != votes {
                prop_assert!(next.epoch() > topology.epoch());
            }
            votes = votes.symmetric_difference(&now).copied().collect();
            let people: BTreeSet<PartitionId> = votes.iter().map(|(id, _)| *id).collect();
            prop_assert!(people.len() <= 1, "one at a time: {:?}", people);
            for voter in next.voters().iter().filter(|voter| voter.role.holds_data()) {
                prop_assert_eq!(voter.role == Role::Master, next.slots_of(voter.id) > 0);
            }
            let text = serde_json::to_string(&next).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Topology>(&text).unwrap(), &next);
            topology = next;
        }
    }
}
