//! Table `topology`: the acceptor of the register.

use rusqlite::{Row, params};

use super::statements::{Session, Statement, statement};
use super::stored::{Torn, stored_topology};
use crate::partition::acceptor::{AcceptorRow, Ballot};
use crate::partition::tables::AcceptorTable;
use crate::partition::{PartitionError, Refusal, Result};
use crate::topology::Incarnation;

static ACCEPTOR: Statement = statement(
    "acceptor",
    "SELECT document, digest, incarnation, promised_round, promised_by, accepted_round, accepted_by
     FROM topology WHERE id = 1",
);
static PUT_ACCEPTOR: Statement = statement(
    "put acceptor",
    "INSERT INTO topology (id, epoch, digest, incarnation, promised_round, promised_by,
       accepted_round, accepted_by, document)
     VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
     ON CONFLICT (id) DO UPDATE SET
       epoch = excluded.epoch, digest = excluded.digest, incarnation = excluded.incarnation,
       promised_round = excluded.promised_round, promised_by = excluded.promised_by,
       accepted_round = excluded.accepted_round, accepted_by = excluded.accepted_by,
       document = excluded.document",
);

fn acceptor_row(row: &Row<'_>) -> Result<AcceptorRow, Torn> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(AcceptorRow {
        incarnation: Incarnation(number(2)?),
        promised: Ballot { round: number(3)?, proposer: number(4)? },
        accepted: Ballot { round: number(5)?, proposer: number(6)? },
        document: stored_topology(row)?,
    })
}

impl AcceptorTable for Session<'_> {
    fn acceptor(&mut self) -> Result<AcceptorRow> {
        self.one(&ACCEPTOR, (), acceptor_row)?.ok_or_else(|| Refusal::Empty.into())
    }

    fn put_acceptor(&mut self, row: &AcceptorRow) -> Result<()> {
        let document = serde_json::to_string(&row.document).map_err(|error| {
            PartitionError::Engine { statement: "put acceptor", source: error.into() }
        })?;
        self.execute(
            &PUT_ACCEPTOR,
            params![
                row.document.epoch().number(),
                row.document.digest().cast_signed(),
                row.incarnation.0.cast_signed(),
                row.promised.round.cast_signed(),
                row.promised.proposer.cast_signed(),
                row.accepted.round.cast_signed(),
                row.accepted.proposer.cast_signed(),
                document
            ],
        )?;
        Ok(())
    }
}
