//! A stream of server-sent events over a connection of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// One event.
#[derive(Debug)]
pub struct Sse {
    pub id: Option<String>,
    pub event: String,
    pub data: Value,
}

/// An open stream.
pub struct Stream {
    connection: BufReader<TcpStream>,
    text: String,
}

impl Stream {
    /// Asks for `/changes?{query}`, as a client that was told `last`.
    pub fn open(address: SocketAddr, query: &str, last: &str) -> io::Result<Self> {
        let connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        let request = format!(
            "GET /changes?{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
             last-event-id: {last}\r\n\r\n"
        );
        (&connection).write_all(request.as_bytes())?;
        let mut stream = Self { connection: BufReader::new(connection), text: String::new() };
        let status = stream.line()?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(status));
        }
        while !stream.line()?.is_empty() {}
        Ok(stream)
    }

    /// The next event. An error: the stream has ended or was cut.
    pub fn next(&mut self) -> io::Result<Sse> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = parsed(&frame) {
                    return Ok(event);
                }
            } else {
                self.chunk()?;
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.connection.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn chunk(&mut self) -> io::Result<()> {
        let length = self.line()?;
        let length = usize::from_str_radix(&length, 16).map_err(io::Error::other)?;
        let mut bytes = vec![0; length + 2];
        self.connection.read_exact(&mut bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.text.push_str(std::str::from_utf8(&bytes[..length]).map_err(io::Error::other)?);
        Ok(())
    }
}

/// `None`: only a word about when to come again.
fn parsed(frame: &str) -> Option<Sse> {
    let field =
        |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Sse { id: field("id").map(str::to_owned), event: field("event")?.to_owned(), data })
}
