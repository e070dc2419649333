//! A client library: requests to a service, one at a time, blocking; and following its changes.
//!
//! [`Client`] sends requests and tells what went wrong; the command line is built on it. [`follow`]
//! follows the changes of a service through anything that may happen to a connection or a front
//! end, and [`mirror`] keeps a copy of what is followed.

pub mod follow;
pub mod mirror;

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, StatusCode};
use ureq::{Agent, Body};

/// How long a connection may take: a service that is there answers within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take in all; above any deadline that a service can have set.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How much of an error's body is read.
const PROBLEM_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("{url:?} is no address of a service; write for example http://127.0.0.1:8080")]
    Url {
        /// What was given.
        url: String,
    },
    /// Something that cannot stand in a request.
    #[error("this cannot be sent as a request")]
    Request(#[source] ureq::http::Error),
    /// No answer.
    #[error("no answer from {url}; is `datastore serve` running there?")]
    Unreachable {
        /// Which service.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The service says no.
    #[error("{status}: {message}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The code of the problem, where the answer is one of ours.
        code: Option<String>,
        /// What the answer says.
        message: String,
    },
    /// An answer that does not say what it should.
    #[error("the answer from {url} is not that of a datastore: {what}")]
    Foreign {
        /// Which service.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl ClientError {
    /// The problem's code, where the service says no.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            Self::Url { .. }
            | Self::Request(_)
            | Self::Unreachable { .. }
            | Self::Foreign { .. } => None,
        }
    }

    /// Whether it may be otherwise a moment later, or at another front end.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Url { .. } | Self::Request(_) | Self::Foreign { .. } => false,
        }
    }

    /// The service says no, with problem details if it is ours.
    pub fn refused(status: StatusCode, problem: &Value) -> Self {
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let message = text("detail").or(text("title")).or(status.canonical_reason());
        let message = message.unwrap_or("no reason was given").to_owned();
        Self::Refused { status, code: text("code").map(str::to_owned), message }
    }
}

/// Talks to one service.
pub struct Client {
    base: String,
    agent: Agent,
}

/// An answer that was not an error.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    headers: ureq::http::HeaderMap,
    body: Body,
    base: String,
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(ClientError::Url { url: url.to_owned() });
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            // The service's own machine or network: no proxy knows the way better.
            .proxy(None)
            .max_redirects(0)
            .build()
            .new_agent();
        Ok(Self { base, agent })
    }

    /// Sends a request. `target`: path and query.
    pub fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, String)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.base));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = match body {
            None => self.agent.run(request.body(()).map_err(ClientError::Request)?),
            Some(body) => self.agent.run(request.body(body).map_err(ClientError::Request)?),
        };
        let (parts, body) = answer.map_err(|error| self.unreachable(error))?.into_parts();
        let answer =
            Answer { status: parts.status, headers: parts.headers, body, base: self.base.clone() };
        if parts.status.is_success() { Ok(answer) } else { Err(answer.refusal()) }
    }

    fn unreachable(&self, error: ureq::Error) -> ClientError {
        if matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_)) {
            return ClientError::Url { url: self.base.clone() };
        }
        ClientError::Unreachable { url: self.base.clone(), source: Box::new(error) }
    }
}

impl Answer {
    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The version that the answer is about: its `ETag` without quotes.
    pub fn version(&self) -> Option<&str> {
        self.header("etag").map(|tag| tag.trim_matches('"'))
    }

    /// The whole body.
    pub fn bytes(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        self.body.as_reader().read_to_end(&mut bytes).map_err(|source| {
            let source = Box::new(ureq::Error::Io(source));
            ClientError::Unreachable { url: self.base.clone(), source }
        })?;
        Ok(bytes)
    }

    /// The body as JSON.
    pub fn json(&mut self) -> Result<Value, ClientError> {
        let bytes = self.bytes()?;
        serde_json::from_slice(&bytes).map_err(|_| self.foreign("the body is not JSON"))
    }

    /// The answer is not what was asked for.
    pub fn foreign(&self, what: &'static str) -> ClientError {
        ClientError::Foreign { url: self.base.clone(), what }
    }

    fn refusal(mut self) -> ClientError {
        let mut bytes = Vec::new();
        // A body that breaks off says less; the status stands.
        drop(self.body.as_reader().take(PROBLEM_BYTES_MAX).read_to_end(&mut bytes));
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        ClientError::refused(self.status, &problem)
    }
}
