//! Databases that somebody else runs: out of the configured list, or named when the copy was added.
//! They are taken when they are empty or hold what is left of a copy, and emptied at the end.

use super::{Provided, ProvisionError, Provisioner, Result};
use crate::config::partition::PartitionUrl;
use crate::orchestrator::copies::{CopyRecord, Source};
use crate::partition::engine::Engine as _;
use crate::partition::mysql::{Mysql, MysqlUrl};
use crate::secret::{Sealer, open_url, seal_url};
use crate::version::SetId;

/// Databases on servers.
pub struct Databases {
    standby: Vec<MysqlUrl>,
    sealer: Option<Sealer>,
    set: SetId,
}

impl Databases {
    /// Those of the list, and others whose passwords `sealer` opens.
    pub fn new(standby: Vec<MysqlUrl>, sealer: Option<Sealer>, set: SetId) -> Self {
        Self { standby, sealer, set }
    }

    /// So many of the list that nobody has; `None`: there are not so many.
    pub fn free(&self, count: usize, is_taken: impl Fn(&str) -> bool) -> Option<Vec<Source>> {
        let locators = self.standby.iter().map(MysqlUrl::locator);
        let free = locators.filter(|locator| !is_taken(locator));
        let free: Vec<Source> =
            free.take(count).map(|database| Source::Standby { database }).collect();
        (free.len() == count).then_some(free)
    }

    /// A database that is named; `None`: it has a password, and there is no key to seal it with.
    pub fn named(&self, url: &MysqlUrl, text: &str) -> Option<Source> {
        let (url, sealed) = seal_url(self.sealer.as_ref(), url, text)?;
        Some(Source::Url { url, sealed })
    }

    fn url(&self, source: &Source) -> Result<MysqlUrl> {
        match source {
            Source::Standby { database } => {
                let listed = self.standby.iter().find(|url| url.locator() == *database);
                let unlisted = || ProvisionError::Unlisted { database: database.clone() };
                listed.cloned().ok_or_else(unlisted)
            }
            Source::Url { url, sealed } => {
                let opened = open_url(self.sealer.as_ref(), url, sealed.as_deref());
                opened.ok_or(ProvisionError::Sealed)
            }
            Source::Sqlite | Source::Mariadb => {
                let what = "what is no database on a server".to_owned();
                Err(ProvisionError::Foreign { what })
            }
        }
    }
}

impl Provisioner for Databases {
    fn provide(&self, copy: &CopyRecord) -> Result<Provided> {
        let url = self.url(&copy.copy.source)?;
        Ok(Provided { url: PartitionUrl::Mysql(url), pid: None })
    }

    fn locate(&self, copy: &CopyRecord) -> Result<Option<Provided>> {
        self.provide(copy).map(Some)
    }

    fn withdraw(&self, copy: &CopyRecord) -> Result<()> {
        let server = Mysql::new(self.url(&copy.copy.source)?);
        let found = server.connect()?.identity()?;
        match found {
            // Nothing was ever made there.
            None => Ok(()),
            Some(found) if found.set == self.set && found.partition == copy.copy.id => {
                Ok(server.discard()?)
            }
            Some(found) => {
                let what = format!("the database of partition {}", found.partition);
                Err(ProvisionError::Foreign { what })
            }
        }
    }
}
