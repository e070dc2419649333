//! Read copies that are added to the real service, and go again: nothing is left of them.

use std::path::Path;

use mysql::prelude::Queryable as _;
use serde_json::{Value, json};

use super::process::{Service, datastore, run, until};
use crate::support::mariadb::{Server, connection};

/// Front ends that end without a word are missed soon.
const HEARTBEAT: (&str, &str) = ("DATASTORE__SERVER__HEARTBEAT", "200ms");
const CHAOS: (&str, &str) = ("DATASTORE__CHAOS__ENABLED", "true");
pub const KEYS: usize = 200;

pub fn ask(service: &Service, method: &str, target: &str, body: &str) -> (u16, Value) {
    ask_with(service, method, target, &[], body)
}

fn ask_with(
    service: &Service,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    let answer = service.connect().request(method, target, headers, body.as_bytes()).unwrap();
    (answer.status, answer.json())
}

/// Waits for an operation that was begun; how it ended.
pub fn ended(service: &Service, begun: (u16, Value)) -> Value {
    assert_eq!(begun.0, 202, "{begun:?}");
    let target = format!("{}?wait=10s", begun.1["operation"].as_str().unwrap());
    for _ in 0..30 {
        let (_, operation) = ask(service, "GET", &target, "");
        if operation["state"] != "running" {
            return operation;
        }
    }
    panic!("never ended: {begun:?}");
}

pub fn add(service: &Service, body: &Value) -> Value {
    let operation = ended(service, ask(service, "POST", "/admin/partitions", &body.to_string()));
    assert_eq!(operation["state"], "done", "{operation}");
    operation
}

pub fn remove(service: &Service, name: &str) {
    let begun = ask(service, "DELETE", &format!("/admin/partitions/{name}"), "");
    let operation = ended(service, begun);
    assert_eq!(operation["state"], "done", "{operation}");
}

fn partition(service: &Service, name: &str) -> Value {
    ask(service, "GET", &format!("/admin/partitions/{name}"), "").1
}

/// The read copies, by name and state.
fn copies(service: &Service) -> Vec<(String, String)> {
    let (_, all) = ask(service, "GET", "/admin/partitions", "");
    let all = all["partitions"].as_array().unwrap().clone();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let copies = all.iter().filter(|one| one["role"] == "copy");
    copies.map(|one| (text(one, "name"), text(one, "state"))).collect()
}

pub fn state(service: &Service) -> Value {
    ask(service, "GET", "/admin/service", "").1["state"].clone()
}

pub fn fill(service: &Service) {
    for n in 0..KEYS {
        let value = format!("value {n}");
        assert_eq!(service.connect().put(&format!("/bucket/{n}"), value.as_bytes()).status, 201);
    }
}

/// Whether the copy holds what was written.
pub fn holds_all(service: &Service, name: &str) -> bool {
    (0..KEYS).all(|n| {
        let answer = service.connect().get(&format!("/bucket/{n}?partition={name}"));
        answer.status == 200 && answer.body == format!("value {n}").as_bytes()
    })
}

fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// What is in the folder of copies, but for the mark of the data root.
fn left_over(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("data/copies")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "home").collect()
}

#[test]
fn copies_in_files_come_serve_everywhere_survive_a_restart_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Service::start_with(folder.path(), &[HEARTBEAT]));
    fill(&one);
    let key = [("idempotency-key", "two copies")];
    let two = json!({"count": 2, "from": "sqlite"}).to_string();
    let begun = ask_with(&one, "POST", "/admin/partitions", &key, &two);
    let operation = ended(&one, begun);
    assert_eq!((&operation["state"], &operation["kind"]), (&"done".into(), &"add".into()));
    assert_eq!(operation["partitions"], json!(["copy_1", "copy_2"]));
    let again = ask_with(&one, "POST", "/admin/partitions", &key, &two);
    assert_eq!(again.1["id"], operation["id"], "not made twice");
    assert_eq!(state(&one), "RUNNING");
    let both = [("copy_1", "active"), ("copy_2", "active")];
    let both: Vec<_> =
        both.iter().map(|(name, state)| (name.to_string(), state.to_string())).collect();
    assert_eq!(copies(&one), both);
    until("the other front end serves them, too", || {
        copies(&other) == both && holds_all(&other, "copy_1") && holds_all(&other, "copy_2")
    });
    assert_eq!(ask(&one, "POST", "/admin/partitions/copy_1/crash", "").0, 403);

    // Who keeps them ends, in order and without a word; who is left goes on.
    one.kill();
    assert_eq!(other.connect().put("/bucket/late", b"value").status, 201);
    until("the copies are fed again", || {
        other.connect().get("/bucket/late?partition=copy_1").status == 200
    });
    other.stop();
    let service = Service::start_with(folder.path(), &[HEARTBEAT]);
    until("the copies are back", || copies(&service) == both && holds_all(&service, "copy_2"));

    remove(&service, "copy_1");
    assert_eq!(copies(&service), both[1..]);
    let (status, problem) = ask(&service, "DELETE", "/admin/partitions/copy_1", "");
    assert_eq!((status, &problem["code"]), (404, &"no-such-partition".into()));
    assert_eq!(state(&service), "RUNNING");
    remove(&service, "copy_2");
    assert_eq!(left_over(folder.path()), [""; 0]);
    service.stop();
}

