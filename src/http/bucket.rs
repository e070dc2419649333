//! `/bucket/{key}` and `/canonicalbucket/{key}`: one value; [`Way`] tells what sets the two apart.
//!
//! | method | answers |
//! |---|---|
//! | GET, HEAD | 200, 304, 404, 406, 412; the bytes and the type as they were put, or a rendering |
//! | POST | always 201, `Location`, the path as the body |
//! | PUT | 201 (as POST) when nothing was visible, else 204 |
//! | PATCH | 204, 404; 409 where what stands cannot be merged |
//! | DELETE | 202 `accepted`, 404 |
//! | OPTIONS | 204 with `Allow` |
//!
//! All that can be wrong with a request is looked at before anything is read or written, and before
//! a byte of its body is taken. An over-long key cannot exist: reading it is a 404, writing it a
//! 400.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::answer::Told;
use super::body::{self, Budget};
use super::code::Code;
use super::conditions::{self, Conditions, Verdict};
use super::error::Problem;
use super::media::{ACCEPT_PATCH, Declared, MERGE_PATCH};
use super::negotiate::Accept;
use super::query::Query;
use super::render::Form;
use super::verb::{self, Verb};
use super::way::{ACK, Way};
use super::{HttpLimits, answer, explain, paths, session};
use crate::record::{Body, Key, KeyError, Record};
use crate::store::Store;
use crate::write::{Change, Write};

/// What may be done with a value.
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What the requests of one worker share.
pub struct Parts {
    /// Where the values are.
    pub store: web::Data<Store>,
    /// What a request may cost.
    pub limits: web::Data<HttpLimits>,
    /// What all of them may cost together.
    pub budget: web::Data<Budget>,
}

/// Answers one request.
pub async fn serve(parts: &Parts, request: &HttpRequest, payload: Payload) -> HttpResponse {
    let Parts { store, limits, budget } = parts;
    Place { way: Way::of(request), request, store, limits, budget }.serve(payload).await
}

/// One request and what it is answered with.
struct Place<'a> {
    way: Way,
    request: &'a HttpRequest,
    store: &'a Store,
    limits: &'a HttpLimits,
    budget: &'a Arc<Budget>,
}

