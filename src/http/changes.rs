//! `/changes`: what was written, from a position on; resumable at any front end.
//!
//! A page (JSON, or lines of JSON), a page that waits until something happens (`wait`), or a stream
//! of server-sent events ([`super::sse`]). `since` is where to begin: a position that an earlier
//! answer gave, `0` for all that stands, then what changes, or `now`, which is also the default.
//! `Last-Event-ID`, which clients of a stream send when they come again, wins over `since`: their
//! address stays as it was.
//!
//! A position that cannot be resumed is a `reset`: 410 here, an event in a stream. It is never
//! passed over in silence, and never answered by an older one.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use mime::Mime;
use tokio::time::{Instant, timeout_at};

use super::answer::Told;
use super::body::{self, Budget};
use super::code::Code;
use super::error::{Problem, shown};
use super::list::{LIMIT_DEFAULT, LIMIT_MAX, PAGE_BYTES_MAX};
use super::list_form::NDJSON;
use super::negotiate::Accept;
use super::query::Query;
use super::{answer, sse, wire_feed};
use crate::feed::{Batch, Feed, FeedFailure, Follower, Kind, Mark, Paged, Position, Step};
use crate::sync::pass::PageLimits;
use crate::vector::Token;

const ALLOW: &str = "GET, HEAD, OPTIONS";
/// A query parameter.
pub const INCLUDE: &str = "include";
/// A query parameter.
pub const LIMIT: &str = "limit";
/// A query parameter.
pub const PREFIX: &str = "prefix";
/// A query parameter.
pub const SINCE: &str = "since";
/// A query parameter.
pub const WAIT: &str = "wait";
/// The longest wait: what clients and balancers between them put up with.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Where no key that was written has the prefix: so many times as many are looked at for one page.
const LOOKS_MAX: usize = 10;

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static JSON: Mime = mime::APPLICATION_JSON;
static LINES: LazyLock<Mime> = LazyLock::new(|| NDJSON.parse().expect("a media type"));
static STREAM: Mime = mime::TEXT_EVENT_STREAM;

/// How changes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    Stream,
}

impl Form {
    fn choose(accept: &Accept) -> Result<Self, Problem> {
        match accept.choose_equal(&[&JSON, &LINES, &STREAM]) {
            Some(0) => Ok(Self::Json),
            Some(1) => Ok(Self::Lines),
            Some(_) => Ok(Self::Stream),
            None => Err(Problem::not_acceptable(
                "application/json, application/x-ndjson or text/event-stream",
            )),
        }
    }
}

/// Whether a page is sent as lines, where no stream is to be had.
pub fn is_lines(accept: &Accept) -> Result<bool, Problem> {
    match accept.choose_equal(&[&JSON, &LINES]) {
        Some(place) => Ok(place == 1),
        None => Err(Problem::not_acceptable("application/json or application/x-ndjson")),
    }
}

/// Answers one request to `/changes`.
pub async fn serve(
    request: HttpRequest,
    feed: web::Data<Feed>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => changes(&request, &feed, &budget).await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn changes(
    request: &HttpRequest,
    feed: &Arc<Feed>,
    budget: &Arc<Budget>,
) -> Result<HttpResponse, Problem> {
    let headers = request.headers();
    let form = Form::choose(&Accept::of(headers)?)?;
    let query = Query::parse(request.uri().query(), &[INCLUDE, LIMIT, PREFIX, SINCE, WAIT])?;
    let asked = Asked::of(&query)?;
    let since = Since::of(headers, &query)?;
    if form == Form::Stream && request.method() == Method::GET {
        let (position, is_reset) = match since.position(feed).await? {
            Some(position) => (position, false),
            None => (Position::Start, true),
        };
        let follower = feed.follow(position, asked.prefix, Kind::Stream)?;
        return Ok(sse::respond(follower, asked.with_value, is_reset, budget));
    }
    let position = since.position(feed).await?.ok_or(FeedFailure::Reset)?;
    let page = next_page(feed, position, &asked, Kind::Wait).await?;
    asked.respond(form == Form::Lines, &page, feed, budget)
}

/// Where a request begins.
pub enum Since {
    /// With what is written from here on.
    Now,
    /// After what was told.
    Mark(Mark),
}

impl Since {
    fn of(headers: &HeaderMap, query: &Query) -> Result<Self, Problem> {
        let last = headers.get(&LAST_EVENT_ID).map(HeaderValue::as_bytes);
        // A client that has not been told any id yet sends none, or an empty one.
        let given = last.filter(|id| !id.is_empty()).or(query.bytes(SINCE));
        given.map_or(Ok(Self::Now), Self::parse)
    }

    /// `now`, or a position.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        if text == b"now" {
            return Ok(Self::Now);
        }
        mark(text).map(Self::Mark)
    }

    /// The position; `None`: that of another set, which cannot be resumed here.
    pub async fn position(self, feed: &Feed) -> Result<Option<Position>, Problem> {
        match self {
            Self::Now => Ok(Some(Position::Tail(feed.now().await?))),
            Self::Mark(mark) => {
                let is_ours = mark.set.is_none_or(|set| set == feed.set_id());
                Ok(is_ours.then_some(mark.position))
            }
        }
    }
}

