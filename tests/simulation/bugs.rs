//! Planted bugs: one per checker, to prove that it is awake.

use std::rc::Rc;
use std::time::Duration;

use datastore::partition::acceptor::{Acceptor, Ballot};
use datastore::partition::beat::Beat;
use datastore::partition::memory::Transaction;
use datastore::partition::tables::ClockRow;
use datastore::partition::upkeep::{
    Conflict, ConflictPlace, Digest, Expired, Inspection, Lost, Repair, Repaired, Stride, Survey,
};
use datastore::partition::{
    Applied, Beginning, Chunk, Fetched, Get, Identity, Jump, Listing, Page, PageRequest, Partition,
    Push, Range, Reissued, ReseedNumber, ReseedStep, Result, Status, Trim, Trimmed,
};
use datastore::record::Key;
use datastore::rules::Rule;
use datastore::topology::cut::SlotSet;
use datastore::topology::{Incarnation, Topology};
use datastore::version::{Epoch, PartitionId, RunId, Seq, Version};
use datastore::write::{Change, Condition, Outcome, Write};

use crate::link::Link;
use crate::world::{Server, World};

/// A way to lose data on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A page forgets one of the rows that its entries name.
    RowForgotten,
    /// A cursor goes one further than the page.
    CursorAhead,
    /// A barrier does nothing.
    BarrierEmpty,
    /// A restarted server has forgotten its last sequences.
    SequenceForgotten,
    /// The answer does not wait for the flush.
    AnsweredBeforeFlush,
    /// A session read goes anywhere.
    TokenIgnored,
    /// Heads are stamped with the wall clock.
    AgeByWallClock,
    /// A feed position goes to the source's head, whatever was given.
    FeedAhead,
    /// A tombstone is collected as soon as it is seen.
    TombstonesCollectedAtOnce,
    /// A copied row is damaged on its way.
    RowDamaged,
    /// A write goes through whatever it was to replace.
    ConditionIgnored,
    /// A sweep deletes what it has seen to be over, whatever stands by then.
    SweepBlind,
    /// A repair says that it was made.
    RepairForgotten,
    /// What a partition says of a row comes with a later vector than the row.
    VectorAhead,
    /// Every second connection is not asked whether its database is an older copy.
    CopyBelieved,
}

/// What is planted in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Wrong code.
    Bug(Bug),
    /// Missing code.
    Without(&'static [Rule]),
}

/// One for each checker, with its name.
pub const PLANTS: &[(Plant, &str)] = &[
    (Plant::Bug(Bug::RowForgotten), "VEC-1"),
    (Plant::Without(&[Rule::PushEntry]), "LOG-1"),
    (Plant::Bug(Bug::CursorAhead), "CUR-1"),
    (Plant::Bug(Bug::BarrierEmpty), "BAR-1"),
    (Plant::Bug(Bug::SequenceForgotten), "VER-1"),
    (Plant::Without(&[Rule::Fence]), "FENCE-1"),
    (Plant::Bug(Bug::AnsweredBeforeFlush), "ACK-1"),
    (Plant::Bug(Bug::TokenIgnored), "RYW-1"),
    (Plant::Bug(Bug::AgeByWallClock), "AGE-1"),
    (Plant::Bug(Bug::FeedAhead), "FEED-1"),
    (Plant::Bug(Bug::TombstonesCollectedAtOnce), "DEL-1"),
    (Plant::Bug(Bug::RowDamaged), "VERIFY"),
    (Plant::Bug(Bug::ConditionIgnored), "EXACT"),
    (Plant::Bug(Bug::SweepBlind), "TTL"),
    (Plant::Bug(Bug::RepairForgotten), "CONV-1"),
    (Plant::Bug(Bug::VectorAhead), "VERIFY"),
    (Plant::Bug(Bug::CopyBelieved), "RESTORE"),
    (Plant::Without(&[Rule::TrimAllVoters]), "FLOOR"),
    (Plant::Without(&[Rule::RaiseClock]), "LIVE"),
];

impl World {
    /// See [`Bug::AnsweredBeforeFlush`].
    pub fn skips_flush(&mut self) -> bool {
        self.bug == Some(Bug::AnsweredBeforeFlush) && self.rng.u8(..10) == 0
    }
}

/// See [`Bug::SequenceForgotten`]. The opening is forgotten with them, or it would jump over the
/// gap.
pub fn forget_sequence(server: &mut Server) {
    let seq = Seq::new(server.status().seq.number() / 2).unwrap();
    let run = server.run;
    let state = Rc::make_mut(&mut server.visible);
    edit_clock(state, run, |clock| ClockRow { seq, run, ..clock });
    server.durable = Rc::clone(&server.visible);
}

fn edit_clock(
    state: &mut datastore::partition::memory::State,
    run: RunId,
    edit: impl FnOnce(ClockRow) -> ClockRow,
) {
    Transaction::writing(state, run, 0)
        .run(|tables| {
            let clock = tables.clock()?;
            tables.set_clock(&edit(clock))
        })
        .unwrap();
}

/// A connection with the history's planted bug, if it has one.
pub struct Planted<'a> {
    link: Link<'a>,
}

impl<'a> Planted<'a> {
    pub const fn new(link: Link<'a>) -> Self {
        Self { link }
    }

    pub const fn id(&self) -> PartitionId {
        self.link.id
    }

    fn has(&self, bug: Bug) -> bool {
        self.link.net.world.get().bug == Some(bug)
    }

    fn dice(&self, of: u8) -> bool {
        self.link.net.world.get().rng.u8(..of) == 0
    }
}

