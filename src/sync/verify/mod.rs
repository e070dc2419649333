//! Verifying: all partitions hold the same rows, or are made to.
//!
//! # Flow
//!
//! The keys of each space are walked through in strides. Every partition tells what it holds in a
//! stride in one number ([`Digest`](crate::partition::upkeep::Digest)), made where the rows are, so
//! that equal rows cost no way. Where the numbers differ the stride is taken in smaller parts, down
//! to single rows; those that differ are read at every partition and judged ([`mod@judge`]), and
//! what is wrong is put right by comparing and setting: a write that comes in between is left alone
//! and judged anew. Only what is durable is held against anybody, and copied (BAR-1).
//!
//! # Bounds
//!
//! Nothing is held but one stride's digests, or the marks of a few hundred rows. A stride grows as
//! long as its digests come quickly, so that neither large values nor a slow server make one take
//! long ([`Pace`]).

pub mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use self::judge::{Verdict, Views, Wrong, judge};
use super::barrier::Barriers;
use crate::clock::Clock;
use crate::partition::upkeep::{Mark, Repair, Repaired, Stride};
use crate::partition::{Partition, PartitionError, Result};
use crate::record::{Key, Space};
use crate::topology::Topology;
use crate::version::PartitionId;

/// Rows of the first stride, and the most of any: a second's work of a server.
const STRIDE_ROWS: (usize, usize) = (64, 8192);
/// Below so many rows a stride is told row by row.
const SURVEY_ROWS: usize = 64;
/// A stride that differs is taken in so many parts.
const PARTS: usize = 8;
/// How often a row is looked at again while others write it.
const ATTEMPTS_MAX: usize = 3;
/// How many differences are told of one by one; the others are counted.
pub const DIFFERENCES_MAX: usize = 100;

/// A partition that is compared.
pub struct Side<'a> {
    /// Its id.
    pub id: PartitionId,
    /// A connection to it.
    pub partition: &'a mut (dyn Partition + 'a),
    /// Why it is left out from here on.
    pub trouble: Option<PartitionError>,
}

/// A copy that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which key.
    pub key: Key,
    /// Whose copy.
    pub partition: PartitionId,
    /// What was wrong with it.
    pub wrong: Wrong,
    /// Whether it was put right.
    pub is_mended: bool,
}

/// What a pass has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Live rows that are the same everywhere, as far as partitions could be asked.
    pub rows: u64,
    /// Digests that were asked for.
    pub digests: u64,
    /// Rows that were told one by one.
    pub marks: u64,
    /// Roughly the bytes that left the partitions for it.
    pub bytes: u64,
    /// Copies that were wrong and are not any more.
    pub mended: u64,
    /// Copies that are still wrong: nobody who could be asked had what is right.
    pub left: u64,
    /// The first of both kinds.
    pub differences: Vec<Difference>,
}

/// Compares the partitions and puts right what is wrong; `progress` is told after each stride.
pub fn verify(
    sides: &mut [Side<'_>],
    topology: &Topology,
    barriers: &Barriers,
    clock: &dyn Clock,
    mut progress: impl FnMut(&Findings),
) -> Findings {
    let mut pass = Pass { sides, topology, barriers, found: Findings::default() };
    let mut pace = Pace::default();
    for space in Space::ALL {
        let mut rest = Some(Stride::all(space, pace.rows));
        while let Some(stride) = rest {
            let began = clock.monotonic();
            let Some(end) = pass.stride(&stride) else { return pass.found };
            pace.note(clock.monotonic().saturating_sub(began));
            progress(&pass.found);
            rest = stride.after(&end).map(|rest| Stride { rows_max: pace.rows, ..rest });
        }
    }
    pass.found
}

/// How many rows a stride has.
struct Pace {
    rows: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: STRIDE_ROWS.0 }
    }
}

impl Pace {
    fn note(&mut self, took: Duration) {
        if took < Duration::from_millis(250) {
            self.rows = (self.rows * 2).min(STRIDE_ROWS.1);
        } else if took > Duration::from_secs(1) {
            self.rows = (self.rows / 4).max(1);
        }
    }
}

/// What the digests of a stride said.
struct Compared {
    upto: Bytes,
    is_equal: bool,
    rows: u64,
}

struct Pass<'s, 'a> {
    sides: &'s mut [Side<'a>],
    topology: &'s Topology,
    barriers: &'s Barriers,
    found: Findings,
}

