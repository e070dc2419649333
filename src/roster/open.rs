//! From where a voter's database is to the voter as this front end has it open.
//!
//! The configuration says how the databases are reached that it names, the topology says it of
//! those that were added while the service ran, with the password sealed ([`crate::secret`]). Where
//! both name one database, the configuration counts: a password is changed there. Where the same
//! name leads to two, the topology counts: the configured one was the database of a partition that
//! was retired since.
//!
//! Nothing is connected to here. Whoever connects later goes through [`Checked`]: what a URL leads
//! to may have changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::partition::PartitionUrl;
use crate::feed::FeedSource;
use crate::founding::Expected;
use crate::founding::history::History;
use crate::lane::checked::Checked;
use crate::lane::pool::Pool;
use crate::lane::{Connect, LaneLimits};
use crate::partition::PartitionError;
use crate::partition::engine::Engine;
use crate::partition::memory::Memory;
use crate::partition::mysql::{Mysql, MysqlUrl, Patience, ServerSettings};
use crate::partition::sqlite::{PathError, Sqlite};
use crate::secret::{Sealer, open_url};
use crate::store::Served;
use crate::store::answer::Serving;
use crate::store::route::Part;
use crate::sync::round::Member;
use crate::topology::voter::Address;
use crate::topology::{VOTERS_MAX, Voter};
use crate::version::{RunId, SetId};

/// What a statement holds besides the value of its row: key, content type, columns, framing.
const PACKET_BYTES_BESIDE: usize = 64 << 10;

/// How the register and changes of ownership reach a partition: sooner at the end of their patience
/// than requests are, so that one that hangs keeps nobody from being replaced. A page of a drain
/// has to come within this.
const WAY_PATIENCE: Patience = Patience {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(3),
    whole: Duration::from_secs(30),
    lock: Duration::from_secs(2),
    idle: Duration::from_secs(5),
};

/// Why a voter cannot be opened here.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// Not a file's name.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nobody says where it is.
    #[error("neither the configuration nor the topology says where its database is")]
    NoAddress,
    /// The topology says something that no front end of this version can use.
    #[error("the topology says that its database is at {url}, which is no url of one")]
    BadAddress {
        /// What it says.
        url: String,
    },
    /// The secret cannot be opened.
    #[error("its password cannot be opened here: orchestrator.key_file is another one, or missing")]
    Sealed,
    /// Ids are drawn at random.
    #[error("the operating system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

impl OpeningError {
    /// The same in words that anybody may read.
    pub const fn in_public(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::BadAddress { .. } => "its url cannot be used here",
            Self::NoAddress => "its url is not known here",
            Self::Sealed => "its password cannot be opened here: orchestrator.key_file",
            Self::Random(_) => "the operating system gives no random numbers",
        }
    }
}

/// What the packets of a server are too small for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallPackets {
    /// The server's `max_allowed_packet`.
    pub packet: usize,
    /// What a statement with the largest value takes.
    pub needed: usize,
}

impl SmallPackets {
    /// Whether those of a server are, for values of so many bytes.
    pub const fn of(settings: &ServerSettings, value_bytes_max: usize) -> Option<Self> {
        let (packet, needed) = (settings.max_allowed_packet, value_bytes_max + PACKET_BYTES_BESIDE);
        if packet < needed { Some(Self { packet, needed }) } else { None }
    }
}

/// A database, and how connections to it are made.
#[derive(Clone)]
pub struct Database {
    /// Where it is.
    pub url: PartitionUrl,
    /// Connections of lanes and rounds.
    pub engine: Arc<dyn Engine>,
    /// Connections of the register and of changes of ownership.
    pub way: Arc<dyn Engine>,
    server: Option<Arc<Mysql>>,
}

