//! Lanes: the only bridge between requests and a partition's blocking connections.

pub mod batch;
