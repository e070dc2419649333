//! JSON shapes that tell of partitions: their list, one of them, and why a read was answered as it
//! was.

use std::time::Duration;

use serde::Serialize;

use super::answer::age_ms;
use super::wire;
use crate::orchestrator::copies::{CopyRecord, Source};
use crate::orchestrator::voters::RetiredRecord;
use crate::partition::engine::EngineKind;
use crate::store::answer::{Need, Place};
use crate::store::explain::{Explained, Turn};
use crate::store::looks::Standing;
use crate::topology::{Role, State, Voter};
use crate::vector::{Token, Vector};
use crate::version::SetId;

/// All partitions.
#[derive(Debug, Serialize)]
pub struct PartitionsDoc<'a> {
    partitions: Vec<PartitionDoc<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

/// One partition, as this front end sees it.
#[derive(Debug, Serialize)]
pub struct PartitionDoc<'a> {
    id: u16,
    name: &'a str,
    engine: String,
    url: &'a str,
    role: String,
    state: String,
    slots: usize,
    age_ms: Option<u64>,
    lag: Option<u64>,
    vector: Option<String>,
    answer_ms: Option<f64>,
    trouble: Option<&'a str>,
    /// Where the database of an added copy comes from.
    source: Option<&'static str>,
    /// The process of its private server.
    pid: Option<u32>,
}

impl<'a> PartitionsDoc<'a> {
    /// In the order of their ids: those that this front end serves, and copies that it does not.
    pub fn new(
        set: SetId,
        standings: &'a [Standing],
        copies: &'a [CopyRecord],
        warnings: Vec<&'static str>,
    ) -> Self {
        let mut partitions: Vec<PartitionDoc<'a>> =
            standings.iter().map(|one| PartitionDoc::new(set, one)).collect();
        for record in copies {
            match partitions.iter_mut().find(|one| one.id == record.copy.id.0) {
                Some(served) => served.add(record),
                None => partitions.push(PartitionDoc::of_copy(record)),
            }
        }
        partitions.sort_by_key(|one| one.id);
        Self { partitions, warnings }
    }

    /// And those that are voters no more, and not empty yet.
    pub fn with_retired(mut self, retired: &'a [RetiredRecord]) -> Self {
        let known = |id: u16| self.partitions.iter().any(|one| one.id == id);
        let retired = retired.iter().filter(|one| !known(one.voter.id.0));
        let retired: Vec<_> = retired.map(|one| PartitionDoc::of_retired(&one.voter)).collect();
        self.partitions.extend(retired);
        self.partitions.sort_by_key(|one| one.id);
        self
    }

    /// All of them.
    pub fn partitions(&self) -> &[PartitionDoc<'a>] {
        &self.partitions
    }

    /// The one of this name.
    pub fn partition(&self, name: &str) -> Option<&PartitionDoc<'a>> {
        self.partitions.iter().find(|one| one.name == name)
    }
}