/// A position as a request gives it.
pub fn mark(text: &[u8]) -> Result<Mark, Problem> {
    let mark = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    mark.ok_or_else(|| {
        let detail = format!(
            "{} is not a position of this service; it is what an earlier answer called next or \
             id, 0, or now",
            shown(text)
        );
        Problem::new(Code::BadPosition, detail)
    })
}

/// What a request wants to know of the changes.
pub struct Asked {
    /// Only keys that begin so.
    pub prefix: Bytes,
    with_value: bool,
    limit: usize,
    wait: Duration,
}

impl Asked {
    /// What the query says; `wait`, `limit` and `include`, and `prefix` where that is a parameter.
    pub fn of(query: &Query) -> Result<Self, Problem> {
        let with_value = match query.bytes(INCLUDE) {
            None => false,
            Some(b"value") => true,
            Some(other) => {
                let detail = format!("include must be value; given was {}", shown(other));
                return Err(Problem::new(Code::BadParameter, detail));
            }
        };
        Ok(Self {
            prefix: Bytes::copy_from_slice(query.bytes(PREFIX).unwrap_or_default()),
            with_value,
            limit: query.number(LIMIT, 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
            wait: query.duration(WAIT, WAIT_MAX)?.unwrap_or_default(),
        })
    }

    const fn limits(&self) -> PageLimits {
        PageLimits { entries_max: self.limit, bytes_max: PAGE_BYTES_MAX }
    }

    /// The page in its form.
    pub fn respond(
        &self,
        as_lines: bool,
        page: &Paged,
        feed: &Feed,
        budget: &Arc<Budget>,
    ) -> Result<HttpResponse, Problem> {
        let followed = page.batch.events.iter().filter(|event| self.follows(&event.row.key));
        let events: Vec<Bytes> =
            followed.map(|event| wire_feed::event(event, feed, self.with_value)).collect();
        let next = Mark::of(feed.set_id(), page.next.clone());
        let (kind, bytes) = if as_lines {
            let mut lines: Vec<u8> = Vec::new();
            let last = answer::json_bytes(&wire_feed::HeartbeatDoc::new(feed, &page.next));
            for line in events.iter().chain([&last]) {
                lines.extend(line);
                lines.push(b'\n');
            }
            (NDJSON, lines.into())
        } else {
            let lag = feed.lag(&page.next);
            (JSON.as_ref(), wire_feed::page(&events, &next, page.more, lag))
        };
        let mut response = HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, kind))
            .body(body::answer(bytes, budget)?);
        if let Some(vector) = page.next.seen() {
            let session = Token { set: feed.set_id(), vector: vector.clone() };
            let mut told = Told::default();
            told.session(&session);
            told.put_into(response.headers_mut());
        }
        Ok(response)
    }

    fn follows(&self, key: &crate::record::Key) -> bool {
        key.bytes().starts_with(&self.prefix)
    }
}

/// The page after `position`; an empty one only after `wait`.
pub async fn next_page(
    feed: &Arc<Feed>,
    position: Position,
    asked: &Asked,
    kind: Kind,
) -> Result<Paged, Problem> {
    let until = Instant::now() + asked.wait;
    let mut page = feed.page(&position, &asked.prefix, asked.limits()).await?;
    for _ in 1..LOOKS_MAX {
        if !page.batch.events.is_empty() || !page.more {
            break;
        }
        page = feed.page(&page.next, &asked.prefix, asked.limits()).await?;
    }
    if page.batch.events.is_empty() && !page.more && !asked.wait.is_zero() {
        let follower = feed.follow(page.next.clone(), asked.prefix.clone(), kind)?;
        if let Ok(woken) = timeout_at(until, woken(follower)).await {
            return woken;
        }
    }
    Ok(page)
}

/// Waits for something to happen, for ever.
async fn woken(mut follower: Follower) -> Result<Paged, Problem> {
    loop {
        let events = match follower.step(WAIT_MAX).await {
            Step::Events(batch) => {
                let followed = batch.events.iter().filter(|e| follower.follows(e.row.key.bytes()));
                followed.map(|event| event.row.clone()).collect()
            }
            Step::Current | Step::Quiet => continue,
            Step::Reset => return Err(FeedFailure::Reset.into()),
            // An empty page: whoever waited asks again, and is told then.
            Step::End => Vec::new(),
        };
        let (batch, next) = (Batch::of(events), follower.position().clone());
        return Ok(Paged { batch, next, more: false });
    }
}

impl From<FeedFailure> for Problem {
    fn from(failure: FeedFailure) -> Self {
        let code = match &failure {
            FeedFailure::Reset => Code::Reset,
            FeedFailure::NotCovered => Code::TooStale,
            FeedFailure::Unreadable { .. } => Code::Unavailable,
            FeedFailure::Overloaded => Code::Overloaded,
            FeedFailure::Stopping => Code::Stopping,
        };
        if let FeedFailure::Unreadable { partition, source } = &failure {
            let error = crate::sync::round::chain(source);
            tracing::warn!(%partition, error, "changes could not be read");
        }
        Self::new(code, failure.to_string())
    }
}
