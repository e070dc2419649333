//! ACK-1 and VER-1 of the real thing: `kill -9` under load, and every acknowledged write is there
//! on restart, with its version or a later one, and no version stands for two writes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use datastore::http::paths;
use fastrand::Rng;

use super::client::{Answer, Connection};
use super::process::{BOUND, Service};

const WRITERS: u64 = 6;
/// Few enough that keys are written again and again.
const OWN_KEYS: u64 = 40;
const SHARED_KEYS: u64 = 8;

/// Partition, epoch, sequence.
pub type Version = (String, u64, u64);

/// One write as its writer saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub key: String,
    /// `None`: a delete.
    pub value: Option<String>,
    /// `None`: no answer came, so it may stand or not.
    pub version: Option<Version>,
}

/// What must be true of a key.
#[derive(Debug, Default)]
pub struct Known {
    /// The greatest acknowledged version, and what it wrote.
    newest: Option<(Version, Option<String>)>,
    /// What may stand as well, since the crash.
    unknown: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub struct History {
    pub keys: BTreeMap<String, Known>,
    given: HashMap<Version, (String, Option<String>)>,
    pub acknowledged: usize,
    pub unknown_that_stood: usize,
}

impl History {
    /// VER-1: one version, one write.
    fn give(&mut self, version: &Version, key: &str, value: &Option<String>) {
        let write = (key.to_owned(), value.clone());
        let before = self.given.insert(version.clone(), write.clone());
        assert!(before.is_none_or(|before| before == write), "VER-1: {version:?} given twice");
    }

    pub fn record(&mut self, attempt: Attempt) {
        let Attempt { key, value, version } = attempt;
        let Some(version) = version else {
            self.keys.entry(key).or_default().unknown.push(value);
            return;
        };
        self.acknowledged += 1;
        self.give(&version, &key, &value);
        let known = self.keys.entry(key).or_default();
        if known.newest.as_ref().is_none_or(|(newest, _)| *newest < version) {
            known.newest = Some((version, value));
        }
    }

    /// ACK-1: what stands after the restart is what was acknowledged, or a later write whose answer
    /// never came.
    pub fn check(&mut self, key: &str, answer: &Answer) {
        let known = self.keys.get_mut(key).unwrap();
        let unknown = std::mem::take(&mut known.unknown);
        if answer.status == 404 {
            let deleted = match &mut known.newest {
                Some((_, value)) => value.take().is_none() || unknown.contains(&None),
                None => true,
            };
            assert!(deleted, "ACK-1: {key} is gone: {known:?} {unknown:?}");
            return;
        }
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
        let (version, value) = (version_of(answer), Some(answer.text().to_owned()));
        match &known.newest {
            Some((newest, acknowledged)) if *newest == version => {
                assert_eq!(value, *acknowledged, "ACK-1: {key} at {version:?}");
            }
            newest => {
                let later = newest.as_ref().is_none_or(|(newest, _)| *newest < version);
                assert!(later, "ACK-1: {key} fell back to {version:?} from {newest:?}");
                assert!(unknown.contains(&value), "{key}: nobody wrote {value:?}");
                known.newest = Some((version.clone(), value.clone()));
                self.unknown_that_stood += 1;
                self.give(&version, key, &value);
            }
        }
    }
}

pub fn version_of(answer: &Answer) -> Version {
    let version = answer.header("datastore-version").unwrap();
    let (epoch, seq) = version.split_once('.').unwrap();
    let partition = answer.header("datastore-partition").unwrap();
    (partition.to_owned(), epoch.parse().unwrap(), seq.parse().unwrap())
}

/// Writes until the connection breaks. `acknowledged` hears of every answer.
fn write(address: SocketAddr, name: u64, seed: u64, acknowledged: &Sender<()>) -> Vec<Attempt> {
    let mut random = Rng::with_seed(seed);
    let mut attempts = Vec::new();
    let Ok(mut connection) = Connection::open(address) else { return attempts };
    for n in 0_u64.. {
        let key = match random.u8(0..5) {
            0 => format!("shared {}", random.u64(0..SHARED_KEYS)),
            _ => format!("own {name} {}", random.u64(0..OWN_KEYS)),
        };
        let padding = "x".repeat(random.usize(0..2_000));
        let value = (random.u8(0..8) > 0).then(|| format!("{key} {seed} {n} {padding}"));
        let target = paths::emit("/bucket/", key.as_bytes());
        let answer = match &value {
            Some(value) => connection.request("PUT", &target, &[], value.as_bytes()),
            None => connection.request("DELETE", &target, &[], b""),
        };
        let version = match &answer {
            Ok(answer) if answer.status == 404 && value.is_none() => continue,
            Ok(answer) => {
                assert!(matches!(answer.status, 201 | 202 | 204), "{key}: {answer:?}");
                Some(version_of(answer))
            }
            Err(_) => None,
        };
        attempts.push(Attempt { key, value, version });
        if answer.is_err() || acknowledged.send(()).is_err() {
            break;
        }
    }
    attempts
}

/// One life of the service: load, `kill -9` after so many answers. Returns what the writers saw.
fn life(service: Service, random: &mut Rng) -> Vec<Attempt> {
    let (acknowledged, answers) = channel();
    let address = service.address();
    let writers: Vec<_> = (0..WRITERS)
        .map(|name| {
            let (seed, acknowledged) = (random.u64(..), acknowledged.clone());
            thread::spawn(move || write(address, name, seed, &acknowledged))
        })
        .collect();
    drop(acknowledged);
    for _ in 0..random.usize(1..600) {
        answers.recv_timeout(BOUND).expect("the writers go on");
    }
    service.kill();
    writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
}

#[test]
fn kill_9_under_load_takes_nothing_that_was_acknowledged() {
    let rounds = std::env::var_os("DATASTORE_KILL_ROUNDS")
        .map_or(20, |rounds| rounds.to_str().unwrap().parse().unwrap());
    let seed = std::env::var_os("DATASTORE_SEED")
        .map_or_else(|| fastrand::u64(..), |seed| seed.to_str().unwrap().parse().unwrap());
    println!("DATASTORE_SEED={seed}, {rounds} rounds");
    let mut random = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::default();
    let mut service = Service::start(folder.path());
    for _ in 0..rounds {
        for attempt in life(service, &mut random) {
            history.record(attempt);
        }
        service = Service::start(folder.path());
        let mut connection = service.connect();
        for key in history.keys.keys().cloned().collect::<Vec<_>>() {
            let answer = connection.get(&paths::emit("/bucket/", key.as_bytes()));
            history.check(&key, &answer);
        }
    }
    println!(
        "{} acknowledged writes of {} keys; {} without an answer stood",
        history.acknowledged,
        history.keys.len(),
        history.unknown_that_stood
    );
    agree(&service, &history);
    service.stop();
}

/// CONV-1: after one round all partitions hold the same.
pub fn agree(service: &Service, history: &History) {
    service.sync();
    let mut connection = service.connect();
    for key in history.keys.keys() {
        let target = paths::emit("/bucket/", key.as_bytes());
        let at = |partition: u8| format!("{target}?partition=store_{partition}");
        let [first, second, third] = [1, 2, 3].map(|n| {
            let answer = connection.get(&at(n));
            (answer.status, answer.header("etag").map(str::to_owned), answer.body)
        });
        assert!(
            first == second && second == third,
            "CONV-1: {key}: {first:?} {second:?} {third:?}"
        );
    }
}

/// The checker itself: each planted fault has to be found.
mod oracle {
    use super::*;

