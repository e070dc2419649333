//! Sync over real servers and ways to them that break: the sync side of F14 to F23. Whatever
//! happens to whom, the others go on, and in the end all hold the same (CONV-1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use datastore::clock::{Clock, Manual, System};
use datastore::jobs::SyncJob;
use datastore::lane::pool::Pool;
use datastore::lane::{Connect, LaneLimits};
use datastore::partition::engine::Engine;
use datastore::partition::memory::Memory;
use datastore::partition::mysql::Mysql;
use datastore::partition::{Identity, Partition, PartitionError, SCHEMA_VERSION};
use datastore::record::Record;
use datastore::sync::report::{Pair, Report};
use datastore::sync::round::{Member, Round};
use datastore::topology::{Role, Topology};
use datastore::version::{Epoch, PartitionId, RunId, SetId};
use datastore::write::Write;
use mysql::prelude::Queryable;
use tokio::runtime::{Builder, Runtime};

use crate::bed::{Connection, SHORT, key, set};
use crate::support::mariadb::Server;
use crate::support::proxy::{Proxy, Strike, Traffic, Way};

const NAMES: [&str; 3] = ["a", "b", "c"];
const RETENTION: Duration = Duration::from_secs(60);
/// Longer than anything here takes on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

struct Direct<E>(E);

impl<E: Engine> Connect for Direct<E> {
    fn connect(&self) -> Result<Box<dyn Partition + Send>, PartitionError> {
        self.0.connect()
    }
}

/// Three masters on a server, each behind a proxy, with a read copy in memory, and one front end.
pub struct Set {
    pub proxies: Vec<Proxy>,
    pub databases: Vec<String>,
    /// Past the proxies.
    direct: Vec<Connection>,
    copy: Connection,
    pub members: Vec<Member>,
    pub topology: Arc<ArcSwap<Topology>>,
    clock: Arc<Manual>,
    job: SyncJob,
    runtime: Runtime,
}

impl Set {
    pub fn on(server: &Server) -> Self {
        Self::over([server, server, server])
    }

    fn over(servers: [&Server; 3]) -> Self {
        let roles = NAMES.map(|name| (name.to_owned(), Role::Master));
        let topology = Topology::found(&BTreeMap::from(roles)).unwrap();
        let clock = Arc::new(Manual::at(1_000_000_000_000));
        let time: Arc<dyn Clock> = clock.clone();
        let (mut proxies, mut databases) = (Vec::new(), Vec::new());
        let (mut direct, mut members) = (Vec::new(), Vec::new());
        let identity = |partition| Identity {
            set: SetId(7),
            partition,
            schema: SCHEMA_VERSION,
            topology: topology.clone(),
        };
        for (voter, server) in topology.voters().iter().zip(servers) {
            let database = server.database();
            let mut connection = server.engine(&database).connect().unwrap();
            connection.found(&identity(voter.id)).unwrap();
            connection.open_lane().unwrap();
            direct.push(connection);
            let proxy = Proxy::to(server.port());
            let engine = Mysql::new(server.url_by(proxy.port(), &database)).with_patience(SHORT);
            proxies.push(proxy);
            databases.push(database);
            // Of more than one front end; time is the system's: nothing here rests on it.
            let limits = LaneLimits { read_threads: 8, ..LaneLimits::default() };
            let pool = Pool::new(Arc::new(Direct(engine)), Arc::new(System::new()), limits);
            let name = voter.name.as_str().into();
            members.push(Member { id: voter.id, name, connect: Arc::new(pool) });
        }
        let memory = Memory::new(RunId(1), Arc::clone(&time));
        let mut copy = memory.connect().unwrap();
        copy.found(&identity(PartitionId::EMBEDDED_COPY)).unwrap();
        let (id, connect) = (PartitionId::EMBEDDED_COPY, Arc::new(Direct(memory)));
        members.push(Member { id, name: "copy".into(), connect });
        let topology = Arc::new(ArcSwap::from_pointee(topology));
        let job = front_end(&members, &topology, &time);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Self { proxies, databases, direct, copy, members, topology, clock, job, runtime }
    }

    /// Another front end over the same partitions.
    fn another(&self) -> SyncJob {
        let clock: Arc<dyn Clock> = self.clock.clone();
        front_end(&self.members, &self.topology, &clock)
    }

    pub fn write(&mut self, nth: usize, writes: &[Write]) {
        self.direct[nth].commit(Epoch::FIRST, writes).unwrap();
    }

