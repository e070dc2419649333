//! The command line: `datastore --help` is the map.
//!
//! Two kinds of commands. `serve`, `init`, `sync` and `config check` read the configuration and
//! open the partitions themselves ([`local`]). `get`, `set`, `update` and `delete` ([`verbs`]) and
//! `list` ([`list`]), `watch` ([`watch`]), `verify` ([`mod@verify`]) and the administration
//! ([`admin`], [`partitions`], [`conflicts`]) speak HTTP to a running service, like any other
//! client ([`crate::client`]); they need no configuration.
//!
//! What a command is asked for goes to standard output and nothing else does; what went wrong goes
//! to standard error. Exit codes: see [`Exit`].

mod admin;
mod arguments;
mod conflicts;
mod list;
mod local;
mod operation;
mod partitions;
mod service;
mod table;
mod topology;
mod value;
mod verbs;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::admin::{ClearArgs, OperationsArgs, PlanArgs, ServiceCommand, ShowArgs};
use self::conflicts::ConflictsArgs;
use self::list::ListArgs;
use self::local::{CheckArgs, InitArgs, LocalError, ServeArgs, SyncArgs};
use self::partitions::PartitionsArgs;
use self::value::InputError;
use self::verbs::{DeleteArgs, GetArgs, SetArgs, UpdateArgs};
use self::verify::VerifyArgs;
use self::watch::WatchArgs;
use crate::client::ClientError;
use crate::sync::round::chain;

/// A key-value web service over the databases you already run: write to the master, read from any.
#[derive(Debug, Parser)]
#[command(name = "datastore", version, after_help = EXITS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXITS: &str = "\
Exit codes: 0 done; 1 no such key, a condition was not met, or something wrong was left; 2 wrong usage or configuration; \
3 the service or a partition is unavailable.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(ServeArgs),
    /// Found the configured partitions where they are empty
    Init(InitArgs),
    /// Copy changes between the partitions once
    Sync(SyncArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a value
    Get(GetArgs),
    /// Store a value
    Set(SetArgs),
    /// Change a value that is there
    Update(UpdateArgs),
    /// Delete a key
    Delete(DeleteArgs),
    /// List keys
    List(ListArgs),
    /// Print what changes, as it changes
    Watch(WatchArgs),
    /// Have all partitions compared, and what is wrong put right
    Verify(VerifyArgs),
    /// Show the partitions: what they are for, how they do, how old they are; add read copies,
    /// make other masters
    Partitions(PartitionsArgs),
    /// Show the writes that lost against others, and write one of them once more
    Conflicts(ConflictsArgs),
    /// Show the service's state, or end it
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show what takes longer than a request, and what came of it
    Operations(OperationsArgs),
    /// Show how many read copies there are to be, and why
    Scaling(ShowArgs),
    /// Show what would be done to have so many read copies, or another master, and do it
    Plan(PlanArgs),
    /// Show who takes which writes: the topology in use
    Topology(ShowArgs),
    /// Show what was decided, by front ends and operators, and why
    Decisions(ShowArgs),
    /// Delete every key
    Clear(ClearArgs),
    /// Print what makes a shell complete this command line
    Completions(CompletionsArgs),
}

/// `datastore completions`.
#[derive(Debug, Args)]
struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with the configuration and its partitions; changes nothing
    Check(CheckArgs),
}

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked for.
    Done = 0,
    /// There is no such key, or a condition was not met.
    NotDone = 1,
    /// It was called in a wrong way, or the configuration is wrong.
    Usage = 2,
    /// The service or a partition could not be reached or would not serve.
    Unavailable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Local(error) => error.exit(),
            Self::Client(error) => service::exit(error),
            Self::Input(_) => Exit::Usage,
            // `datastore list | head`: whoever reads has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Unavailable,
        }
    }
}

/// Runs the command that the process was started with.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nobody is left to tell where even this cannot be printed.
            drop(error.print());
            return exit.into();
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => local::serve(&args).map_err(CliError::from),
        Command::Init(args) => local::init(&args),
        Command::Sync(args) => local::sync(&args),
        Command::Config(ConfigCommand::Check(args)) => local::check(&args),
        Command::Get(args) => verbs::get(&args),
        Command::Set(args) => verbs::set(&args),
        Command::Update(args) => verbs::update(&args),
        Command::Delete(args) => verbs::delete(&args),
        Command::List(args) => list::list(&args),
        Command::Watch(args) => watch::watch(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Partitions(args) => partitions::partitions(&args),
        Command::Conflicts(args) => conflicts::conflicts(&args),
        Command::Service(command) => admin::service(&command),
        Command::Operations(args) => admin::operations(&args),
        Command::Scaling(args) => admin::scaling(&args),
        Command::Plan(args) => admin::plan(&args),
        Command::Topology(args) => topology::topology(&args),
        Command::Decisions(args) => topology::decisions(&args),
        Command::Clear(args) => admin::clear(&args),
        Command::Completions(args) => completions(&args),
    };
    let exit = outcome.unwrap_or_else(|error| {
        let exit = error.exit();
        if exit != Exit::Done {
            eprintln!("error: {}", chain(&error));
        }
        exit
    });
    exit.into()
}

fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "datastore", &mut script);
    value::print(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_map_names_every_command_and_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        for command in Cli::command().get_subcommands() {
            let command = command.get_name();
            assert!(help.contains(&format!("  {command} ")), "{command} is not in {help}");
        }
        assert!(help.contains("Exit codes: 0 done; 1 "), "{help}");
    }
}
