//! One connection of the driver, and the rule that keeps its answers apart (TALK-1).
//!
//! The driver numbers packets anew for each command and does not notice that it timed out: the late
//! answer to one command would be read as the answer to the next. So after any error that is not
//! the server's own answer the line is *down*: its socket is shut at once, and nothing is sent or
//! read over it ever again. Only then is the driver dropped, which would otherwise say good-bye
//! over a broken connection and wait.
//!
//! The driver also trusts replies where it should not (it indexes into empty packets): a panic in
//! it takes the line down like any other error.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mysql::consts::CapabilityFlags;
use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, Opts, OptsBuilder, Params, QueryResult, SslOpts, Statement, Value};
use nix::sys::socket::{Shutdown, shutdown};

use super::Patience;
use super::failure::{Failed, gone};
use super::statements::Prepared;
use super::url::{MysqlUrl, Tls};
use super::watch::watch;

/// What the driver takes and gives in one packet: the most that the protocol knows. The server's
/// own limit is read at the connection and kept to by whoever sends rows.
const PACKET_BYTES_MAX: usize = 1 << 30;
/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;

/// What the server says to one statement.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) rows: Vec<Vec<Value>>,
    /// Rows that the statement found, changed or not (`CLIENT_FOUND_ROWS`).
    pub(super) found: u64,
    /// What the statement told by `LAST_INSERT_ID(...)`.
    pub(super) last_insert_id: u64,
}

/// A connection, up until something goes wrong with it.
pub(super) struct Line {
    driver: Conn,
    is_up: bool,
    /// How long a command may take as a whole.
    whole: Duration,
    prepared: HashMap<(&'static str, usize), Statement>,
}

impl Line {
    /// Connects and logs in.
    pub(super) fn connect(url: &MysqlUrl, patience: &Patience) -> Result<Self, Failed> {
        let failed = |error| Failed { statement: "connect", error };
        let mut last = None;
        for host in hosts(url).map_err(|error| failed(error.into()))? {
            let driver = match connect_to(&host, url, patience) {
                Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported))
                    if url.tls() == Tls::Preferred =>
                {
                    connected(options(&host, url, patience, None))
                }
                other => other,
            };
            match driver {
                Ok(driver) => {
                    let (is_up, whole) = (true, patience.whole);
                    return Ok(Self { driver, is_up, whole, prepared: HashMap::new() });
                }
                // The server has answered: another of its addresses would say the same.
                Err(error @ mysql::Error::MySqlError(_)) => return Err(failed(error)),
                Err(error) => last = Some(error),
            }
        }
        Err(failed(last.unwrap_or_else(|| gone("the host has no address"))))
    }

    /// Runs statements of one text, an answer for each. Texts are constants, numbers and
    /// hexadecimal digits, nothing else.
    pub(super) fn text(&mut self, name: &'static str, sql: &str) -> Result<Vec<Reply>, Failed> {
        let mut answered = Vec::new();
        self.text_telling(name, sql, &mut answered)?;
        Ok(answered)
    }

    /// The same; `answered` tells which of the statements were carried out, whatever became of
    /// those after them.
    pub(super) fn text_telling(
        &mut self,
        name: &'static str,
        sql: &str,
        answered: &mut Vec<Reply>,
    ) -> Result<(), Failed> {
        self.talk(name, |driver| replies(driver.query_iter(sql)?, answered))
    }

    /// Runs a statement of `size` items, prepared at its first use.
    pub(super) fn execute(
        &mut self,
        prepared: &Prepared,
        size: usize,
        params: Vec<Value>,
    ) -> Result<Reply, Failed> {
        let place = (prepared.name, size);
        let statement = match self.prepared.get(&place) {
            Some(statement) => statement.clone(),
            None => {
                let sql = prepared.sql(size);
                let statement = self.talk(prepared.name, |driver| driver.prep(sql))?;
                self.prepared.insert(place, statement.clone());
                statement
            }
        };
        let mut answered = Vec::new();
        self.talk(prepared.name, |driver| {
            replies(driver.exec_iter(&statement, Params::Positional(params))?, &mut answered)
        })?;
        Ok(answered.into_iter().next().unwrap_or_default())
    }

    /// Whether anything can still be said over it.
    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    fn talk<T>(
        &mut self,
        statement: &'static str,
        say: impl FnOnce(&mut Conn) -> mysql::Result<T>,
    ) -> Result<T, Failed> {
        if !self.is_up {
            return Err(Failed { statement, error: gone("the connection was given up") });
        }
        let driver = &mut self.driver;
        let watching = watch(driver.as_raw_fd(), self.whole);
        let said = catch_unwind(AssertUnwindSafe(|| say(driver)));
        drop(watching);
        let error = match said {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => gone("the server's answer makes no sense"),
        };
        let failed = Failed { statement, error };
        if !failed.keeps_line() {
            self.hang_up();
        }
        Err(failed)
    }

    /// Shuts the socket, so that nothing waits for it any more.
    fn hang_up(&mut self) {
        self.is_up = false;
        // It may be shut already, by the other side.
        let _ = shutdown(self.driver.as_raw_fd(), Shutdown::Both);
    }
}

