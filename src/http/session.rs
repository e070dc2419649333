//! What a request has seen already, and what its read therefore needs.
//!
//! `Datastore-Session` carries a token from one answer to the next request, on any front end.
//! Several tokens, in one header or in many, are joined. A read with a token is a session read,
//! unless `?partition=NAME` asks to read exactly there.

use actix_web::http::header::HeaderMap;

use super::answer::SESSION;
use super::code::Code;
use super::error::{Problem, shown};
use super::query::Query;
use crate::store::answer::{Need, StoreError};
use crate::vector::{Token, Vector};
use crate::version::SetId;

/// The query parameter that pins a read to one partition.
pub const PARTITION: &str = "partition";

/// The token that came with the request. One of another set is refused: nothing here covers it.
pub fn token(headers: &HeaderMap, set: SetId) -> Result<Option<Token>, Problem> {
    let mut joined: Option<Vector> = None;
    for line in headers.get_all(&SESSION) {
        for text in line.as_bytes().split(|&byte| byte == b',') {
            let text = text.trim_ascii();
            let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            let token: Token = parsed.ok_or_else(|| {
                let detail = format!("{} is not a session token of this service", shown(text));
                Problem::new(Code::BadSession, detail)
            })?;
            if token.set != set {
                return Err(StoreError::ForeignToken.into());
            }
            joined.get_or_insert_default().join(&token.vector);
        }
    }
    Ok(joined.map(|vector| Token { set, vector }))
}

/// What a read needs.
pub fn need(query: &Query, session: Option<&Token>) -> Need {
    match (query.bytes(PARTITION), session) {
        // A name that is not UTF-8 is nobody's: the store says so.
        (Some(name), _) => Need::At(String::from_utf8_lossy(name).into_owned()),
        (None, Some(token)) => Need::Session(token.vector.clone()),
        (None, None) => Need::Any,
    }
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

    #[test]
    fn several_tokens_are_joined() {
        let (a, b, c) = (given(SET, 1, 5), given(SET, 2, 7), given(SET, 1, 6));
        let mut expected = b.vector.clone();
        expected.join(&c.vector);
        let headers = headers(&[format!("{a}, {b}"), c.to_string()]);
        let token = token(&headers, SET).unwrap().unwrap();
        assert_eq!(token.vector, expected);
    }

    #[test]
    fn what_is_no_token_of_this_set_is_refused() {
        let code = |line: String| token(&headers(&[line]), SET).map_err(|problem| problem.code());
        assert_eq!(code("nonsense".into()), Err(Code::BadSession));
        assert_eq!(code(String::new()), Err(Code::BadSession));
        assert_eq!(code(format!("{},", given(SET, 1, 1))), Err(Code::BadSession));
        assert_eq!(code(given(SetId(8), 1, 1).to_string()), Err(Code::SessionLost));
        assert_eq!(token(&HeaderMap::new(), SET), Ok(None));
    }

    #[test]
    fn the_need_follows_from_query_and_token() {
        let query = |text| Query::parse(Some(text), &[PARTITION]).unwrap();
        let token = given(SET, 1, 5);
        assert_eq!(need(&query(""), None), Need::Any);
        assert_eq!(need(&query(""), Some(&token)), Need::Session(token.vector.clone()));
        assert_eq!(need(&query("partition=b"), Some(&token)), Need::At("b".into()));
    }
}
