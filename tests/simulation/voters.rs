//! Scripted histories of voters that come and go: the register while its electorate changes, and
//! what a majority holds while who counts for one changes. Servers, front ends and keys are those
//! of [`crate::holes`]; witnesses come after C, whoever joins after them.

use datastore::partition::Partition;
use datastore::partition::acceptor::Ballot;
use datastore::rules::Rule;
use datastore::version::PartitionId;

use crate::holes::{A, B, C, Held, Hole, Script};
use crate::link::Stop;
use crate::ownership;
use crate::takeovers::{accepted, hand_over, step_until};
use crate::world::View;

fn settle(s: &Script) {
    s.run(0, |net| assert!(ownership::settle(net), "it was not settled"));
}

fn retire(s: &Script, id: PartitionId) {
    s.run(0, |net| assert!(ownership::retire(net, id), "it was not retired"));
}

/// A partition joins, and is made from B; returns its id.
fn join(s: &Script) -> PartitionId {
    s.run(0, |net| assert!(ownership::join(net), "it did not join"));
    let world = s.world.get();
    let joined = world.register.voters().iter().map(|voter| voter.id).max();
    joined.unwrap()
}

/// What an acceptor has promised, as far as anybody can see.
fn promised(s: &Script, id: PartitionId) -> Ballot {
    let state = s.world.get().server(id).visible.clone();
    View(&state).acceptor().unwrap().row.promised
}

/// H12: B and two witnesses are a majority of the register, and hold nothing of what A and C hold.
fn h12_witnesses_hold_nothing(s: &mut Script) {
    *s = Script::with_witnesses(2);
    s.push_early(0);
    s.cut(0, &[A, C]);
    s.run(0, |net| assert!(!ownership::take_over(net, A), "B is not one of every majority"));
    s.cut(0, &[]);
}

/// C masters the keys; one of them is held by C and A alone, by a majority. Then A is retired,
/// while it is away.
fn majority_with_a_retired_one(s: &mut Script, witnesses: usize) {
    *s = Script::with_witnesses(witnesses);
    hand_over(s, A, C);
    s.cut(0, &[B]);
    s.set_by_majority(0, 0);
    s.cut(0, &[A]);
    retire(s, A);
}

