//! The orchestrator: what the service as a whole is told to do, and what becomes of it.
//!
//! # Flow
//!
//! Every front end runs [`Orchestrator::run`]. What is to be, is written down: the service's own
//! record says its state and the operation that is under way ([`service`]). Every front end reads
//! it again and again and does its part; the one that took the operation drives it, and where that
//! front end has ended another one takes over. Nothing is told from front end to front end, so it
//! does not matter who is asked, who ends and who starts.
//!
//! Read copies are kept in the same way: a record each ([`copies`]), which every front end follows
//! ([`fleet`]) and operations change ([`changes`]); their databases come from [`provisioner`]s. How
//! many there are to be follows the reads, if that is wanted ([`scaling`], [`policy`]).
//!
//! Voters are kept in the topology: operations change that ([`voters`], [`membership`],
//! [`promote`], [`promotion`]), and every front end opens and closes voters as it says
//! ([`crate::roster`]). A [`mod@plan`] tells before, and [`decisions`] afterwards.
//!
//! # States
//!
//! See [`state`]. The state is the service's, not a front end's: SIGTERM ends one front end and
//! changes nothing; [`Orchestrator::shut_down`] ends all of them. A service that was never told
//! anything has no record, and is `RUNNING`: an idle set is not written to.

mod adopted;
mod changes;
mod clear;
pub mod copies;
mod cuts;
pub mod decisions;
mod fleet;
pub mod kept;
pub mod losses;
mod membership;
pub mod opened;
pub mod operation;
pub mod plan;
pub mod policy;
pub mod promote;
pub mod promotion;
pub mod provisioner;
pub mod requests;
pub mod scaling;
pub mod service;
pub mod settings;
pub mod state;
pub mod voters;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::copies::CopyRecord;
use self::fleet::{Fleet, FleetParts};
use self::kept::{KeptError, Standing};
use self::membership::Clearing;
use self::operation::{Ended, Kind, Operation, Phase};
use self::promotion::Unfit;
use self::provisioner::{ProvisionError, Provisioners};
use self::scaling::Window;
use self::service::{Service, WrongState};
use self::settings::Settings;
use self::state::State;
use self::voters::RetiredRecord;
use crate::config::partition::NAME_BYTES_MAX;
use crate::failover::FailoverError;
use crate::failover::service::Ownership;
use crate::frontends::Frontends;
use crate::jobs::SyncJob;
use crate::roster::Roster;
use crate::secret::Sealer;
use crate::store::Store;
use crate::topology::VOTERS_MAX;
use crate::version::Epoch;

