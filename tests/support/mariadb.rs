//! Private MariaDB servers for tests: started on a copied data directory and a free port of
//! 127.0.0.1, killed, stopped and started again on command, and gone with the test process, however
//! it ends.
//!
//! A server that cannot be started fails the test: nothing here is skipped. Where no faults are
//! injected, tests share one server ([`Server::shared`]) and have a database each.
//!
//! `DATASTORE_TEST_MYSQLD_ROOT` names a folder into which Debian's `mysql-server-core` and all that
//! it needs were unpacked: then the same tests run against MySQL instead. CI does without it.
//!
//! A shell stands between the test and the server: it waits for the end of its input, which comes
//! with the end of the test process, and kills the server then.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use datastore::partition::mysql::{Mysql, MysqlUrl};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A start takes about a second; this is for machines that are busy with something else.
const START_MAX: Duration = Duration::from_secs(120);
/// Servers that one test process may have at once.
const SERVERS_MAX: usize = 8;
/// Starts before a test gives up: another process may take the port in between.
const STARTS_MAX: usize = 5;
const USER: &str = "tester";
/// How often a server that crashes by itself is started.
const RECOVERIES_MAX: usize = 3;
const PASSWORD: &str = "t:e@s/t";

static SERVERS: AtomicUsize = AtomicUsize::new(0);
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A line means: kill the server. The end of input: and remove its directory, nobody else does. The
/// shell says nothing once nobody reads it any more: that would end it.
const KEEPER: &str = r#"directory=$1; shift
"$@" </dev/null & server=$!
echo $server
exec >/dev/null 2>&1
read -r _ && kept=yes
kill -9 $server
wait $server
[ "$kept" ] || rm -rf "$directory"
"#;

/// A running server; killed when dropped.
pub struct Server {
    // Ends before its disk.
    process: Option<Process>,
    disk: Option<Disk>,
    directory: tempfile::TempDir,
    options: Vec<String>,
    port: u16,
}

