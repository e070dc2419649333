//! `get`, `set`, `update` and `delete`: what curl does, with keys and values of any bytes and exit
//! codes that a script can use.

use clap::Args;

use super::arguments::{AckArg, Condition, KeyArg, Kind, Source, Target, ValueArg};
use super::operation::{Operation, Verb};
use super::{CliError, Exit, value};

/// `datastore get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    target: Target,
    /// Print a JSON object with the value, its type, its version and where it was read
    #[arg(long)]
    json: bool,
}

/// `datastore set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    value: ValueArg,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    end: WriteArgs,
}

/// `datastore update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    value: ValueArg,
    /// VALUE is a JSON merge patch (RFC 7396): change these members, keep all others
    #[arg(long, conflicts_with = "content_type")]
    merge: bool,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    end: WriteArgs,
}

/// `datastore delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    key: KeyArg,
    #[command(flatten)]
    end: WriteArgs,
}

/// What all writes take.
#[derive(Debug, Args)]
struct WriteArgs {
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    ack: AckArg,
    #[command(flatten)]
    target: Target,
    /// Print a JSON object with the version and how many partitions hold it
    #[arg(long)]
    json: bool,
}

/// Prints a value.
pub fn get(args: &GetArgs) -> Result<Exit, CliError> {
    let mut operation = Operation::new(Verb::Get, args.key.bytes()?);
    operation.headers.extend(args.condition.headers());
    operation.partition.clone_from(&args.source.partition);
    let done = operation.run(&args.target)?;
    if args.json {
        value::print_json(&done.json(&operation))?;
    } else {
        value::print(&done.value)?;
    }
    Ok(Exit::Done)
}

/// Stores a value.
pub fn set(args: &SetArgs) -> Result<Exit, CliError> {
    let mut operation = Operation::new(Verb::Set, args.key.bytes()?);
    operation.value = Some(args.value.bytes()?);
    args.kind.describe(&mut operation);
    args.end.run(operation)
}

/// Changes a value that is there.
pub fn update(args: &UpdateArgs) -> Result<Exit, CliError> {
    let mut operation = Operation::new(Verb::Update, args.key.bytes()?);
    operation.value = Some(args.value.bytes()?);
    args.kind.describe(&mut operation);
    if args.merge {
        operation.headers.push(("content-type", "application/merge-patch+json".to_owned()));
    }
    args.end.run(operation)
}

/// Deletes a key.
pub fn delete(args: &DeleteArgs) -> Result<Exit, CliError> {
    args.end.run(Operation::new(Verb::Delete, args.key.bytes()?))
}

impl Kind {
    fn describe(&self, operation: &mut Operation) {
        operation.headers.extend(self.content_type.clone().map(|text| ("content-type", text)));
        operation.ttl.clone_from(&self.ttl);
    }
}

impl WriteArgs {
    fn run(&self, mut operation: Operation) -> Result<Exit, CliError> {
        operation.headers.extend(self.condition.headers());
        operation.ack.clone_from(&self.ack.ack);
        let done = operation.run(&self.target)?;
        if self.json {
            value::print_json(&done.json(&operation))?;
        }
        Ok(Exit::Done)
    }
}
