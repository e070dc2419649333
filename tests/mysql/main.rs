//! What is the MySQL engine's own: servers that crash, stall, refuse and are set oddly, and ways to
//! them that break. What every engine promises is in `tests/conformance`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bed;
mod crash;
mod faults;
mod lanes;
mod late;
mod moved;
mod plans;
mod rights;
mod rows;
mod stopped;
#[path = "../support/mod.rs"]
mod support;
mod sync;
mod tls;
mod verify;
