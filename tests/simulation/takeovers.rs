//! The holes around ownership and the voters as scripted histories: takeovers, promotions, late
//! returns, voters that go and come. Servers, front ends and keys are those of [`crate::holes`].

use datastore::ack;
use datastore::partition::Partition;
use datastore::rules::Rule;
use datastore::topology::slots::Move;
use datastore::version::PartitionId;
use datastore::write::Write;

use crate::ages;
use crate::holes::{A, B, C, COPY, Held, Hole, Script};
use crate::link::{Net, Stop};
use crate::operations;
use crate::ownership;
use crate::world::View;

/// Everybody has the first key. From here on front end 0 cannot reach A, and front end 1 nobody
/// else but the copy.
fn part(s: &Script) {
    s.set(0, 0);
    s.set(1, 0);
    s.sync_voters(0);
    s.pull(0, COPY, A);
    s.run(1, |net| {
        ownership::refresh(net);
    });
    s.cut(0, &[A, COPY]);
    s.cut(1, &[B, C]);
}

fn heal(s: &Script) {
    s.cut(0, &[]);
    s.cut(1, &[]);
}

/// A's slots are taken over; returns its successor.
fn take_over(s: &Script, lost: PartitionId) -> PartitionId {
    s.run(0, |net| assert!(ownership::take_over(net, lost), "nothing was taken over"));
    let key = s.key(0);
    s.world.get().register.master_of(&key)
}

fn other(id: PartitionId) -> PartitionId {
    if id == B { C } else { B }
}

fn sync_pair(s: &Script, one: PartitionId) {
    for _ in 0..2 {
        s.pull(0, other(one), one);
        s.pull(0, one, other(one));
    }
}

fn retire(s: &Script, id: PartitionId) {
    s.run(0, |net| assert!(ownership::retire(net, id), "it was not retired"));
    s.run(0, |net| assert!(ownership::settle(net), "it was not settled"));
}

pub fn hand_over(s: &Script, from: PartitionId, to: PartitionId) {
    let slots = s.world.get().register.owned_by(from);
    s.run(0, |net| assert!(ownership::promote(net, &Move { from, to, slots })));
    s.run(1, |net| {
        ownership::refresh(net);
    });
}

/// The row of a key at A is pushed to C by a front end, which counts it as held by a majority.
fn push_to_c(s: &Script, front: usize, nth: usize) {
    let key = s.key(nth);
    s.run(front, |net| {
        let topology = net.world.get().fronts[front].topology.clone();
        let row = net.world.get().server(A).visible.rows().get(&key).cloned().unwrap();
        let pushed = net
            .connect(C)
            .and_then(|mut to| ack::push(&mut to, std::slice::from_ref(&row), &topology));
        if pushed.is_ok() {
            let floor = datastore::version::Version::ZERO;
            net.world.get().acknowledge(&key, A, row.version, floor, true);
        }
    });
}

/// A follower that has the snapshot, and follows from there.
fn follow_from_here(s: &Script) {
    for _ in 0..40 {
        for id in [A, B, C] {
            s.run(0, |net| operations::follow(net, 0, id));
        }
    }
}

/// A copy that followed the cut-off master is a source after the master was retired.
fn h6_k3_copy_of_a_retired_master(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(1, 0);
    s.pull(1, COPY, A);
    s.delete(0, 0);
    sync_pair(s, master);
    retire(s, A);
    s.trim(0, &[B, C]);
    s.cut(0, &[A]);
    s.pull(0, master, COPY);
}

/// A page was read from the cut-off master, and lands after its retirement.
fn k3_page_over_a_retirement(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(1, 0);
    s.delete(0, 0);
    sync_pair(s, master);
    s.cut(1, &[]);
    let pull = s.hold(1, move |net| operations::pull_from(net, master, A));
    s.step(&pull);
    s.until(&pull, Stop::Before(master));
    retire(s, A);
    s.trim(0, &[B, C]);
    s.finish();
}

/// A cut-off master, alone with its front end, collects nothing of its own.
fn h8_alone(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(0, 0);
    sync_pair(s, master);
    s.delete(1, 0);
    s.trim(1, &[A]);
    heal(s);
}