impl Database {
    /// The database at this URL.
    pub fn at(url: PartitionUrl, clock: &Arc<dyn Clock>) -> Result<Self, OpeningError> {
        let (engine, way, server): (Arc<dyn Engine>, Arc<dyn Engine>, _) = match &url {
            PartitionUrl::Sqlite { path } => {
                let file = Arc::new(Sqlite::new(path, Arc::clone(clock))?);
                (Arc::clone(&file) as _, file, None)
            }
            PartitionUrl::Memory => {
                let memory = Arc::new(Memory::new(RunId(getrandom::u64()?), Arc::clone(clock)));
                (Arc::clone(&memory) as _, memory, None)
            }
            PartitionUrl::Mysql(url) => {
                let server = Arc::new(Mysql::new(url.clone()));
                let way = Arc::new(Mysql::new(url.clone()).with_patience(WAY_PATIENCE));
                (Arc::clone(&server) as _, way, Some(server))
            }
        };
        Ok(Self { url, engine, way, server })
    }

    /// The same over connections of another kind: for whoever puts something in between.
    pub fn over(url: PartitionUrl, engine: Arc<dyn Engine>) -> Self {
        Self { url, way: Arc::clone(&engine), engine, server: None }
    }

    /// What its server says of itself; `None`: it has none.
    pub fn settings(&self) -> Result<Option<ServerSettings>, PartitionError> {
        self.server.as_ref().map(|server| server.settings()).transpose()
    }
}

/// What an [`Opener`] goes by.
pub struct OpenerParts {
    /// The databases that the configuration names.
    pub configured: BTreeMap<String, Database>,
    /// The databases of which the configuration knows more than the topology: how to log in.
    pub standby: Vec<MysqlUrl>,
    /// Opens sealed passwords.
    pub sealer: Option<Sealer>,
    /// Where relative paths start.
    pub root: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What partitions have of each other.
    pub history: Arc<History>,
}

/// Opens the voters of a set.
pub struct Opener {
    set: SetId,
    parts: OpenerParts,
}

impl Opener {
    /// Opens voters of this set.
    pub const fn new(set: SetId, parts: OpenerParts) -> Self {
        Self { set, parts }
    }

    /// Seals and opens passwords.
    pub const fn sealer(&self) -> Option<&Sealer> {
        self.parts.sealer.as_ref()
    }

    /// The databases that the configuration names.
    pub const fn configured(&self) -> &BTreeMap<String, Database> {
        &self.parts.configured
    }

    /// Where the database of a voter is, and how it is reached.
    pub fn database(&self, voter: &Voter) -> Result<Database, OpeningError> {
        let configured = self.parts.configured.get(&voter.name);
        let Some(address) = &voter.address else {
            return configured.cloned().ok_or(OpeningError::NoAddress);
        };
        let url = self.url(address);
        let same = |one: &&Database| match (&one.url, &url) {
            (PartitionUrl::Mysql(one), Ok(PartitionUrl::Mysql(other))) => {
                one.locator() == other.locator()
            }
            (PartitionUrl::Mysql(one), Err(_)) => {
                // Sealed with another key; what is not secret tells.
                let shown: Option<MysqlUrl> = address.url.parse().ok();
                shown.is_some_and(|shown| one.locator() == shown.locator())
            }
            (one, Ok(other)) => one == other,
            (_, Err(_)) => false,
        };
        match configured.filter(same) {
            Some(configured) => Ok(configured.clone()),
            None => Database::at(url?, &self.parts.clock),
        }
    }

    /// Where the database of a voter is, without secrets; empty: nobody says.
    pub fn shown(&self, voter: &Voter) -> String {
        let shown = || voter.address.as_ref().map(|address| address.url.clone());
        let known = self.database(voter).map(|database| database.url.to_string());
        known.ok().or_else(shown).unwrap_or_default()
    }

