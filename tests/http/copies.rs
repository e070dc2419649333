//! Reads from an embedded copy: seeded by a pass, first in the order, never less than asked for.

use serde_json::json;

use crate::fixture::{Front, LIMITS, delete, get, post};
use crate::support::masters::{COPY, Kind, Masters};

fn front(kind: Kind) -> Front {
    Front::of(Masters::over(kind).with_copy(), LIMITS)
}

#[actix_web::test]
async fn a_copy_serves_once_it_was_seeded_and_then_first() {
    let front = front(Kind::Memory);
    front.put("/bucket/k", "old").await;
    let before = front.get("/bucket/k").await;
    assert_ne!(before.header("datastore-partition"), COPY, "nothing is known to the copy yet");
    assert_eq!(before.text(), "old");
    front.round().await;
    // As the front end does many times a second: it has refused before.
    front.store.look().await;
    let after = front.get("/bucket/k").await;
    assert_eq!((after.header("datastore-partition"), after.text()), (COPY, "old"));
    // What was never written is not there either.
    let missing = front.get("/bucket/nothing").await;
    missing.assert_problem(404, "not-found");
    let list = front.ask(get("/bucket/").insert_header(("accept", "application/json"))).await;
    assert_eq!(list.header("datastore-partition"), COPY);
    assert_eq!(list.json()["message"], json!(["/bucket/k"]));
}

#[actix_web::test]
async fn a_session_reads_its_writes_though_the_copy_is_behind() {
    let front = front(Kind::Memory);
    front.round().await;
    for n in 0..20 {
        let value = format!("v{n}");
        let written = front.put("/bucket/k", value.clone()).await;
        let token = written.header("datastore-session").to_owned();
        let read = get("/bucket/k").insert_header(("datastore-session", token));
        assert_eq!(front.ask(read).await.text(), value, "RYW-1");
    }
}

#[actix_web::test]
async fn a_copy_takes_no_part_in_acknowledgements_and_holds_no_writes() {
    let front = front(Kind::Memory);
    front.round().await;
    let written = front.put("/bucket/k?ack=all", "v").await;
    assert_eq!(written.header("datastore-acks"), "3/3");
    let at_copy = front.get(&format!("/bucket/k?partition={COPY}")).await;
    assert_eq!(at_copy.status, 404, "a copy is not pushed to");
    let canonical = front.get("/canonicalbucket/k").await;
    assert_ne!(canonical.header("datastore-partition"), COPY);
}

#[actix_web::test]
async fn a_copy_that_is_paused_holds_no_tombstone_back_and_is_made_anew() {
    let front = front(Kind::Memory);
    for n in 0..50 {
        front.put(&format!("/bucket/k{n}"), "v").await;
    }
    front.round().await;
    let pause = post(&format!("/admin/sync/pause?target={COPY}"));
    assert_eq!(front.ask(pause).await.status, 200);
    for n in 0..50 {
        front.ask(delete(&format!("/bucket/k{n}"))).await;
    }
    let round = || async { front.ask(post("/admin/sync?wait=60s")).await.json() };
    round().await;
    // Past the retention: logs and tombstones go, though the copy has not seen them.
    for _ in 0..3 {
        front.clock.advance_ms(61_000);
        round().await;
    }
    let stale = front.get(&format!("/bucket/k7?partition={COPY}")).await;
    assert_eq!(stale.text(), "v", "a copy is as old as it is");
    front.ask(post("/admin/sync/resume")).await;
    // It is below the others' floors: that one pass makes it anew, and then nothing is wrong.
    let made_anew = async {
        loop {
            let read = front.get(&format!("/bucket/k7?partition={COPY}")).await;
            if read.status == 404 && front.sync.current().is_clean() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let bound = std::time::Duration::from_secs(60);
    tokio::time::timeout(bound, made_anew).await.expect("the copy made anew, and no error left");
    for n in 0..50 {
        let read = front.get(&format!("/bucket/k{n}?partition={COPY}")).await;
        assert_eq!(read.status, 404, "DEL-1");
    }
    let any = front.get("/bucket/k1").await;
    assert_eq!(any.status, 404);
}
