//! `/admin/`: what operators ask of the set. Always JSON.

pub mod conflicts;
pub mod verify;
