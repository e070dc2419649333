//! The service's record: its state, how it came there, and the operation that is under way.
//!
//! One record says all of it, and it is only ever changed under the version that was read: so a
//! transition is atomic, and of two operations at once one begins and the other one is told what
//! stands in its way. What is here is pure; [`super::Orchestrator`] reads and writes it.

use serde::{Deserialize, Serialize};

use super::operation::{Ended, Operation};
use super::state::State;

/// The name of the record.
pub const NAME: &str = "service";
/// So many changes of state are remembered.
pub const HISTORY_MAX: usize = 200;
/// Why a service is stopped.
const ENDED: &str = "all front ends have ended";

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// When: milliseconds since 1970 UTC, by the front end that made it.
    pub at_ms: i64,
    /// To which state.
    pub state: State,
    /// Why.
    pub reason: String,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The present state: the last one of the history.
    pub state: State,
    /// How it came there, the oldest first.
    pub history: Vec<Passage>,
    /// What is under way while the state is `ADAPTING`.
    pub operation: Option<Operation>,
    /// How often the service was told to end: a front end that was started before the last time
    /// drains.
    pub shutdowns: u64,
    /// How many names of read copies were given.
    #[serde(default)]
    pub next_copy: u16,
}

/// The state does not allow what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is {state}{}", .operation.as_ref().map_or_else(String::new, |id| format!(": {id} is under way")))]
pub struct WrongState {
    /// The present state.
    pub state: State,
    /// What is under way.
    pub operation: Option<String>,
}

impl Service {
    /// What stands where nothing was ever recorded: a service that runs since then.
    pub fn unrecorded(since_ms: i64) -> Self {
        let first = Passage { at_ms: since_ms, state: State::Init, reason: "founded".to_owned() };
        let (operation, shutdowns, next_copy) = (None, 0, 0);
        let mut service =
            Self { state: State::Init, history: vec![first], operation, shutdowns, next_copy };
        service.start(since_ms);
        service
    }

    /// What a front end does at its start. Whether that changed anything.
    pub fn start(&mut self, at_ms: i64) -> bool {
        let Some(way) = self.state.way_up() else { return false };
        for state in way {
            let reason = match state {
                State::Stopped => ENDED,
                State::Prologue => "a front end starts",
                State::Running | State::Init | State::Adapting | State::Epilogue | State::Error => {
                    "it serves"
                }
            };
            self.pass(*state, reason, at_ms);
        }
        true
    }

    /// An operation begins.
    pub fn begin(&mut self, operation: Operation) -> Result<(), WrongState> {
        if self.state != State::Running {
            return Err(self.wrong());
        }
        self.pass(State::Adapting, &operation.summary(), operation.started_ms);
        self.operation = Some(operation);
        Ok(())
    }

    /// The operation that is under way has come to its end. Returns it; `None`: it is not the one
    /// that is under way.
    pub fn finish(&mut self, id: &str, ended: Ended, at_ms: i64) -> Option<Operation> {
        let mut operation = self.operation.take_if(|operation| operation.id == id)?;
        let (state, reason) = match &ended {
            Ended::Done(what) => (State::Running, what.clone()),
            Ended::Failed(why) => (State::Running, format!("not done: {why}")),
            Ended::Stuck(why) => (State::Error, why.clone()),
        };
        self.pass(state, &reason, at_ms);
        operation.end(ended, at_ms);
        Some(operation)
    }

    /// The service is to end: from here on front ends drain.
    pub fn shut_down(&mut self, at_ms: i64) -> Result<(), WrongState> {
        if !self.state.may_become(State::Epilogue) {
            return Err(self.wrong());
        }
        self.shutdowns += 1;
        self.pass(State::Epilogue, "told to shut down", at_ms);
        Ok(())
    }

    /// The last front end has ended. Whether that changed anything.
    pub fn stopped(&mut self, at_ms: i64) -> bool {
        let ends = self.state == State::Epilogue;
        if ends {
            self.pass(State::Stopped, ENDED, at_ms);
        }
        ends
    }

    /// That the state does not allow it.
    pub fn wrong(&self) -> WrongState {
        let operation = self.operation.as_ref().map(|operation| operation.id.clone());
        WrongState { state: self.state, operation }
    }

    fn pass(&mut self, state: State, reason: &str, at_ms: i64) {
        debug_assert!(self.state.may_become(state), "{} to {state}", self.state);
        self.state = state;
        self.history.push(Passage { at_ms, state, reason: reason.to_owned() });
        let excess = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::operation::Kind;

    fn operation(id: &str) -> Operation {
        Operation::new(id.to_owned(), Kind::Clear, "f1", 10, 0)
    }

    fn states(service: &Service) -> Vec<State> {
        service.history.iter().map(|passage| passage.state).collect()
    }

    #[test]
    fn one_operation_at_a_time() {
        let mut service = Service::unrecorded(1);
        assert_eq!(states(&service), [State::Init, State::Prologue, State::Running]);
        service.begin(operation("a")).unwrap();
        let refused = service.begin(operation("b")).unwrap_err();
        assert_eq!((refused.state, refused.operation.as_deref()), (State::Adapting, Some("a")));
        assert_eq!(service.finish("b", Ended::Done("x".to_owned()), 11), None);
        assert_eq!(service.state, State::Adapting);
        let ended = service.finish("a", Ended::Done("x".to_owned()), 12).unwrap();
        assert_eq!((ended.ended_ms, service.state), (Some(12), State::Running));
        assert_eq!(service.history.last().unwrap().state, service.state);
    }

    #[test]
    fn it_is_shut_down_only_between_operations_and_starts_again() {
        let mut service = Service::unrecorded(1);
        service.begin(operation("a")).unwrap();
        assert_eq!(service.shut_down(2).unwrap_err().state, State::Adapting);
        service.finish("a", Ended::Failed("x".to_owned()), 3).unwrap();
        service.shut_down(4).unwrap();
        assert_eq!(service.begin(operation("b")).unwrap_err().state, State::Epilogue);
        assert_eq!(service.shut_down(5).unwrap_err().state, State::Epilogue);
        assert!(service.stopped(6) && !service.stopped(7));
        assert!(service.start(8) && !service.start(9));
        let last = [State::Epilogue, State::Stopped, State::Prologue, State::Running];
        assert_eq!(states(&service)[5..], last);
    }

    #[test]
    fn what_could_not_be_taken_back_is_an_error_until_the_next_start() {
        let mut service = Service::unrecorded(1);
        service.begin(operation("a")).unwrap();
        service.finish("a", Ended::Stuck("left behind".to_owned()), 3).unwrap();
        assert_eq!(service.begin(operation("b")).unwrap_err().state, State::Error);
        assert!(service.start(4));
        assert_eq!(service.state, State::Running);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut service = Service::unrecorded(1);
        for _ in 0..HISTORY_MAX {
            service.begin(operation("a")).unwrap();
            service.finish("a", Ended::Done(String::new()), 2).unwrap();
        }
        assert_eq!(service.history.len(), HISTORY_MAX);
        assert_eq!(service.history.last().unwrap().state, State::Running);
    }
}
