//! What followers cost: `followers URL PID OTHER_URL [COUNT]`, run by `scripts/bench-feed`.
//!
//! URL and `OTHER_URL` are two front ends of one set, PID is the first one's process. Prints how
//! long a write takes to a stream at either of them, what an idle stream costs in memory, how long
//! one write takes to all of them, what they do to reads, and what a client costs that never reads.

#![allow(clippy::unwrap_used, reason = "a measurement says what went wrong by panicking")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use datastore::clock::{Clock, System};

const READS: usize = 20_000;
const WRITES: usize = 200;
const UNREAD_WRITES: usize = 10_000;
const UNREAD_VALUE_BYTES: usize = 10_000;

/// A connection and what it has received.
struct Stream {
    socket: TcpStream,
    text: Vec<u8>,
}

impl Stream {
    fn open(address: &str, query: &str) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /changes?{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, text: Vec::new() }
    }

    /// Reads until `word` has come; forgets what came up to there.
    fn wait_for(&mut self, word: &[u8]) {
        while !self.has(word) {
            self.read();
        }
    }

    fn has(&mut self, word: &[u8]) -> bool {
        let found = self.text.windows(word.len()).position(|window| window == word);
        if let Some(at) = found {
            self.text.drain(..at + word.len());
        }
        found.is_some()
    }

    /// Whether anything came; `false` on a socket that does not block.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.socket.read(&mut piece) {
            Ok(0) => panic!("the stream has ended"),
            Ok(length) => {
                self.text.extend(&piece[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One request after the other over a connection.
struct Requests(Stream);

impl Requests {
    fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(Stream { socket, text: Vec::new() })
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        self.0.socket.write_all(&request).unwrap();
        self.0.wait_for(b"\r\n\r\n");
        // What follows the head is short here and comes with it, or is found by the next one.
        self.0.text.clear();
    }
}

/// The median and the 99th of a hundred.
fn told(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(50), at(99), at(100))
}

fn reads(address: &str, clock: &System) -> String {
    let mut requests = Requests::open(address);
    requests.ask("PUT", "/bucket/read", b"v");
    let mut times = Vec::new();
    for _ in 0..READS {
        let began = clock.monotonic();
        requests.ask("GET", "/bucket/read", b"");
        times.push(clock.monotonic() - began);
    }
    told(times)
}

fn kib(pid: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// From the answer to a write until a stream at `to` has it; and how long the writes took.
fn latency(from: &str, to: &str, clock: &System) -> String {
    let mut stream = Stream::open(to, "since=now");
    stream.wait_for(b"event: heartbeat");
    let mut requests = Requests::open(from);
    let (mut times, mut writes) = (Vec::new(), Vec::new());
    for nth in 0..WRITES {
        let began = clock.monotonic();
        requests.ask("PUT", &format!("/bucket/latency-{nth}"), b"v");
        let answered = clock.monotonic();
        stream.wait_for(format!("\"latency-{nth}\"").as_bytes());
        writes.push(answered - began);
        times.push(clock.monotonic() - answered);
    }
    format!("{} (the write itself: {})", told(times), told(writes))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (address, pid, other) = (next().unwrap(), next().unwrap(), next().unwrap());
    let count: usize = next().map_or(10_000, |count| count.parse().unwrap());
    let clock = System::new();

    println!("a write to a stream of the same front end: {}", latency(&address, &address, &clock));
    println!("a write to a stream of another one:        {}", latency(&other, &address, &clock));
    println!("reads, nobody follows: {}", reads(&address, &clock));

    let before = kib(&pid);
    let mut streams: Vec<Stream> =
        (0..count).map(|_| Stream::open(&address, "since=now")).collect();
    for stream in &mut streams {
        stream.wait_for(b"event: heartbeat");
    }
    let after = kib(&pid);
    let each = after.saturating_sub(before) as f64 / count as f64;
    println!("{count} idle streams: {before} KiB before, {after} KiB after, {each:.1} KiB each");
    println!("reads, {count} follow: {}", reads(&address, &clock));

    for stream in &mut streams {
        stream.socket.set_nonblocking(true).unwrap();
    }
    let began = clock.monotonic();
    Requests::open(&address).ask("PUT", "/bucket/to-all", b"v");
    let mut waiting: BTreeMap<usize, &mut Stream> = streams.iter_mut().enumerate().collect();
    let mut times = Vec::new();
    while !waiting.is_empty() {
        waiting.retain(|_, stream| {
            while stream.read() {}
            let has = stream.has(b"\"to-all\"");
            if has {
                times.push(clock.monotonic() - began);
            }
            !has
        });
    }
    println!("one write to all of them: {}", told(times));
    drop(streams);

    let before = kib(&pid);
    let unread = Stream::open(&address, "since=now&include=value");
    let mut reader = Stream::open(&address, "since=now");
    reader.wait_for(b"event: heartbeat");
    let mut requests = Requests::open(&address);
    let value = vec![b'x'; UNREAD_VALUE_BYTES];
    let mut most = 0;
    for nth in 0..UNREAD_WRITES {
        requests.ask("PUT", &format!("/bucket/unread-{nth}"), &value);
        reader.wait_for(format!("\"unread-{nth}\"").as_bytes());
        if nth % 1_000 == 0 {
            most = most.max(kib(&pid));
        }
    }
    println!(
        "a client that does not read while {} MB are written: {} KiB more at most; another reads all",
        UNREAD_WRITES * UNREAD_VALUE_BYTES / 1_000_000,
        most.max(kib(&pid)).saturating_sub(before)
    );
    drop(unread);
}
