//! Every refusal by name, over both embedded engines.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Once};

use rstest::rstest;
use rusqlite::Connection;

use super::*;
use crate::clock::Manual;
use crate::partition::engine::EngineKind;
use crate::partition::memory::Memory;
use crate::partition::sqlite::Sqlite;
use crate::record::{Body, Key, Space};
use crate::topology::change::Joining;
use crate::topology::voter::Address;
use crate::topology::{Incarnation, Role};
use crate::version::{Epoch, RunId};
use crate::write::Write;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    Sqlite,
}

/// Empty databases of one engine.
struct Bed {
    kind: Kind,
    directory: tempfile::TempDir,
    made: AtomicU64,
}

impl Bed {
    fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { kind, directory, made: AtomicU64::new(0) }
    }

    fn database(&self) -> Arc<dyn Engine> {
        let clock = Arc::new(Manual::at(0));
        let nth = self.made.fetch_add(1, Ordering::SeqCst);
        match self.kind {
            Kind::Memory => Arc::new(Memory::new(RunId(1), clock)),
            Kind::Sqlite => {
                let path = self.directory.path().join(format!("{nth}.db"));
                Arc::new(Sqlite::new(path, clock).unwrap())
            }
        }
    }

    fn databases<const N: usize>(&self) -> [Arc<dyn Engine>; N] {
        std::array::from_fn(|_| self.database())
    }
}

/// A database that nobody answers for.
struct Down;

impl Engine for Down {
    fn kind(&self) -> EngineKind {
        EngineKind::Sqlite
    }

    fn is_local(&self) -> bool {
        true
    }

    fn locator(&self) -> String {
        "down".into()
    }

    fn connect(&self) -> crate::partition::Result<Box<dyn Partition + Send>> {
        Err(PartitionError::Unreachable("the cable is out".into()))
    }
}

/// A database whose first connection comes just after another front end has founded the set, and
/// written to it.
struct Overtaken {
    engine: Arc<dyn Engine>,
    others: Vec<(&'static str, Arc<dyn Engine>)>,
    overtaken: Once,
}

impl Engine for Overtaken {
    fn kind(&self) -> EngineKind {
        self.engine.kind()
    }

    fn is_local(&self) -> bool {
        true
    }

    fn locator(&self) -> String {
        self.engine.locator()
    }

