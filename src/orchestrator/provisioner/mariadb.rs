//! Private MariaDB servers: each with a data directory, a user and a password of its own, on a port
//! of the loopback interface.
//!
//! ```text
//! data/copies/copy_1/    nobody else may look into it
//!   server.json          whose it is, the password, the port, the process
//!   data/                the server's data directory
//!   server.log           what it says
//! ```
//!
//! **Never left behind, never adopted by mistake.** The server is a process of its own and outlives
//! a front end that is killed; the next front end finds it by what `server.json` and the server's
//! own pid file say, and takes it over only if that very process runs with this very data
//! directory. One that ends in order stops its servers. A folder that says it is somebody else's is
//! left alone. What the data directory holds is disposable: where a server does not come up on it
//! twice in a row, it is made anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::process::{Known, Server};
use super::{Provided, ProvisionError, Provisioner, Result, make_folder, remove_file};
use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::orchestrator::copies::CopyRecord;
use crate::partition::mysql::{Mysql, MysqlUrl};
use crate::version::{PartitionId, SetId};

/// The user and the database of every private server.
const USER: &str = "datastore";
const DATABASE: &str = "datastore";
/// How long a server may take to come up: recovery after a crash included.
const START_MAX: Duration = Duration::from_secs(120);
/// How long it may take to end in order; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How often it is asked whether it is up.
const STEP: Duration = Duration::from_millis(50);
/// After so many failures in a row the data directory is made anew.
const FAILURES_MAX: u32 = 2;
/// How much of the end of its log is told where it does not come up.
const SAID_BYTES_MAX: u64 = 500;
/// Where programs of the server's package are; the search path of a service may hold none of them.
const FOLDERS: [&str; 5] =
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `server.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Marker {
    set: String,
    copy: PartitionId,
    password: String,
    port: u16,
    process: Option<Known>,
}

/// The private servers of one data root.
pub struct Mariadb {
    folder: PathBuf,
    prefix: String,
    set: SetId,
    clock: Arc<dyn Clock>,
    servers: Mutex<BTreeMap<PartitionId, Server>>,
}

impl Mariadb {
    /// Servers with folders in `folder` whose names begin with `prefix`.
    pub fn new(folder: &Path, prefix: &str, set: SetId, clock: Arc<dyn Clock>) -> Self {
        let (folder, prefix) = (folder.to_owned(), prefix.to_owned());
        Self { folder, prefix, set, clock, servers: Mutex::default() }
    }

    fn place(&self, copy: &CopyRecord) -> Place {
        // Absolute, so that a command line says the same wherever it is read.
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        Place(folder.join(format!("{}{}", self.prefix, copy.copy.name)))
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the copy's server; `None`: nothing was ever made.
    fn marker(&self, copy: &CopyRecord) -> Result<Option<Marker>> {
        let place = self.place(copy);
        let Some(marker) = place.read()? else { return Ok(None) };
        if marker.set == self.set.to_string() && marker.copy == copy.copy.id {
            Ok(Some(marker))
        } else {
            Err(ProvisionError::Foreign { what: place.0.display().to_string() })
        }
    }

    /// The server as it runs, if it does: ours, or that of an earlier front end.
    fn running(&self, copy: &CopyRecord, marker: &Marker) -> Option<Known> {
        let mut servers = self.servers();
        if let Some(server) = servers.get_mut(&copy.copy.id) {
            if server.is_running() {
                return Some(server.known());
            }
            servers.remove(&copy.copy.id);
        }
        let place = self.place(copy);
        // A front end may have ended between the start and the note; the server notes itself, too.
        let noted = [marker.process, place.own_pid().and_then(Known::running)];
        let data = place.data();
        let mut adopted = noted.into_iter().flatten();
        let server = adopted.find_map(|known| Server::adopted(known, &data))?;
        let known = server.known();
        tracing::info!(partition = %copy.copy.name, pid = known.pid, "private server adopted");
        servers.insert(copy.copy.id, server);
        Some(known)
    }

    fn start(&self, copy: &CopyRecord, marker: &mut Marker) -> Result<Known> {
        let place = self.place(copy);
        if copy.failures >= FAILURES_MAX {
            tracing::warn!(partition = %copy.copy.name, "its data directory is made anew");
            place.forget_data()?;
        }
        place.install()?;
        if !is_free(marker.port) {
            marker.port = free_port()?;
        }
        place.write_init(marker)?;
        let child = place.command(marker.port)?.spawn().map_err(system("cannot start mariadbd"))?;
        let pid = child.id();
        let Some(server) = Server::started(child, &place.data()) else {
            return Err(place.said());
        };
        let known = server.known();
        self.servers().insert(copy.copy.id, server);
        marker.process = Some(known);
        place.write(marker)?;
        self.wait_until_up(copy, marker)?;
        tracing::info!(partition = %copy.copy.name, pid, port = marker.port, "private server started");
        Ok(known)
    }

    fn wait_until_up(&self, copy: &CopyRecord, marker: &Marker) -> Result<()> {
        let until = self.clock.monotonic() + START_MAX;
        let server = Mysql::new(url(marker)?);
        loop {
            if server.settings().is_ok() {
                return Ok(());
            }
            let mut servers = self.servers();
            let runs = servers.get_mut(&copy.copy.id).is_some_and(Server::is_running);
            drop(servers);
            if !runs || self.clock.monotonic() > until {
                self.stop(copy)?;
                return Err(self.place(copy).said());
            }
            std::thread::park_timeout(STEP);
        }
    }

    /// Ends the server, if it runs.
    fn stop(&self, copy: &CopyRecord) -> Result<()> {
        let Some(marker) = self.marker(copy)? else { return Ok(()) };
        if self.running(copy, &marker).is_none() {
            return Ok(());
        }
        let Some(mut server) = self.servers().remove(&copy.copy.id) else { return Ok(()) };
        let pid = server.known().pid;
        if server.stop(self.clock.as_ref(), STOP_MAX) {
            tracing::info!(partition = %copy.copy.name, pid, "private server stopped");
            return Ok(());
        }
        self.servers().insert(copy.copy.id, server);
        Err(ProvisionError::Lingers { pid })
    }
}

impl Provisioner for Mariadb {
    fn provide(&self, copy: &CopyRecord) -> Result<Provided> {
        let place = self.place(copy);
        make_folder(&place.0).map_err(system("cannot make the server's folder"))?;
        let mut marker = match self.marker(copy)? {
            Some(marker) => marker,
            None => {
                let made = Marker {
                    set: self.set.to_string(),
                    copy: copy.copy.id,
                    password: password()?,
                    port: free_port()?,
                    process: None,
                };
                place.write(&made)?;
                made
            }
        };
        let known = match self.running(copy, &marker) {
            Some(known) => {
                if let Err(error) = self.wait_until_up(copy, &marker) {
                    tracing::warn!(partition = %copy.copy.name, %error, "it ran and did not answer");
                    self.start(copy, &mut marker)?
                } else {
                    known
                }
            }
            None => self.start(copy, &mut marker)?,
        };
        Ok(Provided { url: PartitionUrl::Mysql(url(&marker)?), pid: Some(known.pid) })
    }

    fn locate(&self, copy: &CopyRecord) -> Result<Option<Provided>> {
        let Some(marker) = self.marker(copy)? else { return Ok(None) };
        let process = marker.process.filter(|known| known.runs_in(&self.place(copy).data()));
        let Some(known) = process else { return Ok(None) };
        Ok(Some(Provided { url: PartitionUrl::Mysql(url(&marker)?), pid: Some(known.pid) }))
    }

    fn is_up(&self, copy: &CopyRecord) -> bool {
        self.servers().get_mut(&copy.copy.id).is_some_and(Server::is_running)
    }

    fn withdraw(&self, copy: &CopyRecord) -> Result<()> {
        let place = self.place(copy);
        if !place.0.exists() {
            return Ok(());
        }
        if self.marker(copy)?.is_none() && place.data().exists() {
            return Err(ProvisionError::Foreign { what: place.0.display().to_string() });
        }
        self.stop(copy)?;
        fs::remove_dir_all(&place.0).map_err(system("cannot remove the server's folder"))
    }

    fn release(&self, copy: &CopyRecord) -> Result<()> {
        self.stop(copy)
    }

    fn crash(&self, copy: &CopyRecord) -> Result<Option<u32>> {
        let Some(marker) = self.marker(copy)? else { return Ok(None) };
        if self.running(copy, &marker).is_none() {
            return Ok(None);
        }
        let mut servers = self.servers();
        let Some(server) = servers.get_mut(&copy.copy.id) else { return Ok(None) };
        server.signal(Signal::SIGKILL);
        Ok(Some(server.known().pid))
    }
}

/// One server's folder.
struct Place(PathBuf);

impl Place {
    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    fn read(&self) -> Result<Option<Marker>> {
        let text = match fs::read_to_string(self.0.join("server.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system("cannot read server.json")(error)),
        };
        let foreign = |_| ProvisionError::Foreign { what: self.0.display().to_string() };
        serde_json::from_str(&text).map(Some).map_err(foreign)
    }

    /// Whole or not at all: the file is put in the place of the one before.
    fn write(&self, marker: &Marker) -> Result<()> {
        let text = serde_json::to_string(marker).expect("a struct of plain fields");
        let new = self.0.join("server.json.new");
        write_secret(&new, &text).map_err(system("cannot write server.json"))?;
        fs::rename(&new, self.0.join("server.json")).map_err(system("cannot write server.json"))
    }

    /// What the server does at each start: the user exists, and has this password.
    fn write_init(&self, marker: &Marker) -> Result<()> {
        let password = &marker.password;
        let text = format!(
            "CREATE DATABASE IF NOT EXISTS {DATABASE};\n\
             CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}';\n\
             GRANT ALL ON {DATABASE}.* TO '{USER}'@'127.0.0.1';\n"
        );
        write_secret(&self.0.join("init.sql"), &text).map_err(system("cannot write init.sql"))
    }

    /// The process that the server itself says it is.
    fn own_pid(&self) -> Option<u32> {
        fs::read_to_string(self.0.join("server.pid")).ok()?.trim().parse().ok()
    }

    fn forget_data(&self) -> Result<()> {
        match fs::remove_dir_all(self.data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(system("cannot remove the data directory")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the data directory, where there is none: beside its place first, so that there is
    /// never half of one.
    fn install(&self) -> Result<()> {
        let (data, new) = (self.data(), self.0.join("data.new"));
        if data.exists() {
            return Ok(());
        }
        if new.exists() {
            fs::remove_dir_all(&new).map_err(system("cannot remove data.new"))?;
        }
        let mut command = Command::new(program("mariadb-install-db")?);
        command.args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
        ]);
        command.arg(format!("--datadir={}", new.display())).args(as_root());
        command.env_clear().env("PATH", PATH).stdin(Stdio::null());
        let output = command.output().map_err(system("cannot run mariadb-install-db"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let from = said.len().saturating_sub(usize::try_from(SAID_BYTES_MAX).unwrap_or(0));
            let said = said.get(from..).unwrap_or_default().trim().to_owned();
            return Err(ProvisionError::Start { said });
        }
        fs::rename(&new, &data).map_err(system("cannot put the data directory in its place"))
    }

    fn command(&self, port: u16) -> Result<Command> {
        remove_file(&self.0.join("server.pid")).map_err(system("cannot remove server.pid"))?;
        let log = File::create(self.log()).map_err(system("cannot write server.log"))?;
        let both = log.try_clone().map_err(system("cannot write server.log"))?;
        let path = |option: &str, name: &str| format!("--{option}={}", self.0.join(name).display());
        let mut command = Command::new(program("mariadbd")?);
        command
            .arg("--no-defaults")
            .args(as_root())
            .arg(path("datadir", "data"))
            .arg(path("init-file", "init.sql"))
            .arg(path("pid-file", "server.pid"))
            // Below the data directory, whose path may be longer than a socket's may.
            .arg("--socket=server.sock")
            .arg(format!("--port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--performance-schema=OFF",
                "--innodb-buffer-pool-size=64M",
                // A copy is disposable: what the machine's crash takes away is copied again.
                "--innodb-flush-log-at-trx-commit=2",
                "--max-allowed-packet=1G",
            ])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            // What ends a front end from its terminal does not end its servers.
            .process_group(0);
        Ok(command)
    }

    /// It does not come up, and says why.
    fn said(&self) -> ProvisionError {
        let said = || {
            let mut file = File::open(self.log()).ok()?;
            let length = file.metadata().ok()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(SAID_BYTES_MAX))).ok()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).trim().replace('\n', "; "))
        };
        ProvisionError::Start { said: said().unwrap_or_default() }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ProvisionError {
    move |source| ProvisionError::System { what, source }
}

fn url(marker: &Marker) -> Result<MysqlUrl> {
    let Marker { password, port, .. } = marker;
    let text = format!("mysql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?tls=disabled");
    text.parse().map_err(|_| ProvisionError::Foreign { what: "server.json".to_owned() })
}

fn password() -> Result<String> {
    let mut bytes = [0; 24];
    let refused = |error| system("no random numbers")(io::Error::other(error));
    getrandom::fill(&mut bytes).map_err(refused)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(system("no port is free"))?.port())
}

fn program(name: &'static str) -> Result<PathBuf> {
    let mut paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.exists()).ok_or(ProvisionError::Missing { program: name })
}

/// The server refuses to run as root unless it is told so.
fn as_root() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}
