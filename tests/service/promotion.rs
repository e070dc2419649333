//! Planned promotions under load, on real servers: three MariaDB voters, two front ends, writers
//! and readers at both. Nothing that was acknowledged is lost, no read fails, and writes pause for
//! a moment only. `DATASTORE_FAILOVER_ROUNDS` has that moment held against the clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Answer, Connection};
use super::failover::load::{
    AFTER, BEFORE, Ended, Fronts, Set, Told, WRITERS, check, ledger, load, rounds, settle,
    two_front_ends,
};
use super::process::{Service, datastore, run, until};
use super::support::mariadb::Server;

/// Writes pause for less than this, where the machine is ours alone.
const PAUSE: Duration = Duration::from_secs(1);
/// What a machine may add that others work on.
const SLACK: Duration = Duration::from_secs(15);

fn get(front: SocketAddr, target: &str) -> Answer {
    Connection::open(front).unwrap().get(target)
}

fn post(front: SocketAddr, target: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let headers = [("content-type", "application/json")];
    let mut connection = Connection::open(front).unwrap();
    let answer = connection.request("POST", target, &headers, body.as_bytes()).unwrap();
    (answer.status, answer.json())
}

/// Waits for the end of an operation.
fn ended(front: SocketAddr, begun: &(u16, Value)) -> Value {
    assert_eq!(begun.0, 202, "{begun:?}");
    let target = format!("{}?wait=5s", begun.1["operation"].as_str().unwrap());
    let mut operation = begun.1.clone();
    until("the operation ends", || {
        operation = get(front, &target).json();
        operation["state"].is_string() && operation["state"] != "running"
    });
    operation
}

fn promote(front: SocketAddr, name: &str, body: &Value) -> Value {
    let operation = ended(front, &post(front, &format!("/admin/partitions/{name}/promote"), body));
    assert_eq!(operation["state"], "done", "{operation}");
    println!("{}", operation["message"]);
    operation
}

/// How many slots each of them has.
fn slots(front: SocketAddr) -> BTreeMap<String, u64> {
    let topology = get(front, "/admin/topology").json();
    let voters = topology["voters"].as_array().unwrap().iter();
    let one = |voter: &Value| {
        (voter["name"].as_str().unwrap().to_owned(), voter["slots"].as_u64().unwrap())
    };
    voters.map(one).collect()
}

fn hold_against_the_clock(pause: Duration) {
    let (_, timed) = rounds();
    println!("the longest pause of a writer was {pause:?}");
    let bound = if timed { PAUSE } else { PAUSE + SLACK };
    assert!(pause < bound, "{pause:?}");
}

/// Every acknowledged write is everywhere, and none of them went to the ledger: a planned change
/// leaves no late rows.
fn check_all(fronts: &Fronts, all: &BTreeMap<String, bool>) {
    let asked = fronts.open(0).unwrap().request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
    assert_eq!(asked.status, 200, "{asked:?}");
    check(fronts, all);
    assert!(ledger(fronts).is_empty());
}

#[test]
fn a_replica_takes_over_under_load_and_nothing_is_lost() {
    let (mut set, fronts) = two_front_ends();
    let addresses = [fronts[0].address(), fronts[1].address()];
    let both = Fronts::of(&fronts);
    for round in 0..rounds().0 {
        let from = both.master() + 1;
        let name = format!("store_{}", from % 3 + 1);
        println!("round {round}: store_{from} to {name}");
        let event = |_: &mut Set, _: &Told| drop(promote(addresses[round % 2], &name, &json!({})));
        let (all, pause) = load(&mut set, &both, true, event, |_| {});
        settle(&set, &both);
        check_all(&both, &all);
        assert_eq!(slots(addresses[0])[&name], 1024);
        hold_against_the_clock(pause);
    }
    for front in fronts {
        front.stop();
    }
}

#[test]
fn one_more_master_takes_its_share_under_load_and_nothing_is_lost() {
    let (mut set, fronts) = two_front_ends();
    let addresses = [fronts[0].address(), fronts[1].address()];
    let both = Fronts::of(&fronts);
    let mut expected = vec![("store_2", 512), ("store_3", 341)];
    while let Some((name, count)) = (!expected.is_empty()).then(|| expected.remove(0)) {
        let event =
            |_: &mut Set, _: &Told| drop(promote(addresses[1], name, &json!({"share": true})));
        let before = slots(addresses[0]);
        let (all, pause) = load(&mut set, &both, true, event, |_| {});
        let after = slots(addresses[0]);
        println!("{before:?}, then {after:?}");
        assert_eq!(after[name], count);
        for (other, had) in before.iter().filter(|(other, _)| *other != name) {
            assert!(after[other] <= *had, "nobody else gains: {before:?} {after:?}");
        }
        check_all(&both, &all);
        hold_against_the_clock(pause);
    }
    let counts: Vec<u64> = slots(addresses[0]).into_values().collect();
    assert_eq!(counts, [342, 341, 341]);
    for front in fronts {
        front.stop();
    }
}

