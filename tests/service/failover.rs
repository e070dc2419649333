//! A lost master under load, on real servers: three MariaDB voters, two front ends that decide by
//! themselves, writers and readers at both.
//!
//! Whatever happens to the master: reads go on (one retry allowed), writes come back, what a
//! majority has acknowledged is in the store, what the master alone has acknowledged is in the
//! store or in the ledger, no version was given twice, and the old master becomes a replica by
//! itself. `DATASTORE_FAILOVER_ROUNDS` asks for more rounds, and has times held against the clock.
//! More than one at once: [`several`].

pub mod load;
mod several;

use self::load::{Fronts, Set, Told, rounds, two_front_ends, under_load};
use super::support::proxy::{Traffic, Way};

/// Plays rounds of one kind, each at whoever is the master by then.
fn rounds_of(event: impl Fn(&mut Set, usize), repair: impl Fn(&mut Set, usize)) {
    let (mut set, services) = two_front_ends();
    let fronts = Fronts::of(&services);
    for round in 0..rounds().0 {
        let victim = fronts.master();
        println!("round {round}: store_{}", victim + 1);
        under_load(&mut set, &fronts, true, |set, _| event(set, victim), |set| repair(set, victim));
        assert_ne!(fronts.master(), victim, "its slots were taken over");
    }
    let told = fronts.get("/admin/decisions").unwrap().json();
    let decisions = told["decisions"].as_array().unwrap();
    let taken = decisions.iter().find(|one| one["action"] == "take over").unwrap();
    assert!(taken["reason"].as_str().unwrap().contains("2 of 2 front ends"), "{taken}");
    for service in services {
        service.stop();
    }
}

#[test]
fn a_master_that_is_killed_is_replaced_and_comes_back_as_a_replica() {
    rounds_of(|set, nth| set.servers[nth].kill(), |set, nth| set.servers[nth].restart());
}

#[test]
fn a_master_that_stands_still_is_replaced() {
    rounds_of(|set, nth| set.servers[nth].stop(), |set, nth| set.servers[nth].resume());
}

/// It hears, and commits, and nobody hears of it: what it goes on with is late.
#[test]
fn a_master_that_is_cut_off_one_way_is_replaced() {
    rounds_of(
        |set, nth| set.proxies[nth].set(Way::ToClient, Traffic::Lost),
        |set, nth| {
            set.proxies[nth].heal();
            set.proxies[nth].cut();
        },
    );
}

/// The front end that takes over is killed, after each step that it tells of; the other one goes
/// on.
#[test]
fn a_front_end_that_is_killed_while_it_takes_over_is_not_needed() {
    for round in 0..rounds().0 {
        for step in ["is to be taken over", "fenced", "caught up", "the document was changed"] {
            println!("round {round}, after: {step}");
            let (mut set, services) = two_front_ends();
            let fronts = Fronts::of(&services);
            let [mut first, second] = services;
            let victim = fronts.master();
            let event = |set: &mut Set, _: &Told| {
                set.servers[victim].kill();
                // The other one may be faster.
                first.wait_for_either(step, "another topology is in use");
                first.kill();
            };
            under_load(&mut set, &fronts, false, event, |set| set.servers[victim].restart());
            second.stop();
        }
    }
}
