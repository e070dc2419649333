//! Reading stored columns back: whatever cannot be is damage, and says where.

use bytes::Bytes;
use chrono::NaiveDate;
use mysql::Value;

use crate::partition::PartitionError;
use crate::partition::tables::ClockRow;
use crate::partition::upkeep::Mark;
use crate::record::{Body, Key, Record, Space, StoredAt};
use crate::topology::Topology;
use crate::version::{Epoch, PartitionId, RunId, Seq, Version};

/// What is stored and cannot be: why, and of which row, if it is that row alone.
#[derive(Debug)]
pub(super) struct Torn(String, Option<Key>);

impl Torn {
    fn out_of_range(what: &str, number: impl std::fmt::Display) -> Self {
        Self::new(format!("{number} is no {what}"))
    }

    fn new(what: impl Into<String>) -> Self {
        Self(what.into(), None)
    }

    pub(super) fn at(self, statement: &'static str) -> PartitionError {
        match self {
            Self(what, Some(key)) => PartitionError::DamagedRow { key, what },
            Self(what, None) => PartitionError::Damaged { what: format!("`{statement}`: {what}") },
        }
    }

    /// Which row it was: what is damaged is that row alone.
    pub(super) fn of(self, key: &Key) -> Self {
        Self(self.0, Some(key.clone()))
    }
}

/// The columns of one row, taken from the left.
pub(super) struct Columns(std::vec::IntoIter<Value>);

impl Columns {
    pub(super) fn of(row: Vec<Value>) -> Self {
        Self(row.into_iter())
    }

    fn value(&mut self) -> Result<Value, Torn> {
        self.0.next().ok_or_else(|| Torn::new("a column is missing"))
    }

    /// A number: as such from a prepared statement, as digits from a text.
    pub(super) fn number_or_null(&mut self) -> Result<Option<i64>, Torn> {
        let number = match self.value()? {
            Value::NULL => return Ok(None),
            Value::Int(number) => Some(number),
            Value::UInt(number) => i64::try_from(number).ok(),
            Value::Bytes(digits) => std::str::from_utf8(&digits).ok().and_then(|d| d.parse().ok()),
            Value::Float(_) | Value::Double(_) | Value::Date(..) | Value::Time(..) => None,
        };
        number.map(Some).ok_or_else(|| Torn::new("a column is no number"))
    }

    pub(super) fn number(&mut self) -> Result<i64, Torn> {
        self.number_or_null()?.ok_or_else(|| Torn::new("a number is missing"))
    }

    /// A date and time of UTC, as a prepared statement tells it: milliseconds since 1970.
    pub(super) fn instant_ms(&mut self) -> Result<i64, Torn> {
        let Value::Date(year, month, day, hour, minute, second, micros) = self.value()? else {
            return Err(Torn::new("a column is no date"));
        };
        let (hour, minute, second) = (hour.into(), minute.into(), second.into());
        NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())
            .and_then(|date| date.and_hms_micro_opt(hour, minute, second, micros))
            .map(|instant| instant.and_utc().timestamp_millis())
            .ok_or_else(|| Torn::new("a column is no date of the calendar"))
    }

    pub(super) fn bytes_or_null(&mut self) -> Result<Option<Vec<u8>>, Torn> {
        match self.value()? {
            Value::NULL => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Date(..)
            | Value::Time(..) => Err(Torn::new("a column holds no bytes")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Torn> {
        self.bytes_or_null()?.ok_or_else(|| Torn::new("bytes are missing"))
    }

    pub(super) fn text(&mut self) -> Result<String, Torn> {
        String::from_utf8(self.bytes()?).map_err(|_| Torn::new("a text is not UTF-8"))
    }

    pub(super) fn version(&mut self) -> Result<Version, Torn> {
        let packed = self.number()?;
        Version::from_packed(packed).ok_or_else(|| Torn::out_of_range("version", packed))
    }

    pub(super) fn seq(&mut self) -> Result<Seq, Torn> {
        let seq = self.number()?;
        let number = u64::try_from(seq).ok().and_then(Seq::new);
        number.ok_or_else(|| Torn::out_of_range("sequence", seq))
    }

    pub(super) fn origin(&mut self) -> Result<PartitionId, Torn> {
        let id = self.number()?;
        id.try_into().map(PartitionId).map_err(|_| Torn::out_of_range("partition id", id))
    }

    pub(super) fn flag(&mut self) -> Result<bool, Torn> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Torn::out_of_range("flag", other)),
        }
    }

    /// `run_id`, as columns of two tables hold it.
    pub(super) fn run(&mut self) -> Result<RunId, Torn> {
        Ok(RunId(self.number()?.cast_unsigned()))
    }

    pub(super) fn space(&mut self) -> Result<Space, Torn> {
        Ok(if self.flag()? { Space::System } else { Space::Data })
    }
}

