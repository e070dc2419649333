//! The layers as they are written: which keys there are, and where each was set.
//!
//! Every value is read as text; [`super::validate`] gives it its type. So a password that consists
//! of digits stays what it is, and one place words the errors.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::{Config as Layers, Environment, File, FileFormat};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, Problem, ProblemKind, Problems};
use super::partition::is_name;

/// What the variables begin with, before `SECTION__KEY`.
const PREFIX: &str = "DATASTORE";
/// What stands between the words of a variable. Twice, since keys have single ones.
const SEPARATOR: &str = "__";
/// Below this similarity (0 to 1) a name is not taken for a misspelling of another.
const SIMILARITY_MIN: f64 = 0.6;

/// The sections with fixed names, and their keys.
pub(super) const SECTIONS: [(&str, &[&str]); 7] = [
    (
        "server",
        &[
            "listen",
            "hosts",
            "deadline",
            "body_budget_bytes",
            "followers_max",
            "heartbeat",
            "drain_delay",
            "shutdown_deadline",
        ],
    ),
    ("store", &["root", "key_bytes_max", "value_bytes_max", "ack_timeout", "database_prefix"]),
    ("sync", &["schedule", "eager", "log_retention", "ledger_retention"]),
    ("embedded_copy", &["engine"]),
    ("orchestrator", &["enabled", "interval", "patience", "cooldown", "key_file"]),
    (
        "scaling",
        &[
            "enabled",
            "dry_run",
            "min",
            "max",
            "reads_per_copy",
            "window",
            "cooldown",
            "hysteresis_percent",
            "provisioner",
            "standby",
        ],
    ),
    ("chaos", &["enabled"]),
];
/// The section that has one table per partition, and the keys of each.
pub(super) const PARTITION: (&str, &[&str]) = ("partition", &["url", "password_file", "role"]);

/// The keys whose values are lists.
const LISTS: [&str; 2] = ["server.hosts", "scaling.standby"];

/// What the layers say; `None`: nothing, so the default stands.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub server: RawServer,
    pub store: RawStore,
    pub partition: BTreeMap<String, RawPartition>,
    pub sync: RawSync,
    pub embedded_copy: RawEmbeddedCopy,
    pub orchestrator: RawOrchestrator,
    pub scaling: RawScaling,
    pub chaos: RawChaos,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawServer {
    pub listen: Option<String>,
    pub hosts: Option<RawList>,
    pub deadline: Option<String>,
    pub body_budget_bytes: Option<String>,
    pub followers_max: Option<String>,
    pub heartbeat: Option<String>,
    pub drain_delay: Option<String>,
    pub shutdown_deadline: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawStore {
    pub root: Option<String>,
    pub key_bytes_max: Option<String>,
    pub value_bytes_max: Option<String>,
    pub ack_timeout: Option<String>,
    pub database_prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPartition {
    pub url: Option<String>,
    pub password_file: Option<String>,
    pub role: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSync {
    pub schedule: Option<String>,
    pub eager: Option<String>,
    pub log_retention: Option<String>,
    pub ledger_retention: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawEmbeddedCopy {
    pub engine: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawOrchestrator {
    pub enabled: Option<String>,
    pub interval: Option<String>,
    pub patience: Option<String>,
    pub cooldown: Option<String>,
    pub key_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawScaling {
    pub enabled: Option<String>,
    pub dry_run: Option<String>,
    pub min: Option<String>,
    pub max: Option<String>,
    pub reads_per_copy: Option<String>,
    pub window: Option<String>,
    pub cooldown: Option<String>,
    pub hysteresis_percent: Option<String>,
    pub provisioner: Option<String>,
    pub standby: Option<RawList>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawChaos {
    pub enabled: Option<String>,
}

/// A list: an array in the file, words between commas in the environment.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawList {
    Items(Vec<String>),
    Text(String),
}

impl RawList {
    pub fn items(&self) -> Vec<&str> {
        match self {
            Self::Items(items) => items.iter().map(String::as_str).collect(),
            Self::Text(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
            }
        }
    }
}

/// The layers joined.
#[derive(Debug)]
pub(super) struct Layered {
    pub raw: RawConfig,
    /// Where each key was set last.
    pub places: BTreeMap<String, Place>,
    /// Keys that nobody knows.
    pub problems: Vec<Problem>,
}

/// The variables that are meant for us.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let prefix = format!("{PREFIX}{SEPARATOR}");
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.to_uppercase().starts_with(&prefix))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::NotUnicode { name }),
        })
        .collect()
}

/// Joins a file and the environment.
pub(super) fn read(
    file: Option<(&Path, &str)>,
    environment: &BTreeMap<String, String>,
) -> Result<Layered, ConfigError> {
    let mut keys = Keys::default();
    let mut layers = Layers::builder();
    if let Some((path, text)) = file {
        keys.read_file(path, text)?;
        layers = layers.add_source(File::from_str(text, FileFormat::Toml));
    }
    let known = environment
        .iter()
        .filter(|(name, _)| keys.read_variable(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if keys.problems.iter().any(|problem| matches!(problem.kind, ProblemKind::Shape { .. })) {
        return Err(ConfigError::Wrong(Problems(keys.problems)));
    }
    let variables = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(known));
    let raw = layers
        .add_source(variables)
        .build()
        .and_then(Layers::try_deserialize)
        .map_err(|error| ConfigError::Layers(Box::new(error)))?;
    Ok(Layered { raw, places: keys.places, problems: keys.problems })
}

/// The form of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    /// A value that is read as text where that is meant.
    Plain,
    /// Of texts.
    List,
    /// A table, or a list of something else.
    Other,
}

impl Shape {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(_) => Self::Text,
            DeValue::Array(items)
                if items.iter().all(|item| Self::of(item.get_ref()) == Self::Text) =>
            {
                Self::List
            }
            DeValue::Array(_) | DeValue::Table(_) => Self::Other,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Self::Plain,
        }
    }
}

