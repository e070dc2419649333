//! The console, in a browser: what is shown, and that nothing is done unasked.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::browser::Browser;
use super::process::Service;

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
    let picture = STANDARD.decode(browser.picture()).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("console.png"), picture).unwrap();
    drop(browser);
    service.stop();
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
