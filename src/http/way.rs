//! The two ways to a value: lazy, at `/bucket/`, and canonical, at `/canonicalbucket/`.
//!
//! | | lazy | canonical |
//! |---|---|---|
//! | reads | any partition that satisfies the request | the key's master |
//! | lists | the view of one partition | the masters' view |
//! | writes, unless `ack` says otherwise | the master | the master and all that can be reached |
//!
//! A value has one name: `Location` and lists say `/bucket/{key}` on both, as in the original
//! system.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use super::code::Code;
use super::error::{Problem, shown};
use super::query::Query;
use super::{paths, session};
use crate::store::answer::{Ack, Need};
use crate::vector::Token;

/// The query parameter that says how many have to hold a write.
pub const ACK: &str = "ack";

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Read from any.
    Lazy,
    /// Read at the master, write to all.
    Canonical,
}

impl Way {
    /// The way of a request, by the resource that it was given to.
    pub fn of(request: &HttpRequest) -> Self {
        let is_canonical = request.match_info().as_str().starts_with("/canonical");
        if is_canonical { Self::Canonical } else { Self::Lazy }
    }

    /// Where its values live.
    pub const fn base(self) -> &'static str {
        match self {
            Self::Lazy => paths::BUCKET,
            Self::Canonical => paths::CANONICAL,
        }
    }

    /// The parameters that say what a read needs: a canonical one goes to the master.
    pub const fn read_parameters(self) -> &'static [&'static str] {
        match self {
            Self::Lazy => {
                &[session::CONSISTENCY, session::MAX_AGE, session::PARTITION, session::KEEP]
            }
            Self::Canonical => &[session::KEEP],
        }
    }

    /// What a read needs.
    pub fn need(
        self,
        query: &Query,
        headers: &HeaderMap,
        session: Option<&Token>,
    ) -> Result<Need, Problem> {
        match self {
            Self::Lazy => session::need(query, headers, session),
            Self::Canonical => {
                let covers = session.map(|token| token.vector.clone());
                Ok(Need::master(covers.unwrap_or_default()))
            }
        }
    }

    /// How many have to hold a write.
    pub fn ack(self, query: &Query) -> Result<Ack, Problem> {
        match (query.bytes(ACK), self) {
            (Some(b"1"), _) => Ok(Ack::One),
            (Some(b"majority"), _) => Ok(Ack::Majority),
            (Some(b"all"), _) => Ok(Ack::All),
            (Some(given), _) => {
                let detail = format!("ack must be 1, majority or all; given was {}", shown(given));
                Err(Problem::new(Code::BadParameter, detail))
            }
            (None, Self::Lazy) => Ok(Ack::One),
            (None, Self::Canonical) => Ok(Ack::Reachable),
        }
    }
}
