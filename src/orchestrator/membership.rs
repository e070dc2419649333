//! Operations on voters: one joins, one leaves.
//!
//! Nothing but the topology says how far they are, so whoever drives one looks at that before each
//! step, and goes on where another front end has ended:
//!
//! | the topology says | joining: next step |
//! |---|---|
//! | nothing of it | the last change is settled; its database is looked at; it joins |
//! | it is joining | its database is founded, made from a data voter, and it is admitted |
//! | it counts | that is settled |
//!
//! | the topology says | leaving: next step |
//! |---|---|
//! | it owns slots | they are handed to others; taken over, where it does not answer |
//! | it owns none | the last change is settled; it is retired |
//! | it is retired | that is settled; what it alone holds goes to the ledger, and it is emptied |
//!
//! What fails is tried again for a while ([`FAILURES_MAX`]): partitions come back, and others
//! change the topology, too. One that cannot be made is taken back: it never counted. The database
//! of a voter that was lost cannot be emptied when that is retired; a record says so, and every
//! front end tries it again until it is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::kept::{self, Standing};
use super::operation::Ended;
use super::provisioner::remove_database;
use super::voters::{NewVoter, RetiredRecord};
use super::{Orchestrator, Seen};
use crate::config::partition::PartitionUrl;
use crate::failover::FailoverError;
use crate::failover::service::Ownership;
use crate::partition::PartitionError;
use crate::register::RegisterError;
use crate::roster::open::{Database, Opener, OpeningError, SmallPackets};
use crate::store::Store;
use crate::sync::round::chain;
use crate::topology::change::Joining;
use crate::topology::slots::moves;
use crate::topology::{Role, State, Topology, Voter};
use crate::version::PartitionId;

/// So many failures in a row, and a step is given up: half a minute, which is longer than a
/// takeover takes, or a server to start.
const FAILURES_MAX: usize = 60;
/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often what is left of retired voters is tried.
const CLEAR: Duration = Duration::from_secs(5);

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// The topology, or a partition that counts.
    #[error(transparent)]
    Failover(#[from] FailoverError),
    /// It cannot be opened here.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The new database cannot be used.
    #[error("its database cannot be used")]
    Database(#[source] PartitionError),
    /// Somebody's data are there.
    #[error("its database is not empty: it says that it is partition {owner} of set {set}")]
    NotEmpty { owner: PartitionId, set: String },
    /// Values would not fit.
    #[error(
        "its server takes packets of {packet} bytes, and the largest value needs {needed}; raise \
         max_allowed_packet there"
    )]
    SmallPackets { packet: usize, needed: usize },
    /// Somebody else's.
    #[error("there is another partition of this name by now")]
    NameTaken,
    /// Without it there are no data.
    #[error("it is the last partition that holds the data")]
    Last,
    /// Nobody can have its slots.
    #[error("no other partition that answers can take its slots")]
    NoSuccessor,
    /// The front end ends.
    #[error("the service is shutting down")]
    Stopping,
}

impl From<RegisterError> for StepError {
    fn from(error: RegisterError) -> Self {
        Self::Failover(error.into())
    }
}

impl StepError {
    /// Whether the same may succeed a moment later.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Failover(error) => error.may_pass(),
            Self::NoSuccessor => true,
            Self::Opening(_)
            | Self::Database(_)
            | Self::NotEmpty { .. }
            | Self::SmallPackets { .. }
            | Self::NameTaken
            | Self::Last
            | Self::Stopping => false,
        }
    }
}

/// `true`: nothing is left to be done.
type Step = Result<bool, StepError>;

/// What steps are made with. All of it blocks.
struct Errand {
    store: Arc<Store>,
    ownership: Arc<Ownership>,
    opener: Arc<Opener>,
    value_bytes_max: usize,
    failures: AtomicUsize,
}

