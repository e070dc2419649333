//! What can be asked of read copies: to add some, to remove one, to kill the server of one. A voter
//! ([`super::voters`]) is removed by the same request.

use super::copies::{COPIES_MAX, COUNT_MAX, CopyRecord, NewCopy, Source, allot};
use super::operation::{Kind, Operation};
use super::service::Service;
use super::{Orchestrator, OrchestratorError, Result};
use crate::config::scaling::Provision;
use crate::partition::mysql::MysqlUrl;

/// Where new copies are to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many from a provisioner; `None`: the configured one.
    Some {
        /// How many.
        count: usize,
        /// From where.
        from: Option<Provision>,
    },
    /// One in this database.
    At(String),
}

impl Orchestrator {
    /// Has read copies made.
    pub async fn add(&self, wanted: &Wanted, key: Option<&str>, request: u64) -> Result<Operation> {
        if let Some(earlier) = self.earlier(key, request).await? {
            return Ok(earlier);
        }
        let records = self.records().await?;
        let records: Vec<CopyRecord> = records.into_iter().map(|kept| kept.value).collect();
        let sources = self.sources(wanted, &records)?;
        if records.len() + sources.len() > COPIES_MAX || sources.len() > COUNT_MAX {
            let max = COPIES_MAX.saturating_sub(records.len()).min(COUNT_MAX);
            return Err(OrchestratorError::TooMany { max });
        }
        let is_at_home = sources.iter().any(Source::is_at_home);
        let home = if is_at_home { Some(self.provisioners.make_home()?) } else { None };
        let standings = self.store.standings();
        let make = |service: &mut Service| {
            let taken = |id, name: &str| {
                let served = || standings.iter().any(|one| &*one.health.partition.name == name);
                let of = |record: &CopyRecord| record.copy.id == id || record.copy.name == name;
                records.iter().any(of) || served()
            };
            let copies = sources.iter().map(|source| {
                let (id, name) = allot(&mut service.next_copy, &taken);
                let home = home.clone().filter(|_| source.is_at_home());
                NewCopy { id, name, source: source.clone(), home }
            });
            Ok(Kind::Add { copies: copies.collect() })
        };
        self.begin_with(make, key, request).await
    }

    fn sources(&self, wanted: &Wanted, records: &[CopyRecord]) -> Result<Vec<Source>> {
        let (count, from) = match wanted {
            Wanted::At(url) => return Ok(vec![self.named(url)?]),
            Wanted::Some { count, from } => (*count, *from),
        };
        if count > COUNT_MAX {
            return Err(OrchestratorError::TooMany { max: COUNT_MAX });
        }
        match from.unwrap_or(self.settings.scaling.provisioner) {
            Provision::Sqlite => Ok(vec![Source::Sqlite; count]),
            Provision::Mariadb => Ok(vec![Source::Mariadb; count]),
            Provision::Standby => {
                let is_taken = |locator: &str| {
                    records.iter().any(|record| match &record.copy.source {
                        Source::Standby { database } => database == locator,
                        Source::Sqlite | Source::Mariadb | Source::Url { .. } => false,
                    })
                };
                let free = self.provisioners.databases().free(count, is_taken);
                free.ok_or(OrchestratorError::NoStandby { count })
            }
        }
    }

    /// A database that is no partition's yet, as far as its address tells.
    fn named(&self, text: &str) -> Result<Source> {
        let url = self.server_url(text)?;
        let standings = self.store.standings();
        let locator = |url: &str| url.parse::<MysqlUrl>().ok().map(|url| url.locator());
        let same = |at: &str| locator(at) == Some(url.locator());
        if let Some(one) = standings.iter().find(|one| same(&one.url)) {
            let why = format!("is that of partition {}", one.health.partition.name);
            return Err(OrchestratorError::BadUrl { why });
        }
        self.provisioners.databases().named(&url, text).ok_or(OrchestratorError::NoKey)
    }

    /// Has a read copy, or a voter, taken away.
    pub async fn remove(&self, name: &str, key: Option<&str>, request: u64) -> Result<Operation> {
        if let Some(earlier) = self.earlier(key, request).await? {
            return Ok(earlier);
        }
        if let Some(operation) = self.remove_voter(name, key, request).await? {
            return Ok(operation);
        }
        self.copy_named(name).await?;
        let kind = Kind::Remove { names: vec![name.to_owned()] };
        self.begin(kind, key, request).await
    }

    /// Kills the private server of a copy; which process that was.
    pub async fn crash(&self, name: &str) -> Result<u32> {
        let record = self.copy_named(name).await?;
        if !self.settings.chaos {
            return Err(OrchestratorError::NoChaos);
        }
        let provisioners = std::sync::Arc::clone(&self.provisioners);
        let is_near = record.is_within_reach(provisioners.home().as_deref());
        let killed = tokio::task::spawn_blocking(move || {
            if is_near { provisioners.of(&record.copy.source).crash(&record) } else { Ok(None) }
        });
        let killed = killed.await.map_err(|_| OrchestratorError::Stopping)??;
        let pid = killed.ok_or_else(|| OrchestratorError::NoServer { name: name.to_owned() })?;
        tracing::warn!(partition = %name, pid, "killed on purpose");
        self.woken.notify_one();
        Ok(pid)
    }

    async fn copy_named(&self, name: &str) -> Result<CopyRecord> {
        let records = self.records().await?;
        let named = records.into_iter().map(|kept| kept.value);
        if let Some(record) = { named }.find(|record| record.copy.name == name) {
            return Ok(record);
        }
        let name = name.to_owned();
        let is_voter = self.store.topology().voter_named(&name).is_some();
        let is_served = self.store.standings().iter().any(|one| *one.health.partition.name == name);
        Err(if is_voter || is_served {
            OrchestratorError::NotACopy { name }
        } else {
            OrchestratorError::Unknown { name }
        })
    }
}