    fn round(&self) -> Report {
        let report = self.runtime.block_on(self.job.run(BOUND));
        report.expect("a round comes to its end").as_ref().clone()
    }

    /// Rounds until one is clean; what is in the way goes away by itself.
    pub fn settle(&self) {
        let clock = System::new();
        loop {
            let report = self.round();
            if report.is_clean() {
                return;
            }
            assert!(clock.monotonic() < BOUND, "never clean: {report:?}");
        }
    }

    fn rows(&mut self, nth: usize) -> Vec<Record> {
        rows(&mut self.direct[nth])
    }

    /// CONV-1: all voters and the copy hold these many rows, the same.
    #[track_caller]
    pub fn assert_same(&mut self, count: usize) {
        let first = self.rows(0);
        assert_eq!(first.len(), count);
        for (nth, name) in NAMES.into_iter().enumerate() {
            assert_eq!(self.rows(nth), first, "CONV-1: {name}");
        }
        assert_eq!(rows(&mut self.copy), first, "CONV-1: the copy");
    }
}

fn front_end(
    members: &[Member],
    topology: &Arc<ArcSwap<Topology>>,
    clock: &Arc<dyn Clock>,
) -> SyncJob {
    let (topology, clock) = (Arc::clone(topology), Arc::clone(clock));
    SyncJob::start(Round::start(members.to_vec(), topology, clock, RETENTION).unwrap()).unwrap()
}

/// Visible rows and tombstones.
fn rows(partition: &mut Connection) -> Vec<Record> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let chunk = partition.scan(after.as_ref(), 1000, 1 << 20).unwrap();
        rows.extend(chunk.rows);
        if !chunk.more {
            return rows;
        }
        after = rows.last().map(|row| row.key.clone());
    }
}

fn pair<'a>(report: &'a Report, target: &str, source: &str) -> &'a Pair {
    let is = |pair: &&Pair| &*pair.target == target && pair.source.as_deref() == Some(source);
    report.pairs.iter().find(is).unwrap_or_else(|| panic!("{target} from {source}: {report:?}"))
}

/// F14: who takes a sequence first commits first, so no cursor ever passes a hole that fills later.
#[test]
fn f14_a_write_that_commits_late_is_not_skipped() {
    let server = Server::shared();
    let mut set = Set::on(server);
    set.settle();
    let mut slow = set.members[0].connect.connect().unwrap();
    set.proxies[0].strike_at(0, Strike::HoldAnswer);
    let (seen, late) = std::thread::scope(|scope| {
        let late = scope.spawn(move || slow.commit(Epoch::FIRST, &[self::set("late", "v")]));
        set.proxies[0].wait_until_struck();
        // It holds its sequence: others see nothing of it, and their cursors stay below.
        let seen = set.job.current();
        set.proxies[0].heal();
        (seen, late.join().unwrap())
    });
    assert!(seen.pairs.iter().all(|pair| pair.error.is_none()), "{seen:?}");
    let written = usize::from(late.is_ok());
    set.write(0, &[self::set("next", "v")]);
    set.settle();
    set.assert_same(1 + written);
}

/// F15: whatever a pass is cut at, at its target or its source, the next one brings the rest.
#[test]
fn f15_a_pass_may_be_cut_anywhere() {
    let server = Server::shared();
    let mut set = Set::on(server);
    set.settle();
    let mut struck = 0;
    for nth in 0..24 {
        for (partition, strike) in [
            (0, Strike::CutBefore),
            (0, Strike::CutAnswer),
            (1, Strike::CutBefore),
            (1, Strike::CutAnswer),
        ] {
            let name = format!("{nth}-{partition}-{strike:?}");
            set.write(0, &[self::set(name, "v")]);
            set.proxies[partition].strike_at(nth, strike);
            set.round();
            struck += usize::from(set.proxies[partition].has_struck());
        }
    }
    assert!(struck > 40, "only {struck} commands were struck");
    set.settle();
    set.assert_same(24 * 4);
}

/// F16: pages of three origins, in any order, twice, from two front ends at once.
#[test]
fn f16_two_front_ends_copy_three_origins_at_once() {
    let server = Server::shared();
    let mut set = Set::on(server);
    let other = set.another();
    for n in 0..40 {
        for nth in 0..NAMES.len() {
            let own = self::set(format!("{n}-{nth}"), format!("{n}"));
            set.write(nth, &[own]);
        }
        set.job.wake();
        other.wake();
    }
    set.settle();
    drop(other);
    set.settle();
    set.assert_same(120);
}

