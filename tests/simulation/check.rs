//! The checkers: what the world remembers of every write, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use datastore::clock::Clock as _;
use datastore::partition::memory::State;
use datastore::partition::{Partition, Status};
use datastore::record::{Key, Record};
use datastore::topology::cut::Cuts;
use datastore::version::{Epoch, PartitionId, Seq, Version};
use datastore::write::{Expected, Write};

use crate::world::{View, World, live_rows};

/// One write, as its origin committed it.
#[derive(Clone, Debug)]
pub struct Written {
    pub row: Record,
    /// What stood at its origin when it was written.
    pub prev: Option<(PartitionId, Version)>,
    /// Written by somebody who had lost the slot already, and did not know.
    pub late: bool,
    /// When it could first be seen.
    pub at: Duration,
    /// A crash took it back before it was durable.
    pub lost: bool,
    pub acknowledged: bool,
    /// Acknowledged as held by a majority.
    pub by_majority: bool,
}

/// Every write ever committed, visible or durable.
#[derive(Default)]
pub struct Ledger {
    writes: BTreeMap<(PartitionId, Version), Written>,
    /// Per key and origin, in version order.
    by_key: BTreeMap<(Key, PartitionId), Vec<Version>>,
    /// Versions told to a client, of rows that a later one of the same batch replaced.
    told: BTreeMap<(PartitionId, Version), Key>,
    /// Per key, the greatest version acknowledged so far.
    newest_acknowledged: BTreeMap<Key, Version>,
    /// Acknowledged writes that named what they replace.
    replaced: Vec<Replaced>,
}

/// A write that named the version it was to replace, and was acknowledged.
struct Replaced {
    key: Key,
    origin: PartitionId,
    named: Version,
    by: Version,
}

impl Ledger {
    pub fn get(&self, origin: PartitionId, version: Version) -> Option<&Written> {
        self.writes.get(&(origin, version))
    }

    pub fn newest_acknowledged(&self, key: &Key) -> Version {
        self.newest_acknowledged.get(key).copied().unwrap_or_default()
    }

    /// Marks what a crash took back; returns how many.
    pub fn lose(&mut self, origin: PartitionId, durable: Seq) -> usize {
        let writes = self
            .writes
            .iter_mut()
            .filter(|((o, version), _)| *o == origin && version.seq() > durable);
        writes.map(|(_, write)| write.lost = true).count()
    }

    /// The greatest surviving write of `key` by `origin` at or below `upto`.
    pub fn covered(&self, key: &Key, origin: PartitionId, upto: Version) -> Option<&Written> {
        let versions = self.by_key.get(&(key.clone(), origin))?;
        let end = versions.partition_point(|version| *version <= upto);
        versions[..end]
            .iter()
            .rev()
            .map(|version| &self.writes[&(origin, *version)])
            .find(|write| !write.lost)
    }

    /// The greatest surviving version of `key` that could be seen before `instant`; what a lost
    /// master alone had, by `cuts`, is nobody's until it is back.
    pub fn newest_before(&self, key: &Key, instant: Duration, cuts: &Cuts) -> Option<Version> {
        let of_key = self.by_key.iter().filter(|((k, _), _)| k == key);
        let writes = of_key.flat_map(|((_, origin), versions)| {
            versions.iter().map(|version| &self.writes[&(*origin, *version)])
        });
        let is_late = |write: &Written| write.late || cuts.make_late(&write.row);
        let seen = writes.filter(|write| write.at < instant && !write.lost && !is_late(write));
        seen.map(|write| write.row.version).max()
    }

    /// Whether a crash took back this version of the key, whoever wrote it.
    pub fn was_lost(&self, key: &Key, version: Version) -> bool {
        let origins = self.keys().filter(|(k, _)| k == key).map(|(_, origin)| *origin);
        let mut writes = origins.filter_map(|origin| self.get(origin, version));
        writes.any(|write| write.lost && write.row.key == *key)
    }

    /// Every acknowledged write.
    pub fn acknowledged(&self) -> impl Iterator<Item = ((PartitionId, Version), &Written)> {
        let all = self.writes.iter().map(|(place, write)| (*place, write));
        all.filter(|(_, write)| write.acknowledged && !write.lost)
    }

    /// Every key that was ever written.
    pub fn every_key(&self) -> BTreeSet<Key> {
        self.keys().map(|(key, _)| key.clone()).collect()
    }

    /// The greatest tombstone of a key that was not taken back.
    pub fn last_tombstone(&self, key: &Key) -> Option<(PartitionId, Version)> {
        let dead = |write: &&Written| write.row.is_tombstone() && !write.lost;
        let of_key = self.of_key(key).filter(dead).map(|write| &write.row);
        of_key.max_by_key(|row| row.version).map(|row| (row.origin, row.version))
    }

