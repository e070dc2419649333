//! `service`, `operations` and `clear`: what the service as a whole is, does and is told to do.

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::service::Service;
use super::{CliError, Exit, table, value};
use crate::client::Client;
use crate::http::paths;

/// `datastore service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Show the state, and the operation that is under way
    Status(ShowArgs),
    /// Show how the state came about
    History(ShowArgs),
    /// End the service: all its front ends drain and stop
    Shutdown(ShowArgs),
}

/// What all of these take.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    service: Service,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
}

/// `datastore operations`.
#[derive(Debug, Args)]
pub struct OperationsArgs {
    /// Only this one
    id: Option<String>,
    /// Wait until it has ended
    #[arg(long, requires = "id")]
    wait: bool,
    #[command(flatten)]
    show: ShowArgs,
}

/// `datastore clear`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// The id of the set whose keys are deleted, as `datastore service status` tells it
    #[arg(long, value_name = "SET")]
    confirm: String,
    #[command(flatten)]
    begin: BeginArgs,
}

/// What all commands take that begin an operation.
#[derive(Debug, Args)]
pub struct BeginArgs {
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
    /// Names this request: repeated with the same text, it is not made twice
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    show: ShowArgs,
}

/// Shows the service, or ends it.
pub fn service(command: &ServiceCommand) -> Result<Exit, CliError> {
    let (args, method, target) = match command {
        ServiceCommand::Status(args) => (args, Method::GET, "/admin/service"),
        ServiceCommand::History(args) => (args, Method::GET, "/admin/service/history"),
        ServiceCommand::Shutdown(args) => (args, Method::POST, "/admin/service/shutdown"),
    };
    let answer = args.service.client()?.send(method, target, &[], None)?.json()?;
    args.print(&answer, |answer| match rows(answer, "history") {
        [] => fields(answer, &["state", "since", "reason", "set"]),
        history => listed(history, &["time", "state", "reason"]),
    })?;
    Ok(Exit::Done)
}

/// Shows operations.
pub fn operations(args: &OperationsArgs) -> Result<Exit, CliError> {
    let client = args.show.service.client()?;
    let Some(id) = &args.id else {
        let answer = client.send(Method::GET, "/admin/operations", &[], None)?.json()?;
        args.show.print(&answer, |answer| {
            listed(rows(answer, "operations"), &["id", "kind", "state", "started_at", "message"])
        })?;
        return Ok(Exit::Done);
    };
    let target = format!("/admin/operations/{}", paths::emit_value(id.as_bytes()));
    let mut answer = client.send(Method::GET, &target, &[], None)?.json()?;
    if args.wait {
        answer = ended(&client, answer)?;
    }
    args.show.print(&answer, operation)?;
    Ok(exit(&answer))
}

/// Deletes every key.
pub fn clear(args: &ClearArgs) -> Result<Exit, CliError> {
    let set = paths::emit_value(args.confirm.as_bytes());
    args.begin.run(Method::POST, &format!("/admin/clear?confirm={set}"), None)
}

impl BeginArgs {
    /// Begins an operation, and waits for its end unless told otherwise.
    pub fn run(&self, method: Method, target: &str, body: Option<&[u8]>) -> Result<Exit, CliError> {
        let client = self.show.service.client()?;
        let mut headers = Vec::new();
        headers.extend(self.idempotency_key.clone().map(|key| ("idempotency-key", key)));
        headers.extend(body.map(|_| ("content-type", "application/json".to_owned())));
        let mut answer = client.send(method, target, &headers, body)?.json()?;
        if !self.no_wait {
            answer = ended(&client, answer)?;
        }
        self.show.print(&answer, operation)?;
        Ok(exit(&answer))
    }
}

impl ShowArgs {
    fn print(&self, answer: &Value, people: impl FnOnce(&Value) -> String) -> Result<(), CliError> {
        if self.json { value::print_json(answer) } else { value::print(people(answer).as_bytes()) }
    }
}

/// Asks for an operation until it has ended.
fn ended(client: &Client, mut operation: Value) -> Result<Value, CliError> {
    while text(&operation, "state") == "running" {
        let target = format!("{}?wait=10s", text(&operation, "operation"));
        operation = client.send(Method::GET, &target, &[], None)?.json()?;
    }
    Ok(operation)
}

fn exit(operation: &Value) -> Exit {
    if text(operation, "state") == "failed" { Exit::NotDone } else { Exit::Done }
}

fn operation(operation: &Value) -> String {
    fields(operation, &["id", "kind", "state", "started_at", "ended_at", "message"])
}

fn rows<'a>(doc: &'a Value, name: &str) -> &'a [Value] {
    doc.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(doc: &'a Value, name: &str) -> &'a str {
    doc.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// A line for each of these.
fn fields(doc: &Value, names: &[&str]) -> String {
    let mut table = table::plain();
    for name in names {
        table.add_row([*name, text(doc, name)]);
    }
    table::text(table)
}

/// A row for each document.
fn listed(rows: &[Value], names: &[&str]) -> String {
    let mut table = table::with(names);
    for row in rows {
        table.add_row(names.iter().map(|name| text(row, name)));
    }
    table::text(table)
}
