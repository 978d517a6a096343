//! The explanation of a topic: the answer first, then how it is here, then what to do; and the list of all topics.

use tidewait_model::explain::{Explanation, Fact, Kind, Topics};
use tidewait_model::report::Configuration;

use super::line::{Line, Paint};
use super::page::Paper;

/// Names of facts are not padded beyond this.
const NAME_COLUMN: usize = 34;

/// One topic.
pub fn write(paper: &mut Paper<'_>, page: &Explanation) {
    let lead = Line::of(Paint::Strong, &page.topic).with(Paint::Faint, format!("  {}", kind(page.kind)));
    paper.line(lead);
    paper.prose(Line::new(), Paint::Plain, &page.summary);
    facts(paper, "Recognised", &page.recognised);
    facts(paper, "Here and now", &page.here);
    for section in &page.sections {
        paper.heading(&section.heading);
        for text in &section.text {
            // A step's second line stands under its first word.
            let step =
                text.split_once(". ").filter(|(step, _)| step.bytes().all(|byte| byte.is_ascii_digit()));
            match step {
                Some((step, text)) => paper.prose(Line::plain(format!("  {step}. ")), Paint::Plain, text),
                None => paper.prose(Line::plain("  "), Paint::Plain, text),
            }
        }
    }
    if !page.configuration.is_empty() {
        paper.heading("In the program");
        for (index, configuration) in page.configuration.iter().enumerate() {
            if index > 0 {
                paper.gap();
            }
            lines(paper, configuration);
        }
    }
    if !page.corrections.is_empty() {
        paper.heading("Often said");
        for correction in &page.corrections {
            paper.prose(Line::plain("  "), Paint::Warning, &format!("\"{}\"", correction.claim));
            paper.prose(Line::plain("    "), Paint::Plain, &correction.truth);
        }
    }
    if !page.see_also.is_empty() {
        paper.gap();
        paper.prose(Line::of(Paint::Faint, "See also  "), Paint::Plain, &page.see_also.join(", "));
    }
    for (index, source) in page.sources.iter().enumerate() {
        if index == 0 && page.see_also.is_empty() {
            paper.gap();
        }
        let lead = if index == 0 { "Sources   " } else { "          " };
        paper.prose(Line::of(Paint::Faint, lead), Paint::Faint, source);
    }
}

fn facts(paper: &mut Paper<'_>, heading: &str, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    paper.heading(heading);
    let room = NAME_COLUMN.min(paper.width() / 2);
    let column =
        facts.iter().map(|fact| Line::plain(&fact.name).width()).filter(|width| *width <= room).max();
    for fact in facts {
        let name = Line::plain("  ").with(Paint::Faint, &fact.name).pad(column.unwrap_or(0) + 4);
        let wider = name.width() > column.unwrap_or(0) + 4 || column.is_none();
        let name = if wider { name.with(Paint::Plain, "  ") } else { name };
        let value = name.with(Paint::Strong, &fact.value);
        let whole = value.clone().with(Paint::Plain, "  ").with(Paint::Plain, &fact.meaning);
        if whole.width() <= paper.width() || fact.value.is_empty() {
            paper.line(whole);
        } else {
            paper.line(value);
            paper.prose(Line::plain("      "), Paint::Plain, &fact.meaning);
        }
    }
}

fn lines(paper: &mut Paper<'_>, configuration: &Configuration) {
    let lead = Line::plain("  ").with(Paint::Strong, &configuration.program).with(Paint::Plain, ": ");
    paper.prose(lead, Paint::Plain, &configuration.about);
    for line in &configuration.lines {
        // Never cut: it is there to be copied.
        for (index, part) in Line::plain(line).fold(paper.width().saturating_sub(6)).into_iter().enumerate() {
            let indent = if index == 0 { "      " } else { "        " };
            paper.line(Line::plain(indent).join(part));
        }
    }
    paper.prose(Line::of(Paint::Faint, "    from "), Paint::Faint, &configuration.source);
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::State => "a state of a TCP socket",
        Kind::Setting => "a kernel setting",
        Kind::Option => "a socket option",
        Kind::Finding => "a finding of the report",
        Kind::Concept => "a concept",
        Kind::Error => "an error",
        Kind::Program => "a program",
    }
}

/// All topics, by kind.
pub fn list(paper: &mut Paper<'_>, topics: &Topics) {
    let mut last = None;
    for topic in &topics.topics {
        if last != Some(topic.kind) {
            last = Some(topic.kind);
            paper.heading(heading(topic.kind));
        }
        let lead = Line::plain("  ").with(Paint::Strong, &topic.topic).with(Paint::Plain, "  ");
        paper.line(lead.with(Paint::Faint, &topic.summary));
    }
    paper.gap();
    paper.prose(
        Line::new(),
        Paint::Faint,
        "And any error message: quote it, or pipe it into `tidewait explain -`.",
    );
}

fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::State => "States",
        Kind::Setting => "Kernel settings",
        Kind::Option => "Socket options",
        Kind::Finding => "Findings",
        Kind::Concept => "Concepts",
        Kind::Error => "Errors",
        Kind::Program => "Programs",
    }
}
