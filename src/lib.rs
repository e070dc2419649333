//! A key-value web service over the MySQL and MariaDB servers you already run: write to the master,
//! read from any. ARCHITECTURE.md is the map; each module's documentation is its design.

pub mod clock;
pub mod duration;
pub mod feed;
pub mod http;
pub mod jobs;
pub mod lane;
pub mod partition;
pub mod record;
pub mod rules;
pub mod session;
pub mod store;

pub mod sync;
pub mod topology;
pub mod vector;
pub mod version;
pub mod write;
