use super::*;

const SAMPLE: &str = include_str!("../../configuration.toml");
const README: &str = include_str!("../../README.md");

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_layers(Some((Path::new("c.toml"), text)), &environment)
        .map_err(|error| error.to_string())
}

#[test]
fn the_sample_is_the_defaults_and_shows_every_key() {
    assert_eq!(load(SAMPLE, &[]), Ok(Config::default()));
    assert_eq!(load("", &[]), Ok(Config::default()));
    assert_eq!(Config::from_layers(None, &BTreeMap::new()).unwrap(), Config::default());
    let document: toml::Table = SAMPLE.parse().unwrap();
    for (section, keys) in raw::SECTIONS {
        for key in keys {
            assert!(document[section].get(key).is_some(), "{section}.{key} is not in the sample");
            let row = format!("| `{section}.{key}` |");
            assert!(README.contains(&row), "{row} is not in the README");
        }
    }
    for key in raw::PARTITION.1 {
        assert!(document["partition"]["store_1"].get(key).is_some(), "{key}");
    }
}

#[test]
fn the_later_layer_wins_key_by_key() {
    let text = "[server]\ndeadline = '2s'\nlisten = '127.0.0.1:1'\n[store]\nkey_bytes_max = 7";
    let config = load(
        text,
        &[
            ("DATASTORE__SERVER__LISTEN", "[::1]:2"),
            ("DATASTORE__SERVER__HOSTS", "Example.org, ::1"),
            ("DATASTORE__STORE__DATABASE_PREFIX", "007"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.deadline, Duration::from_secs(2));
    assert_eq!(config.server.listen.to_string(), "[::1]:2");
    assert_eq!(config.server.hosts, ["example.org", "[::1]"]);
    assert_eq!(config.store.key_bytes_max, 7);
    // Digits stay text where text is meant.
    assert_eq!(config.store.database_prefix, "007");
    assert_eq!(config.partitions["store_1"].url.to_string(), "sqlite:data/007store_1.db");
}

#[test]
fn naming_a_partition_removes_the_default_ones() {
    let one = "[partition.a]\nurl = 'memory:'";
    assert_eq!(load(one, &[]).unwrap().partitions.keys().collect::<Vec<_>>(), ["a"]);
    let config = load("", &[("DATASTORE__PARTITION__B_2__URL", "sqlite:b.db")]).unwrap();
    assert_eq!(config.partitions.keys().collect::<Vec<_>>(), ["b_2"]);
    let both = load(one, &[("DATASTORE__PARTITION__A__ROLE", "master")]).unwrap();
    assert_eq!(both.partitions["a"].role, Role::Master);
}

#[test]
fn unknown_keys_are_named_with_line_section_and_the_nearest_right_name() {
    for (text, expected) in [
        (
            "[server]\n\nlisten_at = 'x'",
            "c.toml, line 3: server.listen_at: no such key in section [server]; \
             did you mean server.listen?",
        ),
        ("listen = 'x'", "c.toml, line 1: listen: no such key; did you mean server.listen?"),
        (
            "[store]\nschedule = 'x'",
            "c.toml, line 2: store.schedule: no such key in section [store]; \
             did you mean sync.schedule?",
        ),
        ("[serve]\nlisten = 'x'", "c.toml, line 1: serve: no such section; did you mean [server]?"),
        (
            "[partition.a]\nurl = 'memory:'\nrolle = 'master'",
            "c.toml, line 3: partition.a.rolle: no such key in section [partition.a]; \
             did you mean partition.a.role?",
        ),
        ("[tuning]\nmin = 1", "c.toml, line 1: tuning: no such section"),
    ] {
        assert_eq!(load(text, &[]), Err(expected.to_owned()), "{text}");
    }
    for (name, expected) in [
        (
            "DATASTORE__SERVER__LISTN",
            "environment variable DATASTORE__SERVER__LISTN: server.listn: no such key in section \
             [server]; did you mean server.listen?",
        ),
        (
            "DATASTORE__SERVR__LISTEN",
            "environment variable DATASTORE__SERVR__LISTEN: servr.listen: no such key; \
             did you mean DATASTORE__SERVER__LISTEN?",
        ),
    ] {
        assert_eq!(load("", &[(name, "x")]), Err(expected.to_owned()), "{name}");
    }
}

#[test]
fn wrong_values_name_key_value_limit_and_fix() {
    for (text, expected) in [
        (
            "[server]\nlisten = 'localhost:80'",
            "c.toml, line 2: server.listen: \"localhost:80\" is not an address with a port; \
             write for example 127.0.0.1:8080 or [::1]:8080, not a name",
        ),
        (
            "[store]\nkey_bytes_max = 1025",
            "c.toml, line 2: store.key_bytes_max: \"1025\" is not a whole number from 1 to 1024; \
             write for example 255",
        ),
        (
            "[server]\ndeadline = '1ms'",
            "c.toml, line 2: server.deadline: \"1ms\" is not within 10ms to 10m; \
             write for example 5s",
        ),
        (
            "[partition.a]\nrole = 'master'",
            "c.toml, line 1: partition.a.url: is missing; name the database, \
             for example url = \"sqlite:data/store_1.db\"",
        ),
        (
            "[partition.a]\nurl = 'mysql://u:secret@h'",
            "c.toml, line 2: partition.a.url: \"mysql://***@h\" is no url of a server: the database \
             is missing; a url is mysql://user[:password]@host[:port]/database; write \
             mysql://user@host:3306/database, and the password in a password_file",
        ),
        (
            "[partition.a]\nurl = 'sqlite:a.db'\n[partition.b]\nurl = 'sqlite:./a.db'",
            "c.toml, line 4: partition.b.url: \"sqlite:a.db\" is also the database of partition \
             a; give each partition its own",
        ),
        (
            "[partition.a]\nurl = 'memory:'\nrole = 'replica'",
            "partition: no partition has role = \"master\": nobody would take writes",
        ),
        (
            "[partition.A]\nurl = 'memory:'",
            "c.toml, line 1: partition.A: a partition's name begins with a-z and has at most 32 \
             of a-z, 0-9 and _",
        ),
        (
            "[store]\nvalue_bytes_max = 1000\n[server]\nbody_budget_bytes = 999",
            "c.toml, line 4: server.body_budget_bytes: \"999\" is less than \
             store.value_bytes_max (1000); a value of that size could never be stored; raise it",
        ),
        ("[server]\nlisten = []", "c.toml, line 2: server.listen: must be a single value"),
        ("server = 1", "c.toml, line 1: server: must be a section, as in [server]"),
        (
            "[sync]\neager = 'yes'",
            "c.toml, line 2: sync.eager: \"yes\" is neither true nor false; write true or false",
        ),
    ] {
        assert_eq!(load(text, &[]), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = "[server]\nlisten = 1\nlissen = 2\n[sync]\nschedule = '* * * * *'\neager = 3";
    let error = load(text, &[("DATASTORE__STORE__KEY_BYTES_MAX", "0")]).unwrap_err();
    assert_eq!(error.lines().count(), 5, "{error}");
    for key in ["server.listen:", "server.lissen:", "sync.schedule:", "sync.eager:", "KEY_BYTES"] {
        assert!(error.contains(key), "{key} is not in {error}");
    }
}

#[test]
fn a_syntax_error_names_the_line_and_quotes_nothing() {
    let error = load("[server]\nlisten = 'x'\npassword = 'secret", &[]).unwrap_err();
    assert!(error.starts_with("c.toml, line 3: not TOML: "), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_file_that_was_named_must_exist() {
    let error = Config::load(Some(Path::new("no/such.toml"))).unwrap_err().to_string();
    assert_eq!(error, "cannot read the configuration no/such.toml; name another one with --config");
}
