//! The run of a server (OPEN-1): a random number in a table that a restart empties.

use mysql::Value;

use super::line::Line;
use super::statements;
use super::stored::Columns;
use crate::partition::{PartitionError, Result};
use crate::version::RunId;

/// The run of the server that the line leads to, drawn where it has none yet (which fails where the
/// server, or the transaction, is read only); `None` where the database holds no such table. The
/// table is not transactional, so this stands outside of any transaction.
pub(super) fn run_of(line: &mut Line) -> Result<Option<RunId>> {
    let asked = |line: &mut Line| -> Result<Option<Option<RunId>>> {
        let text = &statements::RUN;
        let row = match line.text(text.name, text.sql) {
            Ok(replies) => replies.into_iter().next().and_then(|r| r.rows.into_iter().next()),
            Err(failed) if failed.is_no_table() => return Ok(None),
            Err(failed) => return Err(failed.into()),
        };
        let run = row.map(|row| Columns::of(row).run()).transpose();
        Ok(Some(run.map_err(|torn| torn.at(text.name))?))
    };
    match asked(line)? {
        None => return Ok(None),
        Some(Some(run)) => return Ok(Some(run)),
        Some(None) => {}
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| PartitionError::Unreachable(Box::new(error)))?;
    let random = Value::Int(i64::from_le_bytes(random));
    line.execute(&statements::PUT_RUN, 1, vec![random])?;
    Ok(asked(line)?.flatten())
}
