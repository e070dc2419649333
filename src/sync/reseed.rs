//! Reseeding: making a partition anew from another, while both go on living.
//!
//! Flow: empty the target under a new reseed number; note the source's vector V; copy rows in key
//! order by chunks, each in its own snapshot and behind a barrier; copy the source's log from its
//! floors up to V; set the cursors to V. Rows read later than V are newer than V covers: they bring
//! their log entries along (LOG-1) and are early until a pass brings the rest. Whatever goes wrong,
//! the target serves nothing until a later reseed comes to its end.

use super::barrier::Barriers;
use super::pass::PageLimits;
use crate::partition::{
    Entry, Origins, PageRequest, Partition, PartitionError, Refusal, ReseedNumber, ReseedStep,
    Result, Status,
};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::vector::Vector;

/// Why a reseed did not come to its end; the target stays empty until one does.
#[derive(Debug, thiserror::Error)]
pub enum ReseedError {
    /// The source failed.
    #[error("the source failed")]
    Source(#[source] PartitionError),
    /// The target failed.
    #[error("the target failed")]
    Target(#[source] PartitionError),
    /// The source was restarted, or is being reseeded itself.
    #[error("the source did not stay what it was")]
    SourceChanged,
    /// The source has trimmed past the noted vector: begin again.
    #[error("the source has trimmed past where the reseed began")]
    Again,
}

impl ReseedError {
    /// What is wrong, in words that anybody may read.
    pub const fn in_public(&self) -> &'static str {
        match self {
            Self::Source(error) | Self::Target(error) => error.in_public(),
            Self::SourceChanged => "the source did not stay what it was",
            Self::Again => "the source has trimmed too far in between",
        }
    }
}

/// Empties `target` and makes it anew from `source`.
pub fn reseed(
    target: &mut dyn Partition,
    source: &mut dyn Partition,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<(), ReseedError> {
    let number = begin(target)?;
    let mut seed = Seed::new(limits);
    while let Some(step) = seed.next(source, barriers)? {
        take_in(target, number, &step)?;
    }
    Ok(())
}

/// Empties the target; from here on it serves nothing until the seed has come to its end.
pub fn begin(target: &mut dyn Partition) -> Result<ReseedNumber, ReseedError> {
    target.reseed(ReseedNumber::default(), &ReseedStep::Begin).map_err(ReseedError::Target)
}

/// Takes a step of the seed in.
pub fn take_in(
    target: &mut dyn Partition,
    number: ReseedNumber,
    step: &ReseedStep,
) -> Result<(), ReseedError> {
    match target.reseed(number, step) {
        Ok(_) => Ok(()),
        Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => Err(ReseedError::Again),
        Err(error) => Err(ReseedError::Target(error)),
    }
}

/// What a source gives for a reseed, step by step. What the steps hold does not depend on the
/// target, which has to be empty before the first: whoever copies may read ahead.
#[derive(Debug)]
pub struct Seed {
    limits: PageLimits,
    noted: Option<Status>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Rows above this key.
    Rows(Option<Key>),
    /// Log entries above this position, up to the noted vector.
    Log(Vector),
    /// The floors of the last snapshot.
    End(Vector),
    Done,
}

impl Seed {
    /// Nothing is asked yet.
    pub const fn new(limits: PageLimits) -> Self {
        Self { limits, noted: None, stage: Stage::Rows(None) }
    }

    /// The next step, durable at the source; `None`: that was the last one.
    pub fn next(
        &mut self,
        source: &mut dyn Partition,
        barriers: &Barriers,
    ) -> Result<Option<ReseedStep>, ReseedError> {
        let noted = match &self.noted {
            Some(noted) => noted.clone(),
            None => self.noted.insert(note(source)?).clone(),
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        let (step, next) = match stage {
            Stage::Rows(after) => {
                let rows = rows_above(source, after.as_ref(), &noted, barriers, self.limits)?;
                let (rows, more) = rows;
                let after = rows.last().map(|row| row.key.clone());
                let next = if more {
                    Stage::Rows(after)
                } else {
                    Stage::Log(source.status().map_err(ReseedError::Source)?.floors)
                };
                (ReseedStep::Rows(rows), next)
            }
            Stage::Log(from) => log_above(source, from, &noted, barriers, self.limits)?,
            Stage::End(floors) => {
                let noted = noted.vector;
                (ReseedStep::End { noted, floors }, Stage::Done)
            }
            Stage::Done => return Ok(None),
        };
        self.stage = next;
        Ok(Some(step))
    }
}

/// The source's description before the first row is read.
fn note(source: &mut dyn Partition) -> Result<Status, ReseedError> {
    let noted = source.status().map_err(ReseedError::Source)?;
    if noted.reseeding && Rule::ReseedSilent.in_force() {
        return Err(ReseedError::SourceChanged);
    }
    Ok(noted)
}

fn rows_above(
    source: &mut dyn Partition,
    after: Option<&Key>,
    noted: &Status,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<(Vec<Record>, bool), ReseedError> {
    let chunk =
        source.scan(after, limits.entries_max, limits.bytes_max).map_err(ReseedError::Source)?;
    same_source(noted, &chunk.source)?;
    barriers.pass(source, &chunk.source).map_err(ReseedError::Source)?;
    Ok((chunk.rows, chunk.more))
}

/// Log entries between the source's floors and the noted vector. Floors only rise and a log is
/// never changed below its cursor, so the floors of the last page hold for all pages before.
fn log_above(
    source: &mut dyn Partition,
    mut from: Vector,
    noted: &Status,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<(ReseedStep, Stage), ReseedError> {
    let page = loop {
        let request = PageRequest {
            from: from.clone(),
            origins: Origins::AllBut(None),
            early: false,
            rows: false,
            entries_max: limits.entries_max,
            bytes_max: limits.bytes_max,
        };
        match source.page(&request) {
            Ok(page) => break page,
            Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => {
                // Trimmed in between: read on above the new floors.
                from.join(&source.status().map_err(ReseedError::Source)?.floors);
            }
            Err(error) => return Err(ReseedError::Source(error)),
        }
    };
    same_source(noted, &page.source)?;
    barriers.pass(source, &page.source).map_err(ReseedError::Source)?;
    for segment in &page.segments {
        from.raise(segment.origin, segment.end);
    }
    let is_last = !page.cut || from.covers(&noted.vector);
    let covered = |entry: &Entry| entry.version <= noted.vector.get(entry.origin);
    let entries = page.entries.into_iter().filter(covered).collect();
    // Left out, the copy's log has holes: that is what the rule is for.
    let entries = if Rule::ReseedLog.in_force() { entries } else { Vec::new() };
    let next = if is_last { Stage::End(page.source.floors) } else { Stage::Log(from) };
    Ok((ReseedStep::Log(entries), next))
}

fn same_source(noted: &Status, now: &Status) -> Result<(), ReseedError> {
    let same = noted.run == now.run && noted.reseed == now.reseed && !now.reseeding;
    if same || !Rule::ReseedSource.in_force() { Ok(()) } else { Err(ReseedError::SourceChanged) }
}
