//! Plays the scripted histories: clean with all rules, noticed without those that close the hole.

use datastore::rules::Rule;
use datastore::rules::ablation::without;
use rstest::rstest;

use crate::holes::{A, COPY, HOLES, Hole, Script};
use crate::{restores, takeovers, upkeep, voters};

/// Plays a script without some rules; what the checkers found.
pub fn play(script: fn(&mut Script), rules: &[Rule]) -> Vec<String> {
    without(rules, || {
        let mut script_state = Script::new();
        script(&mut script_state);
        script_state.found()
    })
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Hole> {
    let around = [restores::HOLES, takeovers::HOLES, voters::HOLES];
    HOLES.iter().chain(around.into_iter().flatten())
}

#[test]
fn every_hole_is_closed() {
    for (name, script, _) in all() {
        let found = play(*script, &[]);
        assert!(found.is_empty(), "{name}: {}", found.join("\n"));
    }
}

#[test]
fn every_hole_opens_without_its_rule() {
    let mut unnoticed = Vec::new();
    for (name, script, rules) in all().filter(|(_, _, rules)| !rules.is_empty()) {
        match play(*script, rules).first() {
            Some(found) => println!("{name} without {rules:?}: {found}"),
            None => unnoticed.push((name, rules)),
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed the absence of {unnoticed:?}");
}

/// What a takeover, or the register, must not leave out: each is caught in its own history.
#[rstest]
#[case::no_fence(Rule::FenceFirst)]
#[case::promotion_without_catching_up(Rule::CatchUp)]
#[case::early_rows_not_read(Rule::EarlyEntries)]
#[case::early_rows_forgotten(Rule::Reissue)]
#[case::ledger_skipped(Rule::LateKept)]
#[case::ledger_counted(Rule::LateUncounted)]
#[case::register_read_from_one_acceptor(Rule::QuorumRead)]
#[case::acceptors_of_the_value_before(Rule::OwnElectorate)]
#[case::acceptors_that_forgot(Rule::SameIncarnation)]
#[case::voters_before_not_fenced(Rule::FenceBefore)]
fn each_bug_of_a_takeover_is_caught(#[case] missing: Rule) {
    let own: Vec<&Hole> = all().filter(|(_, _, rules)| rules == &[missing]).collect();
    assert!(!own.is_empty(), "{missing:?} has no history of its own");
    for (name, script, rules) in own {
        assert!(!play(*script, rules).is_empty(), "{name}: nobody noticed");
    }
}

/// VERIFY: what a master shows may be taken back by a crash, and its numbers are jumped over then;
/// whoever has come past them is not held to lack it. The crash comes wherever it may.
#[test]
fn nothing_is_missing_that_a_crash_takes_back() {
    for steps in 0..60 {
        let mut s = Script::new();
        s.set(0, 0);
        s.sync_voters(0);
        s.set_visible(0, 0);
        let verify = s.hold(0, upkeep::run_verify);
        for _ in 0..steps {
            s.step(&verify);
        }
        s.crash(A);
        s.restart(A);
        s.set(1, 1);
        s.sync_voters(1);
        s.pull(1, COPY, A);
        s.finish();
        let found = s.found();
        assert!(found.is_empty(), "after {steps} steps: {}", found.join("\n"));
    }
}