    /// Writes of the same key with greater versions.
    pub fn later(&self, row: &Record) -> impl Iterator<Item = &Written> {
        let version = row.version;
        self.of_key(&row.key).filter(move |write| write.row.version > version && !write.lost)
    }

    fn of_key(&self, key: &Key) -> impl Iterator<Item = &Written> {
        let of_key = self.by_key.iter().filter(move |((k, _), _)| k == key);
        let places = of_key
            .flat_map(|((_, origin), versions)| versions.iter().map(move |v| (*origin, *v)))
            .collect::<Vec<_>>();
        places.into_iter().filter_map(|place| self.writes.get(&place))
    }

    fn keys(&self) -> impl Iterator<Item = &(Key, PartitionId)> {
        self.by_key.keys()
    }
}

impl World {
    /// The first version of `key` that a client was told.
    pub fn first_of(&self, key: &Key) -> Version {
        let told = self.ledger.told.iter().filter(|(_, told)| *told == key);
        told.map(|((_, version), _)| *version).min().unwrap_or_default()
    }

    /// Looks at what a transaction did at a server: new writes of its own, and its clock.
    pub fn observe(&mut self, id: PartitionId, was: &State) {
        let before = &View(was).status().unwrap();
        let after = self.server(id).status();
        if after.epoch < before.epoch || after.seq < before.seq {
            self.violate("FENCE-1", format!("the clock of {id} goes down: {before:?} {after:?}"));
        }
        let own = Version::new(Epoch::default(), Seq::default());
        let state = Rc::clone(&self.server(id).visible);
        let fresh: Vec<Record> = state
            .log()
            .from(Bound::Included(&(id, own)))
            .take_while(|((origin, _), _)| *origin == id)
            .filter(|((_, version), _)| version.seq() > before.seq)
            .filter_map(|(_, key)| state.rows().get(key).cloned())
            .filter(|row| row.origin == id && row.version.seq() > before.seq)
            .collect();
        let accepted = View(was).acceptor().unwrap().row.document.epoch();
        for row in fresh {
            if row.version.epoch() < accepted {
                let detail = format!("{id} wrote {row:?} and had accepted epoch {accepted}");
                self.violate("FENCE-1", detail);
            }
            let prev = was.rows().get(&row.key);
            self.register(id, row, (before, prev));
        }
    }

    fn register(&mut self, id: PartitionId, row: Record, was: (&Status, Option<&Record>)) {
        let (before, prev) = was;
        self.check_mastered(id, &row);
        let place = (id, row.version);
        if row.version.epoch() < before.epoch {
            let clock = before.epoch;
            self.violate("FENCE-1", format!("{id} wrote {row:?} under clock epoch {clock}"));
        }
        if let Some(other) = self.ledger.writes.get(&place)
            && other.row != row
        {
            let detail = format!("{id} gave {} twice: {:?}, {row:?}", row.version, other.row);
            self.violate("VER-1", detail);
        }
        self.check_buried(id, &row, prev);
        let versions = self.ledger.by_key.entry((row.key.clone(), id)).or_default();
        let at = versions.partition_point(|version| *version < row.version);
        if versions.get(at) != Some(&row.version) {
            versions.insert(at, row.version);
        }
        let at = self.clock.monotonic();
        let prev = prev.map(|row| (row.origin, row.version));
        // Where nothing stands, what stood last was collected.
        let collected =
            |(origin, version): &(PartitionId, Version)| *version <= before.floors.get(*origin);
        let prev = prev.or_else(|| self.ledger.last_tombstone(&row.key).filter(collected));
        let late = self.register.master_of(&row.key) != id;
        let write =
            Written { row, prev, late, at, lost: false, acknowledged: false, by_majority: false };
        self.ledger.writes.insert(place, write);
    }

    /// A client is told that its write of `key` stands. `floor`: the greatest version that was
    /// acknowledged before it began.
    pub fn acknowledge(
        &mut self,
        key: &Key,
        origin: PartitionId,
        version: Version,
        floor: Version,
        by_majority: bool,
    ) {
        let late = self.ledger.get(origin, version).is_some_and(|write| write.late);
        // A cut-off master goes on below what its successor has acknowledged.
        if version <= floor && !late && self.register.master_of(key) == origin {
            self.violate("VER-1", format!("{key:?}: {version} acknowledged after {floor}"));
        }
        if let Some(other) = self.ledger.told.insert((origin, version), key.clone())
            && other != *key
        {
            self.violate("VER-1", format!("{origin} gave {version} to {key:?} and {other:?}"));
        }
        let newest = self.ledger.newest_acknowledged.entry(key.clone()).or_default();
        *newest = version.max(*newest);
        // A row that a later one of the same batch replaced has no entry: that later one stands for
        // it.
        if let Some(write) = self.ledger.writes.get_mut(&(origin, version)) {
            write.acknowledged = true;
            write.by_majority |= by_majority;
        }
        self.check_acknowledged();
    }

