//! What the store counts: per partition what it was asked on behalf of clients and how that went,
//! and over all partitions how often it was read, which is what read copies are scaled by.
//!
//! The service's own records (space `system`) and probes do not count: an idle service shows none.

use std::time::Duration;

use super::Store;
use super::answer::{Serving, StoreError};
use super::lanes::{Lanes, Miss};
use crate::age::Over;
use crate::lane::LaneError;
use crate::partition::Listing;
use crate::performance::{Event, Figures, Totals};
use crate::record::{Body, Key, Record, Space};
use crate::write::{Outcome, Write};

/// How one partition has answered in the last minute.
#[derive(Clone, Debug)]
pub struct PartitionFigures {
    /// Id and name.
    pub partition: Serving,
    /// The figures.
    pub figures: Figures,
}

/// Something that carries values.
pub(super) trait Carries {
    /// The bytes of its values.
    fn value_bytes(&self) -> usize;
}

fn body_bytes(body: Option<&Body>) -> usize {
    body.map_or(0, |body| body.value.len())
}

impl Carries for Option<(Record, bool)> {
    fn value_bytes(&self) -> usize {
        self.as_ref().map_or(0, |(row, _)| body_bytes(row.body.as_ref()))
    }
}

impl Carries for Listing {
    fn value_bytes(&self) -> usize {
        self.rows.iter().map(|row| body_bytes(row.body.as_ref())).sum()
    }
}

impl<T: Carries> Carries for (T, Over) {
    fn value_bytes(&self) -> usize {
        self.0.value_bytes()
    }
}

impl Store {
    /// How the partitions have answered in the last minute.
    pub fn performance(&self) -> Vec<PartitionFigures> {
        let now = self.clock.monotonic();
        let of = |lanes: &Lanes| PartitionFigures {
            partition: lanes.served.serving.clone(),
            figures: lanes.meter.figures(now),
        };
        self.lanes.load().values().map(|lanes| of(lanes)).collect()
    }

    /// What the partitions have answered since they are served.
    pub fn partition_totals(&self) -> Vec<(Serving, Totals)> {
        let of = |lanes: &Lanes| (lanes.served.serving.clone(), lanes.meter.totals());
        self.lanes.load().values().map(|lanes| of(lanes)).collect()
    }

    /// How many reads of clients this store has answered, or tried to: each get, each list.
    pub fn reads(&self) -> u64 {
        self.reads.total()
    }

    /// Counts a read of a client.
    pub(super) fn count_read(&self, space: Space) {
        if space == Space::Data {
            self.reads.add_one();
        }
    }

    /// Counts how a partition answered a read that began at `began`.
    pub(super) fn count_answer<T: Carries>(
        &self,
        lanes: &Lanes,
        space: Space,
        began: Duration,
        answer: &Result<T, Miss>,
    ) {
        let (bytes, failed) = match answer {
            Ok(carrier) => (carrier.value_bytes(), false),
            // To be behind is no failure: another partition is asked.
            Err(Miss::Behind(..) | Miss::TooOld { .. }) => (0, false),
            Err(Miss::Lane(_)) => (0, true),
        };
        self.note_answer(lanes, space, began, (bytes, failed));
    }

    /// Counts an answer that came at once. Tells what time it is.
    pub(super) fn count_served(
        &self,
        lanes: &Lanes,
        space: Space,
        began: Duration,
        answer: &impl Carries,
    ) -> Duration {
        self.note_answer(lanes, space, began, (answer.value_bytes(), false))
    }

    /// Counts how a master answered a write that began at `began`.
    pub(super) fn count_write(
        &self,
        lanes: &Lanes,
        (key, weight): (&Key, usize),
        began: Duration,
        answer: &Result<Result<Outcome, LaneError>, StoreError>,
    ) {
        let failed = match answer {
            Ok(Ok(_) | Err(LaneError::Moved { .. })) => false,
            Ok(Err(_)) | Err(_) => true,
        };
        self.note_answer(lanes, key.space(), began, (weight, failed));
    }

    fn note_answer(
        &self,
        lanes: &Lanes,
        space: Space,
        began: Duration,
        (bytes, failed): (usize, bool),
    ) -> Duration {
        let now = self.clock.monotonic();
        if space == Space::Data {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            lanes.meter.record(now, Event { took: now.saturating_sub(began), bytes, failed });
        }
        now
    }
}

/// The bytes of the value that a write brings.
pub(super) fn written_bytes(write: &Write) -> usize {
    match &write.change {
        crate::write::Change::Set(body) | crate::write::Change::Update(body) => body.value.len(),
        crate::write::Change::Merge { patch, .. } => patch.len(),
        crate::write::Change::Delete | crate::write::Change::Expire { .. } => 0,
    }
}
