//! Which representation an `Accept` header asks for (RFC 9110 section 12.5.1).
//!
//! Each candidate has a quality of its own at the source. Of a candidate's matching ranges the most
//! specific one gives its `q`; the greatest `q` times quality wins, the earlier candidate on a tie,
//! and `q=0` excludes. The header is read leniently, as clients write it: `*` means `*/*`, `.2`
//! means 0.2, case does not matter, an item that makes no sense is left out. Only a header in which
//! *no* item makes sense is an error, and only for reads: a write never fails because of how it
//! wants its answer.

use actix_web::http::header::{ACCEPT, HeaderMap};
use mime::Mime;

/// A weight in thousandths, from 0 to [`Weight::ONE`]: a `q` or a quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    /// Wanted without reserve.
    pub const ONE: Self = Self(1_000);
    /// Half as good.
    pub const HALF: Self = Self(500);
    const ZERO: Self = Self(0);

    /// Digits with at most one point, such as `1`, `0.25` or `.2`; at most 1.
    fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && decimals.is_empty()) || !digits(whole) || !digits(decimals) {
            return None;
        }
        let whole: u16 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // What lies below a thousandth is cut off, but never down to "excluded".
        let thousandths: u16 = format!("{decimals:0<3}")[..3].parse().ok()?;
        let beyond = thousandths == 0 && decimals.bytes().any(|digit| digit != b'0');
        let weight = whole.checked_mul(1_000)?.checked_add(thousandths + u16::from(beyond))?;
        (weight <= Self::ONE.0).then_some(Self(weight))
    }
}

/// Something that could be sent.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it is.
    pub mime: &'a Mime,
    /// How good it is, compared with the other candidates.
    pub quality: Weight,
}

/// One item of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    kind: String,
    subkind: String,
    params: Vec<(String, String)>,
    q: Weight,
}

impl Range {
    fn parse(item: &str) -> Option<Self> {
        let mut parts = split_outside_quotes(item, ';');
        let name = parts.next()?;
        let (kind, subkind) = if name == "*" { ("*", "*") } else { name.split_once('/')? };
        if !is_token(kind) || !is_token(subkind) || (kind == "*" && subkind != "*") {
            return None;
        }
        let mut range = Self {
            kind: kind.to_ascii_lowercase(),
            subkind: subkind.to_ascii_lowercase(),
            params: Vec::new(),
            q: Weight::ONE,
        };
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if !is_token(&name) {
                return None;
            }
            if name == "q" {
                range.q = Weight::parse(value)?;
            } else {
                range.params.push((name, unquote(value)?));
            }
        }
        Some(range)
    }

    /// How exactly the range names `mime`; `None` where it does not match.
    fn specificity(&self, mime: &Mime) -> Option<usize> {
        let (kind, subkind) = mime.essence_str().split_once('/')?;
        let params = || {
            self.params.iter().all(|(name, value)| {
                mime.get_param(name.as_str()).is_some_and(|have| have == value.as_str())
            })
        };
        match (self.kind.as_str(), self.subkind.as_str()) {
            ("*", _) => Some(0),
            (wanted, "*") => wanted.eq_ignore_ascii_case(kind).then_some(1),
            (wanted, exact) => (wanted.eq_ignore_ascii_case(kind)
                && exact.eq_ignore_ascii_case(subkind)
                && params())
            .then_some(2 + self.params.len()),
        }
    }
}

/// No item of the header makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no item of the Accept header is a media range such as text/plain or */*;q=0.5")]
pub struct BadAccept;

/// What the client wants. None at all: anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept(Vec<Range>);

impl Accept {
    /// What the request's `Accept` headers say together; absent or blank ones want anything.
    pub fn of(headers: &HeaderMap) -> Result<Self, BadAccept> {
        let mut lines = Vec::new();
        for line in headers.get_all(ACCEPT) {
            lines.push(line.to_str().map_err(|_| BadAccept)?);
        }
        Self::parse(&lines.join(","))
    }

    /// The same for an answer that must come in any case: nonsense wants anything.
    pub fn lenient(headers: &HeaderMap) -> Self {
        Self::of(headers).unwrap_or_default()
    }

    fn parse(text: &str) -> Result<Self, BadAccept> {
        let mut blank = true;
        let mut ranges = Vec::new();
        for item in split_outside_quotes(text, ',').filter(|item| !item.is_empty()) {
            blank = false;
            ranges.extend(Range::parse(item));
        }
        if ranges.is_empty() && !blank { Err(BadAccept) } else { Ok(Self(ranges)) }
    }

    /// Whether any form will do as well as any other: what most programs send, or send by leaving
    /// the header out.
    pub fn wants_anything(&self) -> bool {
        match self.0.as_slice() {
            [] => true,
            [range] => range.kind == "*" && range.q > Weight::ZERO,
            _ => false,
        }
    }

    /// How much the client wants `mime`.
    fn weight(&self, mime: &Mime) -> Weight {
        if self.0.is_empty() {
            return Weight::ONE;
        }
        let matching = self
            .0
            .iter()
            .filter_map(|range| range.specificity(mime).map(|specificity| (specificity, range.q)));
        // Of two equally specific ranges the kinder one counts.
        matching.max().map_or(Weight::ZERO, |(_, q)| q)
    }

