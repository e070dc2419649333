//! A round: every data partition pulls what it lacks from the others, then logs are trimmed.
//!
//! Connections come from the partitions' pools, are kept for one round, and are given up after any
//! error that leaves them in doubt. A failed pair is a row in the report, never the end of the
//! round. One thread runs it; any number of front ends may run theirs at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::barrier::Barriers;
use super::pass::{self, PageLimits, PullError, Pulled};
use super::report::{Pair, Report};
use super::trim::{self, Retention};
use crate::clock::Clock;
use crate::lane::{Connect, DEAD_AT_ONCE};
use crate::partition::{Partition, PartitionError, Status};
use crate::topology::Topology;
use crate::version::PartitionId;

/// A partition that takes part.
pub struct Member {
    /// Its id.
    pub id: PartitionId,
    /// Its name, for the report.
    pub name: Arc<str>,
    /// How to reach it.
    pub connect: Arc<dyn Connect>,
}

/// What rounds work with, and what they remember: what is known to be durable, and what was told.
/// Forgetting all of it costs time and nothing else.
pub struct Round {
    members: Vec<Member>,
    topology: Arc<ArcSwap<Topology>>,
    clock: Arc<dyn Clock>,
    barriers: Barriers,
    retention: Retention,
    limits: PageLimits,
    connections: BTreeMap<PartitionId, Box<dyn Partition + Send>>,
    rounds: u64,
    /// What was last said of a target, or of a target and a source: said again only when it
    /// changes.
    told: BTreeMap<(PartitionId, Option<PartitionId>), &'static str>,
}

impl Round {
    /// Rounds over `members`, the data partitions of the set.
    pub fn new(
        members: Vec<Member>,
        topology: Arc<ArcSwap<Topology>>,
        clock: Arc<dyn Clock>,
        log_retention: Duration,
    ) -> Self {
        Self {
            members,
            topology,
            clock,
            barriers: Barriers::default(),
            retention: Retention::new(log_retention),
            limits: PageLimits::default(),
            connections: BTreeMap::new(),
            rounds: 0,
            told: BTreeMap::new(),
        }
    }