impl Pass<'_, '_> {
    /// Asks all that can still be asked; who fails is left out from here on.
    fn ask<T>(
        &mut self,
        mut what: impl FnMut(&mut dyn Partition) -> Result<T>,
    ) -> Vec<(PartitionId, T)> {
        let mut answers = Vec::new();
        for side in self.sides.iter_mut().filter(|side| side.trouble.is_none()) {
            match what(side.partition) {
                Ok(answer) => answers.push((side.id, answer)),
                Err(error) => side.trouble = Some(error),
            }
        }
        answers
    }

    /// Compares a stride and puts right what differs in it; returns up to which key it goes.
    fn stride(&mut self, stride: &Stride) -> Option<Bytes> {
        let Compared { upto, is_equal, rows } = self.compare(stride)?;
        if is_equal {
            self.found.rows += rows;
            return Some(upto);
        }
        let part = Stride { upto: upto.clone(), ..stride.clone() };
        if stride.rows_max <= SURVEY_ROWS {
            self.survey(part);
            return Some(upto);
        }
        let rows_max = stride.rows_max.div_ceil(PARTS);
        let mut rest = Some(Stride { rows_max, ..part });
        while let Some(part) = rest {
            rest = part.after(&self.stride(&part)?);
        }
        Some(upto)
    }

    /// What all say of the same keys: the first one's stride, or less where another has more rows
    /// in it. `None`: there is nobody to ask any more.
    fn compare(&mut self, stride: &Stride) -> Option<Compared> {
        let mut asked = stride.clone();
        loop {
            let (mut upto, mut is_cut, mut is_first) = (asked.upto.clone(), false, true);
            let digests = self.ask(|partition| {
                let rows_max = asked.rows_max * if is_first { 1 } else { 2 };
                let own = Stride { upto: upto.clone(), rows_max, ..asked.clone() };
                let digest = partition.digest(&own)?;
                is_cut |= !is_first && digest.upto < upto;
                upto = digest.upto.clone();
                is_first = false;
                Ok(digest)
            });
            self.found.digests += digests.len() as u64;
            self.found.bytes += digests.iter().map(|(_, d)| 16 + d.upto.len() as u64).sum::<u64>();
            if is_cut {
                asked.upto = upto;
                continue;
            }
            let first = digests.first()?.1.sum;
            let is_equal = digests.iter().all(|(_, digest)| digest.sum == first);
            return Some(Compared { upto, is_equal, rows: first.rows });
        }
    }

    /// Takes a stride row by row.
    fn survey(&mut self, stride: Stride) {
        let mut rest = Some(Stride { rows_max: SURVEY_ROWS * 4, ..stride });
        while let Some(part) = rest {
            let surveys = self.ask(|partition| partition.survey(&part));
            if surveys.is_empty() {
                return;
            }
            let cut = surveys.iter().filter(|(_, survey)| survey.marks.len() == part.rows_max);
            let end = cut.filter_map(|(_, survey)| survey.marks.last()).map(|mark| &mark.key).min();
            let end = end.map_or(&part.upto, Key::bytes).clone();
            let all: Vec<&[Mark]> = surveys.iter().map(|(_, survey)| &survey.marks[..]).collect();
            let marks: usize = all.iter().map(|marks| marks.len()).sum();
            self.found.marks += marks as u64;
            let bytes = |mark: &Mark| mark.key.bytes().len() as u64 + 27;
            self.found.bytes += all.iter().flat_map(|marks| marks.iter()).map(bytes).sum::<u64>();
            let (same, different) = told_apart(&all, &end);
            self.found.rows += same;
            for key in different {
                self.settle(&key);
            }
            rest = part.after(&end);
        }
    }

