//! The statements about table `change`: the logs.

use mysql::Value;

use super::params::{bounded, entry_params, filled, spell_entry};
use super::session::Session;
use super::statements::{self, rows_of_insert, size_below};
use super::stored::{Columns, all_of};
use crate::partition::{Entry, Result};
use crate::record::{KEY_BYTES_WIDTH, Key};
use crate::version::{PartitionId, Version};

/// Log entries that go with the end, as text: a round trip less, and about 2 us more an entry. So
/// many cost as much more as a round trip between two machines of one rack.
const LAST_ENTRIES_MAX: usize = 32;
const LAST_BYTES_MAX: usize = 16 << 10;

pub(super) fn head(session: &mut Session<'_>, origin: PartitionId) -> Result<Version> {
    let params = vec![Value::Int(origin.0.into())];
    let row = session.execute(&statements::HEAD, 1, params)?.rows.into_iter().next();
    let version = row.map(|row| Columns::of(row).version()).transpose();
    Ok(version.map_err(|torn| torn.at(statements::HEAD.name))?.unwrap_or(Version::ZERO))
}

pub(super) fn entries(
    session: &mut Session<'_>,
    origin: PartitionId,
    after: Version,
    max: usize,
) -> Result<Vec<Entry>> {
    let params = vec![Value::Int(origin.0.into()), Value::Int(after.packed()), bounded(max)];
    let reply = session.execute(&statements::ENTRIES, 1, params)?;
    all_of(reply.rows, statements::ENTRIES.name, |columns| {
        let version = columns.version()?;
        let space = columns.space()?;
        Ok(Entry { origin, version, key: Key::stored(space, columns.bytes()?) })
    })
}

pub(super) fn put(session: &mut Session<'_>, entries: &[Entry]) -> Result<()> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (taken, size) = rows_of_insert(rest.len(), KEY_BYTES_WIDTH / 8);
        let params = filled(&rest[..taken], size, entry_params);
        session.execute(&statements::PUT_ENTRIES, size, params)?;
        rest = &rest[taken..];
    }
    Ok(())
}

pub(super) fn put_new(session: &mut Session<'_>, entries: &[Entry]) -> Result<()> {
    let mut rest = entries;
    while !rest.is_empty() && !goes_with_end(session, rest) {
        let size = size_below(rest.len());
        let params = filled(&rest[..size], size, entry_params);
        session.execute(&statements::PUT_NEW_ENTRIES, size, params)?;
        rest = &rest[size..];
    }
    if !rest.is_empty() {
        session.open.last = Some(statements::PUT_NEW_ENTRIES.spelled(rest, spell_entry));
    }
    Ok(())
}

/// Whether so few log entries, and so small, can be sent together with the end.
fn goes_with_end(session: &Session<'_>, entries: &[Entry]) -> bool {
    let bytes: usize = entries.iter().map(|entry| entry.key.bytes().len()).sum();
    session.open.has_begun && entries.len() <= LAST_ENTRIES_MAX && bytes <= LAST_BYTES_MAX
}

pub(super) fn remove(session: &mut Session<'_>, origin: PartitionId, upto: Version) -> Result<()> {
    loop {
        let params = vec![Value::Int(origin.0.into()), Value::Int(upto.packed())];
        let removed = session.execute(&statements::REMOVE_ENTRIES, 1, params)?.found;
        if removed < statements::REMOVED_AT_ONCE {
            return Ok(());
        }
    }
}
