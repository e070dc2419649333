//! Batches as they go over the wire.
//!
//! In: `{"operations": [{"op": "get|set|update|delete", "key" | "key_base64", "value" |
//! "value_base64", "content_type", "ttl", "if_match", "if_none_match"}]}`; out: `{"results":
//! [{"status", "etag", "value" | "value_base64", "content_type", "expires_at", "acks", "error"}]}`,
//! in the same order. Or both as lines, an operation each. What is not known, or stands twice, is
//! an error: a misspelt condition must not turn into none.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::HttpLimits;
use super::batch::{OPERATIONS_MAX, Operation};
use super::code::Code;
use super::conditions::{self, Conditions};
use super::error::{Problem, shown};
use super::list_form::NDJSON as LINES;
use super::media::Declared;
use super::verb::{self, Verb};
use super::wire::{ProblemDoc, text_or_base64};
use super::{answer, rfc3339};
use crate::duration;
use crate::record::{Body, Key, KeyError};
use crate::store::answer::Acks;
use crate::version::Version;
use crate::write::{Change, Write};

/// How a batch is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One object.
    Json,
    /// An operation a line, an outcome a line.
    Lines,
}

impl Encoding {
    /// What the request's headers say; without a type, or under the one that `curl -d` adds: JSON.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = match Declared::of(headers)? {
            Declared::Untold => return Ok(Self::Json),
            Declared::As(text) => text,
        };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            LINES | "application/ndjson" | "application/jsonl" => Ok(Self::Lines),
            _ => {
                let given = shown(essence.as_bytes());
                let detail = format!("a batch is application/json or {LINES}, not {given}");
                Err(Problem::new(Code::UnsupportedBatch, detail))
            }
        }
    }

    /// The media type of the answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => LINES,
        }
    }

    /// The answer, from the outcomes as JSON.
    pub fn join(self, docs: &[Bytes]) -> Bytes {
        let size = docs.iter().map(|doc| doc.len() + 1).sum::<usize>() + 16;
        let mut joined = Vec::with_capacity(size);
        match self {
            Self::Json => {
                joined.extend_from_slice(b"{\"results\":[");
                joined.extend_from_slice(&docs.join(&b","[..]));
                joined.extend_from_slice(b"]}");
            }
            Self::Lines => {
                for doc in docs {
                    joined.extend_from_slice(doc);
                    joined.push(b'\n');
                }
            }
        }
        joined.into()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchDoc<'a> {
    #[serde(borrow)]
    operations: Bounded<'a>,
}

/// At most [`OPERATIONS_MAX`] operations; reading stops at the next.
struct Bounded<'a>(Vec<OperationDoc<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Bounded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Bounded<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut operations = Vec::new();
                while let Some(operation) = seq.next_element()? {
                    if operations.len() == OPERATIONS_MAX {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    operations.push(operation);
                }
                Ok(Bounded(operations))
            }
        }
        deserializer.deserialize_seq(Read)
    }
}

const TOO_MANY: &str = "a batch has at most 1000 operations";

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Set,
    Update,
    Delete,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperationDoc<'a> {
    op: Op,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    key_base64: Option<Cow<'a, str>>,
    value: Option<Cow<'a, str>>,
    value_base64: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    ttl: Option<TtlDoc>,
    if_match: Option<Cow<'a, str>>,
    if_none_match: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TtlDoc {
    Seconds(u64),
    Text(String),
}

/// Reads a batch whole; the first thing that is wrong with it is the answer.
pub fn parse(
    encoding: Encoding,
    text: &[u8],
    limits: &HttpLimits,
) -> Result<Vec<Operation>, Problem> {
    match encoding {
        Encoding::Json => {
            let doc: BatchDoc<'_> = serde_json::from_slice(text).map_err(|e| unreadable("", &e))?;
            let operations = doc.operations.0.into_iter().enumerate();
            let read = |(nth, doc): (usize, OperationDoc<'_>)| {
                doc.read(limits).map_err(|problem| problem.in_batch(&format!("operations[{nth}]")))
            };
            operations.map(read).collect()
        }
        Encoding::Lines => {
            let mut operations = Vec::new();
            for (nth, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                if operations.len() == OPERATIONS_MAX {
                    return Err(Problem::new(Code::BadBatch, TOO_MANY));
                }
                let place = format!("line {nth}");
                let doc: OperationDoc<'_> =
                    serde_json::from_slice(line).map_err(|e| unreadable(&place, &e))?;
                operations.push(doc.read(limits).map_err(|problem| problem.in_batch(&place))?);
            }
            Ok(operations)
        }
    }
}

fn unreadable(place: &str, error: &serde_json::Error) -> Problem {
    // The message may repeat what was sent.
    let mut text = error.to_string();
    if text.chars().count() > 200 {
        text = text.chars().take(200).chain("...".chars()).collect();
    }
    let problem = Problem::new(Code::BadBatch, text);
    if place.is_empty() { problem } else { problem.in_batch(place) }
}

