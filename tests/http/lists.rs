//! Lists of keys.

use rstest::rstest;
use serde_json::json;

use super::fixture::{Front, get, put};

async fn filled(keys: &[&str]) -> Front {
    let front = Front::new();
    for key in keys {
        assert_eq!(front.put(&format!("/bucket/{key}"), "v").await.status, 201);
    }
    front.round().await;
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
    let as_json = |path: &str| get(path).insert_header(("accept", "application/json"));
    let list = front.ask(as_json("/bucket/")).await;
    assert_eq!(list.header("content-type"), "application/json");
    let all = ["/bucket/a", "/bucket/b", "/bucket/c"];
    assert_eq!(list.json(), json!({"message": all, "next": null}));
    let first = front.ask(as_json("/bucket/?limit=2")).await.json();
    assert_eq!(first["message"], json!(["/bucket/a", "/bucket/b"]));
    let rest = front.ask(as_json(first["next"].as_str().unwrap())).await.json();
    assert_eq!(rest, json!({"message": ["/bucket/c"], "next": null}));
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
#[case("text/html,application/xhtml+xml,*/*;q=0.8", 200, "text/html; charset=utf-8")]
#[case("text/xml", 200, "text/xml; charset=utf-8")]
#[case("application/x-xml", 200, "application/x-xml; charset=utf-8")]
#[case("application/x-ndjson", 200, "application/x-ndjson")]
#[case("text/plain;q=0, */*", 200, "application/json")]
#[case("image/png", 406, "application/problem+json")]
#[case("html", 400, "application/problem+json")]
#[actix_web::test]
async fn a_list_comes_in_the_form_that_is_preferred(
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
#[case("values=yes", "bad-parameter", "values must be true or false; given was \"yes\"")]
#[case("count", "bad-parameter", "count must be true or false; given was \"\"")]
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
    for (path, location) in [
        ("/bucket", "/bucket/"),
        ("/bucket?prefix=a%2F&limit=3", "/bucket/?prefix=a%2F&limit=3"),
        ("/canonicalbucket?limit=3", "/canonicalbucket/?limit=3"),
    ] {
        let answer = front.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, location));
    }
}

#[actix_web::test]
async fn values_come_a_line_each() {
    let front = Front::new();
    front.put("/bucket/a?ttl=90s", "red\n").await;
    let binary = put("/bucket/%FF").insert_header(("content-type", "image/png"));
    front.ask(binary.set_payload(&b"\xfe"[..])).await;
    for accept in ["*/*", "application/x-ndjson", "text/html, application/*;q=0.1"] {
        let request = get("/canonicalbucket/?values=true").insert_header(("accept", accept));
        let list = front.ask(request).await;
        assert_eq!(list.header("content-type"), "application/x-ndjson", "{accept}");
        let rows: Vec<serde_json::Value> =
            list.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let version = |row: usize| rows[row]["version"].as_str().unwrap().to_owned();
        assert_eq!(
            rows,
            [
                json!({"key": "a", "value": "red\n", "content_type": "text/plain; charset=utf-8",
                    "version": version(0), "expires_at": "2001-09-09T01:48:10.000Z"}),
                json!({"key_base64": "/w==", "value_base64": "/g==", "content_type": "image/png",
                    "version": version(1), "expires_at": null}),
            ]
        );
    }
    let json = get("/bucket/?values=true").insert_header(("accept", "text/html"));
    front.ask(json).await.assert_problem_as(406, "not-acceptable");
    let next = front.get("/canonicalbucket/?values=true&limit=1").await;
    let link = "</canonicalbucket/?after=a&limit=1&values=true>; rel=\"next\"";
    assert_eq!(next.header("link"), link);
}

#[actix_web::test]
async fn lists_are_pages_of_links_and_well_formed_xml() {
    let front = filled(&["a%26b", "%3Cscript%3E", "c"]).await;
    let ask = async |accept: &'static str, path: &str| {
        front.ask(get(path).insert_header(("accept", accept))).await.text().to_owned()
    };
    let html = ask("text/html", "/bucket/?limit=2&prefix=").await;
    let list = html.split_once("<h1>Keys</h1>").unwrap().1;
    assert_eq!(
        list,
        "<ul>\
         <li><a href=\"/bucket/%3Cscript%3E\">/bucket/%3Cscript%3E</a></li>\
         <li><a href=\"/bucket/a%26b\">/bucket/a%26b</a></li></ul>\
         <p><a rel=\"next\" href=\"/bucket/?after=a%26b&amp;prefix=&amp;limit=2\">next page</a></p>\
         </body></html>\n"
    );
    let nothing = ask("text/html", "/bucket/?prefix=nothing").await;
    assert!(nothing.contains("<p>There are none here.</p>"), "{nothing}");
    let xml = ask("text/xml", "/bucket/?limit=1&count=true").await;
    assert_eq!(
        xml,
        "<message><path>/bucket/%3Cscript%3E</path><count>3</count>\
         <next>/bucket/?after=%3Cscript%3E&amp;limit=1</next></message>"
    );
}

#[actix_web::test]
async fn keys_are_counted_on_all_pages_together() {
    let front = filled(&["a1", "a2", "a3", "b"]).await;
    let list = front.get("/bucket/?limit=1&prefix=a&count=true").await;
    assert_eq!((list.text(), list.header("datastore-count")), ("/bucket/a1\n", "3"));
    let request = get("/canonicalbucket/?count=true").insert_header(("accept", "application/json"));
    assert_eq!(front.ask(request).await.json()["count"], 4);
    assert_eq!(front.get("/bucket/").await.header("datastore-count"), "");
}

#[actix_web::test]
async fn the_canonical_list_tells_each_key_by_its_master() {
    let front = Front::new();
    let keys: Vec<String> = (0..30).map(|n| format!("k{n:02}")).collect();
    for key in &keys {
        front.put(&format!("/bucket/{key}"), "v").await;
    }
    front.ask(super::fixture::delete("/bucket/k07")).await;
    let mut expected: Vec<String> = keys.iter().map(|key| format!("/bucket/{key}")).collect();
    expected.remove(7);
    let list = front.get("/canonicalbucket/").await;
    assert_eq!(list.text().lines().collect::<Vec<_>>(), expected);
    assert_eq!(list.header("datastore-partition"), "a, b, c");
    let (mut found, mut path) = (Vec::new(), "/canonicalbucket/?limit=4".to_owned());
    loop {
        let page = front.get(&path).await;
        found.extend(page.text().lines().map(str::to_owned));
        assert!(page.text().lines().count() <= 4);
        let Some(next) = page.header("link").strip_prefix('<') else { break };
        path = next.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(found, expected);
    front.get("/canonicalbucket/?partition=a").await.assert_problem(400, "unknown-parameter");
}
