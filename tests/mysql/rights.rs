//! As whom a front end logs in: the least rights that it needs, and what it says without them.

use std::error::Error as _;

use datastore::partition::PartitionError;
use datastore::partition::engine::Engine;
use datastore::partition::mysql::{Mysql, MysqlUrl};
use mysql::prelude::Queryable;
use rstest::rstest;

use crate::bed::{founded, identity, kind, set, value, write};
use crate::support::mariadb::{Server, url_of};
use crate::support::proxy::{Proxy, Strike};

/// What `docs/mysql.md` tells operators to grant.
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE";
const SCHEMA: &str = include_str!("../../database_definition.sql");

/// A new user with these rights on a new database of the shared server.
fn user_with(rights: &str) -> (String, MysqlUrl) {
    user_at(Server::shared(), rights)
}

fn user_at(server: &Server, rights: &str) -> (String, MysqlUrl) {
    let database = server.database();
    let mut admin = server.admin();
    let account = format!("'{database}'@'127.0.0.1'");
    admin.query_drop(format!("CREATE USER {account} IDENTIFIED BY 'se/cret'")).unwrap();
    admin.query_drop(format!("GRANT {rights} ON {database}.* TO {account}")).unwrap();
    let url = url_of((&database, "se%2Fcret"), server.port(), &database);
    (database, url)
}

fn said(error: &PartitionError) -> String {
    let cause = error.source().map_or_else(String::new, ToString::to_string);
    format!("{error}: {cause} {error:?}")
}

#[test]
fn the_documented_rights_are_enough_for_everything() {
    let (_, url) = user_with(RIGHTS);
    let mut home = founded(&Mysql::new(url));
    write(&mut home, &[set("k", "v")]).unwrap();
    assert_eq!(value(&mut home, "k").unwrap().as_deref(), Some(&b"v"[..]));
    let run = home.status().unwrap().run;
    home.barrier(run).unwrap();
    home.set_aside().unwrap();
    let begin = datastore::partition::ReseedStep::Begin;
    home.reseed(datastore::partition::ReseedNumber(0), &begin).unwrap();
}

#[test]
fn who_loads_the_schema_by_hand_need_not_grant_create() {
    let (database, url) = user_with("SELECT, INSERT, UPDATE, DELETE");
    let engine = Mysql::new(url);
    let mut home = engine.connect().unwrap();
    assert_eq!(home.identity().unwrap(), None);
    let refused = home.found(&identity()).unwrap_err();
    assert_eq!(kind(&refused), "engine");
    assert!(said(&refused).contains("CREATE command denied"), "{}", said(&refused));
    Server::shared().admin_of(&database).query_drop(SCHEMA).unwrap();
    let mut home = engine.connect().unwrap();
    assert_eq!(home.identity().unwrap(), None, "empty until founded");
    assert_eq!(home.found(&identity()).unwrap(), identity());
}

#[rstest]
#[case("SELECT")]
#[case("INSERT")]
#[case("UPDATE")]
#[case("DELETE")]
fn each_of_the_rights_is_needed(#[case] right: &str) {
    let (database, url) = user_with(RIGHTS);
    let engine = Mysql::new(url);
    let mut home = founded(&engine);
    write(&mut home, &[set("k", "v")]).unwrap();
    let revoke = format!("REVOKE {right} ON {database}.* FROM '{database}'@'127.0.0.1'");
    Server::shared().admin().query_drop(revoke).unwrap();
    // Rights are looked up anew at the next connection at the latest.
    let work = || {
        let mut home = engine.connect()?;
        home.identity()?;
        write(&mut home, &[set("k", "w")])?;
        home.set_aside()?;
        home.reseed(Default::default(), &datastore::partition::ReseedStep::Begin)
    };
    let error = work().unwrap_err();
    assert_eq!(kind(&error), "engine", "{error:?}");
    assert!(said(&error).contains(&format!("{right} command denied")), "{}", said(&error));
}

