//! After a takeover: what merging drops of a lost master's late rows, and what nobody's log has.
//!
//! **Late rows** (LOSS-1): whatever keeps one from being or staying its key's current row writes it
//! to the ledger, in that same transaction. One that the same origin replaces is history, not lost;
//! so is one that the key's master replaces, who has seen it.
//!
//! **Early rows** (H11): what was pushed ahead of a log whose origin is gone would never be in any
//! log that a cursor covers. The new master gives it a version of its own.

use std::collections::HashMap;

use super::{Places, ledger};
use crate::partition::tables::{Cell, Tables};
use crate::partition::{Entry, Refusal, Reissued, Result};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::topology::Slot;
use crate::topology::cut::{Cuts, SlotSet};
use crate::version::{Epoch, PartitionId, Version};

/// Writes to the ledger what of the late rows loses when `rows` meet those that stand.
pub(super) fn keep(
    tables: &mut dyn Tables,
    cuts: &Cuts,
    rows: &[Record],
    standing: &HashMap<Key, Version>,
) -> Result<()> {
    if cuts.is_empty() || !Rule::LateKept.in_force() {
        return Ok(());
    }
    for row in rows {
        let Some(stands) = standing.get(&row.key).filter(|stands| **stands != row.version) else {
            continue;
        };
        if !cuts.may_make_late(row.version.min(*stands)) {
            continue;
        }
        // One by one: late rows are few, and their values may be large.
        let Some(Cell::Row(other)) = tables.cells(&[&row.key], usize::MAX)?.remove(&row.key) else {
            continue;
        };
        let (loser, winner) =
            if row.version < other.version { (row, &other) } else { (&other, row) };
        let is_lost = loser.origin != winner.origin && cuts.make_late(loser);
        if is_lost && loser.body != winner.body {
            ledger::note(tables, loser)?;
        }
    }
    Ok(())
}

/// Early rows in one transaction, and how many bytes of them, but for the first.
const ROWS_MAX: usize = 256;
const BYTES_MAX: usize = 4 << 20;
/// Log entries looked at together.
const CHUNK: usize = 64;

/// Gives the early rows of `slots` that are still current versions of this partition's own.
pub(super) fn reissue(tables: &mut dyn Tables, epoch: Epoch, slots: &SlotSet) -> Result<Reissued> {
    let clock = tables.clock()?;
    if clock.reseeding {
        return Err(Refusal::Reseeding.into());
    }
    if clock.epoch != epoch {
        return Err(Refusal::Fenced { clock: clock.epoch }.into());
    }
    let Found { mut rows, more, .. } = early_rows(tables, slots)?;
    if rows.is_empty() {
        return Ok(Reissued { rows: 0, more });
    }
    let Some(mut seq) = tables.take(Some(epoch), rows.len() as u64)? else {
        return Err(Refusal::SequenceExhausted.into());
    };
    for row in &mut rows {
        seq = seq.advanced(1).ok_or(Refusal::SequenceExhausted)?;
        (row.origin, row.version) = (clock.partition, Version::new(epoch, seq));
    }
    tables.put_rows(&rows.iter().collect::<Vec<&Record>>())?;
    let entry =
        |row: &Record| Entry { origin: row.origin, version: row.version, key: row.key.clone() };
    tables.put_entries(&rows.iter().map(entry).collect::<Vec<Entry>>())?;
    Ok(Reissued { rows: rows.len(), more })
}

/// Early rows of `slots` that still stand, as many as fit one transaction.
pub(super) fn early_rows(tables: &mut dyn Tables, slots: &SlotSet) -> Result<Found> {
    let clock = tables.clock()?;
    let places = Places::read(tables, &clock)?;
    let mut found = Found { rows: Vec::new(), bytes: 0, more: false };
    for place in places.rows.iter().filter(|place| place.origin != clock.partition) {
        let cursor = places.vector.get(place.origin);
        found.early_of(tables, place.origin, cursor, slots)?;
    }
    Ok(found)
}

/// What was found.
pub(super) struct Found {
    rows: Vec<Record>,
    bytes: usize,
    more: bool,
}

impl Found {
    /// Whether that is nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the rows that entries above the cursor of `origin` name and that still stand.
    fn early_of(
        &mut self,
        tables: &mut dyn Tables,
        origin: PartitionId,
        mut after: Version,
        slots: &SlotSet,
    ) -> Result<()> {
        loop {
            let entries = tables.entries(origin, after, CHUNK)?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.version;
            for entry in entries.iter().filter(|entry| slots.contains(Slot::of(&entry.key))) {
                let stands = tables.versions(&[&entry.key])?.get(&entry.key).copied();
                if stands != Some(entry.version) {
                    continue;
                }
                if self.rows.len() >= ROWS_MAX || self.bytes > BYTES_MAX {
                    self.more = true;
                    return Ok(());
                }
                let cell = tables.cells(&[&entry.key], usize::MAX)?.remove(&entry.key);
                // A damaged one is mended first, by verify.
                if let Some(Cell::Row(row)) = cell.filter(|cell| is_of(cell, origin)) {
                    self.bytes += row.weight();
                    self.rows.push(row);
                }
            }
        }
    }
}

fn is_of(cell: &Cell, origin: PartitionId) -> bool {
    matches!(cell, Cell::Row(row) if row.origin == origin)
}
