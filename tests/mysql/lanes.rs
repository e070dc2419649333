//! Lanes, pool and store over a real server: what waits is read at once, tokens hold, connections
//! that broke are made anew, and nobody gets another's answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, Manual, System};
use datastore::feed::{Feed, FeedLimits, FeedParts};
use datastore::jobs::SyncJob;
use datastore::lane::point::{PointError, PointLane};
use datastore::lane::pool::Pool;
use datastore::lane::write::{WriteLane, WriteLaneParts};
use datastore::lane::{Connect, Deadline, LaneError, LaneLimits, Topologies};
use datastore::partition::engine::{Engine, EngineKind};
use datastore::partition::memory::Memory;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Found, Identity, Partition, PartitionError, Result};
use datastore::store::answer::{Ack, Need, Serving};
use datastore::store::route::Part;
use datastore::store::{Served, Store, StoreParts};
use datastore::sync::round::{Member, Round};
use datastore::topology::{Role, Topology};
use datastore::vector::{Token, Vector};
use datastore::version::{Epoch, PartitionId, RunId, SetId, Version};
use datastore::write::{Outcome, Write};

use crate::bed::{Connection, SHORT, founded, identity, key, kind, set, write};
use crate::support::mariadb::Server;
use crate::support::proxy::{Proxy, Strike};

/// Makes connections and counts them.
struct Counted {
    engine: Box<dyn Engine>,
    made: AtomicUsize,
    losses: AtomicU64,
}

impl Counted {
    fn new(engine: impl Engine + 'static) -> Arc<Self> {
        let (made, losses) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { engine: Box::new(engine), made, losses })
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl Connect for Counted {
    fn connect(&self) -> Result<Connection> {
        self.made.fetch_add(1, Ordering::SeqCst);
        self.engine.connect()
    }

    fn tell_lost(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }
}

/// A partition behind a proxy, with values that name their keys.
struct Home {
    proxy: Proxy,
    connect: Arc<Counted>,
    direct: Connection,
    clock: Arc<dyn Clock>,
}

const KEYS: usize = 200;

fn name(nth: usize) -> String {
    format!("key {}", nth % KEYS)
}

fn home() -> Home {
    let server = Server::shared();
    let database = server.database();
    let mut direct = founded(&server.engine(&database));
    let writes: Vec<Write> = (0..KEYS).map(|n| set(name(n), format!("of {}", name(n)))).collect();
    write(&mut direct, &writes).unwrap();
    let proxy = Proxy::to(server.port());
    let url = server.url_by(proxy.port(), &database);
    let connect = Counted::new(Mysql::new(url).with_patience(SHORT));
    Home { proxy, connect, direct, clock: Arc::new(System::new()) }
}

/// The same, where no time passes but by hand.
fn home_by_hand() -> (Arc<Manual>, Home) {
    let clock = Arc::new(Manual::at(0));
    let home = Home { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..home() };
    (clock, home)
}

impl Home {
    fn lane(&self, limits: LaneLimits) -> PointLane {
        let connect = Arc::clone(&self.connect) as Arc<dyn Connect>;
        PointLane::start("test", &connect, &self.clock, limits).unwrap()
    }

    fn write_lane(&self, limits: LaneLimits) -> WriteLane {
        WriteLane::start(&WriteLaneParts {
            id: PartitionId(1),
            name: "test".into(),
            connect: Arc::clone(&self.connect) as Arc<dyn Connect>,
            topologies: Arc::new(ArcSwap::from_pointee(identity().topology)),
            clock: Arc::clone(&self.clock),
            limits,
        })
        .unwrap()
    }

