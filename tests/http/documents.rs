//! What the documents say of the tests is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions in the Rust files under `folder`.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                let after = line.trim_start().strip_prefix("async ").unwrap_or(line.trim_start());
                if let Some(rest) = after.strip_prefix("fn ") {
                    names.extend(rest.split('(').next().map(str::to_owned));
                }
            }
        }
    }
}

/// Holds that each row of the tables of a document ends with the name of a test that exists; how
/// many there are.
fn rows_with_tests(document: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for folder in ["src", "tests"] {
        functions(&root.join(folder), &mut known);
    }
    let text = fs::read_to_string(root.join(document)).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.ends_with("| test |");
    let rows: Vec<&str> = text.lines().filter(is_row).collect();
    for line in &rows {
        let name = line.trim_end_matches(" |").rsplit(" | ").next().unwrap().trim_matches('`');
        assert!(known.contains(name), "{name} is no test: {line}");
    }
    rows.len()
}

#[test]
fn every_difference_has_a_test_that_exists() {
    let rows = rows_with_tests("docs/compatibility.md");
    assert!(rows > 50, "{rows}");
}

#[test]
fn every_operation_has_a_test_that_exists() {
    let rows = rows_with_tests("docs/acceptance.md");
    assert!(rows > 30, "{rows}");
}
