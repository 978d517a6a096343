//! The answer of `tidewait check` to a monitoring system: exit code, one line, performance data, more lines on request.
//!
//! By the guidelines of the Monitoring Plugins project (<https://www.monitoring-plugins.org/doc/guidelines.html>).
//! Findings decide; thresholds are an addition for those who want them. Everything here is plain text on few lines: no
//! control characters, and no bar or line end within a text, because those part it from the performance data.

mod metrics;
mod range;

use tidewait_model::Hides;
use tidewait_model::report::{Finding, Namespace, Remedy, Report, Severity};

use crate::text::{limits, line, number, owner, verdict};
pub use metrics::{Absent, METRICS, Metric, metric, plain};
pub use range::{Range, RangeError};

/// Findings and limits that are told at length. Nobody reads more in a notification, and Nagios cuts it.
const FINDINGS: usize = 10;
const LIMITS: usize = 5;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: nothing wrong in what was looked at.
    Ok,
    /// 1: a finding that is a warning, or a threshold.
    Warning,
    /// 2: a critical finding, or a threshold.
    Critical,
    /// 3: it could not be told, or the call was wrong.
    Unknown,
}

impl Status {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::Warning => 1,
            Status::Critical => 2,
            Status::Unknown => 3,
        }
    }

    /// The word on the first line.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Warning => "WARNING",
            Status::Critical => "CRITICAL",
            Status::Unknown => "UNKNOWN",
        }
    }

    /// How much it matters beside others: trouble that was seen before what could not be seen.
    fn rank(self) -> u8 {
        match self {
            Status::Critical => 0,
            Status::Warning => 1,
            Status::Unknown => 2,
            Status::Ok => 3,
        }
    }
}

/// What is asked of a check.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only these kinds of findings count; all if empty.
    pub only: Vec<String>,
    /// These kinds of findings do not count.
    pub ignore: Vec<String>,
    /// Whether findings do not count at all.
    pub metric_only: bool,
    /// Thresholds of one metric.
    pub thresholds: Option<Thresholds>,
    /// How much is told: 0 one line, 1 the findings and what to do first, 2 evidence and all that can be done, 3 the
    /// lines for configurations.
    pub verbosity: u8,
}

/// Thresholds of one metric.
#[derive(Clone, Debug)]
pub struct Thresholds {
    /// The metric.
    pub metric: &'static Metric,
    /// What is a warning.
    pub warning: Option<Range>,
    /// What is critical.
    pub critical: Option<Range>,
}

/// What the monitoring system gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The exit code.
    pub status: Status,
    /// What goes to stdout.
    pub text: String,
}

/// An answer without facts: the call was wrong, or nothing could be seen. `more` are further lines.
pub fn unknown(words: &str, more: &[String]) -> Answer {
    let mut text = first_line(Status::Unknown, words, "");
    for line in more {
        push(&mut text, line);
    }
    Answer { status: Status::Unknown, text }
}

/// The answer that a report gives.
pub fn answer(report: &Report, wanted: &Wanted) -> Answer {
    let (counting, left_out) = sort_out(report, wanted);
    let mut parts = Vec::new();
    if wanted.metric_only {
        // Nothing is said of findings, not even that there are none.
    } else if let Some(part) = by_findings(&counting) {
        parts.push(part);
    } else {
        parts.push(without_findings(report, wanted, &counting, &left_out));
    }
    if let Some(thresholds) = &wanted.thresholds {
        parts.push(by_threshold(report, thresholds));
    }
    parts.sort_by_key(|(status, _)| status.rank());
    let status = parts.first().map_or(Status::Unknown, |(status, _)| *status);
    let words: Vec<&str> = parts
        .iter()
        .filter(|part| status == Status::Ok || part.0 != Status::Ok)
        .map(|(_, words)| words.as_str())
        .collect();
    let mut text = first_line(status, &words.join("; "), &performance(report, wanted));
    if wanted.verbosity > 0 {
        for finding in counting.iter().take(FINDINGS) {
            tell(&mut text, finding, wanted.verbosity);
        }
        if counting.len() > FINDINGS {
            let more = number::count((counting.len() - FINDINGS) as u64);
            push(&mut text, &format!("and {more} more findings, which `tidewait report` lists"));
        }
        closing_lines(&mut text, report, wanted);
    }
    Answer { status, text }
}

