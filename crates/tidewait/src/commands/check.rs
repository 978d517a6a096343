//! `tidewait check`: the findings of the report for a monitoring system, always within its time.
//!
//! The look itself is a `tidewait report --json` of its own. A system call that hangs cannot be called back: a thread stuck
//! in one keeps its process, and with it the pipe that the monitoring system reads to its end. A process beside can
//! always be left behind.

mod host;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use tidewait_surfaces::plugin::{self, Answer, METRICS, Status, Thresholds, Wanted};

use crate::cli::Check;
use crate::output;

/// Why there are no facts to answer from.
pub enum Failure {
    /// Time was up.
    TimedOut,
    /// Anything else, in words, with further lines.
    Other(String, Vec<String>),
}

/// Whether the command line is one of `check`, parsed or not.
pub fn was_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == "check")
}

/// The answer to a command line that could not be parsed, or that asks for help or the version. On stdout and with 3: a
/// monitoring system reads nothing else, and 2 would be CRITICAL to it.
pub fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return give(&Answer { status: Status::Unknown, text: error.to_string() });
    }
    let text = error.to_string();
    let (words, more) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<&str> = words.trim_start_matches("error: ").split_whitespace().collect();
    let more: Vec<String> = more.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    give(&plugin::unknown(&words.join(" "), &more))
}

/// Runs the command.
pub fn run(options: &Check) -> ExitCode {
    let end = Instant::now() + Duration::from_secs_f64(options.timeout);
    if options.list_metrics {
        return give(&Answer { status: Status::Unknown, text: metrics() });
    }
    let answer = match wanted(options) {
        Err(fault) => plugin::unknown(&fault, &[]),
        Ok(wanted) => match look(options, end) {
            Ok(report) => plugin::answer(&report, &wanted),
            Err(Failure::TimedOut) => plugin::unknown(
                &format!("timed out after {} s", options.timeout),
                &["-t SECONDS gives it more time; `tidewait report --timings` says where the time goes"
                    .to_owned()],
            ),
            Err(Failure::Other(words, more)) => plugin::unknown(&words, &more),
        },
    };
    give(&answer)
}

fn look(options: &Check, end: Instant) -> Result<tidewait_model::report::Report, Failure> {
    if let Some(host) = &options.hostname {
        host::must_be_this(host, end)?;
    }
    report::look(options, end)
}

/// What is asked of the check, or what contradicts itself in it.
fn wanted(options: &Check) -> Result<Wanted, String> {
    let both = options.only.iter().find(|id| options.ignore.contains(id));
    if let Some(id) = both {
        return Err(format!("--only {id} and --ignore {id} contradict each other: leave one out"));
    }
    if let Some(seconds) = options.watch_for.filter(|seconds| *seconds >= options.timeout) {
        return Err(format!(
            "--for {seconds} does not fit into -t {}: watch for a shorter time, or give it more",
            options.timeout
        ));
    }
    let bounds = (&options.warning, &options.critical);
    if let (Some(warning), Some(critical)) = bounds
        && warning.is_drowned_by(critical)
    {
        return Err(format!(
            "-w {warning} and -c {critical} contradict each other: what -w warns of is critical already by -c. Set -w to what \
             is reached first"
        ));
    }
    if matches!(bounds, (None, None)) && (options.metric.is_some() || options.metric_only) {
        let given = if options.metric_only { "--metric-only" } else { "--metric" };
        return Err(format!("{given} needs a threshold: give -w RANGE, -c RANGE or both"));
    }
    let metric = options.metric.unwrap_or(&METRICS[0]);
    let thresholds = (options.warning.is_some() || options.critical.is_some()).then(|| Thresholds {
        metric,
        warning: options.warning.clone(),
        critical: options.critical.clone(),
    });
    Ok(Wanted {
        only: options.only.clone(),
        ignore: options.ignore.clone(),
        metric_only: options.metric_only,
        thresholds,
        verbosity: options.verbose,
    })
}

/// The list of the metrics, one a paragraph.
fn metrics() -> String {
    let row = |metric: &plugin::Metric| {
        let unit = if metric.unit.is_empty() { "a count" } else { metric.unit };
        let caution = metric.caution.map(|caution| format!("    {caution}\n")).unwrap_or_default();
        format!("{} ({unit})\n    {}\n{caution}", metric.name, metric.about)
    };
    METRICS.iter().map(row).collect()
}

/// Prints an answer. There is nobody left to tell if that fails.
fn give(answer: &Answer) -> ExitCode {
    match output::text(&answer.text) {
        Ok(()) => ExitCode::from(answer.status.code()),
        Err(_) => ExitCode::from(Status::Unknown.code()),
    }
}