    /// Runs one round.
    pub fn run(&mut self) -> Report {
        let (began, started_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        self.rounds += 1;
        let topology = self.topology.load_full();
        let mut errors: BTreeMap<PartitionId, &'static str> = BTreeMap::new();
        let mut statuses = self.statuses(&mut errors);
        let mut pulls: BTreeMap<(PartitionId, PartitionId), Result<Pulled, &'static str>> =
            BTreeMap::new();
        for target in self.member_ids() {
            self.pull_all(target, &mut statuses, &topology, &mut pulls);
        }
        self.trim(&statuses, &topology);
        // Back to where they came from: rounds may be far apart.
        self.connections.clear();
        Report {
            round: self.rounds,
            started_ms,
            took: self.clock.monotonic().saturating_sub(began),
            pairs: self.pairs(&statuses, &errors, &pulls),
        }
    }

    /// Logs trouble when it begins, changes or ends: rounds are many.
    fn tell(
        &mut self,
        (target, source): (PartitionId, Option<PartitionId>),
        trouble: Option<(&'static str, &dyn std::error::Error)>,
    ) {
        let known = match trouble {
            Some((what, _)) => self.told.insert((target, source), what),
            None => self.told.remove(&(target, source)),
        };
        let place = (self.name_of(target), source.map_or("", |source| self.name_of(source)));
        match trouble {
            Some((what, _)) if known == Some(what) => {}
            Some((_, error)) => {
                let error = chain(error);
                tracing::warn!(partition = place.0, source = place.1, %error, "sync is held up");
            }
            None if known.is_some() => {
                tracing::info!(partition = place.0, source = place.1, "sync goes on");
            }
            None => {}
        }
    }

    fn name_of(&self, id: PartitionId) -> &str {
        self.members.iter().find(|member| member.id == id).map_or("", |member| &member.name)
    }

    fn member_ids(&self) -> Vec<PartitionId> {
        self.members.iter().map(|member| member.id).collect()
    }

    /// Where everybody stands; who cannot be asked is left out and told of in `errors`.
    fn statuses(
        &mut self,
        errors: &mut BTreeMap<PartitionId, &'static str>,
    ) -> BTreeMap<PartitionId, Status> {
        let mut statuses = BTreeMap::new();
        for id in self.member_ids() {
            let began = self.clock.monotonic();
            let mut status = self.with(id, |partition| partition.status());
            let is_prompt = self.clock.monotonic().saturating_sub(began) < DEAD_AT_ONCE;
            // A connection that stood idle may have died with its server.
            if is_prompt && status.as_ref().is_err_and(PartitionError::lost_connection) {
                status = self.with(id, |partition| partition.status());
            }
            match status {
                Ok(status) => {
                    self.tell((id, None), None);
                    statuses.insert(id, status);
                }
                Err(error) => {
                    self.tell((id, None), Some((error.in_public(), &error)));
                    errors.insert(id, error.in_public());
                }
            }
        }
        statuses
    }

    /// Runs `work` over the connection to a member, made first where there is none.
    fn with<T>(
        &mut self,
        id: PartitionId,
        work: impl FnOnce(&mut dyn Partition) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        let mut connection = self.take(id)?;
        let result = work(connection.as_mut());
        if !matches!(&result, Err(error) if !error.keeps_connection()) {
            self.connections.insert(id, connection);
        }
        result
    }

    fn take(&mut self, id: PartitionId) -> Result<Box<dyn Partition + Send>, PartitionError> {
        if let Some(connection) = self.connections.remove(&id) {
            return Ok(connection);
        }
        let member = self.members.iter().find(|member| member.id == id);
        member.expect("only members are asked for").connect.connect()
    }

    fn pull_all(
        &mut self,
        target: PartitionId,
        statuses: &mut BTreeMap<PartitionId, Status>,
        topology: &Topology,
        pulls: &mut BTreeMap<(PartitionId, PartitionId), Result<Pulled, &'static str>>,
    ) {
        let Some(standing) = statuses.get(&target) else { return };
        let others: Vec<Status> = statuses.values().cloned().collect();
        for pull in pass::plan(standing, &others) {
            let source = pull.source;
            let result = self.pull(target, &pull, topology);
            let trouble = result.as_ref().err().map(|error| (error.in_public(), error as _));
            self.tell((target, Some(source)), trouble);
            pulls.insert((target, source), result.map_err(|error| error.in_public()));
        }
        match self.with(target, |partition| partition.status()) {
            Ok(status) => drop(statuses.insert(target, status)),
            Err(_) => drop(statuses.remove(&target)),
        }
    }

    fn pull(
        &mut self,
        target: PartitionId,
        pull: &pass::Pull,
        topology: &Topology,
    ) -> Result<Pulled, PullError> {
        let mut to = self.take(target).map_err(PullError::Target)?;
        let mut from = match self.take(pull.source) {
            Ok(from) => from,
            Err(error) => {
                self.connections.insert(target, to);
                return Err(PullError::Source(error));
            }
        };
        let result = pass::pull(
            to.as_mut(),
            from.as_mut(),
            &pull.origins,
            topology,
            &self.barriers,
            self.limits,
        );
        let lost = |error: &PartitionError| !error.keeps_connection();
        if !matches!(&result, Err(PullError::Target(error)) if lost(error)) {
            self.connections.insert(target, to);
        }
        if !matches!(&result, Err(PullError::Source(error)) if lost(error)) {
            self.connections.insert(pull.source, from);
        }
        result
    }

    /// Trims what all voters are past and no feed was promised. Asks nobody while nothing can be
    /// gained: an idle set is not written to.
    fn trim(&mut self, statuses: &BTreeMap<PartitionId, Status>, topology: &Topology) {
        let voters: Vec<PartitionId> = topology.data_voters().map(|voter| voter.id).collect();
        let Some(standing) = voters
            .iter()
            .map(|id| statuses.get(id).map(|status| status.vector.clone()))
            .reduce(|least, vector| Some(least?.meet(&vector?)))
            .flatten()
        else {
            return;
        };
        let kept = self.retention.sample(self.clock.monotonic(), &standing);
        let behind: Vec<PartitionId> = statuses
            .values()
            .filter(|status| !status.floors.covers(&kept.meet(&status.vector)))
            .map(|status| status.partition)
            .collect();
        if behind.is_empty() {
            return;
        }
        let allowed: Vec<_> = voters
            .iter()
            .map(|id| self.with(*id, |voter| trim::allowed_by(voter, topology)))
            .collect();
        let Ok(Some(floor)) = trim::floor(allowed) else { return };
        let floor = floor.meet(&kept);
        for id in behind {
            let trimmed = self.with(id, |target| trim::apply(target, &floor, topology.epoch()));
            match trimmed {
                Ok(trimmed) => tracing::debug!(
                    partition = %id, entries = trimmed.entries, tombstones = trimmed.tombstones,
                    "trimmed"
                ),
                Err(error) => {
                    tracing::warn!(partition = %id, error = %chain(&error), "could not trim");
                }
            }
        }
    }

    fn pairs(
        &self,
        statuses: &BTreeMap<PartitionId, Status>,
        errors: &BTreeMap<PartitionId, &'static str>,
        pulls: &BTreeMap<(PartitionId, PartitionId), Result<Pulled, &'static str>>,
    ) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for target in &self.members {
            let name = Arc::clone(&target.name);
            let Some(standing) = statuses.get(&target.id) else {
                let error = errors.get(&target.id).copied().or(Some("lost during the round"));
                pairs.push(Pair { target: name, source: None, rows: 0, bytes: 0, lag: 0, error });
                continue;
            };
            for source in self.members.iter().filter(|source| source.id != target.id) {
                let pulled = pulls.get(&(target.id, source.id));
                let (done, error) = match pulled {
                    Some(Ok(done)) => (*done, None),
                    Some(Err(error)) => (Pulled::default(), Some(*error)),
                    None => (Pulled::default(), errors.get(&source.id).copied()),
                };
                let lag = statuses.get(&source.id).map_or(0, |status| {
                    let have = standing.vector.get(source.id).seq().number();
                    status.seq.number().saturating_sub(have)
                });
                pairs.push(Pair {
                    target: Arc::clone(&name),
                    source: Some(Arc::clone(&source.name)),
                    rows: done.rows,
                    bytes: done.bytes,
                    lag,
                    error,
                });
            }
        }
        pairs
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
