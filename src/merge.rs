//! JSON merge patch (RFC 7396) over text: what a patch does not touch keeps its very bytes.
//!
//! A value is the client's text, not ours: numbers beyond 64 bits, the order of members, their
//! spelling and the space between them mean something to whoever wrote it. So nothing is parsed
//! into values and printed again. In the objects that the patch names, untouched members are copied
//! as they stand, and a new member takes the indentation of its object's first one.
//!
//! # Rules where RFC 7396 is silent
//!
//! * A name that stands twice in a *patch* is refused: nobody can say which one counts. In a
//!   *standing* value each of the two is changed, so that every reader sees the change.
//! * Names are compared decoded: `"\u0061"` is `"a"`.
//! * Both texts may nest [`NESTING_MAX`] deep, and a patch may name [`MEMBERS_MAX`] members: the
//!   merge recurses as deep as the patch, and passes over the standing text once, inside a
//!   transaction.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

/// How deep objects and arrays may nest: what JSON readers commonly take.
pub const NESTING_MAX: usize = 128;
/// How many members a patch may name: who changes more than that may as well send the value.
pub const MEMBERS_MAX: usize = 10_000;

/// Why a text is no patch, or cannot be patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Not one JSON value in UTF-8.
    #[error("it is not JSON")]
    NotJson,
    /// Nested deeper than [`NESTING_MAX`].
    #[error("it nests deeper than {NESTING_MAX} objects and arrays")]
    TooDeep,
    /// More members than [`MEMBERS_MAX`].
    #[error("it names more than {MEMBERS_MAX} members")]
    TooMany,
    /// An object of a patch names a member twice.
    #[error("an object in it names a member twice")]
    NamedTwice,
    /// The result has more bytes than a value may have.
    #[error("the merged value has {bytes} bytes; the limit is {max}")]
    TooLarge {
        /// What it came to.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
}

/// A patch that was found well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    text: Bytes,
    root: Node,
}

/// One value of a patch; places are bytes of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Takes the member away.
    Null(Range<usize>),
    /// Replaces what stands.
    Value(Range<usize>),
    /// Changes the members that it names.
    Object { members: Vec<Member>, by_name: HashMap<Vec<u8>, usize> },
}

/// One member that an object of a patch names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    /// From the name's quote up to the value: with colon and space.
    head: Range<usize>,
    node: Node,
}

impl Patch {
    /// Checks the text of a patch.
    pub fn parse(text: Bytes) -> Result<Self, MergeError> {
        let mut scan = Scan { text: check(&text)?, at: 0 };
        scan.space();
        let mut left = MEMBERS_MAX;
        let root = Node::read(&mut scan, &mut left)?;
        Ok(Self { text, root })
    }

    /// How many bytes it has.
    pub const fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it has no bytes: never, since that is not JSON.
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The `standing` text with the patch merged in, at most `bytes_max` long.
    pub fn apply(&self, standing: &[u8], bytes_max: usize) -> Result<Bytes, MergeError> {
        let text = check(standing)?;
        let patch = std::str::from_utf8(&self.text).map_err(|_| MergeError::NotJson)?;
        let merged = String::with_capacity(text.len() + patch.len());
        let mut merge = Merge { patch, standing: Scan { text, at: 0 }, merged };
        merge.copy_space();
        merge.value(&self.root).ok_or(MergeError::NotJson)?;
        merge.copy_space();
        let merged = merge.merged;
        if merged.len() > bytes_max {
            return Err(MergeError::TooLarge { bytes: merged.len(), max: bytes_max });
        }
        Ok(merged.into())
    }
}