/// Which keys were met, and where.
#[derive(Default)]
struct Keys {
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Keys {
    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let line_at = |at: usize| 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        let place = |span: std::ops::Range<usize>| Place::File {
            path: path.to_owned(),
            line: line_at(span.start),
        };
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_at(span.start)),
            message: error.message().to_owned(),
        })?;
        for (section, value) in document.get_ref() {
            let here = place(section.span());
            let section = section.get_ref().as_ref();
            self.numbers(section, value, &place);
            let DeValue::Table(table) = value.get_ref() else {
                self.unexpected_value(section, here);
                continue;
            };
            if section != PARTITION.0 {
                for (key, value) in table {
                    let shape = Shape::of(value.get_ref());
                    self.key(section, key.get_ref(), shape, place(key.span()));
                }
                if !SECTIONS.iter().any(|(name, _)| *name == section) {
                    self.unknown_section(section, here);
                }
                continue;
            }
            for (name, value) in table {
                let here = place(name.span());
                let section = format!("{section}.{}", name.get_ref());
                let DeValue::Table(table) = value.get_ref() else {
                    let expected = "a table, one per partition, as in [partition.store_1]";
                    self.problem(&section, here, ProblemKind::Shape { expected });
                    continue;
                };
                self.partition(name.get_ref(), here);
                for (key, value) in table {
                    let shape = Shape::of(value.get_ref());
                    self.key(&section, key.get_ref(), shape, place(key.span()));
                }
            }
        }
        Ok(())
    }

    /// Notes numbers that TOML allows and nothing can hold, wherever they stand.
    fn numbers(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        place: &impl Fn(std::ops::Range<usize>) -> Place,
    ) {
        let fits = match value.get_ref() {
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).is_ok()
            }
            DeValue::Float(number) => {
                let (text, number) = (number.as_str(), number.as_str().parse::<f64>());
                text.ends_with("inf") || number.is_ok_and(|number| !number.is_infinite())
            }
            DeValue::Array(items) => {
                items.iter().for_each(|item| self.numbers(key, item, place));
                true
            }
            DeValue::Table(table) => {
                for (inner, value) in table {
                    self.numbers(&format!("{key}.{}", inner.get_ref()), value, place);
                }
                true
            }
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        };
        if !fits {
            let expected = "a number that 64 bits hold";
            self.problem(key, place(value.span()), ProblemKind::Shape { expected });
        }
    }

    /// Returns whether the variable sets a known key.
    fn read_variable(&mut self, name: &str) -> bool {
        let place = Place::Environment { name: name.to_owned() };
        let words = name.to_lowercase();
        let words: Vec<&str> = words.split(SEPARATOR).skip(1).collect();
        match words[..] {
            [section, partition, key] if section == PARTITION.0 => {
                self.partition(partition, place.clone())
                    && self.key(&format!("{section}.{partition}"), key, Shape::Text, place)
            }
            [section, key] if SECTIONS.iter().any(|(name, _)| *name == section) => {
                self.key(section, key, Shape::Text, place)
            }
            _ => {
                let key = words.join(".");
                let nearest = nearest_variable(name);
                let section = String::new();
                self.problem(&key, place, ProblemKind::UnknownKey { section, nearest });
                false
            }
        }
    }

    /// Notes a partition's table; returns whether its name can be one.
    fn partition(&mut self, name: &str, place: Place) -> bool {
        let key = format!("{}.{name}", PARTITION.0);
        let good = is_name(name);
        if good {
            self.places.entry(key).or_insert(place);
        } else {
            self.problem(&key, place, ProblemKind::Name);
        }
        good
    }

    /// Notes a key; returns whether it is one that can be set so.
    fn key(&mut self, section: &str, key: &str, shape: Shape, place: Place) -> bool {
        let Some(known) = keys_of(section) else {
            return false;
        };
        let full = format!("{section}.{key}");
        if !known.contains(&key) {
            let nearest = nearest_key(section, known, key);
            let section = section.to_owned();
            self.problem(&full, place, ProblemKind::UnknownKey { section, nearest });
            return false;
        }
        let is_list = LISTS.contains(&full.as_str());
        let fits = match shape {
            Shape::Text => true,
            Shape::Plain => !is_list,
            Shape::List => is_list,
            Shape::Other => false,
        };
        if !fits {
            let expected = if is_list { "a list of texts" } else { "a single value" };
            self.problem(&full, place, ProblemKind::Shape { expected });
            return false;
        }
        self.places.insert(full, place);
        true
    }

    /// A value at the top level, where only sections stand.
    fn unexpected_value(&mut self, key: &str, place: Place) {
        let kind = if section_names().any(|name| name == key) {
            ProblemKind::Shape { expected: "a section, as in [server]" }
        } else {
            let nearest = elsewhere("", key).or_else(|| nearest(key, section_names()));
            ProblemKind::UnknownKey { section: String::new(), nearest }
        };
        self.problem(key, place, kind);
    }

    fn unknown_section(&mut self, section: &str, place: Place) {
        let nearest = nearest(section, section_names()).map(|name| format!("[{name}]"));
        self.problem(section, place, ProblemKind::UnknownSection { nearest });
    }

    fn problem(&mut self, key: &str, place: Place, kind: ProblemKind) {
        self.problems.push(Problem { key: key.to_owned(), place, kind });
    }
}

