//! What every request passes before anything else, and what every answer carries.
//!
//! The service listens on a loopback address by default, where any web page that its user visits
//! can reach it: by a form or a script that sends requests across sites, and by a name of the
//! attacker's own that is made to resolve to this address (DNS rebinding). Neither needs a bug on
//! our side, so:
//!
//! * **Host** must name this service: a loopback name or address, the address it listens on, or a
//!   name in `server.hosts`. When it listens on every address, any literal address will do: a
//!   rebound request carries the attacker's *name*. Ports are not compared, so that forwarded ports
//!   work.
//! * **Unsafe methods** are refused where the browser says that another site asks
//!   (`Sec-Fetch-Site`). Browsers leave that header out on plain HTTP to other machines; there
//!   `Origin`, which they send with every such request, must be the host itself. Other programs
//!   send neither.
//! * Answers say `nosniff` and `sandbox`, so that no stored value ever runs in a browser.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::RequestHead;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, Version};

use super::body::Headless;
use super::code::Code;
use super::error::{Problem, shown};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A configured host name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a host name: write for example \"db.example.org\", without a scheme or path"
)]
pub struct HostNameError {
    /// What was configured.
    pub name: String,
}

/// The names under which the service answers.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// As most requests name the service; there is nothing to look at then.
    usual: Vec<String>,
    bound: Vec<IpAddr>,
    names: BTreeSet<String>,
}

/// A host as a `Host` header or a URL names it.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without the final dot.
    Name(String),
}

