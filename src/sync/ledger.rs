//! The ledger, spread: what one partition keeps of what merging dropped, all others keep, too, so
//! that a lost partition takes none of it along.
//!
//! All ledgers are read side by side in the order of keys and versions, a few entries at a time;
//! whoever lacks one is given it. Where there are none it costs one small read a partition.

use std::collections::BTreeMap;

use crate::partition::upkeep::ConflictPlace;
use crate::partition::{Partition, PartitionError};
use crate::record::Record;

/// Entries of each ledger that are read at once: their values may be large.
const ENTRIES: usize = 16;

/// Gives every partition the entries that the others have; how many were given.
pub fn spread(partitions: &mut [&mut dyn Partition]) -> Result<usize, PartitionError> {
    let (mut given, mut after): (usize, Option<ConflictPlace>) = (0, None);
    loop {
        let mut ledgers: Vec<BTreeMap<ConflictPlace, Record>> = Vec::new();
        // Up to where all that are cut have been read.
        let mut upto: Option<ConflictPlace> = None;
        for partition in partitions.iter_mut() {
            let page = partition.conflicts(after.as_ref(), ENTRIES)?;
            let is_cut = page.len() >= ENTRIES;
            let ledger: BTreeMap<ConflictPlace, Record> = page
                .into_iter()
                .map(|conflict| {
                    let row = conflict.row;
                    (ConflictPlace { key: row.key.clone(), version: row.version }, row)
                })
                .collect();
            if let Some((last, _)) = ledger.last_key_value().filter(|_| is_cut) {
                upto = Some(upto.map_or_else(|| last.clone(), |upto| upto.min(last.clone())));
            }
            ledgers.push(ledger);
        }
        let is_read = |place: &ConflictPlace| upto.as_ref().is_none_or(|upto| place <= upto);
        let all: BTreeMap<ConflictPlace, Record> =
            ledgers.iter().flatten().map(|(place, row)| (place.clone(), row.clone())).collect();
        for (partition, ledger) in partitions.iter_mut().zip(&ledgers) {
            let lacks = |(place, _): &(&ConflictPlace, &Record)| {
                is_read(place) && !ledger.contains_key(place)
            };
            let lacking: Vec<Record> =
                all.iter().filter(lacks).map(|(_, row)| row.clone()).collect();
            if !lacking.is_empty() {
                partition.keep(&lacking)?;
                given += lacking.len();
            }
        }
        match upto {
            Some(upto) => after = Some(upto),
            None => return Ok(given),
        }
    }
}