fn section_names() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|(name, _)| *name).chain([PARTITION.0])
}

/// The keys of a section; `None`: there is no such section.
fn keys_of(section: &str) -> Option<&'static [&'static str]> {
    if section.split('.').next() == Some(PARTITION.0) {
        return Some(PARTITION.1);
    }
    SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

/// What a key of this section was probably meant to be: a neighbour, or the same word elsewhere.
fn nearest_key(section: &str, known: &[&'static str], key: &str) -> Option<String> {
    let neighbour = nearest(key, known.iter().copied());
    neighbour.map(|name| format!("{section}.{name}")).or_else(|| elsewhere(section, key))
}

/// Where else a key of this name stands.
fn elsewhere(section: &str, key: &str) -> Option<String> {
    SECTIONS
        .iter()
        .find(|(name, keys)| *name != section && keys.contains(&key))
        .map(|(name, _)| format!("{name}.{key}"))
}

fn nearest_variable(name: &str) -> Option<String> {
    let known: Vec<String> = SECTIONS
        .iter()
        .flat_map(|(section, keys)| {
            keys.iter().map(move |key| format!("{section}{SEPARATOR}{key}"))
        })
        .map(|words| format!("{PREFIX}{SEPARATOR}{words}").to_uppercase())
        .collect();
    nearest(&name.to_uppercase(), known.iter().map(String::as_str))
}

/// The most similar candidate, if any is similar.
pub(super) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(text, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}
