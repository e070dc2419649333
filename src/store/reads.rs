//! Reading: one key, at the partition that the need allows.

use std::future::Future;
use std::time::Duration;

use super::Store;
use super::answer::{Need, Read, Serving, StoreError};
use super::lanes::{Lanes, Miss};
use super::route::{self, Candidate};
use crate::lane::reader::Reader;
use crate::partition::{Found, Get, PartitionError};
use crate::record::{Key, Record};
use crate::session::get_covered;
use crate::vector::{Token, Vector};
use crate::version::PartitionId;

/// Values up to here are read on the thread that asks, where the engine is local.
const INLINE_BYTES_MAX: usize = crate::lane::point::INLINE_BYTES_MAX;
/// How long a session read waits for a pull before it is refused.
const SESSION_WAIT: Duration = Duration::from_secs(1);

/// Orders the candidates of a read; the key's master first where it has one.
type Order = fn(Option<PartitionId>, &mut [Candidate]);

impl Store {
    /// Reads a key. `session` is the token that came with the request: the answer's is at or above
    /// it.
    pub async fn get(
        &self,
        key: &Key,
        need: &Need,
        session: Option<&Token>,
    ) -> Result<Read, StoreError> {
        let token = self.vector_of(session)?;
        self.count_read(Some(key));
        let read = |lanes, needed| self.get_at(lanes, key, needed);
        let (served_by, record) = self.routed(need, Some(key), read).await?;
        let mut vector = token;
        let visible = record.and_then(|(row, visible)| {
            vector.raise(row.origin, row.version);
            visible.then_some(row)
        });
        Ok(Read { record: visible, served_by, session: Token { set: self.set, vector } })
    }

    /// Reads one key at one partition, and counts that.
    async fn get_at(
        &self,
        lanes: &Lanes,
        key: &Key,
        needed: Vector,
    ) -> Result<Option<(Record, bool)>, Miss> {
        let began = self.clock.monotonic();
        let answer = self.look_up(lanes, key, needed).await;
        self.count_answer(lanes, Some(key), began, &answer);
        answer
    }

    /// Reads one key at one partition: here if it is small and near, else over the lane.
    async fn look_up(
        &self,
        lanes: &Lanes,
        key: &Key,
        needed: Vector,
    ) -> Result<Option<(Record, bool)>, Miss> {
        if let Some(points) = &lanes.points {
            let point = lanes.point(points, key, &needed, self.deadline()).await?;
            if !matches!(point.found, Some(Found::Large { .. })) {
                return shown(key, point.found, point.now_ms);
            }
        }
        let get = |inline_bytes_max: usize| {
            let (key, needed) = (key.clone(), needed.clone());
            move |reader: &mut Reader| {
                let get = Get { keys: std::slice::from_ref(&key), inline_bytes_max };
                get_covered(reader.partition.as_mut(), &mut reader.seen, &get, &needed)
            }
        };
        let deadline = self.deadline();
        // Large values of distant partitions come here, too: read singly, off the point lane.
        let inline_bytes_max = if lanes.points.is_some() { usize::MAX } else { INLINE_BYTES_MAX };
        let mut fetched = lanes.read(true, deadline, get(inline_bytes_max)).await?;
        if matches!(fetched.rows.first(), Some(Some(Found::Large { .. }))) {
            fetched = lanes.read(false, deadline, get(usize::MAX)).await?;
        }
        shown(key, fetched.rows.pop().flatten(), fetched.now_ms)
    }

    /// Runs a read at the partition that the need allows.
    pub(super) async fn routed<'a, T, F: Future<Output = Result<T, Miss>>>(
        &'a self,
        need: &Need,
        key: Option<&Key>,
        read: impl Fn(&'a Lanes, Vector) -> F,
    ) -> Result<(Serving, T), StoreError> {
        let master = key.map(|key| self.topology.load().master_of(key));
        match need {
            Need::At(name) => {
                let by_name = |lanes: &&Lanes| lanes.served.serving.name.as_ref() == name;
                let lanes = self.lanes.values().find(by_name).ok_or_else(|| self.no_such(name))?;
                read_at(lanes, &Vector::new(), &read).await
            }
            Need::Any => self.first_of(route::for_any, master, &Vector::new(), &read).await,
            Need::Session(token) => {
                let read = || self.first_of(route::for_session, master, token, &read);
                self.covered(token, read).await
            }
            Need::Master(token) => {
                let lanes = master.and_then(|master| self.lanes.get(&master));
                let lanes = lanes.ok_or_else(|| self.no_such("the master"))?;
                self.covered(token, || read_at(lanes, token, &read)).await
            }
        }
    }

    /// Reads what has to cover `token`; where it does not yet, after a bounded wait for a pull.
    pub(super) async fn covered<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        token: &Vector,
        read: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        self.check_lost(token)?;
        let pull = match read().await {
            Err(StoreError::TooStale { .. }) => self.sync.run(SESSION_WAIT),
            answer => return answer,
        };
        drop(pull.await);
        read().await
    }

    /// Asks the partitions in turn until one serves.
    async fn first_of<'a, T, F: Future<Output = Result<T, Miss>>>(
        &'a self,
        order: Order,
        master: Option<PartitionId>,
        needed: &Vector,
        read: &impl Fn(&'a Lanes, Vector) -> F,
    ) -> Result<(Serving, T), StoreError> {
        let mut candidates: Vec<Candidate> = self.lanes.values().map(candidate).collect();
        order(master, &mut candidates);
        let mut last = None;
        for lanes in candidates.iter().filter_map(|one| self.lanes.get(&one.id)) {
            match read_at(lanes, needed, read).await {
                Ok(answer) => return Ok(answer),
                // Being behind is worth more to the client than being away.
                Err(_) if matches!(last, Some(StoreError::TooStale { .. })) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.no_such("any")))
    }

    /// A token may name an origin that no topology of this set has any more.
    fn check_lost(&self, token: &Vector) -> Result<(), StoreError> {
        let topology = self.topology.load();
        let lost = token.iter().find(|(origin, _)| topology.voter(*origin).is_none());
        match lost {
            Some((origin, version)) => Err(StoreError::SessionLost { origin, version }),
            None => Ok(()),
        }
    }
}

/// What is known of a partition.
fn candidate(lanes: &Lanes) -> Candidate {
    Candidate {
        id: lanes.served.serving.id,
        part: lanes.served.part,
        is_local: lanes.served.is_local,
        is_well: lanes.is_well(),
        covers: false,
        answers_in: lanes.answers_in.get(),
    }
}

async fn read_at<'a, T, F: Future<Output = Result<T, Miss>>>(
    lanes: &'a Lanes,
    needed: &Vector,
    read: &impl Fn(&'a Lanes, Vector) -> F,
) -> Result<(Serving, T), StoreError> {
    let serving = &lanes.served.serving;
    let answer = read(lanes, needed.clone()).await.map_err(|miss| miss.at(&serving.name))?;
    Ok((serving.clone(), answer))
}

/// A row, and whether it is visible at `now_ms`. A damaged one is never served: whoever may be
/// asked instead is.
fn shown(key: &Key, found: Option<Found>, now_ms: i64) -> Result<Option<(Record, bool)>, Miss> {
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