impl Partition for Planted<'_> {
    fn identity(&mut self) -> Result<Option<Identity>> {
        self.link.identity()
    }

    fn found(&mut self, identity: &Identity) -> Result<Identity> {
        self.link.found(identity)
    }

    fn status(&mut self) -> Result<Status> {
        self.link.status()
    }

    fn open_lane(&mut self) -> Result<Epoch> {
        self.link.open_lane()
    }

    fn jumps(&mut self) -> Result<Vec<Jump>> {
        self.link.jumps()
    }

    fn raise(&mut self, epoch: Epoch) -> Result<()> {
        self.link.raise(epoch)
    }

    fn commit(&mut self, epoch: Epoch, writes: &[Write]) -> Result<Vec<Outcome>> {
        if self.has(Bug::ConditionIgnored) {
            let heedless = |write: &Write| Write { condition: Condition::NONE, ..write.clone() };
            return self.link.commit(epoch, &writes.iter().map(heedless).collect::<Vec<_>>());
        }
        if !self.has(Bug::SweepBlind) {
            return self.link.commit(epoch, writes);
        }
        let blind = |write: &Write| match write.change {
            Change::Expire { .. } => Write::delete(write.key.clone()),
            Change::Set(_) | Change::Update(_) | Change::Merge { .. } | Change::Delete => {
                write.clone()
            }
        };
        self.link.commit(epoch, &writes.iter().map(blind).collect::<Vec<_>>())
    }

    fn reissue(&mut self, epoch: Epoch, slots: &SlotSet) -> Result<Reissued> {
        self.link.reissue(epoch, slots)
    }

    fn push(&mut self, push: &Push) -> Result<()> {
        self.link.push(push)
    }

    fn get(&mut self, get: &Get<'_>) -> Result<Fetched> {
        self.link.get(get)
    }

    fn list(&mut self, range: &Range) -> Result<Listing> {
        self.link.list(range)
    }

    fn page(&mut self, request: &PageRequest) -> Result<Page> {
        let mut page = self.link.page(request)?;
        if self.has(Bug::RowForgotten) && self.dice(10) {
            page.rows.pop();
        }
        if self.has(Bug::RowDamaged) && self.dice(10) {
            for body in page.rows.iter_mut().filter_map(|row| row.body.as_mut()) {
                body.value = "damaged".into();
            }
        }
        if self.has(Bug::CursorAhead) && self.dice(10) {
            for segment in page.segments.iter_mut().filter(|segment| segment.claim > segment.from) {
                let seq = segment.claim.seq().advanced(1).unwrap();
                segment.claim = Version::new(segment.claim.epoch(), seq);
            }
        }
        Ok(page)
    }

    fn beat(&mut self, frontend: &str, document: Option<&str>) -> Result<()> {
        self.link.beat(frontend, document)
    }

    fn beats(&mut self) -> Result<Vec<Beat>> {
        self.link.beats()
    }

    fn barrier(&mut self, run: RunId) -> Result<()> {
        if self.has(Bug::BarrierEmpty) { Ok(()) } else { self.link.barrier(run) }
    }

    fn apply(&mut self, page: &Page, reseed: ReseedNumber) -> Result<Applied> {
        self.link.apply(page, reseed)
    }

    fn trim(&mut self, trim: &Trim) -> Result<Trimmed> {
        if !self.has(Bug::TombstonesCollectedAtOnce) {
            return self.link.trim(trim);
        }
        let floor = self.link.status()?.vector;
        self.link.trim(&Trim { floor, ..trim.clone() })
    }

    fn scan(&mut self, after: Option<&Key>, rows_max: usize, bytes_max: usize) -> Result<Chunk> {
        self.link.scan(after, rows_max, bytes_max)
    }

    fn reseed(&mut self, number: ReseedNumber, step: &ReseedStep) -> Result<ReseedNumber> {
        self.link.reseed(number, step)
    }

    fn expired(&mut self, after: Option<&Expired>, max: usize) -> Result<Vec<Expired>> {
        self.link.expired(after, max)
    }

    fn digest(&mut self, stride: &Stride) -> Result<Digest> {
        self.link.digest(stride)
    }

    fn survey(&mut self, stride: &Stride) -> Result<Survey> {
        self.link.survey(stride)
    }

    fn inspect(&mut self, key: &Key) -> Result<Inspection> {
        let mut inspection = self.link.inspect(key)?;
        if self.has(Bug::VectorAhead) {
            inspection.source.vector = self.link.status()?.vector;
        }
        Ok(inspection)
    }

    fn repair(&mut self, repair: &Repair) -> Result<Repaired> {
        if self.has(Bug::RepairForgotten) { Ok(Repaired::Done) } else { self.link.repair(repair) }
    }

    fn conflicts(&mut self, after: Option<&ConflictPlace>, max: usize) -> Result<Vec<Conflict>> {
        self.link.conflicts(after, max)
    }

    fn keep(&mut self, lost: &[Lost]) -> Result<()> {
        self.link.keep(lost)
    }

    fn forget_conflicts(&mut self, places: &[ConflictPlace], retention: Duration) -> Result<usize> {
        self.link.forget_conflicts(places, retention)
    }

    fn begin_anew(&mut self, identity: &Identity, from: Beginning) -> Result<()> {
        self.link.begin_anew(identity, from)
    }

    fn forget(&mut self, id: PartitionId) -> Result<()> {
        self.link.forget(id)
    }

    fn set_aside(&mut self) -> Result<()> {
        self.link.set_aside()
    }

    fn acceptor(&mut self) -> Result<Acceptor> {
        self.link.acceptor()
    }

    fn promise(&mut self, incarnation: Incarnation, ballot: Ballot) -> Result<Acceptor> {
        self.link.promise(incarnation, ballot)
    }

    fn accept(
        &mut self,
        incarnation: Incarnation,
        ballot: Ballot,
        document: &Topology,
    ) -> Result<()> {
        self.link.accept(incarnation, ballot, document)
    }
}
