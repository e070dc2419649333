//! Preconditions (RFC 9110 section 13.2): their table, and that of many who race exactly one wins.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use rstest::rstest;

use super::fixture::{Front, Kind, LIMITS, put};

/// `is` stands for the entity tag at hand, `other` for another one, `-` for no header.
#[rstest]
#[case("GET", true, "-", "-", 200)]
#[case("GET", true, "is", "-", 200)]
#[case("GET", true, "*", "-", 200)]
#[case("GET", true, "other", "-", 412)]
#[case("GET", true, "-", "is", 304)]
#[case("GET", true, "-", "*", 304)]
#[case("GET", true, "-", "other", 200)]
#[case("GET", true, "is", "is", 304)]
#[case("GET", true, "is", "other", 200)]
#[case("GET", true, "other", "is", 412)]
#[case("GET", true, "other", "other", 412)]
#[case("HEAD", true, "-", "is", 304)]
#[case("HEAD", true, "other", "-", 412)]
#[case("GET", false, "-", "-", 404)]
#[case("GET", false, "*", "-", 404)]
#[case("GET", false, "-", "*", 404)]
#[case("PUT", true, "-", "-", 204)]
#[case("PUT", true, "is", "-", 204)]
#[case("PUT", true, "*", "-", 204)]
#[case("PUT", true, "other", "-", 412)]
#[case("PUT", true, "-", "is", 412)]
#[case("PUT", true, "-", "*", 412)]
#[case("PUT", true, "-", "other", 204)]
#[case("PUT", true, "is", "is", 412)]
#[case("PUT", true, "is", "other", 204)]
#[case("PUT", true, "other", "is", 412)]
#[case("PUT", false, "-", "-", 201)]
#[case("PUT", false, "is", "-", 412)]
#[case("PUT", false, "*", "-", 412)]
#[case("PUT", false, "-", "*", 201)]
#[case("PUT", false, "-", "is", 201)]
#[case("POST", true, "is", "-", 201)]
#[case("POST", true, "other", "-", 412)]
#[case("POST", true, "-", "*", 412)]
#[case("POST", false, "*", "-", 412)]
#[case("POST", false, "-", "*", 201)]
#[case("PATCH", true, "is", "-", 204)]
#[case("PATCH", true, "other", "-", 412)]
#[case("PATCH", true, "-", "is", 412)]
#[case("PATCH", true, "-", "other", 204)]
#[case("PATCH", false, "*", "-", 404)]
#[case("PATCH", false, "-", "*", 404)]
#[case("DELETE", true, "is", "-", 202)]
#[case("DELETE", true, "other", "-", 412)]
#[case("DELETE", true, "-", "*", 412)]
#[case("DELETE", true, "-", "other", 202)]
#[case("DELETE", false, "is", "-", 404)]
#[case("DELETE", false, "-", "*", 404)]
#[actix_web::test]
async fn the_table_of_preconditions(
    #[case] method: &str,
    #[case] stands: bool,
    #[case] if_match: &str,
    #[case] if_none_match: &str,
    #[case] status: u16,
    #[values("/bucket/k", "/canonicalbucket/k")] path: &str,
) {
    let front = Front::new();
    let etag = match stands {
        true => front.put("/bucket/k", "v").await.header("etag").to_owned(),
        false => "\"5.5\"".to_owned(),
    };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = TestRequest::with_uri(path).method(method.clone());
    for (name, value) in [("if-match", if_match), ("if-none-match", if_none_match)] {
        let value = match value {
            "-" => continue,
            "is" => etag.clone(),
            "other" => "\"9.9\"".to_owned(),
            other => other.to_owned(),
        };
        request = request.insert_header((name, value));
    }
    if ![Method::GET, Method::HEAD, Method::DELETE].contains(&method) {
        request = request.set_payload("w");
    }
    let answer = front.ask(request).await;
    assert_eq!(answer.status, status, "{answer:?}");
    if status >= 300 {
        let expected = if stands { Some(etag.as_str()) } else { None };
        let now = front.get("/canonicalbucket/k").await;
        assert_eq!(Some(now.header("etag")).filter(|etag| !etag.is_empty()), expected);
    }
}

/// 32 at once send what `request` makes; returns their statuses, in order of number.
async fn race(front: &Arc<Front>, request: impl Fn(usize) -> TestRequest) -> Vec<u16> {
    let racing: Vec<_> = (0..32)
        .map(|n| {
            let (front, request) = (Arc::clone(front), request(n));
            actix_web::rt::spawn(async move { front.ask(request).await.status.as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for racer in racing {
        statuses.push(racer.await.unwrap());
    }
    statuses
}

#[rstest]
#[actix_web::test]
async fn of_32_writers_exactly_one_wins_a_round(
    #[values(Kind::Memory, Kind::Sqlite, Kind::Mariadb)] kind: Kind,
) {
    let front = Arc::new(Front::over(kind, LIMITS));
    for round in 0..20 {
        let create = |n: usize| {
            let request = put("/bucket/k").insert_header(("if-none-match", "*"));
            request.set_payload(format!("created {round} {n}"))
        };
        let statuses = race(&front, create).await;
        let won = |status: u16| statuses.iter().filter(|won| **won == status).count();
        assert_eq!((won(201), won(412)), (1, 31), "{statuses:?}");
        let winner = statuses.iter().position(|status| *status == 201).unwrap();
        let stands = front.get("/canonicalbucket/k").await;
        assert_eq!(stands.text(), format!("created {round} {winner}"));

        let etag = stands.header("etag").to_owned();
        let replace = |n: usize| {
            let request = put("/canonicalbucket/k").insert_header(("if-match", etag.clone()));
            request.set_payload(format!("replaced {round} {n}"))
        };
        let statuses = race(&front, replace).await;
        let won = |status: u16| statuses.iter().filter(|won| **won == status).count();
        assert_eq!((won(204), won(412)), (1, 31), "{statuses:?}");
        let winner = statuses.iter().position(|status| *status == 204).unwrap();
        let stands = front.get("/canonicalbucket/k").await;
        assert_eq!(stands.text(), format!("replaced {round} {winner}"));

        let etag = stands.header("etag").to_owned();
        let delete = |_| {
            let request = TestRequest::delete().uri("/bucket/k");
            request.insert_header(("if-match", etag.clone()))
        };
        let statuses = race(&front, delete).await;
        let won = |status: u16| statuses.iter().filter(|won| **won == status).count();
        assert_eq!((won(202), won(404)), (1, 31), "{statuses:?}");
    }
}
