//! The console, in a browser: what is shown, and that nothing is done unasked.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::browser::Browser;
use super::process::{Service, until};

/// Rounds come when they are asked for and else not.
const QUIET: [(&str, &str); 2] =
    [("DATASTORE__SYNC__SCHEDULE", "0 0 0 1 1 *"), ("DATASTORE__SYNC__EAGER", "false")];

#[test]
fn the_console_shows_the_partitions_and_asks_before_it_acts() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_with(folder.path(), &QUIET);
    for n in 0..30 {
        service.connect().put(&format!("/bucket/key{n}"), b"value");
    }
    let rounds = || service.connect().get("/admin/sync").json()["round"].as_u64().unwrap();
    let mut browser = Browser::start();
    browser.open(&format!("{}/console", service.url()));
    browser.until("document.querySelectorAll('#partitions td.state.good').length === 3");
    let names = browser.run(
        "return [...document.querySelectorAll('#partitions tbody tr')]
           .map((row) => [...row.cells].slice(0, 4).map((cell) => cell.textContent).join(' '))",
    );
    let expected: Vec<String> =
        (1..=3).map(|n| format!("store_{n} sqlite master active")).collect();
    assert_eq!(names, serde_json::json!(expected));
    browser.until("document.querySelector('#figures').textContent.includes('requests/s')");
    browser.until("document.querySelector('#service').textContent.includes('RUNNING')");
    let before = rounds();
    browser.click("#set-actions", "sync now");
    browser.until("document.querySelector('#confirm').open");
    browser.click("#confirm", "Cancel");
    browser.until("!document.querySelector('#confirm').open");
    assert_eq!(rounds(), before, "nothing is done unasked");
    browser.click("#set-actions", "sync now");
    browser.click("#confirm", "Confirm");
    browser.until("document.querySelector('#told').textContent === 'sync now: done'");
    assert!(rounds() > before);
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    save(&mut browser, "console.png");
    drop(browser);
    service.stop();
}

/// A master's slots change hands by two clicks and a choice; the page tells of it afterwards, among
/// what else was decided.
#[test]
fn slots_are_given_to_another_master_from_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("DATASTORE__SERVER__HEARTBEAT", "200ms"),
        ("DATASTORE__SCALING__ENABLED", "true"),
        ("DATASTORE__SCALING__DRY_RUN", "true"),
        ("DATASTORE__SCALING__WINDOW", "1s"),
    ];
    let service = Service::start_with(folder.path(), &environment);
    for n in 0..30 {
        service.connect().put(&format!("/bucket/key{n}"), b"value");
    }
    let topology = || service.connect().get("/admin/topology").json();
    // Before the promotion: after it nothing is decided for a while.
    until("it was decided that copies are wanted", || {
        let told = service.connect().get("/admin/decisions").json();
        told["decisions"].as_array().is_some_and(|decisions| !decisions.is_empty())
    });
    let row = |name: &str| {
        format!(
            "[...document.querySelectorAll('#partitions tbody tr')]
            .find((row) => row.cells[0].textContent === '{name}')"
        )
    };
    let mut browser = Browser::start();
    browser.open(&format!("{}/console/", service.url()));
    browser.until(&format!("{}?.textContent.includes('promote')", row("store_2")));
    let press = format!(
        "[...{}.querySelectorAll('button')].find((one) => one.textContent === 'promote').click()",
        row("store_2")
    );
    browser.run(&press);
    browser.until("document.querySelector('#confirm').open");
    browser.click("#confirm", "Cancel");
    browser.until("!document.querySelector('#confirm').open");
    assert_eq!(topology()["epoch"], 1, "nothing is done unasked");
    browser.run(&press);
    browser.until("document.querySelector('#choices select')?.options.length === 2");
    browser.run("document.querySelector('#choices select').value = 'store_3'");
    save(&mut browser, "console-question.png");
    browser.click("#confirm", "Confirm");
    browser.until(&format!("{}.cells[2].textContent === 'replica'", row("store_3")));
    browser.until(&format!("{}.cells[4].textContent === '682'", row("store_2")));
    browser.until(&format!("{}.textContent.includes('share')", row("store_3")));
    let history = "document.querySelector('#history').textContent";
    for told in ["promote store_2: ", "an operator asked for it", "scale 0 to 1: dry run"] {
        browser.until(&format!("{history}.includes({told:?})"));
    }
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    save(&mut browser, "console-promoted.png");
    drop(browser);
    service.stop();
}

/// Keeps a picture for people to look at.
fn save(browser: &mut Browser, name: &str) {
    let picture = STANDARD.decode(browser.picture()).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), picture).unwrap();
}

#[test]
fn no_other_page_can_frame_the_console_and_it_loads_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let mut connection = service.connect();
    for (path, kind) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/console.css", "text/css; charset=utf-8"),
        ("/console/console.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = connection.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(connection.get("/console").header("location"), Some("/console/"));
    assert_eq!(connection.get("/console/nothing").status, 404);
    service.stop();
}
