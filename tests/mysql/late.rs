//! TALK-1, F3: an answer that comes after its time is never taken for the answer to something else.

use std::time::Duration;

use datastore::clock::{Clock, System};
use datastore::partition::engine::Engine;
use datastore::partition::mysql::Mysql;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::bed::{SHORT, founded, kind, set, value, write};
use crate::support::mariadb::{Server, connection};
use crate::support::proxy::{Proxy, Strike, Traffic, Way};

/// Keys whose values name them, and a way to them.
struct Late {
    proxy: Proxy,
    engine: Mysql,
    database: String,
}

fn late() -> Late {
    let server = Server::shared();
    let database = server.database();
    let mut direct = founded(&server.engine(&database));
    let keys = ["a", "b", "c"];
    write(&mut direct, &keys.map(|key| set(key, format!("value of {key}")))).unwrap();
    let proxy = Proxy::to(server.port());
    let url = server.url_by(proxy.port(), &database);
    Late { proxy, engine: Mysql::new(url).with_patience(SHORT), database }
}

/// What a pool over the driver does that thinks no more of it: a connection lives on after a
/// timeout.
struct Naive(OptsBuilder);

impl r2d2::ManageConnection for Naive {
    type Connection = Conn;
    type Error = mysql::Error;

    fn connect(&self) -> mysql::Result<Conn> {
        Conn::new(self.0.clone())
    }

    fn is_valid(&self, _: &mut Conn) -> mysql::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        false
    }
}

/// The test of the test: the trap is there, and is seen.
#[test]
fn a_pool_that_keeps_timed_out_connections_mixes_answers_up() {
    let late = late();
    // The login is the one that tests use; only bounds and way are other ones.
    drop(connection(late.proxy.port(), &late.database).unwrap());
    let options = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(late.proxy.port())
        .user(Some("tester"))
        .pass(Some("t:e@s/t"))
        .db_name(Some(&late.database))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 24))
        .read_timeout(Some(Duration::from_millis(300)));
    let pool = r2d2::Pool::builder().max_size(1).test_on_check_out(false).build(Naive(options));
    let pool = pool.unwrap();
    let get = |key: &str| -> mysql::Result<Option<String>> {
        pool.get().unwrap().exec_first("SELECT value FROM data WHERE id = ?", (key,))
    };
    assert_eq!(get("b").unwrap().as_deref(), Some("value of b"));
    late.proxy.strike_at(0, Strike::HoldAnswer);
    get("a").unwrap_err();
    late.proxy.heal();
    assert_eq!(get("b").unwrap().as_deref(), Some("value of a"), "the answer to another question");
}

#[test]
fn a_connection_that_timed_out_says_nothing_any_more() {
    let late = late();
    let mut nth = 0;
    loop {
        let mut connection = late.engine.connect().unwrap();
        late.proxy.strike_at(nth, Strike::HoldAnswer);
        let answer = value(&mut connection, "a");
        if !late.proxy.has_struck() {
            assert_eq!(answer.unwrap().as_deref(), Some(&b"value of a"[..]));
            break;
        }
        let error = answer.unwrap_err();
        assert_eq!(kind(&error), "unreachable");
        assert!(!error.keeps_connection());
        late.proxy.heal();
        // Whoever used it all the same would get no answer at all.
        for _ in 0..2 {
            assert_eq!(kind(&value(&mut connection, "b").unwrap_err()), "unreachable");
        }
        nth += 1;
    }
    assert_eq!(nth, 2, "a statement is prepared, then run");
}

#[test]
fn an_answer_that_stalls_or_is_lost_ends_in_time() {
    let late = late();
    for traffic in [Traffic::Lost, Traffic::Held, Traffic::CutAfter(7), Traffic::CutAfter(0)] {
        let mut connection = late.engine.connect().unwrap();
        late.proxy.set(Way::ToClient, traffic);
        assert_eq!(kind(&value(&mut connection, "a").unwrap_err()), "unreachable", "{traffic:?}");
        late.proxy.heal();
        late.proxy.cut();
    }
    let mut connection = late.engine.connect().unwrap();
    late.proxy.set(Way::ToServer, Traffic::Lost);
    assert_eq!(kind(&value(&mut connection, "a").unwrap_err()), "unreachable", "half open");
    late.proxy.heal();
    late.proxy.set(Way::ToClient, Traffic::Late(Duration::from_millis(20)));
    let mut connection = late.engine.connect().unwrap();
    let answer = value(&mut connection, "a").unwrap();
    assert_eq!(answer.as_deref(), Some(&b"value of a"[..]), "only late");
}

#[test]
fn an_answer_that_never_ends_is_ended() {
    let late = late();
    let clock = System::new();
    let mut connection = late.engine.connect().unwrap();
    value(&mut connection, "a").unwrap();
    late.proxy.set(Way::ToClient, Traffic::Dripping(Duration::from_millis(100)));
    let began = clock.monotonic();
    assert_eq!(kind(&value(&mut connection, "a").unwrap_err()), "unreachable");
    let took = clock.monotonic() - began;
    assert!(took >= SHORT.whole && took < SHORT.whole + Duration::from_secs(2), "{took:?}");
    assert_eq!(kind(&value(&mut connection, "b").unwrap_err()), "unreachable");
}