/// It served the copy when it stopped, and does not know yet that it is gone.
#[test]
fn a_front_end_that_was_away_makes_no_copy_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Service::start_with(folder.path(), &[HEARTBEAT]));
    fill(&one);
    let begun = ask(&one, "POST", "/admin/partitions", "{\"count\": 2}");
    assert_eq!(ended(&one, begun)["state"], "done");
    until("the other front end serves them, too", || {
        holds_all(&other, "copy_1") && holds_all(&other, "copy_2")
    });
    other.signal("STOP");
    for name in ["copy_1", "copy_2"] {
        remove(&one, name);
    }
    assert_eq!(left_over(folder.path()), [""; 0]);
    other.signal("CONT");
    until("it has seen that they are gone", || {
        let reads = ["copy_1", "copy_2"]
            .map(|name| other.connect().get(&format!("/bucket/1?partition={name}")).status);
        reads == [400; 2]
    });
    one.stop();
    other.stop();
    assert_eq!(left_over(folder.path()), [""; 0]);
}

#[test]
fn the_last_partition_stays_and_nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let only = ("DATASTORE__PARTITION__ONLY__URL", "memory:");
    let service = Service::start_with(folder.path(), &[only]);
    let (status, problem) = ask(&service, "DELETE", "/admin/partitions/only", "");
    assert_eq!((status, &problem["code"]), (409, &"last-partition".into()));
    for (body, status, code) in [
        ("{\"count\": 0}", 400, "bad-partition"),
        ("{\"count\": 17}", 400, "bad-partition"),
        ("{\"copies\": 1}", 400, "bad-partition"),
        ("{\"from\": \"nowhere\"}", 400, "bad-partition"),
        ("{\"url\": \"sqlite:a.db\"}", 400, "bad-partition"),
        ("{\"url\": \"mysql://u:secret@127.0.0.1:1/d\"}", 409, "no-key-file"),
        ("{\"from\": \"standby\"}", 409, "no-standby"),
        ("nonsense", 400, "bad-partition"),
    ] {
        let (answered, problem) = ask(&service, "POST", "/admin/partitions", body);
        assert_eq!((answered, &problem["code"]), (status, &code.into()), "{body}: {problem}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    assert_eq!((state(&service), copies(&service).len()), ("RUNNING".into(), 0));
    service.stop();
}

#[test]
fn of_two_adds_at_once_one_wins_and_the_other_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    fill(&service);
    let connections = [(); 2].map(|()| service.connect());
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let both = connections.map(|mut connection| {
            scope.spawn(move || {
                let body = b"{\"count\": 3}";
                let answer = connection.request("POST", "/admin/partitions", &[], body).unwrap();
                (answer.status, answer.json())
            })
        });
        both.map(|thread| thread.join().unwrap()).into()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409], "{answers:?}");
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 202);
    assert_eq!(lost[0].1["code"], "wrong-state");
    ended(&service, won[0].clone());
    assert_eq!(copies(&service).len(), 3);
    service.stop();
}