impl Node {
    fn read(scan: &mut Scan<'_>, left: &mut usize) -> Result<Self, MergeError> {
        let start = scan.at;
        if !scan.take('{') {
            let value = scan.value().ok_or(MergeError::NotJson)?;
            let place = start..scan.at;
            return Ok(if value == "null" { Self::Null(place) } else { Self::Value(place) });
        }
        let (mut members, mut by_name) = (Vec::new(), HashMap::new());
        scan.space();
        while !scan.take('}') {
            *left = left.checked_sub(1).ok_or(MergeError::TooMany)?;
            let head = scan.at;
            let name = scan.name().ok_or(MergeError::NotJson)?;
            if by_name.insert(decoded(name), members.len()).is_some() {
                return Err(MergeError::NamedTwice);
            }
            let head = head..scan.at;
            members.push(Member { head, node: Self::read(scan, left)? });
            scan.space();
            scan.take(',');
            scan.space();
        }
        Ok(Self::Object { members, by_name })
    }
}

/// One merge under way: over the standing text once, from front to back.
struct Merge<'a> {
    patch: &'a str,
    standing: Scan<'a>,
    merged: String,
}

impl Merge<'_> {
    fn copy_space(&mut self) {
        let space = self.standing.space();
        self.merged.push_str(space);
    }

    /// RFC 7396's `MergePatch` for the value that stands here; `None`: it is not JSON, which
    /// [`check`] has ruled out.
    fn value(&mut self, patch: &Node) -> Option<()> {
        match patch {
            Node::Object { members, by_name } if self.standing.take('{') => {
                self.object(members, by_name)
            }
            Node::Null(_) | Node::Value(_) | Node::Object { .. } => {
                self.standing.value()?;
                self.insert(patch);
                Some(())
            }
        }
    }

    fn object(&mut self, members: &[Member], by_name: &HashMap<Vec<u8>, usize>) -> Option<()> {
        let mut seen = vec![false; members.len()];
        let mut separator = "";
        self.merged.push('{');
        let mut lead = self.standing.space();
        let indent = if self.standing.peek() == Some(b'}') { "" } else { lead };
        while !self.standing.take('}') {
            let start = self.standing.at;
            let name = decoded(self.standing.name()?);
            let head = &self.standing.text[start..self.standing.at];
            let change = by_name.get(&name).copied();
            let patch = change.map(|place| {
                seen[place] = true;
                &members[place].node
            });
            if let Some(Node::Null(_)) = patch {
                self.standing.value()?;
            } else {
                self.merged.extend([separator, lead, head]);
                match patch {
                    Some(patch) => self.value(patch)?,
                    None => {
                        let value = self.standing.value()?;
                        self.merged.push_str(value);
                    }
                }
                separator = ",";
            }
            lead = self.standing.space();
            if self.standing.take(',') {
                lead = self.standing.space();
            }
        }
        for (member, _) in members.iter().zip(seen).filter(|(_, seen)| !seen) {
            if !matches!(member.node, Node::Null(_)) {
                self.merged.extend([separator, indent, &self.patch[member.head.clone()]]);
                self.insert(&member.node);
                separator = ",";
            }
        }
        self.merged.push_str(lead);
        self.merged.push('}');
        Some(())
    }

    /// What the patch makes of nothing: itself, without members that it takes away.
    fn insert(&mut self, patch: &Node) {
        match patch {
            Node::Null(place) | Node::Value(place) => {
                self.merged.push_str(&self.patch[place.clone()]);
            }
            Node::Object { members, .. } => {
                let mut separator = "{";
                for member in members {
                    if !matches!(member.node, Node::Null(_)) {
                        self.merged.extend([separator, &self.patch[member.head.clone()]]);
                        self.insert(&member.node);
                        separator = ",";
                    }
                }
                self.merged.push_str(if separator == "{" { "{}" } else { "}" });
            }
        }
    }
}

/// A JSON text that is well-formed and does not nest too deep.
fn check(text: &[u8]) -> Result<&str, MergeError> {
    let text = std::str::from_utf8(text).map_err(|_| MergeError::NotJson)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| MergeError::NotJson)?;
    let (mut depth, mut deepest, mut bytes) = (0_usize, 0, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > NESTING_MAX { Err(MergeError::TooDeep) } else { Ok(text) }
}

