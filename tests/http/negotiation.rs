//! Which form a value comes in, for what programs really send.

use rstest::rstest;

use super::fixture::{Front, get, put};

const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
    image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const FIREFOX_66: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";
const FIREFOX_IMAGE: &str = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
const SAFARI: &str = FIREFOX;
const OLD_JAVA: &str = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2";
const JQUERY: &str = "application/json, text/javascript, */*; q=0.01";

const HTML: &str = "<html><body>v</body></html>";
const XML: &str = "<message>v</message>";
const JSON: &str = "{\"message\":\"v\"}";

/// A value stored as PNG, asked for with an Accept header (`-`: none at all).
#[rstest]
// Programs.
#[case::curl("*/*", 200, "v")]
#[case::fetch("*/*", 200, "v")]
#[case::python_requests("*/*", 200, "v")]
#[case::python_urllib("-", 200, "v")]
#[case::go("-", 200, "v")]
#[case::java_http_client("-", 200, "v")]
#[case::old_java(OLD_JAVA, 200, HTML)]
#[case::wget("*/*", 200, "v")]
#[case::jquery(JQUERY, 200, JSON)]
#[case::chrome(CHROME, 200, "v")]
#[case::firefox(FIREFOX, 200, "v")]
#[case::firefox_66(FIREFOX_66, 200, "v")]
#[case::firefox_image(FIREFOX_IMAGE, 200, "v")]
#[case::safari(SAFARI, 200, "v")]
#[case::axios("application/json, text/plain, */*", 200, "v")]
#[case::ndjson("application/x-ndjson", 406, "")]
// The matrix of the original system.
#[case::empty("", 200, "v")]
#[case::blank(" ", 200, "v")]
#[case::star("*", 200, "v")]
#[case::any_text("text/*", 200, HTML)]
#[case::html("text/html", 200, HTML)]
#[case::txt("text/plain; charset=utf-8", 200, "v")]
#[case::json("application/json", 200, JSON)]
#[case::xml("application/xml", 200, XML)]
#[case::text_xml("text/xml", 200, XML)]
#[case::x_xml("application/x-xml", 200, XML)]
#[case::any_application("application/*", 200, JSON)]
#[case::no_match("video/mp4", 406, "")]
#[case::vendor("application/vnd.x+json", 406, "")]
#[case::upper_case("APPLICATION/JSON", 200, JSON)]
#[case::q_among_equals("application/json;q=0.5, text/plain;q=0.6", 200, "v")]
#[case::q_before_specificity("text/html;q=0.1, */*;q=0.9", 200, "v")]
#[case::q_zero("application/json;q=0", 406, "")]
#[case::malformed("html", 400, "")]
#[case::malformed_param("text/html;level", 400, "")]
#[case::malformed_q("text/html;q=abc", 400, "")]
// What is ours.
#[case::stored("image/*", 200, "v")]
#[case::stored_excluded("*/*, image/*;q=0", 200, HTML)]
#[case::all_excluded("*/*;q=0", 406, "")]
#[case::half_quality_ties("application/json, image/png;q=0.5", 200, "v")]
#[case::half_quality_wins("application/json, image/png;q=0.4", 200, JSON)]
#[case::short_q("application/json;q=.2, text/html;q=.3", 200, HTML)]
#[case::nonsense_is_left_out("html, image/png", 200, "v")]
#[actix_web::test]
async fn a_value_comes_in_the_form_that_is_preferred(
    #[case] accept: &'static str,
    #[case] status: u16,
    #[case] body: &str,
) {
    let front = Front::new();
    let put = put("/bucket/k").insert_header(("content-type", "image/png")).set_payload("v");
    assert_eq!(front.ask(put).await.status, 201);
    for path in ["/bucket/k", "/canonicalbucket/k"] {
        let mut request = get(path);
        if accept != "-" {
            request = request.insert_header(("accept", accept));
        }
        let answer = front.ask(request).await;
        assert_eq!(answer.header("vary"), "Accept");
        match status {
            200 => assert_eq!((answer.status.as_u16(), answer.text()), (200, body)),
            406 => drop(answer.assert_problem_as(406, "not-acceptable")),
            _ => drop(answer.assert_problem_as(400, "bad-accept")),
        }
    }
}

#[rstest]
#[case("text/html", "html", "text/html; charset=utf-8")]
#[case("text/xml", "xml", "text/xml; charset=utf-8")]
#[case("application/json", "json", "application/json")]
#[case("text/plain", "txt", "text/plain; charset=utf-8")]
#[actix_web::test]
async fn a_rendering_has_an_entity_tag_of_its_own(
    #[case] accept: &'static str,
    #[case] variant: &str,
    #[case] kind: &str,
) {
    let front = Front::new();
    let request = put("/bucket/k").insert_header(("content-type", "image/png"));
    let stored = front.ask(request.set_payload("v")).await.header("etag").to_owned();
    let ask = async |name: &'static str, value: &str| {
        let request = get("/bucket/k").insert_header(("accept", accept));
        front.ask(request.insert_header((name, value.to_owned()))).await
    };
    let shown = ask("x-none", "").await;
    let etag = shown.header("etag").to_owned();
    assert_eq!(etag, format!("\"{};{variant}\"", stored.trim_matches('"')));
    assert_eq!(shown.header("content-type"), kind);
    let known = ask("if-none-match", &etag).await;
    assert_eq!((known.status.as_u16(), known.header("etag")), (304, etag.as_str()));
    assert_eq!(ask("if-none-match", &stored).await.status, 200, "the stored form is another");
    assert_eq!(ask("if-match", &etag).await.status, 200);
    let update = put("/bucket/k").insert_header(("if-match", etag)).set_payload("w");
    assert_eq!(front.ask(update).await.status, 204, "what was seen is this version");
}
