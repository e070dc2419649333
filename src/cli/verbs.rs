//! `get`, `set`, `delete` and `list`: what curl does, with keys and values of any bytes and exit
//! codes that a script can use.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};
use ureq::http::{Method, StatusCode};

use super::client::{Answer, Client, Service};
use super::{CliError, Exit, value};
use crate::http::paths;

/// Where keys live.
const BUCKET: &str = "/bucket/";

/// `datastore get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The key, of any bytes
    key: OsString,
    /// Read from this partition, as it is
    #[arg(long)]
    partition: Option<String>,
    #[command(flatten)]
    service: Service,
    /// Print a JSON object with the value, its type and its version
    #[arg(long)]
    json: bool,
}

/// `datastore set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The key, of any bytes
    key: OsString,
    /// The value; `-` or nothing: read from standard input
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, conflicts_with = "value")]
    file: Option<PathBuf>,
    /// The media type; if not given, plain text where the value is UTF-8, else bytes
    #[arg(long)]
    content_type: Option<String>,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    service: Service,
    /// Print a JSON object with the version
    #[arg(long)]
    json: bool,
}

/// `datastore delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The key, of any bytes
    key: OsString,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    service: Service,
    /// Print a JSON object with the version
    #[arg(long)]
    json: bool,
}

/// `datastore list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only keys that begin so
    #[arg(long)]
    prefix: Option<OsString>,
    /// At most so many keys; with --all: so many per request
    #[arg(long)]
    limit: Option<u32>,
    /// Go on to the last key
    #[arg(long)]
    all: bool,
    /// List from this partition, as it is
    #[arg(long)]
    partition: Option<String>,
    #[command(flatten)]
    service: Service,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

/// What must stand for a write to be made.
#[derive(Debug, Args)]
struct Condition {
    /// Only if the key has this version (or any: `*`)
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
    /// Only if the key has not this version (or none at all: `*`)
    #[arg(long, value_name = "VERSION")]
    if_none_match: Option<String>,
}

impl Condition {
    fn headers(&self) -> Vec<(&'static str, String)> {
        let header = |name, version: &Option<String>| {
            let tag = |version: &String| match version.as_str() {
                "*" => "*".to_owned(),
                version => format!("\"{}\"", version.trim_matches('"')),
            };
            version.as_ref().map(|version| (name, tag(version)))
        };
        [header("if-match", &self.if_match), header("if-none-match", &self.if_none_match)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Prints a value.
pub fn get(args: &GetArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.service)?;
    let mut target = paths::emit(BUCKET, args.key.as_bytes());
    if let Some(partition) = &args.partition {
        target.push_str(&format!("?partition={}", paths::emit_value(partition.as_bytes())));
    }
    let mut answer = client.send(Method::GET, &target, &[("accept", "*/*")], &[])?;
    let bytes = answer.bytes()?;
    if !args.json {
        value::print(&bytes)?;
        return Ok(Exit::Done);
    }
    let mut object = described(&args.key, &answer);
    value::insert(&mut object, "value", &bytes);
    for (name, header) in [("content_type", "content-type"), ("partition", "datastore-partition")] {
        if let Some(text) = answer.header(header) {
            object.insert(name.to_owned(), text.into());
        }
    }
    value::print_json(&object.into())?;
    Ok(Exit::Done)
}

/// Stores a value.
pub fn set(args: &SetArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.service)?;
    let bytes = value::read(args.value.as_deref(), args.file.as_deref())?;
    let condition = args.condition.headers();
    let mut headers: Vec<(&str, &str)> =
        condition.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if let Some(content_type) = &args.content_type {
        headers.push(("content-type", content_type));
    }
    let target = paths::emit(BUCKET, args.key.as_bytes());
    let answer = client.send(Method::PUT, &target, &headers, &bytes)?;
    if args.json {
        let mut object = described(&args.key, &answer);
        let created = answer.status == StatusCode::CREATED;
        object.insert("created".to_owned(), created.into());
        value::print_json(&object.into())?;
    }
    Ok(Exit::Done)
}

/// Deletes a key.
pub fn delete(args: &DeleteArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.service)?;
    let condition = args.condition.headers();
    let headers: Vec<(&str, &str)> =
        condition.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let target = paths::emit(BUCKET, args.key.as_bytes());
    let answer = client.send(Method::DELETE, &target, &headers, &[])?;
    if args.json {
        value::print_json(&described(&args.key, &answer).into())?;
    }
    Ok(Exit::Done)
}

/// Lists keys.
pub fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.service)?;
    let mut query = Vec::new();
    if let Some(prefix) = &args.prefix {
        query.push(format!("prefix={}", paths::emit_value(prefix.as_bytes())));
    }
    if let Some(limit) = args.limit {
        query.push(format!("limit={limit}"));
    }
    if let Some(partition) = &args.partition {
        query.push(format!("partition={}", paths::emit_value(partition.as_bytes())));
    }
    let mut target = format!("{BUCKET}?{}", query.join("&")).trim_end_matches('?').to_owned();
    loop {
        let accept = [("accept", "application/json")];
        let mut answer = client.send(Method::GET, &target, &accept, &[])?;
        let page = answer.json()?;
        let keys = page.get("message").and_then(Value::as_array);
        let keys = keys.ok_or_else(|| answer.foreign("a list without its message"))?;
        let mut lines = Vec::new();
        for path in keys {
            let key = path
                .as_str()
                .and_then(|path| path.strip_prefix(BUCKET))
                .and_then(|path| paths::decode(path).ok())
                .ok_or_else(|| answer.foreign("a list with something other than paths"))?;
            lines.extend(line(&key, args.json));
        }
        value::print(&lines)?;
        match page.get("next").and_then(Value::as_str) {
            Some(next) if args.all => target = next.to_owned(),
            Some(_) => {
                eprintln!("there are more keys; --all lists them");
                return Ok(Exit::Done);
            }
            None => return Ok(Exit::Done),
        }
    }
}

fn line(key: &[u8], json: bool) -> Vec<u8> {
    let mut line = if json {
        let mut object = Map::new();
        value::insert(&mut object, "key", key);
        Value::from(object).to_string().into_bytes()
    } else {
        key.to_vec()
    };
    line.push(b'\n');
    line
}

fn described(key: &OsString, answer: &Answer) -> Map<String, Value> {
    let mut object = Map::new();
    value::insert(&mut object, "key", &key.clone().into_vec());
    if let Some(version) = answer.version() {
        object.insert("version".to_owned(), version.into());
    }
    object
}
