//! A lost master under load, on real servers: three MariaDB voters, two front ends that decide by
//! themselves, writers and readers at both.
//!
//! Whatever happens to the master: reads go on (one retry allowed), writes come back, what a
//! majority has acknowledged is in the store, what the master alone has acknowledged is in the
//! store or in the ledger, and the old master becomes a replica by itself.
//! `DATASTORE_FAILOVER_ROUNDS` asks for more rounds, and has times held against the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use datastore::clock::{Clock, System};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Connection};
use super::process::{Service, until};
use super::support::mariadb::Server;
use super::support::proxy::{Proxy, Traffic, Way};

const WRITERS: usize = 16;
const READERS: usize = 16;
/// Acknowledged writes before anything happens to the master, and after it.
const BEFORE: usize = 300;
const AFTER: usize = 300;
/// Writes succeed again within this, where the machine is ours alone.
const BACK: Duration = Duration::from_secs(10);

/// How many rounds of each kind, and whether times count.
fn rounds() -> (usize, bool) {
    let asked = std::env::var_os("DATASTORE_FAILOVER_ROUNDS");
    let rounds = asked.as_ref().map_or(1, |rounds| rounds.to_str().unwrap().parse().unwrap());
    (rounds, asked.is_some())
}

/// Three voters, each behind a way that breaks on command.
struct Set {
    servers: Vec<Server>,
    databases: Vec<String>,
    proxies: Vec<Proxy>,
    folder: TempDir,
}

impl Set {
    fn start() -> Self {
        let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
        let databases = servers.iter().map(Server::database).collect();
        let proxies = servers.iter().map(|server| Proxy::to(server.port())).collect();
        Self { servers, databases, proxies, folder: tempfile::tempdir().unwrap() }
    }

    /// A front end over the three: one master, two replicas.
    fn front_end(&self) -> Service {
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
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Service::start_with(self.folder.path(), &environment)
    }
}

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Keys of acknowledged writes, and whether by a majority.
    acknowledged: Mutex<BTreeMap<String, bool>>,
    count: AtomicUsize,
    reads: AtomicUsize,
    failed_reads: Mutex<Vec<String>>,
    end: AtomicBool,
}

