//! The protocol under attack: the project's own code over simulated servers, one seed a history.
//!
//! A history has two to four voters, at times a witness or two, a read copy, two or three front
//! ends and a few keys; slots change hands, planned and not, voters come and go, and one may be
//! lost for ever. Every operation (a lane's batch, a push, a pass, a trim, a reseed, a session
//! read, a feed page, a takeover) is a coroutine that runs the functions of `src/` and may be
//! stopped before any transaction and between the moment a commit is visible and the moment it is
//! durable, resumed much later, or killed there. Servers crash and lose what was visible but not
//! durable; front ends are cut off from servers.
//!
//! What counts as failure:
//!
//! | checker | when | failure |
//! |---|---|---|
//! | VEC-1 | every step | a partition lacks a version that its cursors cover |
//! | LOG-1 | every step | a row above its origin's floor stands without its log entry |
//! | CUR-1 | every step | a cursor lies above its origin's durable clock, or below the own floor |
//! | BAR-1 | every step | a row or entry stands elsewhere, or was given to a follower, that a crash of its origin can still take back |
//! | VER-1 | every write | a version is given twice, or does not rise over a write acknowledged before it began |
//! | FENCE-1 | every write | a commit under an epoch below the clock's or below one that was accepted, or a clock that goes down |
//! | ACK-1 | every crash and acknowledgement, at quiet | an acknowledged write is lost; one by a majority is on fewer than a majority |
//! | EXACT | at quiet | an acknowledged write has replaced another version than the one it named |
//! | RYW-1 | every session read | a row older than what the session has seen |
//! | AGE-1 | every read | a row older than the age that is told with it |
//! | FEED-1 | at quiet | a follower's state is not the store's |
//! | DEL-1 | at quiet | an acknowledged delete is undone by an older row |
//! | CONV-1 | at quiet | two partitions hold different rows |
//! | TTL | every write | a value that is not over is buried, and no client asked |
//! | VERIFY | every verify pass | a row is put right that nobody has changed |
//! | RESTORE | every transaction | a front end works over an older copy of a database that shows |
//! | REGISTER | whenever a front end acts on a topology | two topologies of one revision, or two assignments of one epoch |
//! | LOSS-1 | at quiet | an acknowledged write neither stands, nor was knowingly replaced, nor is in a ledger |
//! | FLOOR | every pass | an active voter is below a floor: it would have to be reseeded |
//! | LIVE | at quiet | a master does not take writes, or a copy does not come back |
//!
//! What does not: a request that fails, an outcome that stays unknown, a read that is refused, a
//! value read at its master that a crash takes back before it was durable.
//!
//! Replay: `DATASTORE_SIM_SEED=<seed> cargo test --features ablation --test simulation replay`.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]
#![allow(clippy::disallowed_methods, reason = "sizes and seeds come from the environment")]

mod ages;
mod bugs;
mod check;
mod front;
mod history;
mod holes;
mod link;
mod loss;
mod operations;
mod ownership;
mod restores;
mod runs;
mod scripts;
mod takeovers;
mod upkeep;
mod voters;
mod world;
