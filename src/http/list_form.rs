//! The forms that a list comes in: lines of text, JSON, lines of JSON, a page of links, XML.

use std::fmt::Write as _;
use std::sync::LazyLock;

use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use mime::Mime;

use super::answer;
use super::error::Problem;
use super::list::Page;
use super::negotiate::Accept;
use super::page::{escaped, framed};
use super::render::{Form, XmlName};
use super::wire::{ListDoc, RowDoc};

/// Lines of JSON.
pub const NDJSON: &str = "application/x-ndjson";

/// How a list is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// One path a line; or one of the renderings of a message.
    Like(Form),
    /// One object a line.
    Lines,
}

/// What a list of keys comes as; the first is the default.
const KEYS: [ListForm; 7] = [
    ListForm::Like(Form::Txt),
    ListForm::Like(Form::Json),
    ListForm::Like(Form::Html),
    ListForm::Like(Form::Xml(XmlName::Application)),
    ListForm::Like(Form::Xml(XmlName::Text)),
    ListForm::Like(Form::Xml(XmlName::Old)),
    ListForm::Lines,
];

static KEYS_TYPES: LazyLock<[Mime; 7]> = LazyLock::new(|| KEYS.map(ListForm::mime));
static LINES_TYPE: LazyLock<Mime> = LazyLock::new(|| ListForm::Lines.mime());

impl ListForm {
    /// The form that the client likes best. Values have one form only.
    pub fn choose(accept: &Accept, values: bool) -> Result<Self, Problem> {
        if values {
            let chosen = accept.choose_equal(&[&LINES_TYPE]).map(|_| Self::Lines);
            return chosen.ok_or_else(|| Problem::not_acceptable(NDJSON));
        }
        let chosen = accept.choose_equal(&KEYS_TYPES.each_ref()).map(|place| KEYS[place]);
        chosen.ok_or_else(|| {
            Problem::not_acceptable(
                "text/plain, application/json, text/html, application/xml or application/x-ndjson",
            )
        })
    }

    fn mime(self) -> Mime {
        match self {
            Self::Like(form) => form.mime(),
            Self::Lines => NDJSON.parse().expect("a media type"),
        }
    }

    /// The media type, for the answer.
    pub const fn header(self) -> HeaderValue {
        match self {
            Self::Like(form) => form.header(),
            Self::Lines => HeaderValue::from_static(NDJSON),
        }
    }

    /// A page in this form.
    pub fn render(self, page: &Page<'_>) -> Bytes {
        match self {
            Self::Like(Form::Stored | Form::Txt) => text(page).into(),
            Self::Like(Form::Json) => answer::json_bytes(&ListDoc {
                message: &page.paths,
                next: page.next.as_deref(),
                count: page.count,
            }),
            Self::Like(Form::Html) => html(page).into(),
            Self::Like(Form::Xml(_)) => xml(page).into(),
            Self::Lines => lines(page).into(),
        }
    }
}

fn text(page: &Page<'_>) -> String {
    let mut lines = String::with_capacity(page.paths.iter().map(|path| path.len() + 1).sum());
    for path in &page.paths {
        lines.push_str(path);
        lines.push('\n');
    }
    lines
}

fn lines(page: &Page<'_>) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in page.rows {
        lines.extend_from_slice(&answer::json_bytes(&RowDoc::new(row, page.values)));
        lines.push(b'\n');
    }
    lines
}

/// Emitted paths hold nothing that HTML or XML would read as syntax, but queries have `&`.
fn html(page: &Page<'_>) -> String {
    let mut html = "<ul>".to_owned();
    for path in &page.paths {
        append(&mut html, format_args!("<li><a href=\"{path}\">{path}</a></li>"));
    }
    html.push_str("</ul>");
    if page.paths.is_empty() && page.next.is_none() {
        html.push_str("<p>There are none here.</p>");
    }
    if let Some(count) = page.count {
        append(&mut html, format_args!("<p>{count} in all</p>"));
    }
    if let Some(next) = &page.next {
        let next = escaped(next);
        append(&mut html, format_args!("<p><a rel=\"next\" href=\"{next}\">next page</a></p>"));
    }
    framed("Keys", &html)
}

fn xml(page: &Page<'_>) -> String {
    let mut xml = "<message>".to_owned();
    for path in &page.paths {
        append(&mut xml, format_args!("<path>{path}</path>"));
    }
    if let Some(count) = page.count {
        append(&mut xml, format_args!("<count>{count}</count>"));
    }
    if let Some(next) = &page.next {
        append(&mut xml, format_args!("<next>{}</next>", escaped(next)));
    }
    xml.push_str("</message>");
    xml
}

fn append(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("a String takes all that is written to it");
}
