//! The sync pass: what a target lacks is pulled from whoever has it.
//!
//! Flow, for one target and one source: page (one snapshot of the source), barrier (there), apply
//! (one transaction at the target). A pass has no memory of its own, may run anywhere, any number
//! at once, and may be killed anywhere: whatever it has not applied, the next one brings.

use std::collections::{BTreeMap, BTreeSet};

use super::barrier::Barriers;
use crate::partition::{
    Origins, Page, PageRequest, Partition, PartitionError, Refusal, Result, Segment, Status,
};
use crate::rules::Rule;
use crate::topology::Topology;
use crate::vector::Vector;
use crate::version::{Epoch, PartitionId, Version};

/// How much a page may hold: enough to fill a transaction, little enough to hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Log entries.
    pub entries_max: usize,
    /// Bytes of rows.
    pub bytes_max: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { entries_max: 1000, bytes_max: 4 << 20 }
    }
}

/// What a target should pull from a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Whom to ask.
    pub source: PartitionId,
    /// For whose logs.
    pub origins: BTreeSet<PartitionId>,
}

/// Whom to ask for what, in order: for each origin the origin itself first, then whoever has its
/// log furthest; and everybody who holds early entries that lie above that.
pub fn plan(target: &Status, sources: &[Status]) -> Vec<Pull> {
    let mut pulls: Vec<Pull> = Vec::new();
    let known: BTreeSet<PartitionId> = sources.iter().flat_map(origins_of).collect();
    for origin in known.into_iter().filter(|origin| *origin != target.partition) {
        let has_more = |source: &&Status| {
            let cursor = target.vector.get(origin);
            source.vector.get(origin) > cursor || source.heads.get(origin) > cursor
        };
        let mut holders: Vec<&Status> = sources
            .iter()
            .filter(|source| source.partition != target.partition && !source.reseeding)
            .filter(has_more)
            .collect();
        holders.sort_by_key(|source| {
            let furthest = std::cmp::Reverse(source.vector.get(origin));
            (source.partition != origin, furthest, source.partition)
        });
        let Some(best) = holders.first().map(|best| best.vector.get(origin)) else { continue };
        let early = holders.iter().skip(1).filter(|source| source.heads.get(origin) > best);
        for source in holders.iter().take(1).chain(early) {
            add(&mut pulls, source.partition, origin);
        }
    }
    pulls
}

fn origins_of(status: &Status) -> impl Iterator<Item = PartitionId> {
    status.vector.iter().chain(status.heads.iter()).map(|(origin, _)| origin)
}

fn add(pulls: &mut Vec<Pull>, source: PartitionId, origin: PartitionId) {
    match pulls.iter_mut().find(|pull| pull.source == source) {
        Some(pull) => drop(pull.origins.insert(origin)),
        None => pulls.push(Pull { source, origins: BTreeSet::from([origin]) }),
    }
}

/// What a pull brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Pages applied.
    pub pages: usize,
    /// Rows that were newer than what stood.
    pub rows: usize,
    /// Their weight in bytes.
    pub bytes: usize,
}

/// Why a pull stopped.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The source did not give a page, or could not make it durable.
    #[error("the source failed")]
    Source(#[source] PartitionError),
    /// The target could not say where it stands, or take a page.
    #[error("the target failed")]
    Target(#[source] PartitionError),
    /// The target is below the source's floor: a read copy is reseeded; an active voter never is.
    #[error("the target is below the source's floor of origin {origin}")]
    BelowFloor {
        /// Whose log was trimmed too far.
        origin: PartitionId,
    },
    /// The page is of a later epoch than the topology: refresh it first.
    #[error("the page has rows of epoch {page}, later than the topology's")]
    TopologyOld {
        /// The newest epoch in the page.
        page: Epoch,
    },
}

impl PullError {
    /// What is wrong, in words that anybody may read.
    pub const fn in_public(&self) -> &'static str {
        match self {
            Self::Source(error) | Self::Target(error) => error.in_public(),
            Self::BelowFloor { .. } => BELOW_FLOOR,
            Self::TopologyOld { .. } => "the topology is older than the source's rows",
        }
    }
}

/// What is told of a target that has to be made anew.
pub(super) const BELOW_FLOOR: &str = "the target is below a floor of the source";

/// Pulls what `source` has of `origins` above the target's cursors, page by page.
pub fn pull(
    target: &mut dyn Partition,
    source: &mut dyn Partition,
    origins: &BTreeSet<PartitionId>,
    topology: &Topology,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<Pulled, PullError> {
    let standing = target.status().map_err(PullError::Target)?;
    let mut pulled = Pulled::default();
    if standing.reseeding {
        return Ok(pulled);
    }
    let mut pages = Pages::above(&standing.vector, origins.clone(), limits);
    loop {
        let step = pages.next(source, topology, barriers)?;
        if !take_in(target, &standing, &step, &mut pulled)? {
            return Ok(pulled);
        }
    }
}

/// What reading on at a source brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A page, durable at its source.
    Page(Box<Page>),
    /// The source has no more.
    End,
    /// The source has trimmed past the position; its floors.
    Trimmed(Vector),
}