impl Errand {
    /// The next step of a voter that joins.
    fn join(&self, new: &NewVoter) -> Step {
        let topology = self.ownership.read()?;
        match topology.voter_named(&new.name) {
            None => {
                self.settled(&topology)?;
                self.probe(new)?;
                self.ownership.join(&Joining {
                    name: new.name.clone(),
                    holds_data: new.holds_data,
                    acceptor: new.acceptor,
                    address: Some(new.address.clone()),
                })?;
                Ok(false)
            }
            Some(voter) if voter.acceptor != new.acceptor => Err(StepError::NameTaken),
            Some(voter) if voter.state == State::Joining => {
                let database = self.opener.database(voter)?;
                self.ownership.found(voter.id, database.way.as_ref())?;
                if new.holds_data {
                    let source = self.source(&topology).ok_or(FailoverError::NoSuccessor)?;
                    self.ownership.seed(voter.id, source)?;
                }
                self.ownership.admit(voter.id)?;
                Ok(false)
            }
            Some(_) => {
                self.settled(&topology)?;
                Ok(true)
            }
        }
    }

    /// Whether a new database can be a voter's.
    fn probe(&self, new: &NewVoter) -> Result<(), StepError> {
        let database = self.database_of(new)?;
        let identity = database.engine.connect().and_then(|mut found| found.identity());
        if let Some(found) = identity.map_err(StepError::Database)? {
            let (owner, set) = (found.partition, found.set.to_string());
            return Err(StepError::NotEmpty { owner, set });
        }
        let settings = database.settings().map_err(StepError::Database)?;
        let Some(settings) = settings else { return Ok(()) };
        let small = SmallPackets::of(&settings, self.value_bytes_max);
        if let Some(SmallPackets { packet, needed }) = small {
            return Err(StepError::SmallPackets { packet, needed });
        }
        if !settings.relaxed().is_empty() {
            let partition = &new.name;
            tracing::warn!(partition, %settings, "a crash of this server may take acknowledged writes along");
        }
        Ok(())
    }

    fn database_of(&self, new: &NewVoter) -> Result<Database, OpeningError> {
        self.opener.database(&Voter {
            id: PartitionId(0),
            name: new.name.clone(),
            role: Role::Replica,
            state: State::Joining,
            acceptor: new.acceptor,
            address: Some(new.address.clone()),
        })
    }

    /// From whom a voter is made: from one that masters nothing, where there is one; after a
    /// failure from another one.
    fn source(&self, topology: &Topology) -> Option<PartitionId> {
        let active = topology.data_voters().filter(|voter| voter.state == State::Active);
        let mut able: Vec<PartitionId> = active.map(|voter| voter.id).collect();
        able.sort_by_key(|id| (!self.store.is_well(*id), topology.slots_of(*id)));
        let nth = self.failures.load(Ordering::Relaxed).checked_rem(able.len())?;
        able.get(nth).copied()
    }

    /// Makes sure that the last change of the voters is settled.
    fn settled(&self, topology: &Topology) -> Result<(), StepError> {
        if !topology.previous().is_empty() {
            self.ownership.settle()?;
        }
        Ok(())
    }

    /// The next step of a voter that leaves.
    fn retire(&self, leaving: &Voter) -> Step {
        let topology = self.ownership.read()?;
        let Some(voter) = topology.voter(leaving.id) else {
            self.settled(&topology)?;
            return Ok(true);
        };
        if voter.counts_as_holder() && topology.data_voters().count() == 1 {
            return Err(StepError::Last);
        }
        if topology.slots_of(voter.id) > 0 {
            self.hand_off(&topology, voter)?;
        } else {
            self.settled(&topology)?;
            self.ownership.retire(voter.id)?;
        }
        Ok(false)
    }

    /// Gives the slots of a voter to the other masters, or, where there are none, to a replica.
    fn hand_off(&self, topology: &Topology, from: &Voter) -> Result<(), StepError> {
        let able = topology.data_voters().filter(|voter| {
            voter.id != from.id && voter.state.gains_slots() && self.store.is_well(voter.id)
        });
        let able: BTreeSet<PartitionId> = able.map(|voter| voter.id).collect();
        let mut masters = able.clone();
        masters.retain(|id| topology.slots_of(*id) > 0);
        if masters.is_empty() {
            masters.extend(able.first());
        }
        if masters.is_empty() {
            return Err(StepError::NoSuccessor);
        }
        let handed = moves(topology, &masters).iter().filter(|one| one.from == from.id).try_for_each(
            |moved| {
                tracing::info!(from = %from.name, to = %moved.to, slots = moved.slots.len(), "handed over");
                self.ownership.promote(moved).map(drop)
            },
        );
        match handed {
            Err(error) if from.state == State::Down || !self.store.is_well(from.id) => {
                let why = chain(&error);
                tracing::warn!(partition = %from.name, why, "does not hand its slots over: taken over");
                self.ownership.take_over(from.id, false)?;
                Ok(())
            }
            handed => Ok(handed?),
        }
    }

