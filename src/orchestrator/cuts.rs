//! Old cuts: this front end's part in dropping what the document tells of takeovers that are over
//! ([`crate::failover::cuts`]).
//!
//! Beside the watch and not in it: whoever looks at everybody may have to wait for one that hangs,
//! and nobody is to be replaced any later for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::failover::cuts::Look;
use crate::failover::service::Ownership;
use crate::store::Store;
use crate::topology::Topology;
use crate::topology::cut::Cut;
use crate::vector::Vector;
use crate::version::PartitionId;

/// Drops cuts for ever, as soon as nobody needs them.
pub async fn tend(store: Arc<Store>, ownership: Arc<Ownership>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first: Option<Look> = None;
    loop {
        ticks.tick().await;
        if !may_drop(&store, &ownership.topology()) {
            first = None;
            continue;
        }
        let (looking, own) = (first.take(), Arc::clone(&ownership));
        match spawn_blocking(move || own.drop_cuts(looking.as_ref())).await {
            Ok(Ok(look)) => first = look,
            Ok(Err(error)) => tracing::debug!(%error, "old cuts are dropped later"),
            // A panic was reported when it happened.
            Err(_) => {}
        }
    }
}

/// Whether some cut may be old, from what was last seen of everybody whom logs are kept for. Nobody
/// is asked before.
fn may_drop(store: &Store, topology: &Topology) -> bool {
    let cuts = topology.cuts();
    if cuts.is_empty() {
        return false;
    }
    let standings = store.standings();
    let place = |id: PartitionId| {
        let standing = standings.iter().find(|one| one.health.partition.id == id)?;
        standing.vector.as_deref().filter(|_| standing.health.trouble.is_none())
    };
    let places: Option<Vec<&Vector>> =
        topology.holding_back().map(|voter| place(voter.id)).collect();
    let Some(places) = places else { return false };
    let is_retired = |cut: &Cut| topology.retired().contains(&cut.origin);
    cuts.iter().any(|cut| is_retired(cut) || places.iter().all(|place| cut.is_old(place)))
}
