//! The forms that a value or a message comes in, besides the bytes that were put.
//!
//! The original system knows four renderings of a message M; they are served where a client prefers
//! them, and everything in them is escaped:
//!
//! | form | types | body |
//! |---|---|---|
//! | html | `text/html` | `<html><body>M</body></html>` |
//! | xml | `application/xml`, `text/xml`, `application/x-xml` | `<message>M</message>` |
//! | json | `application/json` | `{"message": "M"}` |
//! | txt | `text/plain` | M, byte for byte |
//!
//! A value that is not text (UTF-8 without control characters, which neither XML nor HTML can
//! carry) comes as base64, and `encoding` says so: a member in JSON, an attribute in XML,
//! `data-encoding` in HTML. JSON carries any UTF-8 as it is.

use std::sync::LazyLock;

use actix_web::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mime::Mime;

use super::error::Problem;
use super::negotiate::{Accept, Candidate, Weight};
use super::page::escaped;
use super::wire::MessageDoc;
use super::{answer, media};
use crate::record::{Body, ContentType};

/// How something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was put.
    Stored,
    /// As a page.
    Html,
    /// As a member of an object.
    Json,
    /// As its bytes.
    Txt,
    /// As an element, under the name of XML that was asked for.
    Xml(XmlName),
}

/// The names that XML goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmlName {
    /// `application/xml`
    Application,
    /// `text/xml`
    Text,
    /// `application/x-xml`
    Old,
}

/// The renderings. Where a range fits several, the earlier one wins: `text/*` is HTML and
/// `application/*` is JSON, as in the original.
const RENDERINGS: [Form; 6] = [
    Form::Html,
    Form::Json,
    Form::Txt,
    Form::Xml(XmlName::Application),
    Form::Xml(XmlName::Text),
    Form::Xml(XmlName::Old),
];

/// The same for our own messages, which are text to begin with.
const MESSAGES: [Form; 6] = [
    Form::Txt,
    Form::Json,
    Form::Html,
    Form::Xml(XmlName::Application),
    Form::Xml(XmlName::Text),
    Form::Xml(XmlName::Old),
];

static RENDERING_TYPES: LazyLock<[Mime; 6]> = LazyLock::new(|| RENDERINGS.map(Form::mime));
static MESSAGE_TYPES: LazyLock<[Mime; 6]> = LazyLock::new(|| MESSAGES.map(Form::mime));

/// What values mostly are, as headers: their texts are looked through once and not at every read.
static USUAL_TYPES: LazyLock<[HeaderValue; 6]> =
    LazyLock::new(|| ContentType::USUAL.map(HeaderValue::from_static));

impl Form {
    /// The form of a value that the client likes best: the stored one at full quality, the
    /// renderings at half of it.
    pub fn choose(accept: &Accept, content_type: &str) -> Result<Self, Problem> {
        if accept.wants_anything() {
            return Ok(Self::Stored);
        }
        let stored = media::parse_stored(content_type);
        let stored = Candidate { mime: &stored, quality: Weight::ONE };
        let rendered = RENDERING_TYPES.iter().map(|mime| Candidate { mime, quality: Weight::HALF });
        let candidates: Vec<_> = std::iter::once(stored).chain(rendered).collect();
        match accept.choose(&candidates) {
            Some(0) => Ok(Self::Stored),
            Some(place) => Ok(RENDERINGS[place - 1]),
            None => Err(Problem::not_acceptable(&format!(
                "{content_type}, or text/html, application/json, text/plain, application/xml"
            ))),
        }
    }

    /// The form of a message that the client likes best; nonsense gets text.
    pub fn choose_message(accept: &Accept) -> Self {
        if accept.wants_anything() {
            return MESSAGES[0];
        }
        accept.choose_equal(&MESSAGE_TYPES.each_ref()).map_or(Self::Txt, |place| MESSAGES[place])
    }

    /// What sets the entity tag of the rendering apart; `None`: the stored form.
    pub const fn variant(self) -> Option<&'static str> {
        match self {
            Self::Stored => None,
            Self::Html => Some("html"),
            Self::Json => Some("json"),
            Self::Txt => Some("txt"),
            Self::Xml(_) => Some("xml"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Stored | Self::Txt => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Xml(XmlName::Application) => "application/xml; charset=utf-8",
            Self::Xml(XmlName::Text) => "text/xml; charset=utf-8",
            Self::Xml(XmlName::Old) => "application/x-xml; charset=utf-8",
        }
    }

    /// The media type, for negotiation.
    pub fn mime(self) -> Mime {
        self.name().parse().expect("a media type")
    }

    /// The media type, for the answer.
    pub const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// A value in this form, with its type.
    pub fn render(self, body: Body) -> (HeaderValue, Bytes) {
        if self == Self::Stored {
            let octets = |_| HeaderValue::from_static("application/octet-stream");
            let told = || HeaderValue::from_str(&body.content_type).unwrap_or_else(octets);
            let mut usual = USUAL_TYPES.iter();
            let usual = usual.find(|usual| usual.as_bytes() == body.content_type.as_bytes());
            return (usual.cloned().unwrap_or_else(told), body.value);
        }
        match (self, std::str::from_utf8(&body.value)) {
            (Self::Txt, Ok(_)) => (self.header(), body.value),
            // Bytes in no charset that we know of.
            (Self::Txt, Err(_)) => (HeaderValue::from_static("text/plain"), body.value),
            (Self::Json, Ok(text)) => self.render_text(text),
            (Self::Html | Self::Xml(_), Ok(text)) if is_markup_text(text) => self.render_text(text),
            (Self::Stored | Self::Html | Self::Xml(_) | Self::Json, _) => {
                self.render_encoded(&STANDARD.encode(&body.value))
            }
        }
    }

