//! `topology` and `decisions`: who takes which writes, and what was decided about it.

use serde_json::Value;

use super::admin::{ShowArgs, fields, listed, rows, text};
use super::{CliError, Exit, table};

/// Of scattered slots only the first are shown: `--json` has all.
const RANGES_SHOWN: usize = 4;

/// Shows the topology in use.
pub fn topology(args: &ShowArgs) -> Result<Exit, CliError> {
    let topology = args.ask("/admin/topology")?;
    args.print(&topology, for_people)?;
    Ok(Exit::Done)
}

/// Shows what was decided.
pub fn decisions(args: &ShowArgs) -> Result<Exit, CliError> {
    let decisions = args.ask("/admin/decisions")?;
    args.print(&decisions, |decisions| {
        let names = ["at", "kind", "action", "partition", "reason", "outcome", "epoch"];
        listed(rows(decisions, "decisions"), &names)
    })?;
    Ok(Exit::Done)
}

fn for_people(topology: &Value) -> String {
    let mut told = fields(topology, &["set", "epoch", "revision", "quorum_age_ms"]);
    let retired: Vec<String> = rows(topology, "retired").iter().map(Value::to_string).collect();
    if !retired.is_empty() {
        told.push_str(&format!("retired  {}\n", retired.join(", ")));
    }
    told.push_str(&voters(rows(topology, "voters")));
    let previous = rows(topology, "previous");
    if !previous.is_empty() {
        told.push_str("not settled yet; before there were:\n");
        told.push_str(&listed(previous, &["id", "name", "role", "state"]));
    }
    let cuts = rows(topology, "cuts");
    if !cuts.is_empty() {
        told.push_str("taken over:\n");
        told.push_str(&listed(cuts, &["epoch", "origin", "upto", "slots"]));
    }
    told
}

fn voters(voters: &[Value]) -> String {
    let names = ["id", "name", "role", "state", "slots"];
    let mut table = table::with(&[names.as_slice(), &["which", "address"]].concat());
    for voter in voters {
        let ranges: Vec<&str> =
            rows(voter, "slot_ranges").iter().filter_map(Value::as_str).collect();
        let more = if ranges.len() > RANGES_SHOWN { ",..." } else { "" };
        let which = ranges.iter().take(RANGES_SHOWN).copied().collect::<Vec<_>>().join(",") + more;
        let mut row: Vec<String> = names.iter().map(|name| text(voter, name)).collect();
        row.push(if which.is_empty() { "-".to_owned() } else { which });
        row.push(text(voter, "address"));
        table.add_row(row);
    }
    table::text(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_tells_who_has_which_slots_and_what_is_not_settled() {
        let voter = |id: u16, name: &str, ranges: &[&str]| {
            let role = if ranges.is_empty() { "replica" } else { "master" };
            json!({"id": id, "name": name, "role": role, "state": "active",
                "slots": ranges.len(), "slot_ranges": ranges, "address": "mysql://h/d"})
        };
        let topology = json!({
            "set": "ab", "epoch": 3, "revision": 9, "by_quorum": true, "quorum_age_ms": 12,
            "voters": [voter(1, "store_1", &[]), voter(2, "store_2", &["0", "2", "4", "6", "8"])],
            "previous": [voter(2, "store_2", &[])], "retired": [4, 5],
            "cuts": [{"epoch": 2, "origin": "store_1", "upto": "1.7", "slots": 5}],
        });
        let told = for_people(&topology);
        for line in ["0,2,4,6,...", "not settled yet", "retired  4, 5", "1.7"] {
            assert!(told.contains(line), "{told}");
        }
        let words = |name: &str| -> Vec<String> {
            let row = told.lines().find(|line| line.contains(name)).unwrap();
            row.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(
            words("store_1"),
            ["1", "store_1", "replica", "active", "0", "-", "mysql://h/d"]
        );
    }
}