/// The host itself where its certificate is judged, else its addresses: the driver gives up at the
/// first of them that does not answer.
fn hosts(url: &MysqlUrl) -> std::io::Result<Vec<String>> {
    let name = url.host();
    if url.tls() == Tls::Required {
        return Ok(vec![bracketed(&name)]);
    }
    let addresses = (name.as_ref(), url.port()).to_socket_addrs()?.take(ADDRESSES_MAX);
    Ok(addresses.map(|address| bracketed(&address.ip().to_string())).collect())
}

fn bracketed(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
    }
}

fn connect_to(host: &str, url: &MysqlUrl, patience: &Patience) -> mysql::Result<Conn> {
    let tls = match url.tls() {
        Tls::Disabled => None,
        Tls::Preferred => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
        Tls::Required => {
            Some(SslOpts::default().with_root_cert_path(url.ca().map(|ca| ca.to_owned())))
        }
    };
    connected(options(host, url, patience, tls))
}

/// The driver panics on some answers to a login, too.
fn connected(options: Opts) -> mysql::Result<Conn> {
    catch_unwind(|| Conn::new(options))
        .unwrap_or_else(|_| Err(gone("the server's answer to the login makes no sense")))
}

fn options(host: &str, url: &MysqlUrl, patience: &Patience, tls: Option<SslOpts>) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some(host))
        .tcp_port(url.port())
        .user(Some(url.user()))
        .pass(url.password())
        .db_name(Some(url.database()))
        .ssl_opts(tls)
        // A connection to this machine's own address would silently go by the server's socket.
        .prefer_socket(false)
        // Given, so that the driver does not ask; the server's is asked for together with the rest.
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        // The line keeps its statements itself, by name instead of by text.
        .stmt_cache_size(0)
        .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
        .tcp_nodelay(true)
        .tcp_connect_timeout(Some(patience.connect))
        .read_timeout(Some(patience.answer))
        .write_timeout(Some(patience.answer))
        .tcp_user_timeout_ms(Some(milliseconds(patience.answer)))
        .tcp_keepalive_time_ms(Some(30_000))
        .tcp_keepalive_probe_interval_secs(Some(5))
        .tcp_keepalive_probe_count(Some(3))
        .into()
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// All answers to one command, read to their end: an error of a later statement shows only there.
fn replies<P: Protocol>(
    mut result: QueryResult<'_, '_, '_, P>,
    replies: &mut Vec<Reply>,
) -> mysql::Result<()> {
    while let Some(mut set) = result.iter() {
        let mut reply = Reply {
            rows: Vec::new(),
            found: set.affected_rows(),
            last_insert_id: set.last_insert_id().unwrap_or(0),
        };
        for row in set.by_ref() {
            let values = row?.unwrap_raw();
            reply.rows.push(values.into_iter().map(|v| v.unwrap_or(Value::NULL)).collect());
        }
        replies.push(reply);
    }
    Ok(())
}
