//! Measures the lanes and the log of a partition on a server, without HTTP: how many point reads
//! and writes pass in a second, and what a page costs at three depths of a long log.
//!
//! `scripts/bench-mysql` starts a server of its own and runs this twice: with `found`, which makes
//! the partition, and, once a long log of origin 2 stands in it, with `measure`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, System};
use datastore::lane::point::PointLane;
use datastore::lane::write::{WriteLane, WriteLaneParts};
use datastore::lane::{Connect, Deadline, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::{Mysql, MysqlUrl};
use datastore::partition::{
    Identity, Origins, PageRequest, Partition, PartitionError, SCHEMA_VERSION,
};
use datastore::record::{Body, Key, Space};
use datastore::topology::{Role, Topology};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Seq, SetId, Version};
use datastore::write::Write;

type Failure = Box<dyn Error + Send + Sync>;

const KEYS: usize = 100_000;
const SECONDS: Duration = Duration::from_secs(5);

struct Direct(MysqlUrl);

impl Connect for Direct {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        Mysql::new(self.0.clone()).connect()
    }
}

fn key(nth: usize) -> Key {
    Key::stored(Space::Data, format!("key {nth:08}"))
}

fn set(nth: usize) -> Write {
    let value = vec![b'v'; 100].into();
    Write::set(key(nth), Body { value, content_type: "text/plain".into(), expires_at: None })
}

fn main() -> Result<(), Failure> {
    let url: MysqlUrl = std::env::args().nth(1).ok_or("which url?")?.parse()?;
    let engine = Mysql::new(url.clone());
    println!("{}", engine.settings()?);
    let topology = Topology::found(&[("a".to_owned(), Role::Master)].into())?;
    let identity = Identity {
        set: SetId(1),
        partition: PartitionId(1),
        schema: SCHEMA_VERSION,
        topology: topology.clone(),
    };
    let mut connection = engine.connect()?;
    connection.found(&identity)?;
    if std::env::args().nth(2).as_deref() != Some("measure") {
        return Ok(());
    }
    connection.open_lane()?;
    for first in (0..KEYS).step_by(1_000) {
        let writes: Vec<Write> = (first..first + 1_000).map(set).collect();
        connection.commit(Epoch::FIRST, &writes)?;
    }
    let connect: Arc<dyn Connect> = Arc::new(Direct(url));
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(reads(&connect, &clock))?;
    runtime.block_on(writes(connect, &clock, topology))?;
    pages(connection.as_mut(), clock.as_ref())
}

/// Point reads by 64 tasks.
async fn reads(connect: &Arc<dyn Connect>, clock: &Arc<dyn Clock>) -> Result<(), Failure> {
    let lane = Arc::new(PointLane::start("bench", connect, clock, LaneLimits::default())?);
    let end = clock.monotonic() + SECONDS;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (lane, clock) = (Arc::clone(&lane), Arc::clone(clock));
            tokio::spawn(async move {
                let mut done = 0;
                while clock.monotonic() < end {
                    let nth = (task * 7919 + done * 104_729) % KEYS;
                    let deadline = Deadline(end + SECONDS);
                    if lane.get(key(nth), Vector::new(), deadline).await.is_ok() {
                        done += 1;
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await?;
    }
    println!("point reads, 64 at once: {:.0}/s", done as f64 / SECONDS.as_secs_f64());
    Ok(())
}

/// Writes by 128 tasks.
async fn writes(
    connect: Arc<dyn Connect>,
    clock: &Arc<dyn Clock>,
    topology: Topology,
) -> Result<(), Failure> {
    let lane = Arc::new(WriteLane::start(&WriteLaneParts {
        id: PartitionId(1),
        name: "bench".into(),
        connect,
        topologies: Arc::new(ArcSwap::from_pointee(topology)),
        clock: Arc::clone(clock),
        limits: LaneLimits::default(),
    })?);
    let end = clock.monotonic() + SECONDS;
    let tasks: Vec<_> = (0..128)
        .map(|task| {
            let (lane, clock) = (Arc::clone(&lane), Arc::clone(clock));
            tokio::spawn(async move {
                let mut done = 0;
                while clock.monotonic() < end {
                    let nth = (task * 7919 + done * 104_729) % KEYS;
                    let Ok(answer) = lane.submit(set(nth), Deadline(end + SECONDS)) else {
                        continue;
                    };
                    if let Ok(Ok(_)) = answer.await {
                        done += 1;
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await?;
    }
    println!("writes, 128 at once: {:.0}/s", done as f64 / SECONDS.as_secs_f64());
    Ok(())
}

/// Pages of 1,000 entries at 10, 50 and 90 % of the log of origin 2, the best of some.
fn pages(partition: &mut dyn Partition, clock: &dyn Clock) -> Result<(), Failure> {
    let origin = PartitionId(2);
    let last = partition.status()?.heads.get(origin).seq().number();
    let mut times = Vec::new();
    for percent in [10, 50, 90] {
        let seq = Seq::new(last * percent / 100).ok_or("too many")?;
        let own = partition.status()?.vector.get(PartitionId(1));
        let from = [(PartitionId(1), own), (origin, Version::new(Epoch::FIRST, seq))];
        let request = PageRequest {
            from: from.into_iter().collect(),
            origins: Origins::Only([origin].into()),
            early: true,
            rows: false,
            entries_max: 1_000,
            bytes_max: 4 << 20,
        };
        let mut best = Duration::MAX;
        for _ in 0..50 {
            let began = clock.monotonic();
            assert_eq!(partition.page(&request)?.entries.len(), 1_000);
            best = best.min(clock.monotonic() - began);
        }
        println!("a page at {percent} % of {last} entries: {} us", best.as_micros());
        times.push(best.as_secs_f64());
    }
    let least = times.iter().copied().fold(f64::MAX, f64::min);
    let most = times.iter().copied().fold(0.0, f64::max);
    println!("the dearest page costs {:.2} of the cheapest", most / least);
    if most > 1.5 * least {
        Err("the deeper, the dearer: more than 1.5 times".into())
    } else {
        Ok(())
    }
}
