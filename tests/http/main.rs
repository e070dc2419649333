//! The HTTP interface over a real store: on memory partitions, and where databases could make a
//! difference on SQLite files and MariaDB databases, too.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod acceptance;
mod ages;
mod batches;
mod changes;
mod copies;
mod documents;
mod feed;
mod fixture;
mod followers;
mod lists;
mod negotiation;
mod orchestrator;
mod original;
mod origins;
mod performance;
mod promotion;
mod properties;
mod races;
mod refusals;
mod service;
mod stream;
mod upkeep;
mod values;
mod voters;
mod wire;

#[path = "../support/mod.rs"]
mod support;