/// A majority's write is on the lost master and early on C; B takes over, and A never returns.
fn h11_early_row(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    follow_from_here(s);
    s.push_early(0);
    s.cut(0, &[A]);
    assert_eq!(take_over(s, A), B);
    s.world.get().lose_for_ever(A);
}

/// The front end of the takeover dies between its commit and the re-issue: the next lane does it.
fn h11_successor_left_alone(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    follow_from_here(s);
    s.push_early(0);
    s.cut(0, &[A]);
    s.cut(1, &[A]);
    let held = s.hold(0, |net| {
        ownership::take_over(net, A);
    });
    step_until(s, &held, |s| accepted(s, B) && accepted(s, C));
    s.kill(held);
    s.set(1, 1);
    s.world.get().lose_for_ever(A);
}

pub fn step_until(s: &mut Script, held: &Held, is_there: impl Fn(&Script) -> bool) {
    for _ in 0..200 {
        if is_there(s) {
            return;
        }
        s.step(held);
    }
    panic!("it never came to that");
}

/// Whether an acceptor holds another document than the first.
pub fn accepted(s: &Script, id: PartitionId) -> bool {
    let state = s.world.get().server(id).durable.clone();
    View(&state).acceptor().unwrap().row.document.revision() > 0
}

/// A push comes between the successor's catching up and the change of the document.
fn h12_push_before_the_change(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.push_early(1);
    s.set(1, 2);
    let key = s.key(1);
    s.cut(0, &[A]);
    let held = s.hold(0, |net| {
        ownership::take_over(net, A);
    });
    let caught_up = |s: &Script| s.world.get().server(B).durable.rows().contains_key(&key);
    step_until(s, &held, caught_up);
    s.cut(1, &[B]);
    push_to_c(s, 1, 2);
    s.finish();
    s.set(0, 2);
}

/// A push under the old document comes after the change.
fn h12_push_after_the_change(s: &mut Script) {
    part(s);
    s.set(1, 2);
    take_over(s, A);
    s.cut(1, &[B]);
    push_to_c(s, 1, 2);
    s.set(0, 2);
    heal(s);
}

/// A front end learns of the takeover between its commit and its push, which nothing fences then.
fn push_after_a_takeover(s: &mut Script) {
    part(s);
    s.set(1, 0);
    take_over(s, A);
    s.cut(1, &[B]);
    s.run(1, |net| {
        ownership::refresh(net);
    });
    push_to_c(s, 1, 0);
    s.set(0, 0);
    heal(s);
}

/// A follower stands in the log of a master that has left since, which others have all of.
fn follower_of_a_retired_log(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    follow_from_here(s);
    s.set(0, 1);
    s.sync_voters(0);
    s.cut(0, &[A]);
    take_over(s, A);
    retire(s, A);
    s.world.get().lose_for_ever(A);
}

/// Whoever fenced dies: writes go on under the same assignment.
fn h13_fence_left_behind(s: &mut Script) {
    s.set(0, 0);
    let slots = s.world.get().register.owned_by(A);
    let moved = Move { from: A, to: B, slots };
    let held = s.hold(0, move |net| {
        ownership::promote(net, &moved);
    });
    step_until(s, &held, |s| {
        let world = s.world.get();
        world.server(A).durable_status().epoch > world.register.epoch()
    });
    s.kill(held);
    s.set(1, 0);
}

/// A planned change: the key was written last under an earlier master.
fn h14_all_origins(s: &mut Script) {
    s.set(0, 0);
    hand_over(s, A, C);
    s.set(0, 0);
    hand_over(s, C, B);
    s.set(0, 0);
}

/// The usual order: the old master returns and pulls its successor's row over its own.
fn h15_overwritten_at_home(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(1, 0);
    s.set(0, 0);
    heal(s);
    s.pull(0, A, master);
}

/// The other order: the late row arrives and does not come to stand.
fn h15_arrives(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(1, 0);
    s.set(0, 0);
    heal(s);
    s.pull(0, master, A);
    s.pull(0, A, master);
}

