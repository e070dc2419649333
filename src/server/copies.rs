//! The read copy inside this front end, as the configuration wants it. Nothing is opened here, so a
//! copy never delays the start.

use std::sync::Arc;

use super::open::OpenError;
use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::config::{Config, EmbeddedCopy};
use crate::founding::OpenSet;
use crate::lane::disposable::Discard;
use crate::orchestrator::opened::{OpenCopy, OpenCopyParts};
use crate::orchestrator::provisioner::remove_database;
use crate::partition::PartitionError;
use crate::partition::engine::Engine;
use crate::partition::memory::Memory;
use crate::partition::sqlite::Sqlite;
use crate::store::route::Part;
use crate::version::{PartitionId, RunId};

/// The copy that the configuration wants inside this front end of `set`, if any.
pub fn embedded(
    config: &Config,
    set: &OpenSet,
    clock: &Arc<dyn Clock>,
) -> Result<Option<OpenCopy>, OpenError> {
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
            let file = Sqlite::new(&path, Arc::clone(clock)).map_err(|source| OpenError::Url {
                name: name.to_owned(),
                source: source.into(),
            })?;
            let url = PartitionUrl::Sqlite { path: path.clone() };
            let remove = move || {
                remove_database(&path).map_err(|error| PartitionError::Unreachable(error.into()))
            };
            (url, Box::new(file.replaceable()), Box::new(remove))
        }
    };
    let parts = OpenCopyParts {
        id: PartitionId::EMBEDDED_COPY,
        name,
        part: Part::EmbeddedCopy,
        url: url.to_string(),
        engine,
        discard: Some(discard),
        set: set.set,
        topology: set.topology.clone(),
    };
    Ok(Some(OpenCopy::new(parts, clock)))
}
