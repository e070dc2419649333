//! JSON as it goes over the wire. Additions are free; what stands here stays.
//!
//! Nothing else in the crate has a JSON shape: domain types are copied into these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::code::Code;
use super::rfc3339;
use crate::record::Record;
use crate::store::Health;

/// RFC 9457 problem details.
#[derive(Debug, Serialize)]
pub struct ProblemDoc<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl<'a> ProblemDoc<'a> {
    /// The details of one problem.
    pub fn new(code: Code, detail: &'a str) -> Self {
        Self {
            r#type: code.path(),
            title: code.title(),
            status: code.status().as_u16(),
            detail,
            code: code.name(),
        }
    }
}

/// One thing to say, as the original system says it in JSON.
#[derive(Debug, Serialize)]
pub struct MessageDoc<'a> {
    /// What is said.
    pub message: &'a str,
    /// `base64`, where it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
}

/// A page of a list of keys.
#[derive(Debug, Serialize)]
pub struct ListDoc<'a> {
    /// The paths of the keys.
    pub message: &'a [String],
    /// Where the next page is; opaque.
    pub next: Option<&'a str>,
    /// How many keys there are, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Bytes in JSON: under one name where they are UTF-8, else in base64 under another.
pub fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// One row of a list.
#[derive(Debug, Serialize)]
pub struct RowDoc<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    content_type: Option<&'a str>,
    version: String,
    expires_at: Option<String>,
}

impl<'a> RowDoc<'a> {
    /// A row, with its value if that was read.
    pub fn new(row: &'a Record, with_value: bool) -> Self {
        let (key, key_base64) = text_or_base64(row.key.bytes());
        let body = row.body.as_ref();
        let value = body.filter(|_| with_value).map(|body| text_or_base64(&body.value));
        let (value, value_base64) = value.unwrap_or_default();
        Self {
            key,
            key_base64,
            value,
            value_base64,
            content_type: body.map(|body| body.content_type.as_str()),
            version: row.version.to_string(),
            expires_at: body.and_then(|body| body.expires_at).map(rfc3339::format),
        }
    }
}

/// Whether this front end should be sent requests.
#[derive(Debug, Serialize)]
pub struct ReadyDoc<'a> {
    /// `ready`, `degraded` (ready all the same), `unavailable` or `draining`.
    pub status: &'static str,
    /// What is in trouble.
    pub degraded: Vec<DegradedDoc<'a>>,
    /// What is wrong with how the set is made up, and what helps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<&'static str>,
}

/// A partition in trouble.
#[derive(Debug, Serialize)]
pub struct DegradedDoc<'a> {
    id: u16,
    name: &'a str,
    engine: String,
    role: String,
    slots: usize,
    readable: bool,
    writable: bool,
    trouble: Option<&'static str>,
}

impl<'a> DegradedDoc<'a> {
    /// What is known of its state.
    pub fn new(health: &'a Health) -> Self {
        Self {
            id: health.partition.id.0,
            name: &health.partition.name,
            engine: health.engine.to_string(),
            role: role(health),
            slots: health.slots,
            readable: health.readable,
            writable: health.writable,
            trouble: health.trouble,
        }
    }
}

/// What a partition is for, in one word.
pub fn role(health: &Health) -> String {
    health.role.map_or_else(|| "copy".to_owned(), |role| role.to_string())
}
