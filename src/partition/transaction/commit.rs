//! Writing: the master's group commit, and the push that follows it to other voters.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{Places, same_reseed, store_newer};
use crate::partition::tables::{Cell, Tables};
use crate::partition::{Entry, Push, Refusal, Result};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::version::{Epoch, Version};
use crate::write::{Outcome, Place, Write, evaluate};

/// Fence and sequence, current rows, evaluation, rows, log. The lock on the clock row makes
/// sequence order equal commit order.
pub(super) fn commit(
    tables: &mut dyn Tables,
    epoch: Epoch,
    writes: &[Write],
) -> Result<Vec<Outcome>> {
    let fence = Rule::Fence.in_force().then_some(epoch);
    let Some(last) = tables.take(fence, writes.len() as u64)? else {
        return Err(why_not(tables, epoch)?.into());
    };
    let (current, damaged) = current_rows(tables, writes)?;
    let place = Place { origin: tables.partition()?, epoch, last, now_ms: tables.now_ms()? };
    let evaluated = evaluate(writes, current, &damaged, place);
    let rows: Vec<&Record> = evaluated.rows.iter().collect();
    tables.put_rows(&rows)?;
    let stays = |version: Version| rows.iter().any(|row| row.version == version);
    let entries: Vec<Entry> = evaluated
        .log
        .into_iter()
        .filter(|(version, _)| Rule::EntryPerWrite.in_force() || stays(*version))
        .map(|(version, key)| Entry { origin: place.origin, version, key })
        .collect();
    tables.put_new_entries(&entries)?;
    Ok(evaluated.outcomes)
}

/// Why no sequence could be taken.
fn why_not(tables: &mut dyn Tables, epoch: Epoch) -> Result<Refusal> {
    let clock = tables.clock()?;
    Ok(if clock.reseeding {
        Refusal::Reseeding
    } else if clock.epoch != epoch {
        Refusal::Fenced { clock: clock.epoch }
    } else {
        Refusal::SequenceExhausted
    })
}

/// Values up to here come with the rows that writes are judged by, so that their checksums are
/// compared. Of larger ones those that are merged into are read together; the others one by one,
/// where a write depends on what the row says, and let go at once (BOUND-1).
const JUDGED_VALUE_BYTES: usize = 64 << 10;

/// The rows that the writes are judged by, and the keys of those that are damaged: one of them is
/// no reason to refuse the others of the batch.
fn current_rows(
    tables: &mut dyn Tables,
    writes: &[Write],
) -> Result<(HashMap<Key, Record>, HashSet<Key>)> {
    let keys = keys_of(writes, Write::needs_current);
    let (mut rows, mut damaged) = (HashMap::new(), HashSet::new());
    if keys.is_empty() {
        return Ok((rows, damaged));
    }
    let mut cells = tables.cells(&keys, JUDGED_VALUE_BYTES)?;
    let large: Vec<Key> =
        cells.extract_if(|_, cell| matches!(cell, Cell::Large(_))).map(|(key, _)| key).collect();
    let merged = keys_of(writes, Write::needs_value);
    let is_merged = |key: &&Key| merged.binary_search(key).is_ok();
    let (merged, judged): (Vec<&Key>, Vec<&Key>) = large.iter().partition(is_merged);
    if !merged.is_empty() {
        cells.extend(tables.cells(&merged, usize::MAX)?);
    }
    let sound = keys_of(writes, Write::needs_sound);
    let is_compared = |key: &&Key| sound.binary_search(key).is_ok();
    let (compared, told): (Vec<&Key>, Vec<&Key>) = judged.into_iter().partition(is_compared);
    for key in compared {
        let cell = tables.cells(&[key], usize::MAX)?.remove(key).map(without_value);
        cells.extend(cell.map(|cell| (key.clone(), cell)));
    }
    if !told.is_empty() {
        cells.extend(tables.outlines(&told)?);
    }
    for (key, cell) in cells {
        match cell {
            Cell::Row(row) => drop(rows.insert(key, row)),
            Cell::Damaged => drop(damaged.insert(key)),
            // There is no larger one.
            Cell::Large(_) => {}
        }
    }
    Ok((rows, damaged))
}

fn without_value(cell: Cell) -> Cell {
    match cell {
        Cell::Row(mut row) => {
            if let Some(body) = &mut row.body {
                body.value = Bytes::new();
            }
            Cell::Row(row)
        }
        cell @ (Cell::Large(_) | Cell::Damaged) => cell,
    }
}

/// The keys of these of the writes, each once, in order.
fn keys_of(writes: &[Write], which: impl Fn(&Write) -> bool) -> Vec<&Key> {
    let mut keys: Vec<&Key> =
        writes.iter().filter(|write| which(write)).map(|write| &write.key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Takes rows ahead of the log. A row that the cursor covers counts as held: it, or something
/// newer, is here, and what is newer may be a tombstone that was collected since (H4).
pub(super) fn push(tables: &mut dyn Tables, push: &Push) -> Result<()> {
    let clock = tables.clock()?;
    same_reseed(Rule::PushReseed, &clock, push.reseed)?;
    if clock.epoch > push.epoch && Rule::PushFence.in_force() {
        return Err(Refusal::Fenced { clock: clock.epoch }.into());
    }
    let places = Places::read(tables, &clock)?;
    let is_above = |row: &&Record| {
        row.version > places.vector.get(row.origin) || !Rule::PushCovered.in_force()
    };
    let above: Vec<&Record> = push.rows.iter().filter(is_above).collect();
    if above.is_empty() {
        return Ok(());
    }
    tables.put_cursors(&places.unknown(above.iter().map(|row| row.origin)))?;
    let known = (&places.floors, &push.cuts);
    store_newer(tables, &clock, known, &newest_of_each_key(&above), false)?;
    if Rule::PushEntry.in_force() {
        let entry = |row: &&Record| Entry {
            origin: row.origin,
            version: row.version,
            key: row.key.clone(),
        };
        tables.put_entries(&above.iter().map(entry).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn newest_of_each_key(rows: &[&Record]) -> Vec<Record> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| (&a.key, b.version).cmp(&(&b.key, a.version)));
    rows.dedup_by(|later, first| later.key == first.key);
    rows.into_iter().cloned().collect()
}