impl OperationDoc<'_> {
    fn read(self, limits: &HttpLimits) -> Result<Operation, Problem> {
        let malformed = |detail: &str| Err(Problem::new(Code::BadBatch, detail));
        let conditions =
            Conditions::of_texts(self.if_match.as_deref(), self.if_none_match.as_deref())?;
        let key = bytes("key", self.key, self.key_base64)?;
        let Some(key) = key else { return malformed("an operation has a key or a key_base64") };
        let key = Key::data(key, limits.key_bytes_max);
        let value = bytes("value", self.value, self.value_base64)?;
        let (verb, value) = match (self.op, value) {
            (Op::Get | Op::Delete, Some(_)) => {
                return malformed("only set and update have a value");
            }
            (Op::Get, None) if self.ttl.is_some() || self.content_type.is_some() => {
                return malformed("a get has neither a ttl nor a content_type");
            }
            (Op::Get, None) => {
                return match key {
                    Ok(key) => Ok(Operation::Get(key, conditions)),
                    Err(error @ KeyError::TooLong { .. }) => Ok(Operation::Impossible(error)),
                    Err(error @ KeyError::Empty) => Err(error.into()),
                };
            }
            (Op::Delete, None) if self.ttl.is_some() || self.content_type.is_some() => {
                return malformed("a delete has neither a ttl nor a content_type");
            }
            (Op::Delete, None) => (Verb::Delete, Bytes::new()),
            (Op::Set | Op::Update, None) => {
                return malformed("a set or an update has a value or a value_base64");
            }
            (Op::Set, Some(value)) => (Verb::Post, value),
            (Op::Update, Some(value)) => (Verb::Patch, value),
        };
        let declared = match self.content_type.as_deref() {
            Some(text) => Declared::parse(text.as_bytes())?,
            None => Declared::Untold,
        };
        let change = change(verb, declared, value, limits.value_bytes_max)?;
        let ttl = self.ttl.map(TtlDoc::read).transpose()?;
        let condition = conditions.for_write();
        Ok(Operation::Write(verb, Write { condition, ttl, ..Write::new(key?, change) }))
    }
}

fn change(
    verb: Verb,
    declared: Declared,
    value: Bytes,
    value_bytes_max: usize,
) -> Result<Change, Problem> {
    if verb == Verb::Delete {
        return Ok(Change::Delete);
    }
    if verb == Verb::Patch {
        declared.check_patch()?;
        if declared.is_merge_patch() {
            return declared.merge(value, value_bytes_max);
        }
    }
    let content_type = declared.stored(&value);
    let body = Body { content_type, value, expires_at: None };
    Ok(if verb == Verb::Patch { Change::Update(body) } else { Change::Set(body) })
}

/// Bytes under one of two names.
fn bytes(
    name: &str,
    text: Option<Cow<'_, str>>,
    base64: Option<Cow<'_, str>>,
) -> Result<Option<Bytes>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            let detail = format!("an operation has a {name} or a {name}_base64, not both");
            Err(Problem::new(Code::BadBatch, detail))
        }
        (Some(text), None) => Ok(Some(text.into_owned().into())),
        (None, Some(base64)) => match STANDARD.decode(base64.as_bytes()) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => {
                let detail = format!("{name}_base64 is not base64 with its padding");
                Err(Problem::new(Code::BadBatch, detail))
            }
        },
        (None, None) => Ok(None),
    }
}

impl TtlDoc {
    fn read(self) -> Result<Duration, Problem> {
        let ttl = match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Self::Text(text) => duration::parse(&text).ok(),
        };
        ttl.filter(|ttl| *ttl <= verb::TTL_MAX && !ttl.is_zero()).ok_or_else(|| {
            let max = duration::format(verb::TTL_MAX);
            let detail = format!("ttl must be a duration such as 30s or 1h30m, at most {max}");
            Problem::new(Code::BadBatch, detail)
        })
    }
}

/// What became of one operation.
#[derive(Debug, Serialize)]
pub struct ResultDoc<'a> {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemDoc<'a>>,
}

impl<'a> ResultDoc<'a> {
    /// The outcome of one operation, with what it shows.
    pub fn new(
        status: StatusCode,
        version: Option<Version>,
        acks: Option<Acks>,
        body: Option<&'a Body>,
        problem: Option<&'a Problem>,
    ) -> Self {
        let value = body.map(|body| text_or_base64(&body.value));
        let (value, value_base64) = value.unwrap_or_default();
        Self {
            status: status.as_u16(),
            etag: version.map(conditions::etag),
            value,
            value_base64,
            content_type: body.map(|body| body.content_type.as_str()),
            expires_at: body.and_then(|body| body.expires_at).map(rfc3339::format),
            acks: acks.map(answer::acks),
            error: problem.map(Problem::doc),
        }
    }
}