/// K5: before the retirement is settled C cannot be reached; A still answers the register. B alone
/// is one of every majority of B and C, and not of every majority that acknowledged.
fn k5_retired(s: &mut Script) {
    majority_with_a_retired_one(s, 1);
    s.cut(0, &[C]);
    s.run(0, |net| _ = ownership::take_over(net, C));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// The same while both holders are away: with two witnesses the register has its majorities all
/// the same, of the voters before as of those now.
fn k5_both_holders_away(s: &mut Script) {
    majority_with_a_retired_one(s, 2);
    s.cut(0, &[A, C]);
    s.run(0, |net| _ = ownership::take_over(net, C));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// The same, once it was settled: by then B has what C had.
fn k5_settled(s: &mut Script) {
    majority_with_a_retired_one(s, 2);
    settle(s);
    s.cut(0, &[A, C]);
    s.run(0, |net| assert!(ownership::take_over(net, C), "who counts has all that counts"));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// A fourth voter is admitted, by the register's majorities of those before and of those now, while
/// a front end that has not heard of it has a write acknowledged by a majority of three: A and C.
fn majority_of_those_before(s: &mut Script) {
    *s = Script::with_witnesses(2);
    s.set(0, 0);
    s.set(1, 0);
    s.sync_voters(0);
    let joined = join(s);
    s.run(0, |net| ownership::seed(net, joined, B));
    s.run(1, |net| _ = ownership::refresh(net));
    let before = promised(s, B);
    let admission = s.hold(0, move |net| _ = ownership::admit(net, joined));
    step_until(s, &admission, |s| promised(s, B) > before);
    s.cut(0, &[A, C]);
    s.cut(1, &[B]);
    s.set_by_majority(1, 0);
    s.cut(1, &[]);
    s.finish();
    assert!(!s.world.get().register.previous().is_empty(), "it was not admitted");
}

/// K5, from three voters to four: two of four are fenced, and neither of them is A or C.
fn k5_admitted(s: &mut Script) {
    majority_of_those_before(s);
    s.run(0, |net| _ = ownership::take_over(net, A));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// The same, once it was settled.
fn k5_admitted_and_settled(s: &mut Script) {
    majority_of_those_before(s);
    s.cut(0, &[]);
    settle(s);
    s.cut(0, &[A, C]);
    s.run(0, |net| assert!(ownership::take_over(net, A), "two of four were fenced"));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// H18: C is retired, and a partition admitted; A hears of the first only. A front end that has
/// heard of neither asks A and C, who are a majority of the voters that it knows.
fn h18_electorate_of_before(s: &mut Script) {
    let late = s.hold(1, ownership::raise_epoch);
    // The register is read, and nothing promised yet.
    s.until(&late, Stop::Before(C));
    s.step(&late);
    s.cut(0, &[C]);
    retire(s, C);
    settle(s);
    let joined = join(s);
    s.run(0, |net| ownership::seed(net, joined, B));
    s.run(0, |net| assert!(ownership::admit(net, joined), "it was not admitted"));
    s.cut(1, &[B]);
    let first = promised(s, C);
    step_until(s, &late, |s| promised(s, C) > first && promised(s, C) == promised(s, A));
    s.cut(1, &[]);
    s.finish();
    s.run(1, ownership::raise_epoch);
    s.cut(0, &[]);
}

/// H18: A and B have accepted an epoch, and nobody has raised their clocks since; whoever has
/// accepted it writes nothing below it, though the front end that writes there has not heard of it.
fn h18_accepted_and_not_told(s: &mut Script) {
    s.set(0, 0);
    s.set(1, 0);
    s.cut(0, &[C]);
    s.run(0, ownership::raise_epoch);
    assert!(accepted(s, A) && accepted(s, B));
    s.set(1, 0);
    s.cut(0, &[]);
}

/// K2: two front ends make the one that joins, and one of them is slow: when it begins, the
/// partition was admitted, and counts as a holder of what a majority holds.
fn k2_seed_after_the_admission(s: &mut Script) {
    *s = Script::with_witnesses(1);
    s.set(0, 0);
    s.sync_voters(0);
    let joined = join(s);
    s.run(1, |net| _ = ownership::refresh(net));
    let slow: Held = s.hold(1, move |net| ownership::seed(net, joined, B));
    s.until(&slow, Stop::Before(joined));
    s.run(0, |net| ownership::seed(net, joined, B));
    s.run(0, |net| assert!(ownership::admit(net, joined), "it was not admitted"));
    settle(s);
    s.cut(0, &[B]);
    s.set_by_majority(0, 0);
    s.finish();
    s.cut(0, &[A, C]);
    s.run(0, |net| assert!(ownership::take_over(net, A), "two of four were fenced"));
    s.set(0, 0);
    s.cut(0, &[]);
}

/// C is being retired when the front end dies: B has accepted the document that needs A and B, and
/// A is lost. Nobody can tell whether it was chosen.
fn lost_within_a_retirement(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    let before = revision(s, B);
    let held = s.hold(0, |net| _ = ownership::retire(net, C));
    // The first of the two changes says that it drains.
    step_until(s, &held, |s| revision(s, B) == before + 2);
    s.kill(held);
    s.crash(A);
}

fn revision(s: &Script, id: PartitionId) -> u64 {
    let state = s.world.get().server(id).durable.clone();
    View(&state).acceptor().unwrap().row.document.revision()
}

/// Without a witness the register stands still until A is back; then it goes on.
fn stuck_until_it_returns(s: &mut Script) {
    lost_within_a_retirement(s);
    s.run(1, |net| assert!(!ownership::refresh(net), "A may have accepted something else"));
    s.restart(A);
    s.run(1, |net| assert!(ownership::refresh(net), "all answer"));
    assert!(s.world.get().register.retired().contains(&C), "it may have been chosen");
}

/// With one the change is brought to its end, and A is taken over from once it is settled.
fn not_stuck_with_a_witness(s: &mut Script) {
    *s = Script::with_witnesses(1);
    lost_within_a_retirement(s);
    s.run(1, |net| assert!(ownership::refresh(net), "B and the witness are a majority"));
    s.run(1, |net| assert!(!ownership::take_over(net, A), "B is not one of every majority"));
    s.restart(A);
}

pub const HOLES: &[Hole] = &[
    ("H12: witnesses", h12_witnesses_hold_nothing, &[]),
    ("lost within a retirement", stuck_until_it_returns, &[]),
    ("lost within a retirement, with a witness", not_stuck_with_a_witness, &[]),
    ("K5", k5_retired, &[Rule::FenceBefore]),
    ("K5: both holders are away", k5_both_holders_away, &[Rule::FenceBefore]),
    ("K5: settled", k5_settled, &[Rule::SettleCovers]),
    ("K5: from three to four", k5_admitted, &[Rule::FenceBefore]),
    ("K5: from three to four, settled", k5_admitted_and_settled, &[Rule::SettleCovers]),
    ("H18: the electorate of before", h18_electorate_of_before, &[Rule::OwnElectorate]),
    ("H18: accepted and not told", h18_accepted_and_not_told, &[Rule::AcceptRaise]),
    ("K2: a seed after the admission", k2_seed_after_the_admission, &[Rule::ReseedUnmade]),
];
