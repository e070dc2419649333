//! Which of several copies of a row is right: pure, over what each partition said of it.
//!
//! Every copy comes with its partition's vector and floors, from one snapshot each, taken at
//! different moments. So nothing is held against anybody that may merely be on its way:
//!
//! - A version's content never changes. Two rows of one version that differ are wrong somewhere,
//!   whatever the vectors say.
//! - A partition that covers a version holds it or something newer of that key (VEC-1), or has
//!   collected a tombstone that is newer. Whoever is above its floors has seen that tombstone, and
//!   holds nothing older. So a version that one partition covers and lacks, held by one that is
//!   above its floors, is missing there.
//! - Everything else is lag.
//!
//! A damaged row says nothing for certain, not even its version. It gives way to a good copy of the
//! version that it claims, or to what a partition holds that covers all that its own has, early
//! entries included: the row may be one that was pushed ahead of the log (ACK-1). Among
//! good rows the master of the key decides: what it has goes to the others, and what it covers and
//! lacks goes, into the ledger (LOSS-1). Never by the greater version alone: that would bring back
//! what was deleted (DEL-1).

use std::collections::BTreeMap;

use crate::partition::Status;
use crate::partition::upkeep::{Inspected, Inspection};
use crate::record::Record;
use crate::version::PartitionId;

/// What each partition said of a key.
pub type Views = BTreeMap<PartitionId, Inspection>;

/// What is wrong with a partition's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its checksum does not match.
    Damaged,
    /// It is not what the master has.
    Different,
    /// It is not there, or an older one.
    Missing,
    /// The master has none, or an older one, and would have it.
    Surplus,
}

/// A copy that is wrong, and what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose copy.
    pub target: PartitionId,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// Who has what is right; `None`: nobody that can be asked now.
    pub source: Option<PartitionId>,
    /// Whether the copy goes to the ledger.
    pub keep: bool,
}

impl Verdict {
    const fn new(target: PartitionId, wrong: Wrong, source: Option<PartitionId>) -> Self {
        let keep = matches!(wrong, Wrong::Different | Wrong::Surplus);
        Self { target, wrong, source, keep }
    }
}

/// Judges all copies of a key whose master is `master`.
pub fn judge(master: PartitionId, views: &Views) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = views
        .iter()
        .filter(|(_, view)| is_damaged(view))
        .map(|(&id, view)| Verdict::new(id, Wrong::Damaged, good_copy(master, id, view, views)))
        .collect();
    let Some(decides) = views.get(&master).filter(|view| !is_damaged(view)) else {
        return verdicts;
    };
    for (&id, view) in views.iter().filter(|(id, view)| **id != master && !is_damaged(view)) {
        if let Some(wrong) = against(decides, view) {
            verdicts.push(Verdict::new(id, wrong, Some(master)));
        }
    }
    verdicts
}

const fn is_damaged(view: &Inspection) -> bool {
    matches!(&view.row, Some(Inspected { row: None, .. }))
}

/// The row, if it is good.
fn row(view: &Inspection) -> Option<&Record> {
    view.row.as_ref()?.row.as_ref()
}

/// Who can say what stands in the place of a damaged row: the master before the others.
fn good_copy(
    master: PartitionId,
    damaged: PartitionId,
    view: &Inspection,
    views: &Views,
) -> Option<PartitionId> {
    let claim = view.row.as_ref().map(|row| (row.mark.version, row.mark.origin));
    let mut others: Vec<(PartitionId, &Inspection)> = views
        .iter()
        .map(|(id, other)| (*id, other))
        .filter(|(id, other)| *id != damaged && !is_damaged(other))
        .collect();
    others.sort_by_key(|(id, _)| (*id != master, *id));
    let same =
        others.iter().find(|(_, other)| row(other).map(|row| (row.version, row.origin)) == claim);
    let ahead = || others.iter().find(|(_, other)| covers_all(&other.source, &view.source));
    same.or_else(ahead).map(|(id, _)| *id)
}

/// Whether one has seen every write that the other has, or has early (LOG-1: early rows have their
/// entries).
fn covers_all(one: &Status, other: &Status) -> bool {
    one.vector.covers(&other.vector) && one.vector.covers(&other.heads)
}