/// Goes on to after the closing quote.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// What JSON allows between its tokens.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A place in a text that [`check`] has found well-formed.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, token: char) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len_utf8() } else { 0 };
        found
    }

    fn space(&mut self) -> &'a str {
        let rest = self.rest();
        self.pass(rest.len() - rest.trim_start_matches(SPACE).len())
    }

    fn pass(&mut self, length: usize) -> &'a str {
        let passed = &self.rest()[..length];
        self.at += length;
        passed
    }

    /// A member's name, without its quotes; goes on to the value.
    fn name(&mut self) -> Option<&'a str> {
        let name = self.value()?;
        self.space();
        self.take(':');
        self.space();
        name.get(1..name.len().checked_sub(1)?)
    }

    /// A whole value, whatever it is.
    fn value(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let length = match self.peek()? {
            b'"' | b'{' | b'[' => {
                let (mut depth, mut bytes) = (0_usize, rest.bytes());
                loop {
                    match bytes.next()? {
                        b'"' => skip_string(&mut bytes),
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break rest.len() - bytes.len();
                    }
                }
            }
            _ => rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()),
        };
        Some(self.pass(length))
    }
}

/// The text between the quotes of a name, its escapes decoded. A lone surrogate, which is no
/// character, becomes the three bytes that its number would have: equal to itself only.
fn decoded(text: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let mut after = escape.get(1..).unwrap_or_default();
        match escape.as_bytes().first() {
            Some(b'u') => {
                let (unit, low) = (code_unit(after), after.get(4..).and_then(paired));
                after = after.get(4..).unwrap_or_default();
                let code = match (unit, low) {
                    (0xd800..=0xdbff, Some(low)) => {
                        after = after.get(6..).unwrap_or_default();
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    _ => unit,
                };
                push_code(&mut name, code);
            }
            Some(b'b') => name.push(8),
            Some(b'f') => name.push(12),
            Some(b'n') => name.push(b'\n'),
            Some(b'r') => name.push(b'\r'),
            Some(b't') => name.push(b'\t'),
            Some(&itself) => name.push(itself),
            None => {}
        }
        rest = after;
    }
    name.extend_from_slice(rest.as_bytes());
    name
}

