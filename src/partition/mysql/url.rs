//! `mysql://user[:password]@host[:port]/database[?tls=...&ca=...]`: where a partition's database
//! is.
//!
//! The driver's own URLs are not for what an operator or an API client wrote: among their
//! parameters are local files, sockets and switches that weaken the login. Here is a closed list,
//! and every error names the part that is wrong. User, password and database are percent-decoded.
//! The password is never shown, neither by `Display` nor by `Debug`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port of a URL that names none.
const PORT: u16 = 3306;
/// The longest name that a server gives a database, in characters.
const DATABASE_CHARACTERS_MAX: usize = 64;
/// The parameters that a URL may have.
const PARAMETERS: [&str; 2] = ["tls", "ca"];

/// How the connection to the server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: the default for this machine's own addresses.
    Disabled,
    /// Encrypted where the server can, without knowing whom with; else not at all. The default for
    /// other hosts.
    Preferred,
    /// Encrypted, and the server's certificate has to be its host's; else no connection.
    Required,
}

impl Tls {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Preferred => "preferred",
            Self::Required => "required",
        }
    }
}

/// A database on a MariaDB or MySQL server, and as whom to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl {
    user: String,
    password: Option<String>,
    host: Host,
    port: u16,
    database: String,
    tls: Tls,
    ca: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A part of a URL, as errors call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before `://`.
    Scheme,
    /// Before `:` or `@`.
    User,
    /// Between `:` and `@`.
    Password,
    /// After `@`.
    Host,
    /// After the host's `:`.
    Port,
    /// After the first `/` behind the host.
    Database,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme",
            Self::User => "user",
            Self::Password => "password",
            Self::Host => "host",
            Self::Port => "port",
            Self::Database => "database",
        })
    }
}

/// Why a text is no [`MysqlUrl`]. Nothing of a password is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MysqlUrlError {
    /// The part is not there.
    #[error("the {0} is missing; a url is mysql://user[:password]@host[:port]/database")]
    Missing(Part),
    /// The part holds what it cannot.
    #[error("the {part} {why}")]
    Wrong {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A parameter that nobody knows.
    #[error("there is no parameter `{name}`; there are `tls` and `ca`")]
    UnknownParameter {
        /// Its name.
        name: String,
    },
    /// A parameter that stands twice.
    #[error("the parameter `{name}` stands twice")]
    RepeatedParameter {
        /// Its name.
        name: &'static str,
    },
    /// A parameter with a value that it cannot have.
    #[error("the parameter `{name}` {why}")]
    WrongParameter {
        /// Its name.
        name: &'static str,
        /// What it has to be.
        why: &'static str,
    },
}

impl MysqlUrl {
    /// As whom to log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, for the login and for nothing else.
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Whether there is one.
    pub const fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The server's name or address; an IPv6 address without brackets.
    pub fn host(&self) -> Cow<'_, str> {
        match &self.host {
            Host::Name(name) => Cow::Borrowed(name),
            Host::Address(address) => Cow::Owned(address.to_string()),
        }
    }

    /// The server's port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How the connection is protected.
    pub const fn tls(&self) -> Tls {
        self.tls
    }

    /// The certificates that the server's may be signed by, besides the well-known ones.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The same with the password of a file or a credential.
    #[must_use]
    pub fn with_password(self, password: String) -> Self {
        Self { password: Some(password), ..self }
    }

    /// The same with something before the name of the database, so that test runs keep to their
    /// own.
    pub fn with_database_prefix(self, prefix: &str) -> Result<Self, MysqlUrlError> {
        let database = database(format!("{prefix}{}", self.database))?;
        Ok(Self { database, ..self })
    }

    /// What tells this database from others, as far as the URL goes.
    pub fn locator(&self) -> String {
        let host = match &self.host {
            Host::Name(name) if name == "localhost" => Ipv4Addr::LOCALHOST.to_string(),
            Host::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)) => Ipv4Addr::LOCALHOST.to_string(),
            other @ (Host::Name(_) | Host::Address(_)) => other.to_string(),
        };
        format!("mysql:{host}:{}/{}", self.port, self.database)
    }
}

