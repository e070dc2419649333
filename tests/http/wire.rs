//! Over a real connection: what only the bytes on the wire can show.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use actix_web::{App, HttpServer};
use rstest::rstest;

use super::fixture::Front;

/// Sends `request` as it is over a connection of its own, and returns all that comes back.
pub async fn talk(front: &Front, request: &[u8]) -> String {
    let pieces = front.pieces.clone();
    let server = HttpServer::new(move || {
        let pieces = pieces.clone();
        App::new().configure(move |cfg| pieces.configure(cfg))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let request = request.to_vec();
    let talk = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_all(&request).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    };
    let answer = actix_web::rt::task::spawn_blocking(talk).await.unwrap();
    handle.stop(false).await;
    answer
}

fn request(line: &str, more: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[actix_web::test]
async fn head_has_the_length_and_nothing_else() {
    let front = Front::new();
    front.put("/bucket/k", "value").await;
    let get = talk(&front, &request("GET /bucket/k", "")).await;
    assert!(get.ends_with("\r\n\r\nvalue"), "{get}");
    assert_eq!(header(&get, "content-length"), Some("5"));
    assert!(header(&get, "date").is_some());
    let head = talk(&front, &request("HEAD /bucket/k", "")).await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(header(&head, "content-length"), Some("5"));
    let missing = talk(&front, &request("HEAD /bucket/none", "")).await;
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.ends_with("\r\n\r\n"), "{missing}");
}

#[actix_web::test]
async fn a_large_value_comes_back_whole() {
    let front = Front::new();
    let value = "0123456789".repeat(10_000);
    front.put("/bucket/k", value.as_str()).await;
    let get = talk(&front, &request("GET /bucket/k", "")).await;
    assert_eq!(header(&get, "content-length"), Some("100000"));
    assert_eq!(get.split_once("\r\n\r\n").unwrap().1, value);
}

#[actix_web::test]
async fn a_chunked_value_is_stored_whole() {
    let front = Front::new();
    let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n";
    let put = talk(&front, &request("PUT /bucket/k", chunks)).await;
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    assert_eq!(front.get("/bucket/k").await.text(), "abcdefg");
}

#[actix_web::test]
async fn an_oversize_value_is_refused_before_and_while_it_comes() {
    let front = Front::new();
    front.put("/bucket/k", "old").await;
    let declared = talk(&front, &request("PUT /bucket/k", "Content-Length: 100001\r\n")).await;
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000));
    let more = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n");
    let chunked = talk(&front, &request("PUT /bucket/k", &more)).await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
    assert_eq!(front.get("/bucket/k").await.text(), "old");
}

#[rstest]
#[case("/bucket//a//", "/bucket/%2Fa%2F%2F")]
#[case("/bucket/a/../b", "/bucket/a%2F..%2Fb")]
#[case("/bucket/%ff%FE%00", "/bucket/%FF%FE%00")]
#[case("/bucket/{a}", "/bucket/%7Ba%7D")]
#[case("http://localhost/bucket/abs", "/bucket/abs")]
#[actix_web::test]
async fn paths_are_taken_byte_for_byte(#[case] target: &str, #[case] location: &str) {
    let front = Front::new();
    let put = format!("PUT {target}");
    let put = talk(&front, &request(&put, "Content-Length: 1\r\n\r\nv")).await;
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    assert_eq!(header(&put, "location"), Some(location));
    let get = talk(&front, &request(&format!("GET {target}"), "")).await;
    assert!(get.ends_with("\r\n\r\nv"), "{get}");
}

#[rstest]
#[case("GET /bucket/k HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", "400")]
#[case("GET /bucket/k HTTP/1.1\r\n", "400")]
#[case("GET /bucket/k HTTP/1.1\r\nHost: evil.example\r\n", "421")]
#[case("GET http://evil.example/bucket/k HTTP/1.1\r\nHost: localhost\r\n", "421")]
#[case("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", "404")]
#[case("GET /healthz HTTP/1.0\r\n", "200")]
#[actix_web::test]
async fn odd_heads(#[case] head: &str, #[case] status: &str) {
    let front = Front::new();
    let answer = talk(&front, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
}

#[actix_web::test]
async fn not_modified_has_no_body() {
    let front = Front::new();
    let etag = front.put("/bucket/k", "value").await.header("etag").to_owned();
    let more = format!("If-None-Match: {etag}\r\n");
    let answer = talk(&front, &request("GET /bucket/k", &more)).await;
    assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(header(&answer, "etag"), Some(etag.as_str()));
}