/// The pages of a source above a position, one after the other. What they hold does not depend on
/// what the target makes of them, so whoever pulls may read ahead.
#[derive(Debug)]
pub struct Pages {
    position: Position,
    origins: BTreeSet<PartitionId>,
    limits: PageLimits,
    has_more: bool,
}

impl Pages {
    /// What lies above `vector` in the logs of `origins`.
    pub fn above(vector: &Vector, origins: BTreeSet<PartitionId>, limits: PageLimits) -> Self {
        Self { position: Position::at(vector), origins, limits, has_more: true }
    }

    /// Reads the next page, and makes it durable at the source before it leaves (BAR-1).
    pub fn next(
        &mut self,
        source: &mut dyn Partition,
        topology: &Topology,
        barriers: &Barriers,
    ) -> Result<Step, PullError> {
        if !self.has_more {
            return Ok(Step::End);
        }
        let request = PageRequest {
            from: self.position.read.clone(),
            origins: Origins::Only(self.origins.clone()),
            early: true,
            rows: true,
            entries_max: self.limits.entries_max,
            bytes_max: self.limits.bytes_max,
        };
        let mut page = match source.page(&request) {
            Ok(page) => page,
            Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => {
                let floors = source.status().map_err(PullError::Source)?.floors;
                return Ok(Step::Trimmed(floors));
            }
            Err(error) => return Err(PullError::Source(error)),
        };
        self.position.follow(&mut page);
        self.has_more = page.cut;
        if page.is_empty() {
            return Ok(Step::End);
        }
        barriers.pass(source, &page.source).map_err(PullError::Source)?;
        check_topology(&page, topology)?;
        page.cuts = topology.cuts();
        Ok(Step::Page(Box::new(page)))
    }
}

/// Takes a step in at the target, which stood at `standing` when the pull began; whether the pull
/// goes on.
pub fn take_in(
    target: &mut dyn Partition,
    standing: &Status,
    step: &Step,
    pulled: &mut Pulled,
) -> Result<bool, PullError> {
    let page = match step {
        Step::Page(page) => page,
        Step::End => return Ok(false),
        Step::Trimmed(floors) => return below_floor(target, floors, standing).map(|()| false),
    };
    match target.apply(page, standing.reseed) {
        Ok(applied) => {
            pulled.pages += 1;
            pulled.rows += applied.rows;
            pulled.bytes += applied.bytes;
            Ok(page.cut)
        }
        // Another pass was here: what it brought need not be brought again.
        Err(PartitionError::Refused(Refusal::CursorMoved { .. } | Refusal::Reseeding)) => Ok(false),
        Err(error) => Err(PullError::Target(error)),
    }
}

/// K10: the target's cursors are read again before they are held against a floor: a pass that
/// stalled would hold old cursors against a new floor.
fn below_floor(
    target: &mut dyn Partition,
    floors: &Vector,
    before: &Status,
) -> Result<(), PullError> {
    let standing = if Rule::CursorReadAgain.in_force() {
        target.status().map_err(PullError::Target)?
    } else {
        before.clone()
    };
    match standing.vector.first_uncovered(floors) {
        Some((origin, _)) if !standing.reseeding => Err(PullError::BelowFloor { origin }),
        Some(_) | None => Ok(()),
    }
}

/// K7: whoever does not know of a takeover does not know which rows are late.
fn check_topology(page: &Page, topology: &Topology) -> Result<(), PullError> {
    match page.newest_epoch() {
        Some(newest) if newest > topology.epoch() && Rule::TopologyFresh.in_force() => {
            Err(PullError::TopologyOld { page: newest })
        }
        _ => Ok(()),
    }
}

/// Where a pull reads on, and up to where what it has read is without a gap.
#[derive(Debug)]
struct Position {
    read: Vector,
    claimed: BTreeMap<PartitionId, Version>,
}

impl Position {
    fn at(vector: &Vector) -> Self {
        Self { read: vector.clone(), claimed: vector.iter().collect() }
    }

    /// Moves on behind `page`, and takes from it the claims that do not join on to what was
    /// claimed: between the end of the source's log and an early entry lies what nobody has read.
    fn follow(&mut self, page: &mut Page) {
        for Segment { origin, from, end, claim } in &mut page.segments {
            let claimed = self.claimed.entry(*origin).or_insert(Version::ZERO);
            if *claimed == *from || !Rule::ContiguousClaim.in_force() {
                *claimed = *claim;
            } else {
                *claim = *from;
            }
            self.read.raise(*origin, *end);
        }
    }
}
