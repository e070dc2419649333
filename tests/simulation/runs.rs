//! Many histories: all clean without a plant; each plant found, on each of five seeds.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use datastore::rules::Rule;
use rstest::rstest;

use crate::bugs::{PLANTS, Plant};
use crate::history::{self, STEPS, Verdict};
use crate::scripts;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Within so many histories each planted bug and each missing rule is found: nearly all within a
/// few, the rarest (a follower past a floor, tombstones collected at once) within some 3,600.
const SEARCHED: u64 = 20_000;

/// Histories of the whole-run test; `scripts/soak` asks for more.
fn histories() -> u64 {
    number("DATASTORE_SIM_HISTORIES").unwrap_or(2000)
}

fn first_seed() -> u64 {
    number("DATASTORE_SIM_FIRST").unwrap_or(1)
}

/// Runs `count` histories from seed `first` on all cores until one has a violation that `stops`
/// cares for; returns it with its seed, and what was counted in all.
fn search(
    first: u64,
    count: u64,
    plant: Option<Plant>,
    stops: impl Fn(&Verdict) -> bool + Sync,
) -> (Option<(u64, Verdict)>, BTreeMap<&'static str, u64>, u64) {
    let next = AtomicU64::new(first);
    let end = AtomicU64::new(first + count);
    let found: Mutex<Option<(u64, Verdict)>> = Mutex::default();
    let counters: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let ran = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end.load(Ordering::SeqCst) {
                        return;
                    }
                    let verdict = history::run(seed, plant, false);
                    ran.fetch_add(1, Ordering::SeqCst);
                    for (what, times) in &verdict.counters {
                        *counters.lock().unwrap().entry(what).or_default() += times;
                    }
                    if stops(&verdict) {
                        end.store(0, Ordering::SeqCst);
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                            *found = Some((seed, verdict));
                        }
                    }
                }
            });
        }
    });
    (found.into_inner().unwrap(), counters.into_inner().unwrap(), ran.into_inner())
}

/// Steps that the schedule draws; each is at least one in 250.
const KINDS: &[&str] = &[
    "advance",
    "set",
    "set by majority",
    "delete",
    "update",
    "merge",
    "pass",
    "pass of the copy",
    "session read",
    "aged read",
    "follow",
    "trim",
    "reseed",
    "epoch",
    "take over",
    "hand over",
    "replace voters",
    "refresh",
    "crash",
    "restart",
    "cut",
    "heal",
    "kill",
    "burst",
    "sweep",
    "verify",
    "a hand at work",
    "an operator at work",
];

/// What must have happened somewhere, or the histories prove little.
const SOMETIMES: &[&str] = &[
    "crash took back a visible tail",
    "an outcome stayed unknown",
    "a batch of several writes",
    "a write replaced what it named",
    "a pull of several pages",
    "a pull read ahead",
    "a copy was seeded by its pass",
    "a copy fell below a floor",
    "a reseed came to its end",
    "a reseed's source changed",
    "tombstones were collected",
    "a session read was refused: behind",
    "a session read was served",
    "an age was told",
    "an age was unknown",
    "a bounded read was served",
    "a bounded read was refused: behind",
    "a bounded read was refused: nobody can know",
    "a follower was served",
    "a follower was reset",
    "a follower was sent elsewhere",
    "a page was newer than the topology",
    "an expired value was buried",
    "a hand changed a row",
    "verify put a row right",
    "a copy was put back",
    "a connection met an older copy",
    "the right database came back",
    "slots were taken over",
    "slots were handed over",
    "old cuts were dropped",
    "a fence was passed forward",
    "too few could be fenced",
    "a change lost against another",
    "a change was overtaken by another",
    "a voter was retired",
    "voters were settled",
    "a retired partition was emptied",
    "a partition was lost for ever",
    "a follower had seen what is gone",
    "refused: fenced",
    "refused: reseeding",
    "refused: source below a floor",
    "refused: another run",
];

#[test]
fn no_history_violates_an_invariant() {
    let (found, counters, ran) =
        search(first_seed(), histories(), None, |verdict| !verdict.violations.is_empty());
    if let Some((seed, verdict)) = found {
        panic!(
            "seed {seed}: {}\nreplay: DATASTORE_SIM_SEED={seed} cargo test --features ablation \
             --test simulation replay -- --nocapture",
            tell(&verdict)
        );
    }
    println!("{ran} histories of {STEPS} steps");
    for (what, times) in &counters {
        println!("{times:10}  {what}");
    }
    let steps: u64 = KINDS.iter().filter_map(|kind| counters.get(kind)).sum();
    for kind in KINDS {
        let times = counters.get(kind).copied().unwrap_or_default();
        assert!(times * 250 >= steps, "{kind}: {times} of {steps} steps, less than one in 250");
    }
    for what in SOMETIMES {
        assert!(counters.contains_key(what), "never happened: {what}");
    }
}

/// Every planted bug is found by its checker, from each of five first seeds.
#[rstest]
fn every_planted_bug_is_found(#[values(1, 100_000, 200_000, 300_000, 400_000)] first: u64) {
    for (plant, checker) in PLANTS {
        let caught = |verdict: &Verdict| verdict.violations.iter().any(|v| v.checker == *checker);
        let (found, _, ran) = search(first, SEARCHED, Some(*plant), caught);
        assert!(found.is_some(), "{plant:?} was not found by {checker} in {ran} histories");
        println!("{plant:?}: {checker} after {ran} histories");
    }
}

/// Every protective rule, taken away, is noticed: in the script of its hole, or by random
/// histories.
#[test]
fn a_missing_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    for rule in Rule::ALL {
        let scripted = scripts::all().find(|(_, _, rules)| rules.contains(rule));
        if let Some((name, script, rules)) = scripted {
            let found = scripts::play(*script, rules);
            assert!(!found.is_empty(), "{name}: nobody noticed the absence of {rules:?}");
            println!("{rules:?}: in script {name}");
            continue;
        }
        let plant = Plant::Without(std::slice::from_ref(rule));
        let any = |verdict: &Verdict| !verdict.violations.is_empty();
        let (found, _, ran) = search(first_seed(), SEARCHED, Some(plant), any);
        match found {
            Some((seed, verdict)) => println!(
                "{rule:?}: {} after {ran} histories (seed {seed})",
                verdict.violations[0].checker
            ),
            None => unnoticed.push(rule),
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed the absence of {unnoticed:?}");
}

/// `DATASTORE_SIM_SEED` is replayed with its trace; without it, the first seed without.
#[test]
fn replay() {
    let seed = number("DATASTORE_SIM_SEED");
    let rule = std::env::var("DATASTORE_SIM_WITHOUT").ok();
    let rule = Rule::ALL.iter().find(|known| Some(format!("{known:?}")) == rule);
    let plant = rule.map(|rule| Plant::Without(std::slice::from_ref(rule)));
    let first = history::run(seed.unwrap_or(1), plant, seed.is_some());
    for line in &first.trace {
        println!("{line}");
    }
    let second = history::run(seed.unwrap_or(1), plant, false);
    assert_eq!(first.counters, second.counters, "one seed is one history");
    assert!(seed.is_none() || first.violations.is_empty(), "{}", tell(&first));
}

fn tell(verdict: &Verdict) -> String {
    let line =
        |v: &crate::world::Violation| format!("{} at step {}: {}", v.checker, v.step, v.detail);
    verdict.violations.iter().map(line).collect::<Vec<_>>().join("\n")
}