impl Told {
    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn ends(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    /// Writes keys of its own until told to end; over another front end when one is gone.
    fn write(&self, fronts: &[SocketAddr], name: &str) {
        let by_majority = name.len().is_multiple_of(2);
        let query = if by_majority { "?ack=majority" } else { "" };
        let mut connection = None;
        for n in 0_usize.. {
            if self.ends() {
                return;
            }
            let key = format!("{name}-{n}");
            let target = format!("/bucket/{key}{query}");
            let mut asked = connection.take().or_else(|| open(fronts, n));
            let answer = asked
                .as_mut()
                .and_then(|connection| connection.request("PUT", &target, &[], b"v").ok());
            let Some(answer) = answer else { continue };
            connection = asked;
            if matches!(answer.status, 201 | 204) {
                let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(key, by_majority);
                drop(all);
                self.count.fetch_add(1, Ordering::SeqCst);
            } else {
                assert_eq!(answer.status, 503, "{answer:?}");
            }
        }
    }

    /// Reads one key again and again, wherever it may be had: every second answer counts.
    fn read(&self, fronts: &[SocketAddr], name: usize) {
        let mut connection = None;
        for n in name.. {
            if self.ends() {
                return;
            }
            let mut statuses = Vec::new();
            for attempt in 0..2 {
                let mut asked = connection.take().or_else(|| open(fronts, n + attempt));
                let answer = asked
                    .as_mut()
                    .and_then(|asked| asked.request("GET", "/bucket/first", &[], b"").ok());
                statuses.push(answer.as_ref().map(|answer| answer.status));
                if answer.is_some() {
                    connection = asked;
                }
                if statuses.last() == Some(&Some(200)) {
                    break;
                }
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
            if statuses.last() != Some(&Some(200)) {
                let failed = format!("{statuses:?}");
                self.failed_reads.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
            }
        }
    }
}

fn open(fronts: &[SocketAddr], nth: usize) -> Option<Connection> {
    let order = (0..fronts.len()).map(|n| fronts[(nth + n) % fronts.len()]);
    order.into_iter().find_map(|address| Connection::open(address).ok())
}

/// Runs `event` in the middle of load, and `repair` once writes are back; then checks everything.
fn under_load(
    set: &mut Set,
    fronts: &[SocketAddr],
    event: impl FnOnce(&mut Set),
    repair: impl FnOnce(&mut Set),
) {
    let told = Told::default();
    let clock = System::new();
    let mut back = Duration::ZERO;
    thread::scope(|scope| {
        let told = &told;
        let round = fastrand::u32(..);
        for n in 0..WRITERS {
            let name = format!(
                "w{round:010}{}",
                if n % 2 == 0 { format!("-{n:02}") } else { format!("{n:02}") }
            );
            scope.spawn(move || told.write(fronts, &name));
        }
        for n in 0..READERS {
            scope.spawn(move || told.read(fronts, n));
        }
        // Whatever panics must not leave the others running.
        let ended = Ended(told);
        until("load", || told.count() >= BEFORE);
        let began = clock.monotonic();
        event(set);
        let known = told.count();
        until("writes come back", || told.count() >= known + AFTER);
        back = clock.monotonic() - began;
        repair(set);
        drop(ended);
    });
    let failed = told.failed_reads.into_inner().unwrap_or_else(PoisonError::into_inner);
    let reads = told.reads.into_inner();
    println!("{reads} reads; {AFTER} more writes within {back:?}");
    assert!(failed.is_empty(), "{} of {reads} reads failed: {:?}", failed.len(), failed.first());
    let (_, timed) = rounds();
    assert!(!timed || back < BACK, "{back:?}");
    let all = told.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
    settle(fronts);
    check(fronts, &all);
}

/// Load ends when this is dropped.
struct Ended<'a>(&'a Told);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::SeqCst);
    }
}

fn get(fronts: &[SocketAddr], target: &str) -> Option<Answer> {
    open(fronts, 0)?.request("GET", target, &[], b"").ok()
}

/// Waits until all three serve, one of them masters everything, and nobody lacks anything.
fn settle(fronts: &[SocketAddr]) {
    until("all three are well again, and have everything", || {
        let Some(answer) = get(fronts, "/admin/partitions") else { return false };
        let doc = answer.json();
        let all = doc["partitions"].as_array().unwrap().clone();
        let masters = all.iter().filter(|one| one["role"] == "master").count();
        let active = |one: &Value| one["lag"] == 0 && one["trouble"].is_null();
        all.len() == 3 && masters == 1 && all.iter().all(active)
    });
    let asked = open(fronts, 0).unwrap().request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
    assert_eq!(asked.status, 200, "{asked:?}");
}

