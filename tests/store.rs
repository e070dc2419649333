//! The store over memory partitions: routing, sessions, sync on demand, group commit.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::lane::disposable::Disposable;
use datastore::lane::pool::Pool;
use datastore::lane::{Connect, LaneLimits};
use datastore::partition::engine::EngineKind;
use datastore::partition::memory::Memory;
use datastore::partition::{Identity, Range, SCHEMA_VERSION};
use datastore::record::{Body, Key, Space};
use datastore::store::Served;
use datastore::store::answer::{Ack, Need, Serving, StoreError};
use datastore::store::route::Part;
use datastore::sync::round::Member;
use datastore::topology::slots::Move;
use datastore::vector::Token;
use datastore::version::{PartitionId, RunId, SetId, Version};
use datastore::write::{Outcome, Write};

use crate::support::masters::{COPY, Kind, Masters, NAMES, SET};

fn key(text: &str) -> Key {
    Key::data(text.to_owned(), 255).unwrap()
}

fn set(name: &str, value: &str) -> Write {
    let value = value.to_owned().into();
    Write::set(key(name), Body { value, content_type: "text/plain".into(), expires_at: None })
}

async fn value_at(front: &Masters, name: &str, need: &Need) -> Option<String> {
    let read = front.store.get(&key(name), need, None).await.unwrap();
    let body = read.record?.body.unwrap();
    Some(String::from_utf8(body.value.to_vec()).unwrap())
}

