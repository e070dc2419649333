//! Real MariaDB servers under the real service: a master that is killed or stops answering under
//! load, with two front ends over one set.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::http::paths;
use datastore::record::{Key, Space};
use datastore::topology::{Role, Topology};
use fastrand::Rng;
use mysql::prelude::Queryable;
use tempfile::TempDir;

use super::client::Connection;
use super::crash::{Attempt, History, agree, version_of};
use super::process::{BOUND, Service, until};
use super::support::mariadb::Server;
use super::support::proxy::{Proxy, Strike};

const WRITERS: u64 = 6;
const OWN_KEYS: u64 = 40;
/// A master takes writes again within this after its port accepts again: held against the clock
/// where the machine is ours alone, in a soak.
const BACK: Duration = Duration::from_secs(5);
/// The deadline of a request, and what a loaded machine adds.
const ANSWERED: Duration = Duration::from_secs(8);

/// One test after the other has three servers: many at once are slow, and more than there may be.
static ALONE: Mutex<()> = Mutex::new(());

/// Three servers with a master each.
pub struct Servers {
    _alone: MutexGuard<'static, ()>,
    servers: Vec<Server>,
    databases: Vec<String>,
    folder: TempDir,
}

impl Servers {
    /// Starts them, with a database each.
    pub fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
        let databases = servers.iter().map(Server::database).collect();
        Self { _alone: alone, servers, databases, folder: tempfile::tempdir().unwrap() }
    }

    /// A front end over the three; the first one founds the set.
    pub fn front_end(&self) -> Service {
        let mut environment = Vec::new();
        for (nth, (server, database)) in self.servers.iter().zip(&self.databases).enumerate() {
            let name = format!("DATASTORE__PARTITION__STORE_{}__URL", nth + 1);
            environment.push((name, server.url_text(database)));
        }
        // Who is the master is not to change here: see `failover`.
        environment.push(("DATASTORE__ORCHESTRATOR__ENABLED".to_owned(), "false".to_owned()));
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
        Service::start_with(self.folder.path(), &environment)
    }

    /// Kills the `nth`.
    pub fn kill(&mut self, nth: usize) {
        self.servers[nth].kill();
    }

    /// Kills the `nth` and starts it again.
    pub fn crash(&mut self, nth: usize) {
        self.servers[nth].restart();
    }

    /// The `nth`.
    pub fn server(&mut self, nth: usize) -> &mut Server {
        &mut self.servers[nth]
    }

    /// A plain connection to the database of the `nth`.
    pub fn admin(&self, nth: usize) -> mysql::Conn {
        self.servers[nth].admin_of(&self.databases[nth])
    }
}

/// Writes until told to end. What was not written is told from what may stand.
fn write(address: SocketAddr, name: u64, seed: u64, end: &AtomicBool) -> Vec<Attempt> {
    let mut random = Rng::with_seed(seed);
    let mut attempts = Vec::new();
    let mut connection = Connection::open(address).unwrap();
    for n in 0_u64.. {
        if end.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("own {name} {}", random.u64(0..OWN_KEYS));
        let value = format!("{key} {seed} {n}");
        let target = paths::emit("/bucket/", key.as_bytes());
        let answer = connection.put(&target, value.as_bytes());
        let version = match answer.status {
            201 | 204 => Some(version_of(&answer)),
            503 if answer.json()["code"] == "outcome-unknown" => None,
            503 => continue,
            _ => panic!("{key}: {answer:?}"),
        };
        attempts.push(Attempt { key, value: Some(value), version });
    }
    attempts
}

/// A key that the `nth` of three masters takes.
pub fn key_of(nth: usize) -> String {
    let names = (1..=3).map(|n| (format!("store_{n}"), Role::Master));
    let topology = Topology::found(&names.collect()).unwrap();
    let id = topology.voters()[nth].id;
    let keys = (0..).map(|n| format!("probe {n}"));
    keys.into_iter()
        .find(|key| topology.master_of(&Key::stored(Space::Data, key.clone())) == id)
        .unwrap()
}

/// Writes a value; the status of the answer.
pub fn put(address: SocketAddr, key: &str, value: &str) -> u16 {
    let target = paths::emit("/bucket/", key.as_bytes());
    Connection::open(address).unwrap().put(&target, value.as_bytes()).status
}

/// ACK-1 and VER-1: of the server's crash this time.
#[test]
fn kill_9_of_a_master_under_load_takes_nothing_that_was_acknowledged() {
    let rounds = std::env::var_os("DATASTORE_KILL_ROUNDS")
        .map_or(20, |rounds| rounds.to_str().unwrap().parse().unwrap());
    let seed = fastrand::u64(..);
    println!("seed {seed}, {rounds} rounds");
    let mut random = Rng::with_seed(seed);
    let mut servers = Servers::start();
    let fronts = [servers.front_end(), servers.front_end()];
    let mut history = History::default();
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let end = AtomicBool::new(false);
        let victim = random.usize(..3);
        let seeds: Vec<u64> = (0..WRITERS).map(|_| random.u64(..)).collect();
        let attempts: Vec<Attempt> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|name| {
                    let address = fronts[usize::try_from(name % 2).unwrap()].address();
                    let (seed, end) = (seeds[usize::try_from(name).unwrap()], &end);
                    scope.spawn(move || write(address, name, seed, end))
                })
                .collect();
            // Some load before the crash: as many answers of our own.
            for n in 0..random.usize(20..100) {
                put(fronts[0].address(), &key_of(victim), &n.to_string());
            }
            servers.servers[victim].kill();
            servers.servers[victim].restart();
            let clock = System::new();
            for front in &fronts {
                until("the master takes writes again", || {
                    matches!(put(front.address(), &key_of(victim), "back"), 201 | 204)
                });
            }
            slowest = slowest.max(clock.monotonic());
            end.store(true, Ordering::SeqCst);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        for attempt in attempts {
            history.record(attempt);
        }
        check(&fronts[1], &mut history);
    }
    println!(
        "{} acknowledged; {} without an answer stood; writes came back within {slowest:?}",
        history.acknowledged, history.unknown_that_stood
    );
    if std::env::var_os("DATASTORE_KILL_ROUNDS").is_some() {
        assert!(slowest < BACK, "{slowest:?}");
    }
    agree(&fronts[0], &history);
    for front in fronts {
        front.stop();
    }
}

