//! Text for people: the report, the checkup and the capacity answer, as lines no wider than the page.
//!
//! Nothing here decides what is wrong: the findings come with the report. What is decided here is what a
//! tired reader sees first. Text that came from outside (process names, namespace names) is cleaned of
//! control characters, so that it cannot drive the terminal.

mod bar;
mod capacity;
mod checkup;
mod counters;
mod destinations;
mod findings;
pub(crate) mod limits;
pub(crate) mod line;
mod lingering;
mod listeners;
mod namespaces;
pub(crate) mod number;
pub(crate) mod owner;
mod page;
mod presets;
mod processes;
pub(crate) mod verdict;

use tidewait_model::capacity::{Capacity, Preset};
use tidewait_model::doctor::Checkup;
use tidewait_model::report::Report;

pub use page::Page;
use page::Paper;

/// The page of `tidewait report`: verdict, namespaces, processes, findings, what was not seen.
pub fn report(report: &Report, page: &Page) -> String {
    let mut paper = Paper::new(page);
    verdict::write(&mut paper, report);
    namespaces::write(&mut paper, report);
    processes::write(&mut paper, &report.processes);
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

#[cfg(test)]
mod tests;
