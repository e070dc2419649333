//! Voters that join and leave under load, on real servers and over two front ends: no acknowledged
//! write is lost, and everything is equal everywhere afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use datastore::partition::engine::Engine as _;
use serde_json::{Value, json};

use super::client::Connection;
use super::process::{Service, datastore, run, until};
use super::support::mariadb::Server;

const WRITERS: usize = 8;
/// Acknowledged writes between one change and the next.
const BETWEEN: usize = 100;

/// Environment variables of a front end over these partitions: `(name, url, role)`.
fn environment(folder: &Path, partitions: &[(&str, String, &str)]) -> Vec<(String, String)> {
    let key = folder.join("key");
    if !key.exists() {
        std::fs::write(&key, "a line of random text").unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, permissions).unwrap();
    }
    let mut all: Vec<(String, String)> = [
        ("SERVER__HEARTBEAT", "500ms"),
        ("STORE__ACK_TIMEOUT", "4s"),
        ("ORCHESTRATOR__COOLDOWN", "1s"),
        ("ORCHESTRATOR__KEY_FILE", "key"),
    ]
    .map(|(name, value)| (format!("DATASTORE__{name}"), value.to_owned()))
    .into();
    for (name, url, role) in partitions {
        let section = format!("DATASTORE__PARTITION__{}", name.to_uppercase());
        all.push((format!("{section}__URL"), url.clone()));
        all.push((format!("{section}__ROLE"), (*role).to_owned()));
    }
    all
}

fn front_end(folder: &Path, environment: &[(String, String)]) -> Service {
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Service::start_with(folder, &environment)
}

fn ask(service: &Service, method: &str, target: &str, body: &str) -> (u16, Value) {
    let answer = service.connect().request(method, target, &[], body.as_bytes()).unwrap();
    (answer.status, answer.json())
}

/// Waits for an operation that was begun, at any front end; how it ended.
fn ended(service: &Service, begun: &(u16, Value)) -> Value {
    assert_eq!(begun.0, 202, "{begun:?}");
    let target = format!("{}?wait=10s", begun.1["operation"].as_str().unwrap());
    for _ in 0..30 {
        let (_, operation) = ask(service, "GET", &target, "");
        if operation["state"] == "done" || operation["state"] == "failed" {
            return operation;
        }
    }
    panic!("never ended: {begun:?}");
}

fn done(service: &Service, begun: &(u16, Value)) -> String {
    let operation = ended(service, begun);
    assert_eq!(operation["state"], "done", "{operation}");
    println!("{operation}");
    operation["message"].as_str().unwrap().to_owned()
}

fn add(service: &Service, body: &Value) -> String {
    done(service, &ask(service, "POST", "/admin/partitions", &body.to_string()))
}

fn remove(service: &Service, name: &str) -> String {
    done(service, &ask(service, "DELETE", &format!("/admin/partitions/{name}"), ""))
}

fn partition(service: &Service, name: &str) -> Value {
    ask(service, "GET", &format!("/admin/partitions/{name}"), "").1
}

/// Whether a database is nobody's.
fn is_empty(server: &Server, database: &str) -> bool {
    let identity = server.engine(database).connect().and_then(|mut found| found.identity());
    identity.is_ok_and(|identity| identity.is_none())
}

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Keys of acknowledged writes, and whether a majority has acknowledged them.
    acknowledged: Mutex<BTreeMap<String, bool>>,
    count: AtomicUsize,
    end: AtomicBool,
}

impl Told {
    /// Writes keys of its own until told to end.
    fn write(&self, fronts: &[SocketAddr], nth: usize) {
        let by_majority = nth.is_multiple_of(2);
        let query = if by_majority { "?ack=majority" } else { "" };
        let mut connection = None;
        for n in 0_usize.. {
            if self.end.load(Ordering::SeqCst) {
                return;
            }
            let key = format!("w{nth}-{n}");
            let target = format!("/bucket/{key}{query}");
            let address = fronts[(n + nth) % fronts.len()];
            let mut asked = connection.take().or_else(|| Connection::open(address).ok());
            let answer = asked.as_mut().and_then(|one| one.request("PUT", &target, &[], b"v").ok());
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

    /// Waits for so many more acknowledged writes.
    fn more(&self) {
        let known = self.count.load(Ordering::SeqCst);
        until("writes go on", || self.count.load(Ordering::SeqCst) >= known + BETWEEN);
    }
}

/// Load ends when this is dropped.
struct Ended<'a>(&'a Told);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::SeqCst);
    }
}

