//! `get`, `set`, `update`, `delete` and `list` against a running service: bytes that survive, exit
//! codes, and what scripts read.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::process::{Service, complaint, datastore, run};

/// One command; its exit code and standard output.
fn cli<S: AsRef<OsStr>>(folder: &Path, url: &str, arguments: &[S]) -> (Option<i32>, Vec<u8>) {
    let output: Output = run(datastore(folder).args(arguments).env("DATASTORE_URL", url));
    (output.status.code(), output.stdout)
}

/// One command that reads `input`.
fn fed<S: AsRef<OsStr>>(folder: &Path, url: &str, arguments: &[S], input: &[u8]) -> Output {
    let mut command = datastore(folder);
    command.args(arguments).env("DATASTORE_URL", url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn bytes_of(object: &Value, name: &str) -> Vec<u8> {
    match object[name].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(object[format!("{name}_base64")].as_str().unwrap()).unwrap(),
    }
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
    assert_eq!(exit(&["update", "a", "1"]), Some(1));
    assert_eq!(exit(&["set", "a", "words"]), Some(0));
    assert_eq!(exit(&["update", "a", "[]", "--merge"]), Some(1), "what stands is not JSON");
    assert_eq!(exit(&["get", "a", "--if-none-match", "*"]), Some(1));
    assert_eq!(exit(&["get", "a", "--if-match", "1.99"]), Some(1));
    assert_eq!(exit(&["set", &"k".repeat(300), "1"]), Some(2));
    assert_eq!(exit(&["get", ""]), Some(2), "not a list");
    assert_eq!(exit(&["get", "a", "--partition", "nowhere"]), Some(2));
    assert_eq!(exit(&["get", "a", "--partition", "store_1", "--canonical"]), Some(2));
    assert_eq!(exit(&["get", "a", "--session", "nonsense"]), Some(2));
    assert_eq!(exit(&["get", "a", "--key-base64"]), Some(2));
    assert_eq!(exit(&["set", "a", "1", "--ttl", "soon"]), Some(2));
    assert_eq!(exit(&["set", "a", "1", "--ack", "some"]), Some(2));
    assert_eq!(exit(&["set", "a", "1", "--file", "also"]), Some(2));
    assert_eq!(exit(&["set", "a", "--file", "nothing/there"]), Some(2));
    assert_eq!(exit(&["list", "--limit", "0"]), Some(2));
    assert_eq!(exit(&["get", "a", "--url", "nowhere"]), Some(2));
    assert_eq!(exit(&["gett", "a"]), Some(2));
    assert_eq!(exit(&["--help"]), Some(0));
    service.stop();
    for arguments in [&["get", "a"][..], &["set", "a", "1"], &["delete", "a"], &["list"]] {
        assert_eq!(exit(arguments), Some(3));
    }
}

#[test]
fn partitions_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let (exit, table) = cli(folder.path(), &url, &["partitions"]);
    let table = String::from_utf8(table).unwrap();
    assert_eq!((exit, table.lines().count()), (Some(0), 4), "{table}");
    for name in ["store_1", "store_2", "store_3"] {
        let (exit, json) = cli(folder.path(), &url, &["partitions", name, "--json"]);
        let one: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((exit, &one["name"], &one["state"]), (Some(0), &name.into(), &"active".into()));
    }
    assert_eq!(cli(folder.path(), &url, &["partitions", "nowhere"]).0, Some(1));
    service.stop();
}

