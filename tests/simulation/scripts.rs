//! Plays the scripted histories: clean with all rules, noticed without those that close the hole.

use datastore::rules::Rule;
use datastore::rules::ablation::without;

use crate::holes::{HOLES, Hole, Script};
use crate::takeovers;

/// Plays a script without some rules; what the checkers found.
pub fn play(script: fn(&mut Script), rules: &[Rule]) -> Vec<String> {
    without(rules, || {
        let mut script_state = Script::new();
        script(&mut script_state);
        script_state.found()
    })
}

/// Those of this module, and those around ownership.
pub fn all() -> impl Iterator<Item = &'static Hole> {
    HOLES.iter().chain(takeovers::HOLES)
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