#[test]
fn who_is_not_let_in_is_told_why_without_secrets() {
    let (database, url) = user_with(RIGHTS);
    let port = Server::shared().port();
    for (user, password, database, says) in [
        (database.as_str(), "se%2Fcret%21", database.as_str(), "Access denied"),
        ("nobody", "se%2Fcret", database.as_str(), "Access denied"),
        (database.as_str(), "se%2Fcret", "mysql", "Access denied"),
    ] {
        let engine = Mysql::new(url_of((user, password), port, database));
        let error = engine.connect().map(drop).unwrap_err();
        assert_eq!(kind(&error), "unreachable", "{error:?}");
        // MySQL asks an unknown user to log in by a way that the driver does not know.
        let says_so =
            said(&error).contains(says) || said(&error).contains("Unknown authentication");
        assert!(says_so, "{}", said(&error));
        assert!(!said(&error).contains("se/cret"), "{}", said(&error));
    }
    let unknown = Server::shared().engine("no_such_database").connect().map(drop).unwrap_err();
    assert!(said(&unknown).contains("Unknown database"), "{}", said(&unknown));
    let nobody_listens = url.to_string().replace(":***", ":x").replace(&port.to_string(), "1");
    let engine = Mysql::new(nobody_listens.parse().unwrap());
    let error = engine.connect().map(drop).unwrap_err();
    assert_eq!(kind(&error), "unreachable", "{error:?}");
}

/// F7: 1290 of a real server, wherever it strikes.
#[test]
fn a_server_that_is_set_read_only_serves_reads_and_says_what_is_wrong_with_writes() {
    let mut server = Server::start();
    let (database, url) = user_at(&server, RIGHTS);
    let mut home = founded(&Mysql::new(url.clone()));
    write(&mut home, &[set("k", "v")]).unwrap();
    let read_only = |on: u8| {
        server.admin().query_drop(format!("SET GLOBAL read_only = {on}")).unwrap();
    };
    read_only(1);
    let refused = write(&mut home, &[set("k", "w")]).unwrap_err();
    assert_eq!(kind(&refused), "read only");
    assert!(refused.is_without_effect() && !refused.keeps_connection());
    assert!(refused.to_string().contains("writable"), "{refused}");
    assert_eq!(value(&mut home, "k").unwrap().as_deref(), Some(&b"v"[..]));
    read_only(0);
    write(&mut home, &[set("k", "w")]).unwrap();

    // A new run, which cannot be given a name: points are read, nothing that needs the run is.
    server.restart_with(&["--read-only"]);
    let mut home = Mysql::new(url).connect().unwrap();
    assert_eq!(home.identity().unwrap(), Some(identity()));
    assert_eq!(value(&mut home, "k").unwrap().as_deref(), Some(&b"w"[..]));
    for refused in [home.status().map(drop), home.open_lane().map(drop)] {
        assert_eq!(kind(&refused.unwrap_err()), "read only");
    }
    server.admin_of(&database).query_drop("SET GLOBAL read_only = 0").unwrap();
    home.open_lane().unwrap();
    home.status().unwrap();
    write(&mut home, &[set("k", "x")]).unwrap();
}

#[test]
fn a_server_that_is_set_read_only_before_a_commit_takes_it_back() {
    let server = Server::start();
    let (database, url) = user_at(&server, RIGHTS);
    let proxy = Proxy::to(server.port());
    let mut direct = founded(&Mysql::new(url));
    let by_proxy = url_of((&database, "se%2Fcret"), proxy.port(), &database);
    let mut home = Mysql::new(by_proxy).connect().unwrap();
    write(&mut home, &[set("k", "v")]).unwrap();
    // Statements are prepared by now: begin and fence, rows, then entries with the commit.
    proxy.strike_at(1, Strike::HoldAnswer);
    let refused = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(&mut home, &[set("k", "w")]).unwrap_err());
        proxy.wait_until_struck();
        server.admin().query_drop("SET GLOBAL read_only = 1").unwrap();
        proxy.heal();
        writing.join().unwrap()
    });
    assert_eq!(kind(&refused), "read only", "{refused:?}");
    assert_eq!(value(&mut direct, "k").unwrap().as_deref(), Some(&b"v"[..]), "taken back");
}
