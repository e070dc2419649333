//! The real binary, as a process: what a user does, what an operator gets wrong, and what a crash
//! may not take away.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod acceptance;
mod added;
mod browser;
mod client;
mod commands;
mod console;
mod copies;
mod crash;
mod failover;
mod faults;
mod feed;
mod index;
mod memory;
mod orchestrator;
mod process;
mod promotion;
mod put_back;
mod readme;
mod refusals;
mod requests;
mod restore;
mod room;
mod servers;
mod shutdown;
mod stream;
mod taken_back;
mod tokens;
mod unit;
mod verbs;
mod voters;

#[path = "../support/mod.rs"]
mod support;
