//! Partitions to break, and short words for what is done with them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use datastore::partition::engine::Engine;
use datastore::partition::mysql::{Mysql, Patience};
use datastore::partition::{
    Found, Get, Identity, Partition, PartitionError, Result, SCHEMA_VERSION,
};
use datastore::record::{Body, Key, Record, Space};
use datastore::topology::{Role, Topology};
use datastore::version::{Epoch, PartitionId, SetId};
use datastore::write::Write;

pub type Connection = Box<dyn Partition + Send>;

/// Little of it, so that tests need not wait long.
pub const SHORT: Patience = Patience {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(2),
    whole: Duration::from_secs(3),
    lock: Duration::from_secs(1),
    idle: Duration::from_secs(1),
};

pub fn identity() -> Identity {
    let roles = BTreeMap::from([("store_1".to_owned(), Role::Master)]);
    let topology = Topology::found(&roles).unwrap();
    Identity { set: SetId(7), partition: PartitionId(1), schema: SCHEMA_VERSION, topology }
}

/// A founded partition with an open lane.
pub fn founded(engine: &Mysql) -> Connection {
    let mut connection = engine.connect().unwrap();
    connection.found(&identity()).unwrap();
    connection.open_lane().unwrap();
    connection
}

pub fn key(name: impl Into<Bytes>) -> Key {
    Key::stored(Space::Data, name)
}

pub fn set(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    let (value, content_type) = (value.into(), "text/plain".into());
    Write::set(key(name), Body { value, content_type, expires_at: None })
}

pub fn write(connection: &mut Connection, writes: &[Write]) -> Result<()> {
    connection.commit(Epoch::FIRST, writes).map(drop)
}

pub fn read(connection: &mut Connection, name: &str) -> Result<Option<Record>> {
    let keys = [key(name.to_owned())];
    let fetched = connection.get(&Get { keys: &keys, inline_bytes_max: usize::MAX })?;
    match fetched.rows.into_iter().next().flatten() {
        Some(Found::Row(row)) => Ok(Some(row)),
        Some(Found::Large { bytes }) => panic!("{bytes} bytes are not too large"),
        Some(Found::Damaged) => {
            let [key] = keys;
            Err(PartitionError::DamagedRow { key, what: "as told".into() })
        }
        None => Ok(None),
    }
}

pub fn value(connection: &mut Connection, name: &str) -> Result<Option<Bytes>> {
    Ok(read(connection, name)?.and_then(|row| row.body).map(|body| body.value))
}

/// What kind of error it is, as tables of expectations name it.
pub fn kind(error: &PartitionError) -> &'static str {
    match error {
        PartitionError::Refused(_) => "refused",
        PartitionError::Unreachable(_) => "unreachable",
        PartitionError::OutcomeUnknown(_) => "unknown",
        PartitionError::Busy(_) => "busy",
        PartitionError::Full(_) => "full",
        PartitionError::ReadOnly(_) => "read only",
        PartitionError::Foreign(_) => "foreign",
        PartitionError::PutBack(_) => "put back",
        PartitionError::DamagedRow { .. } => "damaged row",
        PartitionError::Damaged { .. } => "damaged",
        PartitionError::Engine { .. } => "engine",
    }
}
