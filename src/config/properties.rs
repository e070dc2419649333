//! What holds for any configuration: it is taken, or refused in words that name section and key; in
//! bounded memory, and without repeating a secret.

use proptest::prelude::*;

use super::error::{ConfigError, Place, Problem, ProblemKind};
use super::*;

const SECRET: &str = "hunter2";
/// A line of a complaint: the key, its place, a value cut short, and our own words.
const LINE_BYTES_MAX: usize = 1000;

fn one_of(words: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn sections() -> impl Strategy<Value = String> {
    let known = one_of(&["server", "store", "sync", "partition", "partition.a"]);
    prop_oneof![4 => known, 1 => "[a-zA-Z_.\"]{0,8}"]
}

fn keys() -> impl Strategy<Value = String> {
    let fixed = raw::SECTIONS.iter().flat_map(|(_, keys)| keys.iter());
    let known: Vec<&str> = fixed.chain(raw::PARTITION.1).copied().collect();
    prop_oneof![4 => one_of(&known), 1 => "[a-zA-Z_.\"]{0,10}"]
}

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", "0", "1", "255", "1025", "-1", "18446744073709551616",
    "1s", "10m", "1h30m", "99999999999h", "true", "false", "yes", "a,b,,::1", ".",
    "127.0.0.1:0", "[::1]:80", "localhost", "master", "replica", "witness",
    "memory:", "sqlite:a.db", "sqlite:../a.db", "sqlite:", "nothing/there",
    "*/5 * * * * *", "* * * * *", "0 0 0 31 2 *",
];

/// A text where a value belongs.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        one_of(TEXTS),
        "[a-z:/@?=%.0-9*, -]{0,20}",
        "\\PC{0,12}",
        "[a-z0-9/:]{0,8}".prop_map(|rest| format!("mysql://user:{SECRET}@{rest}")),
        Just("x".repeat(5_000)),
    ]
}

fn quoted() -> impl Strategy<Value = String> {
    texts().prop_map(|text| toml::Value::String(text).to_string())
}

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "1", "-1", "1.5", "nan", "inf", "1e400", "0x10", "true", "2020-01-01", "2020-01-01T00:00:00Z",
    "{}", "{a=1}", "[]", "[1]", "[[]]", "[{}]", "[[\"a\"]]", "[true, \"a\"]",
];

/// A value as TOML may write it.
fn values() -> impl Strategy<Value = String> {
    let list = prop::collection::vec(quoted(), 0..3);
    let list = list.prop_map(|items| format!("[{}]", items.join(",")));
    prop_oneof![6 => quoted(), 1 => list, 1 => one_of(VALUES)]
}

fn lines() -> impl Strategy<Value = String> {
    let set = |(key, value)| format!("{key} = {value}");
    let dotted = |(section, key, value)| format!("{section}.{key} = {value}");
    prop_oneof![
        2 => sections().prop_map(|section| format!("[{section}]")),
        6 => (keys(), values()).prop_map(set),
        1 => (sections(), keys(), values()).prop_map(dotted),
        1 => "[\\[\\]\\{\\}=\"'a-z0-9#., ]{0,16}",
    ]
}

fn variables() -> impl Strategy<Value = (String, String)> {
    let named = |(section, key): (String, String)| format!("{}__{key}", section.replace('.', "__"));
    let words = prop_oneof![3 => (sections(), keys()).prop_map(named), 1 => "[a-z_]{0,12}"];
    (words, any::<bool>(), texts()).prop_map(|(words, upper, value)| {
        let name = format!("DATASTORE__{words}");
        (if upper { name.to_uppercase() } else { name }, value)
    })
}

fn check(text: &str, environment: &BTreeMap<String, String>) -> Result<(), TestCaseError> {
    let problems = match Config::from_layers(Some((Path::new("c.toml"), text)), environment) {
        Ok(config) => {
            prop_assert!(config.topology().is_ok());
            prop_assert!(
                (1..=crate::record::KEY_BYTES_WIDTH).contains(&config.store.key_bytes_max)
            );
            prop_assert!(config.server.body_budget_bytes >= config.store.value_bytes_max);
            return Ok(());
        }
        Err(ConfigError::Syntax { line, message, .. }) => {
            prop_assert!((1..=text.lines().count() + 1).contains(&line), "line {line}");
            prop_assert!(!message.contains(SECRET), "{message}");
            return Ok(());
        }
        Err(ConfigError::Wrong(problems)) => problems.0,
        Err(error) => return Err(TestCaseError::fail(format!("{error}: {error:?}"))),
    };
    prop_assert!(!problems.is_empty());
    for problem in &problems {
        let said = problem.to_string();
        prop_assert!(said.len() <= LINE_BYTES_MAX && !said.contains(SECRET), "{said}");
        is_named(text, problem)?;
    }
    Ok(())
}

/// The place is one, and the words are about it.
fn is_named(text: &str, problem: &Problem) -> Result<(), TestCaseError> {
    let said = problem.to_string();
    prop_assert!(said.contains(&problem.key), "{said}");
    match &problem.place {
        Place::Default => {}
        Place::File { line, .. } => {
            prop_assert!((1..=text.lines().count()).contains(line), "{said}");
        }
        Place::Environment { name } => prop_assert!(said.contains(name), "{said}"),
    }
    if let ProblemKind::UnknownKey { section, .. } = &problem.kind {
        prop_assert!(problem.key.starts_with(section.as_str()), "{said}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_configuration_is_taken_or_refused_by_name(
        lines in prop::collection::vec(lines(), 0..8),
        variables in prop::collection::btree_map("[a-z]", variables(), 0..3),
    ) {
        check(&lines.join("\n"), &variables.into_values().collect())?;
    }

    #[test]
    fn any_bytes_are_taken_or_refused(text in "\\PC{0,60}|[\\x00-\\x7f]{0,60}") {
        check(&text, &BTreeMap::new())?;
    }
}
