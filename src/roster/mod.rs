//! The roster: the voters that this front end has open are those that the topology names.
//!
//! Voters join and leave while the service runs, at the request of any front end. Every front end
//! looks again and again at the topology that is in use ([`Roster::follow`]) and opens whoever it
//! does not have open yet: lanes, rounds, upkeep, followers, heartbeats. Whoever the topology does
//! not name any more is closed: nobody asks it who comes after, and what was asked before is
//! answered. The ways of the register and of changes of ownership are made when they are first used
//! ([`crate::failover::service::Ways`]), so that the topology can be read whoever it names.
//!
//! A voter that cannot be opened here (its password was sealed with another key, say) keeps nobody
//! from using the rest: it is told of by name ([`Roster::beside`]), in the log once, and tried
//! again. So is a witness, which holds no data and so has neither lanes nor rounds: from time to
//! time it is looked at whether it answers. One that joins is opened as soon as its database is its
//! own.

pub mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use self::open::{Opener, OpeningError};
use crate::failover::service::Ownership;
use crate::frontends::Frontends;
use crate::jobs::SyncJob;
use crate::partition::engine::EngineKind;
use crate::store::answer::Serving;
use crate::store::looks::Standing;
use crate::store::{Health, Store};
use crate::sync::round::chain;
use crate::topology::{State, Topology, Voter};
use crate::upkeep::Upkeep;
use crate::version::PartitionId;

/// How often the topology in use is compared with what is open.
const TICK: Duration = Duration::from_millis(100);
/// How soon what could not be opened is tried again, and a witness looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// How soon one that joins is looked at again: it is founded a moment later.
const JOINING_AGAIN: Duration = Duration::from_millis(500);
/// How long what was asked of a voter is waited for when it goes: above the deadline of any request
/// but the most patient.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What a roster works with.
pub struct RosterParts {
    /// Serves from the voters.
    pub store: Arc<Store>,
    /// Copies between them.
    pub sync: Arc<SyncJob>,
    /// Keeps them in order.
    pub upkeep: Arc<Upkeep>,
    /// Beats at them.
    pub frontends: Arc<Frontends>,
    /// Knows who they are.
    pub ownership: Arc<Ownership>,
    /// Opens them.
    pub opener: Arc<Opener>,
}

/// The voters that one front end has open.
pub struct Roster {
    parts: RosterParts,
    seen: Arc<Mutex<Seen>>,
    /// What runs beside: voters that are closed, witnesses that are looked at.
    beside: tokio::sync::Mutex<JoinSet<()>>,
}

/// What a roster goes by from look to look.
#[derive(Default)]
struct Seen {
    /// Whose lanes, rounds and beats run here.
    open: BTreeMap<PartitionId, Arc<str>>,
    /// What is wrong with those that have none.
    troubles: BTreeMap<PartitionId, Option<&'static str>>,
    /// When those were last tried, or looked at, and in which state.
    tried_at: BTreeMap<PartitionId, (Duration, State)>,
    /// Who of those that join has a database of its own.
    founded: BTreeSet<PartitionId>,
}

impl Roster {
    /// The roster of a front end that has opened `open` at its start.
    pub fn new(parts: RosterParts, open: Vec<Serving>) -> Self {
        let open = open.into_iter().map(|one| (one.id, one.name)).collect();
        let seen = Arc::new(Mutex::new(Seen { open, ..Seen::default() }));
        Self { parts, seen, beside: tokio::sync::Mutex::default() }
    }

    /// How voters are opened.
    pub const fn opener(&self) -> &Arc<Opener> {
        &self.parts.opener
    }

    /// Who changes them.
    pub const fn ownership(&self) -> &Arc<Ownership> {
        &self.parts.ownership
    }

    /// Looks for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    /// Opens and closes until what is open is what the topology says.
    pub async fn look(&self) {
        let topology = self.parts.ownership.topology();
        // First: a name may have been given again.
        for (id, name) in self.gone(&topology) {
            tracing::info!(partition = %name, "is no voter any more, and is closed");
            let closing = self.close(id, &name);
            self.beside.lock().await.spawn(closing);
        }
        for voter in self.to_try(&topology) {
            let is_founded =
                voter.state != State::Joining || self.seen().founded.contains(&voter.id);
            if voter.role.holds_data() && is_founded {
                note(&self.seen, voter, self.open(voter).err());
            } else {
                let looked = self.look_at(voter.clone());
                self.beside.lock().await.spawn(looked);
            }
        }
        while self.beside.lock().await.try_join_next().is_some() {}
    }

    /// Waits until all that was closed has drained.
    pub async fn drained(&self) {
        while self.beside.lock().await.join_next().await.is_some() {}
    }

    fn gone(&self, topology: &Topology) -> Vec<(PartitionId, Arc<str>)> {
        let mut seen = self.seen();
        let is_gone = |id: &PartitionId| topology.voter(*id).is_none();
        let gone: Vec<_> = seen.open.iter().filter(|(id, _)| is_gone(id)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(id, name)| (*id, Arc::clone(name))).collect();
        seen.open.retain(|id, _| !is_gone(id));
        seen.troubles.retain(|id, _| !is_gone(id));
        seen.tried_at.retain(|id, _| !is_gone(id));
        seen.founded.retain(|id| !is_gone(id));
        drop(seen);
        // Those of before a change that is not settled are still asked for their votes.
        let asked = topology.voters().iter().chain(topology.previous()).map(|voter| voter.id);
        let asked: BTreeSet<PartitionId> = asked.collect();
        self.parts.ownership.ways().keep_only(&asked);
        gone
    }