/// A row that somebody has deleted behind its master's back is dropped by verify, and kept.
#[test]
fn what_was_dropped_is_listed_shown_and_written_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let cli = |arguments: &[&str]| {
        let (exit, said) = cli(folder.path(), &url, arguments);
        (exit, String::from_utf8(said).unwrap())
    };
    let written = service.connect().put("/bucket/k", b"kept");
    service.sync();
    let master = written.header("datastore-partition").unwrap();
    let file = rusqlite::Connection::open(folder.path().join(format!("data/{master}.db")));
    let deleted = file.unwrap().execute("DELETE FROM data WHERE id = CAST('k' AS BLOB)", ());
    assert_eq!(deleted.unwrap(), 1);
    assert_eq!(cli(&["verify"]).0, Some(0));
    let (exit, page) = cli(&["conflicts", "--json"]);
    let page: Value = serde_json::from_str(&page).unwrap();
    let id = page["conflicts"][0]["id"].as_str().unwrap();
    assert_eq!((exit, &page["retention"]), (Some(0), &json!("30d")), "{page}");
    let (exit, table) = cli(&["conflicts", "--all"]);
    assert_eq!((exit, table.lines().count(), table.contains(id)), (Some(0), 2, true), "{table}");
    let (exit, entry) = cli(&["conflicts", id]);
    assert!(exit == Some(0) && entry.contains("kept"), "{entry}");
    assert_eq!(cli(&["conflicts", "replay", id, "--if-match", "*"]).0, Some(1));
    let (exit, said) = cli(&["conflicts", "replay", id, "--if-none-match", "*"]);
    assert!(exit == Some(0) && said.contains("written once more"), "{said}");
    assert_eq!(cli(&["get", "k", "--canonical"]), (Some(0), "kept".to_owned()));
    assert_eq!(cli(&["conflicts", "x"]).0, Some(1));
    service.stop();
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
    let lines: Vec<Value> = lines(&json);
    let keys: Vec<&Value> = lines.iter().map(|line| &line["key"]).collect();
    assert_eq!(keys, [&json!("b/1"), &json!("b/2"), &Value::Null]);
    assert_eq!(lines[2]["key_base64"], "Yv8=");
    assert_eq!(list(&["--after", "b/2"]), b"b\xff\nc\n");
    assert_eq!(list(&["--after", "Yv8=", "--key-base64"]), b"c\n");
    assert_eq!(list(&["--canonical", "--prefix", "c", "--all"]), b"c\n");
    assert_eq!(list(&["--partition", "store_2", "--prefix", "c"]), b"c\n");
    let values = self::lines(&list(&["--values", "--json", "--all", "--limit", "2"]));
    assert_eq!(values.len(), 4);
    assert!(values.iter().all(|row| row["value"] == "x" && row["version"].is_string()));
    let table = String::from_utf8(list(&["--values", "--all", "--limit", "3"])).unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["key", "value", "bytes", "type", "version", "expires"]);
    assert_eq!(rows.len(), 5, "{table}");
    assert_eq!(rows[3][..5], ["b\\xff", "x", "1", "text/plain;", "charset=utf-8"]);
    service.stop();
}

/// A key as an argument: as it is, or in base64.
fn arguments(verb: &str, key: &[u8], as_base64: bool, options: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![verb.into()];
    arguments.extend(options.iter().map(Into::into));
    if as_base64 {
        arguments.extend(["--key-base64".into(), "--".into(), STANDARD.encode(key).into()]);
    } else {
        arguments.extend(["--".into(), OsString::from_vec(key.to_vec())]);
    }
    arguments
}

/// Takes a key and a value through every data command.
fn survives(folder: &Path, url: &str, key: &[u8], value: &[u8], as_base64: bool) {
    let shown = key.escape_ascii();
    let as_base64 = as_base64 || key.contains(&0);
    let ask = |verb: &str, options: &[&str], input: &[u8]| {
        let arguments = arguments(verb, key, as_base64, options);
        let output = fed(folder, url, &arguments, input);
        assert!(output.status.success(), "{verb} {shown}: {output:?}");
        output.stdout
    };
    assert_eq!(ask("set", &[], value), b"", "{shown}");
    assert!(ask("get", &[], b"") == value, "{shown}");
    let longer = [value, b"+"].concat();
    std::fs::write(folder.join("value"), &longer).unwrap();
    ask("update", &["--file", "value", "--ack", "all"], b"");
    let object = &lines(&ask("get", &["--canonical", "--json"], b""))[0];
    assert_eq!((bytes_of(object, "key"), bytes_of(object, "value")), (key.to_vec(), longer));
    let prefix = STANDARD.encode(key);
    let list = ["list", "--canonical", "--json", "--limit", "1", "--key-base64", "--prefix"];
    let (exit, list) = cli(folder, url, &[&list[..], &[&prefix]].concat());
    assert_eq!(exit, Some(0));
    assert_eq!(bytes_of(&lines(&list)[0], "key"), key, "the first with this prefix");
    let gone = &lines(&ask("delete", &["--json"], b""))[0];
    assert_eq!(bytes_of(gone, "key"), key);
    let get = arguments("get", key, as_base64, &["--canonical"]);
    assert_eq!(cli(folder, url, &get).0, Some(1), "{shown}");
}

