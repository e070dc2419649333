//! What a read needs: what the client has seen already, how old the answer may be, and where it is
//! read.
//!
//! `Datastore-Session` carries a token from one answer to the next request, on any front end.
//! Several tokens, in one header or in many, are joined. With `?session=cookie` it travels in a
//! cookie as well, for clients that keep cookies and no headers; a cookie that is no token of this
//! set is replaced, since who sends it cannot help it.
//!
//! | `consistency=` | a read is served by |
//! |---|---|
//! | `any` (default without a token) | any partition |
//! | `session` (default with one) | a partition that covers the token |
//! | `bounded` (`max_age_ms=N` means it) | a partition that is at most N ms old, and covers the token |
//! | `master` | the key's master, which covers the token |
//!
//! `partition=NAME` reads exactly there, as it is, unless `consistency` or `max_age_ms` stands
//! beside it. `Cache-Control: max-age=N` in a request is a wish: younger partitions are asked
//! first, and nothing is refused for it.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

use super::answer::SESSION;
use super::code::Code;
use super::error::{Problem, shown};
use super::query::Query;
use crate::store::answer::{Need, Place, StoreError};
use crate::vector::{Token, Vector};
use crate::version::SetId;

/// Where a read is served.
pub const CONSISTENCY: &str = "consistency";
/// How old an answer may be, in milliseconds.
pub const MAX_AGE: &str = "max_age_ms";
/// Pins a read to one partition.
pub const PARTITION: &str = "partition";
/// `cookie`: the token is kept in a cookie.
pub const KEEP: &str = "session";

/// The greatest age that may be asked for: a day is far from anything that is worth a bound.
const MAX_AGE_MS_MAX: usize = 86_400_000;
const COOKIE_NAME: &str = "datastore-session";

/// What `consistency` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consistency {
    Any,
    Session,
    Bounded,
    Master,
}

/// The token that came with the request. One of another set is refused: nothing here covers it.
pub fn token(headers: &HeaderMap, query: &Query, set: SetId) -> Result<Option<Token>, Problem> {
    let mut joined: Option<Vector> = None;
    for line in headers.get_all(&SESSION) {
        for text in line.as_bytes().split(|&byte| byte == b',') {
            let text = text.trim_ascii();
            let token = parsed(text).ok_or_else(|| {
                let detail = format!("{} is not a session token of this service", shown(text));
                Problem::new(Code::BadSession, detail)
            })?;
            if token.set != set {
                return Err(StoreError::ForeignToken.into());
            }
            joined.get_or_insert_default().join(&token.vector);
        }
    }
    if keeps_cookie(query)? {
        for token in cookies(headers).filter(|token| token.set == set) {
            joined.get_or_insert_default().join(&token.vector);
        }
    }
    Ok(joined.map(|vector| Token { set, vector }))
}

fn parsed(text: &[u8]) -> Option<Token> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn keeps_cookie(query: &Query) -> Result<bool, Problem> {
    Ok(query.choice(KEEP, &[("cookie", ())])?.is_some())
}

/// The tokens in the request's cookies.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = Token> {
    let pairs = headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|&b| b == b';'));
    pairs.filter_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(COOKIE_NAME.as_bytes())?;
        parsed(value.strip_prefix(b"=")?)
    })
}

/// Puts the token of an answer into a cookie, if the request asked for one: sent back to this
/// service only, with no request that another site made, and out of reach of scripts.
pub fn keep(answer: &mut HeaderMap, query: &Query) {
    if query.bytes(KEEP).is_none() {
        return;
    }
    if let Some(token) = answer.get(&SESSION).and_then(|token| token.to_str().ok()) {
        let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.append(SET_COOKIE, cookie);
        }
    }
}

/// What a read needs.
pub fn need(query: &Query, headers: &HeaderMap, session: Option<&Token>) -> Result<Need, Problem> {
    let max_age = query.number(MAX_AGE, 1..=MAX_AGE_MS_MAX)?;
    let max_age = max_age.map(|ms| Duration::from_millis(ms as u64));
    let given = query.choice(
        CONSISTENCY,
        &[
            ("any", Consistency::Any),
            ("session", Consistency::Session),
            ("bounded", Consistency::Bounded),
            ("master", Consistency::Master),
        ],
    )?;
    // A name that is not UTF-8 is nobody's: the store says so.
    let name = query.bytes(PARTITION).map(|name| String::from_utf8_lossy(name).into_owned());
    let consistency = match (given, max_age) {
        (Some(Consistency::Bounded) | None, Some(_)) => Consistency::Bounded,
        (Some(_), Some(_)) => return Err(contradiction("max_age_ms is for consistency=bounded")),
        (Some(Consistency::Bounded), None) => {
            return Err(contradiction("consistency=bounded needs max_age_ms"));
        }
        (Some(given), None) => given,
        (None, None) if session.is_some() && name.is_none() => Consistency::Session,
        (None, None) => Consistency::Any,
    };
    let place = match (name, consistency) {
        (Some(_), Consistency::Master) => {
            return Err(contradiction("partition and consistency=master name two places"));
        }
        (Some(name), _) => Place::At(name),
        (None, Consistency::Master) => Place::Master,
        (None, _) => Place::Anywhere,
    };
    let covers = match consistency {
        Consistency::Any => Vector::new(),
        Consistency::Session | Consistency::Bounded | Consistency::Master => {
            session.map(|token| token.vector.clone()).unwrap_or_default()
        }
    };
    Ok(Need { place, covers, max_age, prefers: preferred(headers) })
}

