//! How answers are put together: bodies, and the headers that tell where an answer comes from.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{AGE, ALLOW, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use mime::Mime;
use serde::Serialize;
use smallvec::SmallVec;

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

/// What an answer tells about itself in headers. Their texts share one piece of memory: a read has
/// half a dozen of them.
pub struct Told {
    texts: String,
    /// Each header, and where its text ends.
    ends: SmallVec<[(&'static HeaderName, usize); 8]>,
}

impl Default for Told {
    /// Nothing yet; with room for what a read tells.
    fn default() -> Self {
        Self { texts: String::with_capacity(192), ends: SmallVec::new() }
    }
}

impl Told {
    /// Who answered and what the client has seen now.
    pub fn source(&mut self, served_by: &str, session: &Token) {
        self.texts.push_str(served_by);
        self.end(&PARTITION);
        self.session(session);
    }

    /// What the client has seen now.
    pub fn session(&mut self, session: &Token) {
        session.push_to(&mut self.texts);
        self.end(&SESSION);
    }

    /// Which version was read or written, and the tag of its stored form or of what was rendered.
    pub fn version(&mut self, version: Version, rendered: Option<&str>) {
        version.push_to(&mut self.texts);
        self.end(&VERSION);
        match rendered {
            Some(etag) => self.texts.push_str(etag),
            None => conditions::push_etag(&mut self.texts, version, None),
        }
        self.end(&ETAG);
    }

    /// When the partition that answered stored what was read, by its own clock: for people only.
    pub fn stored(&mut self, record: &Record) {
        rfc3339::push(&mut self.texts, record.stored_at.0);
        self.end(&UPDATED);
    }

    /// When a value ceases to be visible, if it does.
    pub fn expiry(&mut self, expires_at: Option<i64>) {
        if let Some(at) = expires_at {
            rfc3339::push(&mut self.texts, at);
            self.end(&EXPIRES);
        }
    }

    /// Who judged a write, what the writer has seen, the version that stands, where known, and how
    /// many hold what was written.
    pub fn written(&mut self, written: &Written) {
        self.source(&written.served_by.name, &written.session);
        if let Some(version) = version_of(&written.outcome) {
            self.version(version, None);
        }
        if let Some(held) = written.acks.map(acks) {
            self.texts.push_str(&held);
            self.end(&ACKS);
        }
    }

    /// How old what was read may be: in milliseconds, and in seconds as HTTP has it. Both are
    /// bounds, so both are rounded up.
    pub fn age(&mut self, age: Option<Duration>) {
        let Some(age) = age else {
            self.texts.push_str("unknown");
            return self.end(&DATASTORE_AGE);
        };
        let ms = age_ms(age);
        let mut digits = itoa::Buffer::new();
        self.texts.push_str(digits.format(ms));
        self.end(&DATASTORE_AGE);
        self.texts.push_str(digits.format(ms.div_ceil(1000)));
        self.end(&AGE);
    }

    /// What was added since the last one is the text of `name`.
    fn end(&mut self, name: &'static HeaderName) {
        self.ends.push((name, self.texts.len()));
    }

    /// Puts it into an answer.
    pub fn put_into(self, headers: &mut HeaderMap) {
        let (texts, mut begin) = (Bytes::from(self.texts), 0);
        for (name, end) in self.ends {
            // Versions, tokens and partition names are visible ASCII; what is not is left out.
            if let Ok(value) = HeaderValue::from_maybe_shared(texts.slice(begin..end)) {
                headers.insert(name.clone(), value);
            }
            begin = end;
        }
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

/// An age in milliseconds, rounded up.
pub fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
