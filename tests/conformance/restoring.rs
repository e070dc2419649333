//! A new set from the backup of one partition of an old one.

use std::sync::Arc;

use datastore::founding::restored::begin_restored;
use datastore::founding::{Configured, Founding, FoundingError, open_set};
use datastore::partition::acceptor::Ballot;
use datastore::partition::engine::Engine;
use datastore::partition::{Identity, Partition, Refusal, SCHEMA_VERSION};
use datastore::sync::barrier::Barriers;
use datastore::sync::pass::PageLimits;
use datastore::sync::reseed::reseed;
use datastore::topology::change::Joining;
use datastore::topology::voter::Address;
use datastore::topology::{Incarnation, Role, Topology};
use datastore::version::{Epoch, PartitionId, SetId, Version};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Kind, refusal, set, topology};
use crate::engines;

type Connection = Box<dyn Partition + Send>;

/// Three databases, founded as set 7.
fn founded(bed: &Bed) -> Vec<Configured> {
    let configured = |n| {
        let name = format!("store_{n}");
        let engine: Arc<dyn Engine> = Arc::from(bed.database(&name));
        Configured { name, engine }
    };
    let partitions: Vec<Configured> = (1..=3).map(configured).collect();
    open_set(&partitions, &topology(), Founding::IfAllEmpty, SetId(7)).unwrap();
    partitions
}

fn connect(partitions: &[Configured]) -> Vec<Connection> {
    partitions.iter().map(|partition| partition.engine.connect().unwrap()).collect()
}

fn write(connection: &mut Connection, name: &'static str, value: &'static str) {
    let epoch = connection.status().unwrap().epoch;
    connection.commit(epoch, &[set(name, value)]).unwrap();
}

fn anew(target: &mut Connection, source: &mut Connection) {
    let (barriers, limits) = (Barriers::default(), PageLimits::default());
    reseed(target.as_mut(), source.as_mut(), &barriers, limits).unwrap();
}

#[apply(engines)]
fn a_set_begins_anew_from_one_backup(kind: Kind) {
    let bed = Bed::new(kind);
    let partitions = founded(&bed);
    let mut all = connect(&partitions);
    write(&mut all[0], "kept", "v");
    write(&mut all[1], "lost", "v");
    all[1].raise(Epoch::new(5).unwrap()).unwrap();
    let begun = begin_restored(&partitions, &topology(), "store_1", SetId(9)).unwrap();
    assert_eq!((begun.set, begun.topology.epoch()), (SetId(9), Epoch::new(6).unwrap()));
    let mut all = connect(&partitions);
    for connection in &mut all[1..] {
        let status = connection.status().unwrap();
        assert!(status.reseeding && status.heads.is_empty(), "{status:?}");
        assert_eq!(refusal(connection.scan(None, 10, 1 << 20)), Refusal::Reseeding);
    }
    let (backup, others) = all.split_first_mut().unwrap();
    for other in others {
        anew(other, backup);
    }
    let rows = backup.scan(None, 10, 1 << 20).unwrap().rows;
    assert_eq!(rows.len(), 1);
    for connection in &mut all {
        assert_eq!(connection.identity().unwrap().unwrap().set, SetId(9));
        assert_eq!(connection.scan(None, 10, 1 << 20).unwrap().rows, rows);
        write(connection, "after", "v");
        let newest = connection.status().unwrap();
        let own = newest.vector.get(newest.partition);
        assert_eq!(own.epoch(), Epoch::new(6).unwrap(), "above all of the old set (VER-1)");
    }
    let opened = open_set(&partitions, &topology(), Founding::Never, SetId(1)).unwrap();
    assert_eq!(opened.set, SetId(9));
}

/// Whatever happened in between: others emptied and not made anew, or lost altogether.
#[apply(engines)]
fn beginning_anew_can_be_done_again(kind: Kind) {
    let bed = Bed::new(kind);
    let mut partitions = founded(&bed);
    write(&mut connect(&partitions)[0], "kept", "v");
    begin_restored(&partitions, &topology(), "store_1", SetId(9)).unwrap();
    partitions[2].engine = Arc::from(bed.database("another"));
    let begun = begin_restored(&partitions, &topology(), "store_1", SetId(10)).unwrap();
    assert_eq!(begun.set, SetId(10));
    let mut all = connect(&partitions);
    let (backup, others) = all.split_first_mut().unwrap();
    for other in others {
        anew(other, backup);
        assert_eq!(other.scan(None, 10, 1 << 20).unwrap().rows.len(), 1);
    }
}

