//! Copying: what stands above a position, and how it is taken in.
//!
//! A page names, per origin, the log entries above a position, and brings the *current* rows of the
//! keys named, whatever their version and origin. Its *claim* says up to where it is complete for
//! whoever stands at the position: there the target's cursor goes, in the transaction that brings
//! the entries and rows (CUR-1). So whatever a target's cursor covers, the target holds (VEC-1).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Places, damaged_row, same_reseed, serving, status, store_newer};
use crate::partition::tables::{Cell, ClockRow, CursorRow, Tables};
use crate::partition::{
    Applied, Entry, Page, PageRequest, Refusal, ReseedNumber, Result, Segment, Status,
};
use crate::record::{Key, Record};
use crate::rules::Rule;
use crate::topology::cut::Cuts;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// Reads a page in the snapshot of `tables`.
pub(super) fn page(tables: &mut dyn Tables, request: &PageRequest) -> Result<Page> {
    serving(tables.clock()?.reseeding)?;
    let source = status(tables)?;
    if let Some((origin, _)) = request.from.first_uncovered(&source.floors)
        && Rule::AboveFloors.in_force()
    {
        return Err(Refusal::BelowFloor { origin }.into());
    }
    let mut builder = Builder::new(request);
    for (origin, head) in origins(&source) {
        if !request.origins.contain(origin) {
            continue;
        }
        let from = request.from.get(origin);
        let standing = source.vector.get(origin);
        let mut entries = Vec::new();
        let mut more = false;
        if head > from {
            entries = tables.entries(origin, from, builder.entries_left() + 1)?;
            if !(request.early && Rule::EarlyEntries.in_force()) {
                entries.retain(|entry| entry.version <= standing);
            }
            more = entries.len() > builder.entries_left();
            entries.truncate(builder.entries_left());
        }
        builder.add(
            tables,
            Segment { origin, from, end: from, claim: from },
            standing,
            entries,
            more,
        )?;
    }
    Ok(builder.finish(source))
}

/// Every origin that the source has anything of, with its newest log entry.
fn origins(source: &Status) -> BTreeMap<PartitionId, Version> {
    let known = source.vector.iter().chain(source.heads.iter());
    known.map(|(origin, _)| (origin, source.heads.get(origin))).collect()
}

/// Rows asked for at once while a page is made, and the largest value among them: what they hold
/// together is bounded however large single values are.
const CHUNK_KEYS: usize = 64;
const CHUNK_VALUE_BYTES: usize = 64 << 10;

struct Builder {
    with_rows: bool,
    entries_max: usize,
    bytes_left: usize,
    segments: Vec<Segment>,
    entries: Vec<Entry>,
    rows: Vec<Record>,
    keys: HashSet<Key>,
    cut: bool,
}

impl Builder {
    fn new(request: &PageRequest) -> Self {
        Self {
            with_rows: request.rows,
            entries_max: request.entries_max,
            bytes_left: request.bytes_max,
            segments: Vec::new(),
            entries: Vec::new(),
            rows: Vec::new(),
            keys: HashSet::new(),
            cut: false,
        }
    }

    fn entries_left(&self) -> usize {
        if self.cut { 0 } else { self.entries_max - self.entries.len() }
    }

    /// Adds what fits of one origin's entries, with their rows, and notes how far that goes.
    fn add(
        &mut self,
        tables: &mut dyn Tables,
        mut segment: Segment,
        standing: Version,
        entries: Vec<Entry>,
        more: bool,
    ) -> Result<()> {
        let mut complete = !more;
        'entries: for chunk in entries.chunks(CHUNK_KEYS) {
            let mut cells = self.cells(tables, chunk)?;
            for entry in chunk {
                if !self.take_row(tables, &mut cells, &entry.key)? {
                    complete = false;
                    break 'entries;
                }
                segment.end = entry.version;
                self.entries.push(entry.clone());
            }
        }
        if complete {
            segment.claim = segment.from.max(standing);
            segment.end = segment.end.max(segment.claim);
            if !Rule::ClaimBound.in_force() {
                segment.claim = segment.end;
            }
        } else {
            let end = segment.end;
            let end = if Rule::ClaimBound.in_force() { end.min(standing) } else { end };
            segment.claim = segment.from.max(end);
            self.cut = true;
        }
        self.segments.push(segment);
        Ok(())
    }

    /// The rows that a chunk of entries names and that are not in the page yet, large ones as
    /// sizes.
    fn cells(&self, tables: &mut dyn Tables, chunk: &[Entry]) -> Result<HashMap<Key, Cell>> {
        let named = chunk.iter().map(|entry| &entry.key);
        let mut keys: Vec<&Key> =
            named.filter(|key| self.with_rows && !self.keys.contains(*key)).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() { Ok(HashMap::new()) } else { tables.cells(&keys, CHUNK_VALUE_BYTES) }
    }

    /// Brings the current row of `key` along, once; `false`: there is no room for it any more.
    fn take_row(
        &mut self,
        tables: &mut dyn Tables,
        cells: &mut HashMap<Key, Cell>,
        key: &Key,
    ) -> Result<bool> {
        if !self.with_rows || self.keys.contains(key) {
            return Ok(true);
        }
        let first = self.rows.is_empty();
        let mut cell = cells.remove(key);
        if let Some(Cell::Large(bytes)) = cell
            && (first || bytes <= self.bytes_left)
        {
            cell = tables.cells(&[key], usize::MAX)?.remove(key);
        }
        match cell {
            None => {}
            Some(Cell::Row(row)) if first || row.weight() <= self.bytes_left => {
                self.bytes_left = self.bytes_left.saturating_sub(row.weight());
                self.rows.push(row);
            }
            Some(Cell::Row(_) | Cell::Large(_)) => return Ok(false),
            // Without it the page would claim what it does not bring.
            Some(Cell::Damaged) => return Err(damaged_row(key)),
        }
        self.keys.insert(key.clone());
        Ok(true)
    }

    fn finish(self, source: Status) -> Page {
        Page {
            source,
            segments: self.segments,
            entries: self.entries,
            rows: self.rows,
            cut: self.cut,
            cuts: Cuts::NONE,
        }
    }
}

