//! Read copies, as this front end opens them: so far the one inside itself.
//!
//! A copy is a partition like any other to lanes and rounds; what sets it apart is its id
//! ([`PartitionId::is_copy`]), and that it is made anew where it is not what it should be
//! ([`Disposable`]). Nothing is opened here, so a copy never delays the start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open::OpenError;
use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::config::{Config, EmbeddedCopy};
use crate::founding::OpenSet;
use crate::lane::disposable::{Discard, Disposable};
use crate::lane::pool::Pool;
use crate::lane::{Connect, LaneLimits};
use crate::partition::engine::Engine;
use crate::partition::memory::Memory;
use crate::partition::sqlite::Sqlite;
use crate::partition::{Identity, PartitionError, SCHEMA_VERSION};
use crate::store::Served;
use crate::store::answer::Serving;
use crate::store::route::Part;
use crate::sync::round::Member;
use crate::version::{PartitionId, RunId};

/// A read copy, not yet connected to.
pub struct Copy {
    serving: Serving,
    part: Part,
    url: Arc<str>,
    disposable: Arc<Disposable>,
    pool: Arc<Pool>,
}

impl Copy {
    /// The copy that the configuration wants inside this front end of `set`, if any.
    pub fn embedded(
        config: &Config,
        set: &OpenSet,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, OpenError> {
        let name = EmbeddedCopy::NAME;
        let (url, engine, discard): (_, Box<dyn Engine>, Discard) = match config.embedded_copy {
            EmbeddedCopy::None => return Ok(None),
            EmbeddedCopy::Memory => {
                let memory = Memory::new(RunId(getrandom::u64()?), Arc::clone(clock));
                // There is nothing to remove: it is new with each process, and never damaged.
                (PartitionUrl::Memory, Box::new(memory), Box::new(|| Ok(())))
            }
            EmbeddedCopy::Sqlite => {
                let path = config.embedded_copy_path();
                let file = Sqlite::new(&path, Arc::clone(clock))
                    .map_err(|source| OpenError::Path { name: name.to_owned(), source })?;
                let url = PartitionUrl::Sqlite { path: path.clone() };
                (url, Box::new(file.replaceable()), Box::new(move || remove(&path)))
            }
        };
        let id = PartitionId::EMBEDDED_COPY;
        let identity = Identity {
            set: set.set,
            partition: id,
            schema: SCHEMA_VERSION,
            topology: set.topology.clone(),
        };
        let disposable = Arc::new(Disposable::new(name, engine, discard, identity));
        let connect = Arc::clone(&disposable) as Arc<dyn Connect>;
        let pool = Arc::new(Pool::new(connect, Arc::clone(clock), LaneLimits::default()));
        let serving = Serving { id, name: name.into() };
        let url = url.to_string().into();
        Ok(Some(Self { serving, part: Part::EmbeddedCopy, url, disposable, pool }))
    }

    /// For lanes.
    pub fn served(&self) -> Served {
        Served {
            serving: self.serving.clone(),
            url: Arc::clone(&self.url),
            part: self.part,
            engine: self.disposable.engine().kind(),
            is_local: self.disposable.engine().is_local(),
            connect: Arc::clone(&self.disposable) as Arc<dyn Connect>,
            pool: Arc::clone(&self.pool),
        }
    }

    /// For rounds.
    pub fn member(&self) -> Member {
        Member {
            id: self.serving.id,
            name: Arc::clone(&self.serving.name),
            connect: Arc::clone(&self.disposable) as Arc<dyn Connect>,
        }
    }

    /// `embedded_copy (sqlite, copy)`: for the log.
    pub fn describe(&self) -> String {
        format!("{} ({}, copy)", self.serving.name, self.disposable.engine().kind())
    }
}

/// Removes a database file and what SQLite keeps beside it.
fn remove(path: &Path) -> Result<(), PartitionError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::remove_file(PathBuf::from(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PartitionError::Unreachable(error.into()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
