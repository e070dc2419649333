//! How answers are put together: bodies, and the headers that tell where an answer comes from.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{AGE, ALLOW, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use mime::Mime;
use serde::Serialize;

use super::negotiate::Accept;
use super::render::Form;
use super::{conditions, rfc3339};
use crate::record::Record;
use crate::store::answer::{Acks, Written};
use crate::vector::Token;
use crate::version::Version;
use crate::write::Outcome;

/// Comes in with what the client has seen, goes out with what it has seen now.
pub static SESSION: HeaderName = HeaderName::from_static("datastore-session");
static VERSION: HeaderName = HeaderName::from_static("datastore-version");
static PARTITION: HeaderName = HeaderName::from_static("datastore-partition");
static UPDATED: HeaderName = HeaderName::from_static("datastore-updated");
static EXPIRES: HeaderName = HeaderName::from_static("datastore-expires");
static ACKS: HeaderName = HeaderName::from_static("datastore-acks");
/// How many keys there are, where a list was asked to count them.
pub static COUNT: HeaderName = HeaderName::from_static("datastore-count");
static DATASTORE_AGE: HeaderName = HeaderName::from_static("datastore-age");

/// Plain text.
pub fn text(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, mime::TEXT_PLAIN_UTF_8)).body(body)
}

/// A wire shape as JSON.
pub fn json(status: StatusCode, doc: &impl Serialize) -> HttpResponse {
    json_as(status, &mime::APPLICATION_JSON, doc)
}

/// A wire shape as JSON of a more specific type.
pub fn json_as(status: StatusCode, kind: &Mime, doc: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, kind.as_ref())).body(json_bytes(doc))
}

/// A wire shape as the bytes of its JSON.
pub fn json_bytes(doc: &impl Serialize) -> Bytes {
    serde_json::to_vec(doc).expect("wire shapes have string keys only").into()
}

/// The answer to a write: one line, as text unless another form is preferred. Never fails
/// negotiation.
pub fn message(status: StatusCode, message: &str, request: &HeaderMap) -> HttpResponse {
    let form = Form::choose_message(&Accept::lenient(request));
    let (kind, bytes) = form.render_text(message);
    HttpResponse::build(status).insert_header((CONTENT_TYPE, kind)).body(bytes)
}

/// The answer to OPTIONS.
pub fn options(allow: &'static str) -> HttpResponse {
    HttpResponse::NoContent().insert_header((ALLOW, allow)).finish()
}

/// Tells who answered and what the client has seen now.
pub fn tell_source(headers: &mut HeaderMap, served_by: &str, session: &Token) {
    put(headers, &PARTITION, served_by);
    tell_session(headers, session);
}

/// Tells what the client has seen now.
pub fn tell_session(headers: &mut HeaderMap, session: &Token) {
    put(headers, &SESSION, &session.text());
}

/// Tells which version was read or written, unless the tag of a rendering is told already.
pub fn tell_version(headers: &mut HeaderMap, version: Version) {
    let etag = conditions::etag(version);
    put(headers, &VERSION, &etag[1..etag.len() - 1]);
    if !headers.contains_key(ETAG) {
        put(headers, &ETAG, &etag);
    }
}

/// Tells when the partition that answered stored what was read, by its own clock: for people only.
pub fn tell_stored(headers: &mut HeaderMap, record: &Record) {
    put(headers, &UPDATED, &rfc3339::format(record.stored_at.0));
}

/// Tells when a value ceases to be visible, if it does.
pub fn tell_expiry(headers: &mut HeaderMap, expires_at: Option<i64>) {
    if let Some(at) = expires_at {
        put(headers, &EXPIRES, &rfc3339::format(at));
    }
}

/// Tells who judged a write, what the writer has seen, the version that stands, where known, and
/// how many hold what was written.
pub fn tell_written(headers: &mut HeaderMap, written: &Written) {
    tell_source(headers, &written.served_by.name, &written.session);
    if let Some(version) = version_of(&written.outcome) {
        tell_version(headers, version);
    }
    if let Some(held) = written.acks.map(acks) {
        put(headers, &ACKS, &held);
    }
}

/// The version that stands after a write, where it is known.
pub const fn version_of(outcome: &Outcome) -> Option<Version> {
    match outcome {
        Outcome::Written { version, .. }
        | Outcome::Deleted { version }
        | Outcome::Unmergeable { current: version, .. } => Some(*version),
        Outcome::Unmet { current } => *current,
        Outcome::Absent | Outcome::Damaged => None,
    }
}

/// How many of all data voters hold a write: `2/3`.
pub fn acks(acks: Acks) -> String {
    format!("{}/{}", acks.held, acks.voters)
}

/// Tells how old what was read may be: in milliseconds, and in seconds as HTTP has it. Both are
/// bounds, so both are rounded up.
pub fn tell_age(headers: &mut HeaderMap, age: Option<Duration>) {
    let Some(age) = age else {
        headers.insert(DATASTORE_AGE.clone(), HeaderValue::from_static("unknown"));
        return;
    };
    let ms = age_ms(age);
    let mut digits = itoa::Buffer::new();
    put(headers, &DATASTORE_AGE, digits.format(ms));
    put(headers, &AGE, digits.format(ms.div_ceil(1000)));
}

/// An age in milliseconds, rounded up.
pub fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    // Versions, tokens and partition names are all visible ASCII; what is not is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}
