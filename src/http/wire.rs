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
use crate::sync::report::{Pair, Report};

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
fn role(health: &Health) -> String {
    health.role.map_or_else(|| "copy".to_owned(), |role| role.to_string())
}

/// What a round of sync passes did; round 0 stands for "none yet".
#[derive(Debug, Serialize)]
pub struct ReportDoc<'a> {
    round: u64,
    started_at: Option<String>,
    took_ms: Option<u64>,
    pairs: Vec<PairDoc<'a>>,
}

impl<'a> ReportDoc<'a> {
    /// Before the first round.
    pub const NONE: Self = Self { round: 0, started_at: None, took_ms: None, pairs: Vec::new() };

    /// One finished round.
    pub fn new(report: &'a Report) -> Self {
        Self {
            round: report.round,
            started_at: Some(rfc3339::format(report.started_ms)),
            took_ms: Some(u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX)),
            pairs: report.pairs.iter().map(PairDoc::new).collect(),
        }
    }
}

/// One target that pulled from one source.
#[derive(Debug, Serialize)]
struct PairDoc<'a> {
    target: &'a str,
    source: Option<&'a str>,
    rows: usize,
    bytes: usize,
    lag: u64,
    /// Not measured yet.
    age_ms: Option<u64>,
    error: Option<&'a str>,
}

impl<'a> PairDoc<'a> {
    fn new(pair: &'a Pair) -> Self {
        Self {
            target: &pair.target,
            source: pair.source.as_deref(),
            rows: pair.rows,
            bytes: pair.bytes,
            lag: pair.lag,
            age_ms: None,
            error: pair.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_report_has_a_row_per_pair() {
        let pair = Pair {
            target: "b".into(),
            source: Some("a".into()),
            rows: 2,
            bytes: 300,
            lag: 1,
            error: None,
        };
        let unreachable = Pair {
            source: None,
            error: Some("cannot be reached"),
            rows: 0,
            bytes: 0,
            lag: 0,
            ..pair.clone()
        };
        let report = Report {
            round: 7,
            started_ms: 1_000_000_000_123,
            took: Duration::from_millis(15),
            pairs: vec![pair, unreachable],
        };
        assert_eq!(
            serde_json::to_value(ReportDoc::new(&report)).unwrap(),
            json!({
                "round": 7, "started_at": "2001-09-09T01:46:40.123Z", "took_ms": 15,
                "pairs": [
                    {"target": "b", "source": "a", "rows": 2, "bytes": 300, "lag": 1,
                     "age_ms": null, "error": null},
                    {"target": "b", "source": null, "rows": 0, "bytes": 0, "lag": 0,
                     "age_ms": null, "error": "cannot be reached"},
                ],
            })
        );
        assert_eq!(
            serde_json::to_value(ReportDoc::NONE).unwrap(),
            json!({"round": 0, "started_at": null, "took_ms": null, "pairs": []})
        );
    }
}