fn code_unit(text: &str) -> u32 {
    text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// The low surrogate that `text` begins with.
fn paired(text: &str) -> Option<u32> {
    let unit = code_unit(text.strip_prefix("\\u")?);
    (0xdc00..=0xdfff).contains(&unit).then_some(unit)
}

fn push_code(name: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(c) => name.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => name.extend(code.to_be_bytes()[1..].iter().chain(&[0xff])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn merged(standing: &str, patch: &str) -> Result<String, MergeError> {
        let patch = Patch::parse(Bytes::copy_from_slice(patch.as_bytes()))?;
        let merged = patch.apply(standing.as_bytes(), 1 << 20)?;
        Ok(String::from_utf8(merged.to_vec()).unwrap())
    }

    /// The examples of RFC 7396, appendix A.
    #[rstest]
    #[case(r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#)]
    #[case(r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#)]
    #[case(r#"{"a":"b"}"#, r#"{"a":null}"#, "{}")]
    #[case(r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#)]
    #[case(r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#)]
    #[case(r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#)]
    #[case(r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#)]
    #[case(r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#)]
    #[case(r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#)]
    #[case(r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#)]
    #[case(r#"{"a":"foo"}"#, "null", "null")]
    #[case(r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#)]
    #[case(r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#)]
    #[case("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#)]
    #[case("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#)]
    fn the_examples_of_the_standard(
        #[case] standing: &str,
        #[case] patch: &str,
        #[case] result: &str,
    ) {
        assert_eq!(merged(standing, patch).as_deref(), Ok(result));
    }

    #[rstest]
    #[case::numbers(
        r#"{"n": 1.10e+5, "id": 12345678901234567890123, "x": 1}"#,
        r#"{"x":2}"#,
        r#"{"n": 1.10e+5, "id": 12345678901234567890123, "x": 2}"#
    )]
    #[case::indented(
        "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": 2\n  }\n}\n",
        r#"{"b": {"d": 3}, "e": 4}"#,
        "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": 2,\n    \"d\": 3\n  },\n  \"e\": 4\n}\n"
    )]
    #[case::the_last_goes("{\n  \"a\": 1,\n  \"b\": 2\n}", r#"{"b":null}"#, "{\n  \"a\": 1\n}")]
    #[case::escaped_names(
        r#"{"\u0061":1,"\ud83d\ude00":2}"#,
        r#"{"a":3,"😀":null}"#,
        r#"{"\u0061":3}"#
    )]
    #[case::doubles(r#"{"a":1,"b":1,"a":2,"b":2}"#, r#"{"a":3}"#, r#"{"a":3,"b":1,"a":3,"b":2}"#)]
    #[case::lone_surrogates(r#"{"\ud800":1,"\ud801":2}"#, r#"{"\ud801":null}"#, r#"{"\ud800":1}"#)]
    #[case::braces_in_strings(r#"{"a":"}{\"]","b":[1]}"#, r#"{"b":0}"#, r#"{"a":"}{\"]","b":0}"#)]
    fn untouched_members_keep_their_text(
        #[case] standing: &str,
        #[case] patch: &str,
        #[case] result: &str,
    ) {
        assert_eq!(merged(standing, patch).as_deref(), Ok(result));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "plain", "{'a':1}", "{}{}", "{\"a\":01}", "\u{feff}{}"] {
            assert_eq!(merged("{}", text), Err(MergeError::NotJson), "{text:?}");
            assert_eq!(merged(text, "{}"), Err(MergeError::NotJson), "{text:?}");
        }
        let patch = Patch::parse(Bytes::from_static(b"{}")).unwrap();
        assert_eq!(patch.apply(b"\"\xff\"", 100), Err(MergeError::NotJson));
        assert_eq!(merged("{}", r#"{"a":{"b":1,"\u0062":2}}"#), Err(MergeError::NamedTwice));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(merged(&nested(128), &nested(128)), Ok(nested(128)));
        assert_eq!(merged("{}", &nested(129)), Err(MergeError::TooDeep));
        assert_eq!(merged(&"[".repeat(100_000), "{}"), Err(MergeError::NotJson));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(merged(&deep, "{}"), Err(MergeError::TooDeep));
        let members: Vec<String> = (0..=MEMBERS_MAX).map(|n| format!("\"{n}\":0")).collect();
        assert_eq!(merged("{}", &format!("{{{}}}", members.join(","))), Err(MergeError::TooMany));
        let patch = Patch::parse(Bytes::from_static(br#"{"a":"xxxx"}"#)).unwrap();
        assert_eq!(patch.apply(b"{}", 12).unwrap().len(), 12);
        assert_eq!(patch.apply(b"{}", 11), Err(MergeError::TooLarge { bytes: 12, max: 11 }));
    }

    /// RFC 7396 section 2, over parsed values.
    fn by_the_book(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = target.as_object().cloned().unwrap_or_default();
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                let merged = by_the_book(target.get(name).unwrap_or(&json!(null)), value);
                target.insert(name.clone(), merged);
            }
        }
        Value::Object(target)
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\{},:é\u{1}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let object = prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
                object.prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn merging_text_is_merging_values(target in values(), patch in values(), pretty in any::<bool>()) {
            let print = |value: &Value| match pretty {
                true => serde_json::to_string_pretty(value).unwrap(),
                false => value.to_string(),
            };
            let merged = merged(&print(&target), &print(&patch)).unwrap();
            let parsed: Value = serde_json::from_str(&merged).unwrap();
            prop_assert_eq!(parsed, by_the_book(&target, &patch), "{}", merged);
        }

        #[test]
        fn any_bytes_are_merged_or_refused(
            target in prop_oneof!["[{}\\[\\]:,\"\\\\a-cu0-9d ]{0,30}", "\\PC{0,30}"],
            patch in prop_oneof!["[{}\\[\\]:,\"\\\\a-cu0-9d ]{0,30}", "\\PC{0,30}"],
        ) {
            let _ = merged(&target, &patch);
            let _ = merged(&target, r#"{"a":{"b":null}}"#);
            let _ = merged(r#"{"a":{"b":1},"c":2}"#, &patch);
        }
    }
}
