//! Sync: copying changes lazily until all partitions hold the same rows (CONV-1).
//!
//! [`pass`] pulls what a target lacks; [`barrier`] keeps what a crash could take back from leaving;
//! [`trim`] keeps logs short; [`reseed`] makes a copy anew. All are plain functions over open
//! connections: whoever calls them brings threads, schedules and reports.

pub mod barrier;
pub mod pass;
pub mod reseed;
pub mod trim;
