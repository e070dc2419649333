//! `list`: keys, with their values on request, by pages.

use std::io::{self, IsTerminal};

use clap::Args;
use serde_json::Value;
use ureq::http::Method;

use super::arguments::{RangeArg, Source, Target, parameter, query};
use super::value::{self, InputError};
use super::{CliError, Exit, table};
use crate::client::{Answer, ClientError};

/// How much of a value a table shows.
const SHOWN_CHARS_MAX: usize = 40;

/// `datastore list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    range: RangeArg,
    /// At most so many keys; with --all: so many per request
    #[arg(long)]
    limit: Option<u32>,
    /// Go on to the last key
    #[arg(long)]
    all: bool,
    /// Show the values, too: as a table, or whole with --json
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    target: Target,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    fn parameters(&self) -> Result<Vec<String>, InputError> {
        let mut parameters = self.range.parameters()?;
        parameters.extend(self.limit.map(|limit| format!("limit={limit}")));
        parameters.extend(self.values.then(|| "values=true".to_owned()));
        parameters.extend(parameter("partition", self.source.partition.as_ref()));
        Ok(parameters)
    }
}

/// Lists keys.
pub fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let client = args.target.service.client()?;
    let mut target = format!("{}{}", args.target.base(), query(&args.parameters()?));
    let mut headers = vec![("accept", "application/x-ndjson".to_owned())];
    headers.extend(args.target.session());
    for page in 0.. {
        let mut answer = client.send(Method::GET, &target, &headers, None)?;
        let lines = answer.bytes()?;
        if args.json {
            value::print(&lines)?;
        } else {
            let rows = rows(&answer, &lines)?;
            let text = if args.values { table_of(&rows, page == 0) } else { keys(&rows) };
            value::print(&text)?;
        }
        match next(&answer) {
            Some(next) if args.all => target = next,
            Some(_) => {
                eprintln!("there are more keys: --all lists them, --after KEY goes on");
                break;
            }
            None => break,
        }
    }
    Ok(Exit::Done)
}

/// A row of the list, with its key.
struct Row {
    key: Vec<u8>,
    object: Value,
}

fn rows(answer: &Answer, lines: &[u8]) -> Result<Vec<Row>, ClientError> {
    let row = |line: &[u8]| {
        let object: Value = serde_json::from_slice(line).ok()?;
        Some(Row { key: value::bytes_of(&object, "key")?, object })
    };
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let rows: Option<Vec<Row>> = lines.map(row).collect();
    rows.ok_or_else(|| answer.foreign("a list with something other than keys"))
}

/// Where the next page is.
fn next(answer: &Answer) -> Option<String> {
    let (target, rest) = answer.header("link")?.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

/// A key a line: as it is, but for what a terminal would act upon.
fn keys(rows: &[Row]) -> Vec<u8> {
    let is_terminal = io::stdout().is_terminal();
    let mut lines = Vec::new();
    for row in rows {
        if is_terminal {
            lines.extend_from_slice(value::shown(&row.key).as_bytes());
        } else {
            lines.extend_from_slice(&row.key);
        }
        lines.push(b'\n');
    }
    lines
}

fn table_of(rows: &[Row], with_header: bool) -> Vec<u8> {
    if rows.is_empty() {
        return Vec::new();
    }
    let header = ["key", "value", "bytes", "type", "version", "expires"];
    let mut table = if with_header { table::with(&header) } else { table::plain() };
    for Row { key, object } in rows {
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        let value = value::bytes_of(object, "value").unwrap_or_default();
        table.add_row([
            value::shown(key),
            beginning(&value),
            value.len().to_string(),
            text("content_type"),
            text("version"),
            text("expires_at"),
        ]);
    }
    table::text(table).into_bytes()
}

/// A value, or as much of it as fits a line.
fn beginning(value: &[u8]) -> String {
    let some = &value[..value.len().min(4 * SHOWN_CHARS_MAX)];
    let text = value::shown(some);
    let mut begun: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if begun.len() < text.len() || some.len() < value.len() {
        begun.push_str("...");
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_how_values_begin() {
        assert_eq!(beginning(b"blue"), "blue");
        assert_eq!(beginning(&[b'x'; 41]), format!("{}...", "x".repeat(40)));
        assert_eq!(beginning(&[0xff; 1000]), format!("{}...", "\\xff".repeat(10)));
        assert_eq!(beginning(b"a\nb"), "a\\nb");
    }
}
