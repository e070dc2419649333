//! The command line against a running service, and over the partitions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Output;

use super::process::{Service, complaint, datastore, run};

/// One command; its exit code and standard output.
fn cli<S: AsRef<OsStr>>(folder: &Path, url: &str, arguments: &[S]) -> (Option<i32>, Vec<u8>) {
    let output: Output = run(datastore(folder).args(arguments).env("DATASTORE_URL", url));
    (output.status.code(), output.stdout)
}

#[test]
fn values_go_in_and_come_out_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let cli = |arguments: &[&str]| cli(folder.path(), &url, arguments);
    assert_eq!(cli(&["set", "colour", "blue"]), (Some(0), vec![]));
    assert_eq!(cli(&["get", "colour"]), (Some(0), b"blue".to_vec()));
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(folder.path().join("bytes"), &bytes).unwrap();
    assert_eq!(cli(&["set", "bytes", "--file", "bytes"]), (Some(0), vec![]));
    assert_eq!(cli(&["get", "bytes"]), (Some(0), bytes));
    // Standard input is empty here.
    assert_eq!(cli(&["set", "nothing", "-"]), (Some(0), vec![]));
    assert_eq!(cli(&["get", "nothing"]), (Some(0), vec![]));
    let (_, json) = cli(&["get", "colour", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((json["key"].as_str(), json["value"].as_str()), (Some("colour"), Some("blue")));
    assert!(json["version"].as_str().unwrap().starts_with("1."), "{json}");
    service.stop();
}

#[test]
fn exit_codes_tell_a_script_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let exit = |arguments: &[&str]| cli(folder.path(), &url, arguments).0;
    assert_eq!(exit(&["get", "a"]), Some(1));
    assert_eq!(exit(&["delete", "a"]), Some(1));
    assert_eq!(exit(&["set", "a", "1", "--if-none-match", "*"]), Some(0));
    assert_eq!(exit(&["set", "a", "2", "--if-none-match", "*"]), Some(1));
    assert_eq!(exit(&["set", "a", "3", "--if-match", "1.99"]), Some(1));
    assert_eq!(exit(&["delete", "a"]), Some(0));
    assert_eq!(exit(&["set", &"k".repeat(300), "1"]), Some(2));
    assert_eq!(exit(&["get", "a", "--url", "nowhere"]), Some(2));
    assert_eq!(exit(&["gett", "a"]), Some(2));
    assert_eq!(exit(&["--help"]), Some(0));
    service.stop();
    assert_eq!(exit(&["get", "a"]), Some(3));
}

#[test]
fn lists_follow_their_pages() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let list = |arguments: &[&str]| {
        let (exit, keys) = cli(folder.path(), &url, &[&["list"], arguments].concat());
        assert_eq!(exit, Some(0));
        keys
    };
    assert_eq!(list(&[]), b"");
    let keys: [&[u8]; 4] = [b"b/1", b"b/2", b"b\xff", b"c"];
    for key in keys {
        let arguments = [OsStr::new("set"), OsStr::from_bytes(key), OsStr::new("x")];
        assert_eq!(cli(folder.path(), &url, &arguments).0, Some(0));
    }
    service.sync();
    let all = b"b/1\nb/2\nb\xff\nc\n";
    assert_eq!(list(&[]), all);
    assert_eq!(list(&["--all", "--limit", "1"]), all);
    assert_eq!(list(&["--limit", "1"]), b"b/1\n");
    assert_eq!(list(&["--prefix", "b/"]), b"b/1\nb/2\n");
    let json = list(&["--prefix", "b", "--json"]);
    assert_eq!(json, b"{\"key\":\"b/1\"}\n{\"key\":\"b/2\"}\n{\"key_base64\":\"Yv8=\"}\n");
    service.stop();
}

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
