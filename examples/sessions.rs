//! How soon a write can be read with its token at another front end: `sessions WRITER READER
//! [COUNT] [QUERY]`, run by `scripts/bench-copy`.
//!
//! WRITER and READER are addresses of two front ends of one set. Each write is read at once, with
//! the token of its answer, at the other one; QUERY goes with the read. Prints the median and the
//! 99th of a hundred of the reads, in milliseconds, and how many were refused as too stale.

#![allow(clippy::unwrap_used, reason = "a measurement says what went wrong by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use datastore::clock::{Clock, System};

const KEYS: usize = 1000;

/// One request after the other over a connection.
struct Requests(BufReader<TcpStream>);

struct Answer {
    status: String,
    session: String,
    body: String,
}

impl Requests {
    fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(BufReader::new(socket))
    }

    fn ask(&mut self, line: &str, header: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{header}\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let status = self.line().split(' ').nth(1).unwrap().to_owned();
        let (mut session, mut length) = (String::new(), 0);
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "datastore-session" => value.clone_into(&mut session),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, session, body: String::from_utf8(body).unwrap() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection has ended");
        line.trim_end().to_owned()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (writer, reader) = (next().unwrap(), next().unwrap());
    let count: usize = next().map_or(2000, |count| count.parse().unwrap());
    let query = next().unwrap_or_default();
    let (mut writes, mut reads) = (Requests::open(&writer), Requests::open(&reader));
    let clock = System::new();
    let (mut times, mut refused) = (Vec::new(), 0);
    for nth in 0..count {
        let (key, value) = (format!("/bucket/session-{}", nth % KEYS), nth.to_string());
        let written = writes.ask(&format!("PUT {key}"), "content-type: text/plain\r\n", &value);
        assert!(written.status.starts_with('2'), "{}", written.status);
        let token = format!("datastore-session: {}\r\n", written.session);
        let began = clock.monotonic();
        let read = reads.ask(&format!("GET {key}{query}"), &token, "");
        let took = clock.monotonic() - began;
        if read.status == "503" {
            refused += 1;
            continue;
        }
        assert_eq!((read.status.as_str(), &read.body), ("200", &value), "less than was written");
        times.push(took);
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{:.2} {:.2} {refused}", at(50), at(99));
}
