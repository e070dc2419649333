//! The feed where the origins are not those that it began with, or not there.

use std::sync::Arc;

use actix_web::rt::task::yield_now;
use datastore::lane::pool::Pool;
use datastore::lane::{Connect, LaneLimits};
use datastore::partition::engine::{Engine, EngineKind};
use datastore::partition::memory::Memory;
use datastore::partition::{Identity, Origins, PageRequest, Partition, Result, SCHEMA_VERSION};
use datastore::record::{Body, Key, Space};
use datastore::store::Served;
use datastore::store::answer::Serving;
use datastore::store::route::Part;
use datastore::topology::{Role, Topology};
use datastore::version::{Epoch, PartitionId, RunId};
use datastore::write::Write;
use serde_json::{Value, json};

use super::feed::{State, all};
use super::fixture::{BOUND, Front, Kind, LIMITS, SET};
use super::stream::Stream;

/// The id that the next partition of the set gets.
const NEW: PartitionId = PartitionId(4);

struct Way(Memory);

impl Connect for Way {
    fn connect(&self) -> Result<Box<dyn Partition + Send>> {
        Engine::connect(&self.0)
    }
}

/// A partition that is none of the front end's own.
fn newcomer(front: &Front) -> Arc<Way> {
    let roles = ["a", "b", "c", "d"].map(|name| (name.to_owned(), Role::Master));
    let topology = Topology::found(&roles.into()).unwrap();
    let memory = Memory::new(RunId(4), front.clock.clone());
    let identity = Identity { set: SET, partition: NEW, schema: SCHEMA_VERSION, topology };
    Engine::connect(&memory).unwrap().found(&identity).unwrap();
    Arc::new(Way(memory))
}

fn write(way: &Way, key: &'static str) {
    let body = Body { value: "v".into(), content_type: "text/plain".into(), expires_at: None };
    let write = Write::set(Key::stored(Space::Data, key), body);
    way.connect().unwrap().commit(Epoch::FIRST, &[write]).unwrap();
}

/// Brings what the newcomer has to the partition `name`, as a pass does.
fn pass(front: &Front, way: &Way, name: &str) {
    let (_, target) = front.connects().into_iter().find(|(known, _)| **known == *name).unwrap();
    let mut target = target.connect().unwrap();
    let status = target.status().unwrap();
    let request = PageRequest {
        from: status.vector,
        origins: Origins::AllBut(Some(status.partition)),
        early: true,
        rows: true,
        entries_max: 100,
        bytes_max: 1 << 20,
    };
    let page = way.connect().unwrap().page(&request).unwrap();
    target.apply(&page, status.reseed).unwrap();
}

/// The newcomer as the store takes it in.
fn served(front: &Front, way: &Arc<Way>) -> Served {
    let connect = Arc::clone(way) as Arc<dyn Connect>;
    let (clock, limits) = (front.clock.clone(), LaneLimits::default());
    Served {
        serving: Serving { id: NEW, name: "d".into() },
        url: "memory:".into(),
        part: Part::Voter,
        engine: EngineKind::Memory,
        is_local: true,
        pool: Arc::new(Pool::new(Arc::clone(&connect), clock, limits)),
        connect,
    }
}

/// The next event, while somebody looks again and again, as the service does.
async fn looked_for(front: &Front, stream: &mut Stream) -> Value {
    let looking = async {
        loop {
            front.feed.look();
            yield_now().await;
        }
    };
    tokio::select! {
        event = stream.next_event() => event.data,
        () = looking => unreachable!("it never ends"),
    }
}

#[actix_web::test]
async fn the_log_of_a_partition_that_joins_is_followed_from_then_on() {
    let front = Front::new();
    let mut stream = Stream::open(&front, "since=now").await;
    stream.heartbeat().await;
    let way = newcomer(&front);
    front.store.add(served(&front, &way)).unwrap();
    write(&way, "k1");
    let told = looked_for(&front, &mut stream).await;
    assert_eq!((&told["key"], &told["partition"]), (&json!("k1"), &json!("d")));
    // It leaves again; what it had given goes on to be told as others get it.
    write(&way, "k2");
    assert!(front.store.remove(NEW).unwrap().drain(BOUND).await);
    pass(&front, &way, "b");
    assert_eq!(looked_for(&front, &mut stream).await["key"], "k2");
    write(&way, "k3");
    pass(&front, &way, "c");
    assert_eq!(looked_for(&front, &mut stream).await["key"], "k3");
}

/// What a partition gave that this front end has never known, as late rows come.
#[actix_web::test]
async fn a_log_that_only_others_have_is_followed() {
    let front = Front::new();
    let since = super::feed::now(&front).await;
    let mut stream = Stream::open(&front, "since=now").await;
    stream.heartbeat().await;
    let way = newcomer(&front);
    write(&way, "k1");
    pass(&front, &way, "c");
    assert_eq!(looked_for(&front, &mut stream).await["key"], "k1");
    // And for whoever comes with a position from before it was there.
    let (events, next) = all(&front, &since, "").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["key"], "k1");
    write(&way, "k2");
    pass(&front, &way, "a");
    let mut again = Stream::again(&front, "since=now", &next).await;
    assert_eq!(looked_for(&front, &mut again).await["key"], "k2");
    assert_eq!(looked_for(&front, &mut stream).await["key"], "k2");
}

/// Followers of every kind go on while an origin is away, from whoever has its log, and have missed
/// nothing when it is back.
#[rstest::rstest]
#[case::memory(Kind::Memory)]
#[case::sqlite(Kind::Sqlite)]
#[case::mariadb(Kind::Mariadb)]
#[actix_web::test]
async fn an_origin_that_is_away_is_stood_in_for(#[case] kind: Kind) {
    let front = Front::over(kind, LIMITS);
    let since = super::feed::now(&front).await;
    let [b, c] = ["b", "c"].map(|name| front.key_of(name));
    let path = |key: &str| format!("/bucket/{key}");
    let mut state = State::default();
    front.put(&path(&b), "while it was there").await;
    front.round().await;
    // Another front end, whose feed has no connection yet; the store goes on to have one.
    let front = Front::of(front.masters.again(), LIMITS);
    front.put(&path(&b), "known to nobody else").await;
    front.set_up("b", false);
    front.put(&path(&c), "of another").await;
    let (events, next) = all(&front, &since, "&include=value").await;
    events.iter().for_each(|event| state.take(event));
    let known = [(b.as_str(), "while it was there"), (c.as_str(), "of another")];
    assert_eq!(state.standing(), known.into());
    let mut stream = Stream::again(&front, "since=now&include=value", &next).await;
    front.put(&path(&c), "live").await;
    state.take(&looked_for(&front, &mut stream).await);
    front.set_up("b", true);
    state.take(&looked_for(&front, &mut stream).await);
    let known = [(b.as_str(), "known to nobody else"), (c.as_str(), "live")];
    assert_eq!(state.standing(), known.into());
}
