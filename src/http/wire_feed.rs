//! The feed as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::answer;
use super::rfc3339;
use super::wire::text_or_base64;
use crate::feed::{Event, Feed, Mark, Position};
use crate::record::Record;

/// A key that was written or deleted.
#[derive(Debug, Serialize)]
pub struct EventDoc<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    version: String,
    partition: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// What an event of a row is called.
pub const fn kind(row: &Record) -> &'static str {
    if row.is_tombstone() { "delete" } else { "put" }
}

impl<'a> EventDoc<'a> {
    fn new(row: &'a Record, partition: &'a str, with_value: bool) -> Self {
        let (key, key_base64) = text_or_base64(row.key.bytes());
        let body = row.body.as_ref();
        let value = body.filter(|_| with_value).map(|body| text_or_base64(&body.value));
        let (value, value_base64) = value.unwrap_or_default();
        Self {
            r#type: kind(row),
            key,
            key_base64,
            version: row.version.to_string(),
            partition,
            content_type: body.map(|body| body.content_type.as_str()),
            expires_at: body.and_then(|body| body.expires_at).map(rfc3339::format),
            value,
            value_base64,
        }
    }
}

/// An event as JSON, made once for all who are told of it.
pub fn event(event: &Event, feed: &Feed, with_value: bool) -> Bytes {
    event.text(with_value, |row| {
        let name: Arc<str> = feed.name_of(row.origin);
        answer::json_bytes(&EventDoc::new(row, &name, with_value))
    })
}

/// Nothing has happened, or nothing more: how far the follower is, and how far the logs go.
#[derive(Debug, Serialize)]
pub struct HeartbeatDoc {
    r#type: &'static str,
    id: String,
    heads: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
}

impl HeartbeatDoc {
    /// What a follower at `position` is told.
    pub fn new(feed: &Feed, position: &Position) -> Self {
        let heads = feed.heads();
        let head = |(origin, version): (_, crate::version::Version)| {
            (feed.name_of(origin).to_string(), version.to_string())
        };
        Self {
            r#type: "heartbeat",
            id: Mark::of(feed.set_id(), position.clone()).to_string(),
            heads: heads.iter().map(head).collect(),
            lag: feed.lag(position),
        }
    }
}

/// The follower has to begin again.
#[derive(Debug, Serialize)]
pub struct ResetDoc {
    r#type: &'static str,
    reason: &'static str,
}

impl ResetDoc {
    /// Why that is so.
    pub const fn new(reason: &'static str) -> Self {
        Self { r#type: "reset", reason }
    }
}

/// A page around events that are JSON already.
pub fn page(events: &[Bytes], next: &Mark, more: bool, lag: Option<u64>) -> Bytes {
    #[derive(Serialize)]
    struct Rest {
        next: String,
        more: bool,
        snapshot: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        lag: Option<u64>,
    }
    let snapshot = next.position.seen().is_none();
    let rest = answer::json_bytes(&Rest { next: next.to_string(), more, snapshot, lag });
    let mut page =
        Vec::with_capacity(32 + rest.len() + events.iter().map(Bytes::len).sum::<usize>());
    page.extend(b"{\"events\":[");
    for (nth, event) in events.iter().enumerate() {
        page.extend(if nth == 0 { &b""[..] } else { b"," });
        page.extend(event);
    }
    page.extend(b"],");
    // The rest is an object of its own: what stands behind its brace goes on here.
    page.extend(&rest[1..]);
    page.into()
}
