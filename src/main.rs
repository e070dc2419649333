//! The `datastore` binary.

fn main() {}
