//! Problems: what an error looks like from outside (RFC 9457), and the one place where the store's
//! errors are given a status.
//!
//! A problem names the thing, the limit, the size and the fix. Nothing of the inside is told: what
//! an engine or a driver said goes to the log, once, here.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};

use super::answer::Told;
use super::code::Code;
use super::conditions::BadCondition;
use super::negotiate::{Accept, BadAccept};
use super::paths::BadEscape;
use super::wire::ProblemDoc;
use super::{answer, page};
use crate::partition::{PUT_BACK, PartitionError};
use crate::record::KeyError;
use crate::store::answer::{StoreError, Written};
use crate::sync::round::chain;

/// Longest piece of a request that an error repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 64;

/// A request that cannot be answered as it wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with what there is to say about this very request.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let headers = code
            .retry_after_secs()
            .map(|secs| (RETRY_AFTER, HeaderValue::from(secs)))
            .into_iter()
            .collect();
        Self { code, detail: detail.into(), headers }
    }

    /// 405 at a resource that allows only `allow`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(Code::MethodNotAllowed, format!("this resource allows {allow}"))
            .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// 415 for a body that is not as it is.
    pub fn encoded_body(encoding: &[u8]) -> Self {
        let detail =
            format!("Content-Encoding {} is not taken; send the body without one", shown(encoding));
        Self::new(Code::UnsupportedContentEncoding, detail)
            .with(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    /// 406 where only `offered` could be sent.
    pub fn not_acceptable(offered: &str) -> Self {
        Self::new(Code::NotAcceptable, format!("what can be sent here is {offered}"))
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same as what is wrong at a place of a batch.
    #[must_use]
    pub fn in_batch(self, place: &str) -> Self {
        Self::new(Code::BadBatch, format!("{place}: {}", self.detail))
    }

    /// Its details, as JSON.
    pub fn doc(&self) -> ProblemDoc<'_> {
        ProblemDoc::new(self.code, &self.detail)
    }

    /// What went wrong.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The answer, in the form that the request prefers; an error never fails negotiation.
    pub fn respond(&self, request: &HeaderMap) -> HttpResponse {
        let problem_json = problem_json();
        // Whoever accepts JSON can read problem details.
        let offered = [
            &problem_json,
            &mime::APPLICATION_JSON,
            &mime::TEXT_PLAIN_UTF_8,
            &mime::TEXT_HTML_UTF_8,
        ];
        let mut response = match Accept::lenient(request).choose_equal(&offered) {
            Some(2) => answer::text(self.code.status(), self.text()),
            Some(3) => page::answer(self.code.status(), self.code.title(), &self.html()),
            Some(_) | None => answer::json_as(self.code.status(), &problem_json, &self.doc()),
        };
        for (name, value) in &self.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }

    fn text(&self) -> String {
        let (title, path) = (self.code.title(), self.code.path());
        format!("{title}\n{}\nMore: {path}\n", self.detail)
    }

    fn html(&self) -> String {
        let (name, path) = (self.code.name(), self.code.path());
        let [detail, remedy] = [&self.detail, self.code.remedy()].map(page::escaped);
        let status = self.code.status().as_u16();
        format!(
            "<p>{detail}</p><p><strong>What to do:</strong> {remedy}</p>\
             <p class=\"small\">status {status}, <a href=\"{path}\">{name}</a></p>"
        )
    }
}

fn problem_json() -> mime::Mime {
    "application/problem+json".parse().expect("a media type")
}

/// A piece of a request as an error may repeat it: printable, short, in double quotes.
pub fn shown(bytes: &[u8]) -> String {
    let cut = if bytes.len() > SHOWN_BYTES_MAX { "..." } else { "" };
    let start = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    match std::str::from_utf8(start) {
        Ok(text) => format!("{text:?}{cut}"),
        Err(_) => format!("\"{}\"{cut}", start.escape_ascii()),
    }
}

impl From<BadAccept> for Problem {
    fn from(error: BadAccept) -> Self {
        Self::new(Code::BadAccept, error.to_string())
    }
}

impl From<BadCondition> for Problem {
    fn from(error: BadCondition) -> Self {
        Self::new(Code::BadCondition, error.to_string())
    }
}

/// Of an escape in the path; the query says [`Code::BadQuery`].
impl From<BadEscape> for Problem {
    fn from(error: BadEscape) -> Self {
        Self::new(Code::BadPath, error.to_string())
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::Empty => Code::KeyEmpty,
            KeyError::TooLong { .. } => Code::KeyTooLong,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        log(&error);
        let code = code(&error);
        let detail = match &error {
            StoreError::NoSuchPartition { name, known } => {
                format!(
                    "no partition is named {}; there is {}",
                    shown(name.as_bytes()),
                    known.join(", ")
                )
            }
            StoreError::NotWritten { partition, source } => {
                format!("partition {partition} {}; nothing was written", in_public(source))
            }
            StoreError::Unreadable { partition, source } => {
                format!("partition {partition} {}", in_public(source))
            }
            StoreError::OutcomeUnknown { partition } => format!("partition {partition}: {error}"),
            StoreError::AckUnmet(written) => return ack_unmet(written),
            StoreError::TooOld { age, .. } => return too_old(&error, *age),
            StoreError::ForeignToken
            | StoreError::TooStale { .. }
            | StoreError::SessionLost { .. }
            | StoreError::Overloaded { .. }
            | StoreError::DeadlinePassed { .. }
            | StoreError::Stopping => error.to_string(),
        };
        Self::new(code, detail)
    }
}

/// Whoever is refused is told of the least age that there is.
fn too_old(error: &StoreError, age: Option<Duration>) -> Problem {
    let mut told = Told::default();
    told.age(age);
    with_all(Problem::new(Code::TooStale, error.to_string()), told)
}

fn with_all(problem: Problem, told: Told) -> Problem {
    let mut headers = HeaderMap::new();
    told.put_into(&mut headers);
    headers.into_iter().fold(problem, |problem, (name, value)| problem.with(name, value))
}

/// The write stands: whoever is told of the problem is told of the write, too.
fn ack_unmet(written: &Written) -> Problem {
    let detail = match written.acks {
        Some(acks) => format!(
            "{} of {} partitions hold the write; {} were to hold it within the time for \
             acknowledgements (store.ack_timeout)",
            acks.held, acks.voters, acks.needed
        ),
        None => "nothing was written".to_owned(),
    };
    let mut told = Told::default();
    told.written(written);
    with_all(Problem::new(Code::AckUnmet, detail), told)
}

const fn code(error: &StoreError) -> Code {
    match error {
        StoreError::NoSuchPartition { .. } => Code::UnknownPartition,
        StoreError::ForeignToken | StoreError::SessionLost { .. } => Code::SessionLost,
        StoreError::TooStale { .. } | StoreError::TooOld { .. } => Code::TooStale,
        StoreError::NotWritten { .. } => Code::NotWritten,
        StoreError::OutcomeUnknown { .. } => Code::OutcomeUnknown,
        StoreError::AckUnmet(_) => Code::AckUnmet,
        StoreError::Unreadable { .. } => Code::Unavailable,
        StoreError::Overloaded { .. } => Code::Overloaded,
        StoreError::DeadlinePassed { .. } => Code::DeadlinePassed,
        StoreError::Stopping => Code::Stopping,
    }
}

/// What anybody may know of a partition's trouble.
const fn in_public(error: &PartitionError) -> &'static str {
    match error {
        PartitionError::Refused(_) => "cannot do it in its present state",
        PartitionError::Unreachable(_) => "cannot be reached",
        PartitionError::OutcomeUnknown(_) => "did not answer",
        PartitionError::Busy(_) => "is busy",
        PartitionError::Full(_) => "has no room left",
        PartitionError::ReadOnly(_) => "is set read only, until its operator makes it writable",
        PartitionError::Foreign(_) => "is not the partition that it should be",
        PartitionError::PutBack(_) => PUT_BACK,
        PartitionError::DamagedRow { .. } => "holds this value damaged",
        PartitionError::Damaged { .. } => "is damaged",
        PartitionError::Engine { .. } => "could not do it",
    }
}

