//! What test binaries share: private database servers, a way to them that breaks on command, and a
//! store over masters of any kind.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

pub mod mariadb;
pub mod masters;
pub mod meddle;
pub mod proxy;
