//! Lists: a page of one partition, or the masters' view.
//!
//! In the masters' view each key is told by its own master: every master lists the range, what it
//! masters itself is taken of it, and the page ends where the first of them stopped looking. So a
//! key whose write or delete has not reached the other partitions yet is there, or is not, as its
//! master says. It costs a page of each master, and needs all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Store;
use super::answer::{List, Need, Place, Serving, StoreError};
use super::lanes::{Lanes, Miss};
use super::routed::Tries;
use crate::age::Over;
use crate::lane::Deadline;
use crate::partition::{Listing, Range};
use crate::record::{Record, Space};
use crate::session::list_covered;
use crate::topology::Topology;
use crate::vector::{Token, Vector};
use crate::version::PartitionId;

/// Keys that are counted at once: a count lets others read in between.
const COUNTED_AT_ONCE: usize = 10_000;

impl Store {
    /// Reads a page of a list.
    pub async fn list(
        &self,
        range: &Range,
        need: &Need,
        session: Option<&Token>,
    ) -> Result<List, StoreError> {
        let mut vector = self.vector_of(session)?;
        let until = self.deadline().0;
        self.count_read(range.space);
        let (served_by, listing, age) = match need.place {
            Place::Master => self.masters_view(range, &need.covers, until).await?,
            Place::Anywhere | Place::At(_) => {
                let read = async |lanes: &Lanes, needed: &Vector| {
                    self.list_at(lanes, range, needed, until).await
                };
                let routed = self.routed(need, None, read, &mut Tries::default()).await?;
                (vec![routed.served_by], routed.value, routed.age)
            }
        };
        for row in &listing.rows {
            vector.raise(row.origin, row.version);
        }
        let session = Token { set: self.set, vector };
        Ok(List { rows: listing.rows, next: listing.next, served_by, age, session })
    }

    /// How many keys with this prefix are visible; within the deadline of a request, or not at all.
    pub async fn count(&self, prefix: Bytes, need: &Need) -> Result<usize, StoreError> {
        let (until, _) = self.deadline();
        let mut counted = 0;
        let mut range = Range {
            space: Space::Data,
            prefix,
            after: None,
            keys_max: COUNTED_AT_ONCE,
            scanned_max: COUNTED_AT_ONCE * 4,
            value_bytes_max: None,
        };
        loop {
            let page = self.list(&range, need, None).await?;
            counted += page.rows.len();
            if page.next.is_none() {
                return Ok(counted);
            }
            range.after = page.next;
            if self.clock.monotonic() > until.0 {
                return Err(StoreError::DeadlinePassed { partition: names(&page.served_by) });
            }
        }
    }

    async fn list_at(
        &self,
        lanes: &Lanes,
        range: &Range,
        needed: &Vector,
        until: Deadline,
    ) -> Result<(Listing, Over), Miss> {
        let (range, needed, space) = (range.clone(), needed.clone(), range.space);
        let began = self.clock.monotonic();
        let patience = until.0.saturating_sub(began);
        let read = lanes.read((until, patience), move |reader| {
            let partition = reader.partition.as_mut();
            let listing = list_covered(partition, &mut reader.seen, &range, &needed)?;
            let over = Over { since: reader.since, reseed: listing.reseed };
            Ok((listing, over))
        });
        let answer = read.await;
        self.count_answer(lanes, space, began, &answer);
        answer
    }

    /// The masters' view, once all of them cover `token`.
    async fn masters_view(
        &self,
        range: &Range,
        token: &Vector,
        until: Deadline,
    ) -> Result<Viewed, StoreError> {
        self.check_lost(token)?;
        match self.list_by_masters(range, token, until).await {
            Err(StoreError::TooStale { .. }) => self.pull().await,
            viewed => return viewed,
        }
        self.list_by_masters(range, token, until).await
    }

