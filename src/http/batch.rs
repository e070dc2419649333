//! `/batch` and `/canonicalbatch`: many operations in one request, an outcome for each.
//!
//! `POST` takes gets, sets, updates and deletes; `QUERY` takes gets only. A batch is not atomic:
//! each operation stands for itself. It is read whole first, and if any of it is malformed nothing
//! is done. Operations on one key run in order, each seeing what those before it wrote; different
//! keys run at once, so that all that go to one master wait in its lane together and share commits.
//!
//! # Bounds
//!
//! A batch has at most [`OPERATIONS_MAX`] operations, and its body as many bytes as a value may
//! have. Its answer carries as many bytes of values; what does not fit is told to be asked for on
//! its own. Every value that was read counts against the budget of bodies until the answer is made.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::answer::Told;
use super::body::{self, Budget, Reservation};
use super::code::Code;
use super::conditions::{self, Conditions, Verdict};
use super::error::Problem;
use super::query::Query;
use super::verb::{self, Verb};
use super::way::{ACK, Way};
use super::wire_batch::{self, Encoding, ResultDoc};
use super::{HttpLimits, answer, session};
use crate::record::{Key, KeyError, Record};
use crate::store::Store;
use crate::store::answer::{Ack, Acks, Need, StoreError, Written};
use crate::vector::Token;
use crate::version::Version;
use crate::write::Write;

/// The most operations of a batch.
pub const OPERATIONS_MAX: usize = 1_000;

const ALLOW: &str = "POST, QUERY, OPTIONS";
/// Tells what QUERY takes.
static ACCEPT_QUERY: HeaderName = HeaderName::from_static("accept-query");

/// One operation that was found well-formed.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Reads a key.
    Get(Key, Conditions),
    /// Writes a key.
    Write(Verb, Write),
    /// A get of a key that cannot exist.
    Impossible(KeyError),
}

/// Answers one request.
pub async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    store: web::Data<Store>,
    limits: web::Data<HttpLimits>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let (way, store, budget) = (Way::of(&request), store.into_inner(), budget.into_inner());
    Parts { way, store, budget }.serve(request, payload, &limits).await
}

/// What the operations of a batch work with.
#[derive(Clone)]
struct Parts {
    way: Way,
    store: Arc<Store>,
    budget: Arc<Budget>,
}

/// What became of an operation.
#[derive(Debug)]
struct Done {
    status: StatusCode,
    version: Option<Version>,
    acks: Option<Acks>,
    /// A row that is shown, and the bytes that it holds of the budget.
    shown: Option<(Record, Reservation)>,
    problem: Option<Problem>,
}

impl Parts {
    async fn serve(
        &self,
        request: HttpRequest,
        payload: web::Payload,
        limits: &HttpLimits,
    ) -> HttpResponse {
        let answered = match request.method().as_str() {
            "POST" | "QUERY" => self.run(&request, payload, limits).await,
            _ if *request.method() == Method::OPTIONS => {
                let mut options = answer::options(ALLOW);
                let types = HeaderValue::from_static("application/json, application/x-ndjson");
                options.headers_mut().insert(ACCEPT_QUERY.clone(), types);
                Ok(options)
            }
            _ => Err(Problem::method_not_allowed(ALLOW)),
        };
        answered.unwrap_or_else(|problem| problem.respond(request.headers()))
    }

