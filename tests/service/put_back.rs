//! F17, H10: a server's data directory that is copied back under a running set, and whatever the
//! set knows of it.

use mysql::prelude::Queryable;

use super::process::{Service, until};
use super::servers::{Servers, key_of, put};

const NAME: &str = "store_1";
const TROUBLE: &str = "is an older copy that was put back";

fn write(service: &Service, value: &str) {
    until("its master takes writes", || {
        matches!(put(service.address(), &key_of(0), value), 201 | 204)
    });
}

/// Rounds until nobody complains: connections to a server that was restarted have died.
fn settle(service: &Service) {
    until("a clean round", || {
        let answer = service.connect().request("POST", "/admin/sync?wait=60s", &[], b"").unwrap();
        let report = answer.json();
        report["pairs"].as_array().unwrap().iter().all(|pair| pair["error"].is_null())
    });
}

fn state_of(service: &Service, name: &str) -> (String, String) {
    let doc = service.connect().get(&format!("/admin/partitions/{name}")).json();
    let text = |field: &str| doc[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("trouble"))
}

fn read(service: &Service, query: &str) -> (u16, String) {
    let key = key_of(0).replace(' ', "%20");
    let answer = service.connect().get(&format!("/bucket/{key}{query}"));
    (answer.status, answer.text().to_owned())
}

/// It is said wherever anybody looks, and set aside, so that front ends that know nothing yet
/// cannot go on with it either.
fn assert_quarantined(service: &Service, servers: &Servers) {
    let quarantined = ("quarantined".to_owned(), TROUBLE.to_owned());
    until("it is told", || state_of(service, NAME) == quarantined);
    // Until it is set aside, what still answers over an older connection may hide it for a moment.
    until("a probe is told", || {
        let ready = service.connect().get("/readyz");
        let told = ready.json();
        let mut degraded = told["degraded"].as_array().into_iter().flatten();
        (ready.status, &told["status"]) == (200, &"degraded".into())
            && degraded.any(|one| one["name"] == NAME && one["trouble"] == TROUBLE)
    });
    until("it is set aside", || {
        let reseeding = "SELECT reseeding FROM clock";
        servers.admin(0).query_first::<u8, _>(reseeding).unwrap() == Some(1)
    });
    // Over connections that stood before, too.
    assert_eq!(put(service.address(), &key_of(0), "meanwhile"), 503, "VER-1");
    assert_eq!(read(service, &format!("?partition={NAME}")).0, 503, "nothing of it is served");
}

#[test]
fn f17_a_data_directory_that_is_put_back_is_quarantined() {
    let mut servers = Servers::start();
    let service = servers.front_end();
    write(&service, "old");
    settle(&service);
    servers.server(0).back_up();
    write(&service, "new");
    settle(&service);
    servers.server(0).put_back();
    assert_quarantined(&service, &servers);
    assert_eq!(read(&service, ""), (200, "new".to_owned()), "from the others");
    let other = servers.front_end();
    assert_quarantined(&other, &servers);
    // The right one comes back, and all goes on by itself.
    servers.server(0).put_right();
    for front in [&service, &other] {
        write(front, "after");
        until("it is well", || state_of(front, NAME) == ("active".to_owned(), String::new()));
    }
    settle(&service);
    for name in ["store_1", "store_2", "store_3"] {
        assert_eq!(read(&service, &format!("?partition={name}")), (200, "after".to_owned()));
    }
    service.stop();
    other.stop();
}

/// Nobody can tell at first: who has more of it is away, the other voter that a quorum needs has
/// not, and it gives versions past all that they have. It shows when that one is back, by the jump
/// that it made.
#[test]
fn f17_a_copy_that_has_gone_past_the_others_shows_when_they_are_back() {
    let mut servers = Servers::start();
    let service = servers.front_end();
    write(&service, "old");
    settle(&service);
    servers.server(0).back_up();
    servers.server(1).kill();
    write(&service, "new");
    let new = (200, "new".to_owned());
    until("one other has it", || read(&service, "?partition=store_3") == new);
    service.stop();
    servers.server(2).kill();
    servers.server(1).restart();
    servers.server(0).put_back();
    let service = servers.front_end();
    write(&service, "gone on with");
    assert_eq!(state_of(&service, NAME).0, "active");
    servers.server(2).restart();
    assert_quarantined(&service, &servers);
    service.stop();
}
