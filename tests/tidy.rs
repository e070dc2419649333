//! Style as a test: what a reviewer would otherwise have to say again and again.
//!
//! The rules are checked on the text, line by line, after `rustfmt`; they know as much of Rust as
//! they need and no more. A rule that gets in the way of good code is changed here, not gone
//! around.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the bottom up: each may name those before it, none after it. ARCHITECTURE.md
/// shows the same list.
const MODULES: &[&str] = &[
    "rules",
    "version",
    "vector",
    "record",
    "merge",
    "write",
    "clock",
    "duration",
    "performance",
    "topology",
    "partition",
    "register",
    "secret",
    "config",
    "founding",
    "session",
    "ack",
    "age",
    "lane",
    "sync",
    "failover",
    "jobs",
    "feed",
    "upkeep",
    "store",
    "frontends",
    "subscription",
    "roster",
    "orchestrator",
    "http",
    "server",
    "client",
    "cli",
];

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Written apart, so that this file does not find itself.
const LEFTOVERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("d", "bg!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
const SLEEPS: &[&str] = &[concat!("thread::", "sleep"), concat!("time::", "sleep(")];
const MACHINE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/fa", "rm/"),
    concat!("deb.", "debian.org"),
    concat!("crates", ".io/"),
];

/// A text file of the repository.
struct Text {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl Text {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|e| e.to_str()).unwrap_or("");
        extensions.contains(&extension)
    }

    /// Whether a line that is too long is anybody's fault: `rustfmt` keeps code short, but for
    /// texts; tables and links cannot be broken.
    fn has_to_be_wrapped(&self, line: &str) -> bool {
        let line = line.trim_start();
        if self.has_extension(&["rs"]) {
            line.starts_with("//") && !line.starts_with("//! |")
        } else if self.has_extension(&["md"]) {
            let is_evidence = self.path.starts_with("docs/evidence/");
            !is_evidence && !line.starts_with('|') && !line.contains("](")
        } else if self.has_extension(&["sql"]) {
            line.starts_with("--")
        } else {
            self.has_extension(&["toml", "service"]) || self.text.starts_with("#!")
        }
    }

    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text that people write: not what git ignores, not the lock file.
