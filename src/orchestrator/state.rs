//! The states of the service: a closed table.
//!
//! ```text
//! INIT → PROLOGUE → RUNNING ⇄ ADAPTING
//!            ↑         ↓
//!            |      EPILOGUE → STOPPED → PROLOGUE
//!          ERROR ← from all but INIT and STOPPED; on to PROLOGUE or EPILOGUE
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Founded, and nothing more.
    Init,
    /// Starting.
    Prologue,
    /// All is as it was asked for; an operation may begin.
    Running,
    /// One operation is under way.
    Adapting,
    /// Front ends drain and end.
    Epilogue,
    /// All front ends have ended.
    Stopped,
    /// An operation left something behind that it could not take back.
    Error,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Init,
        Self::Prologue,
        Self::Running,
        Self::Adapting,
        Self::Epilogue,
        Self::Stopped,
        Self::Error,
    ];

    /// Its name outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Prologue => "PROLOGUE",
            Self::Running => "RUNNING",
            Self::Adapting => "ADAPTING",
            Self::Epilogue => "EPILOGUE",
            Self::Stopped => "STOPPED",
            Self::Error => "ERROR",
        }
    }

    /// What may come after it.
    pub const fn successors(self) -> &'static [Self] {
        match self {
            Self::Init | Self::Stopped => &[Self::Prologue],
            Self::Prologue => &[Self::Running, Self::Epilogue, Self::Error],
            Self::Running => &[Self::Adapting, Self::Epilogue, Self::Error],
            Self::Adapting => &[Self::Running, Self::Error],
            Self::Epilogue => &[Self::Stopped, Self::Error],
            Self::Error => &[Self::Prologue, Self::Epilogue],
        }
    }

    /// Whether `next` may come after it.
    pub fn may_become(self, next: Self) -> bool {
        self.successors().contains(&next)
    }

    /// The way from here to `RUNNING` that a front end takes at its start; `None`: it is there, or
    /// an operation is under way.
    pub const fn way_up(self) -> Option<&'static [Self]> {
        match self {
            Self::Running | Self::Adapting => None,
            Self::Prologue => Some(&[Self::Running]),
            Self::Init | Self::Stopped | Self::Error => Some(&[Self::Prologue, Self::Running]),
            // Whoever drained has ended, or would have said so.
            Self::Epilogue => Some(&[Self::Stopped, Self::Prologue, Self::Running]),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_closed() {
        for state in State::ALL {
            assert!(!state.successors().is_empty(), "{state} is no dead end");
            assert!(!state.may_become(state), "{state}");
            assert!(!state.may_become(State::Init), "{state}: nothing leads back to the beginning");
            let stored = serde_json::to_string(&state).unwrap();
            assert_eq!(stored, format!("\"{state}\""));
            assert_eq!(serde_json::from_str::<State>(&stored).unwrap(), state);
        }
    }

    #[test]
    fn only_running_adapts_and_adapting_cannot_be_shut_down() {
        for state in State::ALL {
            assert_eq!(state.may_become(State::Adapting), state == State::Running, "{state}");
        }
        assert!(State::Running.may_become(State::Epilogue));
        assert!(!State::Adapting.may_become(State::Epilogue));
    }

    #[test]
    fn every_way_up_is_a_way_and_ends_running() {
        for state in State::ALL {
            let Some(way) = state.way_up() else { continue };
            let mut at = state;
            for next in way {
                assert!(at.may_become(*next), "{at} to {next}");
                at = *next;
            }
            assert_eq!(at, State::Running);
        }
    }
}