    /// Remembers which version an acknowledged write has named.
    pub fn note_condition(&mut self, write: &Write, origin: PartitionId, by: Version) {
        if let Some(Expected::OneOf(named)) = &write.condition.if_match {
            self.count("a write replaced what it named");
            let (key, named) = (write.key.clone(), named[0]);
            self.ledger.replaced.push(Replaced { key, origin, named, by });
        }
    }

    /// EXACT: nothing that stands or was acknowledged lies between what was named and what
    /// replaced it.
    fn check_conditions(&mut self) {
        let mut found = Vec::new();
        for Replaced { key, origin, named, by } in &self.ledger.replaced {
            let between = |version: &Version| named < version && version < by;
            let told =
                self.ledger.told.iter().any(|((other, version), told)| {
                    other == origin && told == key && between(version)
                });
            let written = self.ledger.by_key.get(&(key.clone(), *origin));
            let stood = |version: &Version| !self.ledger.writes[&(*origin, *version)].lost;
            let stands = written
                .is_some_and(|all| all.iter().any(|version| between(version) && stood(version)));
            if told || stands {
                found.push(format!("{by} of {key:?} was to replace {named}, and replaced another"));
            }
        }
        for detail in found {
            self.violate("EXACT", detail);
        }
    }

    /// ACK-1: what was acknowledged is durable where it was promised.
    pub fn check_acknowledged(&mut self) {
        let voters: Vec<_> = self.servers.iter().filter(|s| s.is_voter && s.holds_data).collect();
        let durable: BTreeMap<PartitionId, Status> =
            voters.iter().map(|server| (server.id, server.durable_status())).collect();
        let majority = self.register.majority();
        let mut found = Vec::new();
        for ((origin, version), write) in &self.ledger.writes {
            if !write.acknowledged {
                continue;
            }
            let home = &durable[origin];
            let is_gone = self.lost == Some(*origin) || self.server(*origin).gone;
            if !is_gone && (write.lost || home.vector.get(*origin) < *version) {
                found.push(format!("{:?} of {origin} is not durable at its master", write.row));
            }
            // Once voters have come and gone, what is held is looked at when everything is quiet.
            let voters_changed =
                self.servers.len() > self.setup.servers() || !self.register.retired().is_empty();
            if !write.by_majority || voters_changed {
                continue;
            }
            let holders = voters.iter().filter(|server| {
                let row = server.durable.rows().get(&write.row.key);
                row.is_some_and(|row| row.version >= *version)
                    || durable[&server.id].vector.get(*origin) >= *version
            });
            let holders = holders.count();
            if holders < majority {
                found.push(format!("{:?} of {origin} is held by {holders}", write.row));
            }
        }
        for detail in found {
            self.violate("ACK-1", detail);
        }
    }

    /// What must hold after every step, at each server that changed.
    pub fn check_step(&mut self) {
        for id in self.ids() {
            if !std::mem::replace(&mut self.server_mut(id).checked, true) {
                self.check_server(id);
            }
        }
    }

