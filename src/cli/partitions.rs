//! `partitions`: what a front end knows of the partitions, and those that come and go.

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::admin::{BeginArgs, ShowArgs, SlotsArgs};
use super::service::Service;
use super::{CliError, Exit, table, value};
use crate::http::paths;

/// `datastore partitions`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PartitionsArgs {
    #[command(subcommand)]
    command: Option<PartitionsCommand>,
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    service: Service,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
}

/// What can be done with them.
#[derive(Debug, Subcommand)]
enum PartitionsCommand {
    /// Add read copies, or a voter
    Add(AddArgs),
    /// Take a read copy away, once nobody reads from it; or a voter, once others have its slots
    Remove(RemoveArgs),
    /// Have a voter take the slots of a master, or its share of all slots
    Promote(PromoteArgs),
    /// Kill the private server of a read copy, to see what happens then
    Crash(CrashArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// One in this database, which has to be empty: `mysql://user:password@host:3306/database`
    #[arg(value_name = "URL", conflicts_with_all = ["count", "from", "named"])]
    database: Option<String>,
    /// The same
    #[arg(long = "database", id = "named", value_name = "URL", conflicts_with_all = ["count", "from"])]
    named: Option<String>,
    /// What for: to read from, or as a voter: one that holds the data, or one that votes only
    #[arg(long, value_parser = ["copy", "replica", "witness"], default_value = "copy")]
    role: String,
    /// The name of a voter; if not given, one that is free
    #[arg(long)]
    name: Option<String>,
    /// How many read copies [default: 1]
    #[arg(long)]
    count: Option<usize>,
    /// Where their databases come from; if not given, read copies as configured
    #[arg(long, value_parser = ["sqlite", "mariadb", "standby"])]
    from: Option<String>,
    #[command(flatten)]
    begin: BeginArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// Which one
    name: String,
    #[command(flatten)]
    begin: BeginArgs,
}

#[derive(Debug, Args)]
struct PromoteArgs {
    /// Which one
    name: String,
    #[command(flatten)]
    slots: SlotsArgs,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Only if this is still the epoch of the topology, as --dry-run has told it
    #[arg(long)]
    epoch: Option<u32>,
    /// Why: kept with the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    begin: BeginArgs,
}

#[derive(Debug, Args)]
struct CrashArgs {
    /// Whose server
    name: String,
    #[command(flatten)]
    show: ShowArgs,
}

/// Lists the partitions, or adds and removes some.
pub fn partitions(args: &PartitionsArgs) -> Result<Exit, CliError> {
    let path = |name: &str| format!("/admin/partitions/{}", paths::emit_value(name.as_bytes()));
    match &args.command {
        None => show(args),
        Some(PartitionsCommand::Add(args)) => {
            let body = addition(args).to_string();
            args.begin.run(Method::POST, "/admin/partitions", Some(body.as_bytes()))
        }
        Some(PartitionsCommand::Remove(args)) => {
            args.begin.run(Method::DELETE, &path(&args.name), None)
        }
        Some(PartitionsCommand::Promote(PromoteArgs {
            name,
            slots,
            dry_run,
            epoch,
            reason,
            begin,
        })) => {
            if *dry_run {
                slots.plan(name, begin.show())
            } else {
                let epoch = epoch.map(|epoch| epoch.to_string());
                slots.promote(name, reason.as_deref(), epoch.as_deref(), begin)
            }
        }
        Some(PartitionsCommand::Crash(args)) => {
            let target = format!("{}/crash", path(&args.name));
            args.show.tell(Method::POST, &target, &["partition", "pid"])
        }
    }
}

/// What is to be added: what was not given is left out.
fn addition(args: &AddArgs) -> Value {
    let mut body = serde_json::Map::new();
    let mut give = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text = |text: &Option<String>| text.clone().map(Value::String);
    give("role", Some(args.role.clone().into()));
    give("name", text(&args.name));
    give("url", text(&args.database).or_else(|| text(&args.named)));
    give("from", text(&args.from));
    give("count", args.count.map(Value::from));
    Value::Object(body)
}

fn show(args: &PartitionsArgs) -> Result<Exit, CliError> {
    let target = match &args.name {
        Some(name) => format!("/admin/partitions/{name}"),
        None => "/admin/partitions".to_owned(),
    };
    let mut answer = args.service.client()?.send(Method::GET, &target, &[], None)?;
    let mut bytes = answer.bytes()?;
    if args.json {
        bytes.push(b'\n');
        value::print(&bytes)?;
        return Ok(Exit::Done);
    }
    let doc: Option<Value> = serde_json::from_slice(&bytes).ok();
    let warnings: Vec<Value> =
        doc.as_ref().and_then(|doc| doc.get("warnings")?.as_array().cloned()).unwrap_or_default();
    let rows = doc.map(|doc| match doc.get("partitions").and_then(Value::as_array) {
        Some(all) => all.clone(),
        None => vec![doc],
    });
    let rows = rows.ok_or_else(|| answer.foreign("something other than partitions"))?;
    let mut text = table_of(&rows);
    for warning in warnings.iter().filter_map(Value::as_str) {
        text.push_str(&format!("warning: {warning}\n"));
    }
    value::print(text.as_bytes())?;
    Ok(Exit::Done)
}

fn table_of(rows: &[Value]) -> String {
    let header = ["name", "engine", "role", "state", "slots", "age", "lag", "url", "trouble"];
    let mut table = table::with(&header);
    for row in rows {
        let text = |name: &str| match row.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => "-".to_owned(),
            Some(other) => other.to_string(),
        };
        let age = match row.get("age_ms").and_then(Value::as_u64) {
            Some(ms) => format!("{ms} ms"),
            None => "unknown".to_owned(),
        };
        let [name, engine, role, state, slots] =
            ["name", "engine", "role", "state", "slots"].map(text);
        table.add_row([
            name,
            engine,
            role,
            state,
            slots,
            age,
            text("lag"),
            text("url"),
            text("trouble"),
        ]);
    }
    table::text(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said() {
        let row = serde_json::json!({
            "name": "store_1", "engine": "sqlite", "role": "master", "state": "active",
            "slots": 342, "age_ms": 12, "lag": null, "url": "sqlite:a.db", "trouble": null,
        });
        let away = serde_json::json!({ "name": "store_2", "age_ms": null });
        let text = table_of(&[row, away]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1],
            ["store_1", "sqlite", "master", "active", "342", "12", "ms", "-", "sqlite:a.db", "-"]
        );
        assert_eq!(lines[2], ["store_2", "-", "-", "-", "-", "unknown", "-", "-", "-"]);
    }
}