/// The story of a private server: made, killed, adopted, stopped with its front end, started
/// again, taken away.
#[test]
fn a_private_server_is_never_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(folder.path(), &[HEARTBEAT, CHAOS]);
    fill(&service);
    add(&service, &json!({"from": "mariadb"}));
    let copy = partition(&service, "copy_1");
    assert!(holds_all(&service, "copy_1"), "{copy}");
    assert_eq!((&copy["engine"], &copy["source"]), (&"mysql".into(), &"mariadb".into()));
    let first = copy["pid"].as_u64().unwrap();
    let url = copy["url"].as_str().unwrap();
    let port: u16 = url.split(':').nth(3).unwrap().split('/').next().unwrap().parse().unwrap();
    for user in ["root", "", "mysql"] {
        let options = mysql::OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(port)
            .prefer_socket(false)
            .user(Some(user));
        assert!(mysql::Conn::new(options).is_err(), "{user} needs no password");
    }

    let (status, killed) = ask(&service, "POST", "/admin/partitions/copy_1/crash", "");
    assert_eq!((status, &killed["pid"]), (202, &first.into()), "{killed}");
    until("its server is started again", || {
        let pid = partition(&service, "copy_1")["pid"].as_u64();
        pid.is_some_and(|pid| pid != first) && holds_all(&service, "copy_1")
    });
    let second = partition(&service, "copy_1")["pid"].as_u64().unwrap();
    assert!(!is_running(first) && is_running(second));

    // A crash of the front end: the server lives on, and is found again.
    service.kill();
    assert!(is_running(second));
    let mut service = Service::start_with(folder.path(), &[HEARTBEAT, CHAOS]);
    assert_eq!(service.connect().put("/bucket/late", b"value").status, 201);
    service.wait_for("private server adopted");
    until("it is fed again", || {
        service.connect().get("/bucket/late?partition=copy_1").status == 200
    });
    assert_eq!(partition(&service, "copy_1")["pid"].as_u64(), Some(second));

    service.stop();
    assert!(!is_running(second), "it ends with its front end");
    let service = Service::start_with(folder.path(), &[HEARTBEAT]);
    until("it is started again", || holds_all(&service, "copy_1"));
    until("its process is told", || {
        partition(&service, "copy_1")["pid"].as_u64().is_some_and(|pid| pid != second)
    });
    let third = partition(&service, "copy_1")["pid"].as_u64().unwrap();
    remove(&service, "copy_1");
    assert!(!is_running(third), "no process");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "no port");
    assert_eq!(left_over(folder.path()), [""; 0], "no directory");
    service.stop();
}

#[test]
fn databases_of_others_are_taken_and_given_back_empty() {
    let server = Server::shared();
    let [standby, named, strange] = [(); 3].map(|()| server.database());
    server.admin_of(&strange).query_drop("CREATE TABLE precious (a INT)").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a line of random text").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).unwrap();
    let environment = [
        HEARTBEAT,
        ("DATASTORE__SCALING__STANDBY", &server.url_text(&standby)),
        ("DATASTORE__ORCHESTRATOR__KEY_FILE", "key"),
    ];
    let service = Service::start_with(folder.path(), &environment);
    fill(&service);
    add(&service, &json!({"from": "standby"}));
    assert!(holds_all(&service, "copy_1"));
    let (status, problem) = ask(&service, "POST", "/admin/partitions", "{\"from\": \"standby\"}");
    assert_eq!((status, &problem["code"]), (409, &"no-standby".into()));
    add(&service, &json!({"url": server.url_text(&named)}));
    assert!(holds_all(&service, "copy_2"));
    let taken = json!({"url": server.url_text(&named)}).to_string();
    let (status, problem) = ask(&service, "POST", "/admin/partitions", &taken);
    assert_eq!((status, &problem["code"]), (400, &"bad-partition".into()), "{problem}");
    let (_, all) = ask(&service, "GET", "/admin/partitions", "");
    let (_, operations) = ask(&service, "GET", "/admin/operations", "");
    for told in [all.to_string(), operations.to_string()] {
        assert!(!told.contains("e@s"), "{told}");
    }

    // After a restart the sealed password is still known.
    service.stop();
    let service = Service::start_with(folder.path(), &environment);
    assert_eq!(service.connect().put("/bucket/late", b"value").status, 201);
    until("both are fed again", || {
        ["copy_1", "copy_2"].iter().all(|name| {
            service.connect().get(&format!("/bucket/late?partition={name}")).status == 200
        })
    });
    for name in ["copy_1", "copy_2"] {
        remove(&service, name);
    }
    service.sync();
    service.stop();
    for database in [&standby, &named] {
        let tables: Vec<String> = server.admin_of(database).query("SHOW TABLES").unwrap();
        assert!(tables.is_empty(), "{database}: {tables:?}");
    }
    let tables: Vec<String> = server.admin_of(&strange).query("SHOW TABLES").unwrap();
    assert_eq!(tables, ["precious"]);
    drop(connection(server.port(), &standby).unwrap());
}

