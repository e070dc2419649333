//! What followers cost: `followers URL PID OTHER_URL [COUNT]`, run by `scripts/bench-feed`.
//!
//! URL and `OTHER_URL` are two front ends of one set, PID is the first one's process. Prints how
//! long a write takes to a stream at either of them, what an idle stream costs in memory, how long
//! one write takes to all of them, what they do to reads, and what a client costs that never reads.
//! Exits with 1 where one of these is above its bound.

#![allow(clippy::unwrap_used, reason = "a measurement says what went wrong by panicking")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use datastore::clock::{Clock, System};

const READS: usize = 20_000;
const WRITES: usize = 200;
const UNREAD_WRITES: usize = 3_000;
const UNREAD_VALUE_BYTES: usize = 32_000;

/// How soon a write is at a stream of the same front end, and of another one.
const SAME_MAX: Duration = Duration::from_millis(10);
const OTHER_MAX: Duration = Duration::from_millis(100);
/// Of one idle stream.
const STREAM_KIB_MAX: f64 = 32.0;
/// What idle streams may add to the 99th percentile of reads, or as much again.
const READS_MORE: Duration = Duration::from_millis(1);
/// Of a client that never reads: what the feed holds for all, and buffers.
const UNREAD_KIB_MAX: usize = 32 << 10;

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

/// Times, in order.
struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Of a hundred, the so manieth.
    fn at(&self, part: usize) -> Duration {
        self.0[(self.0.len() - 1) * part / 100]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |part| self.at(part).as_secs_f64() * 1e3;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(50), at(99), at(100))
    }
}

/// Whether bounds hold; says of each that does not.
#[derive(Default)]
struct Bounds {
    are_missed: bool,
}

impl Bounds {
    fn hold<T: PartialOrd + std::fmt::Debug>(&mut self, what: &str, is: T, at_most: T) {
        if is > at_most {
            println!("MISSED: {what}: {is:?}, and {at_most:?} is the bound");
            self.are_missed = true;
        }
    }
}

fn reads(address: &str, clock: &System) -> Times {
    let mut requests = Requests::open(address);
    requests.ask("PUT", "/bucket/read", b"v");
    let mut times = Vec::new();
    for _ in 0..READS {
        let began = clock.monotonic();
        requests.ask("GET", "/bucket/read", b"");
        times.push(clock.monotonic() - began);
    }
    Times::new(times)
}

fn kib(pid: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// From the answer to a write until a stream at `to` has it; and how long the writes took.
fn latency(from: &str, to: &str, clock: &System) -> [Times; 2] {
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
    [times, writes].map(Times::new)
}

/// Opens so many streams, and waits until each has said that it stands.
fn open_all(address: &str, count: usize) -> Vec<Stream> {
    let mut streams: Vec<Stream> = (0..count).map(|_| Stream::open(address, "since=now")).collect();
    for stream in &mut streams {
        stream.wait_for(b"event: heartbeat");
    }
    streams
}

/// How long one write takes to each of the streams.
fn to_all(address: &str, mut streams: Vec<Stream>, clock: &System) -> Times {
    for stream in &mut streams {
        stream.socket.set_nonblocking(true).unwrap();
    }
    let began = clock.monotonic();
    Requests::open(address).ask("PUT", "/bucket/to-all", b"v");
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
    Times::new(times)
}

/// Writes large values that a reading stream follows; the most that the process held meanwhile, in
/// KiB.
fn held_while_writing(address: &str, pid: &str) -> usize {
    let mut reader = Stream::open(address, "since=now");
    reader.wait_for(b"event: heartbeat");
    let mut requests = Requests::open(address);
    let value = vec![b'x'; UNREAD_VALUE_BYTES];
    let mut most = 0;
    for nth in 0..UNREAD_WRITES {
        requests.ask("PUT", &format!("/bucket/unread-{nth}"), &value);
        reader.wait_for(format!("\"unread-{nth}\"").as_bytes());
        if nth % 100 == 0 {
            most = most.max(kib(pid));
        }
    }
    most.max(kib(pid))
}

/// What a client costs that never reads, in KiB: how much more the process holds than while the
/// same was written without it. Connections, caches and passes hold something as well, and once
/// they have what they need, no more.
fn unread(address: &str, pid: &str) -> usize {
    let without = held_while_writing(address, pid);
    let unread = Stream::open(address, "since=now&include=value");
    let with = held_while_writing(address, pid);
    drop(unread);
    with.saturating_sub(without)
}

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (address, pid, other) = (next().unwrap(), next().unwrap(), next().unwrap());
    let count: usize = next().map_or(10_000, |count| count.parse().unwrap());
    let (clock, mut bounds) = (System::new(), Bounds::default());

    for (what, from, at_most) in
        [("the same front end", &address, SAME_MAX), ("another one", &other, OTHER_MAX)]
    {
        let [times, writes] = latency(from, &address, &clock);
        println!("a write to a stream of {what}: {times} (the write itself: {writes})");
        bounds.hold("p99 of a write to a stream", times.at(99), at_most);
    }
    let alone = reads(&address, &clock);
    println!("reads, nobody follows: {alone}");

    let before = kib(&pid);
    let streams = open_all(&address, count);
    let after = kib(&pid);
    let each = after.saturating_sub(before) as f64 / count as f64;
    println!("{count} idle streams: {before} KiB before, {after} KiB after, {each:.1} KiB each");
    bounds.hold("KiB an idle stream", each, STREAM_KIB_MAX);
    let followed = reads(&address, &clock);
    println!("reads, {count} follow: {followed}");
    let at_most = (alone.at(99) * 2).max(alone.at(99) + READS_MORE);
    bounds.hold("p99 of reads while many follow", followed.at(99), at_most);
    println!("one write to all of them: {}", to_all(&address, streams, &clock));

    let more = unread(&address, &pid);
    let written = UNREAD_WRITES * UNREAD_VALUE_BYTES / 1_000_000;
    println!("a client that does not read while {written} MB are written: {more} KiB more at most");
    bounds.hold("KiB of a client that never reads", more, UNREAD_KIB_MAX);
    u8::from(bounds.are_missed).into()
}
