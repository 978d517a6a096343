//! Settings put to the test: runs every experiment of the lab and writes docs/settings-measured.md.

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use tidewait_model::experiment::{Change, ClaimResult, Effect, ExperimentResult, SettingsRun};
use tidewait_surfaces::text;

use crate::check::pages::MEASURED;
use crate::workspace::{Workspace, cargo};

const PATH: &str = MEASURED.path;
const HEADING: &str = MEASURED.heading;

/// Builds, runs all experiments, writes the page; fails if a figure is not as expected.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let status = Command::new(cargo()).args(["build", "--locked", "--package", "tidewait"]).status()?;
    ensure!(status.success(), "cargo build failed");
    let output = Command::new(workspace.target().join("debug/tidewait"))
        .args(["lab", "run", "settings", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the experiments")?;
    let run: SettingsRun = serde_json::from_slice(&output.stdout)
        .context("cannot read what `tidewait lab run settings --json` printed")?;
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    std::fs::write(workspace.root.join(PATH), page(&run, &date)?)
        .with_context(|| format!("cannot write {PATH}"))?;
    println!("written: {PATH}");
    Ok(if run.tally().1 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(run: &SettingsRun, date: &str) -> Result<String> {
    let mut page = format!(
        "# Settings, measured\n\n\
         Written by `cargo xtask settings-measured` from `tidewait lab run settings`: what each setting that is said to help against TIME_WAIT\n\
         or for more ports does on a real kernel. Each figure is measured in private network namespaces, before and after the change, with a\n\
         range of {} ports. This run: Linux {}, {date}.\n\n\
         Until refused: connections, each closed here at once, until connect() says EADDRNOTAVAIL, or bind() EADDRINUSE. When full: connections\n\
         a second while every port is in TIME_WAIT. Figures count as alike within 2 % (counts), 10 % (timers) and a factor of three (rates).\n\n\
         ## Who was right\n\n\
         Four much-read texts, line by line: a knowledge base on TIME_WAIT exhaustion (core-admin), a hosting provider's on TIME_WAIT and\n\
         CLOSE_WAIT, and two mails to NANOG of December 2012. A claim is right if all that it foretells was measured, half right if some was.\n\n\
         | source | says | measured | verdict | why |\n|---|---|---|---|---|\n",
        run.ports, run.host.kernel
    );
    for claim in &run.claims {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            claim.source,
            cell(&claim.says),
            cell(&measured(claim)),
            claim.verdict.words(),
            cell(&claim.why)
        )?;
    }
    write!(
        page,
        "\n{HEADING}\n\n\
         | experiment | change | what is asked | figure | before | after | verdict |\n|---|---|---|---|---|---|---|\n"
    )?;
    for result in &run.experiments {
        for (index, effect) in result.effects.iter().enumerate() {
            let about = if index == 0 {
                format!("| `{}` | {} | {} ", result.experiment, cell(&changes(result)), cell(&result.about))
            } else {
                "| | | ".to_owned()
            };
            writeln!(page, "{about}| {} |", row(result, effect))?;
        }
    }
    Ok(page)
}

/// Metric, figures and verdict.
fn row(result: &ExperimentResult, effect: &Effect) -> String {
    let figure =
        |figure: Option<_>| figure.map_or(String::new(), |figure| text::figure(effect.metric, figure, false));
    let mut verdict = effect.verdict.words().to_owned();
    if let Some(reason) = &result.reason {
        verdict = format!("{verdict}: {}", cell(reason));
    }
    if !effect.is_as_expected() {
        verdict = format!("{verdict} (expected: {})", effect.expected.words());
    }
    format!("{} | {} | {} | {verdict}", effect.metric.words(), figure(effect.before), figure(effect.after))
}

fn changes(result: &ExperimentResult) -> String {
    let listed = |changes: &[Change]| {
        let words: Vec<String> =
            changes.iter().map(|change| format!("`{} = {}`", change.name, change.value)).collect();
        words.join(", ")
    };
    if result.given.is_empty() {
        listed(&result.changes)
    } else {
        format!("{}, with {}", listed(&result.changes), listed(&result.given))
    }
}

fn measured(claim: &ClaimResult) -> String {
    let mut words: Vec<String> = Vec::new();
    for tested in &claim.tested {
        let (Some(before), Some(after)) = (tested.before, tested.after) else { continue };
        let text = |figure| text::figure(tested.metric, figure, false);
        let word = format!("{} {} \u{2192} {}", tested.metric.words(), text(before), text(after));
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join("; ")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