/// The findings that count, worst first, and those that were asked to be left out. A finding is told with its consequences,
/// so it counts as long as one of its names does.
fn sort_out<'a>(report: &'a Report, wanted: &Wanted) -> (Vec<&'a Finding>, Vec<&'a Finding>) {
    if wanted.metric_only {
        return (Vec::new(), Vec::new());
    }
    let counts =
        |id: &String| (wanted.only.is_empty() || wanted.only.contains(id)) && !wanted.ignore.contains(id);
    let mut all: Vec<&Finding> = report.findings.iter().collect();
    all.sort_by_key(|finding| finding.severity);
    all.into_iter().partition(|finding| {
        counts(&finding.id) || finding.consequences.iter().any(|other| counts(&other.id))
    })
}

/// The worst finding and how many more there are; `None` if there is nothing but notices.
fn by_findings(findings: &[&Finding]) -> Option<(Status, String)> {
    let worst = findings.first()?;
    let status = match worst.severity {
        Severity::Critical => Status::Critical,
        Severity::Warning => Status::Warning,
        Severity::Notice => return None,
    };
    let mut words = verdict::sentence(worst);
    // Most sentences name who it is.
    if let Some(owner) = worst.owner.as_ref().filter(|owner| !words.contains(&owner.command)) {
        words.push_str(&format!(", by {}", owner::name(owner)));
    }
    let more = findings.iter().skip(1).filter(|finding| finding.severity < Severity::Notice).count() as u64;
    if more > 0 {
        words.push_str(&format!("; and {} more", number::count(more)));
    }
    Some((status, words))
}

/// What is true where no finding is worse than a notice.
fn without_findings(
    report: &Report,
    wanted: &Wanted,
    notices: &[&Finding],
    left_out: &[&Finding],
) -> (Status, String) {
    if nothing_counted(report) {
        let words = "the kernel has sockets, but none of them could be counted; see the limits with -v";
        return (Status::Unknown, words.to_owned());
    }
    let calm = verdict::calm(report);
    if calm.level == verdict::Level::Unknown {
        return (Status::Unknown, calm.text);
    }
    let mut words = if wanted.only.is_empty() {
        calm.text
    } else {
        format!("nothing of the kind {}; {}", wanted.only.join(", "), verdict::fullness(report))
    };
    if !notices.is_empty() {
        words.push_str(&format!(
            "; {}: {}",
            number::of(notices.len() as u64, "notice", "notices"),
            ids(notices)
        ));
    }
    let hidden: Vec<&Finding> =
        left_out.iter().copied().filter(|finding| finding.severity < Severity::Notice).collect();
    if !hidden.is_empty() {
        words.push_str(&format!("; not counted, as asked: {}", ids(&hidden)));
    }
    (Status::Ok, words)
}

/// The kinds of findings, each once.
fn ids(findings: &[&Finding]) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for finding in findings {
        if !ids.contains(&finding.id.as_str()) {
            ids.push(&finding.id);
        }
    }
    ids.join(", ")
}

/// Whether the kernel has sockets and none was seen in any namespace, where the report says that something is missing. One
/// namespace alone may have ended while it was looked at.
fn nothing_counted(report: &Report) -> bool {
    let missing = report.limits.iter().any(|limit| limit.hides == Hides::Trouble);
    let in_use =
        |namespace: &Namespace| namespace.counters.get("sockstat.TCP.inuse").is_some_and(|count| *count > 0);
    missing
        && report.namespaces.iter().any(in_use)
        && report.namespaces.iter().all(|namespace| namespace.states.total() == 0)
}

fn by_threshold(report: &Report, thresholds: &Thresholds) -> (Status, String) {
    let Thresholds { metric, warning, critical } = thresholds;
    let Some(value) = metric.value(report) else {
        return match metric.absent {
            Absent::Fine(why) => (Status::Ok, format!("{}: {why}", metric.name)),
            Absent::Unknown(why) => (Status::Unknown, format!("{} is not known: {why}", metric.name)),
        };
    };
    let shown = if metric.unit.is_empty() {
        number::count(value.max(0.0) as u64)
    } else {
        format!("{} {}", plain(value), metric.unit)
    };
    let breach = |range: &Option<Range>| {
        range.as_ref().filter(|range| range.alerts(value)).map(|range| range.breach(value))
    };
    let (status, breach) = match (breach(critical), breach(warning)) {
        (Some(breach), _) => (Status::Critical, breach),
        (None, Some(breach)) => (Status::Warning, breach),
        (None, None) => return (Status::Ok, format!("{} is {shown}", metric.name)),
    };
    let caution = metric.caution.map(|caution| format!(" ({caution})")).unwrap_or_default();
    (status, format!("{} is {shown}, {breach}{caution}", metric.name))
}

