//! Following the records of copies, and taking over those whose keepers do not run any more.

use std::sync::Arc;

use super::copies::{self, CopyRecord};
use super::kept::{self, Kept, Standing};
use super::{Orchestrator, Seen, changes};
use crate::sync::round::chain;

impl Orchestrator {
    /// Follows the records of copies.
    pub(super) async fn look_at_copies(&self, seen: &mut Seen) {
        let mut fleet = self.fleet.lock().await;
        let records = match self.records().await {
            Ok(records) => self.adopt(records, seen).await,
            // While the masters are away nothing changes; at a start there are copies to read from.
            Err(_) if fleet.is_empty() => {
                let list = kept::list(&self.store, copies::PREFIX, false, changes::LISTED_MAX);
                list.await.unwrap_or_default()
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "the records of copies cannot be read");
                return;
            }
        };
        self.known.store(Arc::new(records.iter().map(|kept| kept.value.clone()).collect()));
        fleet.look(records).await;
    }

    /// Takes over the copies within reach whose keepers do not run any more.
    async fn adopt(
        &self,
        mut records: Vec<Kept<CopyRecord>>,
        seen: &mut Seen,
    ) -> Vec<Kept<CopyRecord>> {
        let (now, own) = (self.store.clock().monotonic(), self.frontends.id());
        let is_others = |kept: &Kept<CopyRecord>| kept.value.keeper != own;
        let is_early = seen.adopted_at.is_some_and(|at| now < at + self.frontends.interval());
        if is_early || !records.iter().any(is_others) {
            return records;
        }
        let running = self.frontends.running().await;
        if !running.iter().any(|one| one.is_self) {
            // Whoever hears nothing of itself hears nothing of others.
            return records;
        }
        seen.adopted_at = Some(now);
        let home = self.provisioners.home();
        for kept in &mut records {
            let keeper = &kept.value.keeper;
            let is_kept = running.iter().any(|one| one.id == *keeper);
            if is_kept || !kept.value.is_within_reach(home.as_deref()) {
                continue;
            }
            let taken = CopyRecord { keeper: own.to_owned(), ..kept.value.clone() };
            let standing = Standing::Version(kept.version);
            let written = kept::write(&self.store, &kept.name, &taken, standing, None).await;
            if let Ok(Some(version)) = written {
                tracing::info!(partition = %taken.copy.name, from = %keeper, "kept here from now on");
                (kept.value, kept.version) = (taken, version);
            }
        }
        records
    }
}
