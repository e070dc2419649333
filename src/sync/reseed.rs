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
use crate::record::Key;
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

/// Empties `target` and makes it anew from `source`.
pub fn reseed(
    target: &mut dyn Partition,
    source: &mut dyn Partition,
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<(), ReseedError> {
    let begin = target.reseed(ReseedNumber::default(), &ReseedStep::Begin);
    let number = begin.map_err(ReseedError::Target)?;
    let noted = source.status().map_err(ReseedError::Source)?;
    if noted.reseeding && Rule::ReseedSilent.in_force() {
        return Err(ReseedError::SourceChanged);
    }
    copy_rows(target, source, (&noted, number), barriers, limits)?;
    let floors = copy_log(target, source, (&noted, number), barriers, limits)?;
    let end = ReseedStep::End { noted: noted.vector, floors };
    match target.reseed(number, &end) {
        Ok(_) => Ok(()),
        Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => Err(ReseedError::Again),
        Err(error) => Err(ReseedError::Target(error)),
    }
}

fn copy_rows(
    target: &mut dyn Partition,
    source: &mut dyn Partition,
    (noted, number): (&Status, ReseedNumber),
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<(), ReseedError> {
    let mut after: Option<Key> = None;
    loop {
        let chunk = source
            .scan(after.as_ref(), limits.entries_max, limits.bytes_max)
            .map_err(ReseedError::Source)?;
        same_source(noted, &chunk.source)?;
        barriers.pass(source, &chunk.source).map_err(ReseedError::Source)?;
        after = chunk.rows.last().map(|row| row.key.clone());
        target.reseed(number, &ReseedStep::Rows(chunk.rows)).map_err(ReseedError::Target)?;
        if !chunk.more {
            return Ok(());
        }
    }
}

/// Copies the log entries between the source's floors and the noted vector. Floors only rise and a
/// log is never changed below its cursor, so the floors of the last page hold for all pages before.
fn copy_log(
    target: &mut dyn Partition,
    source: &mut dyn Partition,
    (noted, number): (&Status, ReseedNumber),
    barriers: &Barriers,
    limits: PageLimits,
) -> Result<Vector, ReseedError> {
    let mut from = source.status().map_err(ReseedError::Source)?.floors;
    loop {
        let request = PageRequest {
            from: from.clone(),
            origins: Origins::AllBut(None),
            early: false,
            rows: false,
            entries_max: limits.entries_max,
            bytes_max: limits.bytes_max,
        };
        let page = match source.page(&request) {
            Ok(page) => page,
            Err(PartitionError::Refused(Refusal::BelowFloor { .. })) => {
                // Trimmed in between: read on above the new floors.
                from.join(&source.status().map_err(ReseedError::Source)?.floors);
                continue;
            }
            Err(error) => return Err(ReseedError::Source(error)),
        };
        same_source(noted, &page.source)?;
        barriers.pass(source, &page.source).map_err(ReseedError::Source)?;
        for segment in &page.segments {
            from.raise(segment.origin, segment.end);
        }
        let covered = |entry: &Entry| entry.version <= noted.vector.get(entry.origin);
        let entries: Vec<Entry> = page.entries.into_iter().filter(covered).collect();
        if Rule::ReseedLog.in_force() {
            target.reseed(number, &ReseedStep::Log(entries)).map_err(ReseedError::Target)?;
        }
        if !page.cut || from.covers(&noted.vector) {
            return Ok(page.source.floors);
        }
    }
}

fn same_source(noted: &Status, now: &Status) -> Result<(), ReseedError> {
    let same = noted.run == now.run && noted.reseed == now.reseed && !now.reseeding;
    if same || !Rule::ReseedSource.in_force() { Ok(()) } else { Err(ReseedError::SourceChanged) }
}
