//! The acceptor of the topology register. Each step holds the lock on the clock, so that what it
//! read is what it changes.

use crate::partition::Result;
use crate::partition::acceptor::{Acceptor, Ballot};
use crate::partition::tables::{ClockRow, Tables};
use crate::rules::Rule;
use crate::topology::{Incarnation, Topology};

pub(super) fn acceptor(tables: &mut dyn Tables) -> Result<Acceptor> {
    let partition = tables.clock()?.partition;
    Ok(Acceptor { partition, run: tables.run()?, row: tables.acceptor()? })
}

/// Returns the row as it was but for the promise: the promise changes nothing that was accepted.
pub(super) fn promise(
    tables: &mut dyn Tables,
    incarnation: Incarnation,
    ballot: Ballot,
) -> Result<Acceptor> {
    let mut standing = acceptor(tables)?;
    standing.row.promise(incarnation, ballot)?;
    tables.put_acceptor(&standing.row)?;
    Ok(standing)
}

/// Whoever has accepted an epoch commits nothing below it any more (FENCE-1).
pub(super) fn accept(
    tables: &mut dyn Tables,
    incarnation: Incarnation,
    ballot: Ballot,
    document: &Topology,
) -> Result<()> {
    let clock = tables.clock()?;
    let mut row = tables.acceptor()?;
    row.accept(incarnation, ballot, document)?;
    tables.put_acceptor(&row)?;
    if document.epoch() > clock.epoch && Rule::AcceptRaise.in_force() {
        tables.set_clock(&ClockRow { epoch: document.epoch(), ..clock })?;
    }
    Ok(())
}
