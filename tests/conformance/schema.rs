//! The two dialects of the schema have the same tables and columns.

use std::collections::BTreeMap;

const SERVERS: &str = include_str!("../../database_definition.sql");
const SQLITE: &str = include_str!("../../src/partition/sqlite/schema.sql");

type Tables = BTreeMap<String, Vec<String>>;

/// Tables with their columns in order, by the way both files are laid out: a column a line.
fn tables(sql: &str, quote: char) -> Tables {
    let quoted = |line: &str| line.split(quote).nth(1).map(str::to_owned);
    let mut tables = Tables::new();
    let mut current = String::new();
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
        if line.starts_with("CREATE TABLE") {
            current = quoted(line).unwrap();
            tables.insert(current.clone(), Vec::new());
        } else if line.starts_with(&format!("  {quote}")) {
            tables.get_mut(&current).unwrap().push(quoted(line).unwrap());
        }
    }
    tables
}

#[test]
fn both_dialects_have_the_same_tables_and_columns() {
    let mut servers = tables(SERVERS, '`');
    // What names the run of a server has no place in a file, which lives in one run for ever.
    assert_eq!(servers.remove("server_run"), Some(vec!["id".to_owned(), "run_id".to_owned()]));
    let sqlite = tables(SQLITE, '"');
    assert_eq!(servers, sqlite);
    assert_eq!(sqlite.len(), 9);
}

#[test]
fn what_the_file_says_is_what_sqlite_makes() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    for _ in 0..2 {
        connection.execute_batch(SQLITE).unwrap();
    }
    for (table, columns) in tables(SQLITE, '"') {
        let mut statement =
            connection.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid").unwrap();
        let made: Vec<String> =
            statement.query_map([&table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(made, columns, "{table}");
    }
}

#[test]
fn every_column_and_table_of_the_servers_has_a_comment() {
    let lines: Vec<&str> = SERVERS.lines().collect();
    for (nth, line) in lines.iter().enumerate() {
        if line.starts_with("  `") || line.starts_with(") ENGINE") {
            let next = lines[nth + 1].trim_start();
            assert!(next.starts_with("COMMENT") && next.len() > 25, "{line}");
        }
    }
}
