//! The protective rules of the protocol, each with its name.
//!
//! Every rule is one condition or one step that looks superfluous until a crash, a stall or a
//! second front end comes in between. The simulation takes them away one at a time (feature
//! `ablation`) and requires that a checker notices; without the feature [`Rule::in_force`] is
//! `true` at compile time.
//!
//! The letters name the histories that showed the need: H1-H19 and K1-K12, the ways in which
//! earlier forms of the protocol lost data (`tests/simulation/holes.rs`).

/// A protective rule: section 3 (writing), 4 (reading) and 5 (sync) of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A commit goes on only if the clock's epoch is that of the topology it was routed by.
    Fence,
    /// A lane takes only writes of slots that its partition masters under the lane's topology.
    Route,
    /// The first opening in a server run jumps over sequences that a crash may have taken back
    /// (H5).
    OpeningJump,
    /// A lane's first transaction commits alone, so that the jump is durable before a key rests on
    /// it (K11).
    OpeningAlone,
    /// Every write of a batch has its log entry, also one that a later write of the batch replaces:
    /// else a cursor passes its version without bringing what replaced it.
    EntryPerWrite,
    /// A clock below the topology is raised before the first write, push or trim there.
    RaiseClock,
    /// A push is refused where the clock has a higher epoch (H12).
    PushFence,
    /// A pushed row at or below the target's cursor counts as held and is not applied (H4).
    PushCovered,
    /// A pushed row brings its log entry along (K6).
    PushEntry,
    /// A push goes on only if the reseed number it began under still stands (K2).
    PushReseed,
    /// A page ends at the vector of its own snapshot, not at a head read before (H1).
    SnapshotBound,
    /// A page's claim ends at its source's cursor, whatever early entries it carries (H2, H7).
    ClaimBound,
    /// A page carries early entries, those above the source's own cursor (H11).
    EarlyEntries,
    /// A page that reads on above the source's cursor moves no cursor over what lies between.
    ContiguousClaim,
    /// Whoever is below a floor of a source gets no page from it: a target stops, a follower is
    /// told to start again (H5, H6, K10).
    AboveFloors,
    /// A cursor is read again before it is held against a floor (K10).
    CursorReadAgain,
    /// A page leaves its source only after a commit there made it durable (H5).
    Barrier,
    /// A barrier is left out only while the source's epoch, too, has not moved (ADR 0002).
    BarrierOfEpoch,
    /// A page is applied only if the reseed number it was asked under still stands (K2).
    ApplyReseed,
    /// A page is applied only if the target's cursors still stand at or above where it started
    /// (H3).
    CursorStands,
    /// A page is applied only if its source's vector is at or above the target's floors (K3).
    SourceAboveFloors,
    /// A page is applied only under a topology that is not older than its newest row (K7).
    TopologyFresh,
    /// A row that a page brings has its log entry, also when the page ends below it (K6).
    RowEntry,
    /// Only a greater version replaces a row.
    GreaterVersion,
    /// A page raises the target's clock to the highest epoch in its rows (K9).
    ApplyRaise,
    /// Trimming waits for every voter, absent ones included (H8).
    TrimAllVoters,
    /// A cursor read for trimming is made durable before it counts (K8).
    TrimBarrier,
    /// Cursors count, and a floor is applied, only where the clock is at the topology's epoch (K9).
    TrimEpoch,
    /// A partition trims at most to its own cursor.
    TrimOwnCursor,
    /// Reseeding begins with emptying data, log and cursors (K2).
    ReseedEmpties,
    /// A voter is emptied only while it is still to be made: one that was made may count (K2).
    ReseedUnmade,
    /// A reseed step goes on only under the number that its beginning drew (K2).
    ReseedNumber,
    /// The source of a reseed stays in one server run and is not itself reseeded.
    ReseedSource,
    /// A reseed starts again when a floor of the source has passed the noted vector.
    ReseedAgain,
    /// A reseed copies the source's log up to the noted vector (K1).
    ReseedLog,
    /// A reseed ends with a clock at the highest epoch that it has copied (K9).
    ReseedRaise,
    /// A reseeding partition serves nothing and is nobody's source (K2).
    ReseedSilent,
    /// A session read is served only by a partition whose vector covers the token.
    SessionCovered,
    /// A vector counts only until its partition is reseeded.
    VectorOfReseed,
    /// Heads count from the instant before they were asked for, not from their answer (AGE-1).
    AgeFromAsking,
    /// What a master masters is as of the last quorum read of the topology at most (H16).
    AgeFromTopology,
    /// A vector that was asked for before a connection was made tells nothing of what is read over
    /// it (AGE-1).
    AgeOfRun,
    /// A feed page is served only by a partition whose vector covers the position (H17).
    FeedCovered,
    /// A repair goes on only if the row that was judged still stands.
    RepairStands,
    /// A repair goes on only if its source is above all floors of the target: what is missing there
    /// may be a tombstone that was collected since (H3, K3).
    RepairAboveFloors,
    /// A repair goes on only if the reseed number it was judged under still stands (K2).
    RepairReseed,
    /// A partition below what others have of it is an older copy, and is not gone on with (H10).
    PutBack,
    /// An acceptor that may have forgotten what it promised has no vote (H18).
    SameIncarnation,
    /// Accepting a topology raises the clock to its epoch, in the same transaction (H18).
    AcceptRaise,
    /// A topology is acted on only when it is chosen: read by a quorum, never from one acceptor
    /// (H18).
    QuorumRead,
    /// What merging drops of a late row goes to the ledger, in the same transaction (H15).
    LateKept,
    /// A row that was committed under an earlier topology and is late under that of its push is
    /// held by nobody: a majority that keeps it in its ledgers is none (LOSS-1).
    LateUncounted,
    /// A new master gives early rows of its slots versions of its own (H11).
    Reissue,
    /// An unplanned takeover first fences so many that every majority-acknowledged write is on one
    /// of them; a planned one the old master (H12).
    FenceFirst,
    /// Until a change of the voters is settled, a takeover fences enough of those before, too (K5).
    FenceBefore,
    /// A successor covers whoever was fenced, for all origins, early rows included, before it takes
    /// over (H14).
    CatchUp,
    /// A front end that meets a clock above the register proposes the same assignment under that
    /// epoch (H13).
    Unfence,
    /// A change of the voters is settled once all data voters have what any of them had (K5).
    SettleCovers,
    /// What a retired partition holds beyond an active voter goes to the ledger before it is
    /// emptied (K4).
    RetiredKept,
    /// Who has to accept a topology, the document itself says, with the voters before it (H18).
    OwnElectorate,
}