    /// Puts one row right everywhere.
    fn settle(&mut self, key: &Key) {
        let master = self.topology.master_of(key);
        let mut wrong: BTreeMap<PartitionId, (Wrong, bool)> = BTreeMap::new();
        for attempt in 0..=ATTEMPTS_MAX {
            let views: Views = self.ask(|partition| partition.inspect(key)).into_iter().collect();
            let rows = views.values().filter_map(|view| view.row.as_ref()?.row.as_ref());
            self.found.bytes += rows.map(|row| row.weight() as u64).sum::<u64>();
            let verdicts = self.certain(judge(master, &views), &views);
            // What was wrong and is not any more was put right, by us or by somebody else.
            let is_judged = |id| [id, master].iter().all(|id| views.contains_key(id));
            for (&id, (_, is_mended)) in wrong.iter_mut().filter(|(id, _)| is_judged(**id)) {
                *is_mended = verdicts.iter().all(|verdict| verdict.target != id);
            }
            for verdict in &verdicts {
                wrong.entry(verdict.target).or_insert((verdict.wrong, false));
            }
            if verdicts.is_empty() || attempt == ATTEMPTS_MAX {
                break;
            }
            let mut is_done = false;
            for verdict in &verdicts {
                let repaired = self.mend(key, verdict, &views);
                is_done |= repaired.is_some();
                if let Some((_, is_mended)) = wrong.get_mut(&verdict.target) {
                    *is_mended = repaired == Some(Repaired::Done);
                }
            }
            if !is_done {
                break;
            }
        }
        for (partition, (wrong, is_mended)) in wrong {
            self.found.mended += u64::from(is_mended);
            self.found.left += u64::from(!is_mended);
            if self.found.differences.len() < DIFFERENCES_MAX {
                let key = key.clone();
                self.found.differences.push(Difference { key, partition, wrong, is_mended });
            }
        }
    }

    /// Those that rest on nothing that a crash may take back: with its numbers jumped over, whoever
    /// came past them later would seem to lack it. And nothing else leaves its partition (BAR-1).
    fn certain(&mut self, mut verdicts: Vec<Verdict>, views: &Views) -> Vec<Verdict> {
        let involved = verdicts.iter().flat_map(|one| [Some(one.target), one.source]);
        let involved: BTreeSet<PartitionId> = involved.flatten().collect();
        let barriers = self.barriers;
        let mut is_durable = |id: &PartitionId| {
            let view = views.get(id)?;
            self.ask_one(*id, |partition| barriers.pass(partition, &view.source))
        };
        let durable: BTreeSet<PartitionId> =
            involved.into_iter().filter(|id| is_durable(id).is_some()).collect();
        verdicts.retain(|one| {
            durable.contains(&one.target) && one.source.is_none_or(|id| durable.contains(&id))
        });
        verdicts
    }

    /// Puts one copy right. `None`: nothing can be done about it now.
    fn mend(&mut self, key: &Key, verdict: &Verdict, views: &Views) -> Option<Repaired> {
        let (from, standing) = (verdict.source?, views.get(&verdict.target)?);
        let right = views.get(&from)?;
        let row = right.row.as_ref().and_then(|row| row.row.clone());
        // K7: whoever does not know of a takeover does not know which rows are late.
        if row.as_ref().is_some_and(|row| row.version.epoch() > self.topology.epoch()) {
            return None;
        }
        let repair = Repair {
            key: key.clone(),
            seen: standing.row.as_ref().map(|row| row.mark.fingerprint),
            right: row,
            source: right.source.vector.clone(),
            reseed: standing.source.reseed,
            keep: verdict.keep,
        };
        let repaired = self.ask_one(verdict.target, |target| target.repair(&repair))?;
        if repaired == Repaired::Done {
            tracing::warn!(
                partition = %verdict.target, ?key, wrong = ?verdict.wrong, %from,
                "a row was wrong and has been put right"
            );
        }
        Some(repaired)
    }

    fn ask_one<T>(
        &mut self,
        id: PartitionId,
        what: impl FnOnce(&mut dyn Partition) -> Result<T>,
    ) -> Option<T> {
        let well = |side: &&mut Side<'_>| side.id == id && side.trouble.is_none();
        let side = self.sides.iter_mut().find(well)?;
        what(side.partition).map_err(|error| side.trouble = Some(error)).ok()
    }
}

/// How many live rows are the same everywhere, and the keys of those that are not, up to `end`. A
/// tombstone and no row at all are the same.
fn told_apart(surveys: &[&[Mark]], end: &Bytes) -> (u64, Vec<Key>) {
    let mut copies: BTreeMap<&Key, (usize, BTreeSet<u64>)> = BTreeMap::new();
    let marks = surveys.iter().flat_map(|marks| marks.iter());
    for mark in marks.filter(|mark| !mark.deleted && mark.key.bytes() <= end) {
        let (live, fingerprints) = copies.entry(&mark.key).or_default();
        *live += 1;
        fingerprints.insert(mark.fingerprint);
    }
    let is_same = |(live, fingerprints): &(usize, BTreeSet<u64>)| {
        *live == surveys.len() && fingerprints.len() == 1
    };
    let same = copies.values().filter(|copies| is_same(copies)).count() as u64;
    let different = copies.into_iter().filter(|(_, copies)| !is_same(copies));
    (same, different.map(|(key, _)| key.clone()).collect())
}

#[cfg(test)]
mod tests;
