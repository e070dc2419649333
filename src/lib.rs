//! A key-value web service over the MySQL and MariaDB servers you already run: write to the master,
//! read from any. ARCHITECTURE.md is the map; each module's documentation is its design.

// Values: nothing here reads a clock or talks to anybody, but for `clock` itself.
pub mod clock;
pub mod duration;
pub mod merge;
pub mod performance;
pub mod record;
pub mod rules;
pub mod topology;
pub mod vector;
pub mod version;
pub mod write;

// The protocol over open connections.
pub mod ack;
pub mod age;
pub mod founding;
pub mod orchestrator;
pub mod partition;
pub mod register;
pub mod session;
pub mod sync;

// One front end.
pub mod cli;
pub mod client;
pub mod config;
pub mod failover;
pub mod feed;
pub mod frontends;
pub mod http;
pub mod jobs;
pub mod lane;
pub mod roster;
pub mod secret;
pub mod server;
pub mod store;
pub mod subscription;
pub mod upkeep;