impl fmt::Display for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_some() { ":***" } else { "" };
        let (user, database) = (encoded(&self.user), encoded(&self.database));
        write!(f, "mysql://{user}{password}@{}:{}/{database}", self.host, self.port)?;
        write!(f, "?tls={}", self.tls.as_str())?;
        match &self.ca {
            Some(ca) => write!(f, "&ca={}", encoded(&ca.to_string_lossy())),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MysqlUrl {
    type Err = MysqlUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(MysqlUrlError::Missing(Part::Scheme))?;
        if !["mysql", "mariadb"].contains(&scheme) {
            let why = "has to be mysql";
            return Err(MysqlUrlError::Wrong { part: Part::Scheme, why });
        }
        let (rest, parameters) = match rest.split_once('?') {
            Some((rest, parameters)) => (rest, Some(parameters)),
            None => (rest, None),
        };
        // A password may hold a slash that nobody encoded; what follows the last `@` cannot.
        let (login, place) = rest.rsplit_once('@').ok_or(MysqlUrlError::Missing(Part::User))?;
        let (user, password) = login_of(login)?;
        let (server, name) = place.split_once('/').ok_or(MysqlUrlError::Missing(Part::Database))?;
        let (host, port) = server_of(server)?;
        let database = database(decoded(name, Part::Database)?)?;
        let (tls, ca) = parameters_of(parameters)?;
        let tls = tls.unwrap_or_else(|| default_tls(&host));
        if ca.is_some() && tls != Tls::Required {
            let why = "is of use with tls=required only";
            return Err(MysqlUrlError::WrongParameter { name: "ca", why });
        }
        Ok(Self { user, password, host, port, database, tls, ca })
    }
}

fn login_of(login: &str) -> Result<(String, Option<String>), MysqlUrlError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password, Part::Password)?)),
        None => (login, None),
    };
    let user = decoded(user, Part::User)?;
    if user.is_empty() { Err(MysqlUrlError::Missing(Part::User)) } else { Ok((user, password)) }
}

fn server_of(server: &str) -> Result<(Host, u16), MysqlUrlError> {
    let wrong = |part, why| Err(MysqlUrlError::Wrong { part, why });
    let (host, port) = if let Some(bracketed) = server.strip_prefix('[') {
        let Some((address, port)) = bracketed.split_once(']') else {
            return wrong(Part::Host, "begins with [ and has no ]");
        };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return wrong(Part::Host, "is no IPv6 address between its brackets");
        };
        (Host::Address(address.into()), port)
    } else {
        let (name, port) = server.split_at(server.find(':').unwrap_or(server.len()));
        (host_named(name)?, port)
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok(),
        Some(_) => None,
        None if port.is_empty() => Some(PORT),
        None => return wrong(Part::Host, "is followed by something other than a port"),
    };
    match port {
        Some(port) if port > 0 => Ok((host, port)),
        Some(_) | None => wrong(Part::Port, "is no number from 1 to 65535"),
    }
}

