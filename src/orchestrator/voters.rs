//! Voters that join and leave: what is asked for, and what is written down of it.
//!
//! A voter is added in a database that is empty: one that is named, one out of `scaling.standby`,
//! or, where the whole set is in files of this data root, a file. A private server
//! ([`super::provisioner::mariadb`]) is none for a voter: it ends with its front end. What is done
//! stands in [`super::membership`].

use serde::{Deserialize, Serialize};

use super::copies::Source;
use super::kept::{self, Kept};
use super::operation::{Kind, Operation};
use super::{Orchestrator, OrchestratorError, Result};
use crate::config::EmbeddedCopy;
use crate::config::partition::{PartitionUrl, is_name};
use crate::partition::mysql::MysqlUrl;
use crate::secret::seal_url;
use crate::topology::voter::Address;
use crate::topology::{Incarnation, Topology, VOTERS_MAX, Voter};

/// What the names of the records of retired voters begin with.
pub const PREFIX: &str = "retired/";
/// So many of them are listed.
pub const LISTED_MAX: usize = 1000;
/// What names of added read copies begin with.
const COPY: &str = "copy_";

/// Where the database of a new voter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterSource {
    /// At this URL.
    Url(String),
    /// In a file under the data root.
    Sqlite,
    /// One of the configured list.
    Standby,
}

/// A voter that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVoter {
    /// A replica, or a witness.
    pub holds_data: bool,
    /// Its name; `None`: one that nobody has.
    pub name: Option<String>,
    /// Where its database is.
    pub source: VoterSource,
}

/// A voter that is to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVoter {
    /// Its name.
    pub name: String,
    /// A replica, or a witness.
    pub holds_data: bool,
    /// The life of its acceptor: whoever goes on with the operation knows by it that a voter of
    /// this name is the one.
    pub acceptor: Incarnation,
    /// Where its database is.
    pub address: Address,
}

/// A voter that was retired, and whose database could not be emptied yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredRecord {
    /// As it was.
    pub voter: Voter,
    /// Since when: milliseconds since 1970 UTC.
    pub since_ms: i64,
}

impl RetiredRecord {
    /// The name of its record.
    pub fn key(voter: &Voter) -> String {
        format!("{PREFIX}{:05}", voter.id.0)
    }
}

impl Orchestrator {
    /// Has a voter join.
    pub async fn add_voter(
        &self,
        wanted: &WantedVoter,
        key: Option<&str>,
        request: u64,
    ) -> Result<Operation> {
        if let Some(earlier) = self.earlier(key, request).await? {
            return Ok(earlier);
        }
        let topology = self.ownership.topology();
        if topology.voters().len() >= VOTERS_MAX {
            return Err(OrchestratorError::TooManyVoters);
        }
        let name = self.name_of(wanted.name.as_deref(), &topology)?;
        let address = self.address_of(&name, &wanted.source, &topology).await?;
        let acceptor = Incarnation(getrandom::u64()?);
        let voter = NewVoter { name, holds_data: wanted.holds_data, acceptor, address };
        self.begin(Kind::Join { voter: Box::new(voter) }, key, request).await
    }

    /// Has a voter leave; `None`: no voter has this name.
    pub(super) async fn remove_voter(
        &self,
        name: &str,
        key: Option<&str>,
        request: u64,
    ) -> Result<Option<Operation>> {
        let topology = self.ownership.topology();
        let Some(voter) = topology.voter_named(name) else {
            let retired = self.retired().iter().find(|one| one.voter.name == name).cloned();
            let Some(RetiredRecord { voter, .. }) = retired else { return Ok(None) };
            return Ok(Some(
                self.begin(Kind::Retire { voter: Box::new(voter) }, key, request).await?,
            ));
        };
        if voter.counts_as_holder() && topology.data_voters().count() == 1 {
            return Err(OrchestratorError::Last { name: name.to_owned() });
        }
        let kind = Kind::Retire { voter: Box::new(voter.clone()) };
        Ok(Some(self.begin(kind, key, request).await?))
    }

    /// The records of retired voters whose databases are not empty yet, by their masters.
    pub(super) async fn retired_records(&self) -> Result<Vec<Kept<RetiredRecord>>> {
        Ok(kept::list(&self.store, PREFIX, true, LISTED_MAX).await?)
    }

