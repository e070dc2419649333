//! Comparing and mending: what a partition holds, and putting single rows right.

use super::{Places, ledger, same_reseed, serving, status};
use crate::partition::tables::{Cell, ClockRow, Tables};
use crate::partition::upkeep::{
    Digest, Expired, Inspected, Inspection, Repair, Repaired, Stride, Survey,
};
use crate::partition::{Entry, Result};
use crate::record::Key;
use crate::rules::Rule;

pub(super) fn expired(
    tables: &mut dyn Tables,
    after: Option<&Expired>,
    max: usize,
) -> Result<Vec<Expired>> {
    serving(tables.clock()?.reseeding)?;
    let now_ms = tables.now_ms()?;
    tables.expired(now_ms, after, max)
}

pub(super) fn digest(tables: &mut dyn Tables, stride: &Stride) -> Result<Digest> {
    serving(tables.clock()?.reseeding)?;
    let source = status(tables)?;
    let (sum, upto) = tables.sum(stride)?;
    Ok(Digest { source, sum, upto })
}

pub(super) fn survey(tables: &mut dyn Tables, stride: &Stride) -> Result<Survey> {
    serving(tables.clock()?.reseeding)?;
    Ok(Survey { source: status(tables)?, marks: tables.marks(stride)? })
}

pub(super) fn inspect(tables: &mut dyn Tables, key: &Key) -> Result<Inspection> {
    serving(tables.clock()?.reseeding)?;
    let source = status(tables)?;
    let Some(mark) = tables.marks(&Stride::of(key))?.pop() else {
        return Ok(Inspection { source, row: None });
    };
    let row = match tables.cells(&[key], usize::MAX)?.remove(key) {
        Some(Cell::Row(row)) => Some(row),
        Some(Cell::Large(_) | Cell::Damaged) | None => None,
    };
    Ok(Inspection { source, row: Some(Inspected { mark, row }) })
}

/// Compares and sets: whatever was written, or collected, since the row was seen stands.
pub(super) fn repair(tables: &mut dyn Tables, repair: &Repair) -> Result<Repaired> {
    let clock = tables.clock()?;
    same_reseed(Rule::RepairReseed, &clock, repair.reseed)?;
    let places = Places::read(tables, &clock)?;
    let standing = tables.marks(&Stride::of(&repair.key))?.pop();
    let stands = standing.as_ref().map(|mark| mark.fingerprint) == repair.seen;
    // H3: what is missing here may be a tombstone that was collected since. Then it was at or below
    // the floor, and a source that is above it has seen it.
    let sees = repair.source.covers(&places.floors);
    if !stands && Rule::RepairStands.in_force() || !sees && Rule::RepairAboveFloors.in_force() {
        return Ok(Repaired::Overtaken);
    }
    if repair.keep {
        keep(tables, &repair.key)?;
    }
    match &repair.right {
        None => tables.remove_rows(&[&repair.key])?,
        Some(row) => {
            let (origin, version) = (row.origin, row.version);
            if origin != clock.partition {
                tables.put_cursors(&places.unknown(std::iter::once(origin)))?;
            }
            tables.put_rows(&[row])?;
            if version > places.floors.get(origin) {
                tables.put_entries(&[Entry { origin, version, key: row.key.clone() }])?;
            }
            // K9: whoever holds a row of an epoch never writes under an older one.
            if version.epoch() > clock.epoch {
                tables.set_clock(&ClockRow { epoch: version.epoch(), ..clock })?;
            }
        }
    }
    Ok(Repaired::Done)
}

/// The row that stands goes to the ledger, in the transaction that drops it (LOSS-1). What is
/// damaged is nobody's write.
fn keep(tables: &mut dyn Tables, key: &Key) -> Result<()> {
    match tables.cells(&[key], usize::MAX)?.remove(key) {
        Some(Cell::Row(row)) => ledger::note(tables, &row),
        Some(Cell::Large(_) | Cell::Damaged) | None => Ok(()),
    }
}
