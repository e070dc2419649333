//! A front end's connection to a simulated server, inside one operation.
//!
//! Stops: before every transaction, and between the moment that a commit is visible and the moment
//! that it is durable.

use std::cell::Cell;
use std::rc::Rc;

use corosensei::Yielder;
use datastore::partition::memory::Transaction;
use datastore::partition::tables::{Tables, Transact};
use datastore::partition::{PartitionError, Refusal, Result};
use datastore::version::PartitionId;

use crate::bugs::Planted;
use crate::world::Shared;

/// Where an operation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before a transaction, at this server.
    Before(PartitionId),
    /// This server has answered, and the answer is on its way.
    Answered(PartitionId),
    /// A commit is visible at this server and not yet durable.
    Visible(PartitionId),
    /// Until somebody else has answered.
    Waiting,
}

/// What an operation runs with: the world, its front end, and where to stop.
#[derive(Clone, Copy)]
pub struct Net<'a> {
    pub world: &'a Shared,
    pub front: usize,
    /// Nobody to stop for: the operation runs to its end.
    pub yielder: Option<&'a Yielder<(), Stop>>,
}

impl<'a> Net<'a> {
    /// Stops here, if the dice say so.
    pub fn may_stop(&self, stop: Stop) {
        let Some(yielder) = self.yielder else { return };
        let stops = {
            let mut world = self.world.get();
            let stops = world.stops;
            world.rng.u8(..100) < stops
        };
        if stops {
            yielder.suspend(stop);
        }
    }

    /// Waits until `ready`; gives up where there is nobody to stop for.
    pub fn wait(&self, ready: impl Fn() -> bool) -> bool {
        while !ready() {
            match self.yielder {
                Some(yielder) => yielder.suspend(Stop::Waiting),
                None => return false,
            }
        }
        true
    }

    /// A new connection: it lives in one run of its server.
    pub fn connect(&self, id: PartitionId) -> Result<Planted<'a>> {
        let boot = self.world.get().server(id).boot;
        let link = Link::of_run(*self, id, boot);
        link.check()?;
        link.meet()?;
        Ok(Planted::new(link))
    }

    /// Connections as a pool gives them: now and then another one for each transaction, so that the
    /// server may have been restarted in between. Passes, pushes, trimming, reseeds and feeds bear
    /// it.
    pub fn pooled(&self, id: PartitionId) -> Result<Planted<'a>> {
        let pooled = {
            let mut world = self.world.get();
            let drawn = world.rng.bool();
            world.pooled.unwrap_or(drawn)
        };
        if !pooled {
            return self.connect(id);
        }
        let link = Link { net: *self, id, boot: None, met: Cell::new(None) };
        link.check()?;
        Ok(Planted::new(link))
    }

    /// A connection that was made in the server's run number `boot`.
    pub fn reuse(&self, id: PartitionId, boot: u64) -> Planted<'a> {
        Planted::new(Link::of_run(*self, id, boot))
    }
}

/// One connection.
pub struct Link<'a> {
    pub net: Net<'a>,
    pub id: PartitionId,
    boot: Option<u64>,
    /// The run in which the front end has looked whether it may go on with the database.
    met: Cell<Option<u64>>,
}

impl<'a> Link<'a> {
    const fn of_run(net: Net<'a>, id: PartitionId, boot: u64) -> Self {
        Self { net, id, boot: Some(boot), met: Cell::new(Some(boot)) }
    }
}

impl Link<'_> {
    fn check(&self) -> Result<()> {
        let boot = {
            let world = self.net.world.get();
            let boot = world.server(self.id).boot;
            let same_run = self.boot.is_none_or(|own| own == boot);
            if !same_run || !world.reaches(self.net.front, self.id) {
                let gone = "cut off, down, or another run";
                return Err(PartitionError::Unreachable(gone.into()));
            }
            boot
        };
        if self.met.replace(Some(boot)) == Some(boot) { Ok(()) } else { self.meet() }
    }

    /// What a connection begins with.
    fn meet(&self) -> Result<()> {
        if self.net.world.get().may_go_on(self.net.front, self.id) {
            return Ok(());
        }
        self.met.set(None);
        Err(PartitionError::PutBack("an older copy".into()))
    }

    fn unknown(&self) -> PartitionError {
        self.net.world.get().count("an outcome stayed unknown");
        PartitionError::OutcomeUnknown("gone before it answered".into())
    }

    fn boot(&self) -> u64 {
        self.net.world.get().server(self.id).boot
    }
}

impl Transact for Link<'_> {
    const VISIBLE_IS_DURABLE: bool = false;

    fn reading<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        self.net.may_stop(Stop::Before(self.id));
        self.check()?;
        let (state, run, now_ms) = {
            let mut world = self.net.world.get();
            world.check_database(self.net.front, self.id);
            let server = world.server(self.id);
            (Rc::clone(&server.visible), server.run, world.database_ms(self.id))
        };
        let result = Transaction::reading(&state, run, now_ms).run(work);
        note_refusal(self.net.world, &result);
        result
    }

    fn writing<T>(&mut self, work: impl FnOnce(&mut dyn Tables) -> Result<T>) -> Result<T> {
        self.net.may_stop(Stop::Before(self.id));
        self.check()?;
        let boot = self.boot();
        let result = {
            let mut world = self.net.world.get();
            world.check_database(self.net.front, self.id);
            let now_ms = world.database_ms(self.id);
            let server = world.server_mut(self.id);
            let (before, run) = (Rc::clone(&server.visible), server.run);
            let state = Rc::make_mut(&mut server.visible);
            let result = Transaction::writing(state, run, now_ms).run(work);
            server.checked = false;
            if server.is_emptied() {
                (server.gone, server.up) = (true, false);
                (server.visible, server.durable) = (Rc::clone(&before), before);
                return result;
            }
            world.observe(self.id, &before);
            result
        };
        note_refusal(self.net.world, &result);
        let value = result?;
        if !self.net.world.get().skips_flush() {
            self.net.may_stop(Stop::Visible(self.id));
            // Another run: what was visible did not become durable.
            if self.boot() != boot {
                return Err(self.unknown());
            }
            self.net.world.get().server_mut(self.id).flush();
        }
        // Durable, and nobody may be there any more to hear of it.
        if self.check().is_err() {
            return Err(self.unknown());
        }
        Ok(value)
    }
}

fn note_refusal<T>(world: &Shared, result: &Result<T>) {
    let Err(PartitionError::Refused(refusal)) = result else { return };
    world.get().count(match refusal {
        Refusal::Fenced { .. } => "refused: fenced",
        Refusal::CursorMoved { .. } => "refused: another pass was here",
        Refusal::SourceBelowFloor { .. } => "refused: source below a floor",
        Refusal::BelowFloor { .. } => "refused: below a floor",
        Refusal::Reseeding => "refused: reseeding",
        Refusal::Made => "refused: made already",
        Refusal::RunEnded => "refused: another run",
        Refusal::SequenceExhausted => "refused: sequence exhausted",
        Refusal::Outbid { .. } => "refused: outbid",
        Refusal::OtherIncarnation => "refused: another incarnation",
        Refusal::Empty => "refused: empty",
    });
}
