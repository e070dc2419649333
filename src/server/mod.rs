//! The composition root: from a configuration to a service that takes requests, and back.
//!
//! [`serve`] is the one place that knows all parts; each of them is handed what it uses and nothing
//! more. The order is that of refusal: what can be told from the configuration alone comes first,
//! then the address, and only then are partitions opened, so that a second service on one address
//! or a wrong configuration changes nothing anywhere.

pub mod copies;
mod following;
pub mod logging;
pub mod open;
mod pulse;
mod scheduler;
mod shutdown;
mod sockets;
mod systemd;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer};
use arc_swap::ArcSwap;
use tokio::time::interval;
use tokio_cron_scheduler::JobSchedulerError;
use tracing::{info, warn};

use self::following::Loops;
use self::open::{Engines, OpenError, Opened};
use self::scheduler::Scheduler;
use self::shutdown::Signals;
use crate::clock::{Clock, System};
use crate::config::partition::{PartitionConfig, PartitionUrl};
use crate::config::{Config, ServerConfig};
use crate::failover::detect::{TWO_VOTERS, are_two};
use crate::failover::service::{Ownership, OwnershipParts};
use crate::feed::{Feed, FeedLimits, FeedParts};
use crate::founding::{Founding, OpenSet};
use crate::frontends::{Frontends, FrontendsParts};
use crate::http::drivers::{Configured, Drivers};
use crate::http::guard::{HostNameError, HostPolicy};
use crate::http::health::Draining;
use crate::http::{HttpLimits, Pieces};
use crate::jobs::SyncJob;
use crate::lane::{LaneLimits, Topologies};
use crate::orchestrator::losses::{Watch, WatchParts};
use crate::orchestrator::opened::OpenCopy;
use crate::orchestrator::settings::Settings;
use crate::orchestrator::{Orchestrator, OrchestratorParts};
use crate::partition::engine::EngineKind;
use crate::roster::{Roster, RosterParts};
use crate::store::answer::Serving;
use crate::store::{Store, StoreParts};
use crate::sync::round::{Round, chain};
use crate::topology::Topology;
use crate::upkeep::Upkeep;

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
    let copy = copies::embedded(&config, &opened.set, &clock)?;
    let described = [Some(opened.describe()), copy.as_ref().map(OpenCopy::describe)];
    let partitions = described.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let has_copy = copy.is_some();
    let set = opened.set.set;
    say_what_is_odd(&opened.set);
    let Parts { store, sync, upkeep, orchestrator, roster } =
        start(&config, opened, copy, &clock, address)?;
    let draining = Arc::new(Draining::default());
    let pieces = Pieces::new(
        Arc::clone(&store),
        Arc::clone(&sync),
        Arc::clone(&orchestrator),
        Arc::clone(&upkeep),
        limits(&config),
        HostPolicy::new(&[address], &config.server.hosts)?,
        Arc::clone(&draining),
    );
    let server = answering(pieces.configured_as(drivers(&config)), listener, &config.server)?;
    let (signals, heartbeat) = (Signals::listen()?, config.server.heartbeat);
    let handle = server.handle();
    end_when_told(signals, &orchestrator, &store, config.server, draining, handle);
    if config.sync.eager || has_copy {
        // What an earlier life had no time to copy, and what the copy does not have yet.
        sync.wake();
    }
    let wake = scheduled(&sync, &upkeep);
    let scheduler = Scheduler::start(config.sync.schedule, clock, wake).await?;
    let watch = Arc::new(Watch::new(WatchParts {
        store: Arc::clone(&store),
        frontends: Arc::clone(orchestrator.frontends()),
        ownership: Arc::clone(roster.ownership()),
        config: config.orchestrator,
        heartbeat,
    }));
    let loops = Loops::start(&store, &orchestrator, &roster, &watch);
    info!(%address, %set, partitions, "listening on http://{address}");
    systemd::ready(&format!("listening on {address}"));
    server.await?;
    loops.stop().await;
    drop(watch);
    orchestrator.frontends().leave().await;
    orchestrator.left().await;
    orchestrator.release().await;
    roster.drained().await;
    scheduler.stop().await;
    // Web workers let go of their parts a moment after the server has ended. As the last owner we
    // end the lanes, then the job, each after what it has begun, and close every connection.
    shutdown::last_owner(&orchestrator).await;
    drop((orchestrator, roster));
    shutdown::last_owner(&store).await;
    drop((store, sync, upkeep));
    info!("stopped");
    Ok(())
}

/// Answers requests from here on.
fn answering(pieces: Pieces, listener: TcpListener, config: &ServerConfig) -> io::Result<Server> {
    sockets::allow_many();
    let server = HttpServer::new(move || App::new().configure(|cfg| pieces.configure(cfg)))
        .disable_signals()
        // Answers are written whole: waiting for the client's acknowledgement only delays the end.
        .tcp_nodelay(true)
        .on_connect(sockets::bound)
        .shutdown_timeout(shutdown::grace_seconds(config))
        .listen(listener)?;
    Ok(server.run())
}

/// What whoever has started this should know of the set.
fn say_what_is_odd(set: &OpenSet) {
    if !set.ignored.is_empty() {
        let ignored = &set.ignored;
        info!(%ignored, "the set says otherwise than the configuration, and the set counts");
    }
    if are_two(&set.topology) {
        warn!("{TWO_VOTERS}");
    }
    for missing in &set.unreachable {
        warn!("served without partition {missing}, until it can be asked");
    }
}

