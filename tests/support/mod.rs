//! What test binaries share: private database servers, and a way to them that breaks on command.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod mariadb;
pub mod proxy;
