//! Sync: copying changes lazily until all partitions hold the same rows (CONV-1).
//!
//! [`pass`] pulls what a target lacks; [`barrier`] keeps what a crash could take back from leaving;
//! [`trim`] keeps logs short; [`reseed`] makes a copy anew. All are plain functions over open
//! connections. [`round`] runs them over all partitions and writes the [`report`]; threads and
//! schedules come from above.

pub mod barrier;
pub mod pass;
pub mod report;
pub mod reseed;
pub mod round;
pub mod trim;
