//! What people see in a browser: one frame for lists and problems, with a style of its own and
//! nothing to load or run. The renderings of values and messages are those of the original system
//! and have no frame.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;

use super::paths;

/// Follows the colours that the browser is set to.
const STYLE: &str = include_str!("page.css");

/// An HTML page; whatever is not ours in it has been [`escaped`].
pub fn answer(status: StatusCode, title: &str, body: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, mime::TEXT_HTML_UTF_8))
        .body(framed(title, body))
}

/// A page around `body`, which is HTML; `title` is text.
pub fn framed(title: &str, body: &str) -> String {
    let (title, keys) = (escaped(title), paths::BUCKET);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><nav><a href=\"{keys}\">all keys</a></nav>\
         <h1>{title}</h1>{body}</body></html>\n"
    )
}

/// Text inside HTML or XML, in elements and attribute values.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // Parsers turn it into a line feed.
            '\r' => html.push_str("&#13;"),
            _ => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_a_page_loads_nothing() {
        let page = framed("a < b", "<p>body</p>");
        assert!(page.contains("<h1>a &lt; b</h1><p>body</p></body>"), "{page}");
        for loading in ["src=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(loading), "{loading} in {page}");
        }
    }
}