    async fn run(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        limits: &HttpLimits,
    ) -> Result<HttpResponse, Problem> {
        let headers = request.headers();
        let only_gets = *request.method() != Method::POST;
        let mut known = if only_gets { Vec::new() } else { vec![ACK] };
        known.extend(self.way.read_parameters());
        let query = Query::parse(request.uri().query(), &known)?;
        let ack = self.way.ack(&query)?;
        let encoding = Encoding::of(headers)?;
        let token = session::token(headers, &query, self.store.set_id())?;
        let need = self.way.need(&query, headers, token.as_ref())?;
        let (text, held) = body::read(headers, payload, limits, &self.budget).await?;
        let operations = wire_batch::parse(encoding, &text, limits)?;
        let is_get = |one: &Operation| !matches!(one, Operation::Write(..));
        if only_gets && !operations.iter().all(is_get) {
            let detail = "QUERY takes gets only; send the batch with POST";
            return Err(Problem::new(Code::BadBatch, detail));
        }
        let (done, seen) = self.carry_out(operations, (ack, need), token).await?;
        drop(held);
        let rendered = render(encoding, &done, limits.value_bytes_max);
        // The values are in the answer now, which is counted itself.
        drop(done);
        let mut response = HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, encoding.name()))
            .body(body::answer(rendered, &self.budget)?);
        let mut told = Told::default();
        told.session(&seen);
        told.put_into(response.headers_mut());
        session::keep(response.headers_mut(), &query);
        Ok(response)
    }

    /// Runs the operations of one key after the other, those of different keys at once.
    async fn carry_out(
        &self,
        operations: Vec<Operation>,
        (ack, need): (Ack, Need),
        token: Option<Token>,
    ) -> Result<(Vec<Done>, Token), Problem> {
        let mut chains: HashMap<Key, Vec<(usize, Operation)>> = HashMap::new();
        let mut done: Vec<Option<Done>> = Vec::new();
        for (place, operation) in operations.into_iter().enumerate() {
            let key = match &operation {
                Operation::Get(key, _) => key.clone(),
                Operation::Write(_, write) => write.key.clone(),
                Operation::Impossible(error) => {
                    let problem = Problem::new(Code::NotFound, error.to_string());
                    done.push(Some(Done::failed(problem)));
                    continue;
                }
            };
            done.push(None);
            chains.entry(key).or_default().push((place, operation));
        }
        let nothing = Token { set: self.store.set_id(), vector: Default::default() };
        let mut seen = token.clone().unwrap_or(nothing);
        let mut running = JoinSet::new();
        for chain in chains.into_values() {
            let (parts, need) = (self.clone(), need.clone());
            let (token, seen) = (token.clone(), seen.clone());
            running.spawn_local(parts.chain(chain, (ack, need), token, seen));
        }
        while let Some(finished) = running.join_next().await {
            let (results, token) = finished.map_err(|error| {
                tracing::error!(%error, "an operation of a batch broke off");
                Problem::new(Code::OutcomeUnknown, "an operation broke off")
            })?;
            seen.vector.join(&token.vector);
            for (place, result) in results {
                done[place] = Some(result);
            }
        }
        Ok((done.into_iter().flatten().collect(), seen))
    }

    /// The operations on one key, in order.
    async fn chain(
        self,
        operations: Vec<(usize, Operation)>,
        (ack, mut need): (Ack, Need),
        mut token: Option<Token>,
        mut seen: Token,
    ) -> (Vec<(usize, Done)>, Token) {
        let mut results = Vec::with_capacity(operations.len());
        for (place, operation) in operations {
            let result = match operation {
                Operation::Get(key, conditions) => {
                    self.get(&key, &conditions, (&need, token.as_ref()), &mut seen).await
                }
                Operation::Write(verb, write) => {
                    let key = write.key.clone();
                    match self.store.write(write, ack, token.as_ref()).await {
                        Ok(written) => {
                            token = Some(written.session.clone());
                            need.covers.join(&written.session.vector);
                            Done::written(&written, verb.answered(&written.outcome, &key))
                        }
                        Err(StoreError::AckUnmet(written)) => {
                            token = Some(written.session.clone());
                            need.covers.join(&written.session.vector);
                            let problem = StoreError::AckUnmet(written.clone()).into();
                            Done::written(&written, Err(problem))
                        }
                        Err(error) => Done::failed(error.into()),
                    }
                }
                Operation::Impossible(error) => Done::failed(error.into()),
            };
            if let Some(token) = &token {
                seen.vector.join(&token.vector);
            }
            results.push((place, result));
        }
        (results, seen)
    }

    async fn get(
        &self,
        key: &Key,
        conditions: &Conditions,
        (need, token): (&Need, Option<&Token>),
        seen: &mut Token,
    ) -> Done {
        let read = match self.store.get(key, need, token).await {
            Ok(read) => read,
            Err(error) => return Done::failed(error.into()),
        };
        seen.vector.join(&read.session.vector);
        let Some(record) = read.record else { return Done::failed(verb::not_found(key)) };
        let version = Some(record.version);
        let etag = conditions::etag(record.version);
        match conditions.for_read(record.version, &etag) {
            Verdict::Failed => Done { version, ..Done::failed(verb::precondition_failed(version)) },
            Verdict::NotModified => Done::plain(StatusCode::NOT_MODIFIED, version),
            Verdict::Proceed => {
                let bytes = record.body.as_ref().map_or(0, |body| body.value.len());
                match self.budget.reserve(bytes) {
                    Ok(held) => {
                        let shown = Some((record, held));
                        Done { shown, ..Done::plain(StatusCode::OK, version) }
                    }
                    Err(problem) => Done { version, ..Done::failed(problem) },
                }
            }
        }
    }
}

impl Done {
    const fn plain(status: StatusCode, version: Option<Version>) -> Self {
        Self { status, version, acks: None, shown: None, problem: None }
    }

    fn failed(problem: Problem) -> Self {
        Self { problem: Some(problem.clone()), ..Self::plain(problem.code().status(), None) }
    }

    fn written(written: &Written, answered: Result<StatusCode, Problem>) -> Self {
        let done = answered.map_or_else(Self::failed, |status| Self::plain(status, None));
        Self { version: answer::version_of(&written.outcome), acks: written.acks, ..done }
    }
}

/// All outcomes, with as many bytes of values as one answer carries.
fn render(encoding: Encoding, done: &[Done], bytes_max: usize) -> Bytes {
    let full = Problem::new(
        Code::BatchFull,
        format!(
            "the values of this answer come to more than {bytes_max} bytes; get this one alone"
        ),
    );
    let mut bytes = 0;
    let doc = |one: &'_ Done| {
        let (mut status, mut problem, mut body) = (one.status, one.problem.as_ref(), None);
        if let Some((record, _)) = &one.shown {
            body = record.body.as_ref();
            let length = body.map_or(0, |body| body.value.len());
            if bytes + length > bytes_max {
                (status, problem, body) = (full.code().status(), Some(&full), None);
            } else {
                bytes += length;
            }
        }
        answer::json_bytes(&ResultDoc::new(status, one.version, one.acks, body, problem))
    };
    let docs: Vec<Bytes> = done.iter().map(doc).collect();
    encoding.join(&docs)
}
