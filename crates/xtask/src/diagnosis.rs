//! The proof of the findings: runs every scenario of the lab and writes docs/diagnosis.md.

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use tidewait_diagnose::findings::KINDS;
use tidewait_model::report::Severity;
use tidewait_model::scenario::{LabRun, ScenarioResult};
use tidewait_surfaces::text::{self, Page};

use crate::check::pages::DIAGNOSIS;
use crate::workspace::{Workspace, cargo};

const PATH: &str = DIAGNOSIS.path;
const HEADING: &str = DIAGNOSIS.heading;

/// Builds, runs all scenarios, writes the page; fails if a scenario is not as expected.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let status = Command::new(cargo()).args(["build", "--locked", "--package", "tidewait"]).status()?;
    ensure!(status.success(), "cargo build failed");
    let output = Command::new(workspace.target().join("debug/tidewait"))
        .args(["lab", "run", "all", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the scenarios")?;
    let run: LabRun = serde_json::from_slice(&output.stdout)
        .context("cannot read what `tidewait lab run all --json` printed")?;
    std::fs::write(workspace.root.join(PATH), page(&run)?).with_context(|| format!("cannot write {PATH}"))?;
    println!("written: {PATH}");
    Ok(if run.tally().1 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(run: &LabRun) -> Result<String> {
    let mut page = format!(
        "# Diagnosis\n\n\
         Written by `cargo xtask diagnosis` from `tidewait lab run all`: every scenario makes one cause of trouble on a real kernel, in a\n\
         machine of its own, and `tidewait report` looks at it from inside. This run: Linux {}.\n\n\
         ## Findings\n\n\
         | finding | what it is | severity | proved by |\n|---|---|---|---|\n",
        run.host.kernel
    );
    for kind in KINDS {
        writeln!(
            page,
            "| `{}` | {} | {} | `{}` |",
            kind.id,
            cell(kind.title),
            cell(kind.severity),
            kind.scenario
        )?;
    }
    write!(
        page,
        "\n{HEADING}\n\nA scenario without a finding that must be told is a healthy machine: nothing worse than a notice may be told of it.\n\n\
         | scenario | what goes on | must be told | was told | verdict |\n|---|---|---|---|---|\n"
    )?;
    for result in &run.results {
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            result.scenario,
            cell(&result.about),
            expected(result),
            given(result),
            verdict(result)
        )?;
    }
    let matrix = text::lab(run, &Page { ascii: true, ..Page::default() });
    write!(page, "\n## The matrix\n\n```text\n{}\n```\n", matrix.trim())?;
    Ok(page)
}

fn expected(result: &ScenarioResult) -> String {
    let expected = result.expected.iter().map(|expected| {
        let leads = if expected.leads.is_empty() {
            String::new()
        } else {
            format!(", with `{}` as its consequence", expected.leads.join("`, `"))
        };
        format!("`{}`, {}{leads}", expected.id, at_least(expected.severity))
    });
    joined(expected)
}

fn given(result: &ScenarioResult) -> String {
    joined(result.given.iter().map(|given| format!("`{}`, {}", given.id, word(given.severity))))
}

fn verdict(result: &ScenarioResult) -> String {
    match &result.reason {
        Some(reason) => format!("{}: {}", result.verdict.words(), cell(reason)),
        None => result.verdict.words().to_owned(),
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    }
}

fn at_least(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning or worse",
        Severity::Notice => "notice or worse",
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