/// One line for what an operator has to know; what the client did, or load, is not among it.
fn log(error: &StoreError) {
    match error {
        StoreError::NotWritten { partition, .. }
        | StoreError::OutcomeUnknown { partition }
        | StoreError::Unreadable { partition, .. } => {
            tracing::warn!(%partition, error = chain(error), "request failed");
        }
        StoreError::SessionLost { origin, version } => {
            tracing::warn!(%origin, %version, "a session has seen what is lost");
        }
        StoreError::AckUnmet(written) => {
            tracing::warn!(partition = %written.served_by.name, acks = ?written.acks, %error);
        }
        StoreError::NoSuchPartition { .. }
        | StoreError::ForeignToken
        | StoreError::TooStale { .. }
        | StoreError::TooOld { .. }
        | StoreError::Overloaded { .. }
        | StoreError::DeadlinePassed { .. }
        | StoreError::Stopping => tracing::debug!(%error, "request refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{PartitionId, Version};
    use actix_web::body::{MessageBody as _, to_bytes};
    use actix_web::http::StatusCode;
    use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
    use rstest::rstest;
    use std::sync::Arc;

    fn request(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        headers
    }

    fn body(response: HttpResponse) -> String {
        let bytes = response.into_body().try_into_bytes().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[rstest]
    #[case("", "application/problem+json")]
    #[case("*/*", "application/problem+json")]
    #[case("application/json", "application/problem+json")]
    #[case("application/problem+json", "application/problem+json")]
    #[case("image/png", "application/problem+json")]
    #[case("nonsense", "application/problem+json")]
    #[case("text/plain", "text/plain; charset=utf-8")]
    #[case("text/*", "text/plain; charset=utf-8")]
    #[case("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8")]
    fn an_error_comes_in_the_form_that_is_preferred(#[case] accept: &str, #[case] kind: &str) {
        let response = Problem::new(Code::NotFound, "it").respond(&request(accept));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), kind);
    }

    #[test]
    fn problem_details_have_the_five_members() {
        let text = body(Problem::new(Code::NotFound, "no \"it\"").respond(&request("")));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({
                "type": "/problems/not-found", "title": "No value under this key", "status": 404,
                "detail": "no \"it\"", "code": "not-found",
            })
        );
    }

    #[actix_web::test]
    async fn html_is_escaped() {
        let problem = Problem::new(Code::UnknownParameter, "<script>'&\"");
        let response = problem.respond(&request("text/html"));
        let page = to_bytes(response.into_body()).await.unwrap();
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("&lt;script&gt;&#39;&amp;&quot;"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }

    #[test]
    fn what_a_request_said_is_repeated_printable_and_short() {
        assert_eq!(shown(b"a\r\n\"b"), r#""a\r\n\"b""#);
        assert_eq!(shown(b"\xff\0"), r#""\xff\x00""#);
        assert!(shown(&[b'x'; 1000]).len() < 80);
    }

    #[test]
    fn nothing_of_the_inside_leaks() {
        let inside = "Access denied for user 'root'@'10.0.0.1' (using password: hunter2)";
        let partition: Arc<str> = "store_1".into();
        for source in [
            PartitionError::Unreachable(inside.into()),
            PartitionError::OutcomeUnknown(inside.into()),
            PartitionError::Busy(inside.into()),
            PartitionError::Full(inside.into()),
            PartitionError::Damaged { what: inside.into() },
            PartitionError::DamagedRow {
                key: crate::record::Key::stored(crate::record::Space::Data, "k"),
                what: inside.into(),
            },
            PartitionError::Engine { statement: "commit_rows", source: inside.into() },
        ] {
            let source = Arc::new(source);
            let partition = Arc::clone(&partition);
            for error in [
                StoreError::NotWritten {
                    partition: Arc::clone(&partition),
                    source: Arc::clone(&source),
                },
                StoreError::Unreadable { partition, source },
            ] {
                let problem = Problem::from(error);
                let text = body(problem.respond(&request("")));
                assert_eq!(problem.code().status(), StatusCode::SERVICE_UNAVAILABLE);
                assert!(text.contains("store_1"), "{text}");
                for word in ["root", "10.0.0.1", "hunter2", "commit_rows"] {
                    assert!(!text.contains(word), "{text}");
                }
            }
        }
    }

    #[test]
    fn every_store_error_has_its_status_and_says_when_to_come_back() {
        let (partition, source): (Arc<str>, _) =
            ("p".into(), Arc::new(PartitionError::Unreachable("x".into())));
        let (origin, version) = (PartitionId(3), Version::ZERO);
        let known = vec!["a".into(), "b".into()];
        for (error, code, comes_back) in [
            (
                StoreError::NoSuchPartition { name: "c".into(), known },
                Code::UnknownPartition,
                false,
            ),
            (StoreError::ForeignToken, Code::SessionLost, false),
            (StoreError::SessionLost { origin, version }, Code::SessionLost, false),
            (StoreError::TooStale { origin, version }, Code::TooStale, true),
            (StoreError::TooOld { age: None, max_age: Duration::ZERO }, Code::TooStale, true),
            (
                StoreError::NotWritten { partition: partition.clone(), source: source.clone() },
                Code::NotWritten,
                true,
            ),
            (
                StoreError::OutcomeUnknown { partition: partition.clone() },
                Code::OutcomeUnknown,
                false,
            ),
            (
                StoreError::Unreadable { partition: partition.clone(), source },
                Code::Unavailable,
                true,
            ),
            (StoreError::Overloaded { partition: partition.clone() }, Code::Overloaded, true),
            (StoreError::DeadlinePassed { partition }, Code::DeadlinePassed, true),
            (StoreError::Stopping, Code::Stopping, true),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.code(), code);
            let response = problem.respond(&request(""));
            assert_eq!(response.headers().contains_key(RETRY_AFTER), comes_back, "{code:?}");
        }
        let lost = Problem::from(StoreError::SessionLost { origin, version });
        assert!(lost.detail.contains("origin 3"), "{}", lost.detail);
    }
}
