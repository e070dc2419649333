//! What the tails have read last, for all followers together.
//!
//! A batch is a stretch of one origin's log with the rows that it names. Batches of one origin
//! follow each other without a gap, so a follower that stands at or above where a batch begins may
//! take it. The ring holds so many bytes; what falls out of it stands in the tables.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::record::Record;
use crate::vector::Vector;
use crate::version::{PartitionId, Version};

/// A row that changed.
#[derive(Debug)]
pub struct Event {
    /// The row as it is now; a tombstone for a delete.
    pub row: Record,
    /// As text, without its value and with it: made once for all who are told of it.
    texts: [OnceLock<Bytes>; 2],
}

impl Event {
    /// An event whose text nobody has asked for yet.
    pub const fn new(row: Record) -> Self {
        Self { row, texts: [const { OnceLock::new() }; 2] }
    }

    /// Its text, made by `render` where nobody was told it before.
    pub fn text(&self, with_value: bool, render: impl FnOnce(&Record) -> Bytes) -> Bytes {
        self.texts[usize::from(with_value)].get_or_init(|| render(&self.row)).clone()
    }
}

/// Some events, and where whoever has them stands.
#[derive(Debug)]
pub struct Batch {
    /// In no order that matters: each key at most once.
    pub events: Vec<Event>,
    /// The stretch of a log that it covers; `None`: a part of a snapshot.
    stretch: Option<Stretch>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    origin: PartitionId,
    from: Version,
    upto: Version,
}

/// What a batch weighs besides its rows: rows are shared, texts are made of them.
const EVENT_BYTES: usize = 256;

impl Batch {
    /// Rows that stand for themselves.
    pub fn of(rows: Vec<Record>) -> Self {
        Self::new(rows, None)
    }

    /// A stretch of `origin`'s log: what lies above `from`, up to `upto`.
    pub fn stretch(rows: Vec<Record>, origin: PartitionId, from: Version, upto: Version) -> Self {
        Self::new(rows, Some(Stretch { origin, from, upto }))
    }

    fn new(rows: Vec<Record>, stretch: Option<Stretch>) -> Self {
        // A row and its two texts, each a little longer.
        let bytes = rows.iter().map(|row| EVENT_BYTES + 4 * row.weight()).sum();
        Self { events: rows.into_iter().map(Event::new).collect(), stretch, bytes }
    }
}

/// What a follower finds.
#[derive(Debug)]
pub enum Turn {
    /// This comes next; the position is moved past it.
    Take(Arc<Batch>),
    /// The log of this origin goes on below the ring: read the tables.
    Behind(PartitionId),
    /// There is nothing new.
    Nothing,
}

/// The batches of all tails, in the order in which they were read.
#[derive(Debug)]
pub struct Ring {
    batches: VecDeque<Arc<Batch>>,
    /// The number of the first one in the ring.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    /// How far each tail has read.
    reached: Vector,
    /// Whose tails have begun.
    begun: BTreeSet<PartitionId>,
}

