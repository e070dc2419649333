//! Ages: told with every answer, bounded on request, honest while a copy is behind and whatever the
//! wall clock does.

use rstest::rstest;

use crate::fixture::{Front, Kind, LIMITS, Masters, get, put};

const HOUR_MS: i64 = 3_600_000;

/// A front end with one value, mastered by `b`, that everybody has; all were just looked at.
async fn settled() -> (Front, String) {
    let front = Front::new();
    let path = format!("/bucket/{}", front.key_of("b"));
    assert_eq!(front.put(&path, "old").await.status, 201);
    front.round().await;
    front.store.look().await;
    (front, path)
}

async fn age(front: &Front, path: &str) -> String {
    front.get(path).await.header("datastore-age").to_owned()
}

#[actix_web::test]
async fn an_age_counts_from_the_last_look() {
    let front = Front::new();
    let path = format!("/bucket/{}", front.key_of("b"));
    front.put(&path, "old").await;
    assert_eq!(age(&front, &path).await, "unknown");
    assert_eq!(front.get(&path).await.header("age"), "");
    front.round().await;
    front.store.look().await;
    for (passed, told, seconds) in [(0, "0", "0"), (300, "300", "1"), (1_700, "2000", "2")] {
        front.clock.advance_ms(passed);
        for path in [path.as_str(), "/bucket/", "/canonicalbucket/"] {
            let answer = front.get(path).await;
            assert_eq!(answer.header("datastore-age"), told, "{path}");
            assert_eq!(answer.header("age"), seconds, "{path}");
        }
    }
    front.store.look().await;
    assert_eq!(age(&front, &path).await, "0");
}

#[actix_web::test]
async fn a_copy_that_is_behind_ages_and_is_passed_by() {
    let (front, path) = settled().await;
    let at_a = format!("{path}?partition=a");
    assert!(front.sync.pause(Some("a"), true));
    front.clock.advance_ms(1_000);
    front.store.look().await;
    assert_eq!(age(&front, &at_a).await, "0", "nothing is missing, however long ago it came");

    assert_eq!(front.put(&path, "new").await.status, 204);
    for seconds in 1..=3 {
        front.clock.advance_ms(1_000);
        front.store.look().await;
        assert_eq!(age(&front, &at_a).await, (seconds * 1_000).to_string());
        assert_eq!(age(&front, &path).await, "0");
    }
    for step_ms in [0, -HOUR_MS, 2 * HOUR_MS] {
        front.clock.step_wall_ms(step_ms);
        front.store.look().await;
        assert_eq!(age(&front, &at_a).await, "3000", "AGE-1");
        let bounded = front.get(&format!("{path}?max_age_ms=500")).await;
        assert_eq!((bounded.status.as_u16(), bounded.text()), (200, "new"));
        assert_eq!(bounded.header("datastore-partition"), "b");
        let refused = front.get(&format!("{at_a}&max_age_ms=500")).await;
        refused.assert_problem(503, "too-stale");
        assert_eq!(refused.header("datastore-age"), "3000");
        let wide = front.get(&format!("{at_a}&max_age_ms=3000")).await;
        assert_eq!((wide.status.as_u16(), wide.text()), (200, "old"));
    }

    assert!(front.sync.pause(Some("a"), false));
    let caught_up = front.get(&format!("{at_a}&max_age_ms=500")).await;
    assert_eq!((caught_up.status.as_u16(), caught_up.text()), (200, "new"), "it wakes a pull");
    assert_eq!(caught_up.header("datastore-age"), "0");
}

#[rstest]
#[case("", "old")]
#[case("&consistency=any", "old")]
#[case("&consistency=session", "new")]
#[actix_web::test]
async fn a_pinned_read_covers_the_token_if_it_is_told_to(#[case] query: &str, #[case] text: &str) {
    let (front, path) = settled().await;
    let token = front.put(&path, "new").await.header("datastore-session").to_owned();
    let request = get(&format!("{path}?partition=a{query}"));
    let answer = front.ask(request.insert_header(("Datastore-Session", token))).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, text));
    assert_eq!(answer.header("datastore-partition"), "a");
}

#[rstest]
#[case("consistency=session")]
#[case("consistency=master")]
#[case("max_age_ms=1")]
#[case("consistency=bounded&max_age_ms=60000")]
#[actix_web::test]
async fn whatever_is_asked_beside_it_a_token_is_covered(#[case] query: &str) {
    let (front, path) = settled().await;
    let token = front.put(&path, "new").await.header("datastore-session").to_owned();
    for path in [format!("{path}?{query}"), format!("/bucket/?values=true&{query}")] {
        let request = get(&path).insert_header(("Datastore-Session", token.as_str()));
        let answer = front.ask(request).await;
        assert!(answer.status == 200 && answer.text().contains("new"), "RYW-1: {answer:?}");
    }
}

