//! Founding a set of partitions, and opening one that was founded.
//!
//! A partition knows whose it is: set id, own id and topology are written into it once, by `init`
//! or the first `serve`, and read again before anything else is done with it. So a swapped URL, a
//! database that two names lead to, another set's database or another schema is refused by name,
//! and never written to.
//!
//! # Rules
//!
//! - A set is founded when *every* configured partition is empty, in the order of names. Of two
//!   founders at once the first to write its set id at the first partition by name wins: the other
//!   adopts it.
//! - Some empty, some not: refused. An empty database in the place of a lost one would give
//!   versions again that somebody has seen (VER-1), so nothing fills it silently.
//! - A partition that cannot be asked does not keep the others from serving: it is named in
//!   [`OpenSet::unreachable`], and whoever connects to it later asks [`check_identity`] first. So
//!   does everybody at every connection: what a URL leads to may change.
//! - The configuration has to name the partitions of the set. What they are for, it says once, to
//!   an empty set: from then on the register does ([`crate::register`]), and roles that say
//!   something else are ignored. The newest topology that a partition stores is where a front end
//!   begins; what it acts on it reads by a quorum.
//! - A partition that was retired may stay in the configuration, and is not used.

pub mod difference;
pub mod history;
mod judge;
pub mod restored;

use std::fmt;
use std::sync::Arc;

use self::difference::Difference;
use self::judge::{judge_all, newness};
use crate::partition::engine::Engine;
use crate::partition::{Identity, Partition, PartitionError, ReseedNumber, SCHEMA_VERSION};
use crate::topology::Topology;
use crate::version::{PartitionId, Seq, SetId, Version};

/// A partition as the configuration names it.
#[derive(Clone)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// Opens connections to its database.
    pub engine: Arc<dyn Engine>,
}

/// Whether a set may be founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Only what was founded is opened.
    Never,
    /// `init` and `serve`: where every configured partition is empty.
    IfAllEmpty,
}

/// A set whose partitions may be used.
#[derive(Debug)]
pub struct OpenSet {
    /// Which set it is.
    pub set: SetId,
    /// Who takes the writes of which key: the newest that a partition stores.
    pub topology: Topology,
    /// What the configuration says otherwise, and is ignored.
    pub ignored: Difference,
    /// Whether it was founded just now.
    pub founded: bool,
    /// Who could not be asked: not yet known to match.
    pub unreachable: Vec<Unreachable>,
}

/// A partition that could not be asked whose it is.
#[derive(Debug)]
pub struct Unreachable {
    /// Its configured name.
    pub name: String,
    /// Why it could not.
    pub error: PartitionError,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}", self.name, self.error)?;
        let mut source = std::error::Error::source(&self.error);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        f.write_str(")")
    }
}

/// What a partition has to say of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its configured name, for errors.
    pub name: String,
    /// The set that it belongs to.
    pub set: SetId,
    /// Its id there.
    pub partition: PartitionId,
}

