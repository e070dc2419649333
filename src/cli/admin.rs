//! `service`, `operations`, `scaling`, `plan` and `clear`: what the service as a whole is, does and
//! is told to do.

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::arguments::{parameter, query};
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
    /// Which voter is to take slots
    #[arg(long, value_name = "NAME", conflicts_with = "copies")]
    promote: Option<String>,
    #[command(flatten)]
    slots: SlotsArgs,
    /// Do it
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    begin: BeginArgs,
}

/// Which slots a voter is to take.
#[derive(Debug, Args)]
pub struct SlotsArgs {
    /// All slots of this master; if not given, of the only one
    #[arg(long, value_name = "MASTER", conflicts_with = "share")]
    from: Option<String>,
    /// As many of each master's slots as is fair: one master more
    #[arg(long)]
    share: bool,
    /// Also where the master does not answer, and what it alone has may be lost
    #[arg(long)]
    force: bool,
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
    if let Some(name) = &args.promote {
        return if args.execute {
            // Under the epoch of the plan: what was looked at is what is done.
            let epoch = text(&args.slots.planned(name, &args.begin.show)?, "epoch");
            args.slots.promote(name, None, Some(&epoch), &args.begin)
        } else {
            args.slots.plan(name, &args.begin.show)
        };
    }
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

impl SlotsArgs {
    /// Shows what would be done.
    pub fn plan(&self, name: &str, show: &ShowArgs) -> Result<Exit, CliError> {
        let plan = self.planned(name, show)?;
        show.print(&plan, |plan| {
            let steps = listed(rows(plan, "steps"), &["step", "partition", "from", "slots"]);
            let names = ["epoch", "promote", "slots", "warning"];
            let told = names.into_iter().filter(|name| plan.get(*name).is_some());
            fields(plan, &told.collect::<Vec<_>>()) + &steps
        })?;
        Ok(Exit::Done)
    }

    fn planned(&self, name: &str, show: &ShowArgs) -> Result<Value, CliError> {
        let name = name.to_owned();
        let given = [("promote", Some(&name)), ("from", self.from.as_ref())];
        let mut given: Vec<String> =
            given.into_iter().filter_map(|(name, value)| parameter(name, value)).collect();
        given.extend(self.share.then(|| "share=true".to_owned()));
        given.extend(self.force.then(|| "force=true".to_owned()));
        let target = format!("/admin/plan{}", query(&given));
        Ok(show.service.client()?.send(Method::GET, &target, &[], None)?.json()?)
    }

    /// Has it done; `epoch`: only under this one.
    pub fn promote(
        &self,
        name: &str,
        reason: Option<&str>,
        epoch: Option<&str>,
        begin: &BeginArgs,
    ) -> Result<Exit, CliError> {
        let mut body = serde_json::Map::new();
        body.extend(self.from.as_ref().map(|from| ("from".to_owned(), from.as_str().into())));
        body.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
        for (name, given) in [("share", self.share), ("force", self.force)] {
            body.extend(given.then(|| (name.to_owned(), true.into())));
        }
        let body = Value::from(body).to_string();
        let name = paths::emit_value(name.as_bytes());
        let based_on = epoch.map(|epoch| format!("?epoch={}", paths::emit_value(epoch.as_bytes())));
        let target = format!("/admin/partitions/{name}/promote{}", based_on.unwrap_or_default());
        begin.run(Method::POST, &target, Some(body.as_bytes()))
    }
}

impl BeginArgs {
    /// How the answer is shown.
    pub const fn show(&self) -> &ShowArgs {
        &self.show
    }

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

    /// The answer to a request without a body.
    pub fn ask(&self, target: &str) -> Result<Value, CliError> {
        Ok(self.client()?.send(Method::GET, target, &[], None)?.json()?)
    }

    /// Prints an answer as it came, or for people.
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
    let names = ["id", "kind", "state", "started_at", "ended_at", "message"];
    let warning = operation.get("warning").map(|_| "warning");
    fields(operation, &names.into_iter().chain(warning).collect::<Vec<_>>())
}

pub(super) fn rows<'a>(doc: &'a Value, name: &str) -> &'a [Value] {
    doc.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text(doc: &Value, name: &str) -> String {
    match doc.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// A line for each of these.
pub(super) fn fields(doc: &Value, names: &[&str]) -> String {
    let mut table = table::plain();
    for name in names {
        table.add_row([(*name).to_owned(), text(doc, name)]);
    }
    table::text(table)
}

/// A row for each document.
pub(super) fn listed(rows: &[Value], names: &[&str]) -> String {
    let mut table = table::with(names);
    for row in rows {
        table.add_row(names.iter().map(|name| text(row, name)));
    }
    table::text(table)
}
