//! Routes one read or one write.

pub mod answer;
pub mod reader;