/// A cut-off master is not told to be fresh.
fn h16_age_of_a_cut_off_master(s: &mut Script) {
    part(s);
    s.world.get().let_time_pass();
    take_over(s, A);
    s.set(0, 0);
    s.world.get().let_time_pass();
    s.world.get().let_time_pass();
    let key = s.key(0);
    s.run(1, |net| ages::look(net, A));
    s.run(1, |net| ages::aged_read(net, A, &key, None));
}

/// A session has written at a cut-off master: whoever has taken over does not have that, and does
/// not give it anything older.
fn h16_session_of_a_cut_off_master(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    let session = s.set(1, 0);
    let key = s.key(0);
    s.run(0, move |net| operations::session_read(net, session, &key, master));
    heal(s);
}

/// A follower moves to a partition that has merged a late row and not the newer one.
fn h17_follower_moves(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    follow_from_here(s);
    s.set(0, 0);
    for _ in 0..10 {
        s.run(0, |net| operations::follow(net, 0, master));
    }
    s.set(1, 0);
    heal(s);
    s.pull(0, other(master), A);
    for _ in 0..10 {
        s.run(0, |net| operations::follow(net, 0, other(master)));
    }
}

/// A takeover whose document one acceptor has accepted dies; nobody acts on that.
fn h18_accepted_by_one(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.cut(0, &[A]);
    let held = s.hold(0, |net| {
        ownership::take_over(net, A);
    });
    step_until(s, &held, |s| accepted(s, B) || accepted(s, C));
    s.kill(held);
    let (one, two) = if accepted(s, B) { (B, C) } else { (C, B) };
    s.cut(1, &[A, two]);
    s.run(1, |net| {
        ownership::refresh(net);
    });
    s.cut(0, &[one]);
    s.run(0, ownership::raise_epoch);
    assert_eq!(s.world.get().fronts[0].topology.revision(), 1, "a majority answers");
    heal(s);
}

/// A lane is not opened anew by a front end that cannot read the register.
fn h19_lane_of_a_minority(s: &mut Script) {
    part(s);
    take_over(s, A);
    s.crash(A);
    s.restart(A);
    let session = s.set(1, 0);
    assert!(s.world.get().sessions[session].seen.is_empty(), "it was acknowledged");
    heal(s);
}

/// A retired master comes back with a late row: into the ledger, and the id is never used again.
fn k4_retired_id(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    let session = s.set(1, 0);
    s.set(0, 0);
    sync_pair(s, master);
    retire(s, A);
    heal(s);
    s.run(0, move |net| ownership::clear(net, A, master));
    let key = s.key(0);
    s.run(0, move |net| operations::session_read(net, session, &key, master));
}

/// A cut page has carried a row above its own end; its origin is lost.
fn k6_carried_row(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    follow_from_here(s);
    s.set(0, 1);
    s.set(0, 0);
    s.set(0, 2);
    s.set(0, 1);
    s.world.get().entries_max = Some(1);
    s.cut(0, &[B]);
    let pull = s.hold(0, |net| operations::pull_from(net, C, A));
    s.step(&pull);
    s.until(&pull, Stop::Before(C));
    // The apply, and its commit.
    s.step(&pull);
    s.step(&pull);
    s.kill(pull);
    s.world.get().entries_max = Some(100);
    push_to_c(s, 0, 1);
    s.cut(0, &[A]);
    take_over(s, A);
    s.world.get().lose_for_ever(A);
}

/// A front end that does not know of the takeover has its successor's row overwrite a late one.
fn k7_old_topology(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(1, 0);
    s.set(0, 0);
    s.cut(1, &[]);
    s.pull(1, A, master);
    heal(s);
}

/// A pass brings the successor's row to the old master, whose lane is still open.
fn k9_write_under_newer_rows(s: &mut Script) {
    part(s);
    let master = take_over(s, A);
    s.set(0, 0);
    s.cut(0, &[]);
    s.pull(0, A, master);
    s.set(1, 0);
    heal(s);
}

