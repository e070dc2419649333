//! F1: a server that is killed again and again under load loses nothing that was acknowledged and
//! gives no version twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, System};
use datastore::lane::write::{WriteLane, WriteLaneParts};
use datastore::lane::{Connect, Deadline, LaneError, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Found, Get, Partition, PartitionError};
use datastore::record::Key;
use datastore::topology::Topology;
use datastore::version::{PartitionId, Version};
use datastore::write::Outcome;

use crate::bed::{SHORT, founded, identity, key, set};
use crate::support::mariadb::Server;

const ROUNDS: usize = 5;
const WRITERS: usize = 16;
/// Acknowledged writes between two kills.
const ACKNOWLEDGED: usize = 200;

struct Direct(Mysql);

impl Connect for Direct {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        self.0.connect()
    }
}

/// What a writer knows of its own key: what was acknowledged last, and all that may stand.
#[derive(Default)]
struct Known {
    acknowledged: Option<(Version, usize)>,
    sent: usize,
    versions: Vec<Version>,
}

fn name(writer: usize) -> Key {
    key(format!("key of {writer}"))
}

/// Writes numbers, rising, until told to stop; an unknown outcome counts as sent.
fn writer(
    lane: &WriteLane,
    clock: &dyn Clock,
    nth: usize,
    (stop, acknowledged): (&AtomicBool, &AtomicUsize),
    known: &mut Known,
) {
    while !stop.load(Ordering::SeqCst) {
        known.sent += 1;
        let write = set(name(nth).bytes().clone(), known.sent.to_string());
        let deadline = Deadline(clock.monotonic() + Duration::from_secs(10));
        let Ok(answer) = lane.submit(write, deadline) else { continue };
        match answer.blocking_recv() {
            Ok(Ok(Outcome::Written { version, .. })) => {
                known.acknowledged = Some((version, known.sent));
                known.versions.push(version);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(
                LaneError::Failed(_) | LaneError::OutcomeUnknown(_) | LaneError::DeadlinePassed,
            )) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_killed_server_keeps_what_was_acknowledged_and_gives_no_version_twice() {
    let mut server = Server::start();
    let database = server.database();
    let engine = || server.engine(&database).with_patience(SHORT);
    drop(founded(&engine()));
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let topology: Topology = identity().topology;
    let lane = WriteLane::start(&WriteLaneParts {
        id: PartitionId(1),
        name: "store_1".into(),
        connect: Arc::new(Direct(engine())),
        topologies: Arc::new(ArcSwap::from_pointee(topology)),
        clock: Arc::clone(&clock),
        limits: LaneLimits::default(),
    })
    .unwrap();
    let mut all: Vec<Known> = (0..WRITERS).map(|_| Known::default()).collect();
    for _ in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let acknowledged = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (nth, known) in all.iter_mut().enumerate() {
                let (lane, clock, signals) = (&lane, clock.as_ref(), (&stop, &acknowledged));
                scope.spawn(move || writer(lane, clock, nth, signals, known));
            }
            while acknowledged.load(Ordering::SeqCst) < ACKNOWLEDGED {
                std::thread::yield_now();
            }
            server.kill();
            stop.store(true, Ordering::SeqCst);
        });
        server.restart();
        check(&mut *server.engine(&database).connect().unwrap(), &all);
    }
    let mut owners: BTreeMap<Version, usize> = BTreeMap::new();
    for (nth, known) in all.iter().enumerate() {
        for version in &known.versions {
            assert_eq!(owners.insert(*version, nth), None, "VER-1: {version} was given twice");
        }
    }
}

fn check(partition: &mut dyn Partition, all: &[Known]) {
    for (nth, known) in all.iter().enumerate() {
        let Some((version, number)) = known.acknowledged else { continue };
        let keys = [name(nth)];
        let get = Get { keys: &keys, inline_bytes_max: 100 };
        let found = partition.get(&get).unwrap().rows.remove(0);
        let Some(Found::Row(row)) = found else { panic!("ACK-1: {number} of {nth} is gone") };
        assert!(row.version >= version, "ACK-1: {number} of {nth} is gone");
        let value = String::from_utf8(row.body.unwrap().value.to_vec()).unwrap();
        let value: usize = value.parse().unwrap();
        assert!((number..=known.sent).contains(&value), "{value} of {nth}");
    }
}
