//! Connections to a read copy: a partition that is made anew where it is not what it should be.
//!
//! A voter's database is never touched before it has said whose it is ([`super::checked`]). A copy
//! holds nothing that is not elsewhere: where its database is new it is founded, where it belongs
//! to another set, topology or schema, or is damaged, it is thrown away and founded, each with a
//! line in the log. Founded means empty and not serving, until a pass has seeded it. There is one
//! exception: a database that says it is a voter's is left alone, whatever it does here.
//!
//! Only one front end keeps a copy. The others read from what it has made; they make nothing and
//! throw nothing away, since it may have gone for good a moment ago.
//!
//! Connections to what was thrown away fail at their next use, and those who hold them connect
//! anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Connect;
use crate::partition::engine::Engine;
use crate::partition::{Identity, Partition, PartitionError, Result};

/// Throws a database away: what is connected to next is new.
pub type Discard = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// One read copy.
pub struct Disposable {
    name: String,
    engine: Box<dyn Engine>,
    discard: Option<Discard>,
    identity: Identity,
    /// Whether the database has been looked at; one thread looks, the others wait.
    looked_at: Mutex<bool>,
    is_damaged: AtomicBool,
}

impl Disposable {
    /// The copy in the database of `engine`, which has to be `identity`. Without `discard` it is
    /// kept by another front end. Nothing is opened yet.
    pub fn new(
        name: &str,
        engine: Box<dyn Engine>,
        discard: Option<Discard>,
        identity: Identity,
    ) -> Self {
        Self {
            name: name.to_owned(),
            engine,
            discard,
            identity,
            looked_at: Mutex::new(false),
            is_damaged: AtomicBool::new(false),
        }
    }

    /// What kind of database it is.
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// Makes sure that the database is the copy's.
    fn look(&self) -> Result<()> {
        let why = match self.engine.connect().and_then(|mut found| found.identity()) {
            Ok(None) => None,
            Ok(Some(found)) if is_same(&found, &self.identity) => return Ok(()),
            Ok(Some(found)) if !found.partition.is_copy() => {
                let owner = format!("it is the database of partition {}", found.partition);
                return Err(PartitionError::Foreign(owner.into()));
            }
            Ok(Some(_)) => Some("it is of another set, topology or schema".to_owned()),
            Err(error) if is_damage(&error) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        if self.discard.is_none() {
            let why = why.unwrap_or_else(|| "it is not made yet".to_owned());
            return Err(PartitionError::Unreachable(why.into()));
        }
        if let Some(why) = why {
            self.throw_away(&why)?;
        }
        self.engine.connect()?.found(&self.identity).map(drop)
    }

    fn throw_away(&self, why: &str) -> Result<()> {
        let Some(discard) = &self.discard else { return Ok(()) };
        tracing::warn!(partition = %self.name, why, "the read copy is thrown away and made anew");
        discard()
    }
}

impl Connect for Disposable {
    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_damaged.swap(false, Ordering::SeqCst) {
            *looked_at = false;
            self.throw_away("it is damaged")?;
        }
        if !*looked_at {
            self.look()?;
            *looked_at = true;
        }
        drop(looked_at);
        self.engine.connect()
    }

    fn tell_damaged(&self) {
        self.is_damaged.store(true, Ordering::SeqCst);
    }
}

/// Whether a copy that says it is `found` may be used as `wanted`.
fn is_same(found: &Identity, wanted: &Identity) -> bool {
    let of = |identity: &Identity| (identity.set, identity.partition, identity.schema);
    of(found) == of(wanted)
}

