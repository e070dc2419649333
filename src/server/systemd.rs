//! What the service manager is told: ready, stopping, still alive. Without one, nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The service takes requests now.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is draining; `patience` is how long that may take.
pub fn stopping(patience: Duration) {
    let patience_us = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("draining"),
        NotifyState::ExtendTimeoutUsec(patience_us),
    ]);
}

/// The service makes progress. A manager with `WatchdogSec=` restarts it where this stays out.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}
