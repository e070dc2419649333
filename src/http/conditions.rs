//! Preconditions of a request (RFC 9110 section 13): `If-Match` and `If-None-Match`.
//!
//! The entity tag of the stored form is `"epoch.seq"`; a rendering's has a suffix,
//! `"epoch.seq;json"`. For a *write* both headers speak of the version, so the part before `;`
//! counts, and the master judges inside its transaction. For a *read* `If-None-Match` speaks of the
//! representation at hand, so the whole tag counts. `If-Match` never matches a weak tag;
//! `If-None-Match` compares weakly. A tag that was never ours is well-formed and matches nothing.

use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::version::Version;
use crate::write::{Condition, Expected};

/// The strong entity tag of the stored form.
pub fn etag(version: Version) -> String {
    etag_of(version, None)
}

/// The entity tag of a rendering, or of the stored form where `variant` is `None`.
pub fn etag_of(version: Version, variant: Option<&str>) -> String {
    let mut tag = String::with_capacity(32);
    push_etag(&mut tag, version, variant);
    tag
}

/// Appends what [`etag_of`] makes. Every read tells one: thus by hand.
pub fn push_etag(text: &mut String, version: Version, variant: Option<&str>) {
    text.push('"');
    version.push_to(text);
    if let Some(variant) = variant {
        text.push(';');
        text.push_str(variant);
    }
    text.push('"');
}

/// A header that is neither `*` nor a list of entity tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{header} is `*` or a list of entity tags, each in double quotes, as in ETag: \"1.42\"")]
pub struct BadCondition {
    header: HeaderName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// What stands between the quotes.
    opaque: Vec<u8>,
}

impl Tag {
    fn version(&self) -> Option<Version> {
        let version = self.opaque.split(|&byte| byte == b';').next()?;
        std::str::from_utf8(version).ok()?.parse().ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

/// What a read has to do by its preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// Not what the client expected: 412.
    Failed,
}

/// The preconditions of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl Conditions {
    /// Those of the request.
    pub fn of(headers: &HeaderMap) -> Result<Self, BadCondition> {
        Ok(Self {
            if_match: tags(headers, IF_MATCH)?,
            if_none_match: tags(headers, IF_NONE_MATCH)?,
        })
    }

    /// The same from texts as the headers have them.
    pub fn of_texts(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> Result<Self, BadCondition> {
        let tags = |header, text: Option<&str>| match text {
            Some(text) => parse(text.as_bytes()).map(Some).ok_or(BadCondition { header }),
            None => Ok(None),
        };
        let if_match = tags(IF_MATCH, if_match)?;
        Ok(Self { if_match, if_none_match: tags(IF_NONE_MATCH, if_none_match)? })
    }

    /// What the master has to judge.
    pub fn for_write(&self) -> Condition {
        let expected = |tags: &Option<Tags>, weak_too: bool| {
            tags.as_ref().map(|tags| match tags {
                Tags::Any => Expected::Any,
                Tags::Listed(tags) => Expected::OneOf(
                    tags.iter()
                        .filter(|tag| weak_too || !tag.weak)
                        .filter_map(Tag::version)
                        .collect(),
                ),
            })
        };
        Condition {
            if_match: expected(&self.if_match, false),
            if_none_match: expected(&self.if_none_match, true),
        }
    }

    /// What a read has to do that found `version`, whose selected representation has `etag`.
    pub fn for_read(&self, version: Version, etag: &str) -> Verdict {
        let matched = match &self.if_match {
            None | Some(Tags::Any) => true,
            Some(Tags::Listed(tags)) => {
                tags.iter().any(|tag| !tag.weak && tag.version() == Some(version))
            }
        };
        if !matched {
            return Verdict::Failed;
        }
        let opaque = etag.trim_matches('"').as_bytes();
        let known = match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::Listed(tags)) => tags.iter().any(|tag| tag.opaque == opaque),
        };
        if known { Verdict::NotModified } else { Verdict::Proceed }
    }
}

