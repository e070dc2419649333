//! A small HTTP/1.1 client over one connection: sends exactly what a test writes, and many requests
//! before the first answer where a test wants speed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str;
use std::time::Duration;

/// A connection that is kept.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
    unsent: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        Ok(Self {
            stream: BufReader::with_capacity(256 << 10, stream),
            address,
            unsent: Vec::new(),
        })
    }

    /// Sends a request and waits for its answer.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.queue(method, target, headers, body);
        self.flush()?;
        self.receive()
    }

    /// GET.
    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, &[], b"").unwrap()
    }

    /// PUT.
    pub fn put(&mut self, target: &str, body: &[u8]) -> Answer {
        self.request("PUT", target, &[], body).unwrap()
    }

    /// Notes a request to be sent; its answer comes in its turn.
    pub fn queue(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let host = self.address;
        let out = &mut self.unsent;
        // Writing to memory does not fail.
        write!(out, "{method} {target} HTTP/1.1\r\n").unwrap();
        if !headers.iter().any(|(name, _)| *name == "host") {
            write!(out, "host: {host}\r\n").unwrap();
        }
        for (name, value) in headers {
            write!(out, "{name}: {value}\r\n").unwrap();
        }
        if method != "GET" && !headers.iter().any(|(name, _)| *name == "content-length") {
            write!(out, "content-length: {}\r\n", body.len()).unwrap();
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    /// Sends what was noted.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.get_mut().write_all(&self.unsent);
        self.unsent.clear();
        sent
    }

    /// Reads the next answer.
    pub fn receive(&mut self) -> io::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        assert_eq!(answer.header("transfer-encoding"), None, "not read by this client");
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