#[tokio::test]
async fn what_is_written_is_read_at_its_master_and_elsewhere_after_a_round() {
    let front = Masters::over(Kind::Memory);
    for n in 0..30 {
        front.store.write(set(&format!("k{n}"), "v"), Ack::One, None).await.unwrap();
    }
    assert_eq!(value_at(&front, "k7", &Need::any()).await.as_deref(), Some("v"));
    let report = front.sync.run(Duration::from_secs(10)).await.expect("a round");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.pairs.len(), 6);
    assert_eq!(report.pairs.iter().map(|pair| pair.rows).sum::<usize>(), 60);
    for partition in NAMES {
        let need = Need::at(partition);
        assert_eq!(value_at(&front, "k7", &need).await.as_deref(), Some("v"), "{partition}");
        let range = Range {
            space: Space::Data,
            prefix: "k".into(),
            after: None,
            keys_max: 100,
            scanned_max: 1000,
            value_bytes_max: None,
        };
        let list = front.store.list(&range, &need, None).await.unwrap();
        assert_eq!((list.rows.len(), list.next), (30, None), "{partition}");
    }
    let idle = front.sync.run(Duration::from_secs(10)).await.expect("a round");
    assert_eq!(idle.pairs.iter().map(|pair| pair.rows).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_session_read_wakes_a_pull_and_never_returns_less() {
    let front = Masters::over(Kind::Memory);
    let mut token = None;
    for n in 0..20 {
        let written =
            front.store.write(set(&format!("k{n}"), "v"), Ack::One, token.as_ref()).await.unwrap();
        token = Some(written.session);
    }
    let token = token.unwrap();
    let need = Need::session(token.vector.clone());
    let read = front.store.get(&key("k3"), &need, Some(&token)).await.unwrap();
    assert!(read.record.is_some());
    assert!(read.session.vector.covers(&token.vector));
}

#[tokio::test]
async fn an_embedded_copy_is_read_first_and_never_in_place_of_a_master() {
    let front = Masters::over(Kind::Memory).with_copy();
    // Seeded, while there is nothing yet.
    front.round().await;
    let written = front.store.write(set("k", "v"), Ack::All, None).await.unwrap();
    assert_eq!(written.acks.map(|acks| (acks.held, acks.voters)), Some((3, 3)));
    let token = written.session;
    let by = async |need: Need| front.store.get(&key("k"), &need, Some(&token)).await.unwrap();

    // It is behind, and says what it has.
    let read = by(Need::any()).await;
    assert_eq!((read.served_by.name.as_ref(), read.record.is_some()), (COPY, false));
    let read = by(Need::session(token.vector.clone())).await;
    assert_eq!((&read.served_by, read.record.is_some()), (&written.served_by, true), "RYW-1");
    let read = by(Need::master(token.vector.clone())).await;
    assert_eq!((&read.served_by, read.record.is_some()), (&written.served_by, true));
    let range = Range {
        space: Space::Data,
        prefix: "".into(),
        after: None,
        keys_max: 100,
        scanned_max: 1000,
        value_bytes_max: None,
    };
    let need = Need::master(token.vector.clone());
    let list = front.store.list(&range, &need, None).await.unwrap();
    assert_eq!((list.rows.len(), list.served_by.len()), (1, NAMES.len()));

    front.round().await;
    front.store.look().await;
    let read = by(Need::session(token.vector.clone())).await;
    assert_eq!((read.served_by.name.as_ref(), read.record.is_some()), (COPY, true));
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let front = Masters::over(Kind::Memory);
    let missing = front.store.get(&key("k"), &Need::at("z"), None).await.unwrap_err();
    assert!(matches!(missing, StoreError::NoSuchPartition { .. }), "{missing:?}");
    let mut token = front.store.write(set("k", "v"), Ack::One, None).await.unwrap().session;
    let foreign = Token { set: SetId(2), ..token.clone() };
    let refused = front.store.get(&key("k"), &Need::any(), Some(&foreign)).await.unwrap_err();
    assert!(matches!(refused, StoreError::ForeignToken), "{refused:?}");
    let version = token.vector.iter().next().unwrap().1;
    token.vector.set(PartitionId(9), version);
    let lost = front.store.get(&key("k"), &Need::session(token.vector), None).await.unwrap_err();
    assert!(matches!(lost, StoreError::SessionLost { .. }), "{lost:?}");
}

#[tokio::test]
async fn concurrent_writers_of_one_key_get_rising_versions() {
    let front = Arc::new(Masters::over(Kind::Memory));
    let mut tasks = Vec::new();
    for n in 0..200 {
        let front = Arc::clone(&front);
        tasks.push(tokio::spawn(async move {
            front.store.write(set("one", &n.to_string()), Ack::One, None).await.unwrap().outcome
        }));
    }
    let mut versions = Vec::new();
    for task in tasks {
        let Outcome::Written { version, .. } = task.await.unwrap() else { panic!("not written") };
        versions.push(version);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 200, "VER-1");
    let read = front.store.get(&key("one"), &Need::any(), None).await.unwrap();
    assert_eq!(read.record.unwrap().version, *versions.last().unwrap());
}

/// A master that hangs is replaced: what waits behind it goes to its successor, and what was begun
/// there is told soon, long before its deadline.
#[tokio::test]
async fn who_waits_for_a_master_that_hangs_is_routed_again() {
    let front = Masters::over(Kind::Memory);
    let name = front.key_of("a");
    front.hold("a", true);
    let (store, write) = (Arc::clone(&front.store), set(&name, "begun"));
    let begun = tokio::spawn(async move { store.write(write, Ack::One, None).await });
    while front.waiting_at("a") == 0 {
        tokio::task::yield_now().await;
    }
    let [a, b] = ["a", "b"].map(|name| front.topology.voter_named(name).unwrap().id);
    let moved = Move { from: a, to: b, slots: front.topology.owned_by(a) };
    let next = front.topology.promote(&moved, front.topology.epoch().next()).unwrap();
    let clock = System::new();
    let (waiting, ()) =
        tokio::join!(front.store.write(set(&name, "waits"), Ack::One, None), async {
            front.shared.store(Arc::new(next));
        });
    let waiting = waiting.unwrap();
    assert_eq!(waiting.served_by.name.as_ref(), "b");
    let begun = begun.await.unwrap();
    assert!(matches!(begun, Err(StoreError::OutcomeUnknown { .. })), "{begun:?}");
    let took = clock.monotonic();
    assert!(took < Duration::from_secs(4), "{took:?}");
    front.hold("a", false);
    let need = Need::at("b");
    assert_eq!(value_at(&front, &name, &need).await.as_deref(), Some("waits"));
}

/// LOSS-1: the master is lost between the commit and the pushes. Others would keep the row, in
/// their ledgers; so nobody is asked, and nobody counts.
#[tokio::test]
async fn a_write_whose_master_was_lost_before_the_pushes_is_held_by_it_alone() {
    let front = Masters::over(Kind::Memory);
    let name = front.key_of("a");
    front.hold("a", true);
    let mut writing = pin!(front.store.write(set(&name, "late"), Ack::Majority, None));
    let begun = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context).is_pending())).await;
    assert!(begun, "its commit is waited for");
    front.hold("a", false);
    let committed = async || value_at(&front, &name, &Need::at("a")).await.is_some();
    while !committed().await {
        tokio::task::yield_now().await;
    }
    let [a, b] = ["a", "b"].map(|name| front.topology.voter_named(name).unwrap().id);
    let epoch = front.topology.epoch().next();
    let lost = front.topology.take_over(a, b, Version::ZERO, epoch).unwrap();
    front.shared.store(Arc::new(lost));
    let Err(StoreError::AckUnmet(written)) = writing.await else { panic!("LOSS-1") };
    assert_eq!(written.acks.map(|acks| (acks.held, acks.voters)), Some((1, 3)));
    assert!(front.store.health().iter().all(|one| one.trouble.is_none()), "nobody was asked");
    for partition in ["b", "c"] {
        assert_eq!(value_at(&front, &name, &Need::at(partition)).await, None, "{partition}");
    }
}

