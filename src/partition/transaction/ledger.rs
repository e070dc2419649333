//! The ledger: reading it, adding to it, and what has been kept long enough.

use std::time::Duration;

use crate::partition::Result;
use crate::partition::tables::Tables;
use crate::partition::upkeep::{Conflict, ConflictPlace, Lost};
use crate::record::Record;

pub(super) fn read(
    tables: &mut dyn Tables,
    after: Option<&ConflictPlace>,
    max: usize,
) -> Result<Vec<Conflict>> {
    let now_ms = tables.now_ms()?;
    let told = |(row, noted_ms)| Conflict { row, noted_ms, age: since(noted_ms, now_ms) };
    Ok(tables.conflicts(after, max)?.into_iter().map(told).collect())
}

/// A clock that was put back makes an entry young, never old.
fn since(noted_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(noted_ms)).unwrap_or(0))
}

fn before(now_ms: i64, age: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn keep(tables: &mut dyn Tables, lost: &[Lost]) -> Result<()> {
    let now_ms = tables.now_ms()?;
    lost.iter().try_for_each(|lost| tables.put_conflict(&lost.row, before(now_ms, lost.age)))
}

/// Adds what is dropped in this transaction (LOSS-1).
pub(super) fn note(tables: &mut dyn Tables, row: &Record) -> Result<()> {
    let now_ms = tables.now_ms()?;
    tables.put_conflict(row, now_ms)
}

pub(super) fn forget(
    tables: &mut dyn Tables,
    places: &[ConflictPlace],
    retention: Duration,
) -> Result<usize> {
    let noted_max = before(tables.now_ms()?, retention);
    let mut removed = 0;
    for place in places {
        removed += usize::from(tables.remove_conflict(place, noted_max)?);
    }
    Ok(removed)
}
