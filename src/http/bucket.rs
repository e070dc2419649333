//! `/bucket/{key}`: one value. Reads are lazy, from any partition that satisfies the request;
//! writes go to the key's master.
//!
//! | method | answers |
//! |---|---|
//! | GET, HEAD | 200, 304, 404, 406, 412; the bytes and the type as they were put |
//! | POST | always 201, `Location`, the path as the body |
//! | PUT | 201 (as POST) when nothing was visible, else 204 |
//! | DELETE | 202 `accepted`, 404 |
//! | OPTIONS | 204 with `Allow` |
//!
//! All that can be wrong with a request is looked at before anything is read or written, and before
//! a byte of its body is taken. An over-long key cannot exist: reading it is a 404, writing it a
//! 400.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::body::{self, Budget};
use super::code::Code;
use super::conditions::{self, Conditions, Verdict};
use super::error::Problem;
use super::media::{self, Declared};
use super::negotiate::Accept;
use super::query::Query;
use super::{HttpLimits, answer, paths, session};
use crate::merge::MergeError;
use crate::record::{Body, Key, KeyError, Record};
use crate::store::Store;
use crate::store::answer::Written;
use crate::write::{Change, Outcome, Write};

/// What may be done with a value.
const ALLOW: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// Answers one request.
pub async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    store: web::Data<Store>,
    limits: web::Data<HttpLimits>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let place = Place { request: &request, store: &store, limits: &limits, budget: &budget };
    let answered = match *request.method() {
        Method::GET | Method::HEAD => place.read().await,
        Method::POST | Method::PUT => place.set(payload).await,
        Method::DELETE => place.delete().await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// One request and what it is answered with.
struct Place<'a> {
    request: &'a HttpRequest,
    store: &'a Store,
    limits: &'a HttpLimits,
    budget: &'a Arc<Budget>,
}

impl Place<'_> {
    fn key(&self) -> Result<Result<Key, KeyError>, Problem> {
        let path = self.request.uri().path();
        let Some(rest) = path.strip_prefix(paths::BUCKET) else {
            // Spelt with escapes where none are needed: matched, but not our spelling.
            return Err(super::unknown_path(path));
        };
        let bytes = paths::decode(rest)?;
        if paths::is_unreachable(&bytes) {
            let detail = "the keys . and .. cannot be reached by a path";
            return Err(Problem::new(Code::KeyUnreachable, detail));
        }
        Ok(Key::data(bytes, self.limits.key_bytes_max))
    }

    async fn read(&self) -> Result<HttpResponse, Problem> {
        let headers = self.request.headers();
        let accept = Accept::of(headers)?;
        let query = Query::parse(self.request.uri().query(), &[session::PARTITION])?;
        let conditions = Conditions::of(headers)?;
        let token = session::token(headers, self.store.set_id())?;
        let key = self.key()?.map_err(|error| Problem::new(Code::NotFound, error.to_string()))?;
        let need = session::need(&query, token.as_ref());
        let read = self.store.get(&key, &need, token.as_ref()).await?;
        let shown = match &read.record {
            Some(record) => self.show(record, &accept, &conditions),
            None => Err(not_found(&key)),
        };
        let mut response = shown.unwrap_or_else(|problem| problem.respond(headers));
        answer::tell_source(response.headers_mut(), &read.served_by, &read.session);
        answer::tell_age(response.headers_mut());
        if let Some(record) = &read.record {
            answer::tell_version(response.headers_mut(), record.version);
        }
        Ok(response)
    }

    fn show(
        &self,
        record: &Record,
        accept: &Accept,
        conditions: &Conditions,
    ) -> Result<HttpResponse, Problem> {
        let Some(body) = &record.body else { return Err(not_found(&record.key)) };
        if accept.choose_equal(&[&media::parse_stored(&body.content_type)]).is_none() {
            return Err(Problem::not_acceptable(&body.content_type));
        }
        match conditions.for_read(record.version, &conditions::etag(record.version)) {
            Verdict::Failed => return Err(precondition_failed(Some(record.version.to_string()))),
            Verdict::NotModified => return Ok(HttpResponse::NotModified().finish()),
            Verdict::Proceed => {}
        }
        let mut response = HttpResponse::Ok();
        let octets = HeaderValue::from_static("application/octet-stream");
        let kind = HeaderValue::from_str(&body.content_type).unwrap_or(octets);
        response.insert_header((CONTENT_TYPE, kind));
        Ok(response.body(body::answer(body.value.clone(), self.budget)?))
    }

    async fn set(&self, payload: web::Payload) -> Result<HttpResponse, Problem> {
        let headers = self.request.headers();
        Query::none(self.request.uri().query())?;
        let key = self.key()??;
        let declared = Declared::of(headers)?;
        let condition = Conditions::of(headers)?.for_write();
        let token = session::token(headers, self.store.set_id())?;
        let (value, _held) = body::read(headers, payload, self.limits, self.budget).await?;
        let path = paths::emit(paths::BUCKET, key.bytes());
        let is_put = self.request.method() == Method::PUT;
        let change = Change::Set(stored_body(declared, value));
        let write = Write { condition, tell_created: is_put, ..Write::new(key, change) };
        let written = self.store.write(write, token.as_ref()).await?;
        let response = match written.outcome {
            Outcome::Written { created, .. } if is_put && created != Some(true) => {
                HttpResponse::NoContent().finish()
            }
            Outcome::Written { .. } => created(&path, self.request),
            Outcome::Deleted { .. }
            | Outcome::Absent
            | Outcome::Unmet { .. }
            | Outcome::Unmergeable { .. } => unmade(&written.outcome).respond(headers),
        };
        Ok(told(response, &written))
    }

    async fn delete(&self) -> Result<HttpResponse, Problem> {
        let headers = self.request.headers();
        Query::none(self.request.uri().query())?;
        let key = self.key()??;
        let condition = Conditions::of(headers)?.for_write();
        let token = session::token(headers, self.store.set_id())?;
        let missing = not_found(&key);
        let write = Write { condition, ..Write::delete(key) };
        let written = self.store.write(write, token.as_ref()).await?;
        let response = match written.outcome {
            Outcome::Deleted { .. } => answer::message(StatusCode::ACCEPTED, "accepted", headers),
            // Without the precondition this were a 404, so it is one (RFC 9110 section 13.2.1).
            Outcome::Absent | Outcome::Unmet { current: None } => missing.respond(headers),
            Outcome::Written { .. } | Outcome::Unmet { .. } | Outcome::Unmergeable { .. } => {
                unmade(&written.outcome).respond(headers)
            }
        };
        Ok(told(response, &written))
    }
}

