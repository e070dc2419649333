//! Query parameters: bytes, each at most once, none unknown.
//!
//! A misspelt parameter that is ignored turns `?limt=10` into the whole list, so it is an error
//! that names the nearest right one. Values are percent-decoded as keys are (`+` is itself),
//! because prefixes and positions are keys.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::code::Code;
use super::error::{Problem, shown};
use super::paths;
use crate::duration;

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(&'static str, Vec<u8>)>);

impl Query {
    /// Reads the query of a request to a resource that knows the parameters `known`.
    pub fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let decoded = |text| {
            paths::decode(text).map_err(|error| Problem::new(Code::BadQuery, error.to_string()))
        };
        let mut given: Vec<(&'static str, Vec<u8>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            let Some(&name) = known.iter().find(|known| known.as_bytes() == name) else {
                return Err(unknown(&name, known));
            };
            if given.iter().any(|&(earlier, _)| earlier == name) {
                let detail = format!("the query parameter {name} is given more than once");
                return Err(Problem::new(Code::RepeatedParameter, detail));
            }
            given.push((name, decoded(value)?));
        }
        Ok(Self(given))
    }

    /// A request that takes no parameters at all.
    pub fn none(query: Option<&str>) -> Result<(), Problem> {
        Self::parse(query, &[]).map(|_| ())
    }

    /// The value of a parameter, as bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|&&(given, _)| given == name).map(|(_, value)| value.as_slice())
    }

    /// A whole number within limits.
    pub fn number(
        &self,
        name: &str,
        limits: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        self.value(name, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && limits.contains(number)).ok_or_else(|| {
                format!("a whole number from {} to {}", limits.start(), limits.end())
            })
        })
    }

    /// A duration of at most `max`.
    pub fn duration(&self, name: &str, max: Duration) -> Result<Option<Duration>, Problem> {
        self.value(name, |text| {
            duration::parse(text).ok().filter(|&given| given <= max).ok_or_else(|| {
                format!("a duration such as 500ms or 5s, at most {}", duration::format(max))
            })
        })
    }

    /// `true` or `false`; without the parameter `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = self.value(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        })?;
        Ok(flag.unwrap_or_default())
    }

    /// One of a few words, and what it stands for.
    pub fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        self.value(name, |text| {
            let chosen = words.iter().find(|(word, _)| *word == text);
            chosen.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                words.join(" or ")
            })
        })
    }

    /// A parameter that needs no value to be on.
    pub fn switch(&self, name: &str) -> Result<bool, Problem> {
        if self.bytes(name) == Some(b"") { Ok(true) } else { self.flag(name) }
    }

    /// A value that `read` understands, or says the form of.
    fn value<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let Some(bytes) = self.bytes(name) else { return Ok(None) };
        // What is not UTF-8 is not of any form either.
        read(&String::from_utf8_lossy(bytes)).map(Some).map_err(|form| {
            let detail = format!("{name} must be {form}; given was {}", shown(bytes));
            Problem::new(Code::BadParameter, detail)
        })
    }
}

fn unknown(name: &[u8], known: &[&str]) -> Problem {
    let text = String::from_utf8_lossy(name);
    // A hostile name may be long, and the distance costs the product of the lengths.
    let start: String = text.chars().take(32).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&start, known), known))
        .filter(|&(distance, known)| distance <= known.len().max(4) / 2)
        .min();
    let hint = match nearest {
        Some((_, nearest)) => format!("; did you mean {nearest}?"),
        None => String::new(),
    };
    let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let detail = format!("unknown query parameter {}{hint} (known here: {list})", shown(name));
    Problem::new(Code::UnknownParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody as _;
    use actix_web::http::header::HeaderMap;
    use rstest::rstest;

    const KNOWN: [&str; 4] = ["after", "limit", "partition", "prefix"];

    fn parse(query: &str) -> Result<Query, Problem> {
        Query::parse(Some(query), &KNOWN)
    }

    fn text(problem: &Problem) -> String {
        let body = problem.respond(&HeaderMap::new()).into_body().try_into_bytes().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn values_are_bytes_and_plus_is_itself() {
        let query = parse("prefix=a%FF%00+b=c&after=&").unwrap();
        assert_eq!(query.bytes("prefix"), Some(&b"a\xff\0+b=c"[..]));
        assert_eq!(query.bytes("after"), Some(&b""[..]));
        assert_eq!(query.bytes("limit"), None);
        assert_eq!(Query::parse(None, &KNOWN), Ok(Query(Vec::new())));
        assert_eq!(Query::none(Some("")), Ok(()));
    }

    #[rstest]
    #[case("limt=10", Code::UnknownParameter, "did you mean limit?")]
    #[case("Prefix=a", Code::UnknownParameter, "did you mean prefix?")]
    #[case("zzzzzzzzzz", Code::UnknownParameter, "known here: after, limit, partition, prefix")]
    #[case("%ff=1", Code::UnknownParameter, r"\\xff")]
    #[case("limit=1&limit=1", Code::RepeatedParameter, "limit is given more than once")]
    #[case("l%69mit=1&limit=1", Code::RepeatedParameter, "limit is given more than once")]
    #[case("prefix=%", Code::BadQuery, "the % at byte 0")]
    #[case("a%2=", Code::BadQuery, "the % at byte 1")]
    fn what_is_not_understood_is_refused(
        #[case] query: &str,
        #[case] code: Code,
        #[case] says: &str,
    ) {
        let problem = parse(query).unwrap_err();
        assert_eq!(problem.code(), code);
        assert!(text(&problem).contains(says), "{}", text(&problem));
    }

    #[rstest]
    #[case("limit=1", Some(1))]
    #[case("limit=10000", Some(10_000))]
    #[case("", None)]
    fn numbers_within_the_limits(#[case] query: &str, #[case] number: Option<usize>) {
        assert_eq!(parse(query).unwrap().number("limit", 1..=10_000), Ok(number));
    }

    #[rstest]
    #[case("0")]
    #[case("10001")]
    #[case("")]
    #[case("-1")]
    #[case("+5")]
    #[case("ten")]
    #[case("%FF")]
    #[case("99999999999999999999999")]
    fn other_numbers_are_named_with_their_limits(#[case] value: &str) {
        let query = parse(&format!("limit={value}")).unwrap();
        let problem = query.number("limit", 1..=10_000).unwrap_err();
        assert_eq!(problem.code(), Code::BadParameter);
        let text = text(&problem);
        assert!(text.contains("limit must be a whole number from 1 to 10000; given was"), "{text}");
    }

    #[test]
    fn durations_have_a_bound() {
        let read = |text: &str| {
            let query = Query::parse(Some(text), &["wait"]).unwrap();
            query.duration("wait", Duration::from_secs(60))
        };
        assert_eq!(read("wait=500ms"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(read("wait=60"), Ok(Some(Duration::from_secs(60))));
        for text_in in ["wait=61s", "wait=5x", "wait="] {
            let problem = read(text_in).unwrap_err();
            assert!(text(&problem).contains("at most 1m"), "{}", text(&problem));
        }
    }
}
