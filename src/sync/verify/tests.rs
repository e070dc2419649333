use std::sync::Arc;

use super::*;
use crate::clock::Manual;
use crate::partition::memory::Memory;
use crate::partition::{Identity, Origins, PageRequest, SCHEMA_VERSION};
use crate::record::Body;
use crate::topology::Role;
use crate::version::{Epoch, RunId, SetId};
use crate::write::Write;

/// Three masters in memory that hold the same `rows` rows.
fn set(rows: usize) -> (Topology, Vec<Memory>) {
    let roles = (1..=3).map(|n| (format!("p{n}"), Role::Master)).collect();
    let topology = Topology::found(&roles).unwrap();
    let clock = Arc::new(Manual::at(0));
    let mut set = Vec::new();
    for voter in topology.voters() {
        let mut memory = Memory::new(RunId(1), Arc::clone(&clock) as Arc<dyn Clock>);
        let (partition, topology) = (voter.id, topology.clone());
        let identity = Identity { set: SetId(1), partition, schema: SCHEMA_VERSION, topology };
        memory.found(&identity).unwrap();
        set.push(memory);
    }
    for n in 0..rows {
        let key = key(n);
        let master = usize::from(topology.master_of(&key).0) - 1;
        let body = Body { value: "v".into(), content_type: Default::default(), expires_at: None };
        set[master].commit(Epoch::FIRST, &[Write::set(key, body)]).unwrap();
    }
    copy(&mut set);
    (topology, set)
}

fn key(n: usize) -> Key {
    Key::stored(Space::Data, format!("k{n:06}"))
}

fn copy(set: &mut [Memory]) {
    for source in 0..set.len() {
        for target in (0..set.len()).filter(|target| *target != source) {
            let request = PageRequest {
                from: set[target].status().unwrap().vector,
                origins: Origins::AllBut(None),
                early: true,
                rows: true,
                entries_max: usize::MAX - 1,
                bytes_max: usize::MAX,
            };
            let page = set[source].page(&request).unwrap();
            let reseed = set[target].status().unwrap().reseed;
            set[target].apply(&page, reseed).unwrap();
        }
    }
}

fn run(topology: &Topology, set: &mut [Memory]) -> Findings {
    let mut sides: Vec<Side<'_>> = topology
        .voters()
        .iter()
        .zip(set.iter_mut())
        .map(|(voter, memory)| Side { id: voter.id, partition: memory, trouble: None })
        .collect();
    let findings = verify(&mut sides, topology, &Barriers::default(), &Manual::at(0), |_| {});
    assert!(sides.iter().all(|side| side.trouble.is_none()));
    findings
}

fn spoil(memory: &Memory, n: usize, value: &'static str) {
    memory
        .meddle(|state| {
            let mut row = state.rows().get(&key(n)).unwrap().clone();
            row.body.as_mut().unwrap().value = value.into();
            state.tamper(row);
        })
        .unwrap();
}

#[test]
fn equal_rows_are_told_in_few_bytes() {
    let (topology, mut set) = set(20_000);
    let findings = run(&topology, &mut set);
    assert_eq!((findings.rows, findings.mended, findings.left), (20_000, 0, 0));
    assert_eq!(findings.marks, 0);
    assert!(findings.bytes < 20_000, "{findings:?}");
}

#[test]
fn what_a_hand_has_changed_is_found_and_put_right_wherever_it_is() {
    let (topology, mut set) = set(5000);
    let equal = run(&topology, &mut set);
    let master = |n| usize::from(topology.master_of(&key(n)).0) - 1;
    // At masters, at others, and gone.
    spoil(&set[master(7)], 7, "x");
    spoil(&set[(master(4000) + 1) % 3], 4000, "x");
    spoil(&set[0], 123, "x");
    spoil(&set[1], 123, "y");
    set[(master(99) + 1) % 3].meddle(|state| state.lose(&key(99))).unwrap();
    let findings = run(&topology, &mut set);
    assert_eq!((findings.mended, findings.left), (5, 0), "{findings:?}");
    let keys: BTreeSet<Key> = findings.differences.iter().map(|d| d.key.clone()).collect();
    assert_eq!(keys, [7, 99, 123, 4000].map(key).into());
    assert!(findings.marks < 4 * 3 * 256, "only the surroundings are told row by row");
    assert_eq!(run(&topology, &mut set), equal);
}

/// What the master has not and would have is a row that came back: it goes, into the ledger.
#[test]
fn what_the_master_lacks_is_removed_and_kept() {
    let (topology, mut set) = set(100);
    let master = usize::from(topology.master_of(&key(5)).0) - 1;
    set[master].meddle(|state| state.lose(&key(5))).unwrap();
    let findings = run(&topology, &mut set);
    assert_eq!((findings.mended, findings.left), (2, 0), "{findings:?}");
    assert!(findings.differences.iter().all(|d| d.wrong == Wrong::Surplus));
    for (nth, memory) in set.iter_mut().enumerate() {
        let kept = memory.conflicts(None, 10).unwrap();
        assert_eq!(kept.len(), usize::from(nth != master));
        assert!(kept.iter().all(|conflict| conflict.row.key == key(5)));
    }
}

#[test]
fn what_nobody_has_whole_is_told_and_left() {
    let (topology, mut set) = set(100);
    for memory in &set {
        spoil(memory, 5, "x");
    }
    spoil(&set[0], 5, "y");
    let findings = run(&topology, &mut set);
    assert_eq!((findings.mended, findings.left), (0, 3), "{findings:?}");
}

/// A partition that lags is not wrong, whatever it lacks.
#[test]
fn lag_is_no_difference() {
    let (topology, mut set) = set(100);
    for n in 50..150 {
        let master = usize::from(topology.master_of(&key(n)).0) - 1;
        let body = Body { value: "new".into(), content_type: Default::default(), expires_at: None };
        let write = if n % 2 == 0 { Write::set(key(n), body) } else { Write::delete(key(n)) };
        set[master].commit(Epoch::FIRST, &[write]).unwrap();
    }
    let findings = run(&topology, &mut set);
    assert_eq!((findings.mended, findings.left), (0, 0), "{findings:?}");
    let rows = |memory: &mut Memory| memory.scan(None, usize::MAX, usize::MAX).unwrap().rows;
    copy(&mut set);
    assert_eq!(rows(&mut set[0].clone()), rows(&mut set[1].clone()));
}
