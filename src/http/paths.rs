//! Keys in paths: our own percent-coding, over the path as it came.
//!
//! A key is any bytes. The framework's extractors decode lossily (they merge `%FF` and `%FE`), so a
//! handler reads the raw path and decodes it here: `%2F` is `/`, `+` is itself, a bad escape is an
//! error. A path that we *emit* (`Location`, lists, links) comes back unchanged from any URL
//! parser:
//!
//! * Whatever a parser might rewrite, strip or read as syntax is escaped; what stays is letters,
//!   digits and `-_.~:@,`, and `/` between segments.
//! * Parsers drop `.` and `..` segments, even when their dots are escaped, and some merge empty
//!   ones. In a key that has such a segment `/` is written as `%2F`, so that no segment stands
//!   alone.
//! * The keys `.` and `..` have no path that survives; only a batch reaches them.

use std::fmt::Write as _;

/// Where lazy reads and writes live.
pub const BUCKET: &str = "/bucket/";
/// Where canonical reads and writes live.
pub const CANONICAL: &str = "/canonicalbucket/";

/// A `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the % at byte {at} is not followed by two hexadecimal digits; write a literal % as %25")]
pub struct BadEscape {
    /// Where in the text, counted from 0.
    pub at: usize,
}

/// The bytes that a percent-encoded text stands for.
pub fn decode(text: &str) -> Result<Vec<u8>, BadEscape> {
    let raw = text.as_bytes();
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let escape = raw.get(at + 1).zip(raw.get(at + 2));
            let value = escape.and_then(|(&high, &low)| Some(nibble(high)? << 4 | nibble(low)?));
            bytes.push(value.ok_or(BadEscape { at })?);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    Ok(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether no path reaches this key: every client takes `.` and `..` out of a path.
pub fn is_unreachable(key: &[u8]) -> bool {
    matches!(key, b"." | b"..")
}

/// The path of `key` under `base` (which ends in `/`), safe to hand to any client.
pub fn emit(base: &str, key: &[u8]) -> String {
    let rewritten = |segment: &[u8]| segment.is_empty() || is_unreachable(segment);
    let joined = key.split(|&byte| byte == b'/').any(rewritten);
    let mut path = String::with_capacity(base.len() + key.len());
    path.push_str(base);
    if is_unreachable(key) {
        // It leads nowhere, but it must not lead to another resource.
        path.extend(key.iter().map(|_| "%2E"));
        return path;
    }
    push(&mut path, key, !joined);
    path
}

/// A query value that [`decode`] turns back into `bytes`.
pub fn emit_value(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    push(&mut text, bytes, false);
    text
}

fn push(text: &mut String, bytes: &[u8], keep_slash: bool) {
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b':' | b'@' | b',' => text.push(char::from(byte)),
            b'/' if keep_slash => text.push('/'),
            _ => write!(text, "%{byte:02X}").expect("a String takes all that is written to it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_bytes_and_plus_is_itself() {
        for (text, bytes) in [
            ("a%2Fb", &b"a/b"[..]),
            ("%ff%FE", b"\xff\xfe"),
            ("%00", b"\0"),
            ("a+b", b"a+b"),
            ("%C3%A9", "é".as_bytes()),
            ("//x/", b"//x/"),
            ("%2525", b"%25"),
            ("", b""),
        ] {
            assert_eq!(decode(text).as_deref(), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn a_bad_escape_is_told_with_its_place() {
        for (text, at) in [("%", 0), ("a%2", 1), ("ab%zz", 2), ("%2G", 0), ("%%20", 0), ("%+1", 0)]
        {
            assert_eq!(decode(text), Err(BadEscape { at }), "{text:?}");
        }
    }

    #[test]
    fn emitted_paths_are_readable_where_that_is_safe() {
        for (key, path) in [
            (&b"user:42/name"[..], "/bucket/user:42/name"),
            (b"a b", "/bucket/a%20b"),
            (b"a+b", "/bucket/a%2Bb"),
            (b"50%", "/bucket/50%25"),
            (b"/a", "/bucket/%2Fa"),
            (b"a//b/c", "/bucket/a%2F%2Fb%2Fc"),
            (b"a/../b", "/bucket/a%2F..%2Fb"),
            (b"a/", "/bucket/a%2F"),
            (b"...", "/bucket/..."),
            (b"a\\b", "/bucket/a%5Cb"),
            (b"a\r\nb", "/bucket/a%0D%0Ab"),
            (b"..", "/bucket/%2E%2E"),
            (b"\xff<'\"&;>", "/bucket/%FF%3C%27%22%26%3B%3E"),
        ] {
            assert_eq!(emit(BUCKET, key), path);
        }
    }

    fn is_dots(segment: &str) -> bool {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    }

    proptest! {
        #[test]
        fn an_emitted_path_leads_back_to_its_key(
            key in prop_oneof![
                prop::collection::vec(any::<u8>(), 1..40),
                // Mostly the bytes that paths are made of.
                prop::collection::vec(prop::sample::select(b"./%2eE\\?#a+ ".to_vec()), 1..12),
            ],
        ) {
            let path = emit(BUCKET, &key);
            let rest = path.strip_prefix(BUCKET).unwrap();
            prop_assert_eq!(decode(rest).unwrap(), key.clone());
            prop_assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~:@,/%".contains(&b)));
            if !is_unreachable(&key) {
                prop_assert!(rest.split('/').all(|segment| !segment.is_empty() && !is_dots(segment)));
            }
            prop_assert_eq!(decode(&emit_value(&key)).unwrap(), key);
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in ".{0,40}") {
            let _ = decode(&text);
        }
    }
}
