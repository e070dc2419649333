//! A headless Chromium, driven over the `WebDriver` protocol of the W3C, and always ended.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::client::Connection;
use super::process::until;

/// One window.
pub struct Browser {
    driver: Child,
    connection: Connection,
    session: String,
    /// Its profile.
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts Debian's chromium by its chromedriver.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: its browser ends with it.
            .process_group(0)
            .spawn()
            .expect("chromedriver starts: apt-get install chromium chromium-driver");
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = said.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // Whatever else it says is read, so that it never waits.
        std::thread::spawn(move || said.for_each(drop));
        let address = ([127, 0, 0, 1], port.expect("a port")).into();
        let connection = Connection::open(address).unwrap();
        let (session, profile) = (String::new(), folder.path().join("profile"));
        let mut browser = Self { driver, connection, session, _folder: folder };

        let arguments = [
            "--headless=new".to_owned(),
            // Tests may run as root, in containers with little shared memory.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--window-size=1280,1400".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let made =
            browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        made["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json; charset=utf-8")];
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer = self.connection.request(method, path, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["value"].take()
    }

    fn command(&mut self, method: &str, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        self.ask(method, &path, body)
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// What a script returns that runs in the page.
    pub fn run(&mut self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression holds in the page.
    pub fn until(&mut self, expression: &str) {
        until(expression, || self.run(&format!("return Boolean({expression})")) == true);
    }

    /// Clicks the button of that name inside the elements that `selector` selects.
    pub fn click(&mut self, selector: &str, button: &str) {
        let buttons = format!("[...document.querySelectorAll({selector:?} + ' button')]");
        let found = format!("{buttons}.find((one) => one.textContent === {button:?})");
        self.until(&found);
        self.run(&format!("{found}.click()"));
    }

    /// What the page's scripts complained of, and what they asked for in vain.
    pub fn complaints(&mut self) -> Vec<Value> {
        let log = self.command("POST", "se/log", &json!({ "type": "browser" }));
        let is_complaint = |entry: &Value| entry["level"] == "SEVERE";
        log.as_array().unwrap().iter().filter(|entry| is_complaint(entry)).cloned().collect()
    }

    /// A picture of the window, as base64 of a PNG.
    pub fn picture(&mut self) -> String {
        let picture = self.command("GET", "screenshot", &Value::Null);
        picture.as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.driver.id().cast_signed());
        // Already gone where it crashed.
        let _ = killpg(group, Signal::SIGKILL);
        drop(self.driver.wait());
    }
}