impl Place<'_> {
    async fn serve(&self, payload: Payload) -> HttpResponse {
        let answered = match *self.request.method() {
            Method::GET | Method::HEAD => self.read().await,
            // Apart: a future is as large as the largest that it may hold, and each is moved.
            Method::POST => Box::pin(self.write(Verb::Post, payload)).await,
            Method::PUT => Box::pin(self.write(Verb::Put, payload)).await,
            Method::PATCH => Box::pin(self.write(Verb::Patch, payload)).await,
            Method::DELETE => Box::pin(self.write(Verb::Delete, payload)).await,
            Method::OPTIONS => {
                let mut options = answer::options(ALLOW);
                let patch = HeaderValue::from_static(MERGE_PATCH);
                options.headers_mut().insert(ACCEPT_PATCH.clone(), patch);
                Ok(options)
            }
            _ => Err(Problem::method_not_allowed(ALLOW)),
        };
        answered.unwrap_or_else(|problem| problem.respond(self.request.headers()))
    }

    fn key(&self) -> Result<Result<Key, KeyError>, Problem> {
        let path = self.request.uri().path();
        let Some(rest) = path.strip_prefix(self.way.base()) else {
            // Spelt with escapes where none are needed: matched, but not our spelling.
            return Err(super::unknown_path(path));
        };
        let bytes = paths::decode(rest)?;
        if paths::is_unreachable(&bytes) {
            let detail = "the keys . and .. cannot be reached by a path; POST /batch reaches them";
            return Err(Problem::new(Code::KeyUnreachable, detail));
        }
        Ok(Key::data(bytes, self.limits.key_bytes_max))
    }

    async fn read(&self) -> Result<HttpResponse, Problem> {
        let headers = self.request.headers();
        let accept = Accept::of(headers)?;
        let query = match self.request.uri().query() {
            Some(query) => {
                let known = [&[explain::EXPLAIN], self.way.read_parameters()].concat();
                Query::parse(Some(query), &known)?
            }
            None => Query::default(),
        };
        let conditions = Conditions::of(headers)?;
        let token = session::token(headers, &query, self.store.set_id())?;
        let need = self.way.need(&query, headers, token.as_ref())?;
        let is_explained = query.switch(explain::EXPLAIN)?;
        let key = self.key()?.map_err(|error| Problem::new(Code::NotFound, error.to_string()))?;
        if is_explained {
            let told = explain::answer(self.store, &key, &need, token.as_ref());
            return Ok(Box::pin(told).await);
        }
        let mut read = self.store.get(&key, &need, token.as_ref()).await?;
        let expires_at = read.record.as_ref().and_then(Record::expires_at);
        let shown = match &mut read.record {
            Some(record) => self.show(record, &accept, &conditions),
            None => Err(verb::not_found(&key)),
        };
        let (mut response, etag) = match shown {
            Ok((response, etag)) => (response, Some(etag)),
            Err(problem) => (problem.respond(headers), None),
        };
        let mut told = Told::default();
        told.source(&read.served_by.name, &read.session);
        told.age(read.age);
        if let Some(record) = &read.record {
            told.version(record.version, etag.as_deref());
            told.stored(record);
            told.expiry(expires_at);
        }
        told.put_into(response.headers_mut());
        session::keep(response.headers_mut(), &query);
        Ok(response)
    }

    /// The answer that carries the value, which is taken out of its row, and its tag.
    fn show(
        &self,
        record: &mut Record,
        accept: &Accept,
        conditions: &Conditions,
    ) -> Result<(HttpResponse, String), Problem> {
        let Some(body) = record.body.take() else { return Err(verb::not_found(&record.key)) };
        let form = Form::choose(accept, &body.content_type)?;
        let etag = conditions::etag_of(record.version, form.variant());
        let response = match conditions.for_read(record.version, &etag) {
            Verdict::Failed => return Err(verb::precondition_failed(Some(record.version))),
            Verdict::NotModified => HttpResponse::NotModified().finish(),
            Verdict::Proceed => {
                let (kind, bytes) = form.render(body);
                let bytes = body::answer(bytes, self.budget)?;
                HttpResponse::Ok().insert_header((CONTENT_TYPE, kind)).body(bytes)
            }
        };
        Ok((response, etag))
    }

    async fn write(&self, verb: Verb, payload: Payload) -> Result<HttpResponse, Problem> {
        let headers = self.request.headers();
        let known: &[&'static str] = match verb {
            Verb::Post | Verb::Put | Verb::Patch => &[ACK, session::KEEP, verb::TTL],
            Verb::Delete => &[ACK, session::KEEP],
        };
        let query = Query::parse(self.request.uri().query(), known)?;
        let key = self.key()??;
        let (ack, ttl) = (self.way.ack(&query)?, verb::ttl(&query)?);
        let sent = match verb {
            Verb::Post | Verb::Put => Some(Declared::of(headers)?),
            Verb::Patch => Some(Declared::of_patch(headers)?),
            Verb::Delete => None,
        };
        let condition = Conditions::of(headers)?.for_write();
        let token = session::token(headers, &query, self.store.set_id())?;
        let (change, _held) = match sent {
            Some(declared) => {
                let (value, held) = body::read(headers, payload, self.limits, self.budget).await?;
                (self.change(verb, declared, value)?, Some(held))
            }
            None => (Change::Delete, None),
        };
        let tell_created = verb == Verb::Put;
        let write = Write { condition, ttl, tell_created, ..Write::new(key.clone(), change) };
        let written = self.store.write(write, ack, token.as_ref()).await?;
        let mut response = match verb.answered(&written.outcome, &key) {
            Ok(StatusCode::CREATED) => created(&key, self.request),
            Ok(status @ StatusCode::ACCEPTED) => answer::message(status, "accepted", headers),
            Ok(status) => HttpResponse::new(status),
            Err(problem) => problem.respond(headers),
        };
        let mut told = Told::default();
        told.written(&written);
        told.put_into(response.headers_mut());
        session::keep(response.headers_mut(), &query);
        Ok(response)
    }

    fn change(&self, verb: Verb, declared: Declared, value: Bytes) -> Result<Change, Problem> {
        if verb == Verb::Patch && declared.is_merge_patch() {
            return declared.merge(value, self.limits.value_bytes_max);
        }
        let content_type = declared.stored(&value);
        let body = Body { content_type, value, expires_at: None };
        Ok(if verb == Verb::Patch { Change::Update(body) } else { Change::Set(body) })
    }
}

fn created(key: &Key, request: &HttpRequest) -> HttpResponse {
    let path = paths::emit(paths::BUCKET, key.bytes());
    let mut response = answer::message(StatusCode::CREATED, &path, request.headers());
    let location = HeaderValue::from_str(&path).expect("an emitted path is visible ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}
