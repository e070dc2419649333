//! What writes do, and how their outcomes are answered: the same for one value and in a batch.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::code::Code;
use super::error::Problem;
use super::{paths, query::Query};
use crate::merge::MergeError;
use crate::record::Key;
use crate::version::Version;
use crate::write::Outcome;

/// The query parameter that limits how long a value is visible.
pub const TTL: &str = "ttl";
/// The longest time to live: a century. Whoever wants longer wants none.
pub const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Create or overwrite, without asking which.
    Post,
    /// Create or overwrite, and tell which it was.
    Put,
    /// Change what exists.
    Patch,
    /// Delete what exists.
    Delete,
}

impl Verb {
    /// The status of what became of a write of `key`, or the problem that it is.
    pub fn answered(self, outcome: &Outcome, key: &Key) -> Result<StatusCode, Problem> {
        match (outcome, self) {
            (Outcome::Written { .. }, Self::Post)
            | (Outcome::Written { created: Some(true), .. }, Self::Put) => Ok(StatusCode::CREATED),
            (Outcome::Written { .. }, Self::Put | Self::Patch) => Ok(StatusCode::NO_CONTENT),
            (Outcome::Deleted { .. }, Self::Delete) => Ok(StatusCode::ACCEPTED),
            // Without the precondition this were a 404, so it is one (RFC 9110 section 13.2.1).
            (Outcome::Absent | Outcome::Unmet { current: None }, Self::Patch | Self::Delete) => {
                Err(not_found(key))
            }
            (Outcome::Unmet { current }, _) => Err(precondition_failed(*current)),
            (Outcome::Unmergeable { error, .. }, _) => Err(unmergeable(*error)),
            (Outcome::Damaged, _) => {
                let detail = "the value that stands is damaged, and the request depends on it; \
                              nothing was written. A plain PUT, POST or DELETE replaces it";
                Err(Problem::new(Code::NotWritten, detail))
            }
            // A set is never answered by a tombstone, nor a delete by a value: a master that says
            // so has done something, and nobody knows what.
            (Outcome::Written { .. }, Self::Delete)
            | (Outcome::Deleted { .. }, Self::Post | Self::Put | Self::Patch)
            | (Outcome::Absent, Self::Post | Self::Put) => {
                Err(Problem::new(Code::OutcomeUnknown, "the answer does not fit the request"))
            }
        }
    }
}

/// The time to live that the query asks for.
pub fn ttl(query: &Query) -> Result<Option<Duration>, Problem> {
    let ttl = query.duration(TTL, TTL_MAX)?;
    if ttl == Some(Duration::ZERO) {
        let detail = "ttl must be longer than nothing; to take a value away, DELETE it";
        return Err(Problem::new(Code::BadParameter, detail));
    }
    Ok(ttl)
}

/// 404 for a key that has no visible value.
pub fn not_found(key: &Key) -> Problem {
    let path = paths::emit(paths::BUCKET, key.bytes());
    Problem::new(Code::NotFound, format!("there is no value under {path}"))
}

/// 412, with what stands.
pub fn precondition_failed(current: Option<Version>) -> Problem {
    let stands = match current {
        Some(version) => format!("what stands has ETag \"{version}\""),
        None => "nothing stands under this key".to_owned(),
    };
    Problem::new(Code::PreconditionFailed, format!("the precondition does not hold: {stands}"))
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