/// Why a set, or a partition of it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The configuration and the topology made from it do not name the same partitions.
    #[error("partition `{name}` is not both configured and in the topology")]
    NotInTopology {
        /// Which one.
        name: String,
    },
    /// Two partitions lead to one database.
    #[error("partitions `{first}` and `{second}` have one database: give each a `url` of its own")]
    OneDatabase {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// Two databases with one identity: two ways to one, or a copy.
    #[error(
        "the databases of `{first}` and `{second}` both say that they are partition {partition} of \
         the set: the urls lead to one database, or one is a copy of the other; give `{second}` its own"
    )]
    OneIdentity {
        /// One name.
        first: String,
        /// The other.
        second: String,
        /// The id that both have.
        partition: PartitionId,
    },
    /// The database of another partition of the set.
    #[error(
        "the `url` of partition `{name}` leads to the database of partition `{owner}`: swap them back"
    )]
    Swapped {
        /// Whose URL.
        name: String,
        /// Whose database; the id, if it is none of the configured ones.
        owner: String,
    },
    /// A database of another set.
    #[error(
        "the database of partition `{name}` belongs to set {set}, not to {expected} like that of \
         {witness}: correct its `url`"
    )]
    ForeignSet {
        /// Whose URL.
        name: String,
        /// The set of its database.
        set: SetId,
        /// The set that was opened.
        expected: SetId,
        /// Who says so.
        witness: String,
    },
    /// A database with tables that this binary does not know.
    #[error(
        "the database of partition `{name}` has schema {schema}, this binary knows {SCHEMA_VERSION}: \
         {}", schema_fix(*schema)
    )]
    Schema {
        /// Whose database.
        name: String,
        /// Its schema.
        schema: u32,
    },
    /// The configuration says something else than the partition.
    #[error(
        "the configuration does not say what partition `{name}` stores: {difference}; configure the \
         partitions as they were founded, or found a new set in empty databases"
    )]
    TopologyDiffers {
        /// Who stores it.
        name: String,
        /// What differs.
        difference: Difference,
    },
    /// A set cannot have lost some of its databases.
    #[error(
        "the databases of {} are empty, those of {} are not: {}",
        quoted(empty), quoted(standing), some_empty_fix(*unfinished)
    )]
    SomeEmpty {
        /// Who has an empty database.
        empty: Vec<String>,
        /// Who has not.
        standing: Vec<String>,
        /// Whether it looks like a founding that goes on at this moment, or was broken off.
        unfinished: bool,
    },
    /// The database of one partition of an open set holds nothing.
    #[error(
        "the database of partition `{name}` is empty, though its set was founded: correct its `url` \
         or bring its database back"
    )]
    Empty {
        /// Whose database.
        name: String,
    },
    /// An older copy of a partition's database stands in its place.
    #[error(
        "the database of partition `{name}` is an older copy of it: others hold its version {known}, \
         which it has never given, though it is at {clock}; put the right one back, or begin a new \
         set with `datastore init --restored`"
    )]
    PutBack {
        /// Whose database.
        name: String,
        /// The last version that it knows to have given.
        clock: Version,
        /// One that another partition holds and it has never given.
        known: Version,
    },
    /// There is no set, and none may be founded.
    #[error("the databases of {} are empty: run `datastore init`", quoted(names))]
    AllEmpty {
        /// Who was asked.
        names: Vec<String>,
    },
    /// A set is founded by all its partitions.
    #[error(
        "a new set is founded by all its partitions, and these cannot be asked: {}; start them, or \
         take them out of the configuration",
        listed(unreachable)
    )]
    NeedsAll {
        /// Who is missing.
        unreachable: Vec<Unreachable>,
    },
    /// Nobody can tell which set it is.
    #[error("no partition can be asked: {}", listed(unreachable))]
    NoneReachable {
        /// Everybody.
        unreachable: Vec<Unreachable>,
    },
    /// A partition did not answer in between.
    #[error("partition `{name}` did not say whose it is")]
    Partition {
        /// Which one.
        name: String,
        /// Why.
        #[source]
        source: PartitionError,
    },
}

impl FoundingError {
    /// Whether it may be otherwise a moment later, without anybody's doing: another process is
    /// founding the set, or a partition is starting. Whoever retries does so with a bound.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::SomeEmpty { unfinished, .. } => *unfinished,
            Self::NeedsAll { .. } | Self::NoneReachable { .. } | Self::Partition { .. } => true,
            Self::NotInTopology { .. }
            | Self::OneDatabase { .. }
            | Self::OneIdentity { .. }
            | Self::Swapped { .. }
            | Self::ForeignSet { .. }
            | Self::Schema { .. }
            | Self::TopologyDiffers { .. }
            | Self::Empty { .. }
            | Self::PutBack { .. }
            | Self::AllEmpty { .. } => false,
        }
    }
}

const fn schema_fix(schema: u32) -> &'static str {
    if schema > SCHEMA_VERSION {
        "use the newer datastore that made it"
    } else {
        "use the older datastore that made it, or found a new set in empty databases and import"
    }
}

const fn some_empty_fix(unfinished: bool) -> &'static str {
    if unfinished {
        "their founding goes on or was broken off; if it does not end by itself, empty those that are \
         not and start again"
    } else {
        "bring back the databases that are missing, or correct their urls; nothing was written"
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn listed(unreachable: &[Unreachable]) -> String {
    let all: Vec<String> = unreachable.iter().map(Unreachable::to_string).collect();
    all.join(", ")
}

/// An open connection with what its partition said.
struct Look<'a> {
    name: &'a str,
    id: PartitionId,
    connection: Box<dyn Partition + Send>,
    identity: Option<Identity>,
}

