//! How answers are put together: bodies, and the headers that tell where an answer comes from.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, TryIntoHeaderValue as _,
};
use bytes::Bytes;
use mime::Mime;
use serde::Serialize;

use super::conditions;
use super::negotiate::Accept;
use super::wire::MessageDoc;
use crate::store::answer::Serving;
use crate::vector::Token;
use crate::version::Version;

/// Comes in with what the client has seen, goes out with what it has seen now.
pub static SESSION: HeaderName = HeaderName::from_static("datastore-session");
static VERSION: HeaderName = HeaderName::from_static("datastore-version");
static PARTITION: HeaderName = HeaderName::from_static("datastore-partition");
static AGE: HeaderName = HeaderName::from_static("datastore-age");

/// Plain text.
pub fn text(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, mime::TEXT_PLAIN_UTF_8)).body(body)
}

/// An HTML page; whatever is not ours in it has been [`escaped`].
pub fn html(status: StatusCode, page: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, mime::TEXT_HTML_UTF_8))
        .body(page.to_owned())
}

/// The frame of an HTML page; `title` is one of our own texts.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    )
}

/// Text inside HTML, in elements and attribute values.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
    html
}

/// A wire shape as JSON.
pub fn json(status: StatusCode, doc: &impl Serialize) -> HttpResponse {
    json_as(status, &mime::APPLICATION_JSON, doc)
}

/// A wire shape as JSON of a more specific type.
pub fn json_as(status: StatusCode, kind: &Mime, doc: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, kind.as_ref())).body(json_bytes(doc))
}

/// A wire shape as the bytes of its JSON.
pub fn json_bytes(doc: &impl Serialize) -> Bytes {
    serde_json::to_vec(doc).expect("wire shapes have string keys only").into()
}

/// The answer to a write: one line, as text unless JSON is preferred. Never fails negotiation.
pub fn message(status: StatusCode, message: &str, request: &HeaderMap) -> HttpResponse {
    let offered = [&mime::TEXT_PLAIN_UTF_8, &mime::APPLICATION_JSON];
    match Accept::lenient(request).choose_equal(&offered) {
        Some(1) => json(status, &MessageDoc { message }),
        Some(_) | None => text(status, message.to_owned()),
    }
}

/// The answer to OPTIONS.
pub fn options(allow: &'static str) -> HttpResponse {
    HttpResponse::NoContent().insert_header((ALLOW, allow)).finish()
}

/// Tells who answered and what the client has seen now.
pub fn tell_source(headers: &mut HeaderMap, served_by: &Serving, session: &Token) {
    put(headers, &PARTITION, served_by.name.to_string());
    put(headers, &SESSION, session.to_string());
}

/// Tells which version was read or written.
pub fn tell_version(headers: &mut HeaderMap, version: Version) {
    put(headers, &VERSION, version.to_string());
    put(headers, &ETAG, conditions::etag(version));
}

/// Tells how old what was read may be. Ages are not measured yet.
pub fn tell_age(headers: &mut HeaderMap) {
    headers.insert(AGE.clone(), HeaderValue::from_static("unknown"));
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: String) {
    // Versions, tokens and partition names are all visible ASCII; what is not is left out.
    if let Ok(value) = value.try_into_value() {
        headers.insert(name.clone(), value);
    }
}
