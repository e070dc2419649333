//! A read copy as one front end has it open: a partition like any other to lanes and rounds.
//!
//! What sets it apart is its id ([`PartitionId::is_copy`]), and that it is made anew where it is
//! not what it should be ([`Disposable`]). Nothing is connected to here.

use std::sync::Arc;

use crate::clock::Clock;
use crate::lane::disposable::{Discard, Disposable};
use crate::lane::pool::Pool;
use crate::lane::{Connect, LaneLimits};
use crate::partition::engine::Engine;
use crate::partition::{Identity, SCHEMA_VERSION};
use crate::store::Served;
use crate::store::answer::Serving;
use crate::store::route::Part;
use crate::sync::round::Member;
use crate::topology::Topology;
use crate::version::{PartitionId, SetId};

/// What a copy is made of.
pub struct OpenCopyParts<'a> {
    /// Its id.
    pub id: PartitionId,
    /// Its name.
    pub name: &'a str,
    /// Whether it is inside this process or not.
    pub part: Part,
    /// Where it is, without secrets.
    pub url: String,
    /// Opens connections to its database.
    pub engine: Box<dyn Engine>,
    /// Throws its database away; `None`: another front end keeps it.
    pub discard: Option<Discard>,
    /// The set that it is a copy of.
    pub set: SetId,
    /// The topology in use.
    pub topology: Topology,
}

/// A read copy, not yet connected to.
pub struct OpenCopy {
    serving: Serving,
    part: Part,
    url: Arc<str>,
    disposable: Arc<Disposable>,
    pool: Arc<Pool>,
}

impl OpenCopy {
    /// The copy in this database.
    pub fn new(parts: OpenCopyParts<'_>, clock: &Arc<dyn Clock>) -> Self {
        let OpenCopyParts { id, name, part, url, engine, discard, set, topology } = parts;
        let identity = Identity { set, partition: id, schema: SCHEMA_VERSION, topology };
        let disposable = Arc::new(Disposable::new(name, engine, discard, identity));
        let connect = Arc::clone(&disposable) as Arc<dyn Connect>;
        let pool = Arc::new(Pool::new(connect, Arc::clone(clock), LaneLimits::default()));
        let serving = Serving { id, name: name.into() };
        Self { serving, part, url: url.into(), disposable, pool }
    }

    /// For lanes.
    pub fn served(&self) -> Served {
        Served {
            serving: self.serving.clone(),
            url: Arc::clone(&self.url),
            part: self.part,
            engine: self.disposable.engine().kind(),
            is_local: self.disposable.engine().is_local(),
            connect: Arc::clone(&self.disposable) as Arc<dyn Connect>,
            pool: Arc::clone(&self.pool),
        }
    }

    /// For rounds.
    pub fn member(&self) -> Member {
        Member {
            id: self.serving.id,
            name: Arc::clone(&self.serving.name),
            connect: Arc::clone(&self.disposable) as Arc<dyn Connect>,
        }
    }

    /// `embedded_copy (sqlite, copy)`: for the log.
    pub fn describe(&self) -> String {
        format!("{} ({}, copy)", self.serving.name, self.disposable.engine().kind())
    }
}