/// Opens the set of `partitions`, in the order of their names, which `topology` was made from;
/// founds it as `new_set` if it may and all are empty.
pub fn open_set(
    partitions: &[Configured],
    topology: &Topology,
    founding: Founding,
    new_set: SetId,
) -> Result<OpenSet, FoundingError> {
    same_names(partitions, topology)?;
    match open_as_seen(partitions, topology, founding, new_set) {
        // One may have been founded, and even written, after another was looked at. A second look
        // is the answer: by then a founder that has been seen to be done is done everywhere.
        Err(FoundingError::SomeEmpty { .. }) => {
            open_as_seen(partitions, topology, founding, new_set)
        }
        result => result,
    }
}

fn open_as_seen(
    partitions: &[Configured],
    topology: &Topology,
    founding: Founding,
    new_set: SetId,
) -> Result<OpenSet, FoundingError> {
    let (mut looks, unreachable) = look(partitions, topology)?;
    // Only now: a file that did not exist had no way to tell that it is another's.
    own_databases(partitions)?;
    let ignored = judge_all(&mut looks, &unreachable, topology)?;
    let (standing, empty): (Vec<_>, Vec<_>) =
        looks.iter_mut().partition(|look| look.identity.is_some());
    let names = |looks: &[&mut Look<'_>]| looks.iter().map(|look| look.name.to_owned()).collect();
    match (standing.is_empty(), empty.is_empty()) {
        (true, true) => Err(FoundingError::NoneReachable { unreachable }),
        (false, false) => Err(FoundingError::SomeEmpty {
            empty: names(&empty),
            standing: names(&standing),
            unfinished: unreachable.is_empty() && is_unfinished(standing, &empty),
        }),
        (false, true) => {
            let identities = standing.iter().filter_map(|look| look.identity.as_ref());
            opened(identities, unreachable)
                .map(|set| OpenSet { ignored, ..set })
                .ok_or(FoundingError::NoneReachable { unreachable: Vec::new() })
        }
        (true, false) if founding == Founding::Never => {
            Err(FoundingError::AllEmpty { names: names(&empty) })
        }
        (true, false) if !unreachable.is_empty() => Err(FoundingError::NeedsAll { unreachable }),
        (true, false) => found_all(empty, topology, new_set),
    }
}

/// Whether the partition is the one that is expected: asked at every connection.
pub fn check_identity(
    partition: &mut dyn Partition,
    expected: &Expected,
) -> Result<(), FoundingError> {
    let name = &expected.name;
    let identity = partition
        .identity()
        .map_err(|source| FoundingError::Partition { name: name.clone(), source })?
        .ok_or_else(|| FoundingError::Empty { name: name.clone() })?;
    same_schema(name, &identity)?;
    same_set(name, &identity, expected.set, "this front end")?;
    same_partition(name, &identity, expected.partition)
}

fn same_names(partitions: &[Configured], topology: &Topology) -> Result<(), FoundingError> {
    let not_in_topology =
        partitions.iter().map(|p| &p.name).find(|name| topology.voter_named(name).is_none());
    let not_configured = topology
        .voters()
        .iter()
        .map(|voter| &voter.name)
        .find(|name| partitions.iter().all(|partition| partition.name != **name));
    match not_in_topology.or(not_configured) {
        Some(name) => Err(FoundingError::NotInTopology { name: name.clone() }),
        None => Ok(()),
    }
}

/// Asks everybody whose they are: the last one first. Founding goes the other way, so whoever was
/// found standing had all before it standing too, and a founding that goes on looks like one.
fn look<'a>(
    partitions: &'a [Configured],
    topology: &Topology,
) -> Result<(Vec<Look<'a>>, Vec<Unreachable>), FoundingError> {
    let (mut looks, mut unreachable) = (Vec::new(), Vec::new());
    for partition in partitions.iter().rev() {
        let name = &partition.name;
        let id = topology.voter_named(name).map(|voter| voter.id);
        let id = id.ok_or_else(|| FoundingError::NotInTopology { name: name.clone() })?;
        let asked = partition.engine.connect().and_then(|mut connection| {
            let identity = connection.identity()?;
            Ok(Look { name, id, connection, identity })
        });
        match asked {
            Ok(look) => looks.push(look),
            Err(error) => unreachable.push(Unreachable { name: name.clone(), error }),
        }
    }
    looks.reverse();
    unreachable.reverse();
    Ok((looks, unreachable))
}