#[test]
fn keys_and_values_of_any_bytes_survive_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let all: Vec<u8> = (0..=254).collect();
    for key in [
        &b"a b"[..],
        b" ",
        b"a/b",
        b"/",
        b"//",
        b"a/",
        b"a//b",
        b"%",
        b"%2F",
        b"50%25",
        b".",
        b"..",
        b"...",
        b"a/../b",
        b"./a",
        b"a\nb",
        b"\n",
        b"\r\n",
        b"a\\b",
        b"-",
        b"--help",
        b"?a=b#c&d",
        b"+",
        "\u{e9}\u{1f600}".as_bytes(),
        b"\xff\xfe",
        b"\0",
        &all,
    ] {
        survives(folder.path(), &url, key, b"\0binary\xff\n", false);
    }
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(b"./%\n -".to_vec())];
    let bytes = |least: usize| prop::collection::vec(byte(), least..40);
    let mut runner = TestRunner::new(Config { cases: 20, ..Config::default() });
    let drawn = (bytes(1), bytes(0), any::<bool>());
    let check = |(key, value, as_base64): (Vec<u8>, Vec<u8>, bool)| {
        survives(folder.path(), &url, &key, &value, as_base64);
        Ok(())
    };
    runner.run(&drawn, check).unwrap();
    service.stop();
}

#[test]
fn scripts_are_told_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let url = service.url();
    let json = |arguments: &[&str]| {
        let (exit, text) = cli(folder.path(), &url, &[arguments, &["--json"]].concat());
        assert_eq!(exit, Some(0), "{arguments:?}");
        let [object] = &lines(&text)[..] else { panic!("{text:?}") };
        object.clone()
    };
    let set = json(&["set", "k", r#"{"a": 1, "b": 2}"#, "--ttl", "1h", "--ack", "all"]);
    assert_eq!(
        (&set["key"], &set["created"], &set["acks"]),
        (&json!("k"), &json!(true), &json!("3/3"))
    );
    let version = set["version"].as_str().unwrap();
    let update = json(&["update", "k", r#"{"a": null}"#, "--merge", "--if-match", version]);
    assert_ne!(update["version"], set["version"]);
    let read = json(&["get", "k", "--session", update["session"].as_str().unwrap()]);
    assert_eq!((&read["value"], &read["version"]), (&json!(r#"{ "b": 2}"#), &update["version"]));
    assert!(read["expires_at"].as_str().unwrap().ends_with('Z'), "{read}");
    assert!(read["partition"].as_str().unwrap().starts_with("store_"), "{read}");
    let again = json(&["set", "k", "x", "--content-type", "text/x-note"]);
    assert_eq!(again["created"], json!(false));
    let read = json(&["get", "k", "--canonical"]);
    assert_eq!((&read["content_type"], &read["expires_at"]), (&json!("text/x-note"), &Value::Null));
    let deleted = json(&["delete", "k", "--ack", "majority"]);
    assert_ne!(deleted["version"], again["version"]);
    // A key that no path reaches says the same.
    let set = json(&["set", "..", "1", "--ttl", "1h", "--if-none-match", "*"]);
    assert_eq!((&set["key"], &set["acks"]), (&json!(".."), &json!("1/3")));
    let read = json(&["get", "..", "--if-match", set["version"].as_str().unwrap()]);
    assert!(read["expires_at"].is_string() && read["value"] == "1", "{read}");
    let refused = run(datastore(folder.path())
        .args(["set", "..", "2", "--if-none-match", "*"])
        .env("DATASTORE_URL", &url));
    let (exit, complaint) = complaint(&refused);
    assert_eq!(exit, Some(1));
    assert!(complaint.contains("412") && complaint.contains("the precondition"), "{complaint}");
    service.stop();
}
