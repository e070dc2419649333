//! The register and the change of ownership, checked exhaustively within small bounds.
//!
//! Random histories (`tests/simulation`) meet what is likely; here every order of steps is tried.
//! [`voters`] is the register alone, while two proposers change its voters; [`ownership`] is
//! register, fence, takeover and the return of a lost master with late writes. Both play with the
//! functions of `src/register/ballots.rs`; the rest is stated anew, small enough to be exhausted.
//! Bounds: two proposers with two ballots each (of the second one that takes over: one, unless
//! `DATASTORE_MODEL_WIDE` is set, which takes minutes), two writes, one return; a crash anywhere is
//! a step that never comes.
//!
//! Each mutant takes one protective rule away and has to be caught.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "bounds come from the environment")]

mod ownership;
mod voters;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// Visits every state; prints how many there are.
fn exhaust<M>(name: &str, model: M) -> impl Checker<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: PartialEq + Clone,
{
    let checked = model.checker().threads(2).spawn_dfs().join();
    println!("{name}: {} states, depth {}", checked.unique_state_count(), checked.max_depth());
    checked
}

/// The steps to the first state that violates a property.
fn first_failure<M>(model: M, property: &'static str) -> Vec<M::Action>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: PartialEq + Clone,
{
    let found = HasDiscoveries::AnyOf([property].into());
    let checked = model.checker().threads(2).finish_when(found).spawn_bfs().join();
    let path = checked.discovery(property).unwrap_or_else(|| panic!("not caught: {property}"));
    path.into_actions()
}
