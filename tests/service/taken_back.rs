//! BAR-1 of the real thing: a server is killed between showing a write and having it on its disk.
//! That moment is made as long as the test needs: commits are not flushed meanwhile, and nothing
//! else flushes.

use mysql::prelude::Queryable as _;

use super::process::{Service, until};
use super::stream::Stream;
use super::support::mariadb::Server;
use super::support::proxy::{Proxy, Strike};

/// Nothing goes to the disk but what a commit flushes.
const QUIET: [&str; 4] = [
    "--innodb-flush-log-at-timeout=2700",
    "--innodb-max-dirty-pages-pct=99.9",
    "--innodb-max-dirty-pages-pct-lwm=99.9",
    "--innodb-adaptive-flushing=OFF",
];

/// A server with the one partition of a set, and a way to it that can be held up.
struct Scene {
    server: Server,
    database: String,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start_with(&QUIET);
        let (database, proxy) = (server.database(), Proxy::to(server.port()));
        Self { server, database, proxy, folder: tempfile::tempdir().unwrap() }
    }

    /// A front end that reaches the server by this port, and writes nothing by itself.
    fn front_end(&self, port: u16) -> Service {
        let url = self.server.url_text(&self.database);
        let url = url.replace(&format!(":{}/", self.server.port()), &format!(":{port}/"));
        let environment = [
            ("DATASTORE__PARTITION__STORE_1__URL", url.as_str()),
            ("DATASTORE__SERVER__HEARTBEAT", "1m"),
            ("DATASTORE__SYNC__EAGER", "false"),
            ("DATASTORE__SYNC__SCHEDULE", "0 0 0 1 1 *"),
        ];
        Service::start_with(self.folder.path(), &environment)
    }

    /// Whether a commit is on the disk when it is answered.
    fn flush_commits(&self, flush: bool) {
        let sql = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {}", u8::from(flush));
        self.server.admin().query_drop(sql).unwrap();
    }

    /// A crash; afterwards it is as it should be set.
    fn crash(&mut self) {
        self.server.restart();
    }
}

fn value(service: &Service) -> String {
    let mut read = None;
    until("the server can be read again", || {
        let answer = service.connect().get("/canonicalbucket/k");
        let is_read = answer.status == 200;
        read = is_read.then(|| answer.text().to_owned());
        is_read
    });
    read.unwrap()
}

fn put(service: &Service, value: &str) {
    until("the value is written", || {
        matches!(service.connect().put("/bucket/k", value.as_bytes()).status, 201 | 204)
    });
}

/// The next value that a stream tells of.
fn told(stream: &mut Stream) -> String {
    loop {
        let event = stream.next().unwrap();
        if event.event == "put" {
            return event.data["value"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn what_a_crash_took_back_between_visible_and_durable_was_told_to_nobody() {
    let mut scene = Scene::new();
    let (writer, reader) =
        (scene.front_end(scene.server.port()), scene.front_end(scene.proxy.port()));
    put(&writer, "old");
    let mut stream = Stream::open(reader.address(), "since=0&include=value", "").unwrap();
    assert_eq!(told(&mut stream), "old");
    let position = reader.connect().get("/changes?since=now").json()["next"].clone();

    scene.flush_commits(false);
    // The page that brings the value is read; its barrier never comes to its end.
    scene.proxy.strike_with("'barrier'", Strike::HoldAnswer);
    put(&writer, "taken back");
    scene.proxy.wait_until_struck();
    assert_eq!(value(&reader), "taken back", "it can be seen");
    scene.crash();
    scene.proxy.heal();
    assert_eq!(value(&writer), "old", "the crash came before the flush");

    put(&writer, "new");
    assert_eq!(told(&mut stream), "new", "BAR-1");
    // Whoever comes with the position from before the crash is told the same.
    let page = format!("/changes?since={}&include=value", position.as_str().unwrap());
    let page = reader.connect().get(&page).json();
    let values: Vec<_> = page["events"].as_array().unwrap().iter().map(|e| &e["value"]).collect();
    assert_eq!(values, ["new"], "{page}");
    writer.stop();
    reader.stop();
}

#[test]
fn what_was_told_after_its_barrier_is_there_after_a_crash() {
    let mut scene = Scene::new();
    // Two: the writer takes its own commits for flushed, as they are unless somebody meddles.
    let (writer, reader) = [(); 2].map(|()| scene.front_end(scene.server.port())).into();
    put(&writer, "old");
    let position = reader.connect().get("/changes?since=now").json()["next"].clone();
    scene.flush_commits(false);
    put(&writer, "new");
    // From here on whoever commits flushes; the value itself is still where it was.
    scene.flush_commits(true);
    let page = format!("/changes?since={}&include=value", position.as_str().unwrap());
    let page = reader.connect().get(&page).json();
    assert_eq!(page["events"][0]["value"], "new", "{page}");
    scene.crash();
    assert_eq!(value(&writer), "new", "BAR-1: the barrier has flushed it");
    writer.stop();
    reader.stop();
}
