//! Trimming: moving the floor, which shortens logs and collects tombstones.

use super::Places;
use crate::partition::tables::{CursorRow, Tables};
use crate::partition::{Entry, Refusal, Result, Trim, Trimmed};
use crate::record::Key;
use crate::rules::Rule;
use crate::version::{PartitionId, Version};

pub(super) fn trim(tables: &mut dyn Tables, trim: &Trim) -> Result<Trimmed> {
    let clock = tables.clock()?;
    if clock.epoch != trim.epoch && Rule::TrimEpoch.in_force() {
        return Err(Refusal::Fenced { clock: clock.epoch }.into());
    }
    let places = Places::read(tables, &clock)?;
    let mut trimmed = Trimmed::default();
    for (origin, wanted) in trim.floor.iter() {
        let own = places.vector.get(origin);
        let wanted = if Rule::TrimOwnCursor.in_force() { wanted.min(own) } else { wanted };
        let standing = places.floors.get(origin);
        if wanted <= standing || trimmed.cut {
            continue;
        }
        let left = trim.entries_max - trimmed.entries;
        let floor = collect(tables, origin, (standing, wanted), left, &mut trimmed)?;
        if floor > standing {
            let cursor = if origin == clock.partition { Version::ZERO } else { own };
            tables.put_cursors(&[CursorRow { origin, cursor, floor }])?;
        }
    }
    Ok(trimmed)
}

/// Removes an origin's log entries in (from, to], at most `entries_max`, and the tombstones among
/// the rows that they name. Returns the floor that this makes.
pub(super) fn collect(
    tables: &mut dyn Tables,
    origin: PartitionId,
    (from, to): (Version, Version),
    entries_max: usize,
    trimmed: &mut Trimmed,
) -> Result<Version> {
    let mut entries: Vec<Entry> = tables.entries(origin, from, entries_max + 1)?;
    entries.retain(|entry| entry.version <= to);
    let mut floor = to;
    if entries.len() > entries_max {
        entries.truncate(entries_max);
        trimmed.cut = true;
        floor = entries.last().map_or(from, |entry| entry.version);
    }
    // The newest row of a key decides: an older entry of a key that lives again collects nothing.
    let mut keys: Vec<&Key> = entries.iter().map(|entry| &entry.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let tombstones = tables.tombstones(&keys)?;
    let collected =
        |(_, (o, version)): &(&Key, &(PartitionId, Version))| *o == origin && *version <= floor;
    let dead: Vec<&Key> = tombstones.iter().filter(collected).map(|(key, _)| key).collect();
    tables.remove_rows(&dead)?;
    tables.remove_entries(origin, floor)?;
    trimmed.entries += entries.len();
    trimmed.tombstones += dead.len();
    Ok(floor)
}