/// `port_fill=12.5%;80;90;0;100 time_wait=312;;;0`. A metric without a value is left out: not every consumer takes the `U` of
/// the guidelines, and a gap in a graph says the same.
fn performance(report: &Report, wanted: &Wanted) -> String {
    let data = METRICS.iter().filter_map(|metric| {
        let value = metric.value(report)?;
        let range = |which: fn(&Thresholds) -> &Option<Range>| {
            let thresholds =
                wanted.thresholds.as_ref().filter(|thresholds| thresholds.metric.name == metric.name)?;
            which(thresholds).as_ref().map(Range::to_string)
        };
        let (warning, critical) =
            (range(|thresholds| &thresholds.warning), range(|thresholds| &thresholds.critical));
        let max = metric.max(report).map(plain);
        let fields = [Some(plain(value) + metric.unit), warning, critical, Some("0".to_owned()), max];
        let fields: Vec<String> = fields.into_iter().map(Option::unwrap_or_default).collect();
        Some(format!("{}={}", metric.name, fields.join(";").trim_end_matches(';')))
    });
    data.collect::<Vec<_>>().join(" ")
}

/// A finding on lines of its own, as much as is wanted.
fn tell(text: &mut String, finding: &Finding, verbosity: u8) {
    let (_, word) = verdict::severity(finding.severity);
    push(text, &format!("{word} {} [{}]", verdict::sentence(finding), finding.id));
    if verbosity > 1 {
        for evidence in &finding.evidence {
            push(text, &format!("  - {evidence}"));
        }
    }
    for consequence in &finding.consequences {
        push(text, &format!("  with it: {} [{}]", consequence.summary, consequence.id));
    }
    if let Some(owner) = &finding.owner {
        push(text, &format!("  by {}, {}", owner::name(owner), owner::known(owner.how)));
    }
    let mut remedies: Vec<&Remedy> = finding.remedies.iter().collect();
    remedies.sort_by_key(|remedy| remedy.rank);
    let shown = if verbosity > 1 { remedies.len() } else { 1 };
    for remedy in remedies.into_iter().take(shown) {
        push(text, &format!("  {}. {}", remedy.rank, remedy.summary));
        if let Some(command) = &remedy.command {
            push(text, &format!("     $ {command}"));
        }
        if verbosity > 1 {
            push(text, &format!("     effect: {}; risk: {}", remedy.effect, remedy.risk));
        }
        for configuration in remedy.configuration.iter().filter(|_| verbosity > 2) {
            push(
                text,
                &format!(
                    "     {}: {} ({})",
                    configuration.program, configuration.about, configuration.source
                ),
            );
            for line in &configuration.lines {
                push(text, &format!("         {line}"));
            }
        }
    }
    for advice in finding.no_help.iter().filter(|_| verbosity > 1) {
        push(text, &format!("  will not help: {}: {}", advice.setting, advice.why));
    }
}

/// Limits, and what the metric of the thresholds is and is not.
fn closing_lines(text: &mut String, report: &Report, wanted: &Wanted) {
    if let Some(Thresholds { metric, .. }) = &wanted.thresholds {
        push(text, &format!("{}: {}", metric.name, metric.about));
        if let Some(caution) = metric.caution {
            push(text, &format!("  {caution}"));
        }
    }
    let told = report.limits.iter().filter(|limit| wanted.verbosity > 1 || limit.hides == Hides::Trouble);
    let groups = limits::grouped(told);
    for (limit, what) in groups.iter().take(LIMITS) {
        let remedy = limit.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        push(text, &format!("not seen: {what}: {}{remedy}", limit.why));
    }
    if groups.len() > LIMITS {
        let more = number::count((groups.len() - LIMITS) as u64);
        push(text, &format!("not seen: and {more} more, which `tidewait report --json` lists"));
    }
}

fn first_line(status: Status, words: &str, performance: &str) -> String {
    let mut text = format!("TIDEWAIT {} - {}", status.word(), clean(words));
    if !performance.is_empty() {
        text.push_str(" | ");
        text.push_str(performance);
    }
    text.push('\n');
    text
}

fn push(text: &mut String, line: &str) {
    text.push_str(clean(line).trim_end());
    text.push('\n');
}

/// Text without characters that drive a terminal, and without the bar that begins performance data: the broken bar takes
/// its place.
fn clean(text: &str) -> String {
    line::clean(text).replace('|', "\u{a6}")
}

#[cfg(test)]
mod tests;
