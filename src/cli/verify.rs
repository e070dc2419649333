//! `verify`: has the service compare its partitions, and shows what came of it.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use ureq::http::Method;

use super::service::Service;
use super::{CliError, Exit, table, value};
use crate::client::Client;

/// The resource.
const VERIFY: &str = "/admin/verify";
/// How long each request waits for the pass: so often the progress is shown anew.
const WAIT: &str = "?wait=1s";
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// `datastore verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    service: Service,
    /// Print the JSON document
    #[arg(long)]
    json: bool,
}

/// Runs one pass and waits for its end.
pub fn verify(args: &VerifyArgs) -> Result<Exit, CliError> {
    let client = args.service.client()?;
    let known = number(&ask(&client, Method::GET, "")?, "pass");
    // On standard error, and only where that is a terminal.
    let bar = ProgressBar::new_spinner().with_style(style());
    bar.enable_steady_tick(TICK);
    let mut answer = ask(&client, Method::POST, WAIT)?;
    // Not done in time: another pass may have been going on, so ours is a later one than any that
    // was known before.
    while !(is_done(&answer) && number(&answer, "pass") > known) {
        bar.set_message(format!("{} rows compared", number(&answer, "rows")));
        answer = ask(&client, Method::GET, WAIT)?;
    }
    bar.finish_and_clear();
    if args.json {
        value::print_json(&answer)?;
    } else {
        value::print(report(&answer).as_bytes())?;
    }
    Ok(exit(&answer))
}

fn style() -> ProgressStyle {
    let template = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    template.unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn ask(client: &Client, method: Method, query: &str) -> Result<Value, CliError> {
    Ok(client.send(method, &format!("{VERIFY}{query}"), &[], None)?.json()?)
}

fn is_done(report: &Value) -> bool {
    report.get("done").and_then(Value::as_bool).unwrap_or(false)
}

fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn texts<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn rows<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// 1 where something is wrong and stays so, 3 where not everybody could be asked.
fn exit(report: &Value) -> Exit {
    let asked = rows(report, "partitions");
    if number(report, "left") > 0 {
        Exit::NotDone
    } else if asked.iter().any(|partition| partition.get("error").is_some_and(Value::is_string)) {
        Exit::Unavailable
    } else {
        Exit::Done
    }
}

fn report(report: &Value) -> String {
    let mut text = String::new();
    let differences = rows(report, "differences");
    if !differences.is_empty() {
        let mut table = table::with(&["key", "partition", "wrong", ""]);
        for row in differences {
            let key = value::bytes_of(row, "key").unwrap_or_default();
            let mended = row.get("mended").and_then(Value::as_bool).unwrap_or(false);
            let what = if mended { "mended" } else { "left" };
            table.add_row([
                &value::shown(&key),
                texts(row, "partition"),
                texts(row, "wrong"),
                what,
            ]);
        }
        text.push_str(&table::text(table));
        text.push('\n');
    }
    for partition in rows(report, "partitions") {
        if let Some(error) = partition.get("error").and_then(Value::as_str) {
            text.push_str(&format!("{}: {error}; left out\n", texts(partition, "name")));
        }
    }
    let [same, mended, left] = ["rows", "mended", "left"].map(|name| number(report, name));
    text.push_str(&format!("{same} rows are the same, {mended} mended, {left} left\n"));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_wrong_is_told_to_scripts() {
        let of = |left: u64, error: Value| {
            exit(&json!({"left": left, "partitions": [{"name": "a", "error": error}]}))
        };
        assert_eq!(of(0, Value::Null), Exit::Done);
        assert_eq!(of(1, Value::Null), Exit::NotDone);
        assert_eq!(of(0, "unreachable".into()), Exit::Unavailable);
        assert_eq!(of(1, "unreachable".into()), Exit::NotDone);
    }

    #[test]
    fn people_see_what_was_wrong() {
        let text = report(&json!({
            "rows": 9, "mended": 1, "left": 0,
            "partitions": [{"name": "b", "error": "unreachable"}],
            "differences": [{"key": "k", "partition": "a", "wrong": "damaged", "mended": true}],
        }));
        for part in ["k", "damaged", "mended", "b: unreachable", "9 rows are the same, 1 mended"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
