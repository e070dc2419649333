//! Log lines, on standard error.
//!
//! A failure is logged once, where it is handled, in a line that can be read alone. `RUST_LOG` sets
//! what is shown; by default everything from *info* up, and from *warn* up of the two crates that
//! tell at *info* how they work rather than what happened.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config;

/// What is shown unless `RUST_LOG` says otherwise.
const DEFAULT: &str = "info,actix_server=warn,tokio_cron_scheduler=warn";

/// `RUST_LOG` cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG={value:?} is no log filter; write for example info or datastore=debug")]
pub struct LoggingError {
    value: String,
    #[source]
    source: ParseError,
}

/// Starts logging; a second call changes nothing.
pub fn start() -> Result<(), LoggingError> {
    let value = config::log_filter().unwrap_or_else(|| DEFAULT.to_owned());
    let filter = EnvFilter::builder()
        .parse(&value)
        .map_err(|source| LoggingError { value: value.clone(), source })?;
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Else a line that cannot be written, since whoever read them has gone, is told on standard
        // error, too, and that panics in whatever thread had something to say.
        .log_internal_errors(false)
        .try_init();
    // Whoever started it before has decided.
    drop(started);
    Ok(())
}
