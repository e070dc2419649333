//! The only place that reads time.
//!
//! Order never depends on a clock (see [`crate::version`]); time serves deadlines, ages, retention,
//! expiry and people. Whoever needs it is handed a [`Clock`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync {
    /// Since some fixed instant of this process; never goes back.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970 UTC, for expiry and for people; may step either way.
    fn wall_ms(&self) -> i64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct System {
    started: Instant,
}

impl System {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for System {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Stands still until told otherwise: for tests and the simulation.
#[derive(Debug, Default)]
pub struct Manual {
    monotonic_ms: AtomicU64,
    wall_ms: AtomicI64,
}

impl Manual {
    /// A clock that stands at `wall_ms`.
    pub fn at(wall_ms: i64) -> Self {
        Self { monotonic_ms: AtomicU64::new(0), wall_ms: AtomicI64::new(wall_ms) }
    }

    /// Lets `ms` milliseconds pass.
    pub fn advance_ms(&self, ms: u32) {
        self.monotonic_ms.fetch_add(ms.into(), Ordering::SeqCst);
        self.wall_ms.fetch_add(ms.into(), Ordering::SeqCst);
    }

    /// Steps the wall clock only, forward or back, as an operator or a time server does.
    pub fn step_wall_ms(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}
