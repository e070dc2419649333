//! `/subscriptions`: followers whose position the service keeps, and all followers.
//!
//! `PUT /subscriptions/{name}` makes one, `GET` gives the page after its acknowledged position,
//! `POST .../ack` acknowledges, `DELETE` takes it away. A page that was not acknowledged is given
//! again. Asking renews the lease. See [`crate::subscription`].

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::body::Budget;
use super::changes::{self, Asked, Since};
use super::code::Code;
use super::error::Problem;
use super::negotiate::Accept;
use super::query::Query;
use super::wire_follow::{FollowersDoc, SubscriptionDoc};
use super::{answer, paths};
use crate::feed::{Feed, FeedFailure, Kind, Position};
use crate::frontends::Frontends;
use crate::store::Store;
use crate::subscription::{self, SubscriptionError, Wanted};

const ALLOW: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const ALLOW_ACK: &str = "POST, OPTIONS";
const ALLOW_LIST: &str = "GET, HEAD, OPTIONS";
const BASE: &str = "/subscriptions/";
const ACK: &str = "/ack";
const LEASE: &str = "lease";
const POSITION: &str = "position";

/// All followers: subscriptions, and who follows at which front end.
pub async fn list(
    request: HttpRequest,
    store: web::Data<Store>,
    feed: web::Data<Feed>,
    frontends: web::Data<Frontends>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => listed(&request, &store, &feed, &frontends).await,
        Method::OPTIONS => Ok(answer::options(ALLOW_LIST)),
        _ => Err(Problem::method_not_allowed(ALLOW_LIST)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn listed(
    request: &HttpRequest,
    store: &Store,
    feed: &Feed,
    frontends: &Frontends,
) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    // Lags are told against where the logs end now, as far as that can be asked.
    drop(feed.now().await);
    let subscriptions = subscription::list(store).await?;
    let running = frontends.running().await;
    let doc = FollowersDoc::new(&subscriptions, &running, feed);
    Ok(answer::json(StatusCode::OK, &doc))
}

/// One subscription.
pub async fn one(
    request: HttpRequest,
    store: web::Data<Store>,
    feed: web::Data<Feed>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let place = Place { request: &request, store: &store, feed: &feed, budget: &budget };
    let answered = match *request.method() {
        Method::GET | Method::HEAD => place.page().await,
        Method::PUT => place.put().await,
        Method::DELETE => place.remove().await,
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// An acknowledgement.
pub async fn ack(
    request: HttpRequest,
    store: web::Data<Store>,
    feed: web::Data<Feed>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let place = Place { request: &request, store: &store, feed: &feed, budget: &budget };
    let answered = match *request.method() {
        Method::POST => place.acknowledge().await,
        Method::OPTIONS => Ok(answer::options(ALLOW_ACK)),
        _ => Err(Problem::method_not_allowed(ALLOW_ACK)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

struct Place<'a> {
    request: &'a HttpRequest,
    store: &'a Store,
    feed: &'a Arc<Feed>,
    budget: &'a Arc<Budget>,
}

impl Place<'_> {
    fn name(&self) -> Result<String, Problem> {
        let path = self.request.uri().path();
        let rest = path.strip_prefix(BASE).ok_or_else(|| super::unknown_path(path))?;
        let name = paths::decode(rest.strip_suffix(ACK).unwrap_or(rest))?;
        String::from_utf8(name).map_err(|_| SubscriptionError::BadName.into())
    }

    fn query(&self, known: &[&'static str]) -> Result<Query, Problem> {
        Query::parse(self.request.uri().query(), known)
    }

    async fn page(&self) -> Result<HttpResponse, Problem> {
        let name = self.name()?;
        let query = self.query(&[changes::INCLUDE, changes::LIMIT, changes::WAIT])?;
        let as_lines = changes::is_lines(&Accept::of(self.request.headers())?)?;
        let subscription = subscription::get(self.store, &name).await?;
        let mut asked = Asked::of(&query)?;
        asked.prefix = subscription.prefix.clone();
        let is_ours = subscription.mark.set.is_none_or(|set| set == self.feed.set_id());
        let position = subscription.mark.position.clone();
        subscription::renew(self.store, subscription).await?;
        if !is_ours {
            return Err(FeedFailure::Reset.into());
        }
        let kind = Kind::Subscription(name.into());
        let page = changes::next_page(self.feed, position, &asked, kind).await?;
        asked.respond(as_lines, &page, self.feed, self.budget)
    }

    async fn put(&self) -> Result<HttpResponse, Problem> {
        let name = self.name()?;
        let query = self.query(&[LEASE, changes::PREFIX, changes::SINCE])?;
        let lease = query.duration(LEASE, subscription::LEASE_MAX)?;
        if lease.is_some_and(|lease| lease.is_zero()) {
            let detail = "lease must be longer than nothing; to end a subscription, DELETE it";
            return Err(Problem::new(Code::BadParameter, detail));
        }
        let now = Position::Tail(self.feed.now().await?);
        let position = match query.bytes(changes::SINCE) {
            Some(since) => {
                let position = Since::parse(since)?.position(self.feed).await?;
                Some(position.ok_or(FeedFailure::Reset)?)
            }
            None => None,
        };
        let prefix = query.bytes(changes::PREFIX).map(Bytes::copy_from_slice);
        let wanted = Wanted { prefix, position, lease };
        let (subscription, created) = subscription::put(self.store, &name, &wanted, &now).await?;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(answer::json(status, &SubscriptionDoc::new(&subscription, self.feed)))
    }

    async fn remove(&self) -> Result<HttpResponse, Problem> {
        let name = self.name()?;
        self.query(&[])?;
        subscription::remove(self.store, &name).await?;
        Ok(HttpResponse::NoContent().finish())
    }

    async fn acknowledge(&self) -> Result<HttpResponse, Problem> {
        let name = self.name()?;
        let query = self.query(&[POSITION])?;
        let upto = query.bytes(POSITION).ok_or_else(|| {
            let detail = "position is missing: what the page that is acknowledged called next";
            Problem::new(Code::BadParameter, detail)
        })?;
        let upto = changes::mark(upto)?;
        let subscription = subscription::acknowledge(self.store, &name, &upto).await?;
        let doc = SubscriptionDoc::new(&subscription, self.feed);
        Ok(answer::json(StatusCode::OK, &doc))
    }
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        let code = match error {
            SubscriptionError::Store(error) => return error.into(),
            SubscriptionError::BadName => Code::BadParameter,
            SubscriptionError::Unknown => Code::UnknownSubscription,
            SubscriptionError::Behind => Code::PositionBehind,
            SubscriptionError::Contended => Code::Overloaded,
            SubscriptionError::Damaged => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