/// F18: who was away longer than logs and tombstones are kept brings nothing back. A voter holds
/// them back; a read copy does not, and is made anew.
#[test]
fn f18_nobody_brings_a_delete_back() {
    let server = Server::shared();
    let mut set = Set::on(server);
    for n in 0..20 {
        set.write(0, &[self::set(format!("k{n}"), "v")]);
    }
    set.settle();
    assert!(set.job.pause(Some("c"), true) && set.job.pause(Some("copy"), true));
    for n in 0..20 {
        set.write(0, &[Write::delete(key(format!("k{n}")))]);
    }
    let past_retention = |set: &Set| {
        for _ in 0..3 {
            set.clock.advance_ms(61_000);
            set.round();
        }
    };
    past_retention(&set);
    assert_eq!(set.rows(0).len(), 20, "DEL-1: c may still bring them back, so they are kept");
    set.job.pause(Some("c"), false);
    set.round();
    past_retention(&set);
    assert!(set.rows(0).is_empty(), "all voters are past the deletes");
    assert_eq!(rows(&mut set.copy).len(), 20, "the copy holds nothing back");
    set.job.pause(None, false);
    set.settle();
    set.assert_same(0);
}

/// F19: deletes and trimming while a copy is seeded.
#[test]
fn f19_deletes_and_trimming_during_a_seed() {
    let server = Server::shared();
    let mut set = Set::on(server);
    for n in 0..50 {
        set.write(0, &[self::set(format!("k{n:02}"), "v")]);
    }
    // The voters have all of it, the copy waits for the answer to a chunk.
    set.job.pause(Some("copy"), true);
    set.settle_voters();
    let seeding = set.another();
    assert!(seeding.pause(Some("a"), true) && seeding.pause(Some("b"), true));
    assert!(seeding.pause(Some("c"), true));
    set.proxies[0].strike_at(9, Strike::HoldAnswer);
    seeding.wake();
    set.proxies[0].wait_until_struck();
    for n in 0..50 {
        set.write(0, &[Write::delete(key(format!("k{n:02}")))]);
    }
    set.proxies[0].heal();
    set.job.pause(Some("copy"), false);
    set.settle();
    drop(seeding);
    set.settle();
    set.assert_same(50);
    assert!(set.rows(0).iter().all(Record::is_tombstone), "DEL-1");
}

impl Set {
    /// Rounds until the voters have everything of each other.
    fn settle_voters(&self) {
        let clock = System::new();
        loop {
            let report = self.round();
            let voters = || report.pairs.iter().filter(|pair| &*pair.target != "copy");
            if voters().all(|pair| pair.error.is_none() && pair.lag == 0) {
                return;
            }
            assert!(clock.monotonic() < BOUND, "never clean: {report:?}");
        }
    }
}

/// F20: a row that a target cannot take holds up that target's pull from its source, is told, and
/// holds up nobody else.
#[test]
fn f20_a_row_too_large_for_a_target_holds_up_no_other() {
    let large = Server::shared();
    let small = Server::start_with(&["--max-allowed-packet=1M"]);
    let mut set = Set::over([large, large, &small]);
    set.settle();
    set.write(0, &[self::set("large", vec![b'x'; 2 << 20])]);
    set.write(1, &[self::set("other", "v")]);
    let report = set.round();
    assert!(pair(&report, "c", "a").error.is_some(), "{report:?}");
    assert_eq!((pair(&report, "c", "b").error, pair(&report, "c", "b").lag), (None, 0));
    assert_eq!((pair(&report, "b", "a").error, pair(&report, "b", "a").rows), (None, 1));
    assert_eq!(set.rows(1).len(), 2);
    // Raised, as the log asks for, and all is well.
    small.admin().query_drop("SET GLOBAL max_allowed_packet = 67108864").unwrap();
    set.proxies[2].cut();
    set.settle();
    set.assert_same(2);
}

