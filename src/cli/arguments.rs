//! Arguments that several commands share.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;

use super::service::Service;
use super::value::{self, InputError};
use crate::http::paths;

/// A key of any bytes.
#[derive(Debug, Args)]
pub struct KeyArg {
    /// The key, of any bytes
    key: OsString,
    /// KEY is given in base64
    #[arg(long)]
    key_base64: bool,
}

impl KeyArg {
    /// The key itself.
    pub fn bytes(&self) -> Result<Vec<u8>, InputError> {
        let key = value::decode("KEY", &self.key, self.key_base64)?;
        if key.is_empty() { Err(InputError::EmptyKey) } else { Ok(key) }
    }
}

/// A value of any bytes.
#[derive(Debug, Args)]
pub struct ValueArg {
    /// The value; `-` or nothing: read from standard input
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    file: Option<PathBuf>,
}

impl ValueArg {
    /// The value itself.
    pub fn bytes(&self) -> Result<Vec<u8>, InputError> {
        match (&self.value, &self.file) {
            (_, Some(path)) => value::of_file(path),
            (Some(text), None) if text != "-" => Ok(text.as_bytes().to_vec()),
            (_, None) => value::of_standard_input(),
        }
    }
}

/// Which service, and which way to it.
#[derive(Debug, Args)]
pub struct Target {
    /// Read at the key's master, write to all partitions that can be reached
    #[arg(long)]
    canonical: bool,
    /// What was seen before, as `session` of --json tells: nothing older is read
    #[arg(long, value_name = "TOKEN")]
    session: Option<String>,
    #[command(flatten)]
    pub service: Service,
}

impl Target {
    /// Where values live on this way.
    pub const fn base(&self) -> &'static str {
        if self.canonical { paths::CANONICAL } else { paths::BUCKET }
    }

    /// Where batches go on this way.
    pub const fn batch(&self) -> &'static str {
        if self.canonical { "/canonicalbatch" } else { "/batch" }
    }

    /// What was seen before, as a header.
    pub fn session(&self) -> Option<(&'static str, String)> {
        self.session.clone().map(|token| ("datastore-session", token))
    }
}

/// Where to read.
#[derive(Debug, Args)]
pub struct Source {
    /// Read from this partition, as it is
    #[arg(long, value_name = "NAME", conflicts_with = "canonical")]
    pub partition: Option<String>,
}

/// How many partitions have to hold a write before it is answered.
#[derive(Debug, Args)]
pub struct AckArg {
    /// Wait until so many partitions hold it
    #[arg(long, value_name = "HOW MANY", value_parser = ["1", "majority", "all"])]
    pub ack: Option<String>,
}

/// What the written value is.
#[derive(Debug, Args)]
pub struct Kind {
    /// The media type; if not given, plain text where the value is UTF-8, else bytes
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// How long the value is visible: 30s, 5m, 1h30m
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<String>,
}

/// What must stand for a command to do what it does.
#[derive(Debug, Args)]
pub struct Condition {
    /// Only if the key has this version (or any: `*`)
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
    /// Only if the key has not this version (or none at all: `*`)
    #[arg(long, value_name = "VERSION")]
    if_none_match: Option<String>,
}

impl Condition {
    /// The conditions, as headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let tag = |version: &String| match version.as_str() {
            "*" => "*".to_owned(),
            version => format!("\"{}\"", version.trim_matches('"')),
        };
        let given = [("if-match", &self.if_match), ("if-none-match", &self.if_none_match)];
        given.into_iter().filter_map(move |(name, version)| Some((name, tag(version.as_ref()?))))
    }
}

/// Which keys are listed.
#[derive(Debug, Args)]
pub struct RangeArg {
    /// Only keys that begin so
    #[arg(long, value_name = "BYTES")]
    prefix: Option<OsString>,
    /// Only keys that come after this one
    #[arg(long, value_name = "KEY")]
    after: Option<OsString>,
    /// The prefix and --after are given in base64
    #[arg(long)]
    key_base64: bool,
}

impl RangeArg {
    /// The range as parameters of a query.
    pub fn parameters(&self) -> Result<Vec<String>, InputError> {
        let mut parameters = Vec::new();
        for (name, option, given) in
            [("prefix", "--prefix", &self.prefix), ("after", "--after", &self.after)]
        {
            if let Some(given) = given {
                let bytes = value::decode(option, given, self.key_base64)?;
                parameters.push(format!("{name}={}", paths::emit_value(&bytes)));
            }
        }
        Ok(parameters)
    }
}

/// One parameter of a query, where there is a value.
pub fn parameter(name: &str, value: Option<&String>) -> Option<String> {
    value.map(|value| format!("{name}={}", paths::emit_value(value.as_bytes())))
}

/// A query of parameters.
pub fn query(parameters: &[String]) -> String {
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}