    fn version(seq: u64) -> Version {
        ("a".to_owned(), 1, seq)
    }

    fn history(acknowledged: &[(u64, Option<&str>)], unknown: &[&str]) -> History {
        let mut history = History::default();
        let key = || "k".to_owned();
        for (seq, value) in acknowledged {
            let (value, version) = (value.map(str::to_owned), Some(version(*seq)));
            history.record(Attempt { key: key(), value, version });
        }
        for value in unknown {
            let value = Some((*value).to_owned());
            history.record(Attempt { key: key(), value, version: None });
        }
        history
    }

    fn stands(seq: u64, value: &str) -> Answer {
        let headers =
            [("datastore-version", format!("1.{seq}")), ("datastore-partition", "a".to_owned())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Answer { status: 200, headers, body: value.into() }
    }

    fn nothing() -> Answer {
        Answer { status: 404, headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn what_may_stand_is_accepted() {
        history(&[(1, Some("x"))], &["y"]).check("k", &stands(1, "x"));
        history(&[(1, Some("x"))], &["y"]).check("k", &stands(2, "y"));
        history(&[(1, Some("x")), (2, None)], &["y"]).check("k", &nothing());
        history(&[], &["y"]).check("k", &nothing());
    }

    #[test]
    #[should_panic(expected = "ACK-1")]
    fn a_lost_write_is_found() {
        history(&[(1, Some("x"))], &["y"]).check("k", &nothing());
    }

    #[test]
    #[should_panic(expected = "ACK-1")]
    fn an_older_write_is_found() {
        history(&[(1, Some("x")), (2, Some("y"))], &[]).check("k", &stands(1, "x"));
    }

    #[test]
    #[should_panic(expected = "ACK-1")]
    fn another_value_is_found() {
        history(&[(1, Some("x"))], &["y"]).check("k", &stands(1, "y"));
    }

    #[test]
    #[should_panic(expected = "VER-1")]
    fn a_version_given_twice_is_found() {
        history(&[(1, Some("x")), (1, Some("y"))], &[]);
    }
}
