//! The composition root: from a configuration to a service that takes requests, and back.
//!
//! [`serve`] is the one place that knows all parts; each of them is handed what it uses and nothing
//! more. The order is that of refusal: what can be told from the configuration alone comes first,
//! then the address, and only then are partitions opened, so that a second service on one address
//! or a wrong configuration changes nothing anywhere.

pub mod logging;
pub mod open;
mod pulse;
mod scheduler;
mod shutdown;
mod systemd;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpServer};
use arc_swap::ArcSwap;
use tokio::time::interval;
use tokio_cron_scheduler::JobSchedulerError;
use tracing::{info, warn};

use self::open::{Engines, OpenError, Opened};
use self::scheduler::Scheduler;
use self::shutdown::Signals;
use crate::clock::{Clock, System};
use crate::config::{Config, ServerConfig};
use crate::founding::Founding;
use crate::http::guard::{HostNameError, HostPolicy};
use crate::http::health::Draining;
use crate::http::{HttpLimits, Pieces};
use crate::jobs::SyncJob;
use crate::lane::LaneLimits;
use crate::store::{Store, StoreParts};
use crate::sync::round::{Round, chain};

/// How often the partitions are tried at the start, and how long that is in all: longer than
/// another front end takes to found a set, shorter than a supervisor's patience.
const OPEN_ATTEMPTS: u32 = 12;
const OPEN_INTERVAL: Duration = Duration::from_millis(250);

/// Why a service did not start, or ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody could write.
    #[error(
        "server.listen = {listen} can be reached by others, and nobody has to say who they are; \
         listen on 127.0.0.1, or give --insecure if the network is trusted"
    )]
    NotLoopback {
        /// The configured address.
        listen: SocketAddr,
    },
    /// Somebody listens there already.
    #[error(
        "{listen} is in use: another service, or another `datastore serve`, listens there; \
         stop it, or set server.listen to another address"
    )]
    InUse {
        /// The configured address.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}; set server.listen to an address of this machine")]
    Listen {
        /// The configured address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The partitions are not those that were configured, or cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A host name that requests cannot carry.
    #[error("server.hosts")]
    Hosts(#[from] HostNameError),
    /// The system gives no thread, timer or signal.
    #[error("the operating system does not give what a service needs")]
    System(#[from] io::Error),
    /// The cron trigger does not run.
    #[error("the schedule of sync cannot be started")]
    Schedule(#[from] JobSchedulerError),
}

/// Runs a service until a signal ends it. `insecure`: whoever reaches the address may write.
pub fn serve(config: Config, insecure: bool) -> Result<(), ServeError> {
    let listen = config.server.listen;
    if !listen.ip().is_loopback() && !insecure {
        return Err(ServeError::NotLoopback { listen });
    }
    let listener = bind(listen)?;
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    actix_web::rt::System::new().block_on(async {
        let opened = open_patiently(&config, &clock).await?;
        run(config, opened, listener, clock).await
    })
}

/// Opens the partitions, or founds them. Where another front end is founding them at this moment,
/// or one of them is just starting, it waits a little.
async fn open_patiently(config: &Config, clock: &Arc<dyn Clock>) -> Result<Opened, ServeError> {
    let engines = Engines::new(config, clock)?;
    for (partition, settings) in engines.servers(config)? {
        let relaxed = settings.relaxed();
        if relaxed.is_empty() {
            info!(partition, %settings, "server");
        } else {
            warn!(partition, %settings, "a crash of this server may take acknowledged writes along");
        }
    }
    let mut attempts = interval(OPEN_INTERVAL);
    for _ in 1..OPEN_ATTEMPTS {
        attempts.tick().await;
        match engines.open(config, Founding::IfAllEmpty) {
            Err(error) if error.may_pass() => {
                warn!(error = chain(&error), "the partitions cannot be opened yet");
            }
            opened => return Ok(opened?),
        }
    }
    attempts.tick().await;
    Ok(engines.open(config, Founding::IfAllEmpty)?)
}

fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            ServeError::InUse { listen }
        } else {
            ServeError::Listen { listen, source }
        }
    })
}

async fn run(
    config: Config,
    opened: Opened,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    let partitions = opened.describe();
    let set = opened.set.set;
    for missing in &opened.set.unreachable {
        warn!("served without partition {missing}, until it can be asked");
    }
    let (store, sync) = start(&config, opened, &clock)?;
    let draining = Arc::new(Draining::default());
    let pieces = Pieces::new(
        Arc::clone(&store),
        Arc::clone(&sync),
        limits(&config),
        HostPolicy::new(&[address], &config.server.hosts)?,
        Arc::clone(&draining),
    );
    let server = HttpServer::new(move || App::new().configure(|cfg| pieces.configure(cfg)))
        .disable_signals()
        // Answers are written whole: waiting for the client's acknowledgement only delays the end.
        .tcp_nodelay(true)
        .shutdown_timeout(shutdown::grace_seconds(&config.server))
        .listen(listener)?
        .run();
    // From here on a signal drains instead of killing.
    let signals = Signals::listen()?;
    let handle = server.handle();
    let stop = shutdown::on_signal(signals, config.server, move || draining.begin(), handle);
    actix_web::rt::spawn(stop);
    if config.sync.eager {
        // What an earlier life had no time to copy.
        sync.wake();
    }
    let job = Arc::clone(&sync);
    let wake = move || {
        job.wake();
    };
    let scheduler = Scheduler::start(config.sync.schedule, clock, wake).await?;
    let pulse = actix_web::rt::spawn(pulse::beat(Arc::clone(&store)));
    info!(%address, %set, partitions, "listening on http://{address}");
    systemd::ready(&format!("listening on {address}"));
    server.await?;
    pulse.abort();
    // Cancelled, as it should be; from here on it holds nothing.
    drop(pulse.await);
    scheduler.stop().await;
    // Web workers let go of their parts a moment after the server has ended. As the last owner we
    // end the lanes, then the job, each after what it has begun, and close every connection.
    shutdown::last_owner(&store).await;
    drop((store, sync));
    info!("stopped");
    Ok(())
}

/// Starts the sync job and the lanes.
fn start(
    config: &Config,
    opened: Opened,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Store>, Arc<SyncJob>), ServeError> {
    let topology = Arc::new(ArcSwap::from_pointee(opened.set.topology.clone()));
    let round = Round::start(
        opened.members(),
        Arc::clone(&topology),
        Arc::clone(clock),
        config.sync.log_retention,
    )?;
    let sync = Arc::new(SyncJob::start(round)?);
    let store = Store::start(StoreParts {
        set: opened.set.set,
        topology,
        partitions: opened.served(),
        clock: Arc::clone(clock),
        deadline: config.server.deadline,
        ack_timeout: config.store.ack_timeout,
        sync: Arc::clone(&sync),
        eager: config.sync.eager,
        limits: LaneLimits::default(),
    })?;
    Ok((Arc::new(store), sync))
}

fn limits(config: &Config) -> HttpLimits {
    let ServerConfig { deadline, body_budget_bytes, .. } = config.server;
    HttpLimits {
        key_bytes_max: config.store.key_bytes_max,
        value_bytes_max: config.store.value_bytes_max,
        body_budget_bytes,
        body_deadline: deadline,
    }
}