/// Somebody with the voters of before trims past one that has joined.
fn k9_trim_with_old_voters(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.run(0, |net| assert!(ownership::join(net)));
    let joined = PartitionId(4);
    s.run(0, move |net| ownership::seed(net, joined, B));
    s.set(0, 1);
    s.sync_voters(0);
    s.trim(1, &[A, B, C]);
    s.run(0, move |net| operations::pull_from(net, joined, A));
}

/// A write waits on a lane while its slot moves away and others stay.
fn slot_moves_while_a_write_waits(s: &mut Script) {
    s.set(0, 0);
    s.set(1, 0);
    let key = s.key(0);
    let slots = [datastore::topology::Slot::of(&key)].into_iter().collect();
    let moved = Move { from: A, to: B, slots };
    let (write, session) = (s.set_of(0), s.session());
    s.hold(1, move |net: &Net<'_>| operations::write(net, write, false, session));
    s.run(0, |net| assert!(ownership::promote(net, &moved)));
    s.finish();
}

/// A follower is in the middle of a snapshot that began with what the lost master alone had.
fn snapshot_of_a_lost_master(s: &mut Script) {
    s.set(0, 0);
    s.sync_voters(0);
    s.set(0, 1);
    s.world.get().entries_max = Some(1);
    s.run(0, |net| operations::follow(net, 0, A));
    s.cut(0, &[A]);
    take_over(s, A);
    s.world.get().lose_for_ever(A);
}

/// A write that names what it replaces, at the successor of a master that was lost.
fn condition_over_a_takeover(s: &mut Script) {
    part(s);
    take_over(s, A);
    let (write, session) = (Write::delete(s.key(0)), s.session());
    s.run(0, |net| operations::write(net, write, true, session));
    heal(s);
}

pub const HOLES: &[Hole] = &[
    ("H6, K3: a copy", h6_k3_copy_of_a_retired_master, &[Rule::SourceAboveFloors]),
    ("K3: a page in flight", k3_page_over_a_retirement, &[Rule::SourceAboveFloors]),
    ("H8: alone", h8_alone, &[Rule::TrimAllVoters]),
    ("H11", h11_early_row, &[Rule::EarlyEntries]),
    ("H11: forgotten", h11_early_row, &[Rule::Reissue]),
    ("H11: left alone", h11_successor_left_alone, &[Rule::Reissue]),
    ("H12: before", h12_push_before_the_change, &[Rule::FenceFirst]),
    ("H12: after", h12_push_after_the_change, &[Rule::PushFence]),
    ("a push after a takeover", push_after_a_takeover, &[Rule::LateUncounted]),
    ("a follower of a retired log", follower_of_a_retired_log, &[]),
    ("H13", h13_fence_left_behind, &[Rule::Unfence]),
    ("H14", h14_all_origins, &[Rule::CatchUp]),
    ("H15: at home", h15_overwritten_at_home, &[Rule::LateKept]),
    ("H15: on arrival", h15_arrives, &[Rule::LateKept]),
    ("H16", h16_age_of_a_cut_off_master, &[Rule::AgeFromTopology]),
    ("H16: a session", h16_session_of_a_cut_off_master, &[Rule::SessionCovered]),
    ("H17", h17_follower_moves, &[]),
    ("H18", h18_accepted_by_one, &[Rule::QuorumRead]),
    ("H19", h19_lane_of_a_minority, &[]),
    ("K4", k4_retired_id, &[Rule::RetiredKept]),
    ("K6: the origin is lost", k6_carried_row, &[Rule::RowEntry]),
    ("K7", k7_old_topology, &[Rule::TopologyFresh]),
    ("K9: rows", k9_write_under_newer_rows, &[Rule::ApplyRaise]),
    ("K9: voters", k9_trim_with_old_voters, &[Rule::TrimEpoch]),
    ("a slot moves away", slot_moves_while_a_write_waits, &[Rule::Route]),
    ("a snapshot of a lost master", snapshot_of_a_lost_master, &[]),
    ("a condition over a takeover", condition_over_a_takeover, &[]),
];