/// What a page would be that trusts a later vector than its snapshot's: see
/// [`Rule::SnapshotBound`].
pub(super) fn reaching(mut page: Page, later: Status) -> Page {
    for segment in &mut page.segments {
        if !page.cut {
            segment.claim = segment.claim.max(later.vector.get(segment.origin));
        }
    }
    page.source = later;
    page
}

/// Takes a page in: guards, rows, entries, cursors, clock; all or nothing.
pub(super) fn apply(tables: &mut dyn Tables, page: &Page, reseed: ReseedNumber) -> Result<Applied> {
    let clock = tables.clock()?;
    same_reseed(Rule::ApplyReseed, &clock, reseed)?;
    let places = Places::read(tables, &clock)?;
    guard(page, &places)?;

    let origins = page.segments.iter().map(|segment| segment.origin);
    let row_origins = page.rows.iter().map(|row| row.origin);
    let unknown = places.unknown(origins.chain(row_origins).filter(|o| *o != clock.partition));
    let entries: Vec<Entry> = page
        .entries
        .iter()
        .filter(|entry| entry.origin != clock.partition)
        .filter(|entry| entry.version > places.floors.get(entry.origin))
        .cloned()
        .collect();
    tables.put_entries(&entries)?;
    let known = (&places.floors, &page.cuts);
    let newer = store_newer(tables, &clock, known, &page.rows, Rule::RowEntry.in_force())?;
    let moved = moved_cursors(page, &places, &clock);
    tables.put_cursors(&unknown)?;
    tables.put_cursors(&moved)?;
    let raised = raise_clock(tables, &clock, page)?;
    Ok(Applied {
        rows: newer.len(),
        bytes: newer.iter().map(|row| row.weight()).sum(),
        changed: raised || !(entries.is_empty() && newer.is_empty() && moved.is_empty()),
    })
}

fn guard(page: &Page, places: &Places) -> Result<(), Refusal> {
    for segment in page.segments.iter().filter(|segment| segment.claim > segment.from) {
        if places.vector.get(segment.origin) < segment.from && Rule::CursorStands.in_force() {
            return Err(Refusal::CursorMoved { origin: segment.origin });
        }
    }
    if let Some((origin, _)) = page.source.vector.first_uncovered(&places.floors)
        && Rule::SourceAboveFloors.in_force()
    {
        return Err(Refusal::SourceBelowFloor { origin });
    }
    Ok(())
}

fn moved_cursors(page: &Page, places: &Places, clock: &ClockRow) -> Vec<CursorRow> {
    let claims = page.segments.iter().filter(|segment| segment.claim > segment.from);
    let forward = claims.filter(|segment| {
        segment.origin != clock.partition && segment.claim > places.vector.get(segment.origin)
    });
    let floors: &Vector = &places.floors;
    forward
        .map(|segment| CursorRow {
            origin: segment.origin,
            cursor: segment.claim,
            floor: floors.get(segment.origin),
        })
        .collect()
}

/// A partition that holds a row of an epoch never writes under an older one (K9).
fn raise_clock(tables: &mut dyn Tables, clock: &ClockRow, page: &Page) -> Result<bool> {
    match page.newest_epoch() {
        Some(epoch) if epoch > clock.epoch && Rule::ApplyRaise.in_force() => {
            tables.set_clock(&ClockRow { epoch, ..*clock })?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