impl Ring {
    /// An empty one.
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            bytes: 0,
            bytes_max,
            reached: Vector::new(),
            begun: BTreeSet::new(),
        }
    }

    /// What it holds, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the tail of `origin` has ever begun.
    pub fn has_begun(&self, origin: PartitionId) -> bool {
        self.begun.contains(&origin)
    }

    /// A tail begins, or begins anew, at `at`: what it read before is nobody's any more.
    pub fn begin(&mut self, origin: PartitionId, at: Version) {
        let of_origin =
            |batch: &Arc<Batch>| batch.stretch.is_some_and(|stretch| stretch.origin == origin);
        if self.batches.iter().any(of_origin) {
            // Followers count batches: all go, rather than some.
            self.first += self.batches.len() as u64;
            self.batches.clear();
            self.bytes = 0;
        }
        self.begun.insert(origin);
        self.reached.set(origin, at);
    }

    /// Adds what a tail has read; what does not fit any more falls out at the other end.
    pub fn publish(&mut self, batch: Batch) {
        let Some(stretch) = batch.stretch else { return };
        self.reached.raise(stretch.origin, stretch.upto);
        self.bytes += batch.bytes;
        self.batches.push_back(Arc::new(batch));
        while self.bytes > self.bytes_max {
            let Some(batch) = self.batches.pop_front() else { break };
            self.bytes -= batch.bytes;
            self.first += 1;
        }
    }

    /// What comes after `position` for a follower that has looked at all batches before number
    /// `seen`; nothing of the logs in `without`, which cannot be read at the moment.
    pub fn next(
        &self,
        position: &mut Vector,
        seen: &mut u64,
        without: &BTreeSet<PartitionId>,
    ) -> Turn {
        *seen = (*seen).max(self.first);
        let skipped = usize::try_from(*seen - self.first).unwrap_or(usize::MAX);
        for batch in self.batches.iter().skip(skipped) {
            let Some(Stretch { origin, from, upto }) = batch.stretch else { continue };
            let at = position.get(origin);
            let is_skipped = without.contains(&origin);
            if at < from && !is_skipped {
                return Turn::Behind(origin);
            }
            *seen += 1;
            if at < upto && !is_skipped {
                position.raise(origin, upto);
                return Turn::Take(Arc::clone(batch));
            }
        }
        // What was skipped, or has fallen out of the ring, is read from the tables.
        let short = |&(origin, reached): &(PartitionId, Version)| {
            position.get(origin) < reached && !without.contains(&origin)
        };
        match self.reached.iter().find(short) {
            Some((origin, _)) => Turn::Behind(origin),
            None => Turn::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Key, Space};
    use crate::version::{Epoch, Seq};

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);
    const NONE: BTreeSet<PartitionId> = BTreeSet::new();

    fn version(seq: u64) -> Version {
        Version::new(Epoch::FIRST, Seq::new(seq).unwrap())
    }

    fn batch(origin: PartitionId, from: u64, upto: u64) -> Batch {
        let row = |seq: u64| {
            let key = Key::stored(Space::Data, format!("k{seq}"));
            Record::new(key, version(seq), origin, None)
        };
        let rows = (from + 1..=upto).map(row).collect();
        Batch::stretch(rows, origin, version(from), version(upto))
    }

    /// The greatest versions of the batches taken until something else turns up, and that.
    fn taken(ring: &Ring, position: &mut Vector, seen: &mut u64) -> (Vec<u64>, Turn) {
        let mut versions = Vec::new();
        loop {
            match ring.next(position, seen, &BTreeSet::new()) {
                Turn::Take(batch) => {
                    let last = batch.events.last().unwrap();
                    versions.push(last.row.version.seq().number());
                }
                turn @ (Turn::Behind(_) | Turn::Nothing) => return (versions, turn),
            }
        }
    }

    fn filled(bytes_max: usize) -> Ring {
        let mut ring = Ring::new(bytes_max);
        ring.begin(A, version(3));
        ring.begin(B, version(8));
        for batch in [batch(A, 3, 5), batch(B, 8, 9), batch(A, 5, 6)] {
            ring.publish(batch);
        }
        ring
    }

    #[test]
    fn a_follower_takes_what_comes_after_its_position() {
        let ring = filled(1 << 20);
        for (a, b, expected) in
            [(3, 8, vec![5, 9, 6]), (4, 9, vec![5, 6]), (5, 8, vec![9, 6]), (7, 10, vec![])]
        {
            let mut position: Vector = [(A, version(a)), (B, version(b))].into_iter().collect();
            let mut seen = 0;
            let (versions, turn) = taken(&ring, &mut position, &mut seen);
            assert_eq!(versions, expected, "from {a} and {b}");
            assert!(matches!(turn, Turn::Nothing), "{turn:?}");
            assert_eq!(position.get(A), version(a.max(6)));
            assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Nothing));
        }
    }

    #[test]
    fn whoever_stands_below_the_ring_is_told_whose_log_to_read() {
        let ring = filled(1 << 20);
        let mut position: Vector = [(A, version(2)), (B, version(8))].into_iter().collect();
        let mut seen = 0;
        assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Behind(A)));
        // The table had more than the batch begins with.
        position.set(A, version(4));
        let (versions, turn) = taken(&ring, &mut position, &mut seen);
        assert_eq!(versions, [5, 9, 6]);
        assert!(matches!(turn, Turn::Nothing), "{turn:?}");
    }

    #[test]
    fn a_log_that_cannot_be_read_keeps_nobody_from_the_others() {
        let ring = filled(1 << 20);
        let mut position: Vector = [(A, version(2)), (B, version(8))].into_iter().collect();
        let mut seen = 0;
        let turn = ring.next(&mut position, &mut seen, &[A].into());
        assert!(matches!(turn, Turn::Take(_)), "{turn:?}");
        assert_eq!(position, [(A, version(2)), (B, version(9))].into_iter().collect());
        let turn = ring.next(&mut position, &mut seen, &[A].into());
        assert!(matches!(turn, Turn::Nothing), "{turn:?}");
        assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Behind(A)));
    }

    #[test]
    fn what_falls_out_stands_in_the_tables() {
        let ring = filled(0);
        let mut position: Vector = [(A, version(6)), (B, version(8))].into_iter().collect();
        let mut seen = 1;
        assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Behind(B)));
        position.set(B, version(9));
        assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Nothing));
    }

    #[test]
    fn the_ring_holds_so_many_bytes() {
        let largest = batch(A, 999, 1_000).bytes;
        let mut ring = Ring::new(10 * largest);
        for nth in 0..1_000 {
            ring.publish(batch(A, nth, nth + 1));
            assert!(ring.bytes <= ring.bytes_max && ring.batches.len() <= 10);
        }
        assert_eq!(ring.first, 990);
    }

    #[test]
    fn a_tail_that_begins_anew_takes_its_batches_along() {
        let mut ring = filled(1 << 20);
        let mut position: Vector = [(A, version(6)), (B, version(9))].into_iter().collect();
        let mut seen = 3;
        ring.begin(A, version(20));
        assert!(matches!(ring.next(&mut position, &mut seen, &NONE), Turn::Behind(A)));
        position.set(A, version(20));
        ring.publish(batch(A, 20, 21));
        let (versions, _) = taken(&ring, &mut position, &mut seen);
        assert_eq!(versions, [21]);
    }
}
