//! The headline tables: runs each of the lab's and writes docs/results.md.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use tidewait_model::table::{Basis, Size, Table, TableRun, Unit};
use tidewait_surfaces::text;

use crate::workspace::{Workspace, cargo};

const PATH: &str = "docs/results.md";

/// Options of `cargo xtask results`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Few ports: four minutes instead of fourteen
    #[arg(long)]
    quick: bool,
    /// Run nothing: write the page from what `tidewait lab run tables --json` has printed into this file today
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    from: Option<PathBuf>,
}

/// Makes every table, or reads them, and writes the page.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let printed = match &options.from {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => measure(workspace, options.quick)?,
    };
    let run: TableRun = serde_json::from_slice(&printed)
        .context("cannot read what `tidewait lab run tables --json` printed")?;
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    std::fs::write(workspace.root.join(PATH), page(&run, &date)?)
        .with_context(|| format!("cannot write {PATH}"))?;
    println!("written: {PATH}");
    Ok(ExitCode::SUCCESS)
}

/// Builds with optimisation and makes every table; the JSON of it.
fn measure(workspace: &Workspace, quick: bool) -> Result<Vec<u8>> {
    let status =
        Command::new(cargo()).args(["build", "--release", "--locked", "--package", "tidewait"]).status()?;
    ensure!(status.success(), "cargo build failed");
    let output = Command::new(workspace.target().join("release/tidewait"))
        .args(["lab", "run", "tables", "--json"])
        .args(quick.then_some("--quick"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot make the tables")?;
    ensure!(output.status.success(), "`tidewait lab run tables` failed");
    Ok(output.stdout)
}

fn page(run: &TableRun, date: &str) -> Result<String> {
    let size = match run.size {
        Size::Full => "",
        Size::Quick => " A quick run: few ports, and so other figures than the stock range has.",
        Size::Tiny => " A run that only shows that it works: the figures mean nothing.",
    };
    let mut page = format!(
        "# Results\n\n\
         Written by `cargo xtask results` from `tidewait lab run tables`, which anybody can run: each table is one command, by the name\n\
         given below it. Measured in private network namespaces on a real kernel; the remedies are the commands of tidewait, started as\n\
         a user would start them. This run: Linux {}, {}, {date}.{size}\n\n\
         Headings in italics are arithmetic, set beside what was measured. A question mark is what this kernel or this build does not\n\
         have; the reason stands below the table.\n",
        run.host.kernel, run.processors
    );
    for table in &run.tables {
        write_table(&mut page, table)?;
    }
    Ok(page)
}

fn write_table(page: &mut String, table: &Table) -> Result<()> {
    write!(page, "\n## {}\n\n|", table.title)?;
    for column in &table.columns {
        let name = cell(&column.name);
        match column.basis {
            Basis::Reckoned => write!(page, " *{name}* |")?,
            Basis::Given | Basis::Measured => write!(page, " {name} |")?,
        }
    }
    page.push_str("\n|");
    for column in &table.columns {
        page.push_str(if column.unit == Unit::Text { "---|" } else { "---:|" });
    }
    page.push('\n');
    for row in &table.rows {
        page.push('|');
        for (value, column) in row.iter().zip(&table.columns) {
            write!(page, " {} |", cell(&text::cell(value, column.unit, false)))?;
        }
        page.push('\n');
    }
    let command = table.table.split(':').next().unwrap_or(&table.table);
    writeln!(page, "\n`tidewait lab run {command}`")?;
    for reason in table.missing() {
        writeln!(page, "\n?: {}", cell(reason))?;
    }
    for note in &table.notes {
        writeln!(page, "\n{note}")?;
    }
    Ok(())
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use tidewait_model::report::Host;
    use tidewait_model::table::{Cell, Column, SCHEMA};

    use super::*;

    #[test]
    fn a_table_has_its_command_its_gaps_and_its_notes() {
        let table = Table {
            table: "safety-table: last ACK".to_owned(),
            title: "The last ACK is lost".to_owned(),
            columns: vec![
                Column::given("case", Unit::Text),
                Column::reckoned("ports", Unit::Count),
                Column::measured("rate", Unit::PerSecond),
            ],
            rows: vec![vec![
                Cell::text("a | b"),
                Cell::count(28_232),
                Cell::Missing("no `tidewait reap`".to_owned()),
            ]],
            notes: vec!["As it was.".to_owned()],
        };
        let run = TableRun {
            schema: SCHEMA.to_owned(),
            host: Host { hostname: "db1".to_owned(), kernel: "6.18.44".to_owned() },
            processors: "2 of a kind".to_owned(),
            size: Size::Quick,
            tables: vec![table],
            seconds: 1.0,
        };
        let page = page(&run, "2026-01-02").unwrap();
        assert!(page.contains("Linux 6.18.44, 2 of a kind, 2026-01-02. A quick run"), "{page}");
        assert!(
            page.contains("| case | *ports* | rate |\n|---|---:|---:|\n| a \\| b | 28,232 | ? |\n"),
            "{page}"
        );
        assert!(
            page.contains("`tidewait lab run safety-table`\n\n?: no `tidewait reap`\n\nAs it was.\n"),
            "{page}"
        );
    }
}