fn host_named(name: &str) -> Result<Host, MysqlUrlError> {
    if name.is_empty() {
        return Err(MysqlUrlError::Missing(Part::Host));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !name.bytes().all(fits) || name.len() > 253 {
        let why = "holds what no host name holds; an IPv6 address stands in brackets";
        return Err(MysqlUrlError::Wrong { part: Part::Host, why });
    }
    Ok(match name.parse::<Ipv4Addr>() {
        Ok(address) => Host::Address(address.into()),
        Err(_) => Host::Name(name.to_ascii_lowercase()),
    })
}

fn database(name: String) -> Result<String, MysqlUrlError> {
    let wrong = |why| Err(MysqlUrlError::Wrong { part: Part::Database, why });
    if name.is_empty() {
        return Err(MysqlUrlError::Missing(Part::Database));
    }
    if name.chars().count() > DATABASE_CHARACTERS_MAX {
        return wrong("has more than 64 characters");
    }
    if name.contains(['/', '\\', '\0']) || name.ends_with(' ') {
        return wrong("holds what no database's name holds");
    }
    Ok(name)
}

type Parameters = (Option<Tls>, Option<PathBuf>);

fn parameters_of(text: Option<&str>) -> Result<Parameters, MysqlUrlError> {
    let (mut tls, mut ca) = (None, None);
    for parameter in text.unwrap_or("").split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let Some(name) = PARAMETERS.into_iter().find(|known| *known == name) else {
            // An unencoded password may reach to here: only what looks like a name is repeated.
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let shown = name.len() <= 32 && name.bytes().all(is_name);
            let name = if shown { name } else { "***" };
            return Err(MysqlUrlError::UnknownParameter { name: name.to_owned() });
        };
        let wrong = |why| MysqlUrlError::WrongParameter { name, why };
        let repeated = match name {
            "tls" => tls
                .replace(
                    tls_of(value)
                        .ok_or_else(|| wrong("has to be required, preferred or disabled"))?,
                )
                .is_some(),
            _ => {
                let path = percent_decoded(value).filter(|path| !path.is_empty());
                let path = path.ok_or_else(|| wrong("has to be the path of a file"))?;
                ca.replace(PathBuf::from(path)).is_some()
            }
        };
        if repeated {
            return Err(MysqlUrlError::RepeatedParameter { name });
        }
    }
    Ok((tls, ca))
}

fn tls_of(text: &str) -> Option<Tls> {
    [Tls::Disabled, Tls::Preferred, Tls::Required].into_iter().find(|tls| tls.as_str() == text)
}

fn default_tls(host: &Host) -> Tls {
    let is_here = match host {
        Host::Name(name) => name == "localhost",
        Host::Address(address) => address.is_loopback(),
    };
    if is_here { Tls::Disabled } else { Tls::Preferred }
}

