//! How a front end ends: SIGTERM, SIGINT, or the service is told to; nothing that was accepted is
//! dropped.
//!
//! 1. `/readyz` fails, and a balancer sends nothing more (`server.drain_delay`).
//! 2. The listener closes; requests in flight go on (`server.shutdown_deadline`).
//! 3. The caller stops what the requests needed: the job, the lanes, the connections.
//!
//! A second signal skips what is left of 1 and 2. Writes that were acknowledged are durable before
//! they are answered, so even `kill -9` loses none; draining is for the requests that are not
//! answered yet.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use super::systemd;
use crate::config::ServerConfig;
use crate::duration;

/// The signals that end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How long, in steps of how much, others may take to let go of what they share.
const LET_GO_STEPS: u32 = 200;
const LET_GO_STEP: Duration = Duration::from_millis(10);

/// Waits until nobody else holds `shared`, or for two seconds.
pub async fn last_owner<T>(shared: &Arc<T>) {
    let mut steps = interval(LET_GO_STEP);
    for _ in 0..LET_GO_STEPS {
        if Arc::strong_count(shared) == 1 {
            return;
        }
        steps.tick().await;
    }
    warn!("somebody still holds the store; its connections end with the process");
}

impl Signals {
    /// From now on the signals do not kill the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and says its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for a signal, or for `told`, and takes the server through steps 1 and 2; `fail_readiness`
/// is step 1.
pub async fn on_signal(
    mut signals: Signals,
    told: impl Future<Output = ()>,
    config: ServerConfig,
    fail_readiness: impl FnOnce(),
    server: ServerHandle,
) {
    let name = tokio::select! {
        name = signals.next() => name,
        () = told => "told to shut down",
    };
    fail_readiness();
    let patience = config.drain_delay + config.shutdown_deadline;
    systemd::stopping(patience + Duration::from_secs(1));
    info!(
        signal = name,
        "{name}: draining, for at most {}; another signal stops at once",
        duration::format(patience)
    );
    let hurry = timeout(config.drain_delay, signals.next()).await.is_ok();
    if !hurry {
        tokio::select! {
            () = server.stop(true) => return,
            _ = signals.next() => {}
        }
    }
    warn!("stopped at once; requests in flight were cut");
    server.stop(false).await;
}

/// The grace of the HTTP server counts whole seconds.
pub fn grace_seconds(config: &ServerConfig) -> u64 {
    let whole = config.shutdown_deadline.as_secs();
    if config.shutdown_deadline.subsec_nanos() > 0 { whole + 1 } else { whole }
}
