//! Reading stored columns back: whatever cannot be is damage, and says where.

use bytes::Bytes;
use rusqlite::Row;

use super::failure::failure;
use crate::partition::tables::ClockRow;
use crate::partition::{PartitionError, ReseedNumber};
use crate::record::{Body, Key, Record};
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId, RunId, Seq, Version};

/// A stored row that cannot be.
#[derive(Debug)]
pub(super) enum Torn {
    Column(rusqlite::Error),
    What(String),
}

impl From<rusqlite::Error> for Torn {
    fn from(error: rusqlite::Error) -> Self {
        Self::Column(error)
    }
}

impl Torn {
    pub(super) fn out_of_range(what: &str, number: impl std::fmt::Display) -> Self {
        Self::What(format!("{number} is no {what}"))
    }

    pub(super) fn at(self, statement: &'static str) -> PartitionError {
        match self {
            Self::Column(error) => failure(statement, error),
            Self::What(what) => PartitionError::Damaged { what: format!("`{statement}`: {what}") },
        }
    }

    /// Which row it was, so that it can be looked for.
    pub(super) fn of(self, key: &Key) -> Self {
        match self {
            Self::Column(error) => Self::What(format!("row {key:?}: {error}")),
            Self::What(what) => Self::What(format!("row {key:?}: {what}")),
        }
    }
}

pub(super) fn version(row: &Row<'_>, column: usize) -> Result<Version, Torn> {
    let packed = row.get(column)?;
    Version::from_packed(packed).ok_or_else(|| Torn::out_of_range("version", packed))
}

pub(super) fn origin(row: &Row<'_>, column: usize) -> Result<PartitionId, Torn> {
    Ok(PartitionId(row.get(column)?))
}

pub(super) fn flag(row: &Row<'_>, column: usize) -> Result<bool, Torn> {
    match row.get::<_, i64>(column)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Torn::out_of_range("flag", other)),
    }
}

/// A row of `data` or `system`: version, origin, deleted, `expires_at`, `content_type`, checksum,
/// value. The checksum is over the value, too: without it there is nothing to compare.
pub(super) fn record(key: Key, row: &Row<'_>, with_value: bool) -> Result<Record, Torn> {
    let body = match flag(row, 2)? {
        true => None,
        false => Some(Body {
            value: Bytes::copy_from_slice(
                row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?,
            ),
            content_type: row.get(4)?,
            expires_at: row.get(3)?,
        }),
    };
    let checksum = row.get::<_, i64>(5)?.cast_unsigned();
    let record = Record { key, version: version(row, 0)?, origin: origin(row, 1)?, body };
    if with_value && record.checksum() != checksum {
        return Err(Torn::What("its checksum does not match".into()));
    }
    Ok(record)
}

pub(super) fn clock_row(row: &Row<'_>) -> Result<ClockRow, Torn> {
    let epoch = row.get(1)?;
    let seq: i64 = row.get(2)?;
    Ok(ClockRow {
        partition: origin(row, 0)?,
        epoch: Epoch::new(epoch).ok_or_else(|| Torn::out_of_range("epoch", epoch))?,
        seq: u64::try_from(seq)
            .ok()
            .and_then(Seq::new)
            .ok_or_else(|| Torn::out_of_range("sequence", seq))?,
        run: RunId(row.get::<_, i64>(3)?.cast_unsigned()),
        reseed: reseed_number(row, 4)?.0,
        reseeding: flag(row, 5)?,
    })
}

pub(super) fn reseed_number(row: &Row<'_>, column: usize) -> Result<ReseedNumber, Torn> {
    let number: i64 = row.get(column)?;
    let number = number.try_into().map_err(|_| Torn::out_of_range("reseed number", number))?;
    Ok(ReseedNumber(number))
}

pub(super) fn stored_topology(row: &Row<'_>) -> Result<Topology, Torn> {
    let document: String = row.get(0)?;
    let digest = row.get::<_, i64>(1)?.cast_unsigned();
    let topology: Topology =
        serde_json::from_str(&document).map_err(|error| Torn::What(error.to_string()))?;
    topology.check().map_err(|error| Torn::What(error.to_string()))?;
    if topology.digest() != digest {
        return Err(Torn::What("its digest does not match".into()));
    }
    Ok(topology)
}
