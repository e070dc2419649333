//! F4 and F7: whatever happens to whichever command, the error says what is certain, nothing
//! panics, and a new connection finds all or nothing.

use std::time::Duration;

use datastore::partition::engine::Engine;
use datastore::partition::upkeep::{ConflictPlace, Lost};
use datastore::partition::{Get, PageRequest, PartitionError, Push, Range, ReseedNumber, Trim};
use datastore::partition::{Origins, Partition, Result};
use datastore::record::{Record, Space};
use datastore::topology::cut::{Cuts, SlotSet};
use datastore::vector::Vector;
use datastore::version::{Epoch, PartitionId, Seq, Version};
use datastore::write::Write;
use rstest::rstest;

use crate::bed::{Connection, SHORT, founded, key, kind, read, set, value, write};
use crate::support::mariadb::Server;
use crate::support::proxy::{Proxy, Strike};

/// More commands than any operation sends.
const COMMANDS_MAX: usize = 60;

struct Way {
    proxy: Proxy,
    engine: datastore::partition::mysql::Mysql,
    /// Past the proxy.
    direct: Connection,
}

fn way() -> Way {
    let server = Server::shared();
    let database = server.database();
    let proxy = Proxy::to(server.port());
    let url = server.url_by(proxy.port(), &database);
    let engine = datastore::partition::mysql::Mysql::new(url).with_patience(SHORT);
    let direct = founded(&server.engine(&database));
    Way { proxy, engine, direct }
}

/// Strikes at every command of `work` in turn, each over a new connection; what came of each.
fn strike_everywhere(
    way: &mut Way,
    strike: Strike,
    mut work: impl FnMut(&mut Connection) -> Result<()>,
    mut look: impl FnMut(usize, &mut Connection, Result<()>),
) -> usize {
    for nth in 0..COMMANDS_MAX {
        let mut connection = way.engine.connect().unwrap();
        way.proxy.strike_at(nth, strike);
        let result = work(&mut connection);
        if !way.proxy.has_struck() {
            result.unwrap();
            return nth;
        }
        if let Err(error) = &result
            && error.keeps_connection()
        {
            // What may be used again can be used again.
            read(&mut connection, "other").unwrap();
        }
        look(nth, &mut way.direct, result);
    }
    panic!("the work has no end");
}

/// The commands of a commit: how it begins and fences, rows (prepared, run), entries with the end.
const COMMIT_AT: usize = 3;
/// Of a large batch the entries are prepared, and run, on their own.
const COMMIT_OF_MANY_AT: usize = 5;
/// More entries than go with the end, and as many as one statement takes; one more does go with it.
const MANY: usize = 64;

#[rstest]
fn a_cut_commit_is_all_or_nothing_and_says_which_is_certain(
    #[values(Strike::CutBefore, Strike::CutAnswer)] strike: Strike,
    #[values((1, COMMIT_AT), (MANY, COMMIT_OF_MANY_AT), (MANY + 1, COMMIT_OF_MANY_AT))] size: (
        usize,
        usize,
    ),
) {
    let (writes, commit_at) = size;
    let mut way = way();
    let mut nth_value = 0;
    let mut last = String::new();
    let commands = strike_everywhere(
        &mut way,
        strike,
        |connection| {
            nth_value += 1;
            let others = (1..writes).map(|nth| set(format!("other {nth}"), "x"));
            let k = set("k", format!("value {nth_value}"));
            write(connection, &others.chain([k]).collect::<Vec<_>>())
        },
        |nth, direct, result| {
            // Waits until nobody else has a transaction open.
            direct.raise(Epoch::FIRST).unwrap();
            let stands = value(direct, "k").unwrap().map(|v| String::from_utf8_lossy(&v).into());
            let stands: String = stands.unwrap_or_default();
            let error = result.unwrap_err();
            assert!(!error.keeps_connection(), "TALK-1: {error:?}");
            if nth < commit_at {
                assert_eq!(kind(&error), "unreachable", "command {nth}");
                assert_eq!(stands, last, "command {nth}: nothing was written");
            } else {
                assert_eq!(kind(&error), "unknown", "command {nth}: F4");
                // Cut off after the first of two answers, the server may not get to the second.
                let may_be_either = strike == Strike::CutAnswer && writes != MANY;
                let is_written = stands != last;
                assert!(may_be_either || is_written == (strike == Strike::CutAnswer));
            }
            last = stands;
            let log = log_of(direct);
            let of_k = log.iter().filter(|entry| entry.key == key("k")).count();
            let row = read(direct, "k").unwrap();
            assert_eq!(of_k > 0, row.is_some(), "LOG-1");
            if let Some(row) = row {
                assert!(log.iter().any(|entry| entry.version == row.version), "LOG-1");
            }
        },
    );
    assert_eq!(commands, commit_at + 1, "the commands of a commit are known");
}

fn log_of(direct: &mut Connection) -> Vec<datastore::partition::Entry> {
    direct.page(&page_request()).unwrap().entries
}

fn page_request() -> PageRequest {
    PageRequest {
        from: Vector::new(),
        origins: Origins::AllBut(None),
        early: true,
        rows: true,
        entries_max: 1_000,
        bytes_max: 1 << 20,
    }
}