struct Process {
    keeper: Child,
    server: Pid,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server of the test's own.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with options of the test's own.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_on(options, None)
    }

    /// The same with its data on a disk of its own, of so many bytes.
    pub fn start_on_disk(options: &[&str], bytes: u64) -> Self {
        Self::start_on(options, Some(bytes))
    }

    fn start_on(options: &[&str], disk_bytes: Option<u64>) -> Self {
        let before = SERVERS.fetch_add(1, Ordering::SeqCst);
        assert!(before < SERVERS_MAX, "more than {SERVERS_MAX} servers at once");
        let directory = tempfile::tempdir().expect("a directory for the server's data");
        let data = directory.path().join("data");
        let disk = disk_bytes.map(|bytes| Disk::mount(&data, bytes));
        let there = disk.as_ref().map_or_else(|| data.clone(), |disk| disk.path(&data));
        copy(template(), &there).expect("a copy of the data directory");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { directory, options, port: 0, process: None, disk };
        for _ in 0..STARTS_MAX {
            server.port = free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("mariadbd does not start: {}", server.log().join("\n"));
    }

    /// One server for all tests of this process that harm nothing.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a database of this server is, as somebody who may do everything.
    pub fn url(&self, database: &str) -> MysqlUrl {
        self.url_by(self.port, database)
    }

    /// The same as a configuration has it, password and all.
    pub fn url_text(&self, database: &str) -> String {
        format!("mysql://{USER}:t%3Ae%40s%2Ft@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by another port: that of a proxy.
    pub fn url_by(&self, port: u16, database: &str) -> MysqlUrl {
        url_of((USER, "t%3Ae%40s%2Ft"), port, database)
    }

    pub fn engine(&self, database: &str) -> Mysql {
        Mysql::new(self.url(database))
    }

    /// A new, empty database with a name that no other test has.
    pub fn database(&self) -> String {
        let nth = DATABASES.fetch_add(1, Ordering::SeqCst);
        let name = format!("test_{}_{nth}", std::process::id());
        self.admin().query_drop(format!("CREATE DATABASE {name}")).expect("a new database");
        name
    }

    /// A plain connection of the driver, for what goes on behind a partition's back.
    pub fn admin(&self) -> Conn {
        connection(self.port, "").expect("a connection to the server")
    }

    /// A plain connection to one database.
    pub fn admin_of(&self, database: &str) -> Conn {
        connection(self.port, database).expect("a connection to the server")
    }

    /// A place beside its data, on the same disk.
    pub fn beside_data(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join("data").join(name);
        self.disk.as_ref().map_or_else(|| path.clone(), |disk| disk.path(&path))
    }

    /// SIGKILL, as a crash of the process.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }

    /// SIGSTOP: it is there and answers nothing.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        // A signal is sent before it has come to every thread.
        while !self.stands_still() {
            std::thread::yield_now();
        }
    }

    /// Whether no thread of it runs any more.
    fn stands_still(&self) -> bool {
        let process = self.process.as_ref().expect("the server runs");
        let tasks = fs::read_dir(format!("/proc/{}/task", process.server));
        tasks.expect("the server runs").flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Starts again after [`Server::kill`], on the same port and data. A server that ends by an
    /// assertion of its own right after its recovery is started once more, as a service manager
    /// does (seen with 10.11.19: trx0purge.cc, `tail.trx_no <= last_trx_no`).
    pub fn restart(&mut self) {
        for _ in 0..RECOVERIES_MAX {
            self.kill();
            if self.try_start() {
                return;
            }
            let log = self.log().join("\n");
            assert!(log.contains("Failing assertion"), "mariadbd does not start again: {log}");
            println!("mariadbd ended by an assertion of its own; it is started once more");
        }
        panic!("mariadbd does not start again: {}", self.log().join("\n"));
    }

    /// The same with other options of the test's own.
    pub fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
        self.restart();
    }

    /// Keeps a copy of the data directory, made while the server is down.
    pub fn back_up(&mut self) {
        self.kill();
        copy(&self.path("data"), &self.path("backup")).expect("a copy of the data directory");
        self.restart();
    }

    /// The copy takes the place of the data directory.
    pub fn put_back(&mut self) {
        self.kill();
        fs::rename(self.path("data"), self.path("right")).expect("the right one stands aside");
        copy(&self.path("backup"), &self.path("data")).expect("a copy of the copy");
        self.restart();
    }

    /// The data directory that stood aside takes its place again.
    pub fn put_right(&mut self) {
        self.kill();
        fs::remove_dir_all(self.path("data")).expect("the copy is thrown away");
        fs::rename(self.path("right"), self.path("data")).expect("the right one in its place");
        self.restart();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        kill(process.server, signal).expect("the server is ours to signal");
    }

    fn log(&self) -> Vec<String> {
        self.process.as_ref().map_or_else(Vec::new, |process| lines(&process.log).clone())
    }

    /// Starts the process and waits until it accepts connections; `false` where it ended instead.
    fn try_start(&mut self) -> bool {
        let data = self.directory.path().join("data");
        let init = self.directory.path().join("init.sql");
        let user = format!(
            "CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        fs::write(&init, user).expect("a file for the server");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(self.directory.path());
        command.args(self.disk.iter().flat_map(Disk::inside));
        command.args(server_program());
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--init-file={}", init.display()));
        command.arg(format!("--port={}", self.port));
        command.args([
            "--bind-address=127.0.0.1",
            "--socket=server.sock",
            "--pid-file=server.pid",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=1",
            // A crash of the process is what tests make, not one of the machine: nothing that was
            // written is lost, and nobody waits for the disk.
            "--innodb-flush-method=nosync",
            "--innodb-use-native-aio=0",
            "--max-allowed-packet=16M",
            "--max-connections=1000",
        ]);
        if self.disk.is_some() {
            // As which it runs in the namespace of its disk, whoever runs the test.
            command.arg("--user=root");
        }
        command.args(&self.options);
        let (process, ready) = Process::spawn(command);
        self.process = Some(process);
        let ready = ready.recv_timeout(START_MAX);
        match ready {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => {
                // It has ended and said why.
                false
            }
            Err(RecvTimeoutError::Timeout) => {
                panic!("mariadbd is not ready after {START_MAX:?}: {}", self.log().join("\n"))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        SERVERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A file system in memory that the processes of one test see and nobody else: it is mounted where
/// a process lives that waits for the end of the test.
struct Disk {
    keeper: Child,
}

impl Disk {
    fn mount(at: &Path, bytes: u64) -> Self {
        fs::create_dir(at).expect("a place for a disk");
        let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && echo && read -r _");
        let mut keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut stdout = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let said = stdout.read_line(&mut String::new()).expect("the shell can be read");
        assert_eq!(said, 1, "a disk can be mounted in a namespace of its own");
        Self { keeper }
    }

    /// Where a path on the disk is for whoever does not see it.
    fn path(&self, path: &Path) -> PathBuf {
        format!("/proc/{}/root{}", self.keeper.id(), path.display()).into()
    }

    /// What runs a program that sees it.
    fn inside(&self) -> [String; 6] {
        let target = self.keeper.id().to_string();
        let words = ["nsenter", "--user", "--preserve-credentials", "--mount", "--target", &target];
        words.map(str::to_owned)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The shell ends with its input.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

impl Process {
    fn spawn(mut command: Command) -> (Self, Receiver<()>) {
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let stdout = keeper.stdout.take().expect("it is piped");
        let mut pid = String::new();
        BufReader::new(stdout).read_line(&mut pid).expect("the shell tells the server's id");
        let server = Pid::from_raw(pid.trim().parse().expect("a process id"));
        let stderr = keeper.stderr.take().expect("it is piped");
        let (tell, ready) = channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let is_ready = line.contains("ready for connections");
                lines(&kept).push(line);
                if is_ready {
                    let _ = tell.send(());
                }
            }
        });
        (Self { keeper, server, log }, ready)
    }

    fn end(mut self) {
        let mut input = self.keeper.stdin.take().expect("it is piped");
        drop(input.write_all(b"kill\n"));
        self.keeper.wait().expect("the shell ends after its server");
    }
}

fn lines(log: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where a database of a server on this machine is, as somebody with a percent-encoded password.
pub fn url_of((user, password): (&str, &str), port: u16, database: &str) -> MysqlUrl {
    format!("mysql://{user}:{password}@127.0.0.1:{port}/{database}").parse().expect("a url")
}

/// A plain connection of the driver, with bounds.
pub fn connection(port: u16, database: &str) -> mysql::Result<Conn> {
    let bound = Some(Duration::from_secs(30));
    let options = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port)
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some(database).filter(|name| !name.is_empty()))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 30))
        .tcp_connect_timeout(bound)
        .read_timeout(bound)
        .write_timeout(bound);
    Conn::new(options)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// The path of a program of the server's package, which may not be in a user's search path.
fn program(name: &str) -> String {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec"];
    let path = folders.into_iter().map(|folder| Path::new(folder).join(name)).find(|p| p.exists());
    let Some(path) = path else {
        panic!("{name} is missing; install it: apt-get install -y mariadb-server");
    };
    path.to_str().expect("a plain path").to_owned()
}

/// Where MySQL was unpacked, if it is to be tested instead of MariaDB.
pub fn mysqld_root() -> Option<PathBuf> {
    std::env::var_os("DATASTORE_TEST_MYSQLD_ROOT").map(PathBuf::from)
}

/// The server with what it needs to find itself.
fn server_program() -> Vec<String> {
    let Some(root) = mysqld_root() else {
        let mut words = vec![program("mariadbd"), "--no-defaults".to_owned()];
        words.extend(as_root().map(str::to_owned));
        words.push("--innodb-log-file-size=32M".to_owned());
        return words;
    };
    let (root, libraries) = (root.display(), "usr/lib/x86_64-linux-gnu");
    let mut words = vec![
        // It was built for another system: with the loader and libraries of that one.
        format!("{root}/{libraries}/ld-linux-x86-64.so.2"),
        "--library-path".to_owned(),
        format!("{root}/{libraries}"),
        format!("{root}/usr/sbin/mysqld"),
        "--no-defaults".to_owned(),
        format!("--basedir={root}/usr"),
        format!("--lc-messages-dir={root}/usr/share/mysql"),
        format!("--character-sets-dir={root}/usr/share/mysql/charsets"),
        format!("--plugin-dir={root}/usr/lib/mysql/plugin"),
        "--secure-file-priv=".to_owned(),
        "--mysqlx=OFF".to_owned(),
    ];
    words.extend(as_root().map(str::to_owned));
    words
}

/// A server does not run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}

/// A data directory as a new server has it: made once for all test processes.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let words = server_program();
        let version = Command::new(&words[0]).args(&words[1..]).arg("--version").output();
        let version = version.expect("the server tells its version").stdout;
        let version = xxhash_rust::xxh3::xxh3_64(&version);
        let path = home.join(format!("server-{version:016x}"));
        let made = home.join(format!("server-{version:016x}.new"));
        let lock = OpenOptions::new().create(true).append(true).open(home.join("server.lock"));
        let lock: File = lock.expect("a lock file");
        lock.lock().expect("the lock");
        if !path.exists() {
            drop(fs::remove_dir_all(&made));
            install(&made);
            fs::rename(&made, &path).expect("the template in its place");
        }
        path
    })
}

fn install(path: &Path) {
    let mut command = if mysqld_root().is_some() {
        let words = server_program();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--initialize-insecure");
        command
    } else {
        let mut command = Command::new(program("mariadb-install-db"));
        command
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=32M"])
            .args(as_root());
        command
    };
    let output = command.arg(format!("--datadir={}", path.display())).output();
    let output = output.expect("the program that makes a data directory runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no data directory could be made: {said}");
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            // Not the socket of a server that was killed.
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
