//! `serve`, `init`, `sync` and `config check`: the commands that open the partitions themselves.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Builder;
use tokio::time::interval;

use super::{CliError, Exit, table, value};
use crate::clock::{Clock, System};
use crate::config::Config;
use crate::config::error::ConfigError;
use crate::founding::Founding;
use crate::http::wire_sync::ReportDoc;
use crate::jobs::SyncJob;
use crate::server::logging::LoggingError;
use crate::server::open::{Engines, OpenError, Opened, missing};
use crate::server::{self, ServeError, logging};
use crate::sync::barrier::Barriers;
use crate::sync::pass::PageLimits;
use crate::sync::report::Report;
use crate::sync::reseed;
use crate::sync::round::{Round, chain};
use crate::upkeep::sweep_all;

/// How often a progress bar moves.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file [default: configuration.toml, if there is one]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, LocalError> {
        Ok(Config::load(self.config.as_deref())?)
    }
}

/// `datastore serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Listen on an address that others can reach, though nobody has to say who they are
    #[arg(long)]
    insecure: bool,
}

/// `datastore init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Begin a new set with what this partition holds, a backup that was put back; all others are
    /// emptied and made anew from it. Stop every `serve` first
    #[arg(long, value_name = "PARTITION")]
    restored: Option<String>,
}

/// `datastore sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
    /// Show the progress, and go on until nothing is left behind
    #[arg(long)]
    watch: bool,
}

/// `datastore config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// Why a command over the partitions did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No configuration to work with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No log to write to.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The partitions cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was founded would be there.
    #[error(
        "there is no database of partition {}: run `datastore init` for a new set, or correct the \
         url",
        names.join(", ")
    )]
    Missing {
        /// Whose database is not there.
        names: Vec<String>,
    },
    /// The partition has no rows to begin with.
    #[error("partition `{name}` is a witness: it holds no data to begin with")]
    NoData {
        /// Which one.
        name: String,
    },
    /// A partition was not made anew.
    #[error("partition `{name}` was not made anew from the backup: {why}; run the command again")]
    Restore {
        /// Which one.
        name: String,
        /// Why.
        why: String,
    },
    /// The service did not start, or broke off.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl LocalError {
    /// The exit code that tells it to a script.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Logging(_) | Self::Missing { .. } | Self::NoData { .. } => {
                Exit::Usage
            }
            Self::Restore { .. } => Exit::Unavailable,
            Self::Open(error) => open_exit(error),
            Self::Serve(error) => match error {
                ServeError::NotLoopback { .. } | ServeError::Hosts(_) => Exit::Usage,
                ServeError::Open(error) => open_exit(error),
                // What another process or the machine can mend without a new configuration.
                ServeError::InUse { .. }
                | ServeError::Listen { .. }
                | ServeError::System(_)
                | ServeError::Schedule(_) => Exit::Unavailable,
            },
        }
    }
}

fn open_exit(error: &OpenError) -> Exit {
    if error.is_misconfigured() { Exit::Usage } else { Exit::Unavailable }
}

/// Runs the service.
pub fn serve(args: &ServeArgs) -> Result<Exit, LocalError> {
    logging::start()?;
    server::serve(args.file.load()?, args.insecure)?;
    Ok(Exit::Done)
}

/// Founds the partitions where all are empty, and shows them.
pub fn init(args: &InitArgs) -> Result<Exit, CliError> {
    let config = args.file.load()?;
    if let Some(name) = &args.restored {
        return restore(&config, name);
    }
    let opened = open(&config, Founding::IfAllEmpty)?;
    let what = if opened.set.founded { "founded" } else { "was founded before" };
    value::print(format!("set {} {what}\n{}", opened.set.set, set_table(&opened)).as_bytes())?;
    Ok(Exit::Done)
}

/// Begins a new set with the backup, and makes the other partitions anew from it.
fn restore(config: &Config, name: &str) -> Result<Exit, CliError> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let engines = Engines::new(config, &clock).map_err(LocalError::from)?;
    let opened = engines.begin_restored(config, name).map_err(LocalError::from)?;
    let failed = |name: &str, error: &dyn std::error::Error| {
        let (name, why) = (name.to_owned(), chain(error));
        LocalError::Restore { name, why }
    };
    let members = opened.members();
    let backup = members.iter().find(|member| member.name.as_ref() == name);
    let backup = backup.ok_or_else(|| LocalError::NoData { name: name.to_owned() })?;
    let mut source = backup.connect.connect().map_err(|error| failed(name, &error))?;
    for member in members.iter().filter(|member| member.id != backup.id) {
        let mut target = member.connect.connect().map_err(|error| failed(&member.name, &error))?;
        let (barriers, limits) = (Barriers::default(), PageLimits::default());
        reseed::reseed(target.as_mut(), source.as_mut(), &barriers, limits)
            .map_err(|error| failed(&member.name, &error))?;
    }
    let table = set_table(&opened);
    value::print(format!("set {} begins with `{name}`\n{table}", opened.set.set).as_bytes())?;
    Ok(Exit::Done)
}

