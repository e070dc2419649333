//! A set of real servers and front ends under load, and what has to hold of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::topology::Topology;
use mysql::prelude::Queryable;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, Connection};
use crate::process::{Service, until};
use crate::support::mariadb::Server;
use crate::support::proxy::Proxy;

pub const WRITERS: usize = 16;
const READERS: usize = 16;
/// Acknowledged writes before anything happens, and after it.
pub const BEFORE: usize = 300;
pub const AFTER: usize = 300;
/// Writes succeed again within this, where the machine is ours alone.
const BACK: Duration = Duration::from_secs(10);
/// How long a client waits for a front end when there is none.
const LOOK: Duration = Duration::from_millis(50);

/// How many rounds of each kind, and whether times count.
pub fn rounds() -> (usize, bool) {
    let asked = std::env::var_os("DATASTORE_FAILOVER_ROUNDS");
    let rounds = asked.as_ref().map_or(1, |rounds| rounds.to_str().unwrap().parse().unwrap());
    (rounds, asked.is_some())
}

/// Three voters, each behind a way that breaks on command.
pub struct Set {
    pub servers: Vec<Server>,
    pub databases: Vec<String>,
    pub proxies: Vec<Proxy>,
    folder: TempDir,
}

impl Set {
    pub fn start() -> Self {
        let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
        let databases = servers.iter().map(Server::database).collect();
        let proxies = servers.iter().map(|server| Proxy::to(server.port())).collect();
        Self { servers, databases, proxies, folder: tempfile::tempdir().unwrap() }
    }

    /// What a front end over the three is told: one master, two replicas.
    fn environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = Vec::new();
        for (nth, (server, database)) in self.servers.iter().zip(&self.databases).enumerate() {
            let port = |port: u16| format!(":{port}/");
            let direct = server.url_text(database);
            let url = direct.replace(&port(server.port()), &port(self.proxies[nth].port()));
            let section = format!("DATASTORE__PARTITION__STORE_{}", nth + 1);
            environment.push((format!("{section}__URL"), url));
            let role = if nth == 0 { "master" } else { "replica" };
            environment.push((format!("{section}__ROLE"), role.to_owned()));
        }
        // Under load, and with others on the machine, a second is soon over.
        environment.push(("DATASTORE__STORE__ACK_TIMEOUT".to_owned(), "4s".to_owned()));
        environment.push(("DATASTORE__ORCHESTRATOR__COOLDOWN".to_owned(), "1s".to_owned()));
        environment
    }

    /// What starts a front end, also while servers come and go.
    pub fn starter(&self) -> Starter {
        Starter { folder: self.folder.path().to_owned(), environment: self.environment() }
    }

    /// A front end.
    pub fn front_end(&self) -> Service {
        self.starter().start()
    }
}

/// Starts front ends as a service manager does: again and again until one runs.
pub struct Starter {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Starter {
    pub fn start(&self) -> Service {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut started = None;
        until("a front end runs", || {
            started = Service::try_start_with(&self.folder, &environment);
            started.is_some()
        });
        started.unwrap()
    }
}

/// Where the front ends listen; one that is started again listens elsewhere.
pub struct Fronts {
    addresses: Mutex<Vec<SocketAddr>>,
    changed: Condvar,
}

impl Fronts {
    pub fn of(services: &[Service]) -> Self {
        let addresses = Mutex::new(services.iter().map(Service::address).collect());
        Self { addresses, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn moved(&self, nth: usize, to: SocketAddr) {
        self.lock()[nth] = to;
        self.changed.notify_all();
    }

    /// A connection to the `nth`, or to any other one.
    pub fn open(&self, nth: usize) -> Option<Connection> {
        self.open_at(nth).map(|(_, connection)| connection)
    }

    /// The same, and to which one.
    fn open_at(&self, nth: usize) -> Option<(usize, Connection)> {
        let all = self.lock().clone();
        (nth..nth + all.len()).find_map(|n| Some((n, Connection::open(all[n % all.len()]).ok()?)))
    }

    /// The same for one of many clients, who do not ask without a pause.
    fn open_patiently(&self, nth: usize) -> Option<(usize, Connection)> {
        let opened = self.open_at(nth);
        if opened.is_none() {
            drop(self.changed.wait_timeout(self.lock(), LOOK));
        }
        opened
    }

    pub fn get(&self, target: &str) -> Option<Answer> {
        self.open(0)?.request("GET", target, &[], b"").ok()
    }

    /// Which of the three masters all slots.
    pub fn master(&self) -> usize {
        let doc = self.get("/admin/partitions").unwrap().json();
        let all = doc["partitions"].as_array().unwrap();
        let master = all.iter().find(|one| one["role"] == "master").unwrap();
        let name = master["name"].as_str().unwrap();
        name.trim_start_matches("store_").parse::<usize>().unwrap() - 1
    }
}

/// What clients were told.
#[derive(Default)]
pub struct Told {
    /// Keys of acknowledged writes, and whether by a majority.
    pub acknowledged: Mutex<BTreeMap<String, bool>>,
    /// Where and under which version: each once (VER-1).
    versions: Mutex<BTreeSet<(String, String)>>,
    count: AtomicUsize,
    /// Writes that were refused, or had no answer, by writer.
    refused: [AtomicUsize; WRITERS],
    reads: AtomicUsize,
    failed_reads: Mutex<Vec<String>>,
    /// The longest time of a writer from one acknowledged write to the next.
    pause: Mutex<Duration>,
    /// No front end runs, or nothing that it could read from: reads are not counted.
    outage: AtomicBool,
    end: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// How many writes were acknowledged.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// From here on, or no more, nothing can be read.
    pub fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::SeqCst);
    }

