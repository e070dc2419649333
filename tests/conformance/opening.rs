//! Founding, identity, opening and the clock.

use datastore::partition::{
    Get, Identity, Origins, PageRequest, Range, Refusal, ReseedNumber, ReseedStep, Trim,
};
use datastore::record::Space;
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, SetId, Version};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{
    Bed, Kind, ask, epoch, identity, key, push, refusal, row, set, topology, version,
};
use crate::engines;

#[apply(engines)]
fn an_empty_database_says_so_whatever_is_asked(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.database("store_1.db").connect().unwrap();
    assert_eq!(home.identity().unwrap(), None);
    let keys = [key("k")];
    let range = Range {
        space: Space::Data,
        prefix: "".into(),
        after: None,
        keys_max: 1,
        scanned_max: 1,
        value_bytes_max: None,
    };
    let trim = Trim { epoch: Epoch::FIRST, floor: Vector::new(), entries_max: 1 };
    let refusals = [
        refusal(home.status()),
        refusal(home.open_lane()),
        refusal(home.raise(Epoch::FIRST)),
        refusal(home.commit(Epoch::FIRST, &[set("k", "v")])),
        refusal(home.push(&push(row("k", 1, version(1, 1), None)))),
        refusal(home.get(&Get { keys: &keys, inline_bytes_max: 1 })),
        refusal(home.list(&range)),
        refusal(home.page(&ask(Vector::new()))),
        refusal(home.trim(&trim)),
        refusal(home.scan(None, 1, 1)),
        refusal(home.reseed(ReseedNumber(0), &ReseedStep::Begin)),
    ];
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::Empty), "{refusals:?}");
    assert_eq!(home.identity().unwrap(), None);
}

#[apply(engines)]
fn the_first_identity_stays(kind: Kind) {
    let bed = Bed::new(kind);
    let engine = bed.database("store_1.db");
    let mut home = engine.connect().unwrap();
    let first = identity(1);
    assert_eq!(home.found(&first).unwrap(), first);
    let second = Identity { set: SetId(u128::MAX), partition: PartitionId(2), ..first.clone() };
    assert_eq!(home.found(&second).unwrap(), first);
    assert_eq!(home.found(&first).unwrap(), first);
    assert_eq!(engine.connect().unwrap().identity().unwrap(), Some(first));
}

#[apply(engines)]
fn identities_keep_every_bit(kind: Kind) {
    let bed = Bed::new(kind);
    for (nth, set) in [0, 1, u128::MAX, 1 << 127].into_iter().enumerate() {
        let whole = Identity {
            set: SetId(set),
            partition: PartitionId(u16::MAX),
            schema: u32::MAX,
            topology: topology().at_epoch(Epoch::MAX),
        };
        let mut home = bed.database(&format!("{nth}.db")).connect().unwrap();
        assert_eq!(home.found(&whole).unwrap(), whole);
        assert_eq!(home.identity().unwrap(), Some(whole));
    }
}

#[apply(engines)]
fn of_many_founders_at_once_one_wins(kind: Kind) {
    let bed = Bed::new(kind);
    let engine = bed.database("store_1.db");
    let barrier = std::sync::Barrier::new(8);
    let results: Vec<Identity> = std::thread::scope(|scope| {
        let founders: Vec<_> = (0..8)
            .map(|nth| {
                let (engine, barrier) = (&engine, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let own = Identity { set: SetId(nth), ..identity(1) };
                    engine.connect().unwrap().found(&own).unwrap()
                })
            })
            .collect();
        founders.into_iter().map(|founder| founder.join().unwrap()).collect()
    });
    assert!(results.iter().all(|standing| *standing == results[0]), "{results:?}");
    assert_eq!(engine.connect().unwrap().identity().unwrap().as_ref(), Some(&results[0]));
}

#[apply(engines)]
fn a_new_partition_stands_at_the_beginning(kind: Kind) {
    let mut home = Bed::new(kind).partition(2);
    let status = home.connection.status().unwrap();
    assert_eq!(status.partition, PartitionId(2));
    assert_eq!((status.epoch, status.seq.number()), (Epoch::FIRST, 0));
    assert_eq!(status.vector.get(PartitionId(2)), version(1, 0));
    assert!(status.floors.is_empty() && status.heads.is_empty());
    assert_eq!((status.reseed, status.reseeding), (ReseedNumber(0), false));
    assert!(home.rows().is_empty() && home.log().is_empty());
}

#[apply(engines)]
fn opening_again_in_one_run_gives_no_sequence_away(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let before = home.connection.status().unwrap();
    assert_eq!(home.engine.connect().unwrap().open_lane().unwrap(), Epoch::FIRST);
    assert_eq!(home.connection.status().unwrap(), before);
}

#[apply(engines)]
fn clocks_never_go_down(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "v")]);
    for (to, stands) in [(3, 3), (2, 3), (3, 3), (1, 3), (Epoch::MAX.number(), Epoch::MAX.number())]
    {
        home.connection.raise(epoch(to)).unwrap();
        let status = home.connection.status().unwrap();
        assert_eq!(status.epoch, epoch(stands));
        assert_eq!(status.seq.number(), 1, "raising gives no sequence");
        assert_eq!(status.vector.get(PartitionId(1)), version(stands, 1));
    }
}

#[apply(engines)]
fn every_connection_sees_what_one_has_committed(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let mut other = home.engine.connect().unwrap();
    let written = home.write(&[set("k", "v")]);
    assert_eq!(other.status().unwrap().vector.get(PartitionId(1)), written);
    assert_eq!(other.status().unwrap(), home.connection.status().unwrap());
}

#[apply(engines)]
fn a_barrier_holds_in_the_same_run(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    let run = home.connection.status().unwrap().run;
    home.connection.barrier(run).unwrap();
}

#[apply(engines)]
fn what_is_closed_and_opened_again_is_what_it_was(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.write(&[set("a", "1"), set("b", "2")]);
    let (status, rows, log) = (home.connection.status().unwrap(), home.rows(), home.log());
    home.connection = home.engine.connect().unwrap();
    assert_eq!((home.connection.status().unwrap(), home.rows(), home.log()), (status, rows, log));
    let request =
        PageRequest { origins: Origins::AllBut(Some(PartitionId(1))), ..ask(Vector::new()) };
    assert!(home.connection.page(&request).unwrap().entries.is_empty());
    assert_eq!(home.write(&[set("c", "3")]), version(1, 3));
    assert_ne!(home.vector().get(PartitionId(1)), Version::ZERO);
}
