//! Findings: what is wrong, on what evidence, what to do in order, and what will not help.

use tidewait_model::report::{Finding, Remedy};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{owner, verdict};

/// All findings, worst first.
pub fn write(paper: &mut Paper<'_>, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    paper.heading("Findings");
    let mut ordered: Vec<&Finding> = findings.iter().collect();
    ordered.sort_by_key(|finding| finding.severity);
    let top = paper.page().top.max(1);
    for (index, finding) in ordered.iter().take(top).enumerate() {
        if index > 0 {
            paper.gap();
        }
        one(paper, finding);
    }
    if ordered.len() > top {
        let text = format!("and {} more findings", super::number::count((ordered.len() - top) as u64));
        paper.prose(Line::new(), Paint::Faint, &text);
    }
}

fn one(paper: &mut Paper<'_>, finding: &Finding) {
    let (paint, word) = verdict::severity(finding.severity);
    let lead = Line::of(paint, word).with(Paint::Plain, " ");
    paper.prose(lead, Paint::Strong, &format!("{} [{}]", verdict::sentence(finding), finding.id));
    for evidence in &finding.evidence {
        paper.prose(Line::of(Paint::Faint, "  - "), Paint::Plain, evidence);
    }
    let mut about = Vec::new();
    if let Some(owner) = &finding.owner {
        about.push(format!("by {}, known by {}", owner::name(owner), owner.how.words()));
    }
    if let Some(since) = &finding.since {
        about.push(format!("since {since}"));
    }
    if !about.is_empty() {
        paper.prose(Line::plain("  "), Paint::Plain, &about.join("; "));
    }
    if !finding.remedies.is_empty() {
        paper.prose(Line::plain("  "), Paint::Strong, "Do, in this order");
        let mut remedies: Vec<&Remedy> = finding.remedies.iter().collect();
        remedies.sort_by_key(|remedy| remedy.rank);
        for remedy in remedies {
            paper.prose(Line::plain(format!("  {:>2}. ", remedy.rank)), Paint::Plain, &remedy.summary);
            if let Some(command) = &remedy.command {
                paper.command(6, command);
            }
            for (word, text) in [("effect  ", &remedy.effect), ("risk    ", &remedy.risk)] {
                if !text.is_empty() {
                    paper.prose(Line::plain("      ").with(Paint::Faint, word), Paint::Plain, text);
                }
            }
        }
    }
    if !finding.no_help.is_empty() {
        paper.prose(Line::plain("  "), Paint::Strong, "Will not help");
        for advice in &finding.no_help {
            let lead = Line::plain("    ").with(Paint::Plain, format!("{}: ", advice.setting));
            paper.prose(lead, Paint::Faint, &advice.why);
        }
    }
}
