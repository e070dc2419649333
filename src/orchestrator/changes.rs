//! Operations on read copies: adding some, removing some.
//!
//! Both only write records and wait until the front ends have done what those say
//! ([`super::fleet`]); so both can be begun anew by another front end at any time.

use std::time::Duration;

use tokio::time::interval;

use super::Orchestrator;
use super::copies::{CopyRecord, NewCopy, PREFIX};
use super::kept::{self, Kept, KeptError, Standing};
use super::operation::Ended;
use crate::topology::State;

/// How long copies may take to be seeded; large ones take long.
const ADD_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a copy may take to go.
const REMOVE_MAX: Duration = Duration::from_secs(3 * 60);
/// How often the records are looked at.
const STEP: Duration = Duration::from_millis(100);
/// So many failures in a row, and a copy that joins is given up.
const FAILURES_MAX: u32 = 3;
/// More than there may be copies.
pub const LISTED_MAX: usize = 10_000;

/// What is to be waited for, and how that ended.
enum Waited {
    Yes,
    No(String),
}

impl Orchestrator {
    /// All records of copies, by their masters.
    pub(super) async fn records(&self) -> Result<Vec<Kept<CopyRecord>>, KeptError> {
        kept::list(&self.store, PREFIX, true, LISTED_MAX).await
    }

    /// Has these copies made, and waits until they serve; where one cannot be, all are taken back.
    pub(super) async fn make(&self, copies: &[NewCopy]) -> Ended {
        let names: Vec<&str> = copies.iter().map(|copy| copy.name.as_str()).collect();
        let listed = names.join(", ");
        for copy in copies {
            let now = self.store.clock().wall_ms();
            let record = CopyRecord::joining(copy.clone(), self.frontends.id(), now);
            let key = CopyRecord::key(&copy.name);
            // One that is there already was written by whoever drove the operation before.
            let written = kept::write(&self.store, &key, &record, Standing::Nothing, None);
            if let Err(error) = written.await {
                return self.take_back(&names, &error.to_string()).await;
            }
        }
        let judge = |records: &[CopyRecord]| {
            let failed = records.iter().find(|record| record.failures >= FAILURES_MAX);
            if let Some(record) = failed {
                let trouble = record.trouble.as_deref().unwrap_or("it cannot be provided");
                return Some(Waited::No(format!("{}: {trouble}", record.copy.name)));
            }
            let active = records.iter().filter(|record| record.state == State::Active).count();
            if records.len() < names.len() {
                Some(Waited::No("somebody else has removed it".to_owned()))
            } else {
                (active == names.len()).then_some(Waited::Yes)
            }
        };
        match self.wait_for(&names, ADD_MAX, judge).await {
            Some(Waited::Yes) => Ended::Done(format!("{listed} serve")),
            Some(Waited::No(why)) => self.take_back(&names, &why).await,
            None => self.take_back(&names, "not seeded in time").await,
        }
    }

    /// Has these copies taken away, and waits until they are gone.
    pub(super) async fn unmake(&self, names: &[String]) -> Ended {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listed = names.join(", ");
        match self.drain(&names).await {
            Ok(()) => Ended::Done(format!("{listed} removed")),
            Err(why) => Ended::Stuck(format!("{listed} not removed: {why}")),
        }
    }

    async fn take_back(&self, names: &[&str], why: &str) -> Ended {
        match self.drain(names).await {
            Ok(()) => Ended::Failed(why.to_owned()),
            Err(left) => Ended::Stuck(format!("{why}; and what was made is still there: {left}")),
        }
    }

    /// Lets these copies drain and waits until they are gone.
    async fn drain(&self, names: &[&str]) -> Result<(), String> {
        for name in names {
            self.let_drain(name).await.map_err(|error| error.to_string())?;
        }
        self.woken.notify_one();
        let judge = |records: &[CopyRecord]| records.is_empty().then_some(Waited::Yes);
        if self.wait_for(names, REMOVE_MAX, judge).await.is_some() {
            return Ok(());
        }
        let records = self.records().await.map_err(|error| error.to_string())?;
        let left = records.into_iter().map(|kept| kept.value);
        let troubles = left
            .filter(|record| names.contains(&record.copy.name.as_str()))
            .map(|record| record.trouble.unwrap_or_else(|| "its keeper is away".to_owned()));
        Err(troubles.collect::<Vec<_>>().join(", "))
    }

    async fn let_drain(&self, name: &str) -> Result<(), KeptError> {
        let key = CopyRecord::key(name);
        loop {
            let kept: Option<Kept<CopyRecord>> = kept::read(&self.store, &key, true).await?;
            let Some(kept) = kept.filter(|kept| kept.value.state != State::Draining) else {
                return Ok(());
            };
            let standing = Standing::Version(kept.version);
            let now = self.store.clock().wall_ms();
            let record = kept.value.become_at(State::Draining, now);
            let record = CopyRecord { failures: 0, ..record };
            if kept::write(&self.store, &key, &record, standing, None).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Looks at the records of these copies until `judge` has an opinion; `None`: not in time.
    async fn wait_for(
        &self,
        names: &[&str],
        patience: Duration,
        judge: impl Fn(&[CopyRecord]) -> Option<Waited>,
    ) -> Option<Waited> {
        let judged = async {
            let mut steps = interval(STEP);
            loop {
                steps.tick().await;
                // A master that is away for a moment is no reason to give up.
                let Ok(records) = self.records().await else { continue };
                let ours = records.into_iter().map(|kept| kept.value);
                let ours: Vec<CopyRecord> =
                    ours.filter(|record| names.contains(&record.copy.name.as_str())).collect();
                if let Some(judged) = judge(&ours) {
                    return judged;
                }
            }
        };
        tokio::time::timeout(patience, judged).await.ok()
    }
}
