//! Old cuts: when the document need not tell of a takeover any more.
//!
//! A cut says which rows are late ([`crate::topology::cut`]): wherever such a row meets another one
//! of its key, it is judged by the cut. Once no such meeting is to come the cut is dropped, or the
//! document, each page and each push would carry all takeovers that there ever were.
//!
//! It takes two looks, one after the other under one document, at everybody whom logs are kept for:
//!
//! 1. At the first all of them have the lost master's log up to the takeover's epoch. Itself it is
//!    at that epoch then, so it makes no more late rows; each of those that there are has come to
//!    each partition, and has been judged there against whatever stood.
//! 2. At the second all of them have all that any of them had at the first. So what a slot's new
//!    master had written before it saw a late row is everywhere, too, and has been judged wherever
//!    the two met. Whatever was written since was written by somebody who had seen the late row:
//!    that is history, and not lost.
//!
//! What was seen counts once it is durable. One that was retired gives nothing any more, and once
//! its retirement is settled everybody has what any of them has of it: of its cuts the second look
//! alone tells, and no cut goes before that.

use super::FailoverError;
use super::catch_up::durable;
use crate::register::{Proposer, Reach};
use crate::topology::{Topology, Voter};
use crate::vector::Vector;

/// Where everybody stood at a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// That of the document.
    revision: u64,
    /// What all of them have.
    least: Vector,
    /// What any of them has.
    most: Vector,
}

/// Looks, and drops the cuts that are old by then. `first`: what an earlier call returned. Returns
/// the document that stands, and what the next call is to be given.
pub fn drop_old(
    reach: &mut dyn Reach,
    proposer: &mut Proposer,
    first: Option<&Look>,
) -> Result<(Topology, Option<Look>), FailoverError> {
    let base = proposer.read(reach)?;
    let is_settled = base.previous().is_empty();
    if base.cuts().is_empty() || !is_settled {
        return Ok((base, None));
    }
    let now = look(reach, &base)?;
    let Some(first) = first.filter(|first| first.revision == now.revision) else {
        return Ok((base, Some(now)));
    };
    if !now.least.covers(&first.most) {
        return Ok((base, Some(first.clone())));
    }
    let next = base.without_old_cuts(&first.least);
    if next.cuts() == base.cuts() {
        return Ok((base, Some(now)));
    }
    proposer.change(reach, &base, &next)?;
    Ok((next, None))
}

fn look(reach: &mut dyn Reach, topology: &Topology) -> Result<Look, FailoverError> {
    let (mut least, mut most) = (None::<Vector>, Vector::new());
    for voter in topology.holding_back() {
        let vector = place_of(reach, voter)?;
        most.join(&vector);
        least = Some(least.map_or_else(|| vector.clone(), |least| least.meet(&vector)));
    }
    Ok(Look { revision: topology.revision(), least: least.unwrap_or_default(), most })
}

fn place_of(reach: &mut dyn Reach, voter: &Voter) -> Result<Vector, FailoverError> {
    let status = durable(reach, voter)?;
    if status.reseeding {
        return Err(FailoverError::NotCaughtUp { name: voter.name.clone() });
    }
    Ok(status.vector)
}
