//! The media type that a value is stored under.
//!
//! As sent, so that `curl URL` gives back what was put. Two cases have no type worth keeping: none
//! at all, and the form type that `curl -d` adds by itself; both become text where the bytes are
//! text. A multipart form is refused, because its boundaries would become part of the value.

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use mime::Mime;

use super::code::Code;
use super::error::{Problem, shown};
use crate::merge::Patch;
use crate::record::{CONTENT_TYPE_BYTES_WIDTH, ContentType};
use crate::write::Change;

/// The patches that are merged.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// Tells which patches are taken.
pub static ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// What the headers say about the body, checked before a byte of it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// This type, as it was written.
    As(String),
    /// Nothing that tells what the bytes are.
    Untold,
}

impl Declared {
    /// Checks `Content-Type` and `Content-Encoding`.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        for encoding in headers.get_all(CONTENT_ENCODING) {
            if !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
                return Err(Problem::encoded_body(encoding.as_bytes()));
            }
        }
        let mut types = headers.get_all(CONTENT_TYPE);
        let Some(first) = types.next() else { return Ok(Self::Untold) };
        if types.next().is_some() {
            let detail = "the request has more than one Content-Type header";
            return Err(Problem::new(Code::BadContentType, detail));
        }
        Self::parse(first.as_bytes())
    }

    /// Checks the same of a PATCH: of the types that call themselves patches one is known, and any
    /// other type is a new value.
    pub fn of_patch(headers: &HeaderMap) -> Result<Self, Problem> {
        let declared = Self::of(headers)?;
        declared.check_patch()?;
        Ok(declared)
    }

    /// Refuses a patch that cannot be merged.
    pub fn check_patch(&self) -> Result<(), Problem> {
        let Some(essence) = self.essence() else { return Ok(()) };
        let is_patch = essence.split_once('/').is_some_and(|(_, sub)| sub.contains("patch"));
        if !is_patch || essence == MERGE_PATCH {
            return Ok(());
        }
        let detail = format!(
            "a patch of type {} cannot be applied; {MERGE_PATCH} can",
            shown(essence.as_bytes())
        );
        Err(Problem::new(Code::UnsupportedPatch, detail)
            .with(ACCEPT_PATCH.clone(), HeaderValue::from_static(MERGE_PATCH)))
    }

    /// Whether the body is to be merged.
    pub fn is_merge_patch(&self) -> bool {
        self.essence().is_some_and(|essence| essence == MERGE_PATCH)
    }

    /// The change that a merge patch is.
    pub fn merge(self, text: Bytes, value_bytes_max: usize) -> Result<Change, Problem> {
        let patch = Patch::parse(text).map_err(|error| {
            Problem::new(Code::BadPatch, format!("the patch cannot be used: {error}"))
        })?;
        Ok(Change::Merge { patch, value_bytes_max })
    }

    /// Type and subtype, in lower case.
    fn essence(&self) -> Option<String> {
        match self {
            Self::As(text) => Some(text.split(';').next()?.trim().to_ascii_lowercase()),
            Self::Untold => None,
        }
    }

    /// Checks a type as a header would name it.
    pub fn parse(header: &[u8]) -> Result<Self, Problem> {
        let header = header.trim_ascii();
        if header.is_empty() {
            return Ok(Self::Untold);
        }
        let bytes = header.len();
        if bytes > CONTENT_TYPE_BYTES_WIDTH {
            let detail = format!(
                "the Content-Type has {bytes} bytes; the limit is {CONTENT_TYPE_BYTES_WIDTH}"
            );
            return Err(Problem::new(Code::BadContentType, detail));
        }
        let bad = || {
            let detail = format!("the Content-Type {} is not a media type", shown(header));
            Problem::new(Code::BadContentType, detail)
        };
        let text = std::str::from_utf8(header).map_err(|_| bad())?;
        // What nearly all say is known to be one, and need not be parsed.
        if text == mime::TEXT_PLAIN_UTF_8.as_ref() || text == mime::APPLICATION_JSON.as_ref() {
            return Ok(Self::As(text.to_owned()));
        }
        let mime: Mime = text.parse().map_err(|_| bad())?;
        // The parser lets wildcards and an empty subtype pass.
        let vague =
            [mime.type_(), mime.subtype()].iter().any(|name| matches!(name.as_str(), "" | "*"));
        if vague || !header.is_ascii() {
            return Err(bad());
        }
        if mime.type_() == mime::MULTIPART {
            let detail = format!(
                "a value is stored as it is sent, and {} is a form around it; send the bytes \
                 themselves: curl --data-binary @FILE -H 'Content-Type: TYPE' URL",
                mime.essence_str()
            );
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        if mime.essence_str() == mime::APPLICATION_WWW_FORM_URLENCODED.essence_str() {
            return Ok(Self::Untold);
        }
        Ok(Self::As(text.to_owned()))
    }

    /// The type to store with `value`.
    pub fn stored(self, value: &[u8]) -> ContentType {
        match self {
            Self::As(text) => text.into(),
            Self::Untold if std::str::from_utf8(value).is_ok() => {
                mime::TEXT_PLAIN_UTF_8.as_ref().into()
            }
            Self::Untold => mime::APPLICATION_OCTET_STREAM.as_ref().into(),
        }
    }
}