    /// Has what a retired voter alone holds in the ledger, and empties its database.
    fn clear(&self, retired: &Voter) -> Result<(), StepError> {
        let topology = self.ownership.read()?;
        let able = topology.data_voters().filter(|voter| voter.state == State::Active);
        let into = able.min_by_key(|voter| !self.store.is_well(voter.id));
        let into = into.ok_or(FailoverError::NoSuccessor)?.id;
        let database = self.opener.database(retired)?;
        self.ownership.clear_retired(retired, database.way.as_ref(), into)?;
        // Its file was made for it.
        if let (Some(_), PartitionUrl::Sqlite { path }) = (&retired.address, &database.url) {
            let removed = remove_database(path);
            removed
                .map_err(|error| StepError::Database(PartitionError::Unreachable(error.into())))?;
        }
        Ok(())
    }

    /// Takes a voter back that has not come to count; what is left of it. `None`: it counts.
    fn take_back(&self, new: &NewVoter) -> Result<Option<String>, StepError> {
        let topology = self.ownership.read()?;
        let voter = topology.voter_named(&new.name);
        let Some(voter) = voter.filter(|voter| voter.acceptor == new.acceptor) else {
            return Ok(Some(String::new()));
        };
        if voter.state != State::Joining {
            return Ok(None);
        }
        let voter = voter.clone();
        self.ownership.retire(voter.id)?;
        Ok(Some(match self.clear(&voter) {
            Ok(()) => String::new(),
            Err(error) => format!("; its database may not be empty: {}", chain(&error)),
        }))
    }
}

impl Orchestrator {
    fn errand(&self) -> Arc<Errand> {
        Arc::new(Errand {
            store: Arc::clone(&self.store),
            ownership: Arc::clone(&self.ownership),
            opener: Arc::clone(self.roster.opener()),
            value_bytes_max: self.settings.value_bytes_max,
            failures: AtomicUsize::new(0),
        })
    }

    /// Has a voter join.
    pub(super) async fn take_in(&self, new: &NewVoter) -> Ended {
        let errand = self.errand();
        let (own, voter) = (Arc::clone(&errand), new.clone());
        let joined = steps(&errand, move || own.join(&voter)).await;
        let what = if new.holds_data { "a replica" } else { "a witness" };
        let Err(error) = joined else { return Ended::Done(format!("{} is {what}", new.name)) };
        let why = chain(&error);
        let (own, voter) = (Arc::clone(&errand), new.clone());
        match blocking(move || own.take_back(&voter)).await {
            Ok(Some(left)) => Ended::Failed(format!("{}: {why}{left}", new.name)),
            Ok(None) => {
                let name = &new.name;
                Ended::Done(format!(
                    "{name} is {what}; that is settled as soon as it can be: {why}"
                ))
            }
            Err(left) => {
                let left = chain(&left);
                Ended::Stuck(format!("{}: {why}; and it cannot be taken back: {left}", new.name))
            }
        }
    }