    async fn list_by_masters(
        &self,
        range: &Range,
        token: &Vector,
        until: Deadline,
    ) -> Result<Viewed, StoreError> {
        let topology = self.topology.load_full();
        let (mut served_by, mut listings) = (Vec::new(), BTreeMap::new());
        // Each master's own keys are as old as what it says of itself.
        let mut as_of = Some(Duration::MAX);
        for (&id, lanes) in self.lanes.load_full().iter() {
            if topology.slots_of(id) > 0 {
                let serving = &lanes.served.serving;
                let answer = self.list_at(lanes, range, token, until).await;
                let (listing, over) = answer.map_err(|miss| miss.at(&serving.name))?;
                as_of = as_of.min(self.seen.load().as_of_read(id, &over, &[id], &topology));
                listings.insert(id, listing);
                served_by.push(serving.clone());
            }
        }
        let now = self.clock.monotonic();
        let age = as_of.map(|as_of| now.saturating_sub(as_of));
        Ok((served_by, merged(listings, &topology, range.keys_max), age))
    }
}

/// Who served a list, the list, and how old it may be.
type Viewed = (Vec<Serving>, Listing, Option<Duration>);

/// What each master says of its own keys, as far as all of them have looked.
fn merged(
    listings: BTreeMap<PartitionId, Listing>,
    topology: &Topology,
    keys_max: usize,
) -> Listing {
    let mut next = listings.values().filter_map(|listing| listing.next.clone()).min();
    let looked_at = |row: &Record| next.as_ref().is_none_or(|next| row.key.bytes() <= next);
    let mut rows: Vec<Record> = listings
        .into_iter()
        .flat_map(|(id, listing)| listing.rows.into_iter().map(move |row| (id, row)))
        .filter(|(id, row)| topology.master_of(&row.key) == *id && looked_at(row))
        .map(|(_, row)| row)
        .collect();
    rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    if rows.len() > keys_max {
        rows.truncate(keys_max);
        next = rows.last().map(|row| row.key.bytes().clone());
    }
    Listing { rows, next, ..Listing::default() }
}

/// Several partitions, as one is named.
pub(super) fn names(served_by: &[Serving]) -> Arc<str> {
    let names: Vec<&str> = served_by.iter().map(|serving| serving.name.as_ref()).collect();
    names.join(", ").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Key, Space};
    use crate::topology::Role;
    use crate::version::Version;

    fn topology() -> Topology {
        let names = ["a", "b"].map(|name| (name.to_owned(), Role::Master));
        Topology::found(&names.into()).unwrap()
    }

    fn row(n: usize) -> Record {
        let key = Key::stored(Space::Data, format!("k{n:02}"));
        Record::new(key, Version::ZERO, PartitionId(1), None)
    }

    fn listing(keys: std::ops::Range<usize>, next: Option<&str>) -> Listing {
        let next = next.map(|next| next.to_owned().into());
        Listing { rows: keys.map(row).collect(), next, ..Listing::default() }
    }

    #[test]
    fn each_key_comes_once_from_its_master() {
        let both =
            |a, b| merged([(PartitionId(1), a), (PartitionId(2), b)].into(), &topology(), 20);
        let all = both(listing(0..20, None), listing(0..20, None));
        assert_eq!(all, listing(0..20, None));
        // The second master lacks the first keys: those of its own are gone.
        let some = both(listing(0..20, None), listing(10..20, None));
        assert!(some.rows.len() > 10 && some.rows.len() < 20, "{}", some.rows.len());
        for row in some.rows {
            let is_first = topology().master_of(&row.key) == PartitionId(1);
            assert!(is_first || row.key.bytes().as_ref() >= &b"k10"[..], "{row:?}");
        }
    }

    #[test]
    fn a_page_ends_where_the_first_stopped_looking() {
        let both = |keys_max| {
            let (a, b) = (listing(0..20, Some("k19")), listing(0..8, Some("k07")));
            merged([(PartitionId(1), a), (PartitionId(2), b)].into(), &topology(), keys_max)
        };
        assert_eq!(both(20), listing(0..8, Some("k07")));
        assert_eq!(both(5), listing(0..5, Some("k04")));
    }
}