/// A stored type for negotiation; one that was brought in by other ways than ours may be no type.
pub fn parse_stored(content_type: &str) -> Mime {
    content_type.parse().unwrap_or(mime::APPLICATION_OCTET_STREAM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::ACCEPT_ENCODING;
    use rstest::rstest;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    fn stored(content_type: &str, value: &[u8]) -> Result<ContentType, Code> {
        let headers = headers(&[(CONTENT_TYPE, content_type)]);
        Declared::of(&headers).map(|declared| declared.stored(value)).map_err(|e| e.code())
    }

    #[rstest]
    #[case("application/json", b"{}", "application/json")]
    #[case("text/HTML; Charset=\"latin1\"", b"<p>", "text/HTML; Charset=\"latin1\"")]
    #[case("application/vnd.api+json", b"", "application/vnd.api+json")]
    #[case("application/x-www-form-urlencoded", b"a=b", "text/plain; charset=utf-8")]
    #[case("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"a", "text/plain; charset=utf-8")]
    #[case("application/x-www-form-urlencoded", b"\xff\xfe", "application/octet-stream")]
    #[case(" ", b"text", "text/plain; charset=utf-8")]
    fn a_type_is_stored_as_sent_or_told_from_the_bytes(
        #[case] header: &str,
        #[case] value: &[u8],
        #[case] expected: &str,
    ) {
        assert_eq!(stored(header, value).as_deref(), Ok(expected));
    }

    #[test]
    fn no_header_is_told_from_the_bytes() {
        let declared = || Declared::of(&HeaderMap::new()).unwrap();
        assert_eq!(declared().stored("é".as_bytes()).as_str(), "text/plain; charset=utf-8");
        assert_eq!(declared().stored(b"").as_str(), "text/plain; charset=utf-8");
        assert_eq!(declared().stored(b"\xff").as_str(), "application/octet-stream");
    }

    #[rstest]
    #[case("text", Code::BadContentType)]
    #[case("text/", Code::BadContentType)]
    #[case("*/*", Code::BadContentType)]
    #[case("text/*", Code::BadContentType)]
    #[case("text/plain; charset", Code::BadContentType)]
    #[case("text/pläin", Code::BadContentType)]
    #[case(&format!("text/{}", "x".repeat(251)), Code::BadContentType)]
    #[case("multipart/form-data; boundary=x", Code::UnsupportedMediaType)]
    #[case("Multipart/Mixed", Code::UnsupportedMediaType)]
    fn what_cannot_be_stored_is_refused(#[case] header: &str, #[case] code: Code) {
        assert_eq!(stored(header, b""), Err(code));
    }

    #[test]
    fn the_longest_type_fits() {
        let longest = format!("text/{}", "x".repeat(250));
        assert_eq!(stored(&longest, b"").as_deref(), Ok(longest.as_str()));
    }

    #[test]
    fn two_types_are_none() {
        let two = headers(&[(CONTENT_TYPE, "text/plain"), (CONTENT_TYPE, "text/html")]);
        assert_eq!(Declared::of(&two).unwrap_err().code(), Code::BadContentType);
    }

    #[test]
    fn only_plain_bodies_are_taken() {
        for encoding in ["gzip", "identity, gzip", "x"] {
            let problem = Declared::of(&headers(&[(CONTENT_ENCODING, encoding)])).unwrap_err();
            assert_eq!(problem.code(), Code::UnsupportedContentEncoding);
            let response = problem.respond(&HeaderMap::new());
            assert_eq!(response.headers().get(ACCEPT_ENCODING).unwrap(), "identity");
        }
        assert!(Declared::of(&headers(&[(CONTENT_ENCODING, "Identity")])).is_ok());
    }
}
