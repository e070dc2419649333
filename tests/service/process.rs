//! A service that runs for one test: started in a folder of its own on a free port, and always
//! ended.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use datastore::clock::{Clock, System};

use super::client::Connection;

/// More than anything here takes on a slow machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// The binary, in `folder`, with nothing set that the test has not set itself.
pub fn datastore(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datastore"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// The exit code and what was said on standard error.
pub fn complaint(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A running service.
pub struct Service {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
    log: String,
}

impl Service {
    /// Starts one with the defaults, on a free port.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// Starts one with these environment variables.
    pub fn start_with(folder: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(&mut Self::command(folder, environment))
    }

    /// The same; `None`: it ended before it listened.
    pub fn try_start_with(folder: &Path, environment: &[(&str, &str)]) -> Option<Self> {
        let mut service = Self::spawn_only(&mut Self::command(folder, environment));
        service.listens().then_some(service)
    }

    fn command(folder: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = datastore(folder);
        command.arg("serve").env("DATASTORE__SERVER__LISTEN", "127.0.0.1:0");
        command.envs(environment.iter().copied());
        command
    }

    /// Starts this command and waits until it listens.
    pub fn spawn(command: &mut Command) -> Self {
        let mut service = Self::spawn_only(command);
        assert!(service.listens(), "it ended instead of listening:\n{}", service.log);
        service
    }

    fn spawn_only(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        // Ends with the process, whose end of the pipe it reads.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child, address, lines, log: String::new() }
    }

    /// Waits until it listens; `false`: it has ended.
    fn listens(&mut self) -> bool {
        const LISTENS: &str = "listening on http://";
        let Some(line) = self.next_with(&[LISTENS]) else { return false };
        let (_, rest) = line.split_once(LISTENS).unwrap();
        self.address = rest.split_whitespace().next().unwrap().parse().unwrap();
        true
    }

    /// Waits for a log line that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_either(text, text)
    }

    /// Waits for a log line that contains one of these.
    pub fn wait_for_either(&mut self, text: &str, other: &str) -> String {
        self.next_with(&[text, other]).unwrap_or_else(|| panic!("no line with {text:?}"))
    }

    /// The next line with one of these in it; `None`: the process has ended.
    fn next_with(&mut self, texts: &[&str]) -> Option<String> {
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => {
                    writeln!(self.log, "{line}").unwrap();
                    if texts.iter().any(|text| line.contains(text)) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("none of {texts:?}:\n{}", self.log),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new connection to it.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).unwrap()
    }

    /// Waits for a round of sync: from here on every partition holds what was written before.
    pub fn sync(&self) -> serde_json::Value {
        let answer = self.connect().request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let report = answer.json();
        for pair in report["pairs"].as_array().unwrap() {
            assert!(pair["error"].is_null(), "{pair}");
        }
        report
    }

    /// Sends a signal by name: `TERM`, `KILL`, `INT`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits until the process has ended; returns how, and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => writeln!(self.log, "{line}").unwrap(),
                // The process has closed its end.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running:\n{}", self.log),
            }
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.log))
    }

    /// Ends it as a service manager does.
    pub fn stop(self) {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert!(status.success(), "{status}:\n{log}");
    }

    /// Ends it as a power cut does.
    pub fn kill(self) {
        self.signal("KILL");
        let (status, _) = self.wait();
        assert!(!status.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Already gone where the test came to its end.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let rest: String = self.lines.try_iter().map(|line| line + "\n").collect();
            eprintln!("the service said:\n{}{rest}", self.log);
        }
    }
}

/// Tries until it holds, for [`BOUND`] at most.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = System::new();
    while !holds() {
        assert!(clock.monotonic() < BOUND, "never happened: {what}");
        std::thread::yield_now();
    }
}