impl Rule {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Fence,
        Self::Route,
        Self::OpeningJump,
        Self::OpeningAlone,
        Self::EntryPerWrite,
        Self::RaiseClock,
        Self::PushFence,
        Self::PushCovered,
        Self::PushEntry,
        Self::PushReseed,
        Self::SnapshotBound,
        Self::ClaimBound,
        Self::EarlyEntries,
        Self::ContiguousClaim,
        Self::AboveFloors,
        Self::CursorReadAgain,
        Self::Barrier,
        Self::BarrierOfEpoch,
        Self::ApplyReseed,
        Self::CursorStands,
        Self::SourceAboveFloors,
        Self::TopologyFresh,
        Self::RowEntry,
        Self::GreaterVersion,
        Self::ApplyRaise,
        Self::TrimAllVoters,
        Self::TrimBarrier,
        Self::TrimEpoch,
        Self::TrimOwnCursor,
        Self::ReseedEmpties,
        Self::ReseedUnmade,
        Self::ReseedNumber,
        Self::ReseedSource,
        Self::ReseedAgain,
        Self::ReseedLog,
        Self::ReseedRaise,
        Self::ReseedSilent,
        Self::SessionCovered,
        Self::VectorOfReseed,
        Self::AgeFromAsking,
        Self::AgeFromTopology,
        Self::AgeOfRun,
        Self::FeedCovered,
        Self::RepairStands,
        Self::RepairAboveFloors,
        Self::RepairReseed,
        Self::PutBack,
        Self::SameIncarnation,
        Self::AcceptRaise,
        Self::QuorumRead,
        Self::OwnElectorate,
        Self::LateKept,
        Self::LateUncounted,
        Self::Reissue,
        Self::FenceFirst,
        Self::FenceBefore,
        Self::CatchUp,
        Self::Unfence,
        Self::SettleCovers,
        Self::RetiredKept,
    ];

    /// Whether the rule holds. Constant, but for builds with feature `ablation`.
    #[cfg(not(feature = "ablation"))]
    #[inline]
    pub const fn in_force(self) -> bool {
        true
    }

    /// Whether the rule holds on this thread.
    #[cfg(feature = "ablation")]
    pub fn in_force(self) -> bool {
        !ablation::REMOVED.with_borrow(|removed| removed.contains(&self))
    }
}

/// Taking rules away, for the simulation.
#[cfg(feature = "ablation")]
pub mod ablation {
    use std::cell::RefCell;

    use super::Rule;

    thread_local! {
        pub(super) static REMOVED: RefCell<Vec<Rule>> = const { RefCell::new(Vec::new()) };
    }

    /// Runs `work` on this thread without `rules`.
    pub fn without<T>(rules: &[Rule], work: impl FnOnce() -> T) -> T {
        let before = REMOVED.replace(rules.to_vec());
        let result = work();
        REMOVED.set(before);
        result
    }
}
