//! What must hold of the register, and of every acknowledged write once everything is quiet.
//!
//! | checker | when | failure |
//! |---|---|---|
//! | REGISTER | whenever a front end acts on a topology | two topologies of one revision, or two assignments of one epoch, are acted on |
//! | LOSS-1 | at quiet | an acknowledged write neither stands, nor is what a later one knowingly replaced, nor is in a ledger |
//!
//! A write by a majority that is only in a ledger fails ACK-1.

use std::collections::BTreeSet;

use datastore::partition::Partition;
use datastore::record::{Key, Record};
use datastore::topology::{Slot, Topology};
use datastore::version::{PartitionId, Version};

use crate::check::Written;
use crate::world::{Server, View, World, server};

/// One write.
type Place = (PartitionId, Version);

impl World {
    /// A front end routes by a topology from here on.
    pub fn act_on(&mut self, document: &Topology) {
        let revision = document.revision();
        if let Some(other) = self.acted.get(&revision)
            && other != document
        {
            let detail = format!("revision {revision} is {other:?} and {document:?}");
            self.violate("REGISTER", detail);
        }
        let same_epoch = |other: &&Topology| other.epoch() == document.epoch();
        let differs = |other: &Topology| {
            Slot::all().any(|slot| other.owner_of(slot) != document.owner_of(slot))
        };
        if self.acted.values().find(same_epoch).is_some_and(differs) {
            let epoch = document.epoch();
            self.violate("REGISTER", format!("two assignments are acted on in epoch {epoch}"));
        }
        self.acted.insert(revision, document.clone());
        if revision > self.register.revision() {
            self.register = document.clone();
        }
        // Whoever has just joined is founded as soon as anybody can know of it.
        for voter in document.voters() {
            if !self.exists(voter.id) {
                self.add_server(voter.id, document);
            }
        }
    }

    /// FENCE-1: nobody writes a slot that somebody else masters in that epoch.
    pub fn check_mastered(&mut self, id: PartitionId, row: &Record) {
        let epoch = row.version.epoch();
        let acted = self.acted.values().find(|document| document.epoch() == epoch);
        let owner = acted.map(|document| document.master_of(&row.key));
        if owner.is_some_and(|owner| owner != id) {
            self.violate("FENCE-1", format!("{id} wrote {row:?}, which is {owner:?}'s"));
        }
    }

    /// A partition that has just joined: founded, and empty.
    fn add_server(&mut self, id: PartitionId, topology: &Topology) {
        // The copy comes last.
        let at = self.servers.len() - 1;
        self.servers.insert(at, server(id, topology));
    }

    /// Of some histories: a partition that is never seen again. Drawn once.
    pub fn lost_for_ever(&mut self) -> Option<PartitionId> {
        let voters = self.register.voters().iter().filter(|voter| voter.state.counts()).count();
        let holders = self.register.data_voters().count();
        let few = voters < 3 || holders < 2;
        if self.scripted || self.lost.is_some() || few || self.rng.u8(..4) != 0 {
            return self.lost;
        }
        // What a hand has changed may be on nobody else.
        if !self.register.previous().is_empty() || !self.tampered.is_empty() {
            return None;
        }
        let lost = self.any_voter();
        self.lose_for_ever(lost);
        self.lost
    }

    pub fn lose_for_ever(&mut self, lost: PartitionId) {
        self.note(|| format!("{lost} is lost for ever"));
        self.count("a partition was lost for ever");
        self.server_mut(lost).up = false;
        self.lost = Some(lost);
    }

    /// What was lost for ever was not.
    pub fn find_again(&mut self) {
        if let Some(found) = self.lost.take() {
            self.note(|| format!("{found} is there again"));
            self.server_mut(found).up = true;
        }
    }

    /// Those that are compared at quiet: who may serve.
    pub fn serving(&self) -> Vec<&Server> {
        let serves = |server: &&Server| {
            let retired = self.register.retired().contains(&server.id);
            server.is_there() && server.holds_data && self.lost != Some(server.id) && !retired
        };
        self.servers.iter().filter(serves).collect()
    }

    /// LOSS-1, and for writes by a majority ACK-1.
    pub fn check_losses(&mut self) {
        let mut heads: BTreeSet<Place> = BTreeSet::new();
        let mut standing: BTreeSet<Key> = BTreeSet::new();
        let mut kept: BTreeSet<Place> = BTreeSet::new();
        for server in self.serving() {
            for row in server.visible.rows().values() {
                heads.insert((row.origin, row.version));
                standing.insert(row.key.clone());
            }
            kept.extend(server.visible.conflicts().map(|row| (row.origin, row.version)));
        }
        // Where nothing stands the last tombstone was collected.
        for key in self.ledger.every_key() {
            if !standing.contains(&key) {
                heads.extend(self.ledger.last_tombstone(&key));
            }
        }
        let (standing, kept) = (self.with_history(heads), self.with_history(kept));
        let gone = |origin: PartitionId| Some(origin) == self.lost;
        let mut found = Vec::new();
        for (place, write) in self.ledger.acknowledged() {
            if standing.contains(&place) || self.is_equal_to_a_winner(write) {
                continue;
            }
            if write.by_majority {
                let only = if kept.contains(&place) { "is only in a ledger" } else { "is gone" };
                found.push(("ACK-1", format!("{:?}, by a majority, {only}", write.row)));
            } else if !kept.contains(&place) && !gone(place.0) {
                found.push(("LOSS-1", format!("{:?} is gone without a trace", write.row)));
            }
        }
        if !kept.is_empty() {
            self.count("a late row was kept");
        }
        for (checker, detail) in found {
            self.violate(checker, detail);
        }
    }

    /// All that whoever wrote these had before him.
    fn with_history(&self, places: BTreeSet<Place>) -> BTreeSet<Place> {
        let mut all = BTreeSet::new();
        let mut open: Vec<Place> = places.into_iter().collect();
        while let Some(place) = open.pop() {
            if all.insert(place)
                && let Some(write) = self.ledger.get(place.0, place.1)
            {
                open.extend(write.prev);
            }
        }
        all
    }

    /// A delete that met another one is in no ledger.
    fn is_equal_to_a_winner(&self, write: &Written) -> bool {
        let row = &write.row;
        row.is_tombstone() && self.ledger.later(row).any(|later| later.row.is_tombstone())
    }
}

impl Server {
    /// Whether it holds anything still: a partition that was retired and emptied does not.
    pub const fn is_there(&self) -> bool {
        !self.gone
    }

    /// Whether whoever empties it has done so.
    pub fn is_emptied(&self) -> bool {
        View(&self.visible).identity().is_ok_and(|identity| identity.is_none())
    }
}
