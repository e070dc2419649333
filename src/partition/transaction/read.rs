//! Reading: points, lists, and the rows of a reseed.

use bytes::Bytes;

use super::{damaged_row, serving, status};
use crate::partition::tables::{Cell, Points, Stretch, Tables};
use crate::partition::{Chunk, Fetched, Found, Get, Listing, Range, ReseedNumber, Result};
use crate::record::{Key, Record, Space};

/// How many rows are asked of the engine at once where no values are wanted, and where they are;
/// and the largest value that comes with its row. So what is held besides the answer is bounded,
/// however large single values are: a larger one is read alone, if there is room for it.
const STRETCH_ROWS: usize = 256;
const STRETCH_ROWS_WITH_VALUES: usize = 64;
const STRETCH_VALUE_BYTES: usize = 64 << 10;

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
    let clock = tables.clock()?;
    serving(clock.reseeding)?;
    let now_ms = tables.now_ms()?;
    let stretch_rows = match range.value_bytes_max {
        Some(_) => STRETCH_ROWS_WITH_VALUES,
        None => STRETCH_ROWS,
    };
    let mut listing = Listing { reseed: ReseedNumber(clock.reseed), ..Listing::default() };
    let mut after = range.after.clone();
    let mut scanned = 0;
    let mut room = Room::of(range.value_bytes_max.unwrap_or(usize::MAX));
    loop {
        let rows_max = stretch_rows.min(range.scanned_max - scanned);
        let stretch = Stretch {
            space: range.space,
            prefix: &range.prefix,
            after: after.as_ref(),
            rows_max,
            value_bytes_max: range.value_bytes_max.map(|_| STRETCH_VALUE_BYTES),
        };
        let cells = tables.stretch(&stretch)?;
        let exhausted = cells.len() < rows_max;
        for (key, cell) in cells {
            let Some(row) = room.whole(tables, &key, cell)? else {
                listing.next = after;
                return Ok(listing);
            };
            if row.visible(now_ms).is_some() {
                if listing.rows.len() == range.keys_max || !room.take(&row) {
                    listing.next = after;
                    return Ok(listing);
                }
                listing.rows.push(row);
            }
            scanned += 1;
            after = Some(key.bytes().clone());
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

/// What still fits an answer; one row does in any case.
struct Room {
    bytes: usize,
    is_untouched: bool,
}

impl Room {
    const fn of(bytes: usize) -> Self {
        Self { bytes, is_untouched: true }
    }

    /// The row itself, a large one read now; `None`: there is no room for it any more.
    fn whole(&self, tables: &mut dyn Tables, key: &Key, cell: Cell) -> Result<Option<Record>> {
        let bytes = match cell {
            Cell::Row(row) => return Ok(Some(row)),
            Cell::Large(bytes) => bytes,
            Cell::Damaged => return Err(damaged_row(key)),
        };
        if !self.is_untouched && bytes > self.bytes {
            return Ok(None);
        }
        match tables.cells(&[key], usize::MAX)?.remove(key) {
            Some(Cell::Row(row)) => Ok(Some(row)),
            // In this same snapshot it was there.
            Some(Cell::Large(_) | Cell::Damaged) | None => Err(damaged_row(key)),
        }
    }

    /// Whether there is room for the row, which is taken then.
    fn take(&mut self, row: &Record) -> bool {
        let left = self.bytes.checked_sub(row.weight());
        let fits = left.is_some() || self.is_untouched;
        if fits {
            self.bytes = left.unwrap_or(0);
            self.is_untouched = false;
        }
        fits
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
    let mut room = Room::of(bytes_max);
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
                rows_max: STRETCH_ROWS_WITH_VALUES,
                value_bytes_max: Some(STRETCH_VALUE_BYTES),
            };
            let cells = tables.stretch(&stretch)?;
            if cells.is_empty() {
                break;
            }
            for (key, cell) in cells {
                let is_full = !chunk.rows.is_empty() && chunk.rows.len() >= rows_max;
                let row = if is_full { None } else { room.whole(tables, &key, cell)? };
                let Some(row) = row.filter(|row| room.take(row)) else {
                    chunk.more = true;
                    return Ok(chunk);
                };
                from = Some(key.bytes().clone());
                chunk.rows.push(row);
            }
        }
    }
    Ok(chunk)
}