fn tags(headers: &HeaderMap, header: HeaderName) -> Result<Option<Tags>, BadCondition> {
    let mut lines = Vec::new();
    for line in headers.get_all(&header) {
        lines.push(line.as_bytes());
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let joined = lines.join(&b","[..]);
    parse(&joined).map(Some).ok_or(BadCondition { header })
}

fn parse(text: &[u8]) -> Option<Tags> {
    if text.trim_ascii() == b"*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        // Empty items are allowed in lists (RFC 9110 section 5.6.1).
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|&byte| byte == b'"')?;
        let (opaque, after) = (&inner[..end], inner[end + 1..].trim_ascii_start());
        if opaque.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        if !after.is_empty() && !after.starts_with(b",") {
            return None;
        }
        tags.push(Tag { weak, opaque: opaque.to_vec() });
        rest = after;
    }
    (!tags.is_empty()).then_some(Tags::Listed(tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn conditions(if_match: &str, if_none_match: &str) -> Result<Conditions, BadCondition> {
        let mut headers = HeaderMap::new();
        for (name, text) in [(IF_MATCH, if_match), (IF_NONE_MATCH, if_none_match)] {
            if !text.is_empty() {
                headers.append(name, text.parse().unwrap());
            }
        }
        Conditions::of(&headers)
    }

    fn one_of(versions: &[&str]) -> Option<Expected> {
        Some(Expected::OneOf(versions.iter().map(|text| text.parse().unwrap()).collect()))
    }

    #[rstest]
    #[case("*", Some(Expected::Any))]
    #[case(" * ", Some(Expected::Any))]
    #[case("\"1.42\"", one_of(&["1.42"]))]
    #[case("\"1.42;json\"", one_of(&["1.42"]))]
    #[case("\"1.1\" , \"1.2\",,\"1.3;x,y\"", one_of(&["1.1", "1.2", "1.3"]))]
    #[case("\"never ours\"".replace(' ', "-"), one_of(&[]))]
    #[case("W/\"1.42\"", one_of(&[]))]
    fn a_write_expects_versions(
        #[case] header: impl AsRef<str>,
        #[case] expected: Option<Expected>,
    ) {
        let condition = conditions(header.as_ref(), "").unwrap().for_write();
        assert_eq!(condition, Condition { if_match: expected, if_none_match: None });
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let condition = conditions("", "W/\"1.42\", \"1.43;json\"").unwrap().for_write();
        assert_eq!(condition.if_none_match, one_of(&["1.42", "1.43"]));
    }

    #[rstest]
    #[case("1.42")]
    #[case("\"1.42")]
    #[case("\"a\" \"b\"")]
    #[case("\"a\", *")]
    #[case("w/\"1.42\"")]
    #[case("\"a b\"")]
    #[case(",")]
    fn what_is_no_list_of_tags_is_refused(#[case] header: &str) {
        assert!(conditions(header, "").is_err());
        assert!(conditions("", header).is_err());
    }

    #[rstest]
    #[case("", "", Verdict::Proceed)]
    #[case("", "\"1.42\"", Verdict::NotModified)]
    #[case("", "W/\"1.42\"", Verdict::NotModified)]
    #[case("", "\"1.41\", \"1.42\"", Verdict::NotModified)]
    #[case("", "\"1.42;json\"", Verdict::Proceed)]
    #[case("", "\"1.41\"", Verdict::Proceed)]
    #[case("", "*", Verdict::NotModified)]
    #[case("\"1.42\"", "", Verdict::Proceed)]
    #[case("\"1.42;json\"", "", Verdict::Proceed)]
    #[case("*", "", Verdict::Proceed)]
    #[case("\"1.41\"", "", Verdict::Failed)]
    #[case("W/\"1.42\"", "", Verdict::Failed)]
    #[case("\"1.41\"", "\"1.42\"", Verdict::Failed)]
    fn a_read_compares_with_what_it_found(
        #[case] if_match: &str,
        #[case] if_none_match: &str,
        #[case] verdict: Verdict,
    ) {
        let version: Version = "1.42".parse().unwrap();
        let conditions = conditions(if_match, if_none_match).unwrap();
        assert_eq!(conditions.for_read(version, &etag(version)), verdict);
    }
}