/// Runs `change` under load; what clients were told.
fn under_load(fronts: &[SocketAddr], change: impl FnOnce(&Told)) -> BTreeMap<String, bool> {
    let told = Told::default();
    thread::scope(|scope| {
        let told = &told;
        for nth in 0..WRITERS {
            scope.spawn(move || told.write(fronts, nth));
        }
        // Whatever panics must not leave the others running.
        let ended = Ended(told);
        told.more();
        change(told);
        told.more();
        drop(ended);
    });
    told.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// All keys and versions at one partition.
fn rows(service: &Service, partition: &str) -> BTreeMap<String, String> {
    let mut connection = service.connect();
    let mut next = format!("/bucket/?partition={partition}&limit=1000&values=true");
    let mut rows = BTreeMap::new();
    loop {
        let page = connection.request("GET", &next, &[], b"").unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        let text = String::from_utf8(page.body.clone()).unwrap();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            rows.insert(text("key"), text("version"));
        }
        let link = page.header("link").unwrap_or_default().to_owned();
        match link.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
            Some((target, _)) => next = target.to_owned(),
            None => return rows,
        }
    }
}

/// The keys of the ledger.
fn ledger(service: &Service) -> Vec<String> {
    let mut next = Some("/admin/conflicts?limit=100".to_owned());
    let mut keys = Vec::new();
    while let Some(target) = next {
        let (_, page) = ask(service, "GET", &target, "");
        let all = page["conflicts"].as_array().unwrap().iter();
        keys.extend(all.map(|one| one["key"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(str::to_owned);
    }
    keys
}

/// Everything is equal at these partitions, and has what was acknowledged: what its master alone
/// had acknowledged may be in the ledger instead.
fn check(service: &Service, partitions: &[&str], told: &BTreeMap<String, bool>) {
    service.sync();
    let first = rows(service, partitions[0]);
    let kept = ledger(service);
    let missing: Vec<_> = told
        .iter()
        .filter(|(key, by_majority)| {
            !first.contains_key(*key) && (**by_majority || !kept.contains(*key))
        })
        .collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), told.len());
    for partition in &partitions[1..] {
        assert_eq!(rows(service, partition), first, "{partition}");
    }
    println!("{} acknowledged, {} rows, {} kept", told.len(), first.len(), kept.len());
}

/// Two voters become three by a witness, four by a replica; then the first master leaves. All by
/// URL, by commands and by HTTP, at either front end.
#[test]
fn voters_join_and_leave_under_load_and_later_front_ends_follow() {
    let (server, folder) = (Server::shared(), tempfile::tempdir().unwrap());
    let databases: Vec<String> = (0..4).map(|_| server.database()).collect();
    let url = |nth: usize| server.url_text(&databases[nth]);
    let configured = [("store_1", url(0), "master"), ("store_2", url(1), "replica")];
    let environment = environment(folder.path(), &configured);
    let mut fronts = [(); 2].map(|()| front_end(folder.path(), &environment));
    let addresses = fronts.each_ref().map(Service::address);
    let [one, other] = &fronts;
    let warned = ask(one, "GET", "/readyz", "").1["warnings"][0].as_str().unwrap().to_owned();
    assert!(warned.contains("datastore partitions add --role witness"), "{warned}");

    let told = under_load(&addresses, |told| {
        let mut command = datastore(folder.path());
        command.env("DATASTORE_URL", one.url()).args(["partitions", "add", "--role", "witness"]);
        let output = run(command.args(["--name", "judge", &url(2)]));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("judge is a witness"), "{output:?}");
        for front in [one, other] {
            until("the warning is gone", || {
                ask(front, "GET", "/readyz", "").1["warnings"].is_null()
            });
        }
        told.more();
        let body = json!({"role": "replica", "url": url(3)});
        assert_eq!(add(other, &body), "voter_4 is a replica");
        for front in [one, other] {
            until("it is served", || partition(front, "voter_4")["lag"].is_u64());
            assert_eq!(partition(front, "judge")["role"], "witness");
        }
        told.more();
        // What masters everything goes: somebody else does from then on.
        assert!(remove(one, "store_1").contains("is empty"));
    });
    let (_, problem) = ask(other, "DELETE", "/admin/partitions/nobody", "");
    assert_eq!(problem["code"], "no-such-partition");
    assert_eq!(ask(other, "GET", "/admin/service", "").1["state"], "RUNNING");
    for front in [one, other] {
        until("it is closed", || partition(front, "store_1")["code"] == "unknown-path");
        check(front, &["store_2", "voter_4"], &told);
    }
    assert!(is_empty(server, &databases[0]));

    // A front end that starts now knows the two of before only, one of which is retired.
    let late = front_end(folder.path(), &environment);
    assert_eq!(partition(&late, "voter_4")["state"], "active");
    assert_eq!(partition(&late, "judge")["state"], "active");
    let written = late.connect().put("/bucket/late?ack=all", b"v");
    assert_eq!((written.status, written.header("datastore-acks")), (201, Some("2/2")));
    assert_eq!(late.connect().get("/bucket/late?partition=voter_4").status, 200);
    late.stop();
    let mut command = datastore(folder.path());
    let output = run(command.arg("init").envs(environment.clone()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("was founded before") && said.contains("voter_4"), "{output:?}");
    without_the_key(folder.path(), &environment);
    fronts.iter_mut().for_each(|front| front.signal("TERM"));
    for front in fronts {
        assert!(front.wait().0.success());
    }
}

/// A front end with another key serves from the others, and says whom it cannot open.
fn without_the_key(folder: &Path, environment: &[(String, String)]) {
    std::fs::write(folder.join("key"), "another").unwrap();
    let blind = front_end(folder, environment);
    let (status, ready) = ask(&blind, "GET", "/readyz", "");
    let named: Vec<&str> = ready["degraded"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(status == 200 && named.contains(&"voter_4"), "{ready}");
    assert_eq!(blind.connect().get("/bucket/late").status, 200);
    blind.stop();
}

/// A lost master is taken over from, removed, and replaced, while the front end that drives this is
/// killed; then it comes back.
#[test]
fn a_lost_voter_is_replaced_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    let databases: Vec<String> = servers.iter().map(Server::database).collect();
    let spare = servers[2].database();
    let partitions: Vec<(&str, String, &str)> = ["store_1", "store_2", "store_3"]
        .iter()
        .enumerate()
        .map(|(nth, name)| {
            let role = if nth == 0 { "master" } else { "replica" };
            (*name, servers[nth].url_text(&databases[nth]), role)
        })
        .collect();
    let environment = environment(folder.path(), &partitions);
    let [one, other] = [(); 2].map(|()| front_end(folder.path(), &environment));
    let addresses = [other.address()];
    let told = under_load(&addresses, |told| {
        servers[0].kill();
        told.more();
        let message = remove(&other, "store_1");
        assert!(message.contains("when it can be asked"), "{message}");
        told.more();
        // Whoever was asked is gone before it is done; the other one goes on.
        let body = json!({"role": "replica", "url": servers[2].url_text(&spare)}).to_string();
        let begun = ask(&one, "POST", "/admin/partitions", &body);
        one.kill();
        assert_eq!(done(&other, &begun), "voter_4 is a replica");
        told.more();
    });
    // What the lost one alone had acknowledged is kept when it is back.
    let certain = told.iter().filter(|(_, by_majority)| **by_majority);
    let certain = certain.map(|(key, _)| (key.clone(), true)).collect();
    check(&other, &["store_2", "store_3", "voter_4"], &certain);
    until("it is listed", || partition(&other, "store_1")["state"] == "retired");
    servers[0].restart();
    until("it is emptied", || {
        let is_gone = partition(&other, "store_1")["code"] == "unknown-path";
        is_gone && is_empty(&servers[0], &databases[0])
    });
    check(&other, &["store_2", "store_3", "voter_4"], &told);
    // It may come again, as a new one.
    let body =
        json!({"role": "replica", "url": servers[0].url_text(&databases[0]), "name": "store_1"});
    assert_eq!(add(&other, &body), "store_1 is a replica");
    check(&other, &["store_1", "store_2", "store_3", "voter_4"], &told);
    other.stop();
}

/// A database that stands by becomes a voter, a master even, and is given back empty; then it is
/// taken again, by a front end that was not there before.
#[test]
fn a_database_that_stands_by_becomes_a_voter_and_is_given_back() {
    let (server, folder) = (Server::shared(), tempfile::tempdir().unwrap());
    let [first, second, standby] = [(); 3].map(|()| server.database());
    let configured = [
        ("store_1", server.url_text(&first), "master"),
        ("store_2", server.url_text(&second), "replica"),
    ];
    let mut environment = environment(folder.path(), &configured);
    environment.push(("DATASTORE__SCALING__STANDBY".to_owned(), server.url_text(&standby)));
    let one = front_end(folder.path(), &environment);
    let body = json!({"role": "replica", "from": "standby", "name": "spare"});
    let told = under_load(&[one.address()], |told| {
        told.more();
        assert_eq!(add(&one, &body), "spare is a replica");
        until("it is served", || partition(&one, "spare")["lag"].is_u64());
        let another = json!({"role": "replica", "from": "standby"}).to_string();
        let (status, problem) = ask(&one, "POST", "/admin/partitions", &another);
        assert_eq!((status, &problem["code"]), (409, &"no-standby".into()), "{problem}");
        told.more();
        done(&one, &ask(&one, "POST", "/admin/partitions/spare/promote", ""));
        assert_eq!(partition(&one, "spare")["role"], "master");
        told.more();
    });
    check(&one, &["store_1", "store_2", "spare"], &told);
    assert!(!partition(&one, "spare").to_string().contains("e@s"), "no password is told");
    assert!(remove(&one, "spare").contains("is empty"));
    until("it is closed", || partition(&one, "spare")["code"] == "unknown-path");
    assert!(is_empty(server, &standby));
    check(&one, &["store_1", "store_2"], &told);
    one.stop();
    let two = front_end(folder.path(), &environment);
    assert_eq!(add(&two, &body), "spare is a replica");
    check(&two, &["store_1", "store_2", "spare"], &told);
    two.stop();
}