    fn deadline(&self) -> Deadline {
        Deadline(self.clock.monotonic() + Duration::from_secs(30))
    }
}

fn served(point: &datastore::lane::point::Point) -> Option<String> {
    match point.found.as_ref()? {
        Found::Row(row) => Some(String::from_utf8(row.body.as_ref()?.value.to_vec()).unwrap()),
        Found::Large { bytes } => Some(format!("{bytes} bytes")),
        Found::Damaged => Some("damaged".to_owned()),
    }
}

/// Runs all of `futures` at once.
async fn all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

fn version(outcome: &Outcome) -> Version {
    let Outcome::Written { version, .. } = outcome else { panic!("{outcome:?}") };
    *version
}

/// The server has committed the first write and its answer hangs: that is as long as a flush takes.
#[tokio::test]
async fn while_a_transaction_is_flushed_the_next_one_is_committed_after_it() {
    let (clock, home) = home_by_hand();
    let lane = home.write_lane(LaneLimits::default());
    let submit = |value: &str| lane.submit(set("k", value.to_owned()), home.deadline()).unwrap();
    submit("connects").await.unwrap().unwrap();
    // The lane sees how long this server takes to flush.
    home.proxy.strike_with("COMMIT", Strike::HoldAnswer);
    let slow = submit("slow");
    home.proxy.wait_until_struck();
    clock.advance_ms(100);
    home.proxy.heal();
    slow.await.unwrap().unwrap();
    home.proxy.strike_with("COMMIT", Strike::HoldAnswer);
    let mut first = submit("first");
    home.proxy.wait_until_struck();
    let second = version(&submit("second").await.unwrap().unwrap());
    let hangs = tokio::time::timeout(Duration::ZERO, &mut first).await;
    assert!(hangs.is_err(), "nobody hears of a write before it is flushed");
    home.proxy.heal();
    let first = version(&first.await.unwrap().unwrap());
    assert!(first < second, "{first} {second}: in the order in which they came");
    assert_eq!(home.connect.made(), 2);
}

#[tokio::test]
async fn while_flushes_are_quick_one_connection_does_all_the_writing() {
    let (_, home) = home_by_hand();
    let lane = home.write_lane(LaneLimits::default());
    let mut last = Version::ZERO;
    for nth in 0..20 {
        let write = lane.submit(set("k", nth.to_string()), home.deadline()).unwrap();
        let next = version(&write.await.unwrap().unwrap());
        assert!(last < next, "{last} {next}");
        last = next;
    }
    assert_eq!(home.connect.made(), 1);
}

#[tokio::test]
async fn what_waits_is_read_at_once_and_everybody_gets_his_own() {
    const READS: usize = 2_000;
    let home = home();
    let lane = Arc::new(home.lane(LaneLimits::default()));
    home.proxy.strike_at(usize::MAX, Strike::CutBefore);
    let deadline = home.deadline();
    let reads = (0..READS).map(|nth| {
        let lane = Arc::clone(&lane);
        async move { lane.get(key(name(nth)), Vector::new(), deadline).await }
    });
    for (nth, answer) in all(reads).await.into_iter().enumerate() {
        assert_eq!(served(&answer.unwrap()), Some(format!("of {}", name(nth))));
    }
    let commands = home.proxy.commands();
    assert!(commands < READS / 4, "{commands} commands for {READS} reads");
    assert_eq!(home.connect.made(), LaneLimits::default().read_threads);
}

#[tokio::test]
async fn a_token_is_covered_or_the_reader_is_told() {
    let mut home = home();
    let lane = home.lane(LaneLimits { read_threads: 1, ..LaneLimits::default() });
    let vector = home.direct.status().unwrap().vector;
    let own = PartitionId(1);
    let one = |token: Vector| lane.get(key("key 1"), token, home.deadline());
    assert_eq!(served(&one(vector.clone()).await.unwrap()).as_deref(), Some("of key 1"));
    let next = Version::new(Epoch::FIRST, vector.get(own).seq().advanced(1).unwrap());
    let ahead: Vector = [(own, next)].into_iter().collect();
    match one(ahead.clone()).await {
        Err(PointError::Behind(behind)) => assert_eq!(behind, (own, next)),
        other => panic!("{other:?}"),
    }
    assert!(one(Vector::new()).await.is_ok(), "others are served");
    home.direct.commit(Epoch::FIRST, &[set("key 1", "new")]).unwrap();
    let one = |token: Vector| lane.get(key("key 1"), token, home.deadline());
    assert_eq!(served(&one(ahead).await.unwrap()).as_deref(), Some("new"), "RYW-1");
}

#[tokio::test]
async fn queue_and_deadline_bound_what_waits() {
    let home = home();
    let lane =
        Arc::new(home.lane(LaneLimits { queue_max: 8, read_threads: 1, ..LaneLimits::default() }));
    let late = lane.get(key("key 1"), Vector::new(), Deadline(Duration::ZERO)).await;
    assert!(matches!(late, Err(PointError::Lane(LaneError::DeadlinePassed))), "{late:?}");
    // The server's answer is held back, so that the lane is busy.
    home.proxy.strike_at(0, Strike::HoldAnswer);
    let deadline = home.deadline();
    let shared = Arc::clone(&lane);
    let reads = (0..40).map(move |nth| {
        let lane = Arc::clone(&shared);
        async move { lane.get(key(name(nth)), Vector::new(), deadline).await }
    });
    let waiting = tokio::spawn(all(reads));
    while !home.proxy.is_striking() {
        tokio::task::yield_now().await;
    }
    home.proxy.heal();
    let answers = waiting.await.unwrap();
    let refused = |answer: &&_| matches!(answer, Err(PointError::Lane(LaneError::Overloaded)));
    let refused = answers.iter().filter(refused).count();
    assert!(refused > 0 && refused < 40, "{refused} of 40");
}

#[tokio::test]
async fn timed_out_answers_never_reach_anybody_else() {
    let home = home();
    let lane = home.lane(LaneLimits { read_threads: 1, ..LaneLimits::default() });
    let lane = Arc::new(lane);
    lane.get(key("key 1"), Vector::new(), home.deadline()).await.unwrap();
    let mut answered = 0;
    for round in 0..4 {
        home.proxy.strike_at(round % 2, Strike::HoldAnswer);
        let deadline = home.deadline();
        let shared = Arc::clone(&lane);
        let reads = (0..100).map(move |nth| {
            let lane = Arc::clone(&shared);
            async move { lane.get(key(name(nth + 7 * round)), Vector::new(), deadline).await }
        });
        let answers = all(reads).await;
        // It is delivered after all, but only once its reader has given up.
        home.proxy.heal();
        for (nth, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(point) => {
                    let own = name(nth + 7 * round);
                    assert_eq!(served(&point), Some(format!("of {own}")), "TALK-1");
                    answered += 1;
                }
                Err(PointError::Lane(LaneError::Failed(error))) => {
                    assert_eq!(kind(&error), "unreachable");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(answered >= 4 * 30, "one batch a round is struck, not the other: {answered}");
}

#[test]
fn a_pool_keeps_what_is_whole_and_tells_what_is_wrong() {
    let home = home();
    let clock = Arc::new(Manual::at(0));
    let connect = Arc::clone(&home.connect) as Arc<dyn Connect>;
    // Three places are for others than a read lane.
    let limits = LaneLimits { read_threads: 0, ..LaneLimits::default() };
    let pool = Pool::new(connect, Arc::clone(&clock) as _, limits);
    assert_eq!(home.connect.made(), 0, "none is made before it is needed");
    for _ in 0..3 {
        pool.take().unwrap().status().unwrap();
    }
    assert_eq!(home.connect.made(), 1);
    home.proxy.strike_at(usize::MAX, Strike::CutBefore);
    pool.take().unwrap().identity().unwrap();
    assert_eq!(home.proxy.commands(), 3, "nothing is sent but what is asked");
    // In doubt: not used again.
    home.proxy.strike_at(0, Strike::CutAnswer);
    assert_eq!(kind(&pool.take().unwrap().status().unwrap_err()), "unreachable");
    pool.take().unwrap().status().unwrap();
    assert_eq!(home.connect.made(), 2);
    // Idle for too long: not used again.
    clock.advance_ms(61_000);
    pool.take().unwrap().status().unwrap();
    assert_eq!(home.connect.made(), 3);
    // One was lost while another stood idle: neither is used again.
    let (mut first, second) = (pool.take().unwrap(), pool.take().unwrap());
    assert_eq!(home.connect.made(), 4);
    drop(second);
    home.proxy.cut();
    assert_eq!(kind(&first.status().unwrap_err()), "unreachable");
    assert_eq!(kind(&first.status().unwrap_err()), "unreachable", "given up");
    drop(first);
    pool.take().unwrap().status().unwrap();
    assert_eq!(home.connect.made(), 5);
    // All in use: whoever comes is told in time.
    let taken: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
    assert_eq!(kind(&pool.take().map(drop).unwrap_err()), "busy");
    drop(taken);
}

#[test]
fn a_pool_says_why_it_cannot_connect() {
    let server = Server::shared();
    let connect = Counted::new(server.engine("no_such_database"));
    let pool = Pool::new(connect, Arc::new(System::new()), LaneLimits::default());
    let error = pool.take().map(drop).unwrap_err();
    assert!(matches!(&error, PartitionError::Unreachable(_)), "{error:?}");
    assert!(format!("{error:?}").contains("Unknown database"), "{error:?}");
}

/// A front end with one master on a server.
fn store(home: &Home) -> Store {
    let roles = BTreeMap::from([("store_1".to_owned(), Role::Master)]);
    let topology = Topology::found(&roles).unwrap();
    store_over(topology, vec![Arc::clone(&home.connect) as _], &home.clock)
}

/// A front end over the voters of a topology, each reached so.
fn store_over(
    topology: Topology,
    connects: Vec<Arc<dyn Connect>>,
    clock: &Arc<dyn Clock>,
) -> Store {
    let (mut members, mut partitions) = (Vec::new(), Vec::new());
    for (voter, connect) in topology.voters().iter().zip(connects) {
        let (id, name): (_, Arc<str>) = (voter.id, voter.name.as_str().into());
        let pool = Pool::new(Arc::clone(&connect), Arc::clone(clock), LaneLimits::default());
        let pool = Arc::new(pool);
        members.push(Member { id, name: Arc::clone(&name), connect: Arc::clone(&pool) as _ });
        let serving = Serving { id, name };
        let (part, engine) = (Part::Voter, EngineKind::Mysql);
        partitions.push(Served {
            serving,
            url: "mysql:".into(),
            part,
            engine,
            is_local: false,
            connect,
            pool,
        });
    }
    let topology = Arc::new(ArcSwap::from_pointee(topology));
    let retention = Duration::from_secs(60);
    let round = Round::start(members, Arc::clone(&topology), Arc::clone(clock), retention);
    let sync = Arc::new(SyncJob::start(round.unwrap()).unwrap());
    let feed = Feed::start(FeedParts {
        set: SetId(7),
        sources: Vec::new(),
        clock: Arc::clone(clock),
        sync: Arc::clone(&sync),
        limits: FeedLimits::default(),
    });
    Store::start(StoreParts {
        set: SetId(7),
        topologies: Arc::clone(&topology) as Arc<dyn Topologies>,
        topology,
        partitions,
        clock: Arc::clone(clock),
        deadline: Duration::from_secs(10),
        ack_timeout: Duration::from_secs(1),
        sync,
        feed: Arc::new(feed.unwrap()),
        eager: false,
        limits: LaneLimits::default(),
        history: Arc::default(),
    })
    .unwrap()
}

async fn stored(store: &Store, name: &str, session: Option<&Token>) -> Option<usize> {
    let read = store.get(&key(name.to_owned()), &Need::any(), session).await.unwrap();
    Some(read.record?.body.unwrap().value.len())
}

#[tokio::test]
async fn a_store_reads_and_writes_values_of_every_size() {
    let home = home();
    let store = store(&home);
    for bytes in [0, 1, 64 << 10, (64 << 10) + 1, 8 << 20] {
        let written = store.write(set("k", vec![7; bytes]), Ack::One, None).await.unwrap();
        let session = Some(&written.session);
        assert_eq!(stored(&store, "k", session).await, Some(bytes));
    }
    store.write(Write::delete(key("k")), Ack::One, None).await.unwrap();
    assert_eq!(stored(&store, "k", None).await, None);
    assert_eq!(stored(&store, "never", None).await, None);
}

#[tokio::test]
async fn connections_that_broke_while_nobody_used_them_are_made_anew_unnoticed() {
    let home = home();
    let store = store(&home);
    store.write(set("k", "v"), Ack::One, None).await.unwrap();
    assert_eq!(stored(&store, "k", None).await, Some(1));
    for _ in 0..3 {
        home.proxy.cut();
        store.write(set("k", "w"), Ack::One, None).await.unwrap();
        assert_eq!(stored(&store, "k", None).await, Some(1));
    }
}

/// A push over a connection that had died is made once more, and counts once.
#[tokio::test]
async fn who_confirms_at_the_second_try_is_counted_once() {
    let server = Server::shared();
    let proxy = Proxy::to(server.port());
    let names = ["a", "b", "c"].map(|name| (name.to_owned(), Role::Master));
    let topology = Topology::found(&BTreeMap::from(names)).unwrap();
    let mut connects: Vec<Arc<dyn Connect>> = Vec::new();
    for voter in topology.voters() {
        let database = server.database();
        let standing = Identity { partition: voter.id, topology: topology.clone(), ..identity() };
        server.engine(&database).connect().unwrap().found(&standing).unwrap();
        connects.push(Counted::new(Mysql::new(server.url_by(proxy.port(), &database))));
    }
    let store = store_over(topology, connects, &(Arc::new(System::new()) as _));
    for round in 0..5 {
        let written = store.write(set("k", format!("{round}")), Ack::All, None).await.unwrap();
        assert_eq!(written.acks.unwrap().held, 3, "round {round}");
        proxy.cut();
    }
}

#[test]
fn a_pool_of_a_local_engine_is_a_pool_as_well() {
    let memory = Counted::new(Memory::new(RunId(1), Arc::new(Manual::at(0))));
    let pool = Pool::new(memory, Arc::new(System::new()), LaneLimits::default());
    let mut connection = Connect::connect(&pool).unwrap();
    assert_eq!(connection.identity().unwrap(), None);
}
