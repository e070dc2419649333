//! FEED-1 under the real service: followers on three front ends over three MariaDB masters, while
//! everything changes and everything breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use datastore::client::follow::{self, Change, Follow, Follower};
use datastore::client::mirror::Mirror;
use datastore::clock::{Clock, System};
use datastore::http::paths;
use datastore::record::{Body, Key, Record, Space};
use datastore::version::{Epoch, PartitionId, Seq, Version};
use fastrand::Rng;
use mysql::prelude::Queryable as _;

use super::client::Connection;
use super::process::{Service, until};
use super::servers::{Servers, key_of};
use super::stream::Stream;

const WRITERS: usize = 8;
const KEYS: u32 = 10_000;
/// Writes between two blows, at most.
const BLOW_AFTER: u64 = 1_000;

/// What stands, by key: version and value.
type State = BTreeMap<Vec<u8>, (Version, Vec<u8>)>;

/// Front ends that come and go, and who talks to them.
struct Scene {
    addresses: Mutex<Vec<SocketAddr>>,
    writing: AtomicBool,
    following: AtomicBool,
    writes: AtomicU64,
    resumed: AtomicU64,
    resets: AtomicU64,
    mirrors: Vec<Mutex<Mirror>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Scene {
    fn new(fronts: &[Service], followers: usize) -> Self {
        Self {
            addresses: Mutex::new(fronts.iter().map(Service::address).collect()),
            writing: AtomicBool::new(true),
            following: AtomicBool::new(true),
            writes: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            mirrors: (0..followers).map(|_| Mutex::default()).collect(),
        }
    }

    /// Another front end than the `nth`, which may be gone by now.
    fn other(&self, nth: &mut usize, random: &mut Rng) -> SocketAddr {
        let addresses = lock(&self.addresses);
        *nth = (*nth + random.usize(1..addresses.len())) % addresses.len();
        addresses[*nth]
    }

    fn write(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut nth = random.usize(..3);
        'front: while self.writing.load(Ordering::SeqCst) {
            let address = self.other(&mut nth, &mut random);
            let Ok(mut connection) = Connection::open(address) else { continue };
            while self.writing.load(Ordering::SeqCst) {
                let key = format!("k{}", random.u32(..KEYS));
                let target = paths::emit("/bucket/", key.as_bytes());
                let (method, value) = match random.u8(..4) {
                    0 => ("DELETE", String::new()),
                    _ => ("PUT", format!("{key} {}", random.u64(..))),
                };
                connection.queue(method, &target, &[], value.as_bytes());
                if connection.flush().is_err() || connection.receive().is_err() {
                    continue 'front;
                }
                self.writes.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Follows with the client library, from one front end to the next.
    fn follow_pages(&self, place: usize, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let (mut nth, mut position) = (place % 3, "0".to_owned());
        while self.following.load(Ordering::SeqCst) {
            let url = format!("http://{}", self.other(&mut nth, &mut random));
            let follow =
                Follow { urls: vec![url], prefix: Vec::new(), since: position, values: true };
            let mut follower = Follower::new(&follow).unwrap();
            for _ in 0..random.usize(1..3_000) {
                match follower.next_change() {
                    Ok(change) => self.take(place, change),
                    Err(error) => {
                        assert!(error.may_pass(), "{error:?}");
                        break;
                    }
                }
                if !self.following.load(Ordering::SeqCst) {
                    return;
                }
            }
            position = follower.position().to_owned();
            self.resumed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Follows streams, which are cut, from one front end to the next.
    fn follow_streams(&self, place: usize, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let (mut nth, mut last) = (place % 3, String::new());
        while self.following.load(Ordering::SeqCst) {
            let address = self.other(&mut nth, &mut random);
            let Ok(mut stream) = Stream::open(address, "since=0&include=value", &last) else {
                continue;
            };
            for _ in 0..random.usize(1..3_000) {
                let Ok(event) = stream.next() else { break };
                last = event.id.unwrap_or(last);
                match event.event.as_str() {
                    "heartbeat" => {}
                    "reset" => self.take(place, Change::Reset),
                    _ => self.take(place, follow::change(&event.data).unwrap()),
                }
                if !self.following.load(Ordering::SeqCst) {
                    return;
                }
            }
            self.resumed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn take(&self, place: usize, change: Change) {
        if change == Change::Reset {
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
        lock(&self.mirrors[place]).take(change);
    }

    fn state(&self, place: usize) -> State {
        let item = |item: &follow::Item| {
            (item.key.clone(), (item.version, item.value.clone().unwrap_or_default()))
        };
        lock(&self.mirrors[place]).items().map(item).collect()
    }
}

/// What the masters say stands.
fn store(address: SocketAddr) -> State {
    let mut connection = Connection::open(address).unwrap();
    let mut target = "/canonicalbucket/?values=true&limit=10000".to_owned();
    let mut state = State::new();
    loop {
        let accept = ("accept", "application/x-ndjson");
        let answer = connection.request("GET", &target, &[accept], b"").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        for line in answer.text().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap();
            let (version, value) = (text("version").parse().unwrap(), text("value").into());
            state.insert(text("key").into(), (version, value));
        }
        match answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')) {
            Some((next, _)) => target = next.to_owned(),
            None => return state,
        }
    }
}

/// What is done to the scene, again and again.
#[derive(Clone, Copy, PartialEq)]
enum Blow {
    FrontEnd,
    Master,
}

fn seconds() -> Duration {
    let seconds = std::env::var_os("DATASTORE_FEED_SECONDS");
    Duration::from_secs(seconds.map_or(20, |seconds| seconds.to_str().unwrap().parse().unwrap()))
}

fn follow_through(blow: Blow) {
    let seed = std::env::var_os("DATASTORE_FEED_SEED")
        .map_or_else(|| fastrand::u64(..), |seed| seed.to_str().unwrap().parse().unwrap());
    println!("DATASTORE_FEED_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let mut servers = Servers::start();
    let mut fronts: Vec<Service> = (0..3).map(|_| servers.front_end()).collect();
    let scene = &Scene::new(&fronts, 6);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let seed = random.u64(..);
            scope.spawn(move || scene.write(seed));
        }
        for place in 0..3 {
            let (one, other) = (random.u64(..), random.u64(..));
            scope.spawn(move || scene.follow_pages(place, one));
            scope.spawn(move || scene.follow_streams(place + 3, other));
        }
        let blows = strike(blow, scene, &mut random, &mut servers, &mut fronts);
        scene.writing.store(false, Ordering::SeqCst);
        settle(scene, fronts[0].address());
        let (writes, resumed) =
            (scene.writes.load(Ordering::SeqCst), scene.resumed.load(Ordering::SeqCst));
        println!("{writes} writes, {blows} blows, resumed {resumed} times");
        assert!(blows > 0 && resumed > 0 && writes > 1_000);
    });
    assert_eq!(scene.resets.load(Ordering::SeqCst), 0, "no position was lost");
    for front in fronts {
        front.stop();
    }
}

/// Strikes again and again, between writes; tells how often.
fn strike(
    blow: Blow,
    scene: &Scene,
    random: &mut Rng,
    servers: &mut Servers,
    fronts: &mut [Service],
) -> usize {
    let clock = System::new();
    let mut blows = 0;
    while clock.monotonic() < seconds() {
        let writes = scene.writes.load(Ordering::SeqCst) + random.u64(1..BLOW_AFTER);
        until("writes go on", || scene.writes.load(Ordering::SeqCst) > writes);
        let nth = random.usize(..3);
        match blow {
            Blow::FrontEnd => {
                let new = servers.front_end();
                lock(&scene.addresses)[nth] = new.address();
                std::mem::replace(&mut fronts[nth], new).kill();
            }
            Blow::Master => servers.crash(nth),
        }
        blows += 1;
    }
    blows
}

/// Waits until every follower has what stands, and sends them home.
fn settle(scene: &Scene, address: SocketAddr) {
    until("the store can be read", || {
        Connection::open(address).unwrap().get("/canonicalbucket/?limit=1").status == 200
    });
    for place in 0..scene.mirrors.len() {
        // Writers may still be in their last one.
        until("the follower has the state of the store", || scene.state(place) == store(address));
    }
    scene.following.store(false, Ordering::SeqCst);
    // Whoever waits for something to happen.
    let last = Connection::open(address).unwrap().put("/bucket/last", b"last");
    assert_eq!(last.status, 201, "{last:?}");
}

#[test]
fn followers_end_with_the_state_of_the_store_whatever_front_end_dies() {
    follow_through(Blow::FrontEnd);
}

/// kill -9 between visible and durable, among all other moments: whatever the server took back,
/// nobody keeps.
#[test]
fn followers_end_with_the_state_of_the_store_whatever_master_is_killed() {
    follow_through(Blow::Master);
}

fn page(connection: &mut Connection, since: &str) -> serde_json::Value {
    let answer = connection.get(&format!("/changes?since={since}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Versions are seen in their order: who has taken one and stalls holds up whoever comes after.
#[test]
fn a_write_that_stalls_while_another_one_queues_is_never_skipped() {
    let servers = Servers::start();
    let front = servers.front_end();
    let mut connection = front.connect();
    let key = key_of(0);
    let target = paths::emit("/bucket/", key.as_bytes());
    // Which opens the lane.
    assert_eq!(connection.put(&target, b"v").status, 201);
    let mut position = page(&mut connection, "now")["next"].as_str().unwrap().to_owned();
    let mut stalled = servers.admin(0);
    stalled.query_drop("START TRANSACTION").unwrap();
    stalled.query_drop("UPDATE clock SET seq = seq + 1 WHERE id = 1").unwrap();
    let clock = "SELECT partition_id, seq FROM clock WHERE id = 1";
    let (origin, seq): (u16, u64) = stalled.query_first(clock).unwrap().unwrap();
    thread::scope(|scope| {
        let mut other = front.connect();
        scope.spawn(move || {
            until("the queued write is made", || other.put(&target, b"w").status == 204);
        });
        let mut admin = servers.admin(0);
        // Not `innodb_trx`: whoever asks that often gets the same old answer.
        let waiting = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
        until("the other write queues", || {
            admin.query_first::<(String, u64), _>(waiting).unwrap().unwrap().1 > 0
        });
        for _ in 0..30 {
            let page = page(&mut connection, &position);
            assert_eq!(page["events"], serde_json::json!([]));
            position = page["next"].as_str().unwrap().to_owned();
        }
        let body = Body { value: "v".into(), content_type: "text/plain".into(), expires_at: None };
        let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        let key = Key::stored(Space::Data, "stalled");
        let row = Record::new(key, version, PartitionId(origin), Some(body));
        let version = row.version.packed();
        let insert = "INSERT INTO data (id, version, origin, deleted, expires_at, updated_at, \
                      checksum, content_type, value) VALUES ('stalled', ?, ?, 0, NULL, 0, ?, \
                      'text/plain', 'v')";
        stalled.exec_drop(insert, (version, origin, row.checksum().cast_signed())).unwrap();
        let entry = "INSERT INTO `change` (origin, version, space, id) VALUES (?, ?, 0, 'stalled')";
        stalled.exec_drop(entry, (origin, version)).unwrap();
        stalled.query_drop("COMMIT").unwrap();
    });
    let mut keys = Vec::new();
    until("both are told", || {
        let page = page(&mut connection, &position);
        let told = page["events"].as_array().unwrap().iter();
        keys.extend(told.map(|event| event["key"].as_str().unwrap().to_owned()));
        position = page["next"].as_str().unwrap().to_owned();
        keys.len() >= 2
    });
    assert_eq!(keys, ["stalled", &key]);
    front.stop();
}

/// The ids of the front ends that one of them knows to run.
fn running(front: &Service) -> Vec<String> {
    let answer = front.connect().get("/admin/frontends").json();
    let listed = answer["frontends"].as_array().unwrap().iter();
    listed.map(|one| one["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_front_end_that_was_killed_disappears_and_one_that_ends_leaves_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Service::start_with(folder.path(), &[("DATASTORE__SERVER__HEARTBEAT", "200ms")]);
    let (one, other, third) = (start(), start(), start());
    until("all know each other", || running(&one).len() == 3 && running(&third).len() == 3);
    let followed = Stream::open(one.address(), "since=now&prefix=k", "").unwrap();
    until("others know who follows there", || {
        let followers = other.connect().get("/subscriptions").json();
        followers["following"] == 1 && followers["followers"][0]["prefix"] == "k"
    });
    let address = other.address().to_string();
    other.kill();
    until("the killed one is gone", || !running(&one).contains(&address));
    let address = third.address().to_string();
    third.stop();
    assert!(!running(&one).contains(&address), "it has left before it ended");
    drop(followed);
    one.stop();
}

/// The keys and versions that `/changes` tells of since a position, and where that leads.
fn told_since(connection: &mut Connection, position: &str) -> (BTreeMap<String, String>, String) {
    let page = page(connection, position);
    let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap().to_owned();
    let events = page["events"].as_array().unwrap().iter();
    let told = events.map(|event| (text(event, "key"), text(event, "version"))).collect();
    (told, text(&page, "next"))
}

/// While an origin is away its log is read where others have it, and the other logs go on; when it
/// is back nothing is missing.
#[test]
fn followers_go_on_while_a_master_is_away_and_have_missed_nothing_when_it_is_back() {
    let mut servers = Servers::start();
    let (front, other) = (servers.front_end(), servers.front_end());
    let mut connection = front.connect();
    let position = told_since(&mut connection, "now").1;
    let mut stream = Stream::open(front.address(), "since=now", "").unwrap();
    let mut next = move || loop {
        let event = stream.next().unwrap();
        if event.event != "heartbeat" {
            break event.data["key"].as_str().unwrap().to_owned();
        }
    };
    let keys = [0, 1, 2].map(key_of);
    let mut put = |nth: usize| {
        let target = paths::emit("/bucket/", keys[nth].as_bytes());
        let answer = connection.put(&target, b"v");
        matches!(answer.status, 201 | 204).then(|| answer.header("etag").unwrap().to_owned())
    };
    for (nth, key) in keys.iter().enumerate() {
        put(nth).unwrap();
        assert_eq!(next(), *key);
    }
    front.sync();
    servers.kill(0);
    for nth in [1, 2] {
        put(nth).unwrap();
        assert_eq!(next(), keys[nth], "the others go on");
    }
    assert_eq!(put(0), None);
    // Whoever comes only now, elsewhere, with a position from before all of it.
    let mut elsewhere = other.connect();
    let (told, position) = told_since(&mut elsewhere, &position);
    assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), keys.clone().into());
    servers.crash(0);
    let mut etag = None;
    until("the master takes writes again", || {
        etag = put(0);
        etag.is_some()
    });
    assert_eq!(next(), keys[0]);
    let mut told = BTreeMap::new();
    until("the log can be read again", || {
        told = told_since(&mut elsewhere, &position).0;
        !told.is_empty()
    });
    let etag = etag.unwrap();
    assert_eq!(told, [(keys[0].clone(), etag.trim_matches('"').to_owned())].into());
    front.stop();
    other.stop();
}