fn check(service: &Service, history: &mut History) {
    let mut connection = service.connect();
    for key in history.keys.keys().cloned().collect::<Vec<_>>() {
        // Where it was written: what the master says is what stands.
        let master = (0..3).find(|nth| is_master(*nth, &key)).unwrap();
        let target = paths::emit("/bucket/", key.as_bytes());
        let answer = connection.get(&format!("{target}?partition=store_{}", master + 1));
        history.check(&key, &answer);
    }
}

fn is_master(nth: usize, key: &str) -> bool {
    let names = (1..=3).map(|n| (format!("store_{n}"), Role::Master));
    let topology = Topology::found(&names.collect()).unwrap();
    topology.master_of(&Key::stored(Space::Data, key.to_owned())) == topology.voters()[nth].id
}

/// F2: a master that is there and answers nothing holds up nobody else, and its own writers only
/// for the deadline.
#[test]
fn a_master_that_stops_answering_holds_up_its_own_writes_only_and_these_for_the_deadline() {
    let servers = Servers::start();
    let service = servers.front_end();
    let address = service.address();
    for nth in 0..3 {
        assert_eq!(put(address, &key_of(nth), "before"), 201);
    }
    service.sync();
    servers.servers[0].stop();
    let clock = System::new();
    let answers: Vec<u16> = thread::scope(|scope| {
        let stuck: Vec<_> =
            (0..8).map(|_| scope.spawn(|| put(address, &key_of(0), "meanwhile"))).collect();
        for n in 0..50 {
            for nth in [1, 2] {
                assert_eq!(put(address, &key_of(nth), &n.to_string()), 204);
            }
        }
        stuck.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let took = clock.monotonic();
    assert_eq!(answers, [503; 8]);
    assert!(took < ANSWERED, "{took:?}");
    let read = service.connect().get(&paths::emit("/bucket/", key_of(0).as_bytes()));
    assert_eq!((read.status, read.text()), (200, "before"), "{read:?}");
    servers.servers[0].resume();
    until("it takes writes again", || matches!(put(address, &key_of(0), "after"), 201 | 204));
    assert!(clock.monotonic() < BOUND);
    service.stop();
}

/// A front end that is stopped inside its transaction holds the clock of a master; the server ends
/// that after 5 s, and others go on.
#[test]
fn a_front_end_stopped_inside_its_transaction_holds_up_others_for_a_while_only() {
    let server = Server::start();
    let database = server.database();
    let proxy = Proxy::to(server.port());
    let url = |port: u16| {
        server.url_text(&database).replace(&format!(":{}/", server.port()), &format!(":{port}/"))
    };
    let folder = tempfile::tempdir().unwrap();
    let front_end = |port: u16| {
        Service::start_with(folder.path(), &[("DATASTORE__PARTITION__STORE_1__URL", &url(port))])
    };
    let (stopped, other) = (front_end(proxy.port()), front_end(server.port()));
    assert_eq!(put(stopped.address(), "k", "before"), 201);
    assert_eq!(put(other.address(), "k", "before"), 204);
    // Fence and sequence are taken, and with them the lock; what follows never comes.
    proxy.strike_with("LAST_INSERT_ID", Strike::HoldAnswer);
    let (clock, address) = (System::new(), stopped.address());
    thread::scope(|scope| {
        let held = scope.spawn(move || put(address, "k", "of the stopped one"));
        proxy.wait_until_struck();
        stopped.signal("STOP");
        // The answer is there; nobody takes it.
        proxy.heal();
        until("its transaction stands open", || {
            let mut admin = server.admin();
            let open = "SELECT COUNT(*) FROM information_schema.innodb_trx";
            admin.query_first::<u64, _>(open).unwrap() > Some(0)
        });
        let began = clock.monotonic();
        until("another front end writes", || put(other.address(), "k", "of the other") == 204);
        let blocked = clock.monotonic() - began;
        println!("blocked for {blocked:?}");
        if std::env::var_os("DATASTORE_KILL_ROUNDS").is_some() {
            assert!(blocked < BACK + Duration::from_secs(1), "{blocked:?}");
        }
        stopped.signal("CONT");
        assert_eq!(held.join().unwrap(), 503, "its commit was never sent");
    });
    let read = other.connect().get("/bucket/k");
    assert_eq!((read.status, read.text()), (200, "of the other"), "{read:?}");
    until("it writes again", || put(stopped.address(), "k", "after") == 204);
    stopped.stop();
    other.stop();
}
