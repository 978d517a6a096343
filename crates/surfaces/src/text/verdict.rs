//! The verdict: the one or two lines that are read first, and perhaps alone.

use tidewait_model::report::{Destination, Finding, Report, Severity};
use tidewait_model::{Hides, Limit};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{destinations, number};

/// From this fill on a page does not begin with OK, finding or not.
const NEARLY_FULL: f64 = 0.9;

/// Verdict and a line about the observation.
pub fn write(paper: &mut Paper<'_>, report: &Report) {
    let (paint, word, text) = judge(report);
    paper.prose(Line::of(paint, word).with(Paint::Plain, " "), Paint::Strong, &text);
    let second = [first_remedy(report), others(report)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    if !second.is_empty() {
        paper.prose(Line::new(), Paint::Plain, &second);
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
    if named || finding.summary.contains(&finding.subject) {
        format!("{}: {}", finding.namespace, finding.summary)
    } else {
        format!("{}: {}: {}", finding.namespace, finding.subject, finding.summary)
    }
}

fn judge(report: &Report) -> (Paint, &'static str, String) {
    let worst = report.findings.iter().min_by_key(|finding| finding.severity);
    if let Some(finding) = worst
        && finding.severity < Severity::Notice
    {
        let (paint, word) = severity(finding.severity);
        return (paint, word, sentence(finding));
    }
    if report.namespaces.is_empty() {
        return (
            Paint::Warning,
            "UNKNOWN",
            "no network namespace could be looked into; see below".to_owned(),
        );
    }
    let unknown = report.namespaces.iter().filter(|namespace| namespace.ports.is_none()).count();
    let seen =
        if report.limits.iter().any(hides_trouble) || unknown > 0 { "of what could be seen, " } else { "" };
    match fullest(report) {
        // Nothing was found, so nothing fails; but nobody would call it calm.
        Some((namespace, destination, fill)) if fill >= NEARLY_FULL => (
            Paint::Warning,
            "NOTICE",
            format!(
                "{namespace}: {} has {} of its ports in use",
                destinations::route(destination),
                number::percent(fill)
            ),
        ),
        Some((_, destination, fill)) => (
            Paint::Good,
            "OK",
            format!(
                "{seen}nothing is short of ports; the fullest destination, {}, uses {}",
                destinations::route(destination),
                number::percent(fill)
            ),
        ),
        None if unknown == report.namespaces.len() => (
            Paint::Warning,
            "UNKNOWN",
            "the port range could not be read, so nobody knows what is left of it".to_owned(),
        ),
        None => {
            let text = format!("{seen}nothing is short of ports; there are no outgoing connections");
            (Paint::Good, "OK", text)
        }
    }
}

/// What to try first about the worst finding.
fn first_remedy(report: &Report) -> Option<String> {
    let worst = report.findings.iter().min_by_key(|finding| finding.severity)?;
    let first = worst.remedies.iter().min_by_key(|remedy| remedy.rank)?;
    (worst.severity < Severity::Notice).then(|| format!("First: {}", first.summary))
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

/// Whether a limit could hide a shortage. Not knowing which process holds a socket hides none.
fn hides_trouble(limit: &Limit) -> bool {
    limit.hides == Hides::Trouble
}
