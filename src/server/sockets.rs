//! What clients' sockets may cost.

use std::any::Any;
use std::time::Duration;

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tracing::{info, warn};

/// How long a client may leave unread what was sent to it. Then the kernel ends the connection: a
/// client that never reads holds its share of memory no longer than this.
const UNREAD: Duration = Duration::from_secs(60);

/// Bounds a new connection.
pub fn bound(connection: &dyn Any, _: &mut Extensions) {
    let Some(socket) = connection.downcast_ref::<TcpStream>() else { return };
    let unread_ms = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(socket, TcpUserTimeout, &unread_ms) {
        warn!(%error, "a connection has no limit for what its client leaves unread");
    }
}

/// Followers need a file descriptor each: takes as many as the system allows this process.
pub fn allow_many() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(descriptors) => info!(descriptors, "open files"),
        Err(error) => warn!(%error, "the limit of open files stays as it is"),
    }
}
