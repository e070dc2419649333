//! `/bucket/` and `/canonicalbucket/`: the keys, in byte order, a page at a time.
//!
//! Pages go by key, never by offset, so that a page costs the same wherever it begins and writes in
//! between shift nothing. `next` (and `Link: rel="next"`) leads to what follows, on the path that
//! was asked; clients follow it as it is. A page ends at `limit` keys, at [`PAGE_BYTES_MAX`], or
//! when the partition has looked at [`SCANNED_PER_KEY`] rows per key asked for: it may be short,
//! even empty, and have a `next`.
//!
//! `values=true` sends the values along, a line of JSON each. `count=true` tells how many keys
//! there are under the prefix, on all pages together; it looks at every one of them, so ask once.

use std::fmt::Write as _;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LINK, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::answer::Told;
use super::body::{self, Budget};
use super::code::Code;
use super::error::Problem;
use super::list_form::ListForm;
use super::negotiate::Accept;
use super::query::Query;
use super::way::Way;
use super::{answer, paths, session};
use crate::partition::Range;
use crate::record::{KeyError, Record, Space};
use crate::store::Store;
use crate::store::answer::List;

/// Keys on a page, unless asked otherwise.
pub const LIMIT_DEFAULT: usize = 1_000;
/// The most keys that may be asked for: what one answer carries without making others wait.
pub const LIMIT_MAX: usize = 10_000;
/// A page of long keys ends where its paths reach this size, one of values where they do.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Rows looked at for each key asked for, tombstones included.
pub const SCANNED_PER_KEY: usize = 10;

const ALLOW: &str = "GET, HEAD, OPTIONS";
const AFTER: &str = "after";
const COUNT: &str = "count";
const LIMIT: &str = "limit";
const PREFIX: &str = "prefix";
const VALUES: &str = "values";
/// What the next page is asked for in the same way.
const KEPT: [&str; 5] =
    [PREFIX, session::PARTITION, session::CONSISTENCY, session::MAX_AGE, session::KEEP];

/// Answers one request.
pub async fn serve(
    request: HttpRequest,
    store: web::Data<Store>,
    budget: web::Data<Budget>,
) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => list(&request, &store, &budget).await,
        // As of any other value: the key is there, and it is empty.
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Err(KeyError::Empty.into()),
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

/// `/bucket` leads to `/bucket/`, with the same query; so does `/canonicalbucket`.
pub async fn redirect(request: HttpRequest) -> HttpResponse {
    let answered = match *request.method() {
        Method::GET | Method::HEAD => {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            let target = format!("{}/{query}", request.uri().path());
            let mut response = HttpResponse::PermanentRedirect();
            match HeaderValue::from_str(&target) {
                Ok(target) => Ok(response.insert_header((LOCATION, target)).finish()),
                Err(_) => Err(Problem::new(Code::BadQuery, "the query cannot be repeated")),
            }
        }
        Method::OPTIONS => Ok(answer::options(ALLOW)),
        _ => Err(Problem::method_not_allowed(ALLOW)),
    };
    answered.unwrap_or_else(|problem| problem.respond(request.headers()))
}

async fn list(
    request: &HttpRequest,
    store: &Store,
    budget: &Arc<Budget>,
) -> Result<HttpResponse, Problem> {
    let way = Way::of(request);
    let headers = request.headers();
    let accept = Accept::of(headers)?;
    let asked = Asked::of(way, request)?;
    let form = ListForm::choose(&accept, asked.values)?;
    let token = session::token(headers, &asked.query, store.set_id())?;
    let need = way.need(&asked.query, headers, token.as_ref())?;
    let list = store.list(&asked.range(), &need, token.as_ref()).await?;
    let mut page = asked.page(way.base(), &list);
    if asked.count {
        page.count = Some(store.count(asked.bytes(PREFIX).unwrap_or_default(), &need).await?);
    }
    let mut response = HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, form.header()))
        .body(body::answer(form.render(&page), budget)?);
    if let Some(next) = &page.next {
        let link = HeaderValue::from_str(&format!("<{next}>; rel=\"next\""));
        response.headers_mut().insert(LINK, link.expect("an emitted path is visible ASCII"));
    }
    if let Some(count) = page.count {
        response.headers_mut().insert(answer::COUNT.clone(), HeaderValue::from(count));
    }
    let names: Vec<&str> = list.served_by.iter().map(|serving| serving.name.as_ref()).collect();
    let mut told = Told::default();
    told.source(&names.join(", "), &list.session);
    told.age(list.age);
    told.put_into(response.headers_mut());
    session::keep(response.headers_mut(), &asked.query);
    Ok(response)
}

/// What the query asks for.
struct Asked {
    query: Query,
    limit: Option<usize>,
    values: bool,
    count: bool,
}

/// What is shown of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// The paths of the keys.
    pub paths: Vec<String>,
    /// The rows that they name.
    pub rows: &'a [Record],
    /// Whether the rows have their values.
    pub values: bool,
    /// Where the next page is.
    pub next: Option<String>,
    /// How many keys there are, if that was asked.
    pub count: Option<usize>,
}

impl Asked {
    fn of(way: Way, request: &HttpRequest) -> Result<Self, Problem> {
        let mut known = vec![AFTER, COUNT, LIMIT];
        known.extend(way.read_parameters());
        known.extend([PREFIX, VALUES]);
        let query = Query::parse(request.uri().query(), &known)?;
        let limit = query.number(LIMIT, 1..=LIMIT_MAX)?;
        let (values, count) = (query.flag(VALUES)?, query.flag(COUNT)?);
        Ok(Self { query, limit, values, count })
    }

