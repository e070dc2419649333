//! Reading: points, lists, and the rows of a reseed.

use bytes::Bytes;

use super::{serving, status};
use crate::partition::tables::{Cell, Points, Stretch, Tables};
use crate::partition::{Chunk, Fetched, Found, Get, Listing, Range, ReseedNumber, Result};
use crate::record::{Key, Space};

/// How many rows are asked of the engine at once while a list or a chunk is collected.
const STRETCH_ROWS: usize = 256;

pub(super) fn get(tables: &mut dyn Tables, get: &Get<'_>) -> Result<Fetched> {
    let clock = tables.clock()?;
    let keys: Vec<&Key> = get.keys.iter().collect();
    let mut cells = tables.cells(&keys, get.inline_bytes_max)?;
    from_points(Points {
        cells: keys.iter().map(|key| cells.remove(*key)).collect(),
        now_ms: tables.now_ms()?,
        reseed: ReseedNumber(clock.reseed),
        reseeding: clock.reseeding,
    })
}

/// What a point read found, if it may be served.
pub(super) fn from_points(points: Points) -> Result<Fetched> {
    serving(points.reseeding)?;
    let found = |cell| match cell {
        Cell::Row(row) => Found::Row(row),
        Cell::Large(bytes) => Found::Large { bytes },
        Cell::Damaged => Found::Damaged,
    };
    let rows = points.cells.into_iter().map(|cell| cell.map(found)).collect();
    Ok(Fetched { rows, now_ms: points.now_ms, reseed: points.reseed })
}

pub(super) fn list(tables: &mut dyn Tables, range: &Range) -> Result<Listing> {
    serving(tables.clock()?.reseeding)?;
    let now_ms = tables.now_ms()?;
    let mut listing = Listing::default();
    let mut after = range.after.clone();
    let mut scanned = 0;
    let mut bytes = 0;
    loop {
        let rows_max = STRETCH_ROWS.min(range.scanned_max - scanned);
        let stretch = Stretch {
            space: range.space,
            prefix: &range.prefix,
            after: after.as_ref(),
            rows_max,
            values: range.value_bytes_max.is_some(),
        };
        let rows = tables.stretch(&stretch)?;
        let exhausted = rows.len() < rows_max;
        for row in rows {
            let visible = row.visible(now_ms).is_some();
            if visible {
                let full = range.value_bytes_max.is_some_and(|max| bytes + row.weight() > max);
                if listing.rows.len() == range.keys_max || (full && !listing.rows.is_empty()) {
                    listing.next = after;
                    return Ok(listing);
                }
            }
            scanned += 1;
            after = Some(row.key.bytes().clone());
            if visible {
                bytes += row.weight();
                listing.rows.push(row);
            }
        }
        if exhausted {
            return Ok(listing);
        }
        if scanned >= range.scanned_max {
            listing.next = after;
            return Ok(listing);
        }
    }
}

pub(super) fn scan(
    tables: &mut dyn Tables,
    after: Option<&Key>,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Chunk> {
    serving(tables.clock()?.reseeding)?;
    let source = status(tables)?;
    let mut chunk = Chunk { source, rows: Vec::new(), more: false };
    let mut bytes = 0;
    for space in Space::ALL {
        let mut from = after.filter(|key| key.space() == space).map(|key| key.bytes().clone());
        if after.is_some_and(|key| key.space() > space) {
            continue;
        }
        loop {
            let stretch = Stretch {
                space,
                prefix: &Bytes::new(),
                after: from.as_ref(),
                // Few at a time: a value may have megabytes, and the first rows may fill the chunk.
                rows_max: 8,
                values: true,
            };
            let rows = tables.stretch(&stretch)?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let full = chunk.rows.len() == rows_max || bytes + row.weight() > bytes_max;
                if full && !chunk.rows.is_empty() {
                    chunk.more = true;
                    return Ok(chunk);
                }
                bytes += row.weight();
                from = Some(row.key.bytes().clone());
                chunk.rows.push(row);
            }
        }
    }
    Ok(chunk)
}
