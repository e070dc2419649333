//! Reseeding: a partition is emptied and made anew from another, under a number that only rises.

use super::trim::collect;
use super::{Places, store_newer};
use crate::partition::tables::{ClockRow, CursorRow, Tables};
use crate::partition::{Entry, Refusal, ReseedNumber, ReseedStep, Result, Trimmed};
use crate::rules::Rule;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

pub(super) fn step(
    tables: &mut dyn Tables,
    number: ReseedNumber,
    step: &ReseedStep,
) -> Result<ReseedNumber> {
    let clock = tables.clock()?;
    if let ReseedStep::Begin = step {
        return begin(tables, &clock);
    }
    if Rule::ReseedNumber.in_force() && (!clock.reseeding || clock.reseed != number.0) {
        return Err(Refusal::Reseeding.into());
    }
    match step {
        ReseedStep::Begin => {}
        ReseedStep::Rows(rows) => {
            let places = Places::read(tables, &clock)?;
            let origins = rows.iter().map(|row| row.origin);
            tables.put_cursors(&places.unknown(origins.filter(|o| *o != clock.partition)))?;
            store_newer(tables, &clock, &places.floors, rows, true)?;
        }
        ReseedStep::Log(entries) => {
            let others: Vec<Entry> =
                entries.iter().filter(|entry| entry.origin != clock.partition).cloned().collect();
            tables.put_entries(&others)?;
        }
        ReseedStep::End { noted, floors } => end(tables, &clock, noted, floors)?,
    }
    Ok(number)
}

fn begin(tables: &mut dyn Tables, clock: &ClockRow) -> Result<ReseedNumber> {
    if Rule::ReseedEmpties.in_force() {
        tables.clear()?;
    }
    let reseed = clock.reseed + 1;
    tables.set_clock(&ClockRow { reseed, reseeding: true, ..*clock })?;
    Ok(ReseedNumber(reseed))
}

/// From here on the copy is complete up to the noted vector, and its log from the floors to there.
fn end(tables: &mut dyn Tables, clock: &ClockRow, noted: &Vector, floors: &Vector) -> Result<()> {
    if let Some((origin, _)) = noted.first_uncovered(floors)
        && Rule::ReseedAgain.in_force()
    {
        return Err(Refusal::BelowFloor { origin }.into());
    }
    let cursors: Vec<CursorRow> = noted
        .iter()
        .filter(|(origin, _)| *origin != clock.partition)
        .map(|(origin, cursor)| CursorRow { origin, cursor, floor: floors.get(origin) })
        .collect();
    for row in &cursors {
        collect_all(tables, row.origin, row.floor)?;
    }
    tables.put_cursors(&cursors)?;
    let newest = noted.iter().map(|(_, version)| version.epoch()).max().unwrap_or(clock.epoch);
    let epoch = if Rule::ReseedRaise.in_force() { clock.epoch.max(newest) } else { clock.epoch };
    tables.set_clock(&ClockRow { epoch, reseeding: false, ..*clock })
}

/// Rows and entries that the source collected while it was copied.
fn collect_all(tables: &mut dyn Tables, origin: PartitionId, floor: Version) -> Result<()> {
    const ENTRIES: usize = 1000;
    let mut from = Version::ZERO;
    loop {
        let mut trimmed = Trimmed::default();
        from = collect(tables, origin, (from, floor), ENTRIES, &mut trimmed)?;
        if !trimmed.cut {
            return Ok(());
        }
    }
}
