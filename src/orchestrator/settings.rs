//! What of the configuration concerns the orchestrator.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::scaling::{ScalingConfig, Secret};

/// What can be set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The data root: databases that are made live under it.
    pub root: PathBuf,
    /// Comes before the name of every database.
    pub database_prefix: String,
    /// The largest value: databases that are added have to take it.
    pub value_bytes_max: usize,
    /// How many copies there are to be, and where from.
    pub scaling: ScalingConfig,
    /// What passwords are sealed with.
    pub key: Option<Secret>,
    /// Whether servers may be killed on purpose.
    pub chaos: bool,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            root: config.store.root.clone(),
            database_prefix: config.store.database_prefix.clone(),
            value_bytes_max: config.store.value_bytes_max,
            scaling: config.scaling.clone(),
            key: config.key.clone(),
            chaos: config.chaos.enabled,
        }
    }
}
