//! docs/diagnosis.md against the lab: every scenario that there is stands in it, and none that is gone.

use tidewait_lab::Scenario;

/// The page that `cargo xtask diagnosis` writes.
pub const PAGE: &str = "docs/diagnosis.md";

/// The heading of the table of scenarios; its rows begin with the scenario's name.
pub const HEADING: &str = "## Scenarios";

/// Scenarios that the page lacks, or has too many.
pub fn complaints(page: &str) -> Vec<String> {
    let names: Vec<&str> = Scenario::all().iter().map(|scenario| scenario.name).collect();
    compare(&rows(page), &names)
}

fn compare(rows: &[&str], names: &[&str]) -> Vec<String> {
    let missing =
        names.iter().filter(|name| !rows.contains(name)).map(|name| format!("lacks the scenario {name}"));
    let gone = rows
        .iter()
        .filter(|row| !names.contains(row))
        .map(|row| format!("has a scenario {row}, which is gone"));
    missing.chain(gone).map(|what| format!("{PAGE}: {what}; run `cargo xtask diagnosis`")).collect()
}

/// The names in the first column of the table of scenarios.
fn rows(page: &str) -> Vec<&str> {
    page.lines()
        .skip_while(|line| *line != HEADING)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_compared_both_ways() {
        let page = "# Diagnosis\n\n| `elsewhere` |\n\n## Scenarios\n\n| scenario |\n|---|\n| `one` | x |\n| `two` | y |\n\n## The matrix\n\n| `three` |\n";
        assert_eq!(rows(page), ["one", "two"]);
        assert!(compare(&rows(page), &["one", "two"]).is_empty());
        let complaints = compare(&rows(page), &["two", "three"]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("lacks the scenario three"), "{complaints:?}");
        assert!(complaints[1].contains("has a scenario one"), "{complaints:?}");
    }
}