    fn name_of(&self, wanted: Option<&str>, topology: &Topology) -> Result<String> {
        let served = self.store.standings();
        let is_taken = |name: &str| {
            let is_served = served.iter().any(|one| &*one.health.partition.name == name);
            is_served || topology.voter_named(name).is_some()
        };
        let Some(name) = wanted else {
            let ids = topology.voters().iter().map(|voter| voter.id);
            let last = ids.chain(topology.retired().iter().copied()).max();
            let names = (last.map_or(1, |id| u32::from(id.0) + 1)..).map(|n| format!("voter_{n}"));
            let is_free = |name: &String| {
                !is_taken(name) && !self.roster.opener().configured().contains_key(name)
            };
            return Ok({ names }.find(is_free).unwrap_or_default());
        };
        if !is_name(name) || name == EmbeddedCopy::NAME || name.starts_with(COPY) {
            let name = name.to_owned();
            return Err(OrchestratorError::BadName { name });
        }
        if is_taken(name) {
            return Err(OrchestratorError::NameTaken { name: name.to_owned() });
        }
        Ok(name.to_owned())
    }

    async fn address_of(
        &self,
        name: &str,
        source: &VoterSource,
        topology: &Topology,
    ) -> Result<Address> {
        let opener = self.roster.opener();
        let (url, secret) = match source {
            VoterSource::Sqlite if !self.store.distant_voters().is_empty() => {
                let why = "cannot be a file: front ends with another data root could not reach it";
                return Err(OrchestratorError::BadUrl { why: why.to_owned() });
            }
            VoterSource::Sqlite => {
                (format!("sqlite:data/{}{name}.db", self.settings.database_prefix), None)
            }
            VoterSource::Standby => {
                let records = self.records().await?;
                let is_taken = |locator: &str| {
                    let by_copy = records.iter().any(|kept| match &kept.value.copy.source {
                        Source::Standby { database } => database == locator,
                        Source::Sqlite | Source::Mariadb | Source::Url { .. } => false,
                    });
                    by_copy || self.owner_of(locator, topology).is_some()
                };
                let standby = self.settings.scaling.standby.iter();
                let free = { standby }.find(|url| !is_taken(&url.locator()));
                let free = free.ok_or(OrchestratorError::NoStandby { count: 1 })?;
                // Its password stands in the list, at every front end.
                (free.to_string(), None)
            }
            VoterSource::Url(text) => {
                let url = self.server_url(text)?;
                let sealed = seal_url(opener.sealer(), &url, text);
                sealed.ok_or(OrchestratorError::NoKey)?
            }
        };
        let address = Address { url, secret };
        self.may_be(name, &address, topology)?;
        Ok(address)
    }

    /// Whether a new voter of this name may be at this address, as far as addresses tell.
    fn may_be(&self, name: &str, address: &Address, topology: &Topology) -> Result<()> {
        let locator = self.locator(&address.url);
        if let Some(owner) = self.owner_of(&locator, topology) {
            let why = format!("is that of partition {owner}");
            return Err(OrchestratorError::BadUrl { why });
        }
        let configured = self.roster.opener().configured().get(name);
        match configured.filter(|one| self.locator(&one.url.to_string()) != locator) {
            None => Ok(()),
            Some(configured) => {
                let why = format!(
                    "is another one than {}, where the configuration has {name}; give another name",
                    configured.url
                );
                Err(OrchestratorError::BadUrl { why })
            }
        }
    }

    /// Whose database is at this address.
    fn owner_of(&self, address: &str, topology: &Topology) -> Option<String> {
        let standings = self.store.standings();
        let served = standings.iter().find(|one| self.locator(&one.url) == address);
        if let Some(served) = served {
            return Some(served.health.partition.name.to_string());
        }
        let is_at = |voter: &&Voter| self.locator(&self.roster.opener().shown(voter)) == address;
        topology.voters().iter().find(is_at).map(|voter| voter.name.clone())
    }

    /// The URL of a database on a server.
    pub(super) fn server_url(&self, text: &str) -> Result<MysqlUrl> {
        let bad = |why: String| OrchestratorError::BadUrl { why };
        let parsed = PartitionUrl::parse(text, &self.settings.root, "");
        match parsed.map_err(|error| bad(error.to_string()))? {
            PartitionUrl::Mysql(url) => Ok(url),
            PartitionUrl::Sqlite { .. } | PartitionUrl::Memory => {
                Err(bad("is to be mysql://user:password@host:3306/database".to_owned()))
            }
        }
    }

    /// What tells one database from others, by its URL.
    fn locator(&self, url: &str) -> String {
        match PartitionUrl::parse(url, &self.settings.root, "") {
            Ok(PartitionUrl::Mysql(url)) => url.locator(),
            Ok(other) => other.to_string(),
            Err(_) => url.to_owned(),
        }
    }
}
