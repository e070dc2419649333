//! Lists of keys.

use rstest::rstest;

use super::fixture::{Front, get};

async fn filled(keys: &[&str]) -> Front {
    let front = Front::new();
    for key in keys {
        assert_eq!(front.put(&format!("/bucket/{key}"), "v").await.status, 201);
    }
    assert!(front.sync.run(std::time::Duration::from_secs(10)).await.unwrap().is_clean());
    front
}

#[actix_web::test]
async fn keys_are_listed_in_byte_order_one_path_per_line() {
    let front = filled(&["b", "a", "a%2Fx", "%FF", "a%20b", "%2Fq"]).await;
    let list = front.get("/bucket/").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.header("content-type"), "text/plain; charset=utf-8");
    let expected =
        ["/bucket/%2Fq", "/bucket/a", "/bucket/a%20b", "/bucket/a/x", "/bucket/b", "/bucket/%FF"];
    assert_eq!(list.text().lines().collect::<Vec<_>>(), expected);
    assert!(list.text().ends_with('\n'));
    assert!(!list.header("datastore-partition").is_empty());
    assert_eq!(list.header("datastore-age"), "unknown");
    assert!(!list.header("datastore-session").is_empty());
    assert_eq!(list.header("link"), "");
    list.assert_protected();
    for path in expected {
        assert_eq!(front.get(path).await.text(), "v", "{path}");
    }
}

#[actix_web::test]
async fn json_is_the_shape_of_old_with_next() {
    let front = filled(&["a", "b", "c"]).await;
    let json = |path: &str| get(path).insert_header(("accept", "application/json"));
    let list = front.ask(json("/bucket/")).await;
    assert_eq!(list.header("content-type"), "application/json");
    let all = ["/bucket/a", "/bucket/b", "/bucket/c"];
    assert_eq!(list.json(), serde_json::json!({"message": all, "next": null}));
    let first = front.ask(json("/bucket/?limit=2")).await.json();
    assert_eq!(first["message"], serde_json::json!(["/bucket/a", "/bucket/b"]));
    let rest = front.ask(json(first["next"].as_str().unwrap())).await.json();
    assert_eq!(rest, serde_json::json!({"message": ["/bucket/c"], "next": null}));
}

#[actix_web::test]
async fn pages_follow_each_other_by_link() {
    let keys: Vec<String> = (0..25).map(|n| format!("p%2F%FF{n:02}")).collect();
    let mut others: Vec<&str> = keys.iter().map(String::as_str).collect();
    others.extend(["o", "q"]);
    let front = filled(&others).await;
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut path = "/bucket/?prefix=p/%FF&limit=10&partition=b".to_owned();
    loop {
        let list = front.get(&path).await;
        assert_eq!(list.status, 200, "{path}: {list:?}");
        assert_eq!(list.header("datastore-partition"), "b");
        found.extend(list.text().lines().map(str::to_owned));
        pages += 1;
        let link = list.header("link");
        if link.is_empty() {
            break;
        }
        let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        assert!(next.starts_with("/bucket/?"), "{next}");
        path = next.to_owned();
    }
    assert_eq!(pages, 3);
    let expected: Vec<String> = (0..25).map(|n| format!("/bucket/p/%FF{n:02}")).collect();
    assert_eq!(found, expected);
}

#[actix_web::test]
async fn deleted_keys_are_not_listed() {
    let front = filled(&["a", "b"]).await;
    front.ask(super::fixture::delete("/bucket/a")).await;
    front.sync.run(std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(front.get("/bucket/").await.text(), "/bucket/b\n");
}

#[actix_web::test]
async fn an_empty_list_is_empty() {
    let front = Front::new();
    let list = front.get("/bucket/?prefix=x&after=y").await;
    assert_eq!((list.status.as_u16(), list.text()), (200, ""));
}

#[rstest]
#[case("*/*", 200, "text/plain; charset=utf-8")]
#[case("text/*", 200, "text/plain; charset=utf-8")]
#[case("application/*", 200, "application/json")]
#[case("application/json, text/plain;q=0.9", 200, "application/json")]
#[case("application/json, text/plain", 200, "text/plain; charset=utf-8")]
#[case("text/html,application/xhtml+xml,*/*;q=0.8", 200, "text/plain; charset=utf-8")]
#[case("text/plain;q=0, */*", 200, "application/json")]
#[case("image/png", 406, "application/problem+json")]
#[case("html", 400, "application/problem+json")]
#[actix_web::test]
async fn a_list_comes_as_text_or_json(
    #[case] accept: &'static str,
    #[case] status: u16,
    #[case] kind: &str,
) {
    let front = Front::new();
    let list = front.ask(get("/bucket/").insert_header(("accept", accept))).await;
    assert_eq!((list.status.as_u16(), list.header("content-type")), (status, kind));
}

#[rstest]
#[case("limt=1", "unknown-parameter", "did you mean limit?")]
#[case("values=true", "unknown-parameter", "values")]
#[case("count=true", "unknown-parameter", "count")]
#[case("limit=1&limit=2", "repeated-parameter", "limit")]
#[case("limit=0", "bad-parameter", "from 1 to 10000; given was \"0\"")]
#[case("limit=10001", "bad-parameter", "from 1 to 10000; given was \"10001\"")]
#[case("limit=ten", "bad-parameter", "given was \"ten\"")]
#[case("prefix=%zz", "bad-query", "%")]
#[case("partition=nowhere", "unknown-partition", "there is a, b, c")]
#[case("partition=", "unknown-partition", "there is a, b, c")]
#[actix_web::test]
async fn what_is_not_understood_is_named(
    #[case] query: &str,
    #[case] code: &str,
    #[case] says: &str,
) {
    let front = Front::new();
    let answer = front.get(&format!("/bucket/?{query}")).await;
    answer.assert_problem(400, code);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(says), "{detail}");
}

#[actix_web::test]
async fn without_its_slash_the_bucket_leads_to_itself() {
    let front = Front::new();
    for (path, location) in
        [("/bucket", "/bucket/"), ("/bucket?prefix=a%2F&limit=3", "/bucket/?prefix=a%2F&limit=3")]
    {
        let answer = front.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, location));
    }
}
