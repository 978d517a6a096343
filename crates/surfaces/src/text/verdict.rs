//! The verdict: the lines that are read first, and perhaps alone. What is wrong, who causes it, what to try first.

use tidewait_model::report::{Destination, Finding, Remedy, Report, Severity};
use tidewait_model::{Hides, Limit};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{destinations, number, owner};

/// From this fill on a page does not begin with OK, finding or not.
const NEARLY_FULL: f64 = 0.9;

/// Verdict, cause, first remedy, and a line about the observation.
pub fn write(paper: &mut Paper<'_>, report: &Report) {
    let worst = report.findings.iter().min_by_key(|finding| finding.severity);
    if let Some(finding) = worst.filter(|finding| finding.severity < Severity::Notice) {
        trouble(paper, finding);
    } else {
        let calm = calm(report);
        let (paint, word) = match calm.level {
            Level::Ok => (Paint::Good, "OK"),
            Level::Notice => (Paint::Warning, "NOTICE"),
            Level::Unknown => (Paint::Warning, "UNKNOWN"),
        };
        paper.prose(Line::of(paint, word).with(Paint::Plain, " "), Paint::Strong, &calm.text);
    }
    if let Some(others) = others(report) {
        paper.prose(Line::new(), Paint::Plain, &others);
    }
    let about = format!(
        "{}, Linux {}, {}, seen in {}",
        report.host.hostname,
        report.host.kernel,
        report.generated_at,
        number::duration(report.duration_seconds)
    );
    paper.prose(Line::new(), Paint::Faint, &about);
}

/// What is wrong, by whom, what it leads to, and what to try first.
fn trouble(paper: &mut Paper<'_>, finding: &Finding) {
    let (paint, word) = severity(finding.severity);
    paper.prose(Line::of(paint, word).with(Paint::Plain, " "), Paint::Strong, &sentence(finding));
    if let Some(owner) = &finding.owner {
        let cause = format!("{}, {}", owner::name(owner), owner::known(owner.how));
        paper.prose(Line::of(Paint::Faint, "by "), Paint::Plain, &cause);
    }
    if !finding.consequences.is_empty() {
        let others: Vec<&str> = finding.consequences.iter().map(|other| other.summary.as_str()).collect();
        paper.prose(Line::of(Paint::Faint, "and so: "), Paint::Plain, &others.join("; "));
    }
    if let Some(first) = finding.remedies.iter().min_by_key(|remedy: &&Remedy| remedy.rank) {
        paper.prose(Line::of(Paint::Strong, "First: "), Paint::Plain, &first.summary);
        if let Some(command) = &first.command {
            paper.command(2, command);
        }
    }
}

/// The severity as a word and a paint.
pub fn severity(severity: Severity) -> (Paint, &'static str) {
    match severity {
        Severity::Critical => (Paint::Critical, "CRITICAL"),
        Severity::Warning => (Paint::Warning, "WARNING"),
        Severity::Notice => (Paint::Strong, "NOTICE"),
    }
}

/// A finding in one sentence that says where and about what.
pub fn sentence(finding: &Finding) -> String {
    // A source without ports is named by itself; what it is short of is everything.
    let source = finding.subject.strip_suffix(" -> any destination");
    let named = source.is_some_and(|source| finding.summary.contains(source));
    if finding.subject.is_empty() || named || finding.summary.contains(&finding.subject) {
        format!("{}: {}", finding.namespace, finding.summary)
    } else {
        format!("{}: {}: {}", finding.namespace, finding.subject, finding.summary)
    }
}

/// How calm a report is that has no finding worse than a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is wrong in what could be seen.
    Ok,
    /// Nothing is wrong, but nobody would call it calm.
    Notice,
    /// It could not be told.
    Unknown,
}

/// What a report says that has no finding worse than a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calm {
    /// How calm it is.
    pub level: Level,
    /// In words.
    pub text: String,
}

/// The words for a report without a finding that is worse than a notice.
pub fn calm(report: &Report) -> Calm {
    let say = |level, text: String| Calm { level, text };
    if report.namespaces.is_empty() {
        return say(Level::Unknown, "no network namespace could be looked into; see the limits".to_owned());
    }
    let unknown = report.namespaces.iter().filter(|namespace| namespace.ports.is_none()).count();
    if unknown == report.namespaces.len() {
        return say(
            Level::Unknown,
            "the port range could not be read, so nobody knows what is left of it".to_owned(),
        );
    }
    let fullest = fullest(report);
    if let Some((namespace, destination, fill)) = fullest.filter(|(_, _, fill)| *fill >= NEARLY_FULL) {
        // Nothing was found, so nothing fails; but nobody would call it calm.
        let route = destinations::route(destination);
        let text = format!("{namespace}: {route} has {} of its ports in use", number::percent(fill));
        return say(Level::Notice, text);
    }
    let blind = unknown > 0 || report.limits.iter().any(hides_trouble);
    let found = if blind { "no trouble found in what could be seen" } else { "no trouble found" };
    say(Level::Ok, format!("{found}; {}", fullness(report)))
}

/// The fullest destination in words: the figure that tells how far off a shortage of ports is.
pub fn fullness(report: &Report) -> String {
    match fullest(report) {
        Some((_, destination, fill)) => format!(
            "the fullest destination, {}, uses {} of its ports",
            destinations::route(destination),
            number::percent(fill)
        ),
        None if report.namespaces.iter().any(|namespace| !namespace.destinations.is_empty()) => {
            "how full the ports of the destinations are is not known".to_owned()
        }
        None => "there are no outgoing connections".to_owned(),
    }
}

/// What else was found, counted.
fn others(report: &Report) -> Option<String> {
    let of = |wanted| report.findings.iter().filter(|finding| finding.severity == wanted).count() as u64;
    let (critical, warnings, notices) = (of(Severity::Critical), of(Severity::Warning), of(Severity::Notice));
    let worst_is_shown = critical + warnings > 0;
    // One of them is the verdict itself.
    let (critical, warnings) = match (critical, warnings) {
        (0, warnings) => (0, warnings.saturating_sub(1)),
        (critical, warnings) => (critical - 1, warnings),
    };
    let mut parts = Vec::new();
    if critical > 0 {
        parts.push(format!("{} more critical", number::count(critical)));
    }
    if warnings > 0 {
        parts.push(number::of(warnings, "warning", "warnings"));
    }
    if notices > 0 {
        parts.push(number::of(notices, "notice", "notices"));
    }
    let lead = if worst_is_shown { "also " } else { "" };
    (!parts.is_empty()).then(|| format!("{lead}{}: see Findings", parts.join(", ")))
}

fn fullest(report: &Report) -> Option<(&str, &Destination, f64)> {
    report
        .namespaces
        .iter()
        .flat_map(|namespace| namespace.destinations.iter().map(|row| (namespace.name.as_str(), row)))
        .filter_map(|(namespace, row)| Some((namespace, row, destinations::fill(row)?)))
        .max_by(|a, b| a.2.total_cmp(&b.2))
}

/// Whether a limit could hide trouble. Not knowing which process holds a socket hides none.
fn hides_trouble(limit: &Limit) -> bool {
    limit.hides == Hides::Trouble
}