/// What an error is where the server says so of a statement before the commit, of one that came
/// together with the commit, and of the commit.
#[rstest]
#[case(1213, ["busy", "busy", "busy"])]
#[case(1205, ["busy", "busy", "busy"])]
#[case(1020, ["busy", "busy", "busy"])]
#[case(1040, ["busy", "busy", "busy"])]
#[case(2006, ["unreachable", "unknown", "unknown"])]
#[case(2013, ["unreachable", "unknown", "unknown"])]
#[case(1927, ["unreachable", "unknown", "unknown"])]
#[case(1290, ["read only", "read only", "read only"])]
#[case(1836, ["read only", "read only", "read only"])]
#[case(1114, ["full", "full", "unknown"])]
#[case(1021, ["full", "full", "unknown"])]
#[case(1062, ["engine", "engine", "unknown"])]
#[case(1153, ["engine", "unknown", "unknown"])]
#[case(1142, ["engine", "engine", "unknown"])]
#[case(65535, ["engine", "engine", "unknown"])]
fn every_code_at_every_command_of_a_commit_is_mapped(#[case] code: u16, #[case] kinds: [&str; 3]) {
    let [before, together, at_commit] = kinds;
    let mut way = way();
    let work = |connection: &mut Connection| write(connection, &[set("k", "v")]);
    strike_everywhere(&mut way, Strike::Error(code), work, |nth, direct, result| {
        let error = result.unwrap_err();
        let expected = if nth < COMMIT_AT { before } else { together };
        assert_eq!(kind(&error), expected, "command {nth}: {error:?}");
        // The proxy never let the commit through, so nothing stands.
        assert_eq!(value(direct, "k").unwrap(), None, "command {nth}");
    });
    let mut connection = way.engine.connect().unwrap();
    way.proxy.strike_at(COMMIT_AT, Strike::SecondError(code));
    let error = write(&mut connection, &[set("k2", "v")]).unwrap_err();
    assert!(way.proxy.has_struck());
    assert_eq!(kind(&error), at_commit, "{error:?}");
    assert_eq!(value(&mut way.direct, "k2").unwrap(), None);

    let many: Vec<Write> = (0..MANY).map(|nth| set(format!("many {nth}"), "v")).collect();
    let mut connection = way.engine.connect().unwrap();
    way.proxy.strike_at(COMMIT_OF_MANY_AT, Strike::Error(code));
    let error = write(&mut connection, &many).unwrap_err();
    assert!(way.proxy.has_struck());
    assert_eq!(kind(&error), at_commit, "{error:?}");
}

type Work = fn(&mut dyn Partition) -> Result<()>;

/// Everything else that a partition is asked.
fn works() -> Vec<(&'static str, Work)> {
    fn row() -> Record {
        let version = Version::new(Epoch::FIRST, Seq::new(5).unwrap());
        Record::new(key("pushed"), version, PartitionId(2), None)
    }
    fn push() -> Push {
        Push { rows: vec![row()], epoch: Epoch::FIRST, reseed: ReseedNumber(0), cuts: Cuts::NONE }
    }
    vec![
        ("keep", |p| p.keep(&[Lost::now(row())])),
        ("forget conflicts", |p| {
            p.forget_conflicts(&[ConflictPlace::of(&row())], Duration::ZERO).map(drop)
        }),
        ("reissue", |p| p.reissue(Epoch::FIRST, &SlotSet::EMPTY).map(drop)),
        ("identity", |p| p.identity().map(drop)),
        ("found", |p| p.found(&crate::bed::identity()).map(drop)),
        ("status", |p| p.status().map(drop)),
        ("open lane", |p| p.open_lane().map(drop)),
        ("raise", |p| p.raise(Epoch::FIRST)),
        ("delete", |p| p.commit(Epoch::FIRST, &[Write::delete(key("k"))]).map(drop)),
        ("push", |p| p.push(&push())),
        ("get", |p| p.get(&Get { keys: &[key("k"), key("l")], inline_bytes_max: 9 }).map(drop)),
        ("list", |p| {
            let (prefix, value_bytes_max) = ("k".into(), Some(100));
            p.list(&Range {
                space: Space::Data,
                prefix,
                after: None,
                keys_max: 5,
                scanned_max: 50,
                value_bytes_max,
            })
            .map(drop)
        }),
        ("page", |p| p.page(&page_request()).map(drop)),
        ("barrier", |p| {
            let run = p.status()?.run;
            p.barrier(run)
        }),
        ("apply", |p| {
            let page = p.page(&page_request())?;
            p.apply(&page, ReseedNumber(0)).map(drop)
        }),
        ("trim", |p| {
            let floor = p.status()?.vector;
            p.trim(&Trim { epoch: Epoch::FIRST, floor, entries_max: 100 }).map(drop)
        }),
        ("scan", |p| p.scan(None, 10, 1_000).map(drop)),
    ]
}

#[test]
fn whatever_is_asked_no_failure_panics_or_lies() {
    let mut way = way();
    write(&mut way.direct, &[set("k", "v"), set("k2", "w")]).unwrap();
    for (name, work) in works() {
        for strike in [
            Strike::CutBefore,
            Strike::CutAnswer,
            Strike::Error(1213),
            Strike::Error(2013),
            Strike::Error(1114),
            Strike::Error(1146),
        ] {
            let work = |connection: &mut Connection| work(connection.as_mut());
            strike_everywhere(&mut way, strike, work, |nth, direct, result| {
                let Err(error) = result else {
                    // Only what was asked for besides: a reading transaction's own end.
                    panic!("{name}: {strike:?} at command {nth} went unnoticed");
                };
                let is_cut = matches!(strike, Strike::CutBefore | Strike::CutAnswer);
                if is_cut {
                    assert!(
                        matches!(
                            error,
                            PartitionError::Unreachable(_) | PartitionError::OutcomeUnknown(_)
                        ),
                        "{name}: {strike:?} at command {nth}: {error:?}"
                    );
                }
                // And the partition is as good as ever.
                direct.status().unwrap();
            });
        }
    }
}
