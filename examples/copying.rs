//! Copies a partition on a server into another one, as a read copy is made: what
//! `scripts/bench-copy` holds against a dump that is loaded.
//!
//!     copying fill SOURCE ROWS      founds a partition, fills it: values of 100 bytes, random keys
//!     copying seed SOURCE TARGET    makes TARGET, an empty database, a copy of it; prints seconds
//!     copying first SOURCE TARGET   the same for a voter, which pulls page by page
//!     copying idle SOURCE TARGET    rounds with nothing to do; prints milliseconds a pair

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, System};
use datastore::jobs::SyncJob;
use datastore::lane::pool::Pool;
use datastore::lane::{Connect, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Identity, Partition, PartitionError, SCHEMA_VERSION};
use datastore::record::{Body, Key, Space};
use datastore::sync::report::Report;
use datastore::sync::round::{Member, Round};
use datastore::topology::{Role, Topology};
use datastore::version::{PartitionId, SetId};
use datastore::write::Write;

const SOURCE: PartitionId = PartitionId(1);
const VOTER: PartitionId = PartitionId(2);
const BATCH: u64 = 256;
const IDLE_ROUNDS: u32 = 200;

struct Direct(Mysql);

impl Connect for Direct {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        self.0.connect()
    }
}

fn topology() -> Topology {
    let roles = [("source".to_owned(), Role::Master), ("target".to_owned(), Role::Replica)];
    Topology::found(&BTreeMap::from(roles)).expect("a master and a replica are a set")
}

fn member(
    url: &str,
    id: PartitionId,
    name: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Member, Box<dyn Error>> {
    let direct = Direct(Mysql::new(url.parse()?));
    let topology = topology();
    let identity = Identity { set: SetId(1), partition: id, schema: SCHEMA_VERSION, topology };
    direct.connect()?.found(&identity)?;
    let pool = Pool::new(Arc::new(direct), Arc::clone(clock), LaneLimits::default());
    Ok(Member { id, name: name.into(), connect: Arc::new(pool) })
}

fn fill(url: &str, rows: u64, clock: &Arc<dyn Clock>) -> Result<(), Box<dyn Error>> {
    let mut partition = member(url, SOURCE, "source", clock)?.connect.connect()?;
    let epoch = partition.open_lane()?;
    for first in (0..rows).step_by(usize::try_from(BATCH)?) {
        let write = |n: u64| {
            let key = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&n.to_be_bytes()));
            let value = format!("{n:0>100}").into();
            let body = Body { value, content_type: "text/plain".into(), expires_at: None };
            Write::set(Key::stored(Space::Data, key), body)
        };
        let writes: Vec<Write> = (first..rows.min(first + BATCH)).map(write).collect();
        partition.commit(epoch, &writes)?;
    }
    Ok(())
}

/// Runs rounds until the target has everything.
async fn until_clean(job: &SyncJob) -> Report {
    loop {
        let round = job.run(Duration::from_secs(3600)).await;
        if let Some(report) = round.filter(|report| report.is_clean()) {
            return report.as_ref().clone();
        }
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let (source, target, id, idle) = match arguments.as_slice() {
        ["fill", source, rows] => return fill(source, rows.parse()?, &clock),
        ["seed", source, target] => (source, target, PartitionId::FIRST_COPY, false),
        ["first", source, target] => (source, target, VOTER, false),
        ["idle", source, target] => (source, target, PartitionId::FIRST_COPY, true),
        _ => return Err("see the beginning of examples/copying.rs".into()),
    };
    let members =
        vec![member(source, SOURCE, "source", &clock)?, member(target, id, "target", &clock)?];
    let shared = Arc::new(ArcSwap::from_pointee(topology()));
    let retention = Duration::from_secs(3600);
    let job = SyncJob::start(Round::start(members, shared, Arc::clone(&clock), retention)?)?;
    let began = clock.monotonic();
    let report = until_clean(&job).await;
    if !idle {
        println!("{:.2}", (clock.monotonic() - began).as_secs_f64());
        return Ok(());
    }
    let pairs = report.pairs.len();
    let began = clock.monotonic();
    for _ in 0..IDLE_ROUNDS {
        job.run(Duration::from_secs(60)).await;
    }
    let took = (clock.monotonic() - began).as_secs_f64() * 1000.0;
    println!("{:.3}", took / f64::from(IDLE_ROUNDS) / f64::from(u32::try_from(pairs)?));
    Ok(())
}
