//! `[partition.NAME]`: where a partition's database is, and what the partition is for.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::partition::mysql::{MysqlUrl, MysqlUrlError};
use crate::topology::Role;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Its database.
    pub url: PartitionUrl,
    /// What it is for.
    pub role: Role,
}

/// Where a database is. A password is never shown: [`MysqlUrl`] has `Debug` and `Display` of its
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionUrl {
    /// One SQLite file.
    Sqlite {
        /// The file, under the data root unless the path is absolute.
        path: PathBuf,
    },
    /// A database on a MariaDB or MySQL server.
    Mysql(MysqlUrl),
    /// The process's own memory: gone with it.
    Memory,
}

impl fmt::Display for PartitionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) => url.fmt(f),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// Why a text does not tell where a database is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A URL of a server that is wrong somewhere.
    #[error("is no url of a server: {0}")]
    Mysql(#[from] MysqlUrlError),
    /// An engine that nobody knows.
    #[error("names no engine")]
    EngineUnknown,
    /// A file name is needed.
    #[error("names no file")]
    NoFile,
    /// SQLite would read the name as something else.
    #[error("is read by SQLite as something other than a file's name")]
    NotAFile,
    /// `..` in a path.
    #[error("leaves the data root")]
    LeavesRoot,
}

impl PartitionUrl {
    /// Reads a URL; relative paths start at `root`, and `prefix` comes before the database's name.
    pub fn parse(text: &str, root: &Path, prefix: &str) -> Result<Self, UrlError> {
        let (engine, rest) = text.split_once(':').ok_or(UrlError::EngineUnknown)?;
        match engine {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite { path: file(rest, root, prefix)? }),
            "mysql" | "mariadb" => {
                Ok(Self::Mysql(text.parse::<MysqlUrl>()?.with_database_prefix(prefix)?))
            }
            _ => Err(UrlError::EngineUnknown),
        }
    }
}

/// The file that `sqlite:` names, in one spelling, so that equal files are equal paths.
fn file(text: &str, root: &Path, prefix: &str) -> Result<PathBuf, UrlError> {
    if text.starts_with("file:") || text.starts_with(':') || text.contains('\0') {
        return Err(UrlError::NotAFile);
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(UrlError::LeavesRoot);
    }
    let name = path.file_name().ok_or(UrlError::NoFile)?;
    let mut prefixed = std::ffi::OsString::from(prefix);
    prefixed.push(name);
    let joined = root.join(path.with_file_name(prefixed));
    Ok(joined.components().filter(|part| *part != Component::CurDir).collect())
}

/// The longest name of a partition.
pub const NAME_BYTES_MAX: usize = 32;

/// Whether this can be the name of a partition: lower case letters, digits and `_`, a letter first.
pub fn is_name(name: &str) -> bool {
    let tail = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(tail)
}

/// A URL as it may be shown: without what stands between the engine and the host, and without its
/// query. For any text that an operator wrote: what has no `@` holds no password.
pub fn redacted(text: &str) -> String {
    let Some((credentials, _)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let text = text.split_once('?').map_or(text, |(before, _)| before);
    let engine = credentials.split_once(':').map_or("", |(engine, _)| engine);
    let host = text.rsplit_once('@').map_or("", |(_, host)| host);
    format!("{engine}://***@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::mysql::Part;

    fn parse(text: &str) -> Result<String, UrlError> {
        PartitionUrl::parse(text, Path::new("."), "").map(|url| url.to_string())
    }

    #[test]
    fn one_file_has_one_spelling() {
        for text in ["sqlite:data/a.db", "sqlite:./data/a.db", "sqlite:data//./a.db"] {
            assert_eq!(parse(text).unwrap(), "sqlite:data/a.db");
        }
        assert_eq!(parse("memory:").unwrap(), "memory:");
        let under = PartitionUrl::parse("sqlite:data/a.db", Path::new("/var/lib/x"), "test_");
        assert_eq!(under.unwrap().to_string(), "sqlite:/var/lib/x/data/test_a.db");
        let absolute = PartitionUrl::parse("sqlite:/b/a.db", Path::new("/var/lib/x"), "");
        assert_eq!(absolute.unwrap().to_string(), "sqlite:/b/a.db");
        let server = PartitionUrl::parse("mysql://u:p@localhost/a", Path::new("."), "test_");
        let shown = "mysql://u:***@localhost:3306/test_a?tls=disabled";
        assert_eq!(server.unwrap().to_string(), shown);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for (text, error) in [
            ("data/a.db", UrlError::EngineUnknown),
            ("postgres://h/a", UrlError::EngineUnknown),
            ("mysql://u:p@h", UrlError::Mysql(MysqlUrlError::Missing(Part::Database))),
            ("sqlite:", UrlError::NoFile),
            ("sqlite:/", UrlError::NoFile),
            ("sqlite:file:a.db?mode=memory", UrlError::NotAFile),
            ("sqlite::memory:", UrlError::NotAFile),
            ("sqlite:../a.db", UrlError::LeavesRoot),
            ("memory:a", UrlError::EngineUnknown),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(redacted("mysql://u:p@ss@host:3306/a?password=x"), "mysql://***@host:3306/a");
        assert_eq!(redacted("sqlite:data/a.db"), "sqlite:data/a.db");
    }
}
