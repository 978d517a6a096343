//! The explanation of a topic: the answer first, then how it is here, then what to do; and the list of all topics.

use tidewait_model::explain::{Explanation, Fact, Kind, Topics};
use tidewait_model::report::Configuration;

use super::line::{Line, Paint};
use super::page::Paper;

/// Names of facts are not padded beyond this.
const NAME_COLUMN: usize = 34;

/// One topic.
pub fn write(paper: &mut Paper<'_>, page: &Explanation) {
    let title = Line::of(Paint::Strong, &page.topic).with(Paint::Faint, format!("  {}", kind(page.kind)));
    if title.width() <= paper.width() {
        paper.line(title);
    } else {
        paper.prose(Line::new(), Paint::Strong, &page.topic);
        paper.prose(Line::new(), Paint::Faint, kind(page.kind));
    }
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
            lines(paper, configuration, page.kind != Kind::Program);
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
            continue;
        }
        if value.width() <= paper.width() {
            paper.line(value);
        } else {
            paper.prose(Line::plain("  "), Paint::Faint, &fact.name);
            paper.prose(Line::plain("    "), Paint::Strong, &fact.value);
        }
        if !fact.meaning.is_empty() {
            paper.prose(Line::plain("      "), Paint::Plain, &fact.meaning);
        }
    }
}

/// Lines of a program, which is named where the page is not its own.
fn lines(paper: &mut Paper<'_>, configuration: &Configuration, named: bool) {
    let mut lead = Line::plain("  ");
    if named {
        lead = lead.with(Paint::Strong, &configuration.program).with(Paint::Plain, ": ");
    }
    paper.prose(lead, Paint::Plain, &configuration.about);
    for line in &configuration.lines {
        paper.verbatim(6, line);
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

#[cfg(test)]
pub(crate) mod tests {
    use insta::assert_snapshot;
    use tidewait_model::explain::{Correction, SCHEMA, Section, TOPICS_SCHEMA, Topic};
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::text::{Page, explanation, topics};

    fn fact(name: &str, value: &str, meaning: &str) -> Fact {
        Fact { name: name.to_owned(), value: value.to_owned(), meaning: meaning.to_owned() }
    }

    /// A page with something of everything.
    pub(crate) fn sample() -> Explanation {
        Explanation {
            schema: SCHEMA.to_owned(),
            topic: "EADDRINUSE-bind-pool".to_owned(),
            kind: Kind::Error,
            recognised: vec![
                fact("program", "Squid", ""),
                fact("errno", "98 EADDRINUSE", "Address already in use"),
                fact("address", "*:0", "any address, and port 0: the kernel chooses the port"),
            ],
            summary: "A client called bind(address, port 0) before connect() and no port was free.".to_owned(),
            here: vec![
                fact("local ports", "32768 to 60999", "28,232 usable for each destination"),
                fact("net.ipv4.tcp_tw_reuse", "2", "connect() may take over a TIME_WAIT on loopback only, other connections wait"),
                fact("a name that is longer than the column has room for", "1", "and what it means"),
            ],
            sections: vec![Section {
                heading: "What to do".to_owned(),
                text: vec![
                    "1. Let the program set IP_BIND_ADDRESS_NO_PORT before bind(), or not bind where routing gives the same."
                        .to_owned(),
                    "2. Keep connections open.".to_owned(),
                ],
            }],
            configuration: vec![Configuration {
                program: "Squid".to_owned(),
                about: "use Squid 6 or later; or leave the line out where routing gives the same address anyway".to_owned(),
                lines: vec!["tcp_outgoing_address 10.0.0.5".to_owned(), "    indented".to_owned()],
                source: "squid.conf: tcp_outgoing_address".to_owned(),
            }],
            corrections: vec![Correction {
                claim: "tcp_tw_reuse helps.".to_owned(),
                truth: "It is not consulted at bind().".to_owned(),
            }],
            see_also: vec!["two-pools".to_owned(), "IP_BIND_ADDRESS_NO_PORT".to_owned()],
            sources: vec!["bind(2)".to_owned(), "net/ipv4/inet_connection_sock.c (6.18)".to_owned()],
        }
    }

    /// A list with two kinds.
    pub(crate) fn sample_topics() -> Topics {
        let topic = |topic: &str, kind, summary: &str| Topic {
            topic: topic.to_owned(),
            kind,
            summary: summary.to_owned(),
            aliases: vec![],
        };
        Topics {
            schema: TOPICS_SCHEMA.to_owned(),
            topics: vec![
                topic(
                    "TIME_WAIT",
                    Kind::State,
                    "Closed on both sides, and this side closed first, so that it waits for late segments.",
                ),
                topic("CLOSE_WAIT", Kind::State, "The peer has closed."),
                topic("nginx", Kind::Program, "nginx"),
            ],
        }
    }

    fn page(width: usize) -> Page {
        Page { width, ..Page::default() }
    }

    #[test]
    fn the_page_and_the_list() {
        assert_snapshot!("80_explanation", explanation(&sample(), &page(80)));
        assert_snapshot!("40_explanation", explanation(&sample(), &page(40)));
        assert_snapshot!("80_topics", topics(&sample_topics(), &page(80)));
    }

    #[test]
    fn it_fits_every_width_and_every_terminal() {
        for width in 0..200 {
            for text in [explanation(&sample(), &page(width)), topics(&sample_topics(), &page(width))] {
                let wide = text.lines().find(|line| line.width() > width.max(Page::NARROWEST));
                assert_eq!(wide, None, "at {width}");
            }
        }
        let ascii = Page { ascii: true, ..page(60) };
        assert!(explanation(&sample(), &ascii).is_ascii());
        assert!(topics(&sample_topics(), &ascii).is_ascii());
    }

    #[test]
    fn what_came_with_a_message_cannot_drive_the_terminal() {
        let mut hostile = sample();
        hostile.recognised.push(fact("address", "\u{1b}[2J\u{202e}host", "\u{7}"));
        let text = explanation(&hostile, &page(80));
        assert!(!text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{text:?}");
        hostile.recognised.push(fact("program", "m\u{e9}dia \u{fffd}", ""));
        assert!(explanation(&hostile, &Page { ascii: true, ..page(80) }).is_ascii());
    }

    #[test]
    fn lines_to_be_copied_are_never_cut() {
        let mut long = sample();
        let line = "proxy_pass http://backend.with.a.very.long.name.example:8080/and/a/path; # and a comment";
        long.configuration[0].lines = vec![line.to_owned()];
        let text = explanation(&long, &page(40));
        let copied: String = text.split_whitespace().collect();
        assert!(copied.contains(&line.split_whitespace().collect::<String>()), "{text}");
        // YAML lives by its indentation, also where the line is too long.
        long.configuration[0].lines = vec![
            "options:".to_owned(),
            "  keepalive: { keepalive_time: 60, keepalive_interval: 10 }".to_owned(),
        ];
        let text = explanation(&long, &page(40));
        let at = |word: &str| text.lines().find_map(|line| line.find(word)).unwrap();
        assert_eq!(at("keepalive: {"), at("options:") + 2, "{text}");
    }
}
