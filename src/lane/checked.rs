//! Connections whose identity was asked for before anything else was done over them.

use std::sync::Arc;

use super::Connect;
use crate::founding::history::{History, clock};
use crate::founding::{Expected, FoundingError, check_identity};
use crate::partition::engine::Engine;
use crate::partition::{Partition, PartitionError};

/// One partition of an opened set: its engine, and what it has to say of itself.
pub struct Checked {
    /// Opens connections.
    pub engine: Arc<dyn Engine>,
    /// Whose database it must be.
    pub expected: Expected,
    /// What others have of it.
    pub history: Arc<History>,
}

impl Connect for Checked {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        let mut connection = self.engine.connect()?;
        match check_identity(connection.as_mut(), &self.expected) {
            Ok(()) => {}
            Err(FoundingError::Partition { source, .. }) => return Err(source),
            Err(error) => return Err(PartitionError::Foreign(error.into())),
        }
        let status = connection.status()?;
        self.history.note(&status);
        match self.history.beyond(&status) {
            None => Ok(connection),
            Some(known) => {
                let (name, clock) = (self.expected.name.clone(), clock(&status));
                let put_back = FoundingError::PutBack { name, clock, known };
                Err(PartitionError::Foreign(put_back.into()))
            }
        }
    }
}
