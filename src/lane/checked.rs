//! Connections whose identity was asked for before anything else was done over them.

use std::sync::Arc;

use super::Connect;
use crate::founding::{Expected, FoundingError, check_identity};
use crate::partition::engine::Engine;
use crate::partition::{Partition, PartitionError};

/// One partition of an opened set: its engine, and what it has to say of itself.
pub struct Checked {
    /// Opens connections.
    pub engine: Arc<dyn Engine>,
    /// Whose database it must be.
    pub expected: Expected,
}

impl Connect for Checked {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        let mut connection = self.engine.connect()?;
        match check_identity(connection.as_mut(), &self.expected) {
            Ok(()) => Ok(connection),
            Err(FoundingError::Partition { source, .. }) => Err(source),
            Err(error) => Err(PartitionError::Foreign(error.into())),
        }
    }
}
