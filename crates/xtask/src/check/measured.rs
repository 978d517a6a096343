//! docs/settings-measured.md against the lab: every experiment that there is stands in it, and none that is gone.

use tidewait_lab::settings;

/// The page that `cargo xtask settings-measured` writes.
pub const PAGE: &str = "docs/settings-measured.md";

/// The heading of the table of experiments; the rows of one begin with its name.
pub const HEADING: &str = "## Experiments";

/// Experiments that the page lacks, or has too many. Figures are those of one run and are not compared.
pub fn complaints(page: &str) -> Vec<String> {
    let names: Vec<&str> = settings::all().iter().map(|experiment| experiment.name).collect();
    compare(&rows(page), &names)
}

fn compare(rows: &[&str], names: &[&str]) -> Vec<String> {
    let missing =
        names.iter().filter(|name| !rows.contains(name)).map(|name| format!("lacks the experiment {name}"));
    let gone = rows
        .iter()
        .filter(|row| !names.contains(row))
        .map(|row| format!("has an experiment {row}, which is gone"));
    missing.chain(gone).map(|what| format!("{PAGE}: {what}; run `cargo xtask settings-measured`")).collect()
}

/// The names in the first column of the table of experiments; it is empty in further rows of one.
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
        let page = "# Measured\n\n## Experiments\n\n| experiment | x |\n|---|---|\n| `one` | x |\n| | y |\n| `two` | y |\n\n## Else\n\n| `three` |\n";
        assert_eq!(rows(page), ["one", "two"]);
        assert!(compare(&rows(page), &["one", "two"]).is_empty());
        let complaints = compare(&rows(page), &["two", "three"]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("lacks the experiment three"), "{complaints:?}");
    }
}