    fn connect(&self) -> crate::partition::Result<Box<dyn Partition + Send>> {
        self.overtaken.call_once(|| {
            let parts: Vec<_> = self.others.iter().map(|(name, engine)| (*name, engine)).collect();
            assert!(open(&parts, 9).unwrap().founded);
            write(parts[0].1);
        });
        self.engine.connect()
    }
}

fn topology(roles: &[(&str, Role)]) -> Topology {
    let roles: BTreeMap<String, Role> =
        roles.iter().map(|&(name, role)| (name.to_owned(), role)).collect();
    Topology::found(&roles).unwrap()
}

fn masters(names: &[&str]) -> Topology {
    topology(&names.iter().map(|name| (*name, Role::Master)).collect::<Vec<_>>())
}

fn named(parts: &[(&str, &Arc<dyn Engine>)]) -> Vec<Configured> {
    let configured = |&(name, engine): &(&str, &Arc<dyn Engine>)| Configured {
        name: name.to_owned(),
        engine: Arc::clone(engine),
    };
    parts.iter().map(configured).collect()
}

/// Opens or founds under the masters that are named.
fn open(parts: &[(&str, &Arc<dyn Engine>)], set: u128) -> Result<OpenSet, FoundingError> {
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    open_set(&named(parts), &masters(&names), Founding::IfAllEmpty, SetId(set))
}

/// The text of a refusal, which has to name everything in `named`.
fn refused(result: Result<OpenSet, FoundingError>, named: &[&str]) -> FoundingError {
    let error = result.expect_err("a refusal");
    let text = error.to_string();
    for name in named {
        assert!(text.contains(name), "`{name}` is missing in: {text}");
    }
    error
}

fn expected(set: &OpenSet, name: &str) -> Expected {
    let partition = set.topology.voter_named(name).unwrap().id;
    Expected { name: name.to_owned(), set: set.set, partition }
}

fn write(engine: &Arc<dyn Engine>) {
    let body = Body { value: "v".into(), content_type: Default::default(), expires_at: None };
    let write = Write::set(Key::stored(Space::Data, "k"), body);
    engine.connect().unwrap().commit(Epoch::FIRST, &[write]).unwrap();
}

#[rstest]
fn empty_databases_become_a_set_and_stay_it(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let parts = [("a", &a), ("b", &b)];
    let first = open(&parts, 7).unwrap();
    assert_eq!((first.set, first.founded), (SetId(7), true));
    let again = open(&parts, 8).unwrap();
    assert_eq!((again.set, again.founded), (SetId(7), false));
    assert_eq!(again.topology, masters(&["a", "b"]).seeded(SetId(7)));
    for (name, engine) in parts {
        let expected = expected(&again, name);
        check_identity(engine.connect().unwrap().as_mut(), &expected).unwrap();
    }
    assert!(again.topology.voter_named("c").is_none());
}

#[rstest]
fn nothing_is_founded_unless_it_may(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let parts = named(&[("a", &a), ("b", &b)]);
    let result = open_set(&parts, &masters(&["a", "b"]), Founding::Never, SetId(7));
    let error = refused(result, &["`a`", "`b`", "datastore init"]);
    assert!(!error.may_pass());
    assert_eq!(a.connect().unwrap().identity().unwrap(), None);
}

#[rstest]
fn some_empty_some_not_is_refused(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b, c] = bed.databases();
    open(&[("a", &a), ("b", &b), ("c", &c)], 7).unwrap();
    write(&a);
    let lost = bed.database();
    let error = refused(open(&[("a", &a), ("b", &lost), ("c", &c)], 8), &["`a`, `c`", "`b`"]);
    assert!(!error.may_pass());
    assert_eq!(lost.connect().unwrap().identity().unwrap(), None, "nothing was written");
}

#[rstest]
fn a_founding_that_goes_on_is_told(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let topology = masters(&["a", "b"]);
    let half = Identity {
        set: SetId(9),
        partition: PartitionId(1),
        schema: SCHEMA_VERSION,
        topology: topology.clone(),
    };
    a.connect().unwrap().found(&half).unwrap();
    let error = refused(open(&[("a", &a), ("b", &b)], 8), &["`a`", "`b`", "founding goes on"]);
    assert!(error.may_pass());
    let rest = Identity { partition: PartitionId(2), ..half };
    b.connect().unwrap().found(&rest).unwrap();
    assert_eq!(open(&[("a", &a), ("b", &b)], 8).unwrap().set, SetId(9));
}

#[rstest]
fn a_set_that_is_founded_while_it_is_looked_at_is_opened(
    #[values(Kind::Memory, Kind::Sqlite)] kind: Kind,
    #[values(0, 1, 2)] overtaken: usize,
) {
    let bed = Bed::new(kind);
    let engines: [Arc<dyn Engine>; 3] = bed.databases();
    let others = ["a", "b", "c"].into_iter().zip(engines.iter().cloned()).collect();
    let engine = Arc::clone(&engines[overtaken]);
    let mut seen = engines.clone();
    seen[overtaken] = Arc::new(Overtaken { engine, others, overtaken: Once::new() });
    let set = open(&[("a", &seen[0]), ("b", &seen[1]), ("c", &seen[2])], 8).unwrap();
    assert_eq!((set.set, set.founded), (SetId(9), false));
}