/// A read copy that the store does not serve yet.
fn copy_of(front: &Masters, id: PartitionId, name: &str) -> (Served, Member) {
    let clock: Arc<dyn Clock> = front.clock.clone();
    let engine = Memory::new(RunId(7), Arc::clone(&clock));
    let topology = front.topology.clone();
    let identity = Identity { set: SET, partition: id, schema: SCHEMA_VERSION, topology };
    let copy = Disposable::new(name, Box::new(engine), Some(Box::new(|| Ok(()))), identity);
    let connect: Arc<dyn Connect> = Arc::new(copy);
    let pool = Arc::new(Pool::new(Arc::clone(&connect), clock, LaneLimits::default()));
    let serving = Serving { id, name: name.into() };
    let member = Member { id, name: name.into(), connect: Arc::clone(&connect) };
    let (url, engine) = ("memory:".into(), EngineKind::Memory);
    let served = Served { serving, url, part: Part::Copy, engine, is_local: true, connect, pool };
    (served, member)
}

#[tokio::test]
async fn a_copy_comes_and_goes_while_the_store_serves() {
    let front = Masters::over(Kind::Memory);
    for n in 0..30 {
        front.store.write(set(&format!("k{n}"), "v"), Ack::One, None).await.unwrap();
    }
    let id = PartitionId::FIRST_COPY;
    for _ in 0..3 {
        let (served, member) = copy_of(&front, id, "late");
        front.store.add(served).unwrap();
        front.sync.add(&member).unwrap();
        front.round().await;
        front.store.look().await;
        assert_eq!(value_at(&front, "k7", &Need::at("late")).await.as_deref(), Some("v"));
        let standings = front.store.standings();
        let late = standings.iter().find(|one| one.health.partition.id == id).unwrap();
        assert_eq!((late.health.role, late.lag), (None, Some(0)), "{late:?}");
        let report = front.sync.current();
        assert_eq!(report.pairs.iter().filter(|pair| &*pair.target == "late").count(), 3);

        let leaving = front.store.remove(id).expect("it was served");
        assert!(front.store.remove(id).is_none());
        let gone = front.store.get(&key("k7"), &Need::at("late"), None).await;
        assert!(matches!(gone, Err(StoreError::NoSuchPartition { .. })), "{gone:?}");
        assert!(leaving.drain(Duration::from_secs(10)).await, "nobody asks it any more");
        front.sync.remove(id);
        assert!(front.sync.current().pairs.iter().all(|pair| &*pair.target != "late"));
        // Rounds do not wait for it.
        let report = front.sync.run(Duration::from_secs(10)).await.expect("a round");
        assert_eq!(report.pairs.len(), 6);
    }
    assert_eq!(value_at(&front, "k7", &Need::any()).await.as_deref(), Some("v"));
}
