//! Connections whose identity was asked for before anything else was done over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Connect;
use crate::founding::history::{History, clock};
use crate::founding::{Expected, FoundingError, check_identity};
use crate::partition::engine::Engine;
use crate::partition::{Partition, PartitionError, Result, Status};

/// One partition of an opened set: its engine, and what it has to say of itself.
pub struct Checked {
    /// Opens connections.
    pub engine: Arc<dyn Engine>,
    /// Whose database it must be.
    pub expected: Expected,
    /// What others have of it.
    pub history: Arc<History>,
    /// How often a connection was lost.
    pub losses: AtomicU64,
}

impl Checked {
    /// A connection to the database that stands there, if it is the partition's, and what is wrong
    /// with it if that is an older copy.
    fn meet(&self) -> Result<(Box<dyn Partition + Send>, Option<FoundingError>)> {
        let mut connection = self.engine.connect()?;
        match check_identity(connection.as_mut(), &self.expected) {
            Ok(()) => {}
            Err(FoundingError::Partition { source, .. }) => return Err(source),
            Err(error) => return Err(PartitionError::Foreign(error.into())),
        }
        let (status, jumps) = (connection.status()?, connection.jumps()?);
        self.history.note(&status);
        self.history.note_jumps(&status, jumps);
        let put_back = |known| {
            let (name, clock) = (self.expected.name.clone(), clock(&status));
            FoundingError::PutBack { name, clock, known }
        };
        Ok((connection, self.history.beyond(&status).map(put_back)))
    }
}

impl Connect for Checked {
    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        match self.meet()? {
            (connection, None) => Ok(connection),
            (_, Some(put_back)) => Err(PartitionError::PutBack(put_back.into())),
        }
    }

    fn looked(&self, partition: &mut dyn Partition, status: &Status) -> Result<()> {
        self.history.note(status);
        if self.history.may_have_jumped(status) {
            self.history.note_jumps(status, partition.jumps()?);
        }
        Ok(())
    }

    fn set_aside_if_put_back(&self) -> Result<Option<PartitionError>> {
        let (mut connection, put_back) = self.meet()?;
        let Some(put_back) = put_back else { return Ok(None) };
        if !connection.status()?.reseeding {
            connection.set_aside()?;
        }
        Ok(Some(PartitionError::PutBack(put_back.into())))
    }

    fn tell_lost(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }
}
