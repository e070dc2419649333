//! Following changes: a snapshot if that is wanted, then what changes, for as long as one likes.
//!
//! Pages that wait (`wait=`) rather than a stream: each request has an end, so that a connection
//! that silently went away is noticed, and a page is taken whole or not at all, with the position
//! after it. Whatever happens in between, the next request goes on at that position, at the next
//! address where there are several: a position is good at every front end.
//!
//! A follower that has to begin again is told so ([`Change::Reset`]) and begins with a snapshot by
//! itself. What it yields is what it is told: an event may be repeated, or come after a newer one
//! of the same key; [`super::mirror::Mirror`] keeps the greater version.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::http::{Method, StatusCode};

use super::{Client, ClientError};
use crate::http::paths;
use crate::version::Version;

/// How long a request waits for something to happen.
const WAIT: Duration = Duration::from_secs(25);
/// How long after a failure it tries again; twice as long after the next, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What to follow, and from where.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The addresses of front ends of one set; one is enough.
    pub urls: Vec<String>,
    /// Only keys that begin so.
    pub prefix: Vec<u8>,
    /// A position that was told before, `0` for all that stands first, or `now`.
    pub since: String,
    /// Whether values come along.
    pub values: bool,
}

/// A key with what stands under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// The version that it was given.
    pub version: Version,
    /// The partition that gave it.
    pub partition: String,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its value, if values were asked for.
    pub value: Option<Vec<u8>>,
    /// When it ceases to be visible, RFC 3339.
    pub expires_at: Option<String>,
}

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This stands.
    Put(Item),
    /// Nothing stands there any more.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The version of the delete.
        version: Version,
        /// The partition that gave it.
        partition: String,
    },
    /// The position is gone: what was followed so far may be out of date, and a snapshot follows.
    Reset,
    /// That was all for now: the snapshot, if there was one, is through.
    Current,
}

/// Follows. [`Follower::next_change`] is asked for one change after the other.
pub struct Follower {
    clients: Vec<Client>,
    /// The one in use.
    current: usize,
    prefix: Vec<u8>,
    values: bool,
    position: String,
    /// The changes of the last page that were not asked for yet.
    waiting: VecDeque<Change>,
    /// Where to go on when they are through.
    next: Option<String>,
    is_current: bool,
    pause: Option<Duration>,
}

impl Follower {
    /// Nothing is sent yet.
    pub fn new(follow: &Follow) -> Result<Self, ClientError> {
        let clients: Result<Vec<Client>, ClientError> =
            follow.urls.iter().map(|url| Client::new(url)).collect();
        let clients = clients?;
        if clients.is_empty() {
            return Err(ClientError::Url { url: String::new() });
        }
        Ok(Self {
            clients,
            current: 0,
            prefix: follow.prefix.clone(),
            values: follow.values,
            position: follow.since.clone(),
            waiting: VecDeque::new(),
            next: None,
            is_current: false,
            pause: None,
        })
    }

    /// Where another one would go on, once all that was told so far has been dealt with.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// The next change, whenever it comes. An error may be passing ([`ClientError::may_pass`]):
    /// asked again, it goes on where it was, after a pause, at the next address.
    pub fn next_change(&mut self) -> Result<Change, ClientError> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                self.arrive();
                return Ok(change);
            }
            self.arrive();
            if let Some(pause) = self.pause {
                std::thread::park_timeout(pause);
            }
            match self.ask() {
                Ok(()) => self.pause = None,
                Err(ClientError::Refused { status: StatusCode::GONE, .. }) => {
                    self.position = "0".to_owned();
                    self.is_current = false;
                    return Ok(Change::Reset);
                }
                Err(error) => {
                    self.pause =
                        Some(self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX)));
                    self.current = (self.current + 1) % self.clients.len();
                    return Err(error);
                }
            }
        }
    }

    /// The position moves on when the last change of a page has been handed out.
    fn arrive(&mut self) {
        if self.waiting.is_empty()
            && let Some(next) = self.next.take()
        {
            self.position = next;
        }
    }

    fn ask(&mut self) -> Result<(), ClientError> {
        let mut target = format!("/changes?since={}", self.position);
        if !self.prefix.is_empty() {
            target.push_str(&format!("&prefix={}", paths::emit_value(&self.prefix)));
        }
        if self.values {
            target.push_str("&include=value");
        }
        if self.is_current {
            target.push_str(&format!("&wait={}s", WAIT.as_secs()));
        }
        let headers = [("accept", "application/json".to_owned())];
        let mut answer = self.clients[self.current].send(Method::GET, &target, &headers, None)?;
        let page = answer.json()?;
        let read = || {
            let events: Option<VecDeque<Change>> =
                page.get("events")?.as_array()?.iter().map(change).collect();
            Some((events?, page.get("next")?.as_str()?, page.get("more")?.as_bool()?))
        };
        let (events, next, more) = read().ok_or_else(|| answer.foreign("not a page of changes"))?;
        self.waiting = events;
        self.next = Some(next.to_owned());
        if !more && !self.is_current {
            self.is_current = true;
            self.waiting.push_back(Change::Current);
        }
        Ok(())
    }
}

/// An event as it comes over the wire, on a page or in a stream.
pub fn change(event: &Value) -> Option<Change> {
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
    let bytes = |name: &str| match text(name) {
        Some(text) => Some(text.into_bytes()),
        None => STANDARD.decode(text(&format!("{name}_base64"))?).ok(),
    };
    let (key, version) = (bytes("key")?, text("version")?.parse().ok()?);
    let partition = text("partition")?;
    match event.get("type")?.as_str()? {
        "put" => Some(Change::Put(Item {
            key,
            version,
            partition,
            content_type: text("content_type"),
            value: bytes("value"),
            expires_at: text("expires_at"),
        })),
        "delete" => Some(Change::Delete { key, version, partition }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_read_as_they_are_written() {
        let put = json!({
            "type": "put", "key_base64": "/w==", "version": "1.5", "partition": "a",
            "content_type": "text/plain", "value": "v",
        });
        let item = Item {
            key: vec![0xff],
            version: "1.5".parse().unwrap(),
            partition: "a".into(),
            content_type: Some("text/plain".into()),
            value: Some(b"v".to_vec()),
            expires_at: None,
        };
        assert_eq!(change(&put), Some(Change::Put(item)));
        let delete = json!({"type": "delete", "key": "k", "version": "2.7", "partition": "b"});
        let version = "2.7".parse().unwrap();
        let expected = Change::Delete { key: b"k".to_vec(), version, partition: "b".into() };
        assert_eq!(change(&delete), Some(expected));
        assert_eq!(change(&json!({"type": "put", "key": "k"})), None);
        assert_eq!(change(&json!({"type": "heartbeat"})), None);
    }
}
