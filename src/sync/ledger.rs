//! The ledger, tended: what one partition keeps of what merging dropped, all others keep, too, so
//! that a lost partition takes none of it along; and what has been kept for long enough goes.
//!
//! All ledgers are read side by side in the order of keys and versions, a few entries at a time;
//! whoever lacks one is given it. Where there are none it costs one small read a partition.
//!
//! An entry is as old as whoever keeps it says, by its own clock; with it travels its age, so that
//! clocks may differ and nobody who is given it keeps it for longer than the others. It goes once
//! all who keep it, and were asked, have kept it for the retention: else one would give it to the
//! next for ever. Whoever was not asked still has it, and is found to have kept it for too long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::partition::upkeep::{ConflictPlace, Lost};
use crate::partition::{Partition, PartitionError};

/// Entries of each ledger that are read at once: their values may be large.
const ENTRIES: usize = 16;

type Ledger = BTreeMap<ConflictPlace, Lost>;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Entries that somebody was given who lacked them.
    pub given: usize,
    /// Entries that went, at each of the partitions.
    pub expired: Vec<u64>,
}

/// Gives every partition the entries that the others have, and removes those that have been kept
/// for `retention`; `None`: they are kept for ever.
pub fn tend(
    partitions: &mut [&mut dyn Partition],
    retention: Option<Duration>,
) -> Result<Tended, PartitionError> {
    let mut tended = Tended { given: 0, expired: vec![0; partitions.len()] };
    let mut after: Option<ConflictPlace> = None;
    loop {
        let (ledgers, upto) = read(partitions, after.as_ref())?;
        let is_read = |place: &ConflictPlace| upto.as_ref().is_none_or(|upto| place <= upto);
        let mut youngest: BTreeMap<&ConflictPlace, &Lost> = BTreeMap::new();
        for (place, lost) in ledgers.iter().flatten().filter(|(place, _)| is_read(place)) {
            let known = youngest.entry(place).or_insert(lost);
            if lost.age < known.age {
                *known = lost;
            }
        }
        let is_old = |lost: &Lost| retention.is_some_and(|retention| lost.age >= retention);
        let (old, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            youngest.into_iter().partition(|(_, lost)| is_old(lost));
        let places = partitions.iter_mut().zip(&ledgers).zip(&mut tended.expired);
        for ((partition, ledger), expired) in places {
            let lacking = kept.iter().filter(|(place, _)| !ledger.contains_key(place));
            let lacking: Vec<Lost> = lacking.map(|(_, lost)| (*lost).clone()).collect();
            if !lacking.is_empty() {
                partition.keep(&lacking)?;
                tended.given += lacking.len();
            }
            let own = old.keys().filter(|place| ledger.contains_key(place));
            let own: Vec<ConflictPlace> = own.map(|place| (*place).clone()).collect();
            if let Some(retention) = retention.filter(|_| !own.is_empty()) {
                *expired += partition.forget_conflicts(&own, retention)? as u64;
            }
        }
        match upto {
            Some(upto) => after = Some(upto),
            None => return Ok(tended),
        }
    }
}

/// The next entries of each ledger, and up to where all of them have been read; `None`: to the end.
fn read(
    partitions: &mut [&mut dyn Partition],
    after: Option<&ConflictPlace>,
) -> Result<(Vec<Ledger>, Option<ConflictPlace>), PartitionError> {
    let (mut ledgers, mut upto) = (Vec::new(), None::<ConflictPlace>);
    for partition in partitions.iter_mut() {
        let page = partition.conflicts(after, ENTRIES)?;
        let is_cut = page.len() >= ENTRIES;
        let place = |conflict| {
            let lost = Lost::from(conflict);
            (ConflictPlace::of(&lost.row), lost)
        };
        let ledger: Ledger = page.into_iter().map(place).collect();
        if let Some((last, _)) = ledger.last_key_value().filter(|_| is_cut) {
            upto = Some(upto.map_or_else(|| last.clone(), |upto| upto.min(last.clone())));
        }
        ledgers.push(ledger);
    }
    Ok((ledgers, upto))
}
