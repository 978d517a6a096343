//! Text for people: the report, the checkup, the capacity answer and explanations, as lines no wider than the page.
//!
//! Nothing here decides what is wrong: the findings come with the report. What is decided here is what a
//! tired reader sees first. Text that came from outside (process names, namespace names) is cleaned of
//! control characters, so that it cannot drive the terminal.

mod bar;
mod capacity;
mod checkup;
mod counters;
mod destinations;
mod experiments;
mod explain;
mod findings;
pub(crate) mod limits;
pub(crate) mod line;
mod lingering;
mod listeners;
mod namespaces;
pub(crate) mod number;
pub(crate) mod owner;
mod page;
mod plan;
mod presets;
mod processes;
mod reap;
mod scenarios;
mod steer;
mod study;
mod tables;
mod trace;
mod traced;
mod tune;
pub(crate) mod verdict;

use std::path::Path;

use tidewait_model::capacity::{Capacity, Preset};
use tidewait_model::doctor::Checkup;
use tidewait_model::experiment::{ExperimentResult, Figure, Metric, Proof, SettingsRun};
use tidewait_model::explain::{Explanation, Topics};
use tidewait_model::reap::{End, Progress};
use tidewait_model::report::Report;
use tidewait_model::scenario::{LabRun, ScenarioResult};
use tidewait_model::study::{Seen, Study};
use tidewait_model::table::{Cell, Table, Unit};
use tidewait_model::trace::line::{Counted, Line as TraceLine};
use tidewait_model::tune::{Entry, KeptReport, Plan, Status};

pub use number::count;
pub use page::Page;
use page::Paper;
pub use steer::{chosen, line as steering_line, steered, steering};
pub use trace::Columns;

/// The page of `tidewait report`: verdict, namespaces, processes, findings, what was not seen.
pub fn report(report: &Report, page: &Page) -> String {
    let mut paper = Paper::new(page);
    verdict::write(&mut paper, report);
    namespaces::write(&mut paper, report);
    processes::write(&mut paper, &report.processes, report.namespaces.len());
    findings::write(&mut paper, &report.findings);
    limits::write(&mut paper, report);
    paper.finish()
}

/// The page of `tidewait doctor`: what works, what does not, and how to get it.
pub fn checkup(checkup: &Checkup, page: &Page) -> String {
    let mut paper = Paper::new(page);
    checkup::write(&mut paper, checkup);
    paper.finish()
}

/// The page of `tidewait capacity`: the figure first, then the same at other lengths of TIME_WAIT.
pub fn capacity(capacity: &Capacity, page: &Page) -> String {
    let mut paper = Paper::new(page);
    capacity::write(&mut paper, capacity);
    paper.finish()
}

/// The page of `tidewait capacity --presets`: what each means, and who says so.
pub fn presets(presets: &[Preset], page: &Page) -> String {
    let mut paper = Paper::new(page);
    presets::write(&mut paper, presets);
    paper.finish()
}

/// The line of one scenario that has ended: what came of it, and why where that is not as expected.
pub fn scenario(result: &ScenarioResult, page: &Page) -> String {
    let mut paper = Paper::new(page);
    scenarios::one(&mut paper, result);
    paper.finish()
}

/// The close of `tidewait lab run`: which scenario gave which finding, and how many were as expected.
pub fn lab(run: &LabRun, page: &Page) -> String {
    let mut paper = Paper::new(page);
    scenarios::write(&mut paper, run);
    paper.finish()
}

/// The page of `tidewait lab list`: name and sentence of every scenario.
pub fn scenario_list<'a>(list: impl IntoIterator<Item = (&'a str, &'a str)>, page: &Page) -> String {
    let mut paper = Paper::new(page);
    scenarios::list(&mut paper, list);
    paper.finish()
}

/// The head of `tidewait lab run settings`: the kernel that is measured, and the ports that are used for it.
pub fn settings_head(kernel: &str, ports: u64, page: &Page) -> String {
    let mut paper = Paper::new(page);
    experiments::head(&mut paper, kernel, ports);
    paper.finish()
}

/// The rows of one experiment that has ended: each figure before and after the change, and what they say.
pub fn experiment(result: &ExperimentResult, page: &Page) -> String {
    let mut paper = Paper::new(page);
    experiments::one(&mut paper, result);
    paper.finish()
}

/// A figure of an experiment with its unit.
pub fn figure(metric: Metric, figure: Figure, ascii: bool) -> String {
    experiments::figure_text(metric, figure, ascii)
}

