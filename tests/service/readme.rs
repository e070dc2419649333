//! The console blocks of the README, of docs/api.md and docs/feed.md, run as they stand, in order,
//! each document against a service with the defaults.

use std::process::Command;

use super::process::Service;

/// The address that the documents write.
const ADDRESS: &str = "127.0.0.1:8080";
/// Stands for anything, within a line or for any number of lines.
const ANYTHING: &str = "...";

/// A command with the lines that it is said to print.
#[derive(Debug)]
struct Example {
    command: String,
    output: Vec<String>,
}

impl Example {
    /// The next line: of the command as long as it goes on, else of what it prints.
    fn go_on(&mut self, line: &str) {
        match line.strip_prefix("> ") {
            Some(more) if self.output.is_empty() => {
                self.command.push('\n');
                self.command.push_str(more);
            }
            Some(_) | None => self.output.push(line.to_owned()),
        }
    }
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    examples.push(Example { command: command.to_owned(), output: Vec::new() });
                }
                None => examples.last_mut().unwrap().go_on(line),
            }
        }
    }
    examples
}

/// Whether a printed text is what the example says. Dots on a line of their own stand for any
/// number of lines, none included.
fn matches(expected: &str, printed: &str) -> bool {
    let expected = expected.replace(&format!("\n{ANYTHING}\n"), &format!("\n{ANYTHING}"));
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let at = if is_last { rest.rfind(part) } else { rest.find(part) };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn the_readme_says_what_happens() {
    says_what_happens("README.md");
}

#[test]
fn the_description_of_the_interface_says_what_happens() {
    says_what_happens("docs/api.md");
}

#[test]
fn the_description_of_the_feed_says_what_happens() {
    says_what_happens("docs/feed.md");
}

fn says_what_happens(document: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::copy(format!("{root}/configuration.toml"), folder.path().join("configuration.toml"))
        .unwrap();
    let service = Service::start(folder.path());
    let address = service.address().to_string();
    let text = std::fs::read_to_string(format!("{root}/{document}")).unwrap();
    let examples = examples(&text);
    assert!(examples.len() > 10, "{examples:?}");
    for Example { command, output } in examples {
        let run = command
            .replace(ADDRESS, &address)
            .replace("curl ", "curl -sS --max-time 60 ")
            .replace("datastore ", concat!(env!("CARGO_BIN_EXE_datastore"), " "));
        let printed = Command::new("sh")
            // As in a terminal: what goes wrong stands between the lines, and is compared.
            .args(["-c", &format!("exec 2>&1; {run}")])
            .current_dir(folder.path())
            .env("DATASTORE_URL", service.url())
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap().replace('\r', "");
        let expected = output.join("\n");
        assert!(matches(&expected, printed.trim_end()), "{command}\n{printed}\nnot\n{expected}");
    }
    service.stop();
}

#[test]
fn dots_stand_for_anything() {
    assert!(matches("a", "a") && !matches("a", "ab") && !matches("a", "b"));
    assert!(matches("a...c", "abbc") && !matches("a...c", "abb") && matches("a...", "a"));
    assert!(matches("a\n...\nb\n...\nc", "a\nx: y\nb\nz\n\nc"));
    assert!(matches("a\n...\nb\n...\nc", "a\nb\nc") && !matches("a\n...\nb", "a\n"));
}