    fn check_server(&mut self, id: PartitionId) {
        let state = Rc::clone(&self.server(id).visible);
        let status = View(&state).status().unwrap();
        let mut found: Vec<(&'static str, String)> = Vec::new();
        if !status.reseeding {
            self.check_covered(&state, &status, &mut found);
        }
        for row in state.rows().values() {
            let above = row.version > status.floors.get(row.origin);
            if above && !state.log().contains_key(&(row.origin, row.version)) {
                found.push(("LOG-1", format!("{id} holds {row:?} without its entry")));
            }
        }
        let durable: BTreeMap<PartitionId, Version> = self
            .servers
            .iter()
            .map(|server| (server.id, server.durable_status().vector.get(server.id)))
            .collect();
        for (origin, cursor) in status.vector.iter().filter(|(origin, _)| *origin != id) {
            if cursor > durable[&origin] {
                let clock = durable[&origin];
                found
                    .push(("CUR-1", format!("{id}: {cursor} of {origin}, whose clock is {clock}")));
            }
            if cursor < status.floors.get(origin) {
                found.push(("CUR-1", format!("{id}: {cursor} of {origin} is below its own floor")));
            }
        }
        let rows = state.rows().values().map(|row| (row.origin, row.version));
        for (origin, version) in rows.chain(state.log().keys().copied()) {
            if origin != id && version > durable[&origin] {
                found.push((
                    "BAR-1",
                    format!("{id} holds {version} of {origin}, not durable there"),
                ));
            }
        }
        for (checker, detail) in found {
            self.violate(checker, detail);
        }
    }

    /// VEC-1: for every key and origin, at least every version that the cursors cover.
    fn check_covered(
        &self,
        state: &State,
        status: &Status,
        found: &mut Vec<(&'static str, String)>,
    ) {
        let mut newest: BTreeMap<&Key, &Written> = BTreeMap::new();
        for (key, origin) in self.ledger.keys() {
            let upto = status.vector.get(*origin);
            if let Some(write) = self.ledger.covered(key, *origin, upto)
                && newest.get(key).is_none_or(|other| other.row.version < write.row.version)
            {
                newest.insert(key, write);
            }
        }
        for (key, write) in newest {
            let (version, origin) = (write.row.version, write.row.origin);
            let holds = match state.rows().get(key) {
                Some(row) => row.version >= version,
                None => {
                    let buried = |later: &Written| later.row.is_tombstone();
                    let collected = version <= status.floors.get(origin);
                    // What a hand has damaged gives way to what the key's master has: nothing,
                    // where that has buried it since and collected the tombstone.
                    let mended = self.tampered.contains(key);
                    buried(write) && collected
                        || mended && self.ledger.later(&write.row).any(buried)
                }
            };
            if !holds {
                let has = state.rows().get(key);
                let id = status.partition;
                found.push(("VEC-1", format!("{id} covers {:?} and has {has:?}", write.row)));
            }
        }
    }

    /// Whether a reader may find no row, or this one, who has seen `version` of the key.
    pub fn is_no_less(&self, key: &Key, row: Option<&Record>, version: Version) -> bool {
        match row {
            Some(row) => row.version >= version,
            None => {
                let dead = |(k, origin): &(Key, PartitionId)| {
                    let last = Version::from_packed(i64::MAX).unwrap();
                    k == key
                        && self.ledger.covered(key, *origin, last).is_some_and(|_| {
                            self.ledger.by_key[&(k.clone(), *origin)].iter().any(|v| {
                                let write = &self.ledger.writes[&(*origin, *v)];
                                *v >= version && write.row.is_tombstone() && !write.lost
                            })
                        })
                };
                self.ledger.keys().any(dead)
            }
        }
    }

    /// A row leaves for a follower: it must not be taken back any more.
    pub fn check_given(&mut self, rows: &[Record]) {
        for row in rows {
            let durable = self.server(row.origin).durable_status().vector.get(row.origin);
            if row.version > durable {
                self.violate("BAR-1", format!("a follower was given {row:?}, not durable"));
            }
        }
    }

    /// CONV-1, DEL-1, ACK-1, EXACT and FEED-1, once faults have stopped and passes have run.
    pub fn check_quiet(&mut self) {
        self.check_acknowledged();
        self.check_conditions();
        self.check_losses();
        let serving = self.serving();
        let states: Vec<_> =
            serving.iter().map(|server| (server.id, Rc::clone(&server.visible))).collect();
        let (first, reference) = &states[0];
        for (id, state) in &states[1..] {
            let (ours, theirs) = (live_rows(reference), live_rows(state));
            if ours != theirs {
                let differs =
                    ours.keys().chain(theirs.keys()).find(|k| ours.get(*k) != theirs.get(*k));
                let key = differs.unwrap();
                let detail = format!("{first}: {:?}, {id}: {:?}", ours.get(key), theirs.get(key));
                self.violate("CONV-1", detail);
            }
        }
        for (id, state) in &states {
            self.check_deletes(*id, state);
        }
        for nth in 0..self.followers.len() {
            let follower = &self.followers[nth];
            let lives = follower.state.iter().filter(|(_, (_, lives))| *lives);
            let known: BTreeMap<&Key, Version> = lives.map(|(key, (v, _))| (key, *v)).collect();
            let followed = live_rows(reference).into_iter();
            let followed = followed.filter(|(key, _)| key.bytes().starts_with(&follower.prefix));
            let store: BTreeMap<&Key, Version> =
                followed.map(|(key, row)| (key, row.version)).collect();
            if known != store {
                self.violate(
                    "FEED-1",
                    format!("follower {nth} has {known:?}, the store {store:?}"),
                );
            }
        }
    }

    fn check_deletes(&mut self, id: PartitionId, state: &State) {
        let mut undone = Vec::new();
        for write in self.ledger.writes.values() {
            // What its master alone had acknowledged is lost with it.
            let is_gone = self.lost == Some(write.row.origin) && !write.by_majority;
            if !write.acknowledged || !write.row.is_tombstone() || is_gone {
                continue;
            }
            let row = state.rows().get(&write.row.key).filter(|row| !row.is_tombstone());
            if let Some(row) = row.filter(|row| row.version < write.row.version) {
                undone.push(format!("{id} has {row:?}, deleted by {}", write.row.version));
            }
        }
        for detail in undone {
            self.violate("DEL-1", detail);
        }
    }
}