/// The close of `tidewait lab run settings`: who was right about the settings, and how many figures were as expected.
pub fn settings_run(run: &SettingsRun, page: &Page) -> String {
    let mut paper = Paper::new(page);
    experiments::write(&mut paper, run);
    paper.finish()
}

/// One of the lab's headline tables, with its notes.
pub fn table(table: &Table, page: &Page) -> String {
    let mut paper = Paper::new(page);
    tables::write(&mut paper, table);
    paper.finish()
}

/// A cell of such a table in words, with its unit.
pub fn cell(cell: &Cell, unit: Unit, ascii: bool) -> String {
    tables::text(cell, unit, ascii)
}

/// The page of `tidewait explain TOPIC`: the answer, how it is here, what to do, what is often said.
pub fn explanation(explanation: &Explanation, page: &Page) -> String {
    let mut paper = Paper::new(page);
    explain::write(&mut paper, explanation);
    paper.finish()
}

/// The page of `tidewait explain --list`: every topic in a line.
pub fn topics(topics: &Topics, page: &Page) -> String {
    let mut paper = Paper::new(page);
    explain::list(&mut paper, topics);
    paper.finish()
}

/// The line of `tidewait trace` for an event at `time`; empty for the first and the last line.
pub fn event(event: &TraceLine, time: &str, columns: Columns, page: &Page) -> String {
    let mut paper = Paper::new(page);
    trace::event(&mut paper, event, time, columns);
    paper.finish()
}

/// The table of `tidewait trace --summary`: who connected where, how often, who closed first, what failed.
pub fn trace_summary(rows: &[Counted], page: &Page) -> String {
    let mut paper = Paper::new(page);
    trace::summary(&mut paper, rows);
    paper.finish()
}

/// The page of `tidewait study`: what came for sockets in TIME_WAIT, at which age, and of how many sockets.
pub fn study(study: &Study, page: &Page) -> String {
    let mut paper = Paper::new(page);
    study::write(&mut paper, study);
    paper.finish()
}

/// The line that `tidewait study` keeps on a terminal after so many seconds.
pub fn study_line(seen: &Seen, looked_at: Option<u64>, seconds: f64) -> String {
    study::live(seen, looked_at, seconds)
}

/// The page of `tidewait tune plan`: what would be set and what that is worth, what is left out, what is in the way.
/// `file`: where the plan was written to.
pub fn plan(plan: &Plan, file: Option<&Path>, page: &Page) -> String {
    let mut paper = Paper::new(page);
    plan::write(&mut paper, plan, file);
    paper.finish()
}

/// What `tidewait tune apply --prove` measured. `time_wait`: seconds of TIME_WAIT on this machine.
pub fn proof(proof: &Proof, time_wait: u32, page: &Page) -> String {
    let mut paper = Paper::new(page);
    experiments::proof(&mut paper, proof, time_wait);
    paper.finish()
}

/// The end of `tidewait tune apply`: what was set, and how it is kept or undone.
pub fn applied(entry: &Entry, page: &Page) -> String {
    let mut paper = Paper::new(page);
    tune::applied(&mut paper, entry);
    paper.finish()
}

/// The page of `tidewait tune status`, and with `all` that of `tidewait tune history`.
pub fn tune_status(status: &Status, all: bool, page: &Page) -> String {
    let mut paper = Paper::new(page);
    tune::status(&mut paper, status, all);
    paper.finish()
}

/// The page of `tidewait tune persist`: what is kept, and what a boot would make of it.
pub fn kept(report: &KeptReport, page: &Page) -> String {
    let mut paper = Paper::new(page);
    tune::kept(&mut paper, report);
    paper.finish()
}

/// How `tidewait reap` goes, in one line without paint.
pub fn reap_progress(progress: &Progress) -> String {
    reap::progress(progress)
}

/// The end of `tidewait reap`: what came of it, by destination. `dry_run`: nothing was ended, only counted.
pub fn reap_end(end: &End, dry_run: bool, page: &Page) -> String {
    let mut paper = Paper::new(page);
    reap::end(&mut paper, end, dry_run);
    paper.finish()
}

#[cfg(test)]
pub(crate) use experiments::tests::sample as experiments_sample;
#[cfg(test)]
pub(crate) use explain::tests::{sample as explain_sample, sample_topics};
#[cfg(test)]
pub(crate) use scenarios::tests::sample as lab_sample;
#[cfg(test)]
pub(crate) use study::tests::sample as study_sample;
#[cfg(test)]
mod tests;