    /// A text without control characters in this form, with its type.
    pub fn render_text(self, text: &str) -> (HeaderValue, Bytes) {
        let body = match self {
            Self::Stored | Self::Txt => text.to_owned().into(),
            Self::Html => format!("<html><body>{}</body></html>", escaped(text)).into(),
            Self::Xml(_) => format!("<message>{}</message>", escaped(text)).into(),
            Self::Json => answer::json_bytes(&MessageDoc { message: text, encoding: None }),
        };
        (self.header(), body)
    }

    fn render_encoded(self, base64: &str) -> (HeaderValue, Bytes) {
        let body = match self {
            Self::Stored | Self::Txt => base64.to_owned().into(),
            Self::Html => {
                format!("<html><body data-encoding=\"base64\">{base64}</body></html>").into()
            }
            Self::Xml(_) => format!("<message encoding=\"base64\">{base64}</message>").into(),
            Self::Json => {
                answer::json_bytes(&MessageDoc { message: base64, encoding: Some("base64") })
            }
        };
        (self.header(), body)
    }
}

/// Whether XML and HTML can carry every character.
fn is_markup_text(text: &str) -> bool {
    let fits = |c: char| !c.is_control() && c != '\u{fffe}' && c != '\u{ffff}';
    text.chars().all(|c| fits(c) || matches!(c, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn rendered(form: Form, value: &[u8]) -> (String, Vec<u8>) {
        let body = Body {
            value: Bytes::copy_from_slice(value),
            content_type: "image/png".into(),
            expires_at: None,
        };
        let (kind, bytes) = form.render(body);
        (kind.to_str().unwrap().to_owned(), bytes.to_vec())
    }

    const XML: Form = Form::Xml(XmlName::Application);

    #[rstest]
    #[case(Form::Html, b"M", "text/html; charset=utf-8", b"<html><body>M</body></html>")]
    #[case(XML, b"M", "application/xml; charset=utf-8", b"<message>M</message>")]
    #[case(Form::Json, b"M", "application/json", b"{\"message\":\"M\"}")]
    #[case(Form::Txt, b"M", "text/plain; charset=utf-8", b"M")]
    #[case(Form::Stored, b"M", "image/png", b"M")]
    #[case(
        Form::Html,
        b"<b>&\"'",
        "text/html; charset=utf-8",
        b"<html><body>&lt;b&gt;&amp;&quot;&#39;</body></html>"
    )]
    #[case(XML, b"]]>\r\n", "application/xml; charset=utf-8", b"<message>]]&gt;&#13;\n</message>")]
    #[case(Form::Json, b"\"\\\x01", "application/json", b"{\"message\":\"\\\"\\\\\\u0001\"}")]
    #[case(
        Form::Json,
        b"\xff\xfe\x00\x01",
        "application/json",
        b"{\"message\":\"//4AAQ==\",\"encoding\":\"base64\"}"
    )]
    #[case(
        XML,
        b"a\x00",
        "application/xml; charset=utf-8",
        b"<message encoding=\"base64\">YQA=</message>"
    )]
    #[case(
        Form::Html,
        b"\xff",
        "text/html; charset=utf-8",
        b"<html><body data-encoding=\"base64\">/w==</body></html>"
    )]
    #[case(Form::Txt, b"\xff\xfe\x00\x01", "text/plain", b"\xff\xfe\x00\x01")]
    fn a_value_in_every_form(
        #[case] form: Form,
        #[case] value: &[u8],
        #[case] kind: &str,
        #[case] body: &[u8],
    ) {
        let (rendered_kind, rendered_body) = rendered(form, value);
        assert_eq!(rendered_kind, kind);
        assert_eq!(rendered_body, body, "{}", rendered_body.escape_ascii());
    }

    proptest! {
        #[test]
        fn any_value_comes_back_out_of_json(value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}".prop_map(String::into_bytes),
        ]) {
            let doc: serde_json::Value = serde_json::from_slice(&rendered(Form::Json, &value).1).unwrap();
            let message = doc["message"].as_str().unwrap();
            let back = match doc["encoding"].as_str() {
                Some(_) => STANDARD.decode(message).unwrap(),
                None => message.as_bytes().to_vec(),
            };
            prop_assert_eq!(back, value);
        }

        #[test]
        fn no_value_breaks_out_of_its_markup(value in prop::collection::vec(any::<u8>(), 0..40)) {
            for (form, tags) in [(Form::Html, 4), (XML, 2)] {
                let markup = rendered(form, &value).1;
                prop_assert_eq!(markup.iter().filter(|&&byte| byte == b'<').count(), tags);
            }
        }
    }
}
