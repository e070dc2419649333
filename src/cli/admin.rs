//! `service`, `operations`, `scaling`, `plan` and `clear`: what the service as a whole is, does and
//! is told to do.

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

/// `datastore plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// How many read copies there are to be; if not given, as many as the reads ask for
    #[arg(long)]
    copies: Option<usize>,
    /// Do it
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    begin: BeginArgs,
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

/// Shows how many read copies there are to be, and why.
pub fn scaling(args: &ShowArgs) -> Result<Exit, CliError> {
    let answer = args.service.client()?.send(Method::GET, "/admin/scaling", &[], None)?.json()?;
    args.print(&answer, |answer| {
        let names = ["enabled", "dry_run", "min", "max", "reads_per_copy", "window", "cooldown"];
        let mut text = fields(answer, &names);
        text.push_str(&fields(answer, &["provisioner", "reads", "copies"]));
        let names = ["time", "reads", "copies", "wanted", "reason", "outcome"];
        text + &listed(rows(answer, "decisions"), &names)
    })?;
    Ok(Exit::Done)
}

/// Shows what would be done to have so many read copies, or does it.
pub fn plan(args: &PlanArgs) -> Result<Exit, CliError> {
    let show = &args.begin.show;
    let copies = args.copies.map(|copies| format!("?copies={copies}")).unwrap_or_default();
    let target = format!("/admin/plan{copies}");
    let plan = show.service.client()?.send(Method::GET, &target, &[], None)?.json()?;
    if args.execute && !rows(&plan, "steps").is_empty() {
        let [wanted, epoch] = ["wanted", "epoch"].map(|name| text(&plan, name));
        let target = format!("/admin/plan?copies={wanted}&epoch={epoch}");
        return args.begin.run(Method::POST, &target, None);
    }
    show.print(&plan, |plan| {
        let steps = listed(rows(plan, "steps"), &["step", "partition", "from"]);
        fields(plan, &["epoch", "copies", "wanted"]) + &steps
    })?;
    Ok(Exit::Done)
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
    /// Sends a request without a body, and shows these fields of the answer.
    pub fn tell(&self, method: Method, target: &str, names: &[&str]) -> Result<Exit, CliError> {
        let answer = self.service.client()?.send(method, target, &[], None)?.json()?;
        self.print(&answer, |answer| fields(answer, names))?;
        Ok(Exit::Done)
    }

    /// The service that is asked.
    pub fn client(&self) -> Result<Client, CliError> {
        Ok(self.service.client()?)
    }

    /// Shows an answer, as it came or to people.
    pub fn print(
        &self,
        answer: &Value,
        people: impl FnOnce(&Value) -> String,
    ) -> Result<(), CliError> {
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

fn text(doc: &Value, name: &str) -> String {
    match doc.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// A line for each of these.
pub fn fields(doc: &Value, names: &[&str]) -> String {
    let mut table = table::plain();
    for name in names {
        table.add_row([(*name).to_owned(), text(doc, name)]);
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