impl<'a> PartitionDoc<'a> {
    /// What was last seen of it.
    pub fn new(set: SetId, standing: &'a Standing) -> Self {
        let health = &standing.health;
        // Of a witness nobody reads.
        let is_up =
            health.readable || health.role == Some(Role::Witness) && health.trouble.is_none();
        Self {
            id: health.partition.id.0,
            name: &health.partition.name,
            engine: health.engine.to_string(),
            url: &standing.url,
            role: wire::role(health),
            state: match health.state {
                Some(_) | None if health.is_quarantined() => State::Quarantined.to_string(),
                Some(state) if is_up || state != State::Active => state.to_string(),
                None if health.readable => State::Active.to_string(),
                Some(_) | None => State::Down.to_string(),
            },
            slots: health.slots,
            age_ms: standing.age.map(age_ms),
            lag: standing.lag,
            vector: standing.vector.as_deref().map(|vector| token(set, vector)),
            answer_ms: standing.answers_in.map(millis),
            trouble: health.trouble,
            source: None,
            pid: None,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// What is written down of a copy that this front end serves.
    fn add(&mut self, record: &'a CopyRecord) {
        if record.state != State::Active {
            self.state = record.state.to_string();
        }
        self.trouble = self.trouble.or(record.trouble.as_deref());
        (self.source, self.pid) = (Some(record.copy.source.name()), record.pid);
    }

    /// What is left of a voter that was retired.
    fn of_retired(voter: &'a Voter) -> Self {
        let url = voter.address.as_ref().map_or("", |address| &address.url);
        let engine = match url.starts_with("sqlite:") {
            true => EngineKind::Sqlite,
            false => EngineKind::Mysql,
        };
        Self {
            id: voter.id.0,
            name: &voter.name,
            engine: engine.to_string(),
            url,
            role: voter.role.to_string(),
            state: State::Retired.to_string(),
            slots: 0,
            age_ms: None,
            lag: None,
            vector: None,
            answer_ms: None,
            trouble: Some("is emptied when it can be asked"),
            source: None,
            pid: None,
        }
    }

    /// A copy that this front end does not serve.
    fn of_copy(record: &'a CopyRecord) -> Self {
        let engine = match record.copy.source {
            Source::Sqlite => EngineKind::Sqlite,
            Source::Mariadb | Source::Standby { .. } | Source::Url { .. } => EngineKind::Mysql,
        };
        Self {
            id: record.copy.id.0,
            name: &record.copy.name,
            engine: engine.to_string(),
            url: record.url.as_deref().unwrap_or(""),
            role: "copy".to_owned(),
            state: record.state.to_string(),
            slots: 0,
            age_ms: None,
            lag: None,
            vector: None,
            answer_ms: None,
            trouble: record.trouble.as_deref(),
            source: Some(record.copy.source.name()),
            pid: record.pid,
        }
    }
}

fn token(set: SetId, vector: &Vector) -> String {
    Token { set, vector: vector.clone() }.to_string()
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Why a read was answered as it was.
#[derive(Debug, Serialize)]
pub struct ExplainDoc<'a> {
    key: String,
    master: &'a str,
    need: NeedDoc<'a>,
    /// Who answered; `null`: nobody.
    partition: Option<&'a str>,
    found: Option<bool>,
    version: Option<String>,
    age_ms: Option<u64>,
    /// Why nobody did.
    error: Option<String>,
    candidates: Vec<CandidateDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct NeedDoc<'a> {
    place: &'a str,
    covers: Option<String>,
    max_age_ms: Option<u64>,
    prefers_age_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CandidateDoc<'a> {
    /// `served`, `skipped`, `not asked` or `excluded`.
    outcome: &'static str,
    why: Option<&'a str>,
    #[serde(flatten)]
    partition: PartitionDoc<'a>,
}

impl<'a> ExplainDoc<'a> {
    /// The story of one read.
    pub fn new(set: SetId, key: String, need: &'a Need, explained: &'a Explained) -> Self {
        let (read, error) = match &explained.read {
            Ok(read) => (Some(read), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let record = read.and_then(|read| read.record.as_ref());
        let candidate = |(standing, turn): &'a (Standing, Turn)| {
            let (outcome, why) = match turn {
                Turn::Served => ("served", None),
                Turn::Skipped(why) => ("skipped", Some(why.as_str())),
                Turn::NotAsked => ("not asked", None),
                Turn::Excluded => ("excluded", None),
            };
            CandidateDoc { outcome, why, partition: PartitionDoc::new(set, standing) }
        };
        Self {
            key,
            master: &explained.master.name,
            need: NeedDoc {
                place: match &need.place {
                    Place::Anywhere => "any",
                    Place::Master => "master",
                    Place::At(name) => name,
                },
                covers: (!need.covers.is_empty()).then(|| token(set, &need.covers)),
                max_age_ms: need.max_age.map(age_ms),
                prefers_age_ms: need.prefers.map(age_ms),
            },
            partition: read.map(|read| read.served_by.name.as_ref()),
            found: read.map(|_| record.is_some()),
            version: record.map(|record| record.version.to_string()),
            age_ms: read.and_then(|read| read.age).map(age_ms),
            error,
            candidates: explained.turns.iter().map(candidate).collect(),
        }
    }
}