#[actix_web::test]
async fn a_wish_for_youth_orders_and_never_refuses() {
    let (front, path) = settled().await;
    let wish = |path: &str| get(path).insert_header(("Cache-Control", "max-age=1"));
    let served_by = front.ask(wish(&path)).await.header("datastore-partition").to_owned();
    assert_eq!(served_by, "b");
    front.clock.advance_ms(60_000);
    let old = front.ask(wish(&path)).await;
    assert_eq!((old.status.as_u16(), old.header("datastore-age")), (200, "60000"));
}

#[actix_web::test]
async fn a_cookie_carries_the_token() {
    let (front, path) = settled().await;
    let path = format!("{path}?session=cookie");
    let written = front.put(&path, "new").await;
    let cookie = written.header("set-cookie").to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let pinned = format!("{path}&partition=a&consistency=session");
    let answer = front.ask(get(&pinned).insert_header(("Cookie", pair))).await;
    assert_eq!(answer.text(), "new", "RYW-1");
    assert_eq!(front.put(&path.replace("session=cookie", ""), "x").await.header("set-cookie"), "");
}

#[actix_web::test]
async fn partitions_are_told_of() {
    let (front, path) = settled().await;
    front.sync.pause(Some("a"), true);
    front.put(&path, "new").await;
    front.clock.advance_ms(700);
    front.store.look().await;
    let all = front.get("/admin/partitions").await.json();
    let all = all["partitions"].as_array().unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            (text("name"), text("role"), text("state"), one["age_ms"].as_u64(), one["lag"].as_u64())
        })
        .collect();
    let row = |name: &str, age, lag| {
        (name.to_owned(), "master".to_owned(), "active".to_owned(), Some(age), Some(lag))
    };
    assert_eq!(told, [row("a", 700, 1), row("b", 0, 0), row("c", 700, 1)]);
    assert_eq!(all[0]["engine"], "memory");
    assert_eq!(all[0]["url"], "memory:");
    assert_eq!(all.iter().map(|one| one["slots"].as_u64().unwrap()).sum::<u64>(), 1024);

    assert_eq!(front.get("/admin/partitions/b").await.json(), all[1]);
    front.get("/admin/partitions/nobody").await.assert_problem(404, "unknown-path");
    front.get("/admin/partitions?x=1").await.assert_problem(400, "unknown-parameter");
    front.ask(put("/admin/partitions")).await.assert_problem(405, "method-not-allowed");
}

#[actix_web::test]
async fn a_read_explains_itself() {
    let (front, path) = settled().await;
    front.sync.pause(None, true);
    let token = front.put(&path, "new").await.header("datastore-session").to_owned();
    let ask = |query: &str| {
        let request = get(&format!("{path}?explain&{query}"));
        front.ask(request.insert_header(("Datastore-Session", token.as_str())))
    };
    let told = ask("").await.json();
    assert_eq!((&told["partition"], &told["master"]), (&"b".into(), &"b".into()));
    assert_eq!((&told["found"], &told["age_ms"]), (&true.into(), &0.into()));
    assert_eq!(told["candidates"][0]["outcome"], "served");
    assert_eq!(told["candidates"][1]["outcome"], "not asked");

    let refused = ask("partition=a&consistency=session").await;
    assert_eq!(refused.status, 200);
    let refused = refused.json();
    assert_eq!(refused["partition"], serde_json::Value::Null);
    assert!(refused["error"].as_str().unwrap().contains("has yet"), "{refused}");
    let outcome = |nth: usize| refused["candidates"][nth]["outcome"].as_str().unwrap();
    assert_eq!([outcome(0), outcome(1), outcome(2)], ["skipped", "excluded", "excluded"]);
}

#[actix_web::test]
async fn an_embedded_copy_is_no_older_than_it_says() {
    let front = Front::of(Masters::over(Kind::Memory).with_copy(), LIMITS);
    front.round().await;
    front.store.look().await;
    let path = format!("/bucket/{}", front.key_of("b"));
    // RYW-1 through the copy and whoever else has it, again and again.
    for n in 0..500 {
        let token = front.put(&path, n.to_string()).await.header("datastore-session").to_owned();
        let request = get(&path).insert_header(("Datastore-Session", token));
        assert_eq!(front.ask(request).await.text(), n.to_string(), "RYW-1");
    }
    front.round().await;
    front.store.look().await;
    front.clock.advance_ms(40);
    let answer = front.get(&format!("{path}?max_age_ms=50")).await;
    assert_eq!((answer.text(), answer.header("datastore-partition")), ("499", "copy"));
    assert_eq!(answer.header("datastore-age"), "40");
}
