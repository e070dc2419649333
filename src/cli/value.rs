//! Bytes on their way in and out of the command line: keys and values are any bytes.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::CliError;

/// The largest value that is sent: no engine holds a larger one, whatever a service allows.
const VALUE_BYTES_MAX: u64 = 1 << 30;

/// What cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is nothing that has no name.
    #[error("KEY is empty; a key has at least one byte")]
    EmptyKey,
    /// Said to be base64, and is not.
    #[error("{what} is not base64 with its padding")]
    NotBase64 {
        /// Which argument.
        what: &'static str,
    },
    /// No value to send.
    #[error("cannot read {what}")]
    Unreadable {
        /// The file, or standard input.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than any partition holds.
    #[error("{what} has more than {VALUE_BYTES_MAX} bytes, which no partition holds")]
    TooLarge {
        /// The file, or standard input.
        what: String,
    },
}

/// The bytes of an argument.
pub fn decode(what: &'static str, given: &OsStr, is_base64: bool) -> Result<Vec<u8>, InputError> {
    if is_base64 {
        STANDARD.decode(given.as_bytes()).map_err(|_| InputError::NotBase64 { what })
    } else {
        Ok(given.as_bytes().to_vec())
    }
}

/// A value from a file.
pub fn of_file(path: &Path) -> Result<Vec<u8>, InputError> {
    let what = path.display().to_string();
    match File::open(path) {
        Ok(file) => read(what, file),
        Err(source) => Err(InputError::Unreadable { what, source }),
    }
}

/// A value from standard input.
pub fn of_standard_input() -> Result<Vec<u8>, InputError> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        eprintln!("reading the value from the keyboard; Ctrl-D on a new line ends it");
    }
    read("standard input".to_owned(), input)
}

fn read(what: String, input: impl Read) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    match input.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > VALUE_BYTES_MAX => Err(InputError::TooLarge { what }),
        Ok(_) => Ok(bytes),
        Err(source) => Err(InputError::Unreadable { what, source }),
    }
}

/// Writes bytes to standard output as they are.
pub fn print(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes one JSON value in one line.
pub fn print_json(value: &Value) -> Result<(), CliError> {
    print(format!("{value}\n").as_bytes())
}

/// Adds bytes to an object: as text under `name`, or as base64 under `name_base64`.
pub fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Takes bytes out of an object, as [`insert`] put them there.
pub fn bytes_of(object: &Value, name: &str) -> Option<Vec<u8>> {
    match object.get(name) {
        Some(text) => Some(text.as_str()?.as_bytes().to_vec()),
        None => STANDARD.decode(object.get(format!("{name}_base64"))?.as_str()?).ok(),
    }
}

/// Bytes for a person to look at: on one line, and without what a terminal would act upon.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a String takes all that is written to it");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64() {
        let mut object = Map::new();
        insert(&mut object, "key", b"a");
        insert(&mut object, "value", b"\xff");
        let object = Value::from(object);
        assert_eq!(object.to_string(), r#"{"key":"a","value_base64":"/w=="}"#);
        assert_eq!(bytes_of(&object, "key").as_deref(), Some(&b"a"[..]));
        assert_eq!(bytes_of(&object, "value").as_deref(), Some(&b"\xff"[..]));
        assert_eq!(bytes_of(&object, "other"), None);
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_written_out() {
        assert_eq!(shown("a b/é\u{1b}[2J\n\\".as_bytes()), "a b/é\\u{1b}[2J\\n\\\\");
        assert_eq!(shown(b"\xffx\xfe"), "\\xffx\\xfe");
    }

    #[test]
    fn an_argument_is_its_bytes_or_base64_of_them() {
        assert_eq!(decode("KEY", OsStr::new("/w=="), false).unwrap(), b"/w==");
        assert_eq!(decode("KEY", OsStr::new("/w=="), true).unwrap(), b"\xff");
        let error = decode("KEY", OsStr::new("/w"), true).unwrap_err();
        assert_eq!(error.to_string(), "KEY is not base64 with its padding");
    }
}
