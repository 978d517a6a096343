//! Pages that a run of the lab wrote, against the lab: all that there is stands in their table, and nothing that is gone.

use anyhow::Result;
use tidewait_lab::{Scenario, settings};

use crate::workspace::Workspace;

/// A page with a table whose rows begin with a name; in further rows of one the first column is empty.
pub struct Page {
    /// The file.
    pub path: &'static str,
    /// The heading of the table.
    pub heading: &'static str,
    /// What a row is about.
    noun: &'static str,
    /// The chore that writes it.
    chore: &'static str,
    /// The names that there are.
    names: fn() -> Vec<&'static str>,
}

/// Every scenario and what came of it.
pub const DIAGNOSIS: Page = Page {
    path: "docs/diagnosis.md",
    heading: "## Scenarios",
    noun: "scenario",
    chore: "diagnosis",
    names: || Scenario::all().iter().map(|scenario| scenario.name).collect(),
};

/// Every experiment on settings. Figures are those of one run and are not compared.
pub const MEASURED: Page = Page {
    path: "docs/settings-measured.md",
    heading: "## Experiments",
    noun: "experiment",
    chore: "settings-measured",
    names: || settings::all().iter().map(|experiment| experiment.name).collect(),
};

/// What the pages lack, or have too many.
pub fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for page in [DIAGNOSIS, MEASURED] {
        let text = workspace.read(page.path)?;
        complaints.extend(page.compare(&page.rows(&text), &(page.names)()));
    }
    Ok(complaints)
}

impl Page {
    fn compare(&self, rows: &[&str], names: &[&str]) -> Vec<String> {
        let Page { path, noun, chore, .. } = self;
        let missing =
            names.iter().filter(|name| !rows.contains(name)).map(|name| format!("lacks the {noun} {name}"));
        let gone = rows
            .iter()
            .filter(|row| !names.contains(row))
            .map(|row| format!("has the {noun} {row}, which is gone"));
        missing.chain(gone).map(|what| format!("{path}: {what}; run `cargo xtask {chore}`")).collect()
    }

    /// The names in the first column of the table.
    fn rows<'a>(&self, page: &'a str) -> Vec<&'a str> {
        page.lines()
            .skip_while(|line| *line != self.heading)
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_compared_both_ways() {
        let page = "# Title\n\n| `elsewhere` |\n\n## Experiments\n\n| experiment | x |\n|---|---|\n| `one` | x |\n| | y |\n| `two` | y |\n\n\
                    ## Else\n\n| `three` |\n";
        let rows = MEASURED.rows(page);
        assert_eq!(rows, ["one", "two"]);
        assert!(MEASURED.compare(&rows, &["one", "two"]).is_empty());
        let complaints = MEASURED.compare(&rows, &["two", "three"]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("lacks the experiment three"), "{complaints:?}");
        assert!(
            complaints[1].contains("has the experiment one") && complaints[1].contains("settings-measured")
        );
    }
}
