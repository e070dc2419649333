//! Databases in files under the data root.

use std::path::{Path, PathBuf};

use super::{Provided, ProvisionError, Provisioner, Result, make_folder, remove_database};
use crate::config::partition::PartitionUrl;
use crate::orchestrator::copies::CopyRecord;

/// Files in one folder.
pub struct Files {
    folder: PathBuf,
    prefix: String,
}

impl Files {
    /// Files in `folder` whose names begin with `prefix`.
    pub fn new(folder: &Path, prefix: &str) -> Self {
        Self { folder: folder.to_owned(), prefix: prefix.to_owned() }
    }

    fn path(&self, copy: &CopyRecord) -> PathBuf {
        self.folder.join(format!("{}{}.db", self.prefix, copy.copy.name))
    }
}

impl Provisioner for Files {
    fn provide(&self, copy: &CopyRecord) -> Result<Provided> {
        make_folder(&self.folder).map_err(|source| ProvisionError::System {
            what: "cannot make a folder under the data root",
            source,
        })?;
        Ok(Provided { url: PartitionUrl::Sqlite { path: self.path(copy) }, pid: None })
    }

    fn locate(&self, copy: &CopyRecord) -> Result<Option<Provided>> {
        let path = self.path(copy);
        let is_there = path.exists();
        Ok(is_there.then_some(Provided { url: PartitionUrl::Sqlite { path }, pid: None }))
    }

    fn withdraw(&self, copy: &CopyRecord) -> Result<()> {
        remove_database(&self.path(copy)).map_err(|source| ProvisionError::System {
            what: "cannot remove the copy's file",
            source,
        })
    }
}