    /// Waits until each writer was refused once more: what was acknowledged before is counted.
    pub fn wait_until_all_are_refused(&self) {
        let refused = || self.refused.each_ref().map(|count| count.load(Ordering::SeqCst));
        let before = refused();
        until("nobody can write", || refused().iter().zip(before).all(|(now, then)| *now > then));
    }

    fn ends(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    /// Writes keys of its own until told to end; over another front end when one is gone.
    pub fn write(&self, fronts: &Fronts, (writer, round): (usize, u32)) {
        let by_majority = writer.is_multiple_of(2);
        let query = if by_majority { "?ack=majority" } else { "" };
        let mut connection = None;
        let (clock, mut last) = (System::new(), Duration::ZERO);
        for n in 0_usize.. {
            if self.ends() {
                return;
            }
            let key = format!("w{round:010}-{writer:02}-{n}");
            let target = format!("/bucket/{key}{query}");
            let mut asked = connection.take().or_else(|| fronts.open_patiently(n));
            let answer =
                asked.as_mut().and_then(|(_, asked)| asked.request("PUT", &target, &[], b"v").ok());
            if let Some(answer) = answer {
                connection = asked;
                if matches!(answer.status, 201 | 204) {
                    self.note(&answer);
                    locked(&self.acknowledged).insert(key, by_majority);
                    let now = clock.monotonic();
                    let mut pause = locked(&self.pause);
                    *pause = pause.max(now - std::mem::replace(&mut last, now));
                    drop(pause);
                    self.count.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                assert_eq!(answer.status, 503, "{answer:?}");
            }
            self.refused[writer].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn note(&self, answer: &Answer) {
        let header = |name| answer.header(name).unwrap().to_owned();
        let given = (header("datastore-partition"), header("etag"));
        assert!(locked(&self.versions).insert(given.clone()), "given twice: {given:?}");
    }

    /// Reads one key again and again: where a front end does not serve it, once more at the next
    /// one, whose answer counts.
    fn read(&self, fronts: &Fronts, reader: usize) {
        let (mut connection, mut nth) = (None, reader);
        while !self.ends() {
            let mut is_forgiven = self.outage.load(Ordering::SeqCst);
            let mut statuses = Vec::new();
            while statuses.len() < 2 && statuses.last() != Some(&Some(200)) {
                let mut asked = connection.take().or_else(|| fronts.open_patiently(nth));
                let answer = asked.as_mut().and_then(|(at, asked)| {
                    nth = *at + 1;
                    asked.request("GET", "/bucket/first", &[], b"").ok()
                });
                statuses.push(answer.as_ref().map(|answer| answer.status));
                connection = asked.filter(|_| statuses.last() == Some(&Some(200)));
            }
            is_forgiven |= self.outage.load(Ordering::SeqCst);
            if is_forgiven {
                continue;
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
            if statuses.last() != Some(&Some(200)) {
                locked(&self.failed_reads).push(format!("{statuses:?}"));
            }
        }
    }
}

/// Runs `event` in the middle of load, and `repair` once writes are back; then checks everything.
/// Times count if `timed`, and if the test is asked for more rounds than one.
pub fn under_load(
    set: &mut Set,
    fronts: &Fronts,
    timed: bool,
    event: impl FnOnce(&mut Set, &Told),
    repair: impl FnOnce(&mut Set),
) {
    let (all, _) = load(set, fronts, timed, event, repair);
    settle(set, fronts);
    check(fronts, &all);
}

/// Runs `event` in the middle of load, and `repair` once writes are back: the keys of acknowledged
/// writes, and the longest pause of a writer from the event on.
pub fn load(
    set: &mut Set,
    fronts: &Fronts,
    timed: bool,
    event: impl FnOnce(&mut Set, &Told),
    repair: impl FnOnce(&mut Set),
) -> (BTreeMap<String, bool>, Duration) {
    let told = Told::default();
    let clock = System::new();
    let mut back = Duration::ZERO;
    thread::scope(|scope| {
        let told = &told;
        let round = fastrand::u32(..);
        for writer in 0..WRITERS {
            scope.spawn(move || told.write(fronts, (writer, round)));
        }
        for reader in 0..READERS {
            scope.spawn(move || told.read(fronts, reader));
        }
        // Whatever panics must not leave the others running.
        let ended = Ended(told);
        until("load", || told.count() >= BEFORE);
        let began = clock.monotonic();
        *locked(&told.pause) = Duration::ZERO;
        event(set, told);
        let known = told.count();
        until("writes come back", || told.count() >= known + AFTER);
        back = clock.monotonic() - began;
        repair(set);
        drop(ended);
    });
    let failed = locked(&told.failed_reads);
    let reads = told.reads.load(Ordering::SeqCst);
    println!("{reads} reads; {AFTER} more writes within {back:?}");
    assert!(reads > 0, "nobody read");
    assert!(failed.is_empty(), "{} of {reads} reads failed: {:?}", failed.len(), failed.first());
    drop(failed);
    assert!(!(timed && rounds().1) || back < BACK, "{back:?}");
    let pause = *locked(&told.pause);
    (std::mem::take(&mut *locked(&told.acknowledged)), pause)
}

/// Load ends when this is dropped.
pub struct Ended<'a>(pub &'a Told);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::SeqCst);
    }
}

/// Waits until all three serve, one of them masters everything, nobody lacks anything, and the
/// document tells of no takeover any more.
pub fn settle(set: &Set, fronts: &Fronts) {
    until("all three are well again, and have everything", || {
        let Some(answer) = fronts.get("/admin/partitions") else { return false };
        let doc = answer.json();
        let all = doc["partitions"].as_array().unwrap().clone();
        let masters = all.iter().filter(|one| one["role"] == "master").count();
        let active =
            |one: &Value| one["lag"] == 0 && one["trouble"].is_null() && one["state"] == "active";
        all.len() == 3 && masters == 1 && all.iter().all(active)
    });
    let asked = fronts.open(0).unwrap().request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
    assert_eq!(asked.status, 200, "{asked:?}");
    until("cuts that nobody needs are dropped", || {
        let both = set.servers.iter().zip(&set.databases);
        both.filter(|(server, database)| has_no_cuts(server, database)).count() > 1
    });
}

fn has_no_cuts(server: &Server, database: &str) -> bool {
    let document: Option<String> =
        server.admin_of(database).query_first("SELECT document FROM topology").unwrap();
    let document: Topology = serde_json::from_str(&document.unwrap()).unwrap();
    document.cuts().is_empty()
}

/// Every acknowledged write is in the store at every partition, or, if one alone had acknowledged
/// it, in the ledger.
pub fn check(fronts: &Fronts, all: &BTreeMap<String, bool>) {
    let kept = ledger(fronts);
    for partition in ["store_1", "store_2", "store_3"] {
        let keys = keys(fronts, partition);
        let missing: Vec<(&String, &bool)> = all
            .iter()
            .filter(|(key, _)| !keys.contains(*key))
            .filter(|(key, by_majority)| **by_majority || !kept.contains(*key))
            .collect();
        assert!(
            missing.is_empty(),
            "{partition} lacks {} of {}: {missing:?}",
            missing.len(),
            all.len()
        );
    }
}

/// The keys of the ledger.
pub fn ledger(fronts: &Fronts) -> BTreeSet<String> {
    let mut next = Some("/admin/conflicts?limit=100".to_owned());
    let mut keys = BTreeSet::new();
    while let Some(page) = next {
        let page = fronts.get(&page).unwrap().json();
        let conflicts = page["conflicts"].as_array().unwrap().iter();
        keys.extend(conflicts.map(|one| one["key"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(str::to_owned);
    }
    keys
}

fn keys(fronts: &Fronts, partition: &str) -> BTreeSet<String> {
    let mut connection = fronts.open(0).unwrap();
    let mut next = format!("/bucket/?partition={partition}&limit=10000");
    let mut keys = BTreeSet::new();
    loop {
        let accept = [("Accept", "application/json")];
        let page = connection.request("GET", &next, &accept, b"").unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let names = page["message"].as_array().unwrap().iter();
        keys.extend(
            names.map(|path| path.as_str().unwrap().trim_start_matches("/bucket/").to_owned()),
        );
        match page["next"].as_str() {
            Some(more) => next = more.to_owned(),
            None => return keys,
        }
    }
}

/// A set with two front ends, and a key that was written.
pub fn two_front_ends() -> (Set, [Service; 2]) {
    let set = Set::start();
    let fronts = [set.front_end(), set.front_end()];
    assert_eq!(fronts[0].connect().put("/bucket/first", b"v").status, 201);
    fronts[0].sync();
    (set, fronts)
}