/// Whether the database itself is at fault, and not the way to it.
fn is_damage(error: &PartitionError) -> bool {
    match error {
        PartitionError::Damaged { .. } | PartitionError::Engine { .. } => true,
        PartitionError::Refused(_)
        | PartitionError::Unreachable(_)
        | PartitionError::OutcomeUnknown(_)
        | PartitionError::Busy(_)
        | PartitionError::Full(_)
        | PartitionError::ReadOnly(_)
        | PartitionError::DamagedRow { .. }
        | PartitionError::Foreign(_)
        | PartitionError::PutBack(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, Manual};
    use crate::partition::SCHEMA_VERSION;
    use crate::partition::sqlite::Sqlite;
    use crate::topology::{Role, Topology};
    use crate::version::{PartitionId, SetId};

    fn identity(set: u128, partition: PartitionId) -> Identity {
        let topology = Topology::found(&[("a".to_owned(), Role::Master)].into()).unwrap();
        Identity { set: SetId(set), partition, schema: SCHEMA_VERSION, topology }
    }

    fn copy(path: &Path, set: u128) -> Disposable {
        let clock: Arc<dyn Clock> = Arc::new(Manual::at(0));
        let engine = Sqlite::new(path, clock).unwrap().replaceable();
        let file = path.to_owned();
        let discard = move || {
            for suffix in ["", "-wal", "-shm"] {
                let beside = format!("{}{suffix}", file.display());
                drop(std::fs::remove_file(beside));
            }
            Ok(())
        };
        let identity = identity(set, PartitionId::EMBEDDED_COPY);
        Disposable::new("copy", Box::new(engine), Some(Box::new(discard)), identity)
    }

    #[test]
    fn a_new_copy_is_founded_and_serves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy(&folder.path().join("c.db"), 1);
        let status = copy.connect().unwrap().status().unwrap();
        assert!(status.reseeding && status.vector.is_empty(), "{status:?}");
    }

    #[test]
    fn what_another_front_end_keeps_is_neither_made_nor_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let clock: Arc<dyn Clock> = Arc::new(Manual::at(0));
        let engine = Sqlite::new(&path, clock).unwrap().replaceable().made_elsewhere();
        let identity = identity(1, PartitionId::EMBEDDED_COPY);
        let reader = Disposable::new("copy", Box::new(engine), None, identity);
        let lost = |error: PartitionError| error.lost_connection();
        assert!(reader.connect().is_err_and(lost) && !path.exists());
        std::fs::write(&path, "").unwrap();
        assert!(reader.connect().is_err_and(lost), "it is being made");
        let keeper = copy(&path, 1);
        keeper.connect().unwrap();
        let mut connected = reader.connect().unwrap();
        connected.status().unwrap();
        reader.tell_damaged();
        reader.connect().unwrap().status().unwrap();
        (keeper.discard.as_ref().unwrap())().unwrap();
        assert!(connected.status().is_err_and(lost));
        assert!(reader.connect().is_err_and(lost));
        drop(connected);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        copy(&path, 2).connect().unwrap();
        reader.tell_damaged();
        assert!(reader.connect().is_err_and(lost), "of another set");
        let damaged = "this is no database, and longer than a header of one".repeat(20);
        std::fs::write(&path, &damaged).unwrap();
        reader.tell_damaged();
        assert!(reader.connect().is_err_and(lost), "for its keeper to make anew");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }

    #[test]
    fn a_copy_that_fits_is_kept_and_one_of_another_set_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let begin = crate::partition::ReseedStep::Begin;
        copy(&path, 1).connect().unwrap().reseed(Default::default(), &begin).unwrap();
        let kept = copy(&path, 1).connect().unwrap().status().unwrap();
        assert_eq!(kept.reseed.0, 1);
        let mut other = copy(&path, 2).connect().unwrap();
        assert_eq!(other.status().unwrap().reseed.0, 0);
        assert_eq!(other.identity().unwrap().unwrap().set, SetId(2));
    }

    #[test]
    fn a_file_that_is_no_database_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        std::fs::write(&path, "this is no database, and longer than a header of one".repeat(20))
            .unwrap();
        copy(&path, 1).connect().unwrap().status().unwrap();
    }

    #[test]
    fn a_voters_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let voter = Sqlite::new(&path, Arc::new(Manual::at(0))).unwrap();
        voter.connect().unwrap().found(&identity(1, PartitionId(1))).unwrap();
        let refused = copy(&path, 1).connect().err().unwrap();
        assert!(matches!(refused, PartitionError::Foreign(_)), "{refused:?}");
        assert_eq!(voter.connect().unwrap().identity().unwrap(), Some(identity(1, PartitionId(1))));
    }

    #[test]
    fn what_is_told_damaged_is_made_anew_and_its_connections_fail() {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy(&folder.path().join("c.db"), 1);
        let mut before = copy.connect().unwrap();
        before.status().unwrap();
        copy.tell_damaged();
        copy.connect().unwrap().status().unwrap();
        let error = before.status().unwrap_err();
        assert!(error.lost_connection(), "{error:?}");
    }
}