impl HostPolicy {
    /// Answers under loopback names, the addresses that the service is bound to, and `names`.
    pub fn new<N: AsRef<str>>(
        bound: &[SocketAddr],
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, HostNameError> {
        let mut policy = Self {
            usual: bound.iter().map(SocketAddr::to_string).collect(),
            bound: bound.iter().map(|address| address.ip().to_canonical()).collect(),
            names: BTreeSet::new(),
        };
        for name in names {
            match Host::parse(name.as_ref().as_bytes()) {
                Some(Host::Name(name)) => drop(policy.names.insert(name)),
                Some(Host::Address(address)) => policy.bound.push(address),
                None => return Err(HostNameError { name: name.as_ref().to_owned() }),
            }
        }
        Ok(policy)
    }

    fn allows(&self, host: &Host) -> bool {
        match host {
            Host::Address(address) => {
                address.is_loopback()
                    || self.bound.iter().any(|bound| bound.is_unspecified() || bound == address)
            }
            Host::Name(name) => {
                name == "localhost" || name.ends_with(".localhost") || self.names.contains(name)
            }
        }
    }

    fn check(&self, host: &[u8]) -> Result<(), Problem> {
        if self.usual.iter().any(|usual| usual.as_bytes() == host) {
            return Ok(());
        }
        let parsed = Host::parse(host).ok_or_else(|| {
            let detail = format!("{} is not a host or host:port", shown(host));
            Problem::new(Code::BadHost, detail)
        })?;
        if self.allows(&parsed) {
            return Ok(());
        }
        let detail = format!(
            "this service does not answer for {}; use the address that it listens on, or add the \
             name to server.hosts",
            shown(host)
        );
        Err(Problem::new(Code::UnknownHost, detail))
    }
}

impl Host {
    /// `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`; nothing else.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (address, after) = inner.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                let port = if after.is_empty() { "" } else { after.strip_prefix(':')? };
                (Self::Address(IpAddr::V6(address).to_canonical()), port)
            }
            None => {
                let (name, port) = text.split_once(':').unwrap_or((text, ""));
                (Self::named(name)?, port)
            }
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        (port.is_empty() || (digits && port.parse::<u16>().is_ok())).then_some(host)
    }

    fn named(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let plain = !name.is_empty() && name.bytes().all(allowed) && !name.starts_with('.');
        plain.then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

/// Whether the request may pass.
pub fn check(policy: &HostPolicy, request: &RequestHead) -> Result<(), Problem> {
    let headers = request.headers();
    let host = single(headers, &HOST)
        .map_err(|()| Problem::new(Code::BadHost, "the request has more than one Host header"))?;
    // A target in absolute form names a host, too (RFC 9112 section 3.2.2).
    if let Some(authority) = request.uri.authority() {
        policy.check(authority.as_str().as_bytes())?;
    }
    match host {
        Some(host) => policy.check(host)?,
        // Health checks of old balancers speak HTTP/1.0 without a Host; browsers never do.
        None if request.version < Version::HTTP_11 => {}
        None => return Err(Problem::new(Code::BadHost, "the request has no Host header")),
    }
    if is_safe(&request.method) || asked_at_home(headers, host) {
        return Ok(());
    }
    Err(Problem::new(Code::CrossSite, "a page of another site may not make this request"))
}

/// What an answer carries that says nothing else in its place. A constant, so that the texts are
/// looked through when this is built, and not at every answer.
const PROTECTION: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")),
    (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    (VARY, HeaderValue::from_static("Accept")),
];

/// Protects an answer, and leaves out its body where HEAD asked for it.
pub fn protect(mut response: HttpResponse, is_head: bool) -> HttpResponse {
    for (name, value) in PROTECTION {
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    match is_head {
        true => response.map_body(|_, body| BoxBody::new(Headless(body.size()))),
        false => response,
    }
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether no browser says that the request was made by another site's page.
fn asked_at_home(headers: &HeaderMap, host: Option<&[u8]>) -> bool {
    match single(headers, &SEC_FETCH_SITE) {
        Ok(Some(site)) => matches!(site, b"same-origin" | b"none"),
        Ok(None) => match single(headers, &ORIGIN) {
            Ok(Some(origin)) => host.is_some_and(|host| is_origin_of(origin, host)),
            Ok(None) => true,
            Err(()) => false,
        },
        Err(()) => false,
    }
}

fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    [&b"http://"[..], b"https://"]
        .iter()
        .filter_map(|scheme| origin.strip_prefix(*scheme))
        .any(|authority| authority.eq_ignore_ascii_case(host))
}

/// The header's value, if it stands there; an error where it stands twice.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first.map(HeaderValue::as_bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use rstest::rstest;

    fn policy(bound: &str) -> HostPolicy {
        HostPolicy::new(&[bound.parse().unwrap()], ["DB.example.org", "10.1.1.1:80"]).unwrap()
    }

    fn verdict(policy: &HostPolicy, request: TestRequest) -> Option<Code> {
        check(policy, request.to_srv_request().head()).err().map(|problem| problem.code())
    }

    #[rstest]
    #[case("localhost", None)]
    #[case("LOCALHOST:1", None)]
    #[case("localhost.", None)]
    #[case("a.localhost:8080", None)]
    #[case("127.0.0.1:8080", None)]
    #[case("127.9.9.9", None)]
    #[case("[::1]:8080", None)]
    #[case("[::1]", None)]
    #[case("[::ffff:127.0.0.1]", None)]
    #[case("192.168.1.5:8080", None)]
    #[case("db.example.org", None)]
    #[case("db.EXAMPLE.org.:8080", None)]
    #[case("10.1.1.1", None)]
    #[case("192.168.1.6", Some(Code::UnknownHost))]
    #[case("evil.example", Some(Code::UnknownHost))]
    #[case("localhost.evil.example", Some(Code::UnknownHost))]
    #[case("evillocalhost", Some(Code::UnknownHost))]
    #[case("x.db.example.org", Some(Code::UnknownHost))]
    #[case("2130706433", Some(Code::UnknownHost))]
    #[case("0.0.0.0", Some(Code::UnknownHost))]
    #[case("", Some(Code::BadHost))]
    #[case(":80", Some(Code::BadHost))]
    #[case("localhost:http", Some(Code::BadHost))]
    #[case("localhost:65536", Some(Code::BadHost))]
    #[case("localhost:+1", Some(Code::BadHost))]
    #[case("user@localhost", Some(Code::BadHost))]
    #[case("localhost/x", Some(Code::BadHost))]
    #[case("localhost, evil.example", Some(Code::BadHost))]
    #[case("::1", Some(Code::BadHost))]
    #[case("[::1", Some(Code::BadHost))]
    #[case("[::1]x", Some(Code::BadHost))]
    #[case(".localhost", Some(Code::BadHost))]
    fn only_our_own_names_are_answered(#[case] host: &str, #[case] code: Option<Code>) {
        let request = TestRequest::get().insert_header((HOST, host));
        assert_eq!(verdict(&policy("192.168.1.5:8080"), request), code);
    }

    #[test]
    fn bound_to_every_address_any_address_is_ours_but_no_name() {
        for bound in ["0.0.0.0:80", "[::]:80"] {
            let policy = policy(bound);
            for (host, code) in [
                ("172.17.0.2:80", None),
                ("[fd00::1]", None),
                ("x.example", Some(Code::UnknownHost)),
            ] {
                let request = TestRequest::get().insert_header((HOST, host));
                assert_eq!(verdict(&policy, request), code, "{host}");
            }
        }
    }

    #[test]
    fn there_is_one_host() {
        let policy = policy("127.0.0.1:80");
        let two = TestRequest::get()
            .append_header((HOST, "localhost"))
            .append_header((HOST, "localhost"));
        assert_eq!(verdict(&policy, two), Some(Code::BadHost));
        assert_eq!(verdict(&policy, TestRequest::get()), Some(Code::BadHost));
        let old = TestRequest::get().version(Version::HTTP_10);
        assert_eq!(verdict(&policy, old), None);
        let absolute =
            TestRequest::get().uri("http://evil.example/").insert_header((HOST, "localhost"));
        assert_eq!(verdict(&policy, absolute), Some(Code::UnknownHost));
    }

    #[rstest]
    #[case(Method::POST, &[], true)]
    #[case(Method::POST, &[("sec-fetch-site", "same-origin")], true)]
    #[case(Method::POST, &[("sec-fetch-site", "none")], true)]
    #[case(Method::POST, &[("sec-fetch-site", "cross-site")], false)]
    #[case(Method::PUT, &[("sec-fetch-site", "same-site")], false)]
    #[case(Method::DELETE, &[("sec-fetch-site", "")], false)]
    #[case(Method::PUT, &[("sec-fetch-site", "none"), ("sec-fetch-site", "none")], false)]
    #[case(Method::GET, &[("sec-fetch-site", "cross-site")], true)]
    #[case(Method::POST, &[("origin", "http://localhost:8080")], true)]
    #[case(Method::POST, &[("origin", "https://LOCALHOST:8080")], true)]
    #[case(Method::POST, &[("origin", "http://localhost")], false)]
    #[case(Method::POST, &[("origin", "http://evil.example")], false)]
    #[case(Method::POST, &[("origin", "null")], false)]
    #[case(Method::POST, &[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], true)]
    fn pages_of_other_sites_change_nothing(
        #[case] method: Method,
        #[case] lines: &[(&'static str, &'static str)],
        #[case] allowed: bool,
    ) {
        let mut request = TestRequest::with_uri("/bucket/a")
            .method(method)
            .insert_header((HOST, "localhost:8080"));
        for &line in lines {
            request = request.append_header(line);
        }
        let code = verdict(&policy("127.0.0.1:8080"), request);
        assert_eq!(code, (!allowed).then_some(Code::CrossSite));
    }

    #[test]
    fn a_configured_name_is_a_name() {
        for name in ["http://x.example", "", "a b", "x.example/"] {
            assert!(HostPolicy::new(&[], [name]).is_err(), "{name:?}");
        }
    }
}