fn contradiction(detail: &str) -> Problem {
    Problem::new(Code::BadParameter, detail)
}

/// The age that `Cache-Control: max-age` wishes for. What cannot be read is no wish.
fn preferred(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).filter_map(|line| line.to_str().ok());
    let mut ages = lines.flat_map(|line| line.split(',')).filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds: u32 = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age").then(|| Duration::from_secs(seconds.into()))
    });
    ages.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Epoch, PartitionId, Seq, Version};

    const SET: SetId = SetId(7);

    fn given(set: SetId, origin: u16, seq: u64) -> Token {
        let version = Version::new(Epoch::FIRST, Seq::new(seq).unwrap());
        Token { set, vector: [(PartitionId(origin), version)].into_iter().collect() }
    }

    fn headers(lines: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SESSION.clone(), line.parse().unwrap());
        }
        headers
    }

    fn query(text: &str) -> Query {
        Query::parse(Some(text), &[CONSISTENCY, MAX_AGE, PARTITION, KEEP]).unwrap()
    }

    #[test]
    fn several_tokens_are_joined() {
        let (a, b, c) = (given(SET, 1, 5), given(SET, 2, 7), given(SET, 1, 6));
        let mut expected = b.vector.clone();
        expected.join(&c.vector);
        let headers = headers(&[format!("{a}, {b}"), c.to_string()]);
        let token = token(&headers, &query(""), SET).unwrap().unwrap();
        assert_eq!(token.vector, expected);
    }

    #[test]
    fn what_is_no_token_of_this_set_is_refused() {
        let code = |line: String| {
            token(&headers(&[line]), &query(""), SET).map_err(|problem| problem.code())
        };
        assert_eq!(code("nonsense".into()), Err(Code::BadSession));
        assert_eq!(code(String::new()), Err(Code::BadSession));
        assert_eq!(code(format!("{},", given(SET, 1, 1))), Err(Code::BadSession));
        assert_eq!(code(given(SetId(8), 1, 1).to_string()), Err(Code::SessionLost));
        assert_eq!(token(&HeaderMap::new(), &query(""), SET), Ok(None));
    }

    #[test]
    fn a_cookie_counts_where_it_is_asked_for() {
        let mut headers = HeaderMap::new();
        let (ours, foreign) = (given(SET, 1, 5), given(SetId(8), 1, 9));
        let line = format!("a=b; datastore-session={ours}; datastore-session={foreign}");
        headers.insert(COOKIE, line.parse().unwrap());
        headers.append(COOKIE, "datastore-session=nonsense".parse().unwrap());
        assert_eq!(token(&headers, &query(""), SET), Ok(None));
        assert_eq!(token(&headers, &query("session=cookie"), SET), Ok(Some(ours.clone())));
        let refused = token(&headers, &query("session=url"), SET).map_err(|problem| problem.code());
        assert_eq!(refused, Err(Code::BadParameter));

        let mut answer = HeaderMap::new();
        answer.insert(SESSION.clone(), ours.to_string().parse().unwrap());
        keep(&mut answer, &query(""));
        assert!(!answer.contains_key(SET_COOKIE));
        keep(&mut answer, &query("session=cookie"));
        let cookie = answer.get(SET_COOKIE).unwrap().to_str().unwrap();
        assert_eq!(cookie, format!("datastore-session={ours}; Path=/; HttpOnly; SameSite=Strict"));
    }

    #[test]
    fn the_need_follows_from_query_and_token() {
        let token = given(SET, 1, 5);
        let covers = || token.vector.clone();
        let age = Duration::from_millis(500);
        let bounded = |covers| Need { covers, ..Need::bounded(age) };
        let at = |covers| Need { covers, ..Need::at("b") };
        for (text, without, with) in [
            ("", Need::any(), Need::session(covers())),
            ("consistency=any", Need::any(), Need::any()),
            ("consistency=session", Need::any(), Need::session(covers())),
            ("max_age_ms=500", Need::bounded(age), bounded(covers())),
            ("consistency=bounded&max_age_ms=500", Need::bounded(age), bounded(covers())),
            ("consistency=master", Need::master(Vector::new()), Need::master(covers())),
            ("partition=b", Need::at("b"), Need::at("b")),
            ("partition=b&consistency=session", Need::at("b"), at(covers())),
        ] {
            let headers = HeaderMap::new();
            assert_eq!(need(&query(text), &headers, None), Ok(without), "{text}");
            assert_eq!(need(&query(text), &headers, Some(&token)), Ok(with), "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for text in [
            "consistency=strong",
            "consistency=bounded",
            "consistency=any&max_age_ms=5",
            "consistency=session&max_age_ms=5",
            "consistency=master&max_age_ms=5",
            "partition=b&consistency=master",
            "max_age_ms=0",
            "max_age_ms=86400001",
            "max_age_ms=1s",
        ] {
            let refused = need(&query(text), &HeaderMap::new(), None);
            assert_eq!(refused.map_err(|p| p.code()), Err(Code::BadParameter), "{text}");
        }
    }

    #[test]
    fn a_wish_never_refuses() {
        let prefers = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, line.parse().unwrap());
            need(&query(""), &headers, None).unwrap().prefers
        };
        assert_eq!(prefers("max-age=5"), Some(Duration::from_secs(5)));
        assert_eq!(prefers("no-cache, Max-Age=0"), Some(Duration::ZERO));
        for nothing in ["no-store", "max-age", "max-age=x", "max-age=-1", "s-maxage=5", ""] {
            assert_eq!(prefers(nothing), None, "{nothing}");
        }
    }
}