/// It knows nothing of the promotion and goes on where it was: fenced at the old master, it writes
/// at the new one, and what it was told was written is there.
#[test]
fn a_front_end_that_stood_still_over_a_promotion_is_fenced_and_goes_on() {
    let (set, fronts) = two_front_ends();
    let addresses = [fronts[0].address(), fronts[1].address()];
    let each = [Fronts::of(&fronts[..1]), Fronts::of(&fronts[1..])];
    let told = Told::default();
    thread::scope(|scope| {
        let told = &told;
        for n in 0..WRITERS {
            // Half of them at each, and of those half by majority.
            let own = &each[n / 2 % 2];
            scope.spawn(move || told.write(own, (n, 0)));
        }
        let ended = Ended(told);
        until("load", || told.count() >= BEFORE);
        fronts[0].signal("STOP");
        promote(addresses[1], "store_2", &json!({"from": "store_1"}));
        let known = told.count();
        until("the other one goes on", || told.count() >= known + AFTER);
        fronts[0].signal("CONT");
        let writes_there = || {
            let mut connection = Connection::open(addresses[0]).unwrap();
            let answer = connection.put("/bucket/resumed", b"v");
            let at = answer.header("datastore-partition").map(str::to_owned);
            matches!(answer.status, 201 | 204) && at.as_deref() == Some("store_2")
        };
        until("it writes at the new master", writes_there);
        let known = told.count();
        until("all go on", || told.count() >= known + AFTER);
        drop(ended);
    });
    let both = Fronts::of(&fronts);
    settle(&set, &both);
    let all = told.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} writes acknowledged", all.len());
    check_all(&both, &all);
    for front in fronts {
        front.stop();
    }
}

/// The front end that was asked is killed when it has begun; the other one goes on with it.
#[test]
fn a_front_end_that_is_killed_while_it_promotes_is_not_needed() {
    let (set, fronts) = two_front_ends();
    let both = Fronts::of(&fronts);
    let [mut first, second] = fronts;
    let addresses = [first.address(), second.address()];
    let told = Told::default();
    let ended = thread::scope(|scope| {
        let told = &told;
        for n in 0..WRITERS {
            let both = &both;
            scope.spawn(move || told.write(both, (n, 0)));
        }
        let end = Ended(told);
        until("load", || told.count() >= BEFORE);
        let begun = post(addresses[0], "/admin/partitions/store_3/promote", &json!({}));
        first.wait_for("begins");
        first.kill();
        let operation = ended(addresses[1], &begun);
        let known = told.count();
        until("writes go on", || told.count() >= known + AFTER);
        drop(end);
        operation
    });
    assert_eq!(ended["state"], "done", "{ended}");
    let survivor = Fronts::of(std::slice::from_ref(&second));
    settle(&set, &survivor);
    assert_eq!(slots(addresses[1])["store_3"], 1024);
    check_all(&survivor, &told.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner));
    second.stop();
}

/// Of two at once, at two front ends, one is made.
#[test]
fn of_two_promotions_at_once_one_wins_and_the_other_is_told() {
    let (set, fronts) = two_front_ends();
    let addresses = [fronts[0].address(), fronts[1].address()];
    let answers = thread::scope(|scope| {
        let ask = |nth: usize| {
            let target = format!("/admin/partitions/store_{}/promote", nth + 2);
            scope.spawn(move || post(addresses[nth], &target, &json!({})))
        };
        [ask(0), ask(1)].map(|asked| asked.join().unwrap())
    });
    let won = answers.iter().position(|(status, _)| *status == 202).unwrap();
    let lost = &answers[1 - won];
    assert_eq!((lost.0, &lost.1["code"]), (409, &"wrong-state".into()), "{answers:?}");
    assert_eq!(ended(addresses[won], &answers[won])["state"], "done");
    assert_eq!(slots(addresses[won])[&format!("store_{}", won + 2)], 1024);
    // A restart changes nothing about it.
    let before = get(addresses[0], "/admin/topology").json();
    for front in fronts {
        front.stop();
    }
    let again = set.front_end();
    let after = get(again.address(), "/admin/topology").json();
    assert_eq!((&after["epoch"], &after["voters"]), (&before["epoch"], &before["voters"]));
    again.stop();
}