fn open(config: &Config, founding: Founding) -> Result<Opened, LocalError> {
    let missing = missing(config);
    if founding == Founding::Never && !missing.is_empty() {
        // Told here, since connecting makes the file.
        let names = missing.into_iter().map(str::to_owned).collect();
        return Err(LocalError::Missing { names });
    }
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    Ok(Engines::new(config, &clock)?.open(config, founding)?)
}

fn set_table(opened: &Opened) -> String {
    let topology = &opened.set.topology;
    let mut table = table::with(&["partition", "id", "role", "slots", "url", "state"]);
    for voter in topology.voters() {
        let unreachable = opened.set.unreachable.iter().find(|other| other.name == voter.name);
        table.add_row([
            voter.name.clone(),
            voter.id.to_string(),
            voter.role.to_string(),
            topology.slots_of(voter.id).to_string(),
            opened.url(voter),
            unreachable.map_or_else(|| "good".to_owned(), |other| chain(&other.error)),
        ]);
    }
    table::text(table)
}

/// Runs one round, or, with `--watch`, as many as it takes.
pub fn sync(args: &SyncArgs) -> Result<Exit, CliError> {
    logging::start().map_err(LocalError::from)?;
    let config = args.file.load()?;
    let opened = open(&config, Founding::Never)?;
    // First, so that the deletes that it makes are copied in the same round.
    sweep_all(&opened.members(), &opened.set.topology);
    let topology = Arc::new(ArcSwap::from_pointee(opened.set.topology.clone()));
    let clock = Arc::new(System::new());
    let started = Round::start(opened.members(), topology, clock, config.sync.log_retention)
        .and_then(SyncJob::start)
        .and_then(|job| Ok((job, Builder::new_current_thread().enable_time().build()?)));
    let (job, runtime) = started.map_err(|error| LocalError::Serve(error.into()))?;
    let report =
        runtime.block_on(async { if args.watch { watch(&job).await } else { round(&job).await } });
    if args.json {
        let document = serde_json::to_value(ReportDoc::new(&report, job.now()));
        // Expect safety: names and numbers only.
        value::print_json(&document.expect("a report is JSON"))?;
    } else {
        value::print(report_table(&report).as_bytes())?;
    }
    let failed = report.pairs.iter().any(|pair| pair.error.is_some());
    Ok(if failed { Exit::Unavailable } else { Exit::Done })
}

/// However long it takes: whoever asked may stop it at any time, nothing is lost.
async fn round(job: &SyncJob) -> Report {
    let report = job.run(Duration::MAX).await;
    report.map_or_else(|| job.current(), |report| report.as_ref().clone())
}

/// Shows on standard error what is done of what is to be done, and goes on until nothing is left
/// behind, or what is left cannot be had.
async fn watch(job: &SyncJob) -> Report {
    let bar = ProgressBar::new(0);
    // Expect safety: a constant.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} writes, {per_sec}, {eta} left");
    bar.set_style(style.expect("the template is sound"));
    let mut ticks = interval(WATCH_INTERVAL);
    let (mut done, mut moved) = (0, true);
    loop {
        let mut round = pin!(round(job));
        let report = loop {
            tokio::select! {
                report = &mut round => break report,
                _ = ticks.tick() => show(&bar, done, &job.current()),
            }
        };
        show(&bar, done, &report);
        let rows: usize = report.pairs.iter().map(|pair| pair.rows).sum();
        if report.is_clean() || (rows == 0 && !moved) {
            bar.finish();
            return report;
        }
        moved = rows > 0;
        done += rows as u64;
    }
}

/// `done`: what earlier rounds have brought.
fn show(bar: &ProgressBar, done: u64, report: &Report) {
    let brought: usize = report.pairs.iter().map(|pair| pair.rows).sum();
    let lacking: u64 = report.pairs.iter().map(|pair| pair.lag.max(pair.rows as u64)).sum();
    bar.set_length(bar.length().unwrap_or_default().max(done + lacking));
    bar.set_position(done + brought as u64);
}

fn report_table(report: &Report) -> String {
    let mut table = table::with(&["target", "source", "rows", "bytes", "lag", "error"]);
    for pair in &report.pairs {
        table.add_row([
            pair.target.to_string(),
            pair.source.as_deref().unwrap_or("-").to_owned(),
            pair.rows.to_string(),
            pair.bytes.to_string(),
            pair.lag.to_string(),
            pair.error.unwrap_or_default().to_owned(),
        ]);
    }
    table::text(table)
}

/// Says what is wrong with the configuration and its partitions; changes nothing.
pub fn check(args: &CheckArgs) -> Result<Exit, CliError> {
    let config = args.file.load()?;
    if missing(&config).len() == config.partitions.len() {
        let text = "the configuration is good; the first start founds the partitions\n";
        value::print(text.as_bytes())?;
        return Ok(Exit::Done);
    }
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let engines = Engines::new(&config, &clock).map_err(LocalError::from)?;
    let servers = engines.servers(&config).map_err(LocalError::from)?;
    let opened = open(&config, Founding::Never)?;
    let table = set_table(&opened);
    value::print(format!("the configuration is good\n{table}").as_bytes())?;
    for (name, settings) in servers {
        value::print(format!("{name}: {settings}\n").as_bytes())?;
    }
    Ok(if opened.set.unreachable.is_empty() { Exit::Done } else { Exit::Unavailable })
}
