//! `conflicts`: the ledger of writes that lost against others, and writing one of them once more.

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

use super::admin::ShowArgs;
use super::arguments::Condition;
use super::{CliError, Exit, table, value};
use crate::http::paths;

/// `datastore conflicts`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConflictsArgs {
    #[command(subcommand)]
    command: Option<ConflictsCommand>,
    /// Only this one, with its value
    id: Option<String>,
    /// All pages
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    show: ShowArgs,
}

/// What can be done with them.
#[derive(Debug, Subcommand)]
enum ConflictsCommand {
    /// Write what lost once more, as a new write
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Which one
    id: String,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    show: ShowArgs,
}

/// Lists the ledger, shows one entry, or writes one once more.
pub fn conflicts(args: &ConflictsArgs) -> Result<Exit, CliError> {
    let path = |id: &str| format!("/admin/conflicts/{}", paths::emit_value(id.as_bytes()));
    match (&args.command, &args.id) {
        (Some(ConflictsCommand::Replay(args)), _) => {
            let headers: Vec<(&str, String)> = args.condition.headers().collect();
            let target = format!("{}/replay", path(&args.id));
            let answer = args.show.client()?.send(Method::POST, &target, &headers, None)?.json()?;
            args.show.print(&answer, |answer| super::admin::fields(answer, &["message"]))?;
            Ok(Exit::Done)
        }
        (None, Some(id)) => {
            let names = ["id", "space", "key", "key_base64", "version", "origin", "deleted"];
            let names = [&names[..], &["content_type", "value", "value_base64", "noted_at"]];
            args.show.tell(Method::GET, &path(id), &names.concat())
        }
        (None, None) => list(args),
    }
}

fn list(args: &ConflictsArgs) -> Result<Exit, CliError> {
    let client = args.show.client()?;
    let mut target = "/admin/conflicts".to_owned();
    for page in 0.. {
        let answer = client.send(Method::GET, &target, &[], None)?.json()?;
        args.show.print(&answer, |answer| table_of(answer, page == 0))?;
        match answer.get("next").and_then(Value::as_str) {
            Some(next) if args.all => target = next.to_owned(),
            Some(_) => {
                eprintln!("there are more of them: --all lists them");
                break;
            }
            None => break,
        }
    }
    Ok(Exit::Done)
}

fn table_of(page: &Value, with_header: bool) -> String {
    let header = ["id", "space", "key", "version", "origin", "deleted", "noted", "kept by"];
    let mut table = if with_header { table::with(&header) } else { table::plain() };
    for entry in page.get("conflicts").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| match entry.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => "-".to_owned(),
            Some(other) => other.to_string(),
        };
        let key = value::bytes_of(entry, "key").unwrap_or_default();
        let names = entry.get("kept_by").and_then(Value::as_array).into_iter().flatten();
        let kept_by: Vec<&str> = names.filter_map(Value::as_str).collect();
        table.add_row([
            text("id"),
            text("space"),
            value::shown(&key),
            text("version"),
            text("origin"),
            text("deleted"),
            text("noted_at"),
            kept_by.join(" "),
        ]);
    }
    table::text(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let page = serde_json::json!({ "conflicts": [{
            "id": "AAB", "space": "data", "key_base64": "/w==", "version": "1.7", "origin": 2,
            "deleted": false, "noted_at": "2026-01-01T00:00:00Z", "kept_by": ["store_1", "store_2"],
        }] });
        let text = table_of(&page, true);
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let noted = "2026-01-01T00:00:00Z";
        let wanted = ["AAB", "data", "\\xff", "1.7", "2", "false", noted, "store_1", "store_2"];
        assert_eq!(line, wanted);
    }
}