    /// The place of the best candidate; `None` when the client excludes them all.
    pub fn choose(&self, candidates: &[Candidate<'_>]) -> Option<usize> {
        let mut best = None;
        for (place, candidate) in candidates.iter().enumerate() {
            let weight = u32::from(self.weight(candidate.mime).0) * u32::from(candidate.quality.0);
            if weight > best.map_or(0, |(_, most)| most) {
                best = Some((place, weight));
            }
        }
        best.map(|(place, _)| place)
    }

    /// The same where all candidates are equally good.
    pub fn choose_equal(&self, candidates: &[&Mime]) -> Option<usize> {
        let equal = |&mime| Candidate { mime, quality: Weight::ONE };
        self.choose(&candidates.iter().map(equal).collect::<Vec<_>>())
    }
}

/// Cuts at `separator`, but not within double quotes; the pieces are trimmed.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let plain = !std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && plain => escaped = true,
            '"' if plain => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
    .map(|piece| piece.trim_matches([' ', '\t']))
}

fn unquote(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return is_token(value).then(|| value.to_owned());
    };
    let mut text = String::new();
    let mut rest = inner.strip_suffix('"')?.chars();
    while let Some(c) = rest.next() {
        text.push(if c == '\\' { rest.next()? } else { c });
    }
    Some(text)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let special = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Stored as JPEG, or rendered as HTML, XML, JSON or text at half the quality.
    const STORED: &str = "image/jpeg";

    fn chosen(accept: &str) -> Result<Option<&'static str>, BadAccept> {
        let names = [STORED, "text/html", "application/xml", "application/json", "text/plain"];
        let mimes = names.map(|name| name.parse::<Mime>().unwrap());
        let candidates: Vec<_> = mimes
            .iter()
            .enumerate()
            .map(|(i, mime)| {
                let quality = if i == 0 { Weight::ONE } else { Weight::HALF };
                Candidate { mime, quality }
            })
            .collect();
        Ok(Accept::parse(accept)?.choose(&candidates).map(|place| names[place]))
    }

    #[rstest]
    #[case::absent("", Some(STORED))]
    #[case::blank(" ", Some(STORED))]
    #[case::empty_items(", ,", Some(STORED))]
    #[case::anything("*/*", Some(STORED))]
    #[case::star("*", Some(STORED))]
    #[case::exact("application/json", Some("application/json"))]
    #[case::case_does_not_matter("APPLICATION/JSON", Some("application/json"))]
    #[case::a_kind("text/*", Some("text/html"))]
    #[case::q_compares_across_specificity("text/html;q=0.1, */*;q=0.9", Some(STORED))]
    #[case::specific_q_beats_general("image/jpeg;q=0.1, */*;q=0.9", Some("text/html"))]
    #[case::quality_counts("application/json, image/jpeg;q=0.6", Some(STORED))]
    #[case::a_tie_goes_to_the_stored("application/json, image/jpeg;q=0.5", Some(STORED))]
    #[case::q_beats_quality("application/json, image/jpeg;q=0.4", Some("application/json"))]
    #[case::zero_excludes("*/*, image/jpeg;q=0", Some("text/html"))]
    #[case::zero_excludes_all("*/*;q=0", None)]
    #[case::zero_and_nothing_else("application/json;q=0", None)]
    #[case::nothing_fits("image/png", None)]
    #[case::short_q("application/json;q=.2, text/plain;q=0.3", Some("text/plain"))]
    #[case::q_before_other_params(
        "application/json;q=0.1;x=y, text/plain;q=0.2",
        Some("text/plain")
    )]
    #[case::browser(
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        Some(STORED)
    )]
    #[case::script("application/json, text/javascript, */*;q=0.01", Some("application/json"))]
    #[case::nonsense_is_left_out("html, application/json", Some("application/json"))]
    #[case::bad_q_is_left_out("application/json;q=abc, text/plain", Some("text/plain"))]
    #[case::q_above_one_is_left_out("application/json;q=2, text/plain", Some("text/plain"))]
    #[case::tiny_q_does_not_exclude("application/json;q=0.00001", Some("application/json"))]
    #[case::a_comma_in_quotes("image/png;a=\"x, text/html\", text/plain", Some("text/plain"))]
    #[case::an_escaped_quote("image/png;a=\"x\\\", text/html\", text/plain", Some("text/plain"))]
    fn the_table_of_negotiation(#[case] accept: &str, #[case] expected: Option<&str>) {
        assert_eq!(chosen(accept), Ok(expected));
    }

    #[rstest]
    #[case("html")]
    #[case("text/html;level")]
    #[case("text/html;q=abc")]
    #[case("text/html;q=")]
    #[case("text/html;q=.")]
    #[case("text/html;q=1e-1")]
    #[case("text/html;q=+1")]
    #[case("/")]
    #[case("text/")]
    #[case("*/html")]
    #[case("te xt/html, a/b;c=\"")]
    fn only_nonsense_throughout_is_an_error(#[case] accept: &str) {
        assert_eq!(chosen(accept), Err(BadAccept));
    }

    #[rstest]
    #[case("text/plain;charset=utf-8", true)]
    #[case("text/plain; charset=\"UTF-8\"", true)]
    #[case("text/plain;charset=latin1", false)]
    #[case("text/plain;format=flowed", false)]
    #[case("text/plain;q=0, text/plain;charset=utf-8", true)]
    fn parameters_must_fit(#[case] accept: &str, #[case] fits: bool) {
        let accept = Accept::parse(accept).unwrap();
        assert_eq!(accept.choose_equal(&[&mime::TEXT_PLAIN_UTF_8]).is_some(), fits);
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        for line in ["image/png", "text/html;q=0.5"] {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        let accept = Accept::of(&headers).unwrap();
        assert_eq!(accept.choose_equal(&[&mime::TEXT_HTML, &mime::IMAGE_PNG]), Some(1));
    }
}