/// The ids of a set whose voters have changed are not those of a new set of the same names.
#[apply(engines)]
fn a_set_whose_voters_have_changed_begins_anew(kind: Kind) {
    let bed = Bed::new(kind);
    let mut partitions = founded(&bed);
    let mut all = connect(&partitions);
    let first = all[1].identity().unwrap().unwrap().topology;
    let (lost, epoch) = (PartitionId(1), |number| Epoch::new(number).unwrap());
    let taken = first.take_over(lost, PartitionId(2), Version::ZERO, epoch(2)).unwrap();
    let joining = Joining {
        name: "store_4".to_owned(),
        holds_data: true,
        acceptor: Incarnation(4),
        address: Some(Address { url: "mysql://u@h/d".to_owned(), secret: None }),
    };
    let retired = taken.retire(lost, epoch(3)).unwrap().settle();
    let (joined, id) = retired.join(&joining, epoch(4)).unwrap();
    // Not settled yet.
    let topology = joined.activate(id, epoch(5)).unwrap();
    let acceptor = first.voter_named("store_2").unwrap().acceptor;
    all[1].accept(acceptor, Ballot { round: 9, proposer: 9 }, &topology).unwrap();
    let engine: Arc<dyn Engine> = Arc::from(bed.database("store_4"));
    let (schema, document) = (SCHEMA_VERSION, topology.clone());
    let identity = Identity { set: SetId(7), partition: id, schema, topology: document };
    engine.connect().unwrap().found(&identity).unwrap();
    partitions.remove(0);
    let configured = |partitions: &[Configured]| {
        let names = partitions.iter().map(|partition| (partition.name.clone(), Role::Master));
        Topology::found(&names.collect()).unwrap()
    };
    let refused = begin_restored(&partitions, &configured(&partitions), "store_2", SetId(9));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("`store_4` stored but not configured"), "{why}");
    partitions.push(Configured { name: "store_4".to_owned(), engine });
    let begun = begin_restored(&partitions, &configured(&partitions), "store_2", SetId(9)).unwrap();
    assert!(begun.topology.previous().is_empty(), "there is nothing to settle in a new set");
    for (connection, id) in connect(&partitions).iter_mut().zip(2..) {
        let identity = connection.identity().unwrap().unwrap();
        assert_eq!((identity.set, identity.partition), (SetId(9), PartitionId(id)));
    }
}

#[apply(engines)]
fn what_another_set_holds_is_not_emptied(kind: Kind) {
    let (bed, other_bed) = (Bed::new(kind), Bed::new(kind));
    let (mut partitions, others) = (founded(&bed), founded(&other_bed));
    begin_restored(&others, &topology(), "store_1", SetId(8)).unwrap();
    let mut foreign = connect(&others);
    let (backup, rest) = foreign.split_first_mut().unwrap();
    anew(&mut rest[0], backup);
    write(&mut rest[0], "theirs", "v");
    partitions[1].engine = Arc::clone(&others[1].engine);
    let result = begin_restored(&partitions, &topology(), "store_1", SetId(9));
    assert!(matches!(result, Err(FoundingError::ForeignSet { .. })), "{result:?}");
    let untouched = &mut connect(&others)[1];
    assert_eq!(untouched.scan(None, 10, 1 << 20).unwrap().rows.len(), 1);
    let standing = connect(&partitions)[0].identity().unwrap().unwrap();
    assert_eq!(standing.set, SetId(7), "nothing was changed");
}

/// Set aside, it serves nothing and takes nothing, also over connections that stood before.
#[apply(engines)]
fn what_is_set_aside_serves_nothing(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "v")]);
    let mut other = home.engine.connect().unwrap();
    other.set_aside().unwrap();
    let write = home.connection.commit(Epoch::FIRST, &[set("k", "w")]);
    assert_eq!(refusal(write), Refusal::Reseeding);
    assert_eq!(refusal(home.connection.scan(None, 10, 1 << 20)), Refusal::Reseeding);
    let page = home.connection.page(&crate::bed::ask(datastore::vector::Vector::new()));
    assert_eq!(refusal(page), Refusal::Reseeding);
}
