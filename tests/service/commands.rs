//! The command line over the partitions, without a service and beside one.

use std::process::Output;

use super::process::{Service, complaint, datastore, run};

#[test]
fn partitions_are_founded_checked_and_synced_without_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run(datastore(folder.path()).args(arguments));
    let says = |output: &Output, text: &str| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(text), "{output:?}");
    };
    says(&run(&["config", "check"]), "the first start founds the partitions");
    let (exit, complaint) = complaint(&run(&["sync"]));
    assert_eq!(exit, Some(2), "{complaint}");
    assert!(complaint.contains("run `datastore init`"), "{complaint}");
    assert!(!folder.path().join("data").exists());
    says(&run(&["init"]), " founded\n");
    says(&run(&["init"]), " was founded before\n");
    says(&run(&["config", "check"]), "the configuration is good\n");
    let service = Service::start_with(
        folder.path(),
        &[("DATASTORE__SYNC__EAGER", "false"), ("DATASTORE__SYNC__SCHEDULE", "0 0 0 1 1 *")],
    );
    for n in 0..30 {
        assert_eq!(service.connect().put(&format!("/bucket/{n}"), b"x").status, 201);
    }
    service.stop();
    let report = run(&["sync", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let rows =
        report["pairs"].as_array().unwrap().iter().map(|pair| pair["rows"].as_u64().unwrap());
    assert_eq!(rows.sum::<u64>(), 60, "{report}");
    says(&run(&["sync"]), "store_1");
}

/// One round of its own buries what has expired, and copies that.
#[test]
fn a_round_without_a_service_buries_what_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(
        folder.path(),
        &[("DATASTORE__SYNC__EAGER", "false"), ("DATASTORE__SYNC__SCHEDULE", "0 0 0 1 1 *")],
    );
    assert_eq!(service.connect().put("/bucket/k?ttl=1s", b"x").status, 201);
    service.sync();
    service.stop();
    let is_buried = |name: &str| {
        let file = rusqlite::Connection::open(folder.path().join(format!("data/{name}.db")));
        let row = "SELECT deleted FROM data WHERE id = CAST('k' AS BLOB)";
        file.unwrap().query_row(row, (), |row| row.get::<_, bool>(0)).unwrap()
    };
    super::process::until("everybody has the delete", || {
        assert!(run(datastore(folder.path()).arg("sync")).status.success());
        ["store_1", "store_2", "store_3"].into_iter().all(is_buried)
    });
}

#[test]
fn the_schedule_copies_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(
        folder.path(),
        &[("DATASTORE__SYNC__EAGER", "false"), ("DATASTORE__SYNC__SCHEDULE", "* * * * * *")],
    );
    let mut connection = service.connect();
    let master = connection.put("/bucket/a", b"x");
    let master = master.header("datastore-partition").unwrap().to_owned();
    let other = if master == "store_1" { "store_2" } else { "store_1" };
    super::process::until("the schedule has copied the value", || {
        connection.get(&format!("/bucket/a?partition={other}")).status == 200
    });
    service.stop();
}

/// A shell that has read the completions offers what the command line has.
#[test]
fn a_shell_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let script = run(datastore(folder.path()).args(["completions", shell]));
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains("datastore") && script.contains("if-none-match"), "{script}");
    }
    // As a shell calls it: with the command, the word at hand and the one before it.
    let offered = |words: [&str; 3]| {
        let [command, before, word] = words;
        let script = format!(
            "source <({} completions bash); COMP_WORDS=({command} {before} {word}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _datastore datastore '{word}' '{before}'; \
             printf '%s\n' \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_datastore")
        );
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(offered(["datastore", "", "se"]), "serve\nset\nservice\n");
    assert_eq!(offered(["datastore set", "k", "--if"]), "--if-match\n--if-none-match\n");
    assert_eq!(offered(["datastore set", "--ack", "m"]), "majority\n");
}
