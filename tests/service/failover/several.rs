//! Two at once, and everything at once.
//!
//! **A master and a front end**: a majority is left of both kinds, so all goes on as with one.
//!
//! **A master, while a replica stands still**: no majority is left. Then nothing is acknowledged at
//! all, since nobody may take the slots over; reads go on at the third. As soon as the replica is
//! back the slots are taken over, without anybody's doing.
//!
//! **Everything**: all servers and all front ends are killed and started again in random order.
//! What was acknowledged stands afterwards as it does after any other loss.
//! `DATASTORE_FAILOVER_SEED` plays an order again that was printed.

use std::thread;

use super::load::{Fronts, Set, Told, rounds, two_front_ends, under_load};
use crate::process::Service;

#[test]
fn a_master_and_a_front_end_that_are_killed_at_once_are_replaced() {
    let (mut set, services) = two_front_ends();
    let fronts = Fronts::of(&services);
    let mut services = services.map(Some);
    for round in 0..rounds().0 {
        let (victim, nth) = (fronts.master(), round % services.len());
        println!("round {round}: store_{} and front end {nth}", victim + 1);
        let event = |set: &mut Set, _: &Told| {
            let service = services[nth].take().unwrap();
            service.signal("KILL");
            set.servers[victim].kill();
            service.wait();
        };
        under_load(&mut set, &fronts, true, event, |set| set.servers[victim].restart());
        assert_ne!(fronts.master(), victim, "its slots were taken over");
        let service = set.front_end();
        fronts.moved(nth, service.address());
        services[nth] = Some(service);
    }
    services.into_iter().flatten().for_each(Service::stop);
}

#[test]
fn a_master_that_is_killed_while_a_replica_stands_still_is_replaced_once_that_is_back() {
    let (mut set, services) = two_front_ends();
    let fronts = Fronts::of(&services);
    for round in 0..rounds().0 {
        let victim = fronts.master();
        let replica = (victim + 1 + round % 2) % 3;
        println!("round {round}: store_{}, and store_{} stands still", victim + 1, replica + 1);
        let event = |set: &mut Set, told: &Told| {
            set.servers[replica].stop();
            set.servers[victim].kill();
            told.wait_until_all_are_refused();
            let known = told.count();
            told.wait_until_all_are_refused();
            assert_eq!(told.count(), known, "two of three are away");
            set.servers[replica].resume();
        };
        under_load(&mut set, &fronts, false, event, |set| set.servers[victim].restart());
        assert_ne!(fronts.master(), victim, "its slots were taken over");
    }
    services.into_iter().for_each(Service::stop);
}

/// What is killed, and started again.
#[derive(Clone, Copy, Debug)]
enum One {
    Server(usize),
    FrontEnd(usize),
}

#[test]
fn everything_may_be_killed_and_started_again_in_any_order() {
    let asked = std::env::var_os("DATASTORE_FAILOVER_SEED");
    let parse = |seed: std::ffi::OsString| seed.to_str().unwrap().parse().unwrap();
    let seed: u64 = asked.map_or_else(|| fastrand::u64(..), parse);
    println!("DATASTORE_FAILOVER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut set, services) = two_front_ends();
    let fronts = Fronts::of(&services);
    let mut services: Vec<Option<Service>> = services.map(Some).into();
    for round in 0..rounds().0 {
        let mut down: Vec<One> = (0..3).map(One::Server).chain((0..2).map(One::FrontEnd)).collect();
        let mut up = down.clone();
        rng.shuffle(&mut down);
        rng.shuffle(&mut up);
        println!("round {round}: killed {down:?}, started {up:?}");
        let event = |set: &mut Set, told: &Told| {
            told.set_outage(true);
            for one in down {
                match one {
                    One::Server(nth) => set.servers[nth].kill(),
                    One::FrontEnd(nth) => services[nth].take().unwrap().kill(),
                }
            }
            start(set, &fronts, &mut services, &up);
            told.set_outage(false);
        };
        under_load(&mut set, &fronts, false, event, |_| {});
    }
    services.into_iter().flatten().for_each(Service::stop);
}

/// Starts everything in this order. A front end that comes before a majority of the servers is
/// started again and again until it runs, as a service manager does.
fn start(set: &mut Set, fronts: &Fronts, services: &mut [Option<Service>], order: &[One]) {
    let starter = set.starter();
    thread::scope(|scope| {
        let mut starting = Vec::new();
        for one in order {
            match *one {
                One::Server(nth) => set.servers[nth].restart(),
                One::FrontEnd(nth) => {
                    let starter = &starter;
                    starting.push((nth, scope.spawn(move || starter.start())));
                }
            }
        }
        for (nth, started) in starting {
            let service = started.join().unwrap();
            fronts.moved(nth, service.address());
            services[nth] = Some(service);
        }
    });
}
