//! Table `topology`: the acceptor of the register.

use mysql::Value;

use super::params::{bytes, number};
use super::session::Session;
use super::statements::{ACCEPTOR, PUT_ACCEPTOR};
use super::stored::{Columns, Torn, stored_topology};
use crate::partition::acceptor::{AcceptorRow, Ballot};
use crate::partition::tables::AcceptorTable;
use crate::partition::{PartitionError, Refusal, Result};
use crate::topology::Incarnation;

fn acceptor_row(row: Vec<Value>) -> Result<AcceptorRow, Torn> {
    let mut columns = Columns::of(row);
    let document = stored_topology(&mut columns)?;
    let mut number = || columns.number().map(i64::cast_unsigned);
    Ok(AcceptorRow {
        incarnation: Incarnation(number()?),
        promised: Ballot { round: number()?, proposer: number()? },
        accepted: Ballot { round: number()?, proposer: number()? },
        document,
    })
}

impl AcceptorTable for Session<'_> {
    fn acceptor(&mut self) -> Result<AcceptorRow> {
        let row = self.text(&ACCEPTOR)?.rows.into_iter().next().ok_or(Refusal::Empty)?;
        acceptor_row(row).map_err(|torn| torn.at(ACCEPTOR.name))
    }

    fn put_acceptor(&mut self, row: &AcceptorRow) -> Result<()> {
        let document = serde_json::to_string(&row.document).map_err(|error| {
            PartitionError::Engine { statement: PUT_ACCEPTOR.name, source: error.into() }
        })?;
        let values = vec![
            Value::Int(row.document.epoch().number().into()),
            number(row.document.digest()),
            number(row.incarnation.0),
            number(row.promised.round),
            number(row.promised.proposer),
            number(row.accepted.round),
            number(row.accepted.proposer),
            bytes(document.as_bytes()),
        ];
        self.execute(&PUT_ACCEPTOR, 1, values)?;
        Ok(())
    }
}
