//! Session reads: a client reads no less than it has seen, on any front end and any partition.
//!
//! RYW-1: a read with a session token never returns less than the token covers. A vector only rises
//! while its server runs and while it is not reseeded, so one that was read over this connection,
//! under the reseed number that the row comes with, may be remembered; any other may not.

use crate::partition::{
    Fetched, Get, Listing, Partition, PartitionError, Range, Refusal, ReseedNumber, Result,
};
use crate::rules::Rule;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// The vector that was last read over a connection. Forget it with the connection.
#[derive(Clone, Debug, Default)]
pub struct Seen(Option<(ReseedNumber, Vector)>);

/// Why a session read was not served here.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The partition is behind the token.
    #[error("the partition has not yet {version} of origin {origin}")]
    NotCovered {
        /// The first origin that is not covered.
        origin: PartitionId,
        /// What the token has seen of it.
        version: Version,
    },
    /// The partition failed.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// Reads what `get` asks for, if the partition covers `token`.
pub fn get_covered(
    partition: &mut dyn Partition,
    seen: &mut Seen,
    get: &Get<'_>,
    token: &Vector,
) -> Result<Fetched, SessionError> {
    // Twice: the partition may have been reseeded since its vector was read, which takes it back.
    for _ in 0..2 {
        cover(partition, seen, token)?;
        let fetched = partition.get(get)?;
        let known = seen.0.as_ref().map(|(reseed, _)| *reseed);
        if known.is_none_or(|known| known == fetched.reseed) || !Rule::VectorOfReseed.in_force() {
            return Ok(fetched);
        }
        seen.0 = None;
    }
    Err(PartitionError::from(Refusal::Reseeding).into())
}

/// Lists, if the partition covers `token`.
pub fn list_covered(
    partition: &mut dyn Partition,
    seen: &mut Seen,
    range: &Range,
    token: &Vector,
) -> Result<Listing, SessionError> {
    // Twice, as above.
    for _ in 0..2 {
        cover(partition, seen, token)?;
        let listing = partition.list(range)?;
        let known = seen.0.as_ref().map(|(reseed, _)| *reseed);
        if known.is_none_or(|known| known == listing.reseed) || !Rule::VectorOfReseed.in_force() {
            return Ok(listing);
        }
        seen.0 = None;
    }
    Err(PartitionError::from(Refusal::Reseeding).into())
}

/// Makes sure, from memory or by asking, that the partition covers `token`.
fn cover(
    partition: &mut dyn Partition,
    seen: &mut Seen,
    token: &Vector,
) -> Result<(), SessionError> {
    if token.is_empty() || !Rule::SessionCovered.in_force() {
        return Ok(());
    }
    if seen.0.as_ref().is_some_and(|(_, vector)| vector.covers(token)) {
        return Ok(());
    }
    let status = partition.status()?;
    let uncovered = status.vector.first_uncovered(token);
    seen.0 = Some((status.reseed, status.vector));
    match uncovered {
        Some((origin, version)) => Err(SessionError::NotCovered { origin, version }),
        None => Ok(()),
    }
}

/// Reads what `get` asks for on behalf of many, and judges for each token whether the partition
/// covers it: for `None` what was read may be served, else it is behind by that. One question for
/// the vector serves all of them.
pub fn get_judged(
    partition: &mut dyn Partition,
    seen: &mut Seen,
    get: &Get<'_>,
    tokens: &[&Vector],
) -> Result<(Fetched, Vec<Option<Behind>>)> {
    // Twice, as above.
    for _ in 0..2 {
        let behind = judge(partition, seen, tokens)?;
        let fetched = partition.get(get)?;
        let known = seen.0.as_ref().map(|(reseed, _)| *reseed);
        if known.is_none_or(|known| known == fetched.reseed) || !Rule::VectorOfReseed.in_force() {
            return Ok((fetched, behind));
        }
        seen.0 = None;
    }
    Err(Refusal::Reseeding.into())
}

/// The first origin whose log a partition does not have as far as a token, and how far that is.
pub type Behind = (PartitionId, Version);

fn judge(
    partition: &mut dyn Partition,
    seen: &mut Seen,
    tokens: &[&Vector],
) -> Result<Vec<Option<Behind>>> {
    let covers = |seen: &Seen, token: &Vector| {
        let known = seen.0.as_ref().is_some_and(|(_, vector)| vector.covers(token));
        known || token.is_empty() || !Rule::SessionCovered.in_force()
    };
    if !tokens.iter().all(|token| covers(seen, token)) {
        let status = partition.status()?;
        seen.0 = Some((status.reseed, status.vector));
    }
    let behind = |token: &&Vector| match &seen.0 {
        Some((_, vector)) if !covers(seen, token) => vector.first_uncovered(token),
        Some(_) | None => None,
    };
    Ok(tokens.iter().map(behind).collect())
}
