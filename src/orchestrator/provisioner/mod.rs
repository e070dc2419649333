//! Provisioners: where the databases of read copies come from.
//!
//! All of them do the same four things, each as often as it is asked: what is there already is left
//! as it is, so a front end that ended in between leaves nothing that the next one cannot go on
//! with.
//!
//! | source | provides | takes away |
//! |---|---|---|
//! | `sqlite` | a file under the data root | removes it |
//! | `mariadb` | a private server on a port of the loopback interface ([`mariadb`]) | stops it, removes its directory |
//! | `standby` | a database out of `scaling.standby` | empties it |
//! | `url` | the database that was named | empties it |
//!
//! Under `data/copies` a file says which data root this is (`home`): front ends that share it can
//! reach each other's files and servers, others cannot.

pub mod database;
pub mod mariadb;
pub mod process;
pub mod sqlite;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::database::Databases;
use self::mariadb::Mariadb;
use self::sqlite::Files;
use super::copies::{CopyRecord, Source};
use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::partition::PartitionError;
use crate::partition::mysql::MysqlUrl;
use crate::secret::Sealer;
use crate::version::SetId;

/// Why a database cannot be provided or taken away.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A file or a process.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program that is not installed.
    #[error("{program} is missing; install it: apt-get install -y mariadb-server")]
    Missing {
        /// Which program.
        program: &'static str,
    },
    /// The server did not come up.
    #[error("the private server does not start: {said}")]
    Start {
        /// The end of its log.
        said: String,
    },
    /// The process does not end.
    #[error("process {pid} does not end")]
    Lingers {
        /// Which one.
        pid: u32,
    },
    /// What is there belongs to somebody else.
    #[error("{what} belongs to somebody else, and is left alone")]
    Foreign {
        /// What is there.
        what: String,
    },
    /// The list does not name the database any more.
    #[error("scaling.standby does not name {database} at this front end")]
    Unlisted {
        /// Which database.
        database: String,
    },
    /// The secret cannot be opened.
    #[error("its password cannot be opened here: orchestrator.key_file is another one, or missing")]
    Sealed,
    /// The database says no.
    #[error("its database")]
    Database(#[from] PartitionError),
}

type Result<T> = std::result::Result<T, ProvisionError>;

/// A database that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provided {
    /// Where it is.
    pub url: PartitionUrl,
    /// The process of its server, where it has one of its own.
    pub pid: Option<u32>,
}

/// Provides databases of one source. All of it blocks.
pub trait Provisioner: Send + Sync {
    /// Makes sure that the database is there and can be connected to.
    fn provide(&self, copy: &CopyRecord) -> Result<Provided>;

    /// What another front end provides, if it does.
    fn locate(&self, copy: &CopyRecord) -> Result<Option<Provided>>;

    /// Whether what was provided is still there, as far as is seen from outside. Does not block.
    fn is_up(&self, _copy: &CopyRecord) -> bool {
        true
    }

    /// Takes the database away; nothing is left of it.
    fn withdraw(&self, copy: &CopyRecord) -> Result<()>;

    /// The front end ends: no process stays behind. The data stay for the next one.
    fn release(&self, _copy: &CopyRecord) -> Result<()> {
        Ok(())
    }

    /// Kills the server, if it has one; which process that was.
    fn crash(&self, _copy: &CopyRecord) -> Result<Option<u32>> {
        Ok(None)
    }
}

/// All provisioners of a front end.
pub struct Provisioners {
    files: Files,
    mariadb: Mariadb,
    databases: Databases,
    folder: PathBuf,
}

impl Provisioners {
    /// Those that work under this data root.
    pub fn new(
        root: &Path,
        prefix: &str,
        standby: Vec<MysqlUrl>,
        sealer: Option<Sealer>,
        set: SetId,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let folder = root.join("data").join("copies");
        Self {
            files: Files::new(&folder, prefix),
            mariadb: Mariadb::new(&folder, prefix, set, clock),
            databases: Databases::new(standby, sealer, set),
            folder,
        }
    }

    /// The one that provides such databases.
    pub fn of(&self, source: &Source) -> &dyn Provisioner {
        match source {
            Source::Sqlite => &self.files,
            Source::Mariadb => &self.mariadb,
            Source::Standby { .. } | Source::Url { .. } => &self.databases,
        }
    }

    /// The databases that are named rather than made.
    pub const fn databases(&self) -> &Databases {
        &self.databases
    }

    /// What tells this data root from others; `None`: nothing was ever provided under it.
    pub fn home(&self) -> Option<String> {
        let home = fs::read_to_string(self.folder.join(HOME)).ok()?;
        (!home.is_empty()).then_some(home)
    }

    /// The same, told from now on. Several may ask at once: all are told the same.
    pub fn make_home(&self) -> Result<String> {
        if let Some(home) = self.home() {
            return Ok(home);
        }
        let system =
            |source| ProvisionError::System { what: "cannot write under the data root", source };
        make_folder(&self.folder).map_err(system)?;
        let random = getrandom::u64().map_err(|error| system(io::Error::other(error)))?;
        let home = format!("{random:016x}");
        // It gets its name only once it says something, for whoever else asks meanwhile.
        let written = self.folder.join(format!("{HOME}.{home}"));
        let named = write_new(&written, &home)
            .and_then(|()| fs::hard_link(&written, self.folder.join(HOME)));
        remove_file(&written).map_err(system)?;
        match named {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(system(error)),
            Ok(()) | Err(_) => {
                self.home().ok_or_else(|| system(io::Error::other("the file is empty")))
            }
        }
    }
}

/// The file that tells a data root from others.
const HOME: &str = "home";

/// A folder that nobody else may look into.
fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that was not there, for nobody else to read.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes a file; that there is none is as good.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a database file and what SQLite keeps beside it.
pub fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        remove_file(Path::new(&file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::clock::System;

    fn provisioners(root: &Path) -> Provisioners {
        Provisioners::new(root, "test", Vec::new(), None, SetId(1), Arc::new(System::new()))
    }

    /// As an earlier version may have left it.
    #[test]
    fn a_home_that_says_nothing_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let provisioners = provisioners(root.path());
        make_folder(&provisioners.folder).unwrap();
        fs::write(provisioners.folder.join(HOME), "").unwrap();
        let refused = provisioners.make_home();
        assert!(matches!(refused, Err(ProvisionError::System { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(&provisioners.folder).unwrap().count(), 1);
    }

    #[test]
    fn however_many_make_a_home_at_once_it_is_one() {
        for _ in 0..50 {
            let root = tempfile::tempdir().unwrap();
            let provisioners = provisioners(root.path());
            assert_eq!(provisioners.home(), None);
            let ready = Barrier::new(4);
            let make = || {
                ready.wait();
                provisioners.make_home().unwrap()
            };
            let homes: BTreeSet<String> = thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(make));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            assert_eq!(homes.len(), 1, "{homes:?}");
            assert_eq!(provisioners.home(), homes.into_iter().next());
            let files = fs::read_dir(root.path().join("data/copies")).unwrap();
            assert_eq!(files.count(), 1, "only the home itself");
        }
    }
}
