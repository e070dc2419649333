//! Reading stored columns back: whatever cannot be is damage, and says where.

use bytes::Bytes;
use rusqlite::Row;

use super::failure::{contradicts, failure};
use crate::partition::tables::ClockRow;
use crate::partition::upkeep::{Columns, Mark, fingerprint};
use crate::partition::{PartitionError, ReseedNumber};
use crate::record::{Body, Key, Record, Space, StoredAt};
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId, RunId, Seq, Version};

/// A stored row that cannot be.
#[derive(Debug)]
pub(super) enum Torn {
    Column(rusqlite::Error),
    What(String),
    /// Of one row; all others are as they were.
    Row(Key, String),
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
            Self::Row(key, what) => PartitionError::DamagedRow { key, what },
        }
    }

    /// Which row it was: what is damaged is that row alone. A failure of the file stays what it is.
    pub(super) fn of(self, key: &Key) -> Self {
        match self {
            Self::Column(error) if !contradicts(&error) => Self::Column(error),
            Self::Column(error) => Self::Row(key.clone(), error.to_string()),
            Self::What(what) | Self::Row(_, what) => Self::Row(key.clone(), what),
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
/// `updated_at`, value. The checksum is over the value, too: without it there is nothing to
/// compare.
pub(super) fn record(key: Key, row: &Row<'_>, with_value: bool) -> Result<Record, Torn> {
    let body = match flag(row, 2)? {
        true => None,
        false => Some(Body {
            value: Bytes::copy_from_slice(
                row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?,
            ),
            content_type: row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?.into(),
            expires_at: row.get(3)?,
        }),
    };
    let checksum = row.get::<_, i64>(5)?.cast_unsigned();
    let record = Record {
        stored_at: StoredAt(row.get(6)?),
        ..Record::new(key, version(row, 0)?, origin(row, 1)?, body)
    };
    if with_value && record.checksum() != checksum {
        return Err(Torn::What("its checksum does not match".into()));
    }
    Ok(record)
}

/// What the columns of a row say, whatever that is: id, version, origin, deleted, `expires_at`,
/// `content_type`, checksum, value.
pub(super) fn mark(space: Space, row: &Row<'_>) -> Result<Mark, Torn> {
    let bytes = |column| -> Result<&[u8], Torn> {
        let value = row.get_ref(column)?;
        // A text may hold any bytes.
        Ok(value.as_bytes().map_err(rusqlite::Error::from)?)
    };
    let (version, origin, deleted): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let columns = Columns {
        key: bytes(0)?,
        version,
        origin,
        deleted,
        expires_at: row.get(4)?,
        checksum: row.get(6)?,
        content_type: bytes(5)?,
        value: bytes(7)?,
    };
    Ok(Mark {
        key: Key::stored(space, Bytes::copy_from_slice(columns.key)),
        version: Version::from_packed(version).unwrap_or_default(),
        origin: PartitionId(origin.try_into().unwrap_or_default()),
        deleted: deleted != 0,
        fingerprint: fingerprint(&columns),
    })
}

pub(super) fn seq(row: &Row<'_>, column: usize) -> Result<Seq, Torn> {
    let seq: i64 = row.get(column)?;
    let number = u64::try_from(seq).ok().and_then(Seq::new);
    number.ok_or_else(|| Torn::out_of_range("sequence", seq))
}

pub(super) fn clock_row(row: &Row<'_>) -> Result<ClockRow, Torn> {
    let epoch = row.get(1)?;
    Ok(ClockRow {
        partition: origin(row, 0)?,
        epoch: Epoch::new(epoch).ok_or_else(|| Torn::out_of_range("epoch", epoch))?,
        seq: seq(row, 2)?,
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