fn stored_body(declared: Declared, value: Bytes) -> Body {
    Body { content_type: declared.stored(&value), value, expires_at: None }
}

fn created(path: &str, request: &HttpRequest) -> HttpResponse {
    let mut response = answer::message(StatusCode::CREATED, path, request.headers());
    let location = HeaderValue::from_str(path).expect("an emitted path is visible ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Tells who judged the write, what the writer has seen, and the version that stands, where known.
fn told(mut response: HttpResponse, written: &Written) -> HttpResponse {
    let headers = response.headers_mut();
    answer::tell_source(headers, &written.served_by, &written.session);
    match &written.outcome {
        Outcome::Written { version, .. } | Outcome::Deleted { version } => {
            answer::tell_version(headers, *version);
        }
        Outcome::Unmet { current: Some(version) }
        | Outcome::Unmergeable { current: version, .. } => {
            answer::tell_version(headers, *version);
        }
        Outcome::Unmet { current: None } | Outcome::Absent => {}
    }
    response
}

/// Why a write left everything as it was.
fn unmade(outcome: &Outcome) -> Problem {
    match outcome {
        Outcome::Unmet { current } => precondition_failed(current.map(|v| v.to_string())),
        Outcome::Absent => Problem::new(Code::NotFound, "there is no value under this key"),
        Outcome::Unmergeable { error, .. } => unmergeable(*error),
        // A set is never answered by a tombstone, nor a delete by a value: a master that says so
        // has done something, and nobody knows what.
        Outcome::Written { .. } | Outcome::Deleted { .. } => {
            Problem::new(Code::OutcomeUnknown, "the answer does not fit the request")
        }
    }
}

fn unmergeable(error: MergeError) -> Problem {
    let code = match error {
        MergeError::NotJson
        | MergeError::TooDeep
        | MergeError::TooMany
        | MergeError::NamedTwice => Code::Unmergeable,
        MergeError::TooLarge { .. } => Code::ValueTooLarge,
    };
    Problem::new(code, format!("what stands cannot be merged with the patch: {error}"))
}

fn not_found(key: &Key) -> Problem {
    let path = paths::emit(paths::BUCKET, key.bytes());
    Problem::new(Code::NotFound, format!("there is no value under {path}"))
}

fn precondition_failed(current: Option<String>) -> Problem {
    let stands = match current {
        Some(version) => format!("what stands has ETag \"{version}\""),
        None => "nothing stands under this key".to_owned(),
    };
    Problem::new(Code::PreconditionFailed, format!("the precondition does not hold: {stands}"))
}
