//! Why a read was answered as it was: the read itself, and how it went with every partition.

use super::Store;
use super::answer::{Need, Read, Serving, StoreError};
use super::looks::Standing;
use super::routed::Tries;
use crate::record::Key;
use crate::vector::Token;

/// How it went with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It answered.
    Served,
    /// It was asked and did not serve; why, in words that anybody may read.
    Skipped(String),
    /// It would have been next: another one answered before.
    NotAsked,
    /// It may not serve this read.
    Excluded,
}

/// A read, and how it came to its answer.
#[derive(Debug)]
pub struct Explained {
    /// The answer.
    pub read: Result<Read, StoreError>,
    /// The partition that takes the writes of the key.
    pub master: Serving,
    /// Every partition, those that might serve in the order in which they are asked. Their ages are
    /// those of this key.
    pub turns: Vec<(Standing, Turn)>,
}

impl Store {
    /// Reads a key and tells how the answer came about.
    pub async fn explain(&self, key: &Key, need: &Need, session: Option<&Token>) -> Explained {
        let mut tries = Tries::default();
        let read = self.get_noting(key, need, session, &mut tries).await;
        let topology = self.topology();
        let master = topology.master_of(key);
        let (seen, now) = (self.seen.load(), self.clock.monotonic());
        let turn = |mut standing: Standing| {
            let id = standing.health.partition.id;
            let as_of = seen.as_of(id, &[master], &topology);
            standing.age = as_of.map(|as_of| now.saturating_sub(as_of));
            let served = read.as_ref().is_ok_and(|read| read.served_by.id == id);
            let missed = tries.missed.iter().rev().find(|(missed, _)| *missed == id);
            let turn = match missed {
                _ if served => Turn::Served,
                Some((_, why)) => Turn::Skipped(why.clone()),
                None if tries.order.contains(&id) => Turn::NotAsked,
                None => Turn::Excluded,
            };
            (standing, turn)
        };
        let mut turns: Vec<_> = self.standings().into_iter().map(turn).collect();
        let place = |id| tries.order.iter().position(|one| *one == id).unwrap_or(usize::MAX);
        turns.sort_by_key(|(standing, _)| place(standing.health.partition.id));
        let master = self.serving(master);
        Explained { read, master, turns }
    }
}
