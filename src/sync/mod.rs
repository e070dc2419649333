//! Sync: copying changes lazily until all partitions hold the same rows (CONV-1).
//!
//! The protocol, as plain functions over open connections: [`pass`] pulls what a target lacks;
//! [`barrier`] keeps what a crash could take back from leaving; [`trim`] keeps logs short;
//! [`reseed`] makes a copy anew. Over it, what one front end does: a [`round`] has every [`target`]
//! pull from all its sources at once, each read [`ahead`] on a thread of its own, after all were
//! asked where they stand ([`standings`]), and writes the [`report`]. Schedules, and the threads of
//! the targets, come from above.

pub mod ahead;
pub mod barrier;
pub mod ledger;
pub mod pass;
pub mod report;
pub mod reseed;
pub mod round;
pub mod standings;
pub mod sweep;
pub mod target;
pub mod trim;
pub mod verify;