#[rstest]
fn of_two_founders_at_once_the_first_names_the_set(
    #[values(Kind::Memory, Kind::Sqlite)] kind: Kind,
) {
    let bed = Bed::new(kind);
    let [a, b, c] = bed.databases();
    let barrier = Barrier::new(4);
    let sets: Vec<SetId> = std::thread::scope(|scope| {
        let founders: Vec<_> = (0..4)
            .map(|nth| {
                let (parts, barrier) = ([("a", &a), ("b", &b), ("c", &c)], &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    loop {
                        match open(&parts, nth) {
                            Ok(open) => return open.set,
                            Err(error) if error.may_pass() => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        founders.into_iter().map(|founder| founder.join().unwrap()).collect()
    });
    assert!(sets.iter().all(|set| *set == sets[0]), "{sets:?}");
    for engine in [&a, &b, &c] {
        assert_eq!(engine.connect().unwrap().identity().unwrap().unwrap().set, sets[0]);
    }
}

#[rstest]
fn two_names_for_one_database_are_refused(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let a = bed.database();
    let error = refused(open(&[("a", &a), ("b", &a)], 7), &["`a`", "`b`", "url"]);
    assert!(matches!(error, FoundingError::OneDatabase { .. }), "{error:?}");
    assert_eq!(a.connect().unwrap().identity().unwrap(), None, "nothing was founded");
}

#[test]
fn links_to_one_file_are_one_database() {
    let bed = Bed::new(Kind::Sqlite);
    let link = bed.directory.path().join("link.db");
    std::os::unix::fs::symlink(bed.directory.path().join("0.db"), &link).unwrap();
    let a = bed.database();
    a.connect().unwrap();
    let b: Arc<dyn Engine> = Arc::new(Sqlite::new(link, Arc::new(Manual::at(0))).unwrap());
    let error = refused(open(&[("a", &a), ("b", &b)], 7), &["`a`", "`b`"]);
    assert!(matches!(error, FoundingError::OneDatabase { .. }), "{error:?}");
}

#[test]
fn a_copied_file_is_told_from_its_original() {
    let bed = Bed::new(Kind::Sqlite);
    let [a, b] = bed.databases();
    open(&[("a", &a), ("b", &b)], 7).unwrap();
    let path = |nth: u32| bed.directory.path().join(format!("{nth}.db"));
    std::fs::copy(path(0), path(1)).unwrap();
    let error = refused(open(&[("a", &a), ("b", &b)], 8), &["`a`", "`b`", "partition 1"]);
    assert!(matches!(error, FoundingError::OneIdentity { .. }), "{error:?}");
}

#[rstest]
fn swapped_urls_are_refused(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let set = open(&[("a", &a), ("b", &b)], 7).unwrap();
    let error = refused(open(&[("a", &b), ("b", &a)], 8), &["`a`", "`b`", "swap"]);
    assert!(matches!(error, FoundingError::Swapped { .. }), "{error:?}");
    let expected = expected(&set, "a");
    let error = check_identity(b.connect().unwrap().as_mut(), &expected).unwrap_err();
    assert!(error.to_string().contains("`b`"), "{error}");
}

#[rstest]
fn a_database_of_another_set_is_refused(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b, c, d] = bed.databases();
    let set = open(&[("a", &a), ("b", &b)], 7).unwrap();
    open(&[("a", &c), ("b", &d)], 8).unwrap();
    let sets = [SetId(7).to_string(), SetId(8).to_string()];
    let error = refused(open(&[("a", &a), ("b", &d)], 9), &["`a`", "`b`", &sets[0], &sets[1]]);
    assert!(matches!(error, FoundingError::ForeignSet { .. }), "{error:?}");
    let expected = expected(&set, "b");
    let error = check_identity(d.connect().unwrap().as_mut(), &expected).unwrap_err();
    assert!(matches!(error, FoundingError::ForeignSet { .. }), "{error:?}");
}

#[rstest]
#[case(SCHEMA_VERSION - 1, "older")]
#[case(SCHEMA_VERSION + 1, "newer")]
fn another_schema_is_refused(
    #[values(Kind::Memory, Kind::Sqlite)] kind: Kind,
    #[case] schema: u32,
    #[case] fix: &str,
) {
    let bed = Bed::new(kind);
    let a = bed.database();
    let topology = masters(&["a"]);
    let identity =
        Identity { set: SetId(7), partition: PartitionId(1), schema, topology: topology.clone() };
    a.connect().unwrap().found(&identity).unwrap();
    refused(open(&[("a", &a)], 8), &["`a`", &format!("schema {schema}"), fix]);
    let expected = Expected { name: "a".into(), set: SetId(7), partition: PartitionId(1) };
    let error = check_identity(a.connect().unwrap().as_mut(), &expected).unwrap_err();
    assert!(matches!(error, FoundingError::Schema { .. }), "{error:?}");
}

#[rstest]
fn a_configuration_that_says_something_else_is_refused(
    #[values(Kind::Memory, Kind::Sqlite)] kind: Kind,
) {
    let bed = Bed::new(kind);
    let [a, b, c] = bed.databases();
    let set = open(&[("a", &a), ("b", &b)], 7).unwrap();
    refused(open(&[("a", &a)], 8), &["`a`", "`b` stored but not configured"]);
    refused(open(&[("a", &a), ("b", &b), ("c", &c)], 8), &["`c` not in the stored set"]);
    refused(open(&[("a", &a), ("aa", &c), ("b", &b)], 8), &["`aa` not in the stored set"]);
    let roles = topology(&[("a", Role::Master), ("b", Role::Replica)]);
    let parts = named(&[("a", &a), ("b", &b)]);
    let opened = open_set(&parts, &roles, Founding::IfAllEmpty, SetId(8)).unwrap();
    assert_eq!(opened.topology, set.topology, "roles are said once");
    let ignored = opened.ignored.to_string();
    assert!(ignored.contains("`b` has role replica, stored is master"), "{ignored}");
}

#[rstest]
fn who_was_retired_may_stay_in_the_configuration(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b, c] = bed.databases();
    let parts = [("a", &a), ("b", &b), ("c", &c)];
    let first = open(&parts, 7).unwrap().topology;
    let lost = PartitionId(1);
    let epoch = |number| Epoch::new(number).unwrap();
    let taken = first.take_over(lost, PartitionId(2), Version::ZERO, epoch(2)).unwrap();
    let retired = taken.retire(lost, epoch(3)).unwrap();
    for (name, engine) in &parts[1..] {
        let acceptor = first.voter_named(name).unwrap().acceptor;
        let ballot = crate::partition::acceptor::Ballot { round: 9, proposer: 9 };
        engine.connect().unwrap().accept(acceptor, ballot, &retired).unwrap();
    }
    let down: Arc<dyn Engine> = Arc::new(Down);
    let empty = bed.database();
    for gone in [&a, &down, &empty] {
        let set = open(&[("a", gone), ("b", &b), ("c", &c)], 8).unwrap();
        assert_eq!((set.set, &set.topology), (SetId(7), &retired));
        assert_eq!(set.topology.voter_named("a"), None, "nobody uses it");
        assert_eq!(expected(&set, "c").partition, PartitionId(3));
    }
    assert_eq!(empty.connect().unwrap().identity().unwrap(), None);
}

#[rstest]
fn who_joined_since_need_not_be_configured(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let first = open(&[("a", &a), ("b", &b)], 7).unwrap().topology;
    let epoch = |number| Epoch::new(number).unwrap();
    let (lost, to) = (PartitionId(1), PartitionId(2));
    let taken = first.take_over(lost, to, Version::ZERO, epoch(2)).unwrap();
    let retired = taken.retire(lost, epoch(3)).unwrap().settle();
    let joining = Joining {
        name: "voter_3".to_owned(),
        holds_data: true,
        acceptor: Incarnation(5),
        address: Some(Address { url: "mysql://u@h/d".to_owned(), secret: None }),
    };
    let (joined, id) = retired.join(&joining, epoch(4)).unwrap();
    let acceptor = first.voter_named("b").unwrap().acceptor;
    let ballot = crate::partition::acceptor::Ballot { round: 9, proposer: 9 };
    b.connect().unwrap().accept(acceptor, ballot, &joined).unwrap();
    // In the database of the retired one, which was emptied, under another name.
    a.connect().unwrap().forget(lost).unwrap();
    let (set, schema, topology) = (SetId(7), SCHEMA_VERSION, joined.clone());
    let identity = Identity { set, partition: id, schema, topology };
    a.connect().unwrap().found(&identity).unwrap();
    let opened = open(&[("a", &a), ("b", &b)], 8).unwrap();
    assert_eq!((opened.set, &opened.topology), (SetId(7), &joined));
    // Its own name may be configured since.
    let renamed = open(&[("b", &b), ("voter_3", &a)], 8).unwrap();
    assert_eq!(renamed.topology, joined);
}

#[rstest]
fn the_greatest_stored_epoch_is_adopted(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    let topology = masters(&["a", "b"]);
    for (engine, id, epoch) in [(&a, 1, 5), (&b, 2, 3)] {
        let identity = Identity {
            set: SetId(7),
            partition: PartitionId(id),
            schema: SCHEMA_VERSION,
            topology: topology.at_epoch(Epoch::new(epoch).unwrap()),
        };
        engine.connect().unwrap().found(&identity).unwrap();
    }
    let set = open(&[("a", &a), ("b", &b)], 8).unwrap();
    assert_eq!(set.topology, topology.at_epoch(Epoch::new(5).unwrap()));
}

#[rstest]
fn one_that_is_down_does_not_keep_the_others(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, b] = bed.databases();
    open(&[("a", &a), ("b", &b)], 7).unwrap();
    let down: Arc<dyn Engine> = Arc::new(Down);
    let set = open(&[("a", &down), ("b", &b)], 8).unwrap();
    assert_eq!(set.set, SetId(7));
    let names: Vec<&str> = set.unreachable.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    assert!(set.unreachable[0].to_string().contains("the cable is out"));
    assert!(set.topology.voter_named("a").is_some());
}

#[rstest]
fn founding_needs_all(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let b = bed.database();
    let down: Arc<dyn Engine> = Arc::new(Down);
    let error = refused(open(&[("a", &down), ("b", &b)], 7), &["`a`", "the cable is out"]);
    assert!(matches!(error, FoundingError::NeedsAll { .. }) && error.may_pass(), "{error:?}");
    assert_eq!(b.connect().unwrap().identity().unwrap(), None);
    let error = refused(open(&[("a", &down)], 7), &["`a`", "the cable is out"]);
    assert!(matches!(error, FoundingError::NoneReachable { .. }), "{error:?}");
}

#[rstest]
fn a_database_that_was_emptied_since_is_refused(#[values(Kind::Memory, Kind::Sqlite)] kind: Kind) {
    let bed = Bed::new(kind);
    let [a, other] = bed.databases();
    let set = open(&[("a", &a)], 7).unwrap();
    let expected = expected(&set, "a");
    let error = check_identity(other.connect().unwrap().as_mut(), &expected).unwrap_err();
    assert!(matches!(error, FoundingError::Empty { .. }), "{error:?}");
    assert!(error.to_string().contains("`a`"), "{error}");
}

#[test]
fn names_have_to_be_those_of_the_topology() {
    let bed = Bed::new(Kind::Memory);
    let a = bed.database();
    for names in [&["b"][..], &["a", "b"]] {
        let parts = named(&[("a", &a)]);
        let result = open_set(&parts, &masters(names), Founding::IfAllEmpty, SetId(7));
        let error = refused(result, &[]);
        assert!(matches!(error, FoundingError::NotInTopology { .. }), "{error:?}");
    }
}

#[test]
fn another_programs_file_is_reported_and_left_alone() {
    let bed = Bed::new(Kind::Sqlite);
    let [a, b] = bed.databases();
    let path = bed.directory.path().join("0.db");
    Connection::open(&path).unwrap().execute("CREATE TABLE theirs (x)", ()).unwrap();
    let error = refused(open(&[("a", &a), ("b", &b)], 7), &["`a`", "no partition"]);
    assert!(matches!(error, FoundingError::NeedsAll { .. }), "{error:?}");
    assert_eq!(b.connect().unwrap().identity().unwrap(), None);
}
