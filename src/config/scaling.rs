//! `[scaling]` and `[chaos]`: read copies that come and go while the service
//! runs.

use std::fmt;
use std::time::Duration;

use crate::partition::mysql::MysqlUrl;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the databases of new read copies come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provision {
    /// A file under the data root.
    #[default]
    Sqlite,
    /// A private server under the data root.
    Mariadb,
    /// A database out of `scaling.standby`.
    Standby,
}

impl Provision {
    /// The one of this name.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "sqlite" => Some(Self::Sqlite),
            "mariadb" => Some(Self::Mariadb),
            "standby" => Some(Self::Standby),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mariadb => "mariadb",
            Self::Standby => "standby",
        }
    }
}

/// `[scaling]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingConfig {
    /// Whether read copies are added and removed by themselves.
    pub enabled: bool,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// At least so many copies.
    pub min: usize,
    /// At most so many copies.
    pub max: usize,
    /// A copy for so many reads in a window.
    pub reads_per_copy: usize,
    /// Over how long reads are counted.
    pub window: Duration,
    /// How long nothing is changed after a change.
    pub cooldown: Duration,
    /// How far reads must lie below a boundary for a copy to go, in percent of `reads_per_copy`.
    pub hysteresis_percent: usize,
    /// Where the databases come from.
    pub provisioner: Provision,
    /// Empty databases that may be taken.
    pub standby: Vec<MysqlUrl>,
}

impl Default for ScalingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            dry_run: false,
            min: 1,
            max: 4,
            reads_per_copy: 20,
            window: Duration::from_secs(120),
            cooldown: Duration::from_secs(240),
            hysteresis_percent: 10,
            provisioner: Provision::Sqlite,
            standby: Vec::new(),
        }
    }
}

/// `[chaos]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChaosConfig {
    /// Whether servers may be killed on purpose.
    pub enabled: bool,
}