/// How often a front end looks at what is to be.
const TICK: Duration = Duration::from_secs(1);
/// How often somebody who waits for the end of an operation looks for it.
const ASK: Duration = Duration::from_millis(100);
/// How often a change is judged anew because somebody else changed the record in between.
const ATTEMPTS: usize = 16;
/// How many ended operations are listed.
pub const LISTED_MAX: usize = 1000;

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    /// Not in this state.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// The key of an earlier request that asked for something else.
    #[error("the Idempotency-Key belongs to another request, whose operation is {id}")]
    KeyReused {
        /// The earlier operation.
        id: String,
    },
    /// No partition has this name.
    #[error("no partition is named {name}")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It is not made and taken away by the service.
    #[error("{name} is no read copy that was added")]
    NotACopy {
        /// What was asked for.
        name: String,
    },
    /// Without it there are no data.
    #[error("{name} is the last partition that holds the data")]
    Last {
        /// What was asked for.
        name: String,
    },
    /// Not enough databases to take.
    #[error("scaling.standby has no {count} databases that are free")]
    NoStandby {
        /// How many were asked for.
        count: usize,
    },
    /// More copies than there may be.
    #[error("there may be {max} read copies")]
    TooMany {
        /// How many.
        max: usize,
    },
    /// Not a database that can be taken.
    #[error("the url {why}")]
    BadUrl {
        /// What is wrong with it.
        why: String,
    },
    /// Not a name.
    #[error(
        "{name} cannot be the name of a partition: lower case letters, digits and _, a letter \
         first, at most {NAME_BYTES_MAX}; read copies have names of their own"
    )]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// The name of another partition.
    #[error("there is a partition {name} already")]
    NameTaken {
        /// What was asked for.
        name: String,
    },
    /// More voters than there may be.
    #[error("there may be {VOTERS_MAX} voters")]
    TooManyVoters,
    /// A password that nobody could keep.
    #[error("a database with a password can be added only where orchestrator.key_file is set")]
    NoKey,
    /// A plan that was made under another epoch.
    #[error("the plan is based on epoch {planned}, and the topology is at epoch {present}")]
    Moved {
        /// The epoch of the plan.
        planned: Epoch,
        /// The epoch now.
        present: Epoch,
    },
    /// It cannot be promoted so.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The topology cannot be read or changed.
    #[error(transparent)]
    Failover(#[from] FailoverError),
    /// Nothing is killed on purpose here.
    #[error("chaos.enabled is false: no server is killed on purpose")]
    NoChaos,
    /// There is no process to kill.
    #[error("{name} has no server of its own that runs within reach of this front end")]
    NoServer {
        /// What was asked for.
        name: String,
    },
    /// A database cannot be provided.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The front end ends.
    #[error("the service is shutting down")]
    Stopping,
    /// Others change the record all the time.
    #[error("the service's record is changed by others at the same time")]
    Contended,
    /// A record cannot be read or written.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// Ids are drawn at random.
    #[error("the operating system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

type Result<T> = std::result::Result<T, OrchestratorError>;

/// An operation under way, and which one it is.
type Work<'a> = Pin<Box<dyn Future<Output = (String, Ended)> + 'a>>;

/// What an orchestrator works with.
pub struct OrchestratorParts {
    /// Where records are kept, and what read copies are added to.
    pub store: Arc<Store>,
    /// What feeds them.
    pub sync: Arc<SyncJob>,
    /// Who else runs.
    pub frontends: Arc<Frontends>,
    /// Who changes who owns what.
    pub ownership: Arc<Ownership>,
    /// The voters that are open here.
    pub roster: Arc<Roster>,
    /// What can be set.
    pub settings: Settings,
}

/// One front end's orchestrator.
pub struct Orchestrator {
    store: Arc<Store>,
    frontends: Arc<Frontends>,
    ownership: Arc<Ownership>,
    roster: Arc<Roster>,
    settings: Settings,
    provisioners: Arc<Provisioners>,
    fleet: Mutex<Fleet>,
    /// The copies, as they were last seen.
    known: ArcSwap<Vec<CopyRecord>>,
    /// The retired voters that are not empty yet, as they were last seen.
    known_retired: ArcSwap<Vec<RetiredRecord>>,
    /// Reads of the window under way, where this front end counts them.
    counted: ArcSwapOption<u64>,
    started_ms: i64,
    woken: Arc<Notify>,
    stop: watch::Sender<bool>,
}

/// What a front end goes by from look to look.
#[derive(Default)]
struct Seen {
    /// How often the service had been told to end when this front end started; `None`: not known.
    shutdowns: Option<u64>,
    /// The operation that this front end drives.
    driven: Option<String>,
    /// When it was last asked whether the front end of another operation still runs.
    asked_at: Option<Duration>,
    /// The same for the front ends that keep copies.
    adopted_at: Option<Duration>,
    /// The window in which reads are counted, and when they were last asked for.
    window: Option<Window>,
    counted_at: Option<Duration>,
    /// What empties retired voters, and when that was last begun.
    clearing: Option<Clearing>,
    cleared_at: Option<Duration>,
}

impl Orchestrator {
    /// Nothing is read before [`Orchestrator::run`].
    pub fn new(parts: OrchestratorParts) -> Self {
        let OrchestratorParts { store, sync, frontends, ownership, roster, settings } = parts;
        let started_ms = store.clock().wall_ms();
        let provisioners = Arc::new(Provisioners::new(
            &settings.root,
            &settings.database_prefix,
            settings.scaling.standby.clone(),
            settings.key.as_ref().map(|key| Sealer::new(&key.0)),
            store.set_id(),
            Arc::clone(store.clock()),
        ));
        let woken = Arc::new(Notify::new());
        let fleet = Mutex::new(Fleet::new(FleetParts {
            store: Arc::clone(&store),
            sync,
            frontends: Arc::clone(&frontends),
            provisioners: Arc::clone(&provisioners),
            woken: Arc::clone(&woken),
        }));
        Self {
            store,
            frontends,
            ownership,
            roster,
            settings,
            provisioners,
            fleet,
            known: ArcSwap::default(),
            known_retired: ArcSwap::default(),
            counted: ArcSwapOption::default(),
            started_ms,
            woken,
            stop: watch::channel(false).0,
        }
    }

    /// The read copies that were added, as they were last seen.
    pub fn copies(&self) -> Arc<Vec<CopyRecord>> {
        self.known.load_full()
    }

    /// The retired voters that are not empty yet, as they were last seen.
    pub fn retired(&self) -> Arc<Vec<RetiredRecord>> {
        self.known_retired.load_full()
    }

    /// This front end ends: no server of its own stays behind.
    pub async fn release(&self) {
        self.fleet.lock().await.release().await;
    }

    /// The service as it stands.
    pub async fn service(&self) -> Result<Service> {
        let kept = kept::read(&self.store, service::NAME, true).await?;
        Ok(kept.map_or_else(|| Service::unrecorded(self.started_ms), |kept| kept.value))
    }

    /// This front end's part in who owns what.
    pub const fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }

    /// The voters.
    pub const fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The front ends of the service.
    pub const fn frontends(&self) -> &Arc<Frontends> {
        &self.frontends
    }

    /// Tells the service to end: all front ends drain.
    pub async fn shut_down(&self) -> Result<Service> {
        let service = self.change(|service, now| Ok(service.shut_down(now)?)).await?.0;
        self.woken.notify_one();
        Ok(service)
    }

    /// Waits until this front end has to drain because the service ends.
    pub async fn told_to_stop(&self) {
        // The sender lives as long as `self`.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// This front end has left: the last one says that the service has stopped.
    pub async fn left(&self) {
        if !*self.stop.borrow() || self.frontends.running().await.iter().any(|one| !one.is_self) {
            return;
        }
        let told = self.change(|service, now| {
            service.stopped(now);
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::warn!(%error, "could not record that the service has stopped");
        }
    }

    /// Begins an operation, or finds the one that the same request has begun before. `request`
    /// tells requests apart that come with one `key`.
    pub async fn begin(&self, kind: Kind, key: Option<&str>, request: u64) -> Result<Operation> {
        self.begin_with(|_| Ok(kind.clone()), key, request).await
    }

    /// The same with an operation that is put together under the record as it stands.
    async fn begin_with(
        &self,
        kind: impl Fn(&mut Service) -> Result<Kind>,
        key: Option<&str>,
        request: u64,
    ) -> Result<Operation> {
        if let Some(earlier) = self.earlier(key, request).await? {
            return Ok(earlier);
        }
        let random = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
        let id = operation::id(key, random);
        let by = self.frontends.id();
        let begun = self.change(|service, now| {
            if let Some(earlier) = service.operation.as_ref().filter(|one| one.id == id) {
                return earlier_of(earlier.clone(), request);
            }
            if service.state != State::Running {
                return Err(service.wrong().into());
            }
            let kind = kind(service)?;
            let operation = Operation::new(id.clone(), kind, by, now, request);
            service.begin(operation.clone())?;
            Ok(operation)
        });
        let (_, operation) = begun.await?;
        self.woken.notify_one();
        Ok(operation)
    }

    /// The operation that an earlier request with the same key has begun: a request that is
    /// repeated finds that, whatever stands now.
    async fn earlier(&self, key: Option<&str>, request: u64) -> Result<Option<Operation>> {
        let Some(key) = key else { return Ok(None) };
        let earlier = self.operation(&operation::id(Some(key), 0)).await?;
        earlier.map(|earlier| earlier_of(earlier, request)).transpose()
    }

    /// The operation of this id, under way or ended.
    pub async fn operation(&self, id: &str) -> Result<Option<Operation>> {
        let service = self.service().await?;
        if let Some(operation) = service.operation.filter(|operation| operation.id == id) {
            return Ok(Some(operation));
        }
        let name = format!("{}{id}", operation::PREFIX);
        Ok(kept::read(&self.store, &name, true).await?.map(|kept| kept.value))
    }

    /// The same, as soon as it has ended, or when `wait` is over.
    pub async fn settled(&self, id: &str, wait: Duration) -> Result<Option<Operation>> {
        let ended = async {
            let mut ticks = interval(ASK);
            loop {
                ticks.tick().await;
                match self.operation(id).await {
                    Ok(Some(operation)) if operation.phase == Phase::Running => {}
                    told => return told,
                }
            }
        };
        match tokio::time::timeout(wait, ended).await {
            Ok(told) => told,
            Err(_) => self.operation(id).await,
        }
    }

    /// All operations that can be asked for, the latest first.
    pub async fn operations(&self) -> Result<Vec<Operation>> {
        let ended = kept::list(&self.store, operation::PREFIX, true, LISTED_MAX).await?;
        let mut all: Vec<Operation> = ended.into_iter().map(|kept| kept.value).collect();
        let running = self.service().await?.operation;
        all.extend(running.filter(|running| all.iter().all(|one| one.id != running.id)));
        all.sort_by(|a, b| (b.started_ms, &b.id).cmp(&(a.started_ms, &a.id)));
        Ok(all)
    }

    /// Does this front end's part, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut seen = Seen::default();
        let mut work: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.woken.notified() => {}
                Some((id, ended)) = work.next(), if !work.is_empty() => {
                    self.finish(&id, &ended).await;
                    seen.driven = None;
                }
            }
            match self.look(&mut seen).await {
                Ok(Some(operation)) => work.push(Box::pin(self.drive(operation))),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "the service's record cannot be read now");
                }
            }
            self.scale(&mut seen.window, &mut seen.counted_at).await;
        }
    }

    /// Looks at what is to be; returns an operation that this front end has to drive from now on.
    async fn look(&self, seen: &mut Seen) -> Result<Option<Operation>> {
        let kept = kept::read::<Service>(&self.store, service::NAME, seen.shutdowns.is_none());
        let Some(service) = kept.await?.map(|kept| kept.value) else {
            // Nothing was ever asked for.
            seen.shutdowns.get_or_insert(0);
            return Ok(None);
        };
        self.look_at_copies(seen).await;
        self.look_at_retired(seen).await;
        let known = match seen.shutdowns {
            Some(known) => known,
            None => {
                let (service, ()) = self
                    .change(|service, now| {
                        service.start(now);
                        Ok(())
                    })
                    .await?;
                *seen.shutdowns.insert(service.shutdowns)
            }
        };
        if service.shutdowns > known {
            self.stop.send_replace(true);
        }
        let Some(operation) = service.operation else { return Ok(None) };
        if seen.driven.is_some() {
            return Ok(None);
        }
        // What was read may be old: an operation that has ended is not begun again.
        let operation = self.service().await?.operation.filter(|one| one.id == operation.id);
        let Some(operation) = operation else { return Ok(None) };
        if operation.by != self.frontends.id() && !self.takes_over(&operation, seen).await? {
            return Ok(None);
        }
        seen.driven = Some(operation.id.clone());
        Ok(Some(operation))
    }

    /// Takes an operation over whose front end does not run any more.
    async fn takes_over(&self, operation: &Operation, seen: &mut Seen) -> Result<bool> {
        let now = self.store.clock().monotonic();
        if seen.asked_at.is_some_and(|at| now < at + self.frontends.interval()) {
            return Ok(false);
        }
        seen.asked_at = Some(now);
        let running = self.frontends.running().await;
        let is_told = running.iter().any(|one| one.is_self);
        if !is_told || running.iter().any(|one| one.id == operation.by) {
            return Ok(false);
        }
        let own = self.frontends.id();
        let (_, taken) = self
            .change(|service, _| {
                let same = |one: &&mut Operation| one.id == operation.id && one.by == operation.by;
                let standing = service.operation.as_mut().filter(same);
                Ok(standing.map(|one| one.by = own.to_owned()).is_some())
            })
            .await?;
        if taken {
            tracing::warn!(
                operation = %operation.id, from = %operation.by,
                "taken over: its front end does not run any more"
            );
        }
        Ok(taken)
    }

    async fn drive(&self, operation: Operation) -> (String, Ended) {
        tracing::info!(operation = %operation.id, kind = operation.kind.name(), "begins");
        let ended = match &operation.kind {
            Kind::Clear => clear::clear(&self.store).await,
            Kind::Add { copies } => self.make(copies).await,
            Kind::Remove { names } => self.unmake(names).await,
            Kind::Join { voter } => self.take_in(voter).await,
            Kind::Retire { voter } => self.take_out(voter).await,
            Kind::Promote { promotion } => self.drive_promotion(&operation, promotion).await,
        };
        (operation.id, ended)
    }

    /// Records the end of an operation. Where that fails, it is driven once more.
    async fn finish(&self, id: &str, ended: &Ended) {
        tracing::info!(operation = %id, ?ended, "has ended");
        if let Err(error) = self.record_end(id, ended).await {
            tracing::warn!(operation = %id, %error, "its end could not be recorded");
        }
    }

    async fn record_end(&self, id: &str, ended: &Ended) -> Result<()> {
        // First where it can be asked for afterwards: nobody finds it gone in between.
        let mut service = self.service().await?;
        let now = self.store.clock().wall_ms();
        let Some(operation) = service.finish(id, ended.clone(), now) else { return Ok(()) };
        self.keep(&operation).await?;
        self.change(|service, now| Ok(service.finish(id, ended.clone(), now))).await?;
        Ok(())
    }

    /// Changes the service's record as `judge` says of what stands at the present moment.
    async fn change<T>(
        &self,
        mut judge: impl FnMut(&mut Service, i64) -> Result<T>,
    ) -> Result<(Service, T)> {
        for _ in 0..ATTEMPTS {
            let kept = kept::read::<Service>(&self.store, service::NAME, true).await?;
            let standing = Standing::of(kept.as_ref());
            let before =
                kept.map_or_else(|| Service::unrecorded(self.started_ms), |kept| kept.value);
            let mut service = before.clone();
            let judged = judge(&mut service, self.store.clock().wall_ms())?;
            if service == before {
                return Ok((service, judged));
            }
            let written = kept::write(&self.store, service::NAME, &service, standing, None);
            if written.await?.is_some() {
                return Ok((service, judged));
            }
        }
        Err(OrchestratorError::Contended)
    }
}

/// The operation that an earlier request with the same key has begun.
fn earlier_of(earlier: Operation, request: u64) -> Result<Operation> {
    if earlier.request == request {
        Ok(earlier)
    } else {
        Err(OrchestratorError::KeyReused { id: earlier.id })
    }
}
