//! Bytes on their way in and out of the command line: keys and values are any bytes.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::CliError;

/// A value from an argument, a file, or standard input (`-`, or neither of the two given).
pub fn read(argument: Option<&OsStr>, file: Option<&Path>) -> Result<Vec<u8>, CliError> {
    if let Some(path) = file {
        let what = path.display().to_string();
        return fs::read(path).map_err(|source| CliError::Input { what, source });
    }
    match argument {
        Some(text) if text != "-" => Ok(text.as_bytes().to_vec()),
        _ => {
            let mut bytes = Vec::new();
            let what = "standard input".to_owned();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|source| CliError::Input { what, source })?;
            Ok(bytes)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64() {
        let mut object = Map::new();
        insert(&mut object, "key", b"a");
        insert(&mut object, "value", b"\xff");
        assert_eq!(Value::from(object).to_string(), r#"{"key":"a","value_base64":"/w=="}"#);
    }
}