/// Servers and files under one front end that takes nothing over by itself: `roles` by name, the
/// first `servers.len()` of them on servers.
fn unattended(folder: &std::path::Path, servers: &[Server], roles: &[&str]) -> Service {
    let mut environment = vec![
        ("DATASTORE__ORCHESTRATOR__ENABLED".to_owned(), "false".to_owned()),
        ("DATASTORE__SERVER__DEADLINE".to_owned(), "2s".to_owned()),
    ];
    for (nth, role) in roles.iter().enumerate() {
        let section = format!("DATASTORE__PARTITION__STORE_{}", nth + 1);
        let url = match servers.get(nth) {
            Some(server) => server.url_text(&server.database()),
            None => format!("sqlite:data/store_{}.db", nth + 1),
        };
        environment.push((format!("{section}__URL"), url));
        environment.push((format!("{section}__ROLE"), (*role).to_owned()));
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Service::start_with(folder, &environment)
}

/// What a command says, and how it ends.
fn command(service: &Service, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = datastore(folder.path());
    command.args(arguments).args(["--url", &service.url()]);
    let output = run(&mut command);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn until_missed(service: &Service, name: &str) {
    until("its silence is noticed", || {
        let one = service.connect().get(&format!("/admin/partitions/{name}")).json();
        !one["trouble"].is_null()
    });
}

/// Enough of the others are there: only what the lost master alone had acknowledged is missing, and
/// it comes back with it. Where operations are written down was there, too.
#[test]
fn a_lost_master_is_replaced_by_force_and_comes_back_as_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = vec![Server::start()];
    let service = unattended(folder.path(), &servers, &["master", "replica", "replica"]);
    for n in 0..50 {
        assert_eq!(service.connect().put(&format!("/bucket/{n}"), b"v").status, 201);
    }
    service.sync();
    servers[0].kill();
    until_missed(&service, "store_1");
    let (exit, said) = command(&service, &["partitions", "promote", "store_3"]);
    assert!(exit == Some(1) && said.contains("store_1 does not answer"), "{said}");
    let force = ["partitions", "promote", "store_3", "--from", "store_1", "--force"];
    let (exit, said) = command(&service, &[&force[..], &["--dry-run"]].concat());
    assert!(exit == Some(0) && said.contains("take over") && said.contains("ledger"), "{said}");
    let (exit, said) =
        command(&service, &[&force[..], &["--reason", "its disk", "--json"]].concat());
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &told["state"]), (Some(0), &"done".into()), "{said}");
    assert!(told["warning"].as_str().unwrap().contains("`store_1` alone"), "{said}");
    assert_eq!(slots(service.address())["store_3"], 1024);
    let kept = service.connect().get(told["operation"].as_str().unwrap()).json();
    assert_eq!(kept, told);
    assert_eq!(service.connect().put("/bucket/0", b"after").status, 204);
    let (_, decisions) = command(&service, &["decisions"]);
    assert!(decisions.contains("take over") && decisions.contains("its disk"), "{decisions}");
    let (_, topology) = command(&service, &["topology"]);
    assert!(topology.contains("0-1023") && topology.contains("taken over:"), "{topology}");
    servers[0].restart();
    until("it has all of it", || {
        let read = service.connect().get("/bucket/0?partition=store_1");
        read.status == 200 && read.text() == "after"
    });
    service.stop();
}

/// So few are left that what a majority had acknowledged may be lost: it is said before and after.
#[test]
fn by_force_with_too_few_left_it_is_said_what_may_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = vec![Server::start(), Server::start()];
    let roles = ["master", "replica", "replica", "witness", "witness"];
    let service = unattended(folder.path(), &servers, &roles);
    assert_eq!(service.connect().put("/bucket/a?ack=all", b"v").status, 201);
    let (status, problem) =
        post(service.address(), "/admin/partitions/store_4/promote", &json!({}));
    assert_eq!((status, &problem["code"]), (409, &"holds-no-data".into()), "{problem}");
    servers[0].kill();
    servers[1].kill();
    until_missed(&service, "store_1");
    until_missed(&service, "store_2");
    let force = ["--promote", "store_3", "--from", "store_1", "--force"];
    let (exit, said) = command(&service, &[&["plan"], &force[..]].concat());
    assert!(exit == Some(0) && said.contains("1 data voters besides"), "{said}");
    let (exit, said) = command(&service, &[&["plan"], &force[..], &["--execute"]].concat());
    assert!(exit == Some(0) && said.contains("ack=majority"), "{said}");
    assert_eq!(service.connect().put("/bucket/b", b"v").status, 201);
    assert_eq!(service.connect().get("/bucket/a?consistency=master").text(), "v");
    service.stop();
}

/// One of two voters is no majority: nobody can agree on anything, by force neither.
#[test]
fn without_a_majority_of_the_voters_nothing_is_promoted() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = vec![Server::start()];
    let service = unattended(folder.path(), &servers, &["master", "replica"]);
    assert_eq!(service.connect().put("/bucket/a?ack=all", b"v").status, 201);
    servers[0].kill();
    until_missed(&service, "store_1");
    let force = json!({"from": "store_1", "force": true});
    let target = "/admin/partitions/store_2/promote";
    let (status, problem) = post(service.address(), target, &force);
    assert_eq!((status, &problem["code"]), (503, &"no-majority".into()), "{problem}");
    assert_eq!(service.connect().get("/bucket/a").text(), "v", "reads go on");
    service.stop();
}