fn decoded(text: &str, part: Part) -> Result<String, MysqlUrlError> {
    let why = "has a % that is not followed by two hexadecimal digits, or is not UTF-8";
    percent_decoded(text)
        .filter(|decoded| !decoded.contains('\0'))
        .ok_or(MysqlUrlError::Wrong { part, why })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MysqlUrl, MysqlUrlError> {
        text.parse()
    }

    #[test]
    fn every_part_is_where_it_belongs() {
        let url = parse("mysql://us%40er:p%3Ass%2Fw@db.Example:3307/st%20ore").unwrap();
        assert_eq!((url.user(), url.password()), ("us@er", Some("p:ss/w")));
        assert_eq!((url.host().as_ref(), url.port()), ("db.example", 3307));
        assert_eq!((url.database(), url.tls()), ("st ore", Tls::Preferred));
        let url = parse("mysql://u@[2001:db8::1]/a").unwrap();
        assert_eq!((url.host().as_ref(), url.port()), ("2001:db8::1", 3306));
        assert_eq!((url.password(), url.ca()), (None, None));
        let url = parse("mysql://u:@127.0.0.1/a?tls=required&ca=/etc/ssl/a%20b.pem").unwrap();
        assert_eq!((url.password(), url.tls()), (Some(""), Tls::Required));
        assert_eq!(url.ca(), Some(Path::new("/etc/ssl/a b.pem")));
    }

    #[test]
    fn a_password_may_hold_what_nobody_encoded() {
        let url = parse("mysql://u:p@s:s/w@h/a").unwrap();
        assert_eq!((url.password(), url.host().as_ref()), (Some("p@s:s/w"), "h"));
    }

    #[test]
    fn this_machine_needs_no_tls_and_others_prefer_it() {
        for (host, tls) in [
            ("localhost", Tls::Disabled),
            ("127.0.0.1", Tls::Disabled),
            ("[::1]", Tls::Disabled),
            ("db", Tls::Preferred),
            ("10.0.0.1", Tls::Preferred),
        ] {
            assert_eq!(parse(&format!("mysql://u@{host}/a")).unwrap().tls(), tls, "{host}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let missing = MysqlUrlError::Missing;
        let part = |text: &str| match parse(text) {
            Err(MysqlUrlError::Wrong { part, .. }) => part,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(parse("u:p@h/a"), Err(missing(Part::Scheme)));
        assert_eq!(parse("mysql://h/a"), Err(missing(Part::User)));
        assert_eq!(parse("mysql://:p@h/a"), Err(missing(Part::User)));
        assert_eq!(parse("mysql://u@/a"), Err(missing(Part::Host)));
        assert_eq!(parse("mysql://u@h"), Err(missing(Part::Database)));
        assert_eq!(parse("mysql://u@h/"), Err(missing(Part::Database)));
        assert_eq!(part("postgres://u@h/a"), Part::Scheme);
        assert_eq!(part("mysql://%zz@h/a"), Part::User);
        assert_eq!(part("mysql://u:%ff@h/a"), Part::Password);
        assert_eq!(part("mysql://u:%00@h/a"), Part::Password);
        assert_eq!(part("mysql://u@ho st/a"), Part::Host);
        assert_eq!(part("mysql://u@[::1/a"), Part::Host);
        assert_eq!(part("mysql://u@[x]/a"), Part::Host);
        assert_eq!(part("mysql://u@[::1]x/a"), Part::Host);
        for port in ["0", "65536", "+1", "", "x", "1:2"] {
            assert_eq!(part(&format!("mysql://u@h:{port}/a")), Part::Port, "{port}");
        }
        assert_eq!(part("mysql://u@h/a/b"), Part::Database);
        assert_eq!(part(&format!("mysql://u@h/{}", "a".repeat(65))), Part::Database);
    }

    #[test]
    fn only_known_parameters_are_taken() {
        for name in ["socket", "server_key_path", "secure_auth", "prefer_socket", "TLS"] {
            let error = parse(&format!("mysql://u@h/a?{name}=x"));
            assert_eq!(error, Err(MysqlUrlError::UnknownParameter { name: name.into() }));
        }
        let wrong = |query: &str| match parse(&format!("mysql://u@h/a?{query}")) {
            Err(MysqlUrlError::WrongParameter { name, .. }) => name,
            other => panic!("{query}: {other:?}"),
        };
        assert_eq!(wrong("tls=no"), "tls");
        assert_eq!(wrong("tls"), "tls");
        assert_eq!(wrong("ca=&tls=required"), "ca");
        assert_eq!(wrong("ca=/a.pem&tls=preferred"), "ca");
        let twice = parse("mysql://u@h/a?tls=required&tls=disabled");
        assert_eq!(twice, Err(MysqlUrlError::RepeatedParameter { name: "tls" }));
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = parse("mysql://u:secret@h/a?tls=required").unwrap();
        for shown in [url.to_string(), format!("{url:?}"), url.locator()] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert_eq!(url.to_string(), "mysql://u:***@h:3306/a?tls=required");
        for text in [
            "mysql://u:secret%zz@h/a",
            "mysql://u:secret@h:0/a",
            "mysql://secret",
            "mysql://u:p@x/y?secret@h/a",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn one_database_has_one_locator() {
        let locator = |text: &str| parse(text).unwrap().locator();
        let one = locator("mysql://u:p@localhost/a");
        assert_eq!(one, locator("mariadb://other@127.0.0.1:3306/a?tls=preferred"));
        assert_eq!(one, locator("mysql://u@[::1]/a"));
        assert_ne!(one, locator("mysql://u@127.0.0.1/b"));
        assert_ne!(one, locator("mysql://u@127.0.0.1:3307/a"));
    }

    #[test]
    fn a_prefix_comes_before_the_database() {
        let url = parse("mysql://u@h/a").unwrap().with_database_prefix("test_").unwrap();
        assert_eq!(url.database(), "test_a");
        assert!(url.with_database_prefix(&"x".repeat(64)).is_err());
    }
}