/// What is wrong with a good row, as the master sees it.
fn against(master: &Inspection, view: &Inspection) -> Option<Wrong> {
    let (theirs, ours) = (row(master), row(view));
    let (sees_us, sees_them) = (
        master.source.vector.covers(&view.source.floors),
        view.source.vector.covers(&master.source.floors),
    );
    match (theirs, ours) {
        (None, None) => None,
        (Some(right), None) => {
            let lacks = view.source.vector.get(right.origin) >= right.version;
            (!right.is_tombstone() && lacks && sees_us).then_some(Wrong::Missing)
        }
        (None, Some(own)) => {
            let lacks = master.source.vector.get(own.origin) >= own.version;
            (!own.is_tombstone() && lacks && sees_them).then_some(Wrong::Surplus)
        }
        (Some(right), Some(own)) if right.version == own.version => {
            (right != own).then_some(Wrong::Different)
        }
        (Some(right), Some(own)) if right.version > own.version => {
            let lacks = view.source.vector.get(right.origin) >= right.version;
            lacks.then_some(Wrong::Missing)
        }
        (Some(_), Some(own)) => {
            let lacks = master.source.vector.get(own.origin) >= own.version;
            lacks.then_some(Wrong::Surplus)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::ReseedNumber;
    use crate::partition::upkeep::Mark;
    use crate::record::{Body, Key, Space};
    use crate::vector::Vector;
    use crate::version::{Epoch, RunId, Seq, Version};

    const MASTER: PartitionId = PartitionId(1);
    const OTHER: PartitionId = PartitionId(2);
    const THIRD: PartitionId = PartitionId(3);

    fn version(seq: u64) -> Version {
        Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
    }

    fn at(seq: u64) -> Vector {
        Vector::from_iter([(MASTER, version(seq))])
    }

    fn status(id: PartitionId, vector: u64, floor: u64) -> Status {
        Status {
            partition: id,
            run: RunId(0),
            epoch: Epoch::FIRST,
            seq: Seq::ZERO,
            vector: at(vector),
            floors: at(floor),
            heads: Vector::new(),
            reseed: ReseedNumber(0),
            reseeding: false,
        }
    }

    #[derive(Clone, Copy)]
    enum Copy {
        None,
        Dead(u64),
        Live(u64, &'static str),
        Damaged(u64),
    }

    /// A partition at `vector` above `floor`, with its copy of a key that the first masters.
    fn view(id: PartitionId, (vector, floor): (u64, u64), copy: Copy) -> (PartitionId, Inspection) {
        let key = Key::stored(Space::Data, "k");
        let body = |value: &'static str| Body {
            value: value.into(),
            content_type: Default::default(),
            expires_at: None,
        };
        let made = |seq, body| Record::new(key.clone(), version(seq), MASTER, body);
        let (seq, row) = match copy {
            Copy::None => {
                return (id, Inspection { source: status(id, vector, floor), row: None });
            }
            Copy::Dead(seq) => (seq, Some(made(seq, None))),
            Copy::Live(seq, value) => (seq, Some(made(seq, Some(body(value))))),
            Copy::Damaged(seq) => (seq, None),
        };
        let deleted = row.as_ref().is_some_and(Record::is_tombstone);
        let mark = Mark { key, version: version(seq), origin: MASTER, deleted, fingerprint: 0 };
        let row = Some(Inspected { mark, row });
        (id, Inspection { source: status(id, vector, floor), row })
    }

    fn judged(
        master: ((u64, u64), Copy),
        other: ((u64, u64), Copy),
    ) -> Option<(PartitionId, Wrong, Option<PartitionId>)> {
        let views = Views::from([view(MASTER, master.0, master.1), view(OTHER, other.0, other.1)]);
        let verdicts = judge(MASTER, &views);
        assert!(verdicts.len() <= 1, "{verdicts:?}");
        verdicts.first().map(|verdict| (verdict.target, verdict.wrong, verdict.source))
    }

    #[test]
    fn what_is_on_its_way_is_not_wrong() {
        let old = Copy::Live(5, "a");
        for (master, other) in [
            (((9, 0), Copy::Live(9, "b")), ((5, 0), old)),
            (((9, 0), Copy::Live(9, "b")), ((8, 0), Copy::None)),
            (((9, 0), Copy::Dead(9)), ((5, 0), old)),
            // The master has collected a tombstone that the other has not seen.
            (((9, 9), Copy::None), ((5, 0), old)),
            // The other has collected what an older look at the master did not show.
            (((5, 0), old), ((9, 9), Copy::None)),
            (((9, 0), Copy::Dead(9)), ((9, 9), Copy::None)),
            (((9, 9), Copy::None), ((9, 0), Copy::Dead(9))),
            // Looked at later than the master.
            (((5, 0), old), ((9, 0), Copy::Live(9, "b"))),
            (((5, 0), old), ((9, 0), old)),
        ] {
            assert_eq!(judged(master, other), None);
        }
    }

    #[test]
    fn the_master_decides_between_good_rows() {
        let wrong = |wrong| Some((OTHER, wrong, Some(MASTER)));
        for (master, other, verdict) in [
            (((9, 0), Copy::Live(5, "a")), ((9, 0), Copy::Live(5, "x")), Wrong::Different),
            // One version, whatever the vectors.
            (((9, 0), Copy::Live(5, "a")), ((3, 0), Copy::Live(5, "x")), Wrong::Different),
            (((9, 0), Copy::Live(5, "a")), ((9, 0), Copy::None), Wrong::Missing),
            (((9, 0), Copy::Live(5, "a")), ((5, 0), Copy::Live(3, "x")), Wrong::Missing),
            (((9, 0), Copy::Dead(5)), ((9, 0), Copy::Live(3, "x")), Wrong::Missing),
            (((9, 0), Copy::None), ((9, 0), Copy::Live(5, "x")), Wrong::Surplus),
            (((9, 9), Copy::None), ((9, 0), Copy::Live(5, "x")), Wrong::Surplus),
            (((9, 0), Copy::Live(3, "a")), ((9, 0), Copy::Live(5, "x")), Wrong::Surplus),
        ] {
            assert_eq!(judged(master, other), wrong(verdict));
        }
    }

    #[test]
    fn a_damaged_row_gives_way_to_a_good_one_wherever_it_stands() {
        let damaged = |at, source| Some((at, Wrong::Damaged, source));
        let good = Copy::Live(5, "a");
        for (master, other, verdict) in [
            (((9, 0), good), ((9, 0), Copy::Damaged(5)), damaged(OTHER, Some(MASTER))),
            (((9, 0), Copy::Damaged(5)), ((7, 0), good), damaged(MASTER, Some(OTHER))),
            // It claims another version: only who covers all of it can say what was there.
            (((9, 0), Copy::Damaged(6)), ((9, 0), good), damaged(MASTER, Some(OTHER))),
            (((9, 0), Copy::Damaged(6)), ((7, 0), good), damaged(MASTER, None)),
            (((9, 0), Copy::None), ((9, 0), Copy::Damaged(5)), damaged(OTHER, Some(MASTER))),
            (((7, 0), Copy::None), ((9, 0), Copy::Damaged(8)), damaged(OTHER, None)),
        ] {
            assert_eq!(judged(master, other), verdict);
        }
    }

    #[test]
    fn a_damaged_row_that_came_early_waits_for_who_has_seen_it() {
        let (id, mut early) = view(OTHER, (5, 0), Copy::Damaged(7));
        early.source.heads = at(7);
        let third = |seq| view(THIRD, (seq, 0), Copy::None);
        let source = |third| judge(MASTER, &Views::from([(id, early.clone()), third]))[0].source;
        assert_eq!(source(third(5)), None, "ACK-1: nothing stands where a majority has a row");
        assert_eq!(source(third(7)), Some(THIRD));
    }

    #[test]
    fn a_damaged_master_decides_nothing() {
        let views = Views::from([
            view(MASTER, (9, 0), Copy::Damaged(5)),
            view(OTHER, (9, 0), Copy::Damaged(5)),
            view(THIRD, (9, 0), Copy::Live(5, "a")),
        ]);
        let targets: Vec<_> =
            judge(MASTER, &views).into_iter().map(|v| (v.target, v.source)).collect();
        assert_eq!(targets, [(MASTER, Some(THIRD)), (OTHER, Some(THIRD))]);
    }

    #[test]
    fn only_good_rows_go_to_the_ledger() {
        let keeps = |wrong| Verdict::new(OTHER, wrong, None).keep;
        assert!(keeps(Wrong::Different) && keeps(Wrong::Surplus));
        assert!(!keeps(Wrong::Missing) && !keeps(Wrong::Damaged));
    }
}
