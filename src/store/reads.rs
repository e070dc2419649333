//! Reading: one key, at the partition that the need allows.

use std::time::Duration;

use super::Store;
use super::answer::{Need, Read, StoreError};
use super::lanes::{Lanes, Miss};
use super::routed::{AtHand, Routed, Tries};
use crate::age::Over;
use crate::lane::point::{INLINE_BYTES_MAX, Point};
use crate::lane::reader::Reader;
use crate::partition::{Found, Get, PartitionError};
use crate::record::{Key, Record};
use crate::session::{SessionError, get_covered};
use crate::vector::{Token, Vector};

/// A row, tombstones included, and whether it is visible.
type Row = Option<(Record, bool)>;

impl Store {
    /// Reads a key. `session` is the token that came with the request: the answer's is at or above
    /// it.
    pub async fn get(
        &self,
        key: &Key,
        need: &Need,
        session: Option<&Token>,
    ) -> Result<Read, StoreError> {
        let vector = self.vector_of(session)?;
        self.count_read(key.space());
        // Nearly every read of a partition in this process ends here.
        if let Some(routed) = self.at_hand(need, key, |lanes| self.get_here(lanes, key, need)) {
            return Ok(self.shown(routed, vector));
        }
        let mut tries = Tries::default();
        Box::pin(self.get_routed(key, need, vector, &mut tries)).await
    }

    /// The same, telling of every partition that was asked.
    pub(super) async fn get_noting(
        &self,
        key: &Key,
        need: &Need,
        session: Option<&Token>,
        tries: &mut Tries,
    ) -> Result<Read, StoreError> {
        let vector = self.vector_of(session)?;
        self.count_read(key.space());
        self.get_routed(key, need, vector, tries).await
    }

    async fn get_routed(
        &self,
        key: &Key,
        need: &Need,
        vector: Vector,
        tries: &mut Tries,
    ) -> Result<Read, StoreError> {
        let read = async |lanes: &Lanes, needed: &Vector| self.get_at(lanes, key, needed).await;
        let routed = self.routed(need, Some(key), read, tries).await?;
        Ok(self.shown(routed, vector))
    }

    /// What is told of a row, and what has been seen then.
    fn shown(&self, routed: Routed<Row>, mut vector: Vector) -> Read {
        let visible = routed.value.and_then(|(row, visible)| {
            vector.raise(row.origin, row.version);
            visible.then_some(row)
        });
        let session = Token { set: self.set, vector };
        Read { record: visible, served_by: routed.served_by, age: routed.age, session }
    }

    /// Reads a small value at a local partition, and counts that; `None`: it takes more than that.
    fn get_here(&self, lanes: &Lanes, key: &Key, need: &Need) -> Option<AtHand<Row>> {
        let began = self.clock.monotonic();
        let read = |reader: &mut Reader| point_of(reader, key, &need.covers, INLINE_BYTES_MAX);
        let point = lanes.read_here(began, read).ok()?;
        if matches!(point.found, Some(Found::Large { .. })) {
            return None;
        }
        let value = row_of(key, point.found, point.now_ms).ok()?;
        let now = self.count_served(lanes, key.space(), began, &value);
        Some(AtHand { value, over: point.over, now })
    }

    /// Reads one key at one partition, and counts that.
    async fn get_at(&self, lanes: &Lanes, key: &Key, needed: &Vector) -> Result<(Row, Over), Miss> {
        let began = self.clock.monotonic();
        let answer = self.look_up(lanes, key, needed, began).await;
        self.count_answer(lanes, key.space(), began, &answer);
        answer
    }

    /// Reads one key at one partition: a small value over the point lane, or here where the
    /// partition is near; a large one over a read lane, where it keeps nobody waiting.
    async fn look_up(
        &self,
        lanes: &Lanes,
        key: &Key,
        needed: &Vector,
        began: Duration,
    ) -> Result<(Row, Over), Miss> {
        let point = match &lanes.points {
            Some(points) => lanes.point(points, key, needed, self.deadline()).await?,
            None => {
                let read = |reader: &mut Reader| point_of(reader, key, needed, INLINE_BYTES_MAX);
                lanes.read_here(began, read)?
            }
        };
        let point = if matches!(point.found, Some(Found::Large { .. })) {
            let (key, needed) = (key.clone(), needed.clone());
            let whole = move |reader: &mut Reader| point_of(reader, &key, &needed, usize::MAX);
            Box::pin(lanes.read(self.deadline(), whole)).await?
        } else {
            point
        };
        Ok((row_of(key, point.found, point.now_ms)?, point.over))
    }
}

/// Reads one key over a connection, if the partition covers `needed`.
fn point_of(
    reader: &mut Reader,
    key: &Key,
    needed: &Vector,
    inline_bytes_max: usize,
) -> Result<Point, SessionError> {
    let get = Get { keys: std::slice::from_ref(key), inline_bytes_max };
    let mut fetched = get_covered(reader.partition.as_mut(), &mut reader.seen, &get, needed)?;
    let over = Over { since: reader.since, reseed: fetched.reseed };
    Ok(Point { found: fetched.rows.pop().flatten(), now_ms: fetched.now_ms, over })
}

/// A row, and whether it is visible at `now_ms`. A damaged one is never served: whoever may be
/// asked instead is.
fn row_of(key: &Key, found: Option<Found>, now_ms: i64) -> Result<Row, Miss> {
    match found {
        Some(Found::Row(row)) => {
            let visible = row.visible(now_ms).is_some();
            Ok(Some((row, visible)))
        }
        Some(Found::Damaged) => {
            let what = "its checksum does not match".to_owned();
            let error = PartitionError::DamagedRow { key: key.clone(), what };
            Err(Miss::Lane(error.into()))
        }
        Some(Found::Large { .. }) | None => Ok(None),
    }
}