#[test]
fn copies_are_added_and_removed_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(folder.path(), &[HEARTBEAT]);
    fill(&service);
    let command = |arguments: &[&str]| {
        let mut command = datastore(folder.path());
        command.args(arguments).args(["--url", &service.url()]);
        let output = run(&mut command);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (exit, said) = command(&["partitions", "add", "--count", "2"]);
    assert!(exit == Some(0) && said.contains("copy_1, copy_2 serve"), "{said}");
    let (_, said) = command(&["partitions"]);
    assert!(said.contains("copy_2") && said.contains("active"), "{said}");
    let (exit, said) = command(&["plan", "--copies", "1"]);
    assert!(exit == Some(0) && said.contains("remove") && said.contains("copy_2"), "{said}");
    let (exit, said) = command(&["plan", "--copies", "1", "--execute"]);
    assert!(exit == Some(0) && said.contains("copy_2 removed"), "{said}");
    let (status, problem) = ask(&service, "POST", "/admin/plan?copies=3&epoch=7", "");
    assert_eq!((status, &problem["code"]), (409, &"epoch-moved".into()), "{problem}");
    let (exit, said) = command(&["partitions", "remove", "copy_1", "--json"]);
    assert!(exit == Some(0) && said.contains("\"remove\""), "{said}");
    assert_eq!(command(&["partitions", "remove", "copy_1"]).0, Some(1));
    assert_eq!(command(&["partitions", "crash", "store_1"]).0, Some(1));
    let (exit, said) = command(&["scaling"]);
    assert!(exit == Some(0) && said.contains("reads_per_copy"), "{said}");
    assert_eq!(command(&["partitions"]).1.matches("copy").count(), 0);
    service.stop();
}

/// Reads rise, copies come and serve; reads fall, they go, and nothing is left.
#[test]
fn copies_come_and_go_with_the_reads() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        HEARTBEAT,
        ("DATASTORE__SCALING__ENABLED", "true"),
        ("DATASTORE__SCALING__MIN", "0"),
        ("DATASTORE__SCALING__MAX", "2"),
        ("DATASTORE__SCALING__WINDOW", "2s"),
        ("DATASTORE__SCALING__COOLDOWN", "1s"),
    ];
    let [one, other] = [(); 2].map(|()| Service::start_with(folder.path(), &environment));
    fill(&one);
    let read = |service: &Service| {
        for n in 0..30 {
            assert_eq!(service.connect().get(&format!("/bucket/{n}")).status, 200);
        }
    };
    // At both: neither alone has reads for two.
    until("there are as many as there may be", || {
        read(&one);
        read(&other);
        copies(&one).iter().filter(|(_, state)| state == "active").count() == 2
    });
    assert!(holds_all(&one, "copy_1") && holds_all(&one, "copy_2"));
    until("they have gone", || copies(&one).is_empty() && state(&one) == "RUNNING");
    let (_, scaling) = ask(&one, "GET", "/admin/scaling", "");
    let decisions = scaling["decisions"].as_array().unwrap();
    assert!(decisions.len() >= 2, "{scaling}");
    assert_eq!(decisions[0]["wanted"], 0, "{scaling}");
    let why = decisions.last().unwrap()["reason"].as_str().unwrap();
    assert!(why.contains("reads ask for"), "{why}");
    one.stop();
    other.stop();
    assert_eq!(left_over(folder.path()), [""; 0]);
}

#[test]
fn a_dry_run_decides_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        HEARTBEAT,
        ("DATASTORE__SCALING__ENABLED", "true"),
        ("DATASTORE__SCALING__DRY_RUN", "true"),
        ("DATASTORE__SCALING__WINDOW", "1s"),
    ];
    let service = Service::start_with(folder.path(), &environment);
    let decided = || {
        let (_, scaling) = ask(&service, "GET", "/admin/scaling", "");
        scaling["decisions"].as_array().unwrap().first().cloned()
    };
    until("it is decided", || decided().is_some());
    let decision = decided().unwrap();
    assert_eq!((&decision["copies"], &decision["wanted"]), (&0.into(), &1.into()), "{decision}");
    assert!(decision["outcome"].as_str().unwrap().contains("dry run"), "{decision}");
    assert_eq!(copies(&service).len(), 0);
    service.stop();
}