fn texts() -> Vec<Text> {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut texts = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if ignored.contains(name.as_str()) || name == ".git" || name == "Cargo.lock" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(root().join(&path)) {
                texts.push(Text { path: path.to_str().unwrap().replace('\\', "/"), text });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(texts.len() > 20, "the repository is not here");
    texts
}

fn sources() -> Vec<Text> {
    texts().into_iter().filter(|text| text.has_extension(&["rs"])).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn lines_have_at_most_100_columns() {
    let mut problems = Vec::new();
    for text in texts() {
        for (number, line) in text.lines().filter(|(_, line)| line.chars().count() > COLUMNS_MAX) {
            if text.has_to_be_wrapped(line) {
                problems.push(format!("{}:{number}: {} columns", text.path, line.chars().count()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn files_have_at_most_600_lines() {
    let long = |text: &Text| {
        let lines = text.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", text.path))
    };
    assert_none(&sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn functions_have_at_most_70_lines() {
    let mut problems = Vec::new();
    for text in sources() {
        let lines: Vec<&str> = text.text.lines().collect();
        for (start, line) in lines.iter().enumerate().filter(|(_, line)| starts_function(line)) {
            let indent = line.len() - line.trim_start().len();
            let end = lines[start..].iter().position(|line| {
                let same = line.len() - line.trim_start().len() == indent;
                same && (line.trim() == "}" || line.ends_with(';') || line.ends_with(" }"))
            });
            let length = end.map_or(1, |end| end + 1);
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{}: {length} lines", text.path, start + 1));
            }
        }
    }
    assert_none(&problems);
}

fn starts_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = words.iter().position(|word| *word == "fn");
    before.is_some_and(|at| {
        words[..at].iter().all(|word| {
            word.starts_with("pub") || matches!(*word, "const" | "async" | "extern" | "unsafe")
        })
    })
}

#[test]
fn nothing_is_left_over() {
    let mut problems = Vec::new();
    for text in texts() {
        for (number, line) in text.lines() {
            let found = LEFTOVERS.iter().chain(MACHINE).find(|word| line.contains(**word));
            if let Some(word) = found {
                problems.push(format!("{}:{number}: {word}", text.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nobody_sleeps() {
    let mut problems = Vec::new();
    for text in sources() {
        for (number, line) in text.lines() {
            if SLEEPS.iter().any(|word| line.contains(word)) {
                problems.push(format!("{}:{number}: wait for a level, with a bound", text.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nothing_is_re_exported_by_glob() {
    let mut problems = Vec::new();
    for text in sources() {
        for (number, line) in text.lines() {
            let line = line.trim();
            if line.starts_with("pub") && line.contains("use ") && line.ends_with("::*;") {
                problems.push(format!("{}:{number}: {line}", text.path));
            }
        }
    }
    assert_none(&problems);
}

/// The module of a file under `src`: `["partition", "engine"]`; empty for `lib.rs` and `main.rs`.
fn module_of(path: &str) -> Vec<&str> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<&str> = inner.split('/').collect();
    if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
        module.pop();
    }
    module
}

/// The modules that a line of code names from the crate's root.
fn named_modules(line: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let part_of_word = line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let rest = &line[at + found.len()..];
        if part_of_word {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group.split([',', '}']).map(|name| ident(name.trim()))),
            None => names.push(ident(rest)),
        }
    }
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

#[test]
fn lower_modules_do_not_know_higher_ones() {
    let mut problems = Vec::new();
    for text in sources().iter().filter(|text| text.path.starts_with("src/")) {
        let module = module_of(&text.path);
        let Some(own) = module.first() else { continue };
        let Some(rank) = MODULES.iter().position(|name| name == own) else {
            problems.push(format!("{}: give {own} its place in the list of modules", text.path));
            continue;
        };
        for (number, line) in text.lines().filter(|(_, line)| !line.trim().starts_with("//")) {
            for name in named_modules(line) {
                let known = MODULES.iter().position(|module| *module == name);
                if known.is_some_and(|other| other > rank) {
                    problems.push(format!("{}:{number}: {own} names {name}", text.path));
                }
            }
            // At the file's own level so many `super` are the root of the crate.
            let outside = "super::".repeat(module.len());
            if line.starts_with(&format!("use {outside}")) {
                problems.push(format!("{}:{number}: write crate:: for other modules", text.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_list_of_modules_is_in_the_architecture() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut last = 0;
    for name in MODULES {
        if !root().join(format!("src/{name}.rs")).exists()
            && !root().join("src").join(name).exists()
        {
            panic!("the list of modules names {name}, which is not there");
        }
        let row = format!("| [`{name}`](src/{name}");
        let at = text.find(&row).unwrap_or_else(|| panic!("no row begins {row:?}"));
        assert!(at > last, "{name} is out of order");
        last = at;
    }
}

/// The files that `mod name;` in this file means.
fn children(text: &Text) -> Vec<String> {
    let path = Path::new(&text.path);
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let parent = path.parent().unwrap();
    let is_test_root = parent == Path::new("tests") && stem != "mod";
    let folder = match stem {
        "mod" | "lib" | "main" => parent.to_path_buf(),
        _ if is_test_root => parent.to_path_buf(),
        _ => parent.join(stem),
    };
    let names = text.lines().filter_map(|(_, line)| {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    names
        .flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")])
        .map(|path| path.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn no_file_is_dead() {
    let sources = sources();
    let reached: BTreeSet<String> = sources.iter().flat_map(children).collect();
    let is_root = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(
            parts[..],
            ["src", "lib.rs" | "main.rs"] | ["tests" | "examples", _] | ["tests", _, "main.rs"]
        )
    };
    let dead = |text: &&Text| !is_root(&text.path) && !reached.contains(&text.path);
    let dead: Vec<String> = sources.iter().filter(dead).map(|text| text.path.clone()).collect();
    assert_none(&dead);
}

#[test]
fn a_document_has_one_title() {
    let mut problems = Vec::new();
    for text in texts().iter().filter(|text| text.has_extension(&["md"])) {
        let mut fenced = false;
        let mut titles = 0;
        for (_, line) in text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            titles += usize::from(!fenced && line.starts_with("# "));
        }
        if titles != 1 || !text.text.starts_with("# ") {
            problems.push(format!("{}: {titles} titles", text.path));
        }
    }
    assert_none(&problems);
}

#[test]
fn links_lead_somewhere() {
    let mut problems = Vec::new();
    for text in texts().iter().filter(|text| text.has_extension(&["md"])) {
        let folder = root().join(&text.path).parent().unwrap().to_owned();
        for (number, line) in text.lines() {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let inside = targets.filter(|target| !target.contains("://"));
            for target in inside.map(|target| target.split('#').next().unwrap_or_default()) {
                if !target.is_empty() && !folder.join(target).exists() {
                    problems.push(format!("{}:{number}: {target} is not there", text.path));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_source_says_what_it_is() {
    let is_documented = |text: &&Text| text.text.starts_with("//!");
    let is_exempt = |text: &&Text| {
        text.path == "src/main.rs"
            || text.path.starts_with("src/") && text.path.ends_with("tests.rs")
    };
    let silent: Vec<String> = sources()
        .iter()
        .filter(|text| !is_documented(text) && !is_exempt(text))
        .map(|text| format!("{}: begins without a module document", text.path))
        .collect();
    assert_none(&silent);
}