fn own_databases(partitions: &[Configured]) -> Result<(), FoundingError> {
    let locators: Vec<String> = partitions.iter().map(|p| p.engine.locator()).collect();
    for (nth, locator) in locators.iter().enumerate() {
        if let Some(before) = locators[..nth].iter().position(|other| other == locator) {
            let (first, second) = (partitions[before].name.clone(), partitions[nth].name.clone());
            return Err(FoundingError::OneDatabase { first, second });
        }
    }
    Ok(())
}

fn same_schema(name: &str, identity: &Identity) -> Result<(), FoundingError> {
    if identity.schema == SCHEMA_VERSION {
        return Ok(());
    }
    Err(FoundingError::Schema { name: name.to_owned(), schema: identity.schema })
}

fn same_set(
    name: &str,
    identity: &Identity,
    expected: SetId,
    witness: &str,
) -> Result<(), FoundingError> {
    if identity.set == expected {
        return Ok(());
    }
    let (name, witness) = (name.to_owned(), witness.to_owned());
    Err(FoundingError::ForeignSet { name, set: identity.set, expected, witness })
}

fn same_topology(
    name: &str,
    identity: &Identity,
    topology: &Topology,
) -> Result<(), FoundingError> {
    if identity.topology.digest() == topology.digest() {
        return Ok(());
    }
    let difference = Difference::between(&identity.topology, topology);
    Err(FoundingError::TopologyDiffers { name: name.to_owned(), difference })
}

fn same_partition(
    name: &str,
    identity: &Identity,
    expected: PartitionId,
) -> Result<(), FoundingError> {
    if identity.partition == expected {
        return Ok(());
    }
    let owner = identity.topology.voter(identity.partition);
    let owner = owner.map_or_else(|| identity.partition.to_string(), |voter| voter.name.clone());
    Err(FoundingError::Swapped { name: name.to_owned(), owner })
}

/// Founding goes on in the order of names and no front end serves before its end: so what stands
/// are the first ones, and none of them has ever been written.
fn is_unfinished(standing: Vec<&mut Look<'_>>, empty: &[&mut Look<'_>]) -> bool {
    let first_empty = empty.iter().map(|look| look.id).min();
    standing.into_iter().all(|look| {
        let untouched = look.connection.status().is_ok_and(|status| {
            let alone = status.vector.iter().all(|(origin, _)| origin == status.partition);
            let unwritten = status.seq == Seq::ZERO && status.heads.is_empty();
            alone && unwritten && status.reseed == ReseedNumber(0) && !status.reseeding
        });
        untouched && Some(look.id) < first_empty
    })
}

/// Writes the set into every database; whoever was first at the first one names the set.
fn found_all(
    empty: Vec<&mut Look<'_>>,
    topology: &Topology,
    new_set: SetId,
) -> Result<OpenSet, FoundingError> {
    let mut set = new_set;
    let mut witness: Option<String> = None;
    let mut identities = Vec::new();
    for look in empty {
        let identity = Identity {
            set,
            partition: look.id,
            schema: SCHEMA_VERSION,
            topology: topology.seeded(set),
        };
        let standing = look
            .connection
            .found(&identity)
            .map_err(|source| FoundingError::Partition { name: look.name.to_owned(), source })?;
        same_schema(look.name, &standing)?;
        match &witness {
            Some(witness) => same_set(look.name, &standing, set, witness)?,
            None => set = standing.set,
        }
        same_topology(look.name, &standing, topology)?;
        same_partition(look.name, &standing, look.id)?;
        witness.get_or_insert_with(|| format!("`{}`", look.name));
        identities.push(standing);
    }
    let set = opened(identities.iter(), Vec::new());
    let set = set.ok_or(FoundingError::NoneReachable { unreachable: Vec::new() })?;
    Ok(OpenSet { founded: set.set == new_set, ..set })
}

/// Identities that match; `None` where there is none.
fn opened<'a>(
    identities: impl Iterator<Item = &'a Identity>,
    unreachable: Vec<Unreachable>,
) -> Option<OpenSet> {
    let newest = identities.max_by_key(|identity| newness(identity))?;
    let (set, topology) = (newest.set, newest.topology.clone());
    Some(OpenSet { set, topology, ignored: Difference::default(), founded: false, unreachable })
}

#[cfg(test)]
mod tests;
