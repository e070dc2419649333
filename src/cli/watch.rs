//! `watch`: what changes, as it changes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde_json::{Map, Value};

use super::service::Service;
use super::value::{self, print, print_json, shown};
use super::{CliError, Exit};
use crate::client::follow::{Change, Follow, Follower, Item};
use crate::sync::round::chain;

/// `datastore watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only keys that begin so
    #[arg(long)]
    prefix: Option<OsString>,
    /// Where to begin: `now`, `0` for all that stands first, or a position that --json told
    #[arg(long, value_name = "POSITION", default_value = "now")]
    since: String,
    /// Print the values, too: whole with --json, else as far as a line goes
    #[arg(long)]
    values: bool,
    /// End when all that there is has been printed
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    service: Service,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

/// How much of a value a line shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Prints what changes. A service that goes away is waited for; one that was never there is not.
pub fn watch(args: &WatchArgs) -> Result<Exit, CliError> {
    let mut follower = Follower::new(&Follow {
        urls: vec![args.service.url().to_owned()],
        prefix: args.prefix.as_ref().map(|prefix| prefix.as_bytes().to_vec()).unwrap_or_default(),
        since: args.since.clone(),
        values: args.values,
    })?;
    let (mut has_begun, mut is_away) = (false, false);
    loop {
        match follower.next_change() {
            Ok(change) => {
                if std::mem::take(&mut is_away) {
                    eprintln!("the service is back");
                }
                has_begun = true;
                let is_current = change == Change::Current;
                tell(&change, follower.position(), args.json)?;
                if is_current && args.once {
                    return Ok(Exit::Done);
                }
            }
            Err(error) if has_begun && error.may_pass() => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("waiting for the service: {}", chain(&error));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell(change: &Change, position: &str, json: bool) -> Result<(), CliError> {
    if json {
        return print_json(&object(change, position).into());
    }
    match change {
        Change::Put(item) => {
            let mut line = format!("put     {}  {}", item.version, shown(&item.key));
            if let Some(value) = &item.value {
                let start: String = shown(value).chars().take(SHOWN_CHARS_MAX).collect();
                line.push_str(&format!("  {start}"));
            }
            print(format!("{line}\n").as_bytes())
        }
        Change::Delete { key, version, .. } => {
            print(format!("delete  {version}  {}\n", shown(key)).as_bytes())
        }
        Change::Reset => print(b"reset   the position is gone; all that stands follows\n"),
        Change::Current => Ok(()),
    }
}

/// A change as JSON; `position` is where to go on after it.
fn object(change: &Change, position: &str) -> Map<String, Value> {
    let mut object = Map::new();
    let mut insert = |name: &str, text: String| object.insert(name.to_owned(), text.into());
    match change {
        Change::Put(Item { version, partition, content_type, expires_at, .. }) => {
            insert("type", "put".to_owned());
            insert("version", version.to_string());
            insert("partition", partition.clone());
            for (name, text) in [("content_type", content_type), ("expires_at", expires_at)] {
                if let Some(text) = text {
                    insert(name, text.clone());
                }
            }
        }
        Change::Delete { version, partition, .. } => {
            insert("type", "delete".to_owned());
            insert("version", version.to_string());
            insert("partition", partition.clone());
        }
        Change::Reset => drop(insert("type", "reset".to_owned())),
        Change::Current => drop(insert("type", "current".to_owned())),
    }
    insert("position", position.to_owned());
    match change {
        Change::Put(item) => {
            value::insert(&mut object, "key", &item.key);
            if let Some(bytes) = &item.value {
                value::insert(&mut object, "value", bytes);
            }
        }
        Change::Delete { key, .. } => value::insert(&mut object, "key", key),
        Change::Reset | Change::Current => {}
    }
    object
}