    fn range(&self) -> Range {
        let keys_max = self.limit.unwrap_or(LIMIT_DEFAULT);
        Range {
            space: Space::Data,
            prefix: self.bytes(PREFIX).unwrap_or_default(),
            after: self.bytes(AFTER),
            keys_max,
            scanned_max: keys_max.saturating_mul(SCANNED_PER_KEY),
            value_bytes_max: self.values.then_some(PAGE_BYTES_MAX),
        }
    }

    fn bytes(&self, name: &str) -> Option<Bytes> {
        self.query.bytes(name).map(Bytes::copy_from_slice)
    }

    /// Cuts the list where its paths grow too long; the next page begins after the last key shown.
    fn page<'a>(&self, base: &str, list: &'a List) -> Page<'a> {
        let (mut paths, mut bytes, mut after) = (Vec::new(), 0, list.next.as_ref());
        for (place, row) in list.rows.iter().enumerate() {
            let path = paths::emit(paths::BUCKET, row.key.bytes());
            bytes += path.len();
            paths.push(path);
            if bytes >= PAGE_BYTES_MAX && place + 1 < list.rows.len() {
                after = Some(row.key.bytes());
                break;
            }
        }
        let rows = &list.rows[..paths.len()];
        let next = after.map(|after| self.next(base, after));
        Page { paths, rows, values: self.values, next, count: None }
    }

    /// The same question, from `after` on.
    fn next(&self, base: &str, after: &[u8]) -> String {
        let mut target = format!("{base}?{AFTER}={}", paths::emit_value(after));
        for name in KEPT {
            if let Some(value) = self.query.bytes(name) {
                push(&mut target, name, &paths::emit_value(value));
            }
        }
        if let Some(limit) = self.limit {
            push(&mut target, LIMIT, &limit.to_string());
        }
        if self.values {
            push(&mut target, VALUES, "true");
        }
        target
    }
}

fn push(target: &mut String, name: &str, value: &str) {
    write!(target, "&{name}={value}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Key, Record, Space};
    use crate::store::answer::Serving;
    use crate::vector::{Token, Vector};
    use crate::version::{PartitionId, SetId, Version};
    use actix_web::test::TestRequest;

    fn asked(query: &str) -> Asked {
        let request = TestRequest::with_uri(&format!("/bucket/?{query}")).to_http_request();
        Asked::of(Way::Lazy, &request).unwrap()
    }

    fn found(keys: &[Vec<u8>], next: Option<&'static [u8]>) -> List {
        let row = |key: &Vec<u8>| {
            let key = Key::stored(Space::Data, key.clone());
            Record::new(key, Version::ZERO, PartitionId(1), None)
        };
        List {
            rows: keys.iter().map(row).collect(),
            next: next.map(Bytes::from_static),
            served_by: vec![Serving { id: PartitionId(1), name: "a".into() }],
            age: None,
            session: Token { set: SetId(1), vector: Vector::new() },
        }
    }

    #[test]
    fn a_query_becomes_a_range() {
        let range = asked("prefix=a%FF&after=a%FFb&limit=5").range();
        assert_eq!(range.prefix.as_ref(), b"a\xff");
        assert_eq!(range.after.as_deref(), Some(&b"a\xffb"[..]));
        assert_eq!((range.keys_max, range.scanned_max), (5, 50));
        let range = asked("").range();
        assert_eq!((range.keys_max, range.scanned_max), (1_000, 10_000));
        assert_eq!(range.after, None);
    }

    #[test]
    fn next_asks_the_same_question_further_on() {
        let asked = asked("limit=2&prefix=a%26b&partition=store_1");
        let list = found(&[b"a&b1".into()], Some(b"a&b1/\xff"));
        let page = asked.page("/bucket/", &list);
        assert_eq!(page.paths, ["/bucket/a%26b1"]);
        let next = "/bucket/?after=a%26b1%2F%FF&prefix=a%26b&partition=store_1&limit=2";
        assert_eq!(page.next.as_deref(), Some(next));
        let again = Asked::of(Way::Lazy, &TestRequest::with_uri(next).to_http_request()).unwrap();
        assert_eq!(again.bytes(AFTER).as_deref(), Some(&b"a&b1/\xff"[..]));
    }

    #[test]
    fn the_last_page_has_no_next() {
        assert_eq!(asked("").page("/bucket/", &found(&[b"a".into()], None)).next, None);
    }

    #[test]
    fn a_page_of_long_keys_is_cut_and_goes_on_after_its_last_key() {
        let keys: Vec<Vec<u8>> =
            (0..1_000_u32).map(|n| [&n.to_be_bytes()[..], &[0xff; 1_000]].concat()).collect();
        let list = found(&keys, None);
        let page = asked("").page("/bucket/", &list);
        let shown = page.paths.len();
        assert!(page.paths.iter().map(String::len).sum::<usize>() < PAGE_BYTES_MAX + 4_000);
        assert!(shown > 300 && shown < 400, "{shown}");
        let last = paths::emit_value(&keys[shown - 1]);
        assert_eq!(page.next, Some(format!("/bucket/?after={last}")));
    }
}
