//! Reseeding: a partition is emptied and made anew from another, under a number that only rises.

use super::Places;
use super::trim::collect;
use crate::partition::acceptor::AcceptorRow;
use crate::partition::tables::{ClockRow, CursorRow, Tables};
use crate::partition::{
    Beginning, Entry, Identity, Refusal, ReseedNumber, ReseedStep, Result, Trimmed,
};
use crate::record::Record;
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
            put_all(tables, &clock, &places.floors, rows)?;
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

/// Stores rows, with their log entries (LOG-1), without a look at what stands: nothing does. The
/// target was emptied, takes no page and no push, and a source gives each key once.
fn put_all(
    tables: &mut dyn Tables,
    clock: &ClockRow,
    floors: &Vector,
    rows: &[Record],
) -> Result<()> {
    tables.put_rows(&rows.iter().collect::<Vec<&Record>>())?;
    let above =
        |row: &&Record| row.origin != clock.partition && row.version > floors.get(row.origin);
    let entry =
        |row: &Record| Entry { origin: row.origin, version: row.version, key: row.key.clone() };
    let mut entries: Vec<Entry> = rows.iter().filter(above).map(entry).collect();
    // In the order of the log, which is that of its table.
    entries.sort_unstable_by_key(|entry| (entry.origin, entry.version));
    tables.put_entries(&entries)
}

/// A read copy is made anew whenever somebody has to. A voter is made once: from then on it may
/// count, and whoever comes late to make it would take what a majority relies on (K2).
fn begin(tables: &mut dyn Tables, clock: &ClockRow) -> Result<ReseedNumber> {
    let is_made = !clock.partition.is_copy() && !clock.reseeding;
    if is_made && Rule::ReseedUnmade.in_force() {
        return Err(Refusal::Made.into());
    }
    if Rule::ReseedEmpties.in_force() {
        tables.clear()?;
    }
    let reseed = clock.reseed + 1;
    tables.set_clock(&ClockRow { reseed, reseeding: true, ..*clock })?;
    Ok(ReseedNumber(reseed))
}

/// The versions of the new set are above all that the old one gave, under the new epoch.
pub(super) fn begin_anew(
    tables: &mut dyn Tables,
    identity: &Identity,
    from: Beginning,
) -> Result<()> {
    tables.create()?;
    match tables.identity()? {
        Some(_) => tables.rename(identity.set)?,
        None => {
            let run = tables.run()?;
            tables.set_identity(identity, run)?;
        }
    }
    tables.put_acceptor(&AcceptorRow::founded(identity))?;
    let clock = tables.clock()?;
    let epoch = clock.epoch.max(identity.topology.epoch());
    match from {
        Beginning::Backup => tables.set_clock(&ClockRow { epoch, ..clock }),
        Beginning::Nothing => {
            tables.clear()?;
            let reseed = clock.reseed + 1;
            tables.set_clock(&ClockRow { epoch, reseed, reseeding: true, ..clock })
        }
    }
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