/// F21: a backlog is brought page by page, and told of while it goes on.
#[test]
fn f21_a_backlog_is_brought_in_pages() {
    const EACH: usize = 3000;
    let server = Server::shared();
    let mut set = Set::on(server);
    set.settle();
    assert!(set.job.pause(None, true));
    for first in (0..EACH).step_by(250) {
        let writes: Vec<Write> =
            (first..first + 250).map(|n| self::set(format!("{n:06}"), "v")).collect();
        set.write(0, &writes);
    }
    let behind = set.round();
    assert_eq!(pair(&behind, "b", "a").lag, EACH as u64);
    assert!(pair(&behind, "b", "a").paused);
    // Which begins a round by itself; another one would find nothing to bring.
    set.job.pause(None, false);
    let clock = System::new();
    loop {
        let report = set.job.current();
        let pair = pair(&report, "b", "a");
        if (pair.rows, pair.lag) == (EACH, 0) {
            break;
        }
        assert!(clock.monotonic() < BOUND, "{report:?}");
        std::thread::yield_now();
    }
    set.settle();
    set.assert_same(EACH);
}

/// F22: the wall clock is stepped; what is told of ages is not.
#[test]
fn f22_steps_of_the_wall_clock_change_no_age() {
    let server = Server::shared();
    let set = Set::on(server);
    set.settle();
    set.job.pause(Some("b"), true);
    let age = |set: &Set| {
        let report = set.job.current();
        let covered_at = pair(&report, "b", "a").covered_at.expect("it was clean");
        set.job.now().saturating_sub(covered_at)
    };
    let before = age(&set);
    for step in [3_600_000, -7_200_000] {
        set.clock.step_wall_ms(step);
        assert_eq!(age(&set), before, "AGE-1");
    }
    set.clock.advance_ms(500);
    assert_eq!(age(&set), before + Duration::from_millis(500));
}

/// A server that stands still is waited for once; then nobody waits for it, and it catches up.
#[test]
fn a_server_that_stands_still_holds_up_no_other() {
    let server = Server::shared();
    let mut set = Set::on(server);
    set.settle();
    set.proxies[1].set(Way::ToClient, Traffic::Held);
    set.write(0, &[self::set("k", "v")]);
    let report = set.round();
    assert_eq!((pair(&report, "c", "a").rows, pair(&report, "c", "a").error), (1, None));
    let b = report.pairs.iter().find(|pair| &*pair.target == "b").unwrap();
    assert!(b.source.is_none() && b.error == Some("does not answer"), "{report:?}");
    set.proxies[1].heal();
    set.settle();
    set.assert_same(1);
}

/// What an origin that is away has written is had from whoever has it.
#[test]
fn who_is_away_is_replaced_by_who_has_its_log() {
    let server = Server::shared();
    let mut set = Set::on(server);
    set.settle();
    set.job.pause(Some("c"), true);
    set.write(0, &[self::set("k", "v")]);
    set.round();
    set.proxies[0].set(Way::ToClient, Traffic::CutAfter(0));
    set.proxies[0].cut();
    set.job.pause(Some("c"), false);
    let report = set.round();
    assert_eq!(set.rows(2).len(), 1, "c has it from b: {report:?}");
    assert_eq!(pair(&report, "c", "a").lag, 0, "{report:?}");
    assert!(pair(&report, "c", "a").error.is_some(), "{report:?}");
    set.proxies[0].heal();
    set.settle();
    set.assert_same(1);
}

/// Nothing at all is written to servers whose partitions have nothing to copy.
#[test]
fn an_idle_set_is_not_written_to() {
    let server = Server::start();
    let mut set = Set::on(&server);
    for nth in 0..NAMES.len() {
        set.write(nth, &[self::set(format!("k{nth}"), "v")]);
    }
    set.settle();
    // What trimming has to do is done, too.
    set.clock.advance_ms(61_000);
    set.round();
    set.clock.advance_ms(61_000);
    set.round();
    let mut admin = server.admin();
    let mut counters = || -> BTreeMap<String, u64> {
        let names = "'Com_insert','Com_update','Com_delete','Com_replace','Handler_update',\
            'Handler_delete','Innodb_rows_inserted','Innodb_rows_updated','Innodb_rows_deleted',\
            'Innodb_os_log_written'";
        let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({names})");
        admin.query(sql).unwrap().into_iter().collect()
    };
    let before = counters();
    for _ in 0..20 {
        assert!(set.round().is_clean());
    }
    let after = counters();
    for (name, count) in &before {
        // InnoDB flushes what the writes before have left.
        if name != "Innodb_os_log_written" {
            assert_eq!(after[name], *count, "{name}");
        }
    }
}
