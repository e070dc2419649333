//! A name that leads to another server: the old one was demoted and lives on, read only. No lane
//! may stay there with a connection that it has kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, System};
use datastore::lane::look::LookLane;
use datastore::lane::point::PointLane;
use datastore::lane::pool::Pool;
use datastore::lane::write::{WriteLane, WriteLaneParts};
use datastore::lane::{Connect, Deadline, LaneError, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Found, PartitionError, Result};
use datastore::vector::Vector;
use datastore::version::{PartitionId, RunId};
use datastore::write::Outcome;
use mysql::prelude::Queryable;

use crate::bed::{Connection, founded, identity, key, set, value, write};
use crate::support::mariadb::{Server, url_of};
use crate::support::proxy::Proxy;

const ONE: LaneLimits = LaneLimits {
    queue_max: 8,
    queue_bytes_max: 1 << 20,
    batch_rows_max: 8,
    batch_merges_max: 8,
    batch_bytes_max: 1 << 20,
    read_threads: 1,
    write_threads: 1,
};

/// The way to a partition, as all its lanes share it.
struct Way {
    engine: Mysql,
    losses: AtomicU64,
}

impl Connect for Way {
    fn connect(&self) -> Result<Connection> {
        self.engine.connect()
    }

    fn tell_lost(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }
}

/// A server with the partition, and somebody who may not write where that is forbidden.
fn server(database: &str, holds: &str) -> (Server, RunId) {
    let server = Server::start();
    let mut admin = server.admin();
    for sql in [
        format!("CREATE DATABASE {database}"),
        format!("CREATE USER '{database}'@'127.0.0.1' IDENTIFIED BY 'secret'"),
        format!("GRANT ALL ON {database}.* TO '{database}'@'127.0.0.1'"),
    ] {
        admin.query_drop(sql).unwrap();
    }
    let mut direct = founded(&server.engine(database));
    write(&mut direct, &[set("k", holds.to_owned())]).unwrap();
    let run = direct.status().unwrap().run;
    (server, run)
}

/// Everything that keeps connections to one partition.
struct Lanes {
    clock: Arc<dyn Clock>,
    write: WriteLane,
    point: PointLane,
    look: LookLane,
    pool: Pool,
    rounds: Pool,
}

impl Lanes {
    fn start(connect: &Arc<dyn Connect>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(System::new());
        let pool = || Pool::new(Arc::clone(connect), Arc::clone(&clock), ONE);
        let parts = WriteLaneParts {
            id: PartitionId(1),
            name: "test".into(),
            connect: Arc::clone(connect),
            topologies: Arc::new(ArcSwap::from_pointee(identity().topology)),
            clock: Arc::clone(&clock),
            limits: ONE,
        };
        Self {
            write: WriteLane::start(&parts).unwrap(),
            point: PointLane::start("test", connect, &clock, ONE).unwrap(),
            look: LookLane::start("test", Arc::clone(connect), Arc::clone(&clock)).unwrap(),
            pool: pool(),
            rounds: pool(),
            clock,
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline(self.clock.monotonic() + Duration::from_secs(30))
    }

    async fn write(&self, to: &str) -> std::result::Result<Outcome, LaneError> {
        self.write.submit(set("w", to.to_owned()), self.deadline()).unwrap().await.unwrap()
    }

    /// What a point read, a pooled one and one of a round find, and the run that a look sees.
    async fn read(&self) -> ([String; 3], RunId) {
        let point = self.point.get(key("k"), Vector::new(), self.deadline()).await.unwrap();
        let Some(Found::Row(point)) = point.found else { panic!("{point:?}") };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pooled = self.pool.read(|reader| value(&mut reader.partition, "k")).unwrap();
        let mut round: Connection = self.rounds.connect().unwrap();
        let round = value(&mut round, "k").unwrap();
        let found = [point.body.unwrap().value, pooled.unwrap(), round.unwrap()];
        (found.map(|bytes| text(&bytes)), self.look.look().await.unwrap().status.run)
    }
}

#[tokio::test]
async fn no_lane_stays_with_a_server_that_was_demoted() {
    let database = "moved";
    let ((old, old_run), (new, new_run)) = (server(database, "old"), server(database, "new"));
    let proxy = Proxy::to(old.port());
    let engine = Mysql::new(url_of((database, "secret"), proxy.port(), database));
    let way = Arc::new(Way { engine, losses: AtomicU64::new(0) });
    let lanes = Lanes::start(&(Arc::clone(&way) as Arc<dyn Connect>));
    assert!(lanes.write("1").await.is_ok());
    assert_eq!(lanes.read().await, (["old"; 3].map(str::to_owned), old_run));

    old.admin().query_drop("SET GLOBAL read_only = 1").unwrap();
    proxy.lead_to(new.port());
    // The kept connection is refused, and what was not written is written where the way leads now.
    assert!(lanes.write("2").await.is_ok());
    let mut direct = new.engine(database).connect().unwrap();
    assert_eq!(value(&mut direct, "w").unwrap().as_deref(), Some(&b"2"[..]));
    // Those that never write did not stay either.
    assert_eq!(lanes.read().await, (["new"; 3].map(str::to_owned), new_run));
    assert_eq!(way.losses(), 1);
}

/// Where there is no other server, writes are refused one by one, and nobody's connections suffer.
#[tokio::test]
async fn a_server_that_stays_read_only_is_not_left_again_and_again() {
    let database = "stays";
    let (server, _) = server(database, "old");
    let engine = Mysql::new(url_of((database, "secret"), server.port(), database));
    let way = Arc::new(Way { engine, losses: AtomicU64::new(0) });
    let lanes = Lanes::start(&(Arc::clone(&way) as Arc<dyn Connect>));
    assert!(lanes.write("1").await.is_ok());
    server.admin().query_drop("SET GLOBAL read_only = 1").unwrap();
    for _ in 0..5 {
        match lanes.write("2").await {
            Err(LaneError::Failed(error)) => {
                assert!(matches!(*error, PartitionError::ReadOnly(_)), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        lanes.read().await;
    }
    assert_eq!(way.losses(), 1, "told once");
    server.admin().query_drop("SET GLOBAL read_only = 0").unwrap();
    assert!(lanes.write("3").await.is_ok());
}
