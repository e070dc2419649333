//! One suite for every engine: what a partition promises ([`datastore::partition`]), asked of each.
//!
//! A new engine is one more [`bed::Kind`] and one more case in [`engines`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod beating;
mod bed;
mod bytes;
mod copying;
mod failover;
mod keeping;
mod opening;
mod reading;
mod restoring;
mod schema;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;
mod upkeep;
mod voting;
mod writing;

use rstest_reuse::{self, template};

#[template]
#[rstest]
#[case::memory(crate::bed::Kind::Memory)]
#[case::sqlite(crate::bed::Kind::Sqlite)]
#[case::mariadb(crate::bed::Kind::Mariadb)]
fn engines(#[case] kind: Kind) {}