    fn url(&self, address: &Address) -> Result<PartitionUrl, OpeningError> {
        let bad = || OpeningError::BadAddress { url: address.url.clone() };
        if address.url.starts_with("sqlite:") {
            return PartitionUrl::parse(&address.url, &self.parts.root, "").map_err(|_| bad());
        }
        let shown: MysqlUrl = address.url.parse().map_err(|_| bad())?;
        let listed = self.parts.standby.iter().find(|url| url.locator() == shown.locator());
        let opened = open_url(self.sealer(), &address.url, address.secret.as_deref());
        let opened = opened.filter(|_| address.secret.is_some()).or_else(|| listed.cloned());
        match opened {
            Some(url) => Ok(PartitionUrl::Mysql(url)),
            None if address.secret.is_some() || shown.has_password() => Err(OpeningError::Sealed),
            None => Ok(PartitionUrl::Mysql(shown)),
        }
    }

    /// The voter as lanes, rounds, followers and heartbeats use it.
    pub fn open(&self, voter: &Voter) -> Result<OpenVoter, OpeningError> {
        let database = self.database(voter)?;
        let checked = self.checked(voter, &database.engine);
        let connect = Arc::clone(&checked) as Arc<dyn Connect>;
        let limits = LaneLimits::default();
        // Of their own: every target of a round may read from every partition at once.
        let wide = LaneLimits { read_threads: VOTERS_MAX, ..limits };
        let pool = |limits| Pool::new(Arc::clone(&connect), Arc::clone(&self.parts.clock), limits);
        Ok(OpenVoter {
            serving: Serving { id: voter.id, name: voter.name.as_str().into() },
            url: database.url.to_string().into(),
            pool: Arc::new(pool(limits)),
            rounds: Arc::new(pool(wide)),
            checked,
        })
    }

    /// The way to the voter for the register and changes of ownership.
    pub fn way(&self, voter: &Voter) -> Result<Arc<Pool>, OpeningError> {
        let checked = self.checked(voter, &self.database(voter)?.way);
        Ok(Arc::new(Pool::new(checked, Arc::clone(&self.parts.clock), LaneLimits::default())))
    }

    /// Connections to the voter, with the patience of a way.
    pub fn connect(&self, voter: &Voter) -> Result<Arc<dyn Connect>, OpeningError> {
        Ok(self.checked(voter, &self.database(voter)?.way))
    }

    fn checked(&self, voter: &Voter, engine: &Arc<dyn Engine>) -> Arc<Checked> {
        let (name, set, partition) = (voter.name.clone(), self.set, voter.id);
        Arc::new(Checked {
            engine: Arc::clone(engine),
            expected: Expected { name, set, partition },
            history: Arc::clone(&self.parts.history),
            losses: AtomicU64::default(),
        })
    }
}

/// A voter that holds data, not yet connected to.
pub struct OpenVoter {
    serving: Serving,
    url: Arc<str>,
    checked: Arc<Checked>,
    pool: Arc<Pool>,
    rounds: Arc<Pool>,
}

impl OpenVoter {
    /// Id and name.
    pub const fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Its database.
    pub fn engine(&self) -> &dyn Engine {
        self.checked.engine.as_ref()
    }

    /// Connections whose identity was asked for.
    pub fn connect(&self) -> Arc<dyn Connect> {
        Arc::clone(&self.checked) as Arc<dyn Connect>
    }

    /// For lanes.
    pub fn served(&self) -> Served {
        Served {
            serving: self.serving.clone(),
            url: Arc::clone(&self.url),
            part: Part::Voter,
            engine: self.engine().kind(),
            is_local: self.engine().is_local(),
            connect: self.connect(),
            pool: Arc::clone(&self.pool),
        }
    }

    /// For rounds, and for upkeep.
    pub fn member(&self) -> Member {
        Member {
            id: self.serving.id,
            name: Arc::clone(&self.serving.name),
            connect: Arc::clone(&self.rounds) as Arc<dyn Connect>,
        }
    }

    /// For the feed.
    pub fn source(&self) -> FeedSource {
        FeedSource {
            id: self.serving.id,
            name: Arc::clone(&self.serving.name),
            is_local: self.engine().is_local(),
            is_voter: true,
            connect: self.connect(),
        }
    }
}