    /// Whom nothing was tried with lately.
    fn to_try<'a>(&self, topology: &'a Topology) -> Vec<&'a Voter> {
        let (mut seen, now) = (self.seen(), self.parts.store.clock().monotonic());
        let voters = topology.voters().iter().filter(|voter| {
            let again = if voter.state == State::Joining { JOINING_AGAIN } else { AGAIN };
            let last = seen.tried_at.get(&voter.id);
            let is_due = last.is_none_or(|(at, state)| *state != voter.state || now >= *at + again);
            !seen.open.contains_key(&voter.id) && is_due
        });
        let voters: Vec<&Voter> = voters.collect();
        for voter in &voters {
            seen.tried_at.insert(voter.id, (now, voter.state));
        }
        voters
    }

    fn open(&self, voter: &Voter) -> Result<(), Trouble> {
        let open = self.parts.opener.open(voter)?;
        let (name, member) = (Arc::clone(&open.serving().name), open.member());
        let opened = self
            .parts
            .store
            .add(open.served())
            .and_then(|()| self.parts.sync.add(&member))
            .and_then(|()| self.parts.frontends.add(Arc::clone(&name), open.connect()));
        if let Err(error) = opened {
            // What was begun ends by itself.
            drop(self.close(voter.id, &name));
            return Err(Trouble::Threads(error));
        }
        self.parts.upkeep.add(&member);
        self.seen().open.insert(voter.id, name);
        tracing::info!(partition = %voter.name, id = %voter.id, state = %voter.state, "opened");
        Ok(())
    }

    /// Closes a voter; what is left to be waited for.
    fn close(&self, id: PartitionId, name: &str) -> impl Future<Output = ()> + use<> {
        self.parts.frontends.remove(name);
        self.parts.upkeep.remove(id);
        let leaving = self.parts.store.remove(id);
        let sync = Arc::clone(&self.parts.sync);
        // Begins here, whether anybody waits or not.
        let removed: JoinHandle<()> = spawn_blocking(move || sync.remove(id));
        async move {
            drop(removed.await);
            if let Some(leaving) = leaving {
                leaving.drain(DRAIN_MAX).await;
            }
        }
    }

    /// Whether a witness answers, and whether one that joins is founded.
    fn look_at(&self, voter: Voter) -> impl Future<Output = ()> + use<> {
        let connect = self.parts.opener.connect(&voter);
        let seen = Arc::clone(&self.seen);
        async move {
            let looked = match connect {
                Ok(connect) => spawn_blocking(move || connect.connect().map(drop)).await,
                Err(error) => return note(&seen, &voter, Some(error.into())),
            };
            match looked {
                Ok(Ok(())) if voter.state == State::Joining => {
                    let mut seen = lock(&seen);
                    seen.founded.insert(voter.id);
                    seen.tried_at.remove(&voter.id);
                }
                // It is empty until it is founded: nothing is wrong with that.
                Ok(Err(error)) if voter.state == State::Joining => {
                    tracing::debug!(partition = %voter.name, %error, "is not founded yet");
                }
                Ok(looked) => note(&seen, &voter, looked.err().map(Trouble::from)),
                // A panic was reported when it happened.
                Err(_) => {}
            }
        }
    }

    /// The voters that this front end does not serve from: witnesses, and whoever cannot be opened.
    pub fn beside(&self) -> Vec<Standing> {
        let topology = self.parts.ownership.topology();
        let seen = self.seen();
        let unserved = topology.voters().iter().filter(|voter| !seen.open.contains_key(&voter.id));
        let standing = |voter: &Voter| {
            let database = self.parts.opener.database(voter);
            let engine = database.map_or(EngineKind::Mysql, |one| one.engine.kind());
            let trouble = seen.troubles.get(&voter.id).copied();
            let health = Health {
                partition: Serving { id: voter.id, name: voter.name.as_str().into() },
                engine,
                role: Some(voter.role),
                state: Some(voter.state),
                slots: topology.slots_of(voter.id),
                readable: false,
                writable: false,
                trouble: trouble.flatten(),
            };
            let (age, lag, vector, answers_in) = (None, None, None, None);
            let url = self.parts.opener.shown(voter).into();
            Standing { health, url, age, lag, vector, answers_in }
        };
        unserved.map(standing).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what is wrong with a voter, or that nothing is, and says so when it is something new.
fn note(seen: &Mutex<Seen>, voter: &Voter, trouble: Option<Trouble>) {
    let what = trouble.as_ref().map(Trouble::in_public);
    if lock(seen).troubles.insert(voter.id, what) == Some(what) {
        return;
    }
    if let Some(trouble) = trouble {
        let error = chain(&trouble);
        tracing::warn!(partition = %voter.name, role = %voter.role, error, "cannot be used");
    }
}

/// Why a voter cannot be used here.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Opening(#[from] OpeningError),
    #[error("its lanes cannot be started")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Partition(#[from] crate::partition::PartitionError),
}

impl Trouble {
    const fn in_public(&self) -> &'static str {
        match self {
            Self::Opening(error) => error.in_public(),
            Self::Threads(_) => "its lanes cannot be started",
            Self::Partition(error) => error.in_public(),
        }
    }
}