/// From here on a signal, or the service's own end, drains this front end.
fn end_when_told(
    signals: Signals,
    orchestrator: &Arc<Orchestrator>,
    store: &Arc<Store>,
    config: ServerConfig,
    draining: Arc<Draining>,
    server: ServerHandle,
) {
    let feed = Arc::clone(store.feed());
    let fail_readiness = move || {
        draining.begin();
        feed.close();
    };
    let orchestrator = Arc::clone(orchestrator);
    let told = async move { orchestrator.told_to_stop().await };
    actix_web::rt::spawn(shutdown::on_signal(signals, told, config, fail_readiness, server));
}

/// What the schedule wakes.
fn scheduled(sync: &Arc<SyncJob>, upkeep: &Arc<Upkeep>) -> impl Fn() + Send + Sync + 'static {
    let (sync, upkeep) = (Arc::clone(sync), Arc::clone(upkeep));
    move || {
        sync.wake();
        upkeep.wake_sweep();
    }
}

/// What a front end consists of.
struct Parts {
    store: Arc<Store>,
    sync: Arc<SyncJob>,
    upkeep: Arc<Upkeep>,
    orchestrator: Arc<Orchestrator>,
    roster: Arc<Roster>,
}

/// Starts the sync job, the lanes, the upkeep, the feed and the heartbeats.
fn start(
    config: &Config,
    opened: Opened,
    copy: Option<OpenCopy>,
    clock: &Arc<dyn Clock>,
    address: SocketAddr,
) -> Result<Parts, ServeError> {
    let topology = Arc::new(ArcSwap::from_pointee(opened.set.topology.clone()));
    let ownership = own(&opened, &topology, clock)?;
    let (mut members, mut partitions) = (opened.members(), opened.served());
    members.extend(copy.iter().map(OpenCopy::member));
    partitions.extend(copy.iter().map(OpenCopy::served));
    let round =
        Round::start(members, Arc::clone(&topology), Arc::clone(clock), config.sync.log_retention)?;
    let sync = Arc::new(SyncJob::start(round)?);
    let (members, history) = (opened.members(), Arc::clone(&opened.history));
    let (kept, time) = (config.sync.ledger_retention, Arc::clone(clock));
    let upkeep = Upkeep::start(members, Arc::clone(&topology), time, history, kept)?;
    let followers_max = config.server.followers_max;
    let feed = Arc::new(Feed::start(FeedParts {
        set: opened.set.set,
        sources: opened.sources(),
        clock: Arc::clone(clock),
        sync: Arc::clone(&sync),
        limits: FeedLimits { followers_max, ..FeedLimits::default() },
    })?);
    let store = Arc::new(Store::start(StoreParts {
        set: opened.set.set,
        topology,
        topologies: Arc::clone(&ownership) as Arc<dyn Topologies>,
        partitions,
        clock: Arc::clone(clock),
        deadline: config.server.deadline,
        ack_timeout: config.store.ack_timeout,
        sync: Arc::clone(&sync),
        feed: Arc::clone(&feed),
        eager: config.sync.eager,
        limits: LaneLimits::default(),
        history: Arc::clone(&opened.history),
    })?);
    let looking = Arc::downgrade(&store);
    let is_well = move |id| looking.upgrade().is_none_or(|store| store.is_well(id));
    ownership.ways().judged_by(is_well);
    let frontends = Frontends::start(FrontendsParts {
        id: format!("{:016x}", getrandom::u64().map_err(OpenError::Random)?),
        address: address.to_string(),
        interval: config.server.heartbeat,
        partitions: opened.connects(),
        store: Arc::clone(&store),
        feed,
        clock: Arc::clone(clock),
    })?;
    let parts = RosterParts {
        store,
        sync,
        upkeep: Arc::new(upkeep),
        frontends: Arc::new(frontends),
        ownership,
        opener: Arc::clone(&opened.opener),
    };
    Ok(orchestrated(parts, opened.voters(), config))
}

/// Starts what follows the voters, and the orchestrator.
fn orchestrated(parts: RosterParts, voters: Vec<Serving>, config: &Config) -> Parts {
    let (store, sync) = (Arc::clone(&parts.store), Arc::clone(&parts.sync));
    let (upkeep, frontends) = (Arc::clone(&parts.upkeep), Arc::clone(&parts.frontends));
    let ownership = Arc::clone(&parts.ownership);
    let roster = Arc::new(Roster::new(parts, voters));
    let orchestrator = Arc::new(Orchestrator::new(OrchestratorParts {
        store: Arc::clone(&store),
        sync: Arc::clone(&sync),
        frontends,
        ownership,
        roster: Arc::clone(&roster),
        settings: Settings::of(config),
    }));
    Parts { store, sync, upkeep, orchestrator, roster }
}

/// This front end's part in who owns what, with the topology as a quorum tells it, if one answers.
fn own(
    opened: &Opened,
    topology: &Arc<ArcSwap<Topology>>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Ownership>, ServeError> {
    let ownership = Ownership::new(OwnershipParts {
        set: opened.set.set,
        ways: Arc::clone(&opened.ways),
        topology: Arc::clone(topology),
        clock: Arc::clone(clock),
        random: getrandom::u64().map_err(OpenError::Random)?,
    });
    if let Err(error) = ownership.read() {
        warn!(%error, "nothing is written before the topology can be read");
    }
    Ok(Arc::new(ownership))
}

/// The partitions as they are configured, without secrets.
fn drivers(config: &Config) -> Drivers {
    let one = |(name, partition): (&String, &PartitionConfig)| Configured {
        name: name.clone(),
        engine: match partition.url {
            PartitionUrl::Sqlite { .. } => EngineKind::Sqlite,
            PartitionUrl::Mysql(_) => EngineKind::Mysql,
            PartitionUrl::Memory => EngineKind::Memory,
        },
        url: partition.url.to_string(),
        role: partition.role.to_string(),
    };
    Drivers(config.partitions.iter().map(one).collect())
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