/// Every acknowledged write is in the store at every partition, or, if one alone had acknowledged
/// it, in the ledger.
fn check(fronts: &[SocketAddr], all: &BTreeMap<String, bool>) {
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
fn ledger(fronts: &[SocketAddr]) -> BTreeSet<String> {
    let mut next = Some("/admin/conflicts?limit=100".to_owned());
    let mut keys = BTreeSet::new();
    while let Some(page) = next {
        let page = get(fronts, &page).unwrap().json();
        let conflicts = page["conflicts"].as_array().unwrap().iter();
        keys.extend(conflicts.map(|one| one["key"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(str::to_owned);
    }
    keys
}

fn keys(fronts: &[SocketAddr], partition: &str) -> BTreeSet<String> {
    let mut connection = open(fronts, 0).unwrap();
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

/// Which of the three masters all slots.
fn master(fronts: &[SocketAddr]) -> usize {
    let doc = get(fronts, "/admin/partitions").unwrap().json();
    let all = doc["partitions"].as_array().unwrap();
    let name = all.iter().find(|one| one["role"] == "master").unwrap()["name"].as_str().unwrap();
    name.trim_start_matches("store_").parse::<usize>().unwrap() - 1
}

/// A set with two front ends, and a key that was written.
fn two_front_ends() -> (Set, [Service; 2]) {
    let set = Set::start();
    let fronts = [set.front_end(), set.front_end()];
    assert_eq!(fronts[0].connect().put("/bucket/first", b"v").status, 201);
    fronts[0].sync();
    (set, fronts)
}

/// Plays rounds of one kind, each at whoever is the master by then.
fn rounds_of(event: impl Fn(&mut Set, usize), repair: impl Fn(&mut Set, usize)) {
    let (mut set, fronts) = two_front_ends();
    let addresses = [fronts[0].address(), fronts[1].address()];
    for round in 0..rounds().0 {
        let victim = master(&addresses);
        println!("round {round}: store_{}", victim + 1);
        under_load(&mut set, &addresses, |set| event(set, victim), |set| repair(set, victim));
        assert_ne!(master(&addresses), victim, "its slots were taken over");
    }
    let told = fronts[0].connect().get("/admin/decisions").json();
    let decisions = told["decisions"].as_array().unwrap();
    let taken = decisions.iter().find(|one| one["action"] == "take over").unwrap();
    assert!(taken["reason"].as_str().unwrap().contains("2 of 2 front ends"), "{taken}");
    for front in fronts {
        front.stop();
    }
}

#[test]
fn a_master_that_is_killed_is_replaced_and_comes_back_as_a_replica() {
    rounds_of(|set, nth| set.servers[nth].kill(), |set, nth| set.servers[nth].restart());
}

#[test]
fn a_master_that_stands_still_is_replaced() {
    rounds_of(|set, nth| set.servers[nth].stop(), |set, nth| set.servers[nth].resume());
}

/// It hears, and commits, and nobody hears of it: what it goes on with is late.
#[test]
fn a_master_that_is_cut_off_one_way_is_replaced() {
    rounds_of(
        |set, nth| set.proxies[nth].set(Way::ToClient, Traffic::Lost),
        |set, nth| {
            set.proxies[nth].heal();
            set.proxies[nth].cut();
        },
    );
}

/// The front end that takes over is killed, after each step that it tells of; the other one goes
/// on.
#[test]
fn a_front_end_that_is_killed_while_it_takes_over_is_not_needed() {
    for step in ["is to be taken over", "fenced", "caught up", "the document was changed"] {
        println!("after: {step}");
        let (mut set, [first, second]) = two_front_ends();
        let addresses = [first.address(), second.address()];
        let mut first = Some(first);
        let victim = master(&addresses);
        let event = |set: &mut Set| {
            set.servers[victim].kill();
            let mut front = first.take().unwrap();
            // The other one may be faster.
            front.wait_for_either(step, "another topology is in use");
            front.kill();
        };
        let survivors = [second.address()];
        under_load_with_one_killed(&mut set, (&addresses, &survivors), event, victim);
        second.stop();
    }
}

/// As [`under_load`], but readers and writers may meet the end of a front end.
fn under_load_with_one_killed(
    set: &mut Set,
    (all, survivors): (&[SocketAddr], &[SocketAddr]),
    event: impl FnOnce(&mut Set),
    victim: usize,
) {
    let told = Told::default();
    thread::scope(|scope| {
        let told = &told;
        for n in 0..WRITERS {
            let name = if n % 2 == 0 { format!("w-{n:02}") } else { format!("w{n:02}") };
            scope.spawn(move || told.write(all, &name));
        }
        let ended = Ended(told);
        until("load", || told.count() >= BEFORE);
        event(set);
        let known = told.count();
        until("writes come back", || told.count() >= known + AFTER);
        set.servers[victim].restart();
        drop(ended);
    });
    settle(survivors);
    check(survivors, &told.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner));
}