/// Reads the rows that a statement found.
pub(super) fn all_of<T>(
    rows: Vec<Vec<Value>>,
    statement: &'static str,
    read: impl Fn(&mut Columns) -> Result<T, Torn>,
) -> Result<Vec<T>, PartitionError> {
    let read = |row| read(&mut Columns::of(row)).map_err(|torn| torn.at(statement));
    rows.into_iter().map(read).collect()
}

/// A row of `data` or `system` behind its key, with or without its value.
pub(super) struct Stored {
    record: Record,
    checksum: u64,
    has_value: bool,
    /// The size of the value, read or not.
    pub(super) value_bytes: usize,
}

impl Stored {
    /// Reads version, origin, deleted, `expires_at`, `content_type`, checksum, `updated_at`, value
    /// (null where it was left behind), size of the value.
    pub(super) fn read(key: Key, columns: &mut Columns) -> Result<Self, Torn> {
        let version = columns.version()?;
        let origin = columns.origin()?;
        let deleted = columns.flag()?;
        let expires_at = columns.number_or_null()?;
        let content_type = columns.text()?;
        let checksum = columns.number()?.cast_unsigned();
        let stored_at = StoredAt(columns.number()?);
        let value = columns.bytes_or_null()?;
        let bytes = columns.number()?;
        let value_bytes = bytes.try_into().map_err(|_| Torn::out_of_range("size", bytes))?;
        let has_value = value.is_some();
        let value = Bytes::from(value.unwrap_or_default());
        let content_type = content_type.into();
        let body = (!deleted).then_some(Body { value, content_type, expires_at });
        let record = Record { stored_at, ..Record::new(key, version, origin, body) };
        Ok(Self { record, checksum, has_value, value_bytes })
    }

    /// The whole row; `None` where its value was left behind.
    pub(super) fn whole(self) -> Result<Option<Record>, Torn> {
        if !self.has_value {
            return Ok(None);
        }
        // The checksum is over the value, too: without it there is nothing to compare.
        if self.record.checksum() != self.checksum {
            return Err(Torn::new("its checksum does not match"));
        }
        Ok(Some(self.record))
    }

    /// The row as it is read where nobody looks at its value.
    pub(super) fn without_value(self) -> Record {
        self.record
    }
}

/// What the columns of a row say, whatever that is: id, version, origin, deleted, fingerprint.
pub(super) fn mark(space: Space, columns: &mut Columns) -> Result<Mark, Torn> {
    let key = Key::stored(space, columns.bytes()?);
    let (version, origin, deleted) = (columns.number()?, columns.number()?, columns.number()?);
    Ok(Mark {
        key,
        version: Version::from_packed(version).unwrap_or_default(),
        origin: PartitionId(origin.try_into().unwrap_or_default()),
        deleted: deleted != 0,
        fingerprint: columns.number()?.cast_unsigned(),
    })
}

pub(super) fn clock_row(columns: &mut Columns) -> Result<ClockRow, Torn> {
    let partition = columns.origin()?;
    let epoch = columns.number()?;
    let seq = columns.seq()?;
    let run = columns.run()?;
    let reseed = columns.number()?;
    Ok(ClockRow {
        partition,
        epoch: u32::try_from(epoch)
            .ok()
            .and_then(Epoch::new)
            .ok_or_else(|| Torn::out_of_range("epoch", epoch))?,
        seq,
        run,
        reseed: reseed.try_into().map_err(|_| Torn::out_of_range("reseed number", reseed))?,
        reseeding: columns.flag()?,
    })
}

pub(super) fn set_id(columns: &mut Columns) -> Result<u128, Torn> {
    let bytes = columns.bytes()?;
    let bytes = bytes.try_into().map_err(|_| Torn::new("the set id has not 16 bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}

pub(super) fn stored_topology(columns: &mut Columns) -> Result<Topology, Torn> {
    let document = columns.text()?;
    let digest = columns.number()?.cast_unsigned();
    let topology: Topology =
        serde_json::from_str(&document).map_err(|error| Torn::new(error.to_string()))?;
    topology.check().map_err(|error| Torn::new(error.to_string()))?;
    if topology.digest() != digest {
        return Err(Torn::new("its digest does not match"));
    }
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(value: Value) -> Result<i64, Torn> {
        Columns::of(vec![value]).instant_ms()
    }

    #[test]
    fn a_date_is_milliseconds_whatever_the_century() {
        assert_eq!(instant(Value::Date(1970, 1, 1, 0, 0, 0, 0)).unwrap(), 0);
        assert_eq!(
            instant(Value::Date(2040, 2, 29, 23, 59, 58, 999_000)).unwrap(),
            2_214_172_798_999
        );
        assert!(instant(Value::Date(2041, 2, 29, 0, 0, 0, 0)).is_err(), "no such day");
        assert!(instant(Value::Int(7)).is_err() && instant(Value::NULL).is_err());
    }
}
