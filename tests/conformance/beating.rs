//! Heartbeats: rows of front ends, and how long each has been silent.

use datastore::partition::beat::{Beat, FORGET_MS};
use rstest::rstest;
use rstest_reuse::apply;

use crate::bed::{Bed, Kind, set};
use crate::engines;

fn beat(frontend: &str, beats: u64, silent_ms: i64, document: &str) -> Beat {
    Beat { frontend: frontend.into(), beats, silent_ms, document: document.into() }
}

#[apply(engines)]
fn a_beat_says_who_lives_and_silence_is_counted_by_the_partition(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    // A barrier writes to the same table, and is nobody.
    let run = home.connection.status().unwrap().run;
    home.connection.barrier(run).unwrap();
    assert_eq!(home.connection.beats().unwrap(), []);
    home.connection.beat("a", Some("{\"n\": 1}")).unwrap();
    bed.clock.advance_ms(700);
    let mut other = home.engine.connect().unwrap();
    other.beat("b", Some("ä")).unwrap();
    home.connection.beat("a", Some("{\"n\": 2}")).unwrap();
    bed.clock.advance_ms(300);
    let expected = [beat("a", 2, 300, "{\"n\": 2}"), beat("b", 1, 300, "ä")];
    assert_eq!(other.beats().unwrap(), expected);
    home.connection.beat("a", None).unwrap();
    home.connection.beat("nobody", None).unwrap();
    assert_eq!(other.beats().unwrap(), [beat("b", 1, 300, "ä")]);
}

#[apply(engines)]
fn who_has_long_been_silent_is_forgotten(kind: Kind) {
    let bed = Bed::new(kind);
    let mut home = bed.partition(1);
    home.connection.beat("gone", Some("{}")).unwrap();
    bed.clock.advance_ms(u32::try_from(FORGET_MS).unwrap());
    home.connection.beat("a", Some("{}")).unwrap();
    assert_eq!(home.connection.beats().unwrap().len(), 2);
    bed.clock.advance_ms(1);
    home.connection.beat("a", Some("{}")).unwrap();
    assert_eq!(home.connection.beats().unwrap(), [beat("a", 2, 0, "{}")]);
}

#[apply(engines)]
fn beats_are_no_data(kind: Kind) {
    let mut home = Bed::new(kind).partition(1);
    home.write(&[set("k", "v")]);
    let before = home.connection.status().unwrap();
    home.connection.beat("a", Some("{}")).unwrap();
    assert_eq!(home.connection.status().unwrap(), before, "no log, no clock");
}
