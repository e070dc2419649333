//! Catching up: one partition reads everything that another one has, to the end of every log.
//!
//! What is read is a snapshot taken after the call began, early entries included, made durable at
//! the source before it leaves, and applied. A pass that runs at the same time may be faster: then
//! what is left is read again.

use std::collections::BTreeSet;

use super::{FailoverError, failed};
use crate::partition::{PartitionError, Refusal, Status};
use crate::register::{Reach, ask};
use crate::sync::barrier::Barriers;
use crate::sync::pass::{PageLimits, Pages, PullError, Step};
use crate::topology::{Topology, Voter};
use crate::version::PartitionId;

/// How often a reading that another pass overtook begins again.
const ATTEMPTS: u32 = 8;

/// Has `target` take in all that `source` holds. Returns where the source stood when it began.
pub fn read_to_end(
    reach: &mut dyn Reach,
    topology: &Topology,
    (target, source): (&Voter, &Voter),
    barriers: &Barriers,
) -> Result<Status, FailoverError> {
    let began = ask(reach, source, |partition| partition.status()).map_err(failed(source))?;
    for _ in 0..ATTEMPTS {
        if read_once(reach, topology, (target, source), barriers)? {
            return Ok(began);
        }
    }
    Err(FailoverError::NotCaughtUp { name: target.name.clone() })
}

/// `false`: another pass was faster.
fn read_once(
    reach: &mut dyn Reach,
    topology: &Topology,
    (target, source): (&Voter, &Voter),
    barriers: &Barriers,
) -> Result<bool, FailoverError> {
    let behind = |error| FailoverError::Behind {
        target: target.name.clone(),
        from: source.name.clone(),
        source: Box::new(error),
    };
    let standing = ask(reach, target, |partition| partition.status()).map_err(failed(target))?;
    if standing.reseeding {
        return Err(FailoverError::NotCaughtUp { name: target.name.clone() });
    }
    let has = ask(reach, source, |partition| partition.status()).map_err(failed(source))?;
    let known = has.vector.iter().chain(has.heads.iter()).map(|(origin, _)| origin);
    let origins: BTreeSet<PartitionId> = known.filter(|origin| *origin != target.id).collect();
    let mut pages = Pages::above(&standing.vector, origins, PageLimits::default());
    loop {
        let step = ask(reach, source, |partition| Ok(pages.next(partition, topology, barriers)));
        let page = match step.map_err(failed(source))? {
            Ok(Step::Page(page)) => page,
            Ok(Step::End) => return Ok(true),
            Ok(Step::Trimmed(floors)) => {
                let origin = standing.vector.first_uncovered(&floors);
                let origin = origin.map_or(source.id, |(origin, _)| origin);
                return Err(behind(PullError::BelowFloor { origin }));
            }
            Err(error) => return Err(behind(error)),
        };
        match ask(reach, target, |partition| partition.apply(&page, standing.reseed)) {
            Ok(_) if page.cut => {}
            Ok(_) => return Ok(true),
            Err(PartitionError::Refused(Refusal::CursorMoved { .. })) => return Ok(false),
            Err(error) => return Err(failed(target)(error)),
        }
    }
}

/// Where a partition stands, all of it durable: a commit of its own came after the look.
pub fn durable(reach: &mut dyn Reach, voter: &Voter) -> Result<Status, FailoverError> {
    let looked = ask(reach, voter, |partition| {
        let status = partition.status()?;
        partition.barrier(status.run)?;
        Ok(status)
    });
    looked.map_err(failed(voter))
}