    /// Has a voter leave.
    pub(super) async fn take_out(&self, leaving: &Voter) -> Ended {
        let errand = self.errand();
        let (own, voter) = (Arc::clone(&errand), leaving.clone());
        let retired = steps(&errand, move || own.retire(&voter)).await;
        let name = &leaving.name;
        let is_gone = self.ownership.topology().voter(leaving.id).is_none();
        let unsettled = match retired {
            Ok(()) => String::new(),
            Err(error) if is_gone => {
                format!("; that is settled as soon as it can be: {}", chain(&error))
            }
            Err(error) => return Ended::Failed(format!("{name} stays: {}", chain(&error))),
        };
        let (own, voter) = (Arc::clone(&errand), leaving.clone());
        match blocking(move || own.clear(&voter)).await {
            Ok(()) => {
                self.forget(leaving).await;
                Ended::Done(format!("{name} is no partition any more, and is empty{unsettled}"))
            }
            Err(error) => {
                let since_ms = self.store.clock().wall_ms();
                let record = RetiredRecord { voter: leaving.clone(), since_ms };
                let key = RetiredRecord::key(leaving);
                let kept = kept::write(&self.store, &key, &record, Standing::Nothing, None).await;
                // Told of at once, here.
                self.known_retired.rcu(|known| {
                    let others = known.iter().filter(|one| one.voter.id != leaving.id);
                    others.chain([&record]).cloned().collect::<Vec<_>>()
                });
                let why = chain(&error);
                match kept {
                    Ok(_) => Ended::Done(format!(
                        "{name} is no partition any more; what it alone holds is kept, and it is \
                         emptied, when it can be asked: {why}{unsettled}"
                    )),
                    Err(left) => Ended::Stuck(format!(
                        "{name} is no partition any more; that it is to be emptied could not be \
                         written down: {left}: {why}{unsettled}"
                    )),
                }
            }
        }
    }

    /// Nothing is left of a retired voter.
    async fn forget(&self, retired: &Voter) {
        if let Err(error) = kept::remove(&self.store, &RetiredRecord::key(retired)).await {
            tracing::debug!(partition = %retired.name, %error, "its record stays for now");
            return;
        }
        self.known_retired.rcu(|known| {
            known.iter().filter(|one| one.voter.id != retired.id).cloned().collect::<Vec<_>>()
        });
    }

    /// Empties what is left of retired voters, as soon as that can be asked.
    pub(super) async fn look_at_retired(&self, seen: &mut Seen) {
        if let Some(clearing) = seen.clearing.take_if(|task| task.is_finished()) {
            for record in clearing.await.unwrap_or_default() {
                tracing::info!(partition = %record.voter.name, "what is left of it is empty");
                self.forget(&record.voter).await;
            }
        }
        let now = self.store.clock().monotonic();
        let is_early = seen.cleared_at.is_some_and(|at| now < at + CLEAR);
        if is_early || seen.clearing.is_some() {
            return;
        }
        seen.cleared_at = Some(now);
        // While nobody answers nothing changes.
        let Ok(records) = self.retired_records().await else { return };
        let records: Vec<RetiredRecord> = records.into_iter().map(|kept| kept.value).collect();
        self.known_retired.store(Arc::new(records.clone()));
        if records.is_empty() {
            return;
        }
        let errand = self.errand();
        seen.clearing = Some(spawn_blocking(move || {
            let cleared = |record: &RetiredRecord| match errand.clear(&record.voter) {
                Ok(()) => true,
                Err(error) => {
                    let (partition, error) = (&record.voter.name, chain(&error));
                    tracing::debug!(partition, error, "what is left of it stays");
                    false
                }
            };
            records.into_iter().filter(cleared).collect()
        }));
    }
}

/// What was emptied.
pub(super) type Clearing = JoinHandle<Vec<RetiredRecord>>;

/// Makes step after step until nothing is left to be done. What fails is tried again for a while.
async fn steps(
    errand: &Errand,
    step: impl Fn() -> Step + Clone + Send + 'static,
) -> Result<(), StepError> {
    let mut pauses = interval(PAUSE);
    pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pauses.tick().await;
    loop {
        match blocking(step.clone()).await {
            Ok(true) => return Ok(()),
            Ok(false) => errand.failures.store(0, Ordering::Relaxed),
            Err(error) => {
                let failures = errand.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if !error.may_pass() || failures >= FAILURES_MAX {
                    return Err(error);
                }
                tracing::debug!(error = chain(&error), failures, "tried again");
                pauses.reset();
                pauses.tick().await;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    spawn_blocking(work).await.unwrap_or(Err(StepError::Stopping))
}
