//! What can be wrong with a configuration, in the operator's words.
//!
//! No text here repeats a secret: addresses are shown by [`super::partition::redacted`], and what
//! the TOML reader quotes of a file is not passed on.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("cannot read the configuration {}; name another one with --config", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: not TOML: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the reader expected.
        message: String,
    },
    /// A variable is not text.
    #[error("the environment variable {name} is not UTF-8")]
    NotUnicode {
        /// Which variable.
        name: String,
    },
    /// The layers do not go together.
    #[error("the layers of the configuration cannot be joined")]
    Layers(#[source] Box<config::ConfigError>),
    /// Keys and values.
    #[error("{0}")]
    Wrong(Problems),
}

/// All that is wrong with keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its sections: `server.listen`.
    pub key: String,
    /// Where it was set.
    pub place: Place,
    /// What is wrong with it.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Default => write!(f, "{}: {}", self.key, self.kind),
            Place::File { path, line } => {
                write!(f, "{}, line {line}: {}: {}", path.display(), self.key, self.kind)
            }
            Place::Environment { name } => {
                write!(f, "environment variable {name}: {}: {}", self.key, self.kind)
            }
        }
    }
}

/// Where a key was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the default, or something that is missing.
    Default,
    /// In the file.
    File {
        /// Which one.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// In the environment.
    Environment {
        /// By which variable.
        name: String,
    },
}

/// What is wrong with a key or its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// Nobody knows the key.
    #[error("no such key{}{}", in_section(section), did_you_mean(nearest))]
    UnknownKey {
        /// The section that it stands in; empty at the top level.
        section: String,
        /// What was probably meant, with its section.
        nearest: Option<String>,
    },
    /// Nobody knows the section.
    #[error("no such section{}", did_you_mean(nearest))]
    UnknownSection {
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A table where a value belongs, or the other way round.
    #[error("must be {expected}")]
    Shape {
        /// What belongs here.
        expected: &'static str,
    },
    /// A name that no partition can have.
    #[error("a partition's name begins with a-z and has at most 32 of a-z, 0-9 and _")]
    Name,
    /// A partition without its database.
    #[error("is missing; name the database, for example url = \"sqlite:data/store_1.db\"")]
    NoUrl,
    /// A value that cannot be.
    #[error("{value:?} {why}; {fix}")]
    Value {
        /// The value, without secrets.
        value: String,
        /// What is wrong with it, with the limit.
        why: String,
        /// What to write instead.
        fix: String,
    },
    /// Two partitions in one database.
    #[error("{value:?} is also the database of partition {other}; give each partition its own")]
    SameDatabase {
        /// The database.
        value: String,
        /// Who has it already.
        other: String,
    },
    /// The partitions do not make a set.
    #[error("{0}")]
    Topology(#[from] crate::topology::TopologyError),
}

fn in_section(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in section [{section}]") }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
