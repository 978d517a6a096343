//! Findings: what is wrong, on what evidence, what to do in order, and what will not help.
//!
//! What was said of one finding is not said again of the next: a remedy in the same words is named only, advice that will
//! not help is listed once.

use tidewait_model::report::{Configuration, Finding, NoHelp, Remedy};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{owner, verdict};

/// Columns before the lines that go into a configuration.
const LINES_INDENT: usize = 10;

/// All findings, worst first.
pub fn write(paper: &mut Paper<'_>, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    paper.heading("Findings");
    let mut ordered: Vec<&Finding> = findings.iter().collect();
    ordered.sort_by_key(|finding| finding.severity);
    let top = paper.page().top.max(1);
    let mut said = Said::default();
    for (index, finding) in ordered.iter().take(top).enumerate() {
        if index > 0 {
            paper.gap();
        }
        one(paper, finding, &mut said);
    }
    let told = ordered.iter().take(top).flat_map(|finding| &finding.remedies);
    if told.flat_map(|remedy| &remedy.changes).next().is_some() {
        paper.gap();
        let text = "The settings among these: `tidewait tune plan` weighs them, `tidewait tune apply` sets them so that they can be \
                    undone, by themselves if nobody confirms. --netns NAME for another namespace than this one.";
        paper.prose(Line::new(), Paint::Faint, text);
    }
    if ordered.len() > top {
        let text = format!("and {} more findings", super::number::count((ordered.len() - top) as u64));
        paper.prose(Line::new(), Paint::Faint, &text);
    }
}

/// What the findings before have said already.
#[derive(Default)]
struct Said<'a> {
    configurations: Vec<&'a Configuration>,
    no_help: Vec<&'a NoHelp>,
    remedies: Vec<&'a Remedy>,
}

fn one<'a>(paper: &mut Paper<'_>, finding: &'a Finding, said: &mut Said<'a>) {
    let (paint, word) = verdict::severity(finding.severity);
    let lead = Line::of(paint, word).with(Paint::Plain, " ");
    paper.prose(lead, Paint::Strong, &format!("{} [{}]", verdict::sentence(finding), finding.id));
    for evidence in &finding.evidence {
        paper.prose(Line::of(Paint::Faint, "  - "), Paint::Plain, evidence);
    }
    for consequence in &finding.consequences {
        let text = format!("{} [{}]", consequence.summary, consequence.id);
        paper.prose(Line::of(Paint::Faint, "  and so: "), Paint::Plain, &text);
    }
    let mut about = Vec::new();
    if let Some(owner) = &finding.owner {
        about.push(format!("by {}, {}", owner::name(owner), owner::known(owner.how)));
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
            do_this(paper, remedy, said);
        }
    }
    no_help(paper, &finding.no_help, said);
}

fn do_this<'a>(paper: &mut Paper<'_>, remedy: &'a Remedy, said: &mut Said<'a>) {
    paper.prose(Line::plain(format!("  {:>2}. ", remedy.rank)), Paint::Plain, &remedy.summary);
    if let Some(command) = &remedy.command {
        paper.command(6, command);
    }
    let before = said
        .remedies
        .iter()
        .any(|other| (&other.id, &other.summary, &other.risk) == (&remedy.id, &remedy.summary, &remedy.risk));
    let risk = if before { "" } else { remedy.risk.as_str() };
    said.remedies.push(remedy);
    for (word, text) in [("effect  ", remedy.effect.as_str()), ("risk    ", risk)] {
        if !text.is_empty() {
            paper.prose(Line::plain("      ").with(Paint::Faint, word), Paint::Plain, text);
        }
    }
    let mut repeated = Vec::new();
    for configuration in &remedy.configuration {
        if said.configurations.contains(&configuration) {
            repeated.push(configuration.program.as_str());
        } else {
            said.configurations.push(configuration);
            configure(paper, configuration);
        }
    }
    if !repeated.is_empty() {
        let text = format!("{}: lines as above", repeated.join(", "));
        paper.prose(Line::plain("      "), Paint::Faint, &text);
    }
}

/// What to write into a program's configuration: about, the lines to copy, who says so.
fn configure(paper: &mut Paper<'_>, configuration: &Configuration) {
    let lead = Line::plain("      ").with(Paint::Strong, &configuration.program).with(Paint::Plain, "  ");
    paper.prose(lead, Paint::Plain, &configuration.about);
    for line in &configuration.lines {
        paper.verbatim(LINES_INDENT, line);
    }
    paper.prose(Line::plain("        "), Paint::Faint, &configuration.source);
}

fn no_help<'a>(paper: &mut Paper<'_>, list: &'a [NoHelp], said: &mut Said<'a>) {
    let (old, new): (Vec<&NoHelp>, Vec<&NoHelp>) =
        list.iter().partition(|advice| said.no_help.contains(advice));
    let again: Vec<&str> = old.iter().map(|advice| advice.setting.as_str()).collect();
    let again = format!("as above: {}", again.join("; "));
    if new.is_empty() {
        if !old.is_empty() {
            let lead = Line::plain("  ").with(Paint::Strong, "Will not help").with(Paint::Plain, "  ");
            paper.prose(lead, Paint::Faint, &again);
        }
        return;
    }
    paper.prose(Line::plain("  "), Paint::Strong, "Will not help");
    for advice in &new {
        let lead = Line::plain("    ").with(Paint::Plain, format!("{}: ", advice.setting));
        paper.prose(lead, Paint::Faint, &advice.why);
    }
    if !old.is_empty() {
        paper.prose(Line::plain("    "), Paint::Faint, &again);
    }
    said.no_help.extend(new);
}
