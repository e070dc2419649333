//! Tables for people.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// A table with these headings.
pub fn with(header: &[&str]) -> Table {
    let mut table = plain();
    table.set_header(header);
    table
}

/// A table without headings: more of one before.
pub fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// The table as text, without a space at either end of a line.
pub fn text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = with(&["partition", "id"]);
        table.add_row(["a", "1"]);
        assert_eq!(text(table), "partition  id\na          1\n");
    }
}
