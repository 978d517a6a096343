//! The lab's scenarios: what came of each, and the table of scenarios by findings.

use tidewait_model::report::Severity;
use tidewait_model::scenario::{LabRun, ScenarioResult, ScenarioVerdict};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Columns for the name of a scenario.
const NAME: usize = 28;

/// One scenario that has ended.
pub fn one(paper: &mut Paper<'_>, result: &ScenarioResult) {
    let (paint, mark) = mark(result.verdict, paper.page().ascii);
    let lead = Line::of(paint, mark)
        .with(Paint::Plain, " ")
        .with(Paint::Plain, &result.scenario)
        .pad(NAME + 2)
        .with(Paint::Faint, format!("{:>5.1} s  ", result.seconds));
    let given = told(result);
    let text = match (&result.reason, given.is_empty()) {
        (Some(reason), _) => format!("{}: {reason}", result.verdict.words()),
        (None, true) => "nothing told, as expected".to_owned(),
        (None, false) => given,
    };
    paper.prose(lead, Paint::Plain, &text);
}

/// Name and sentence of each scenario.
pub fn list<'a>(paper: &mut Paper<'_>, list: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (name, about) in list {
        let lead = Line::of(Paint::Strong, name).pad(NAME).with(Paint::Plain, " ");
        // Beside the name where there is room for it, else below.
        if paper.width() >= 2 * NAME {
            let hang = lead.width();
            let mut lines = super::line::wrap(about, paper.width() - hang, paper.width() - hang).into_iter();
            paper.line(lead.with(Paint::Plain, lines.next().unwrap_or_default()));
            for line in lines {
                paper.line(Line::plain(" ".repeat(hang)).with(Paint::Plain, line));
            }
        } else {
            paper.line(lead);
            paper.prose(Line::plain("  "), Paint::Plain, about);
        }
    }
}

/// The table, what its letters mean, and the tally.
pub fn write(paper: &mut Paper<'_>, run: &LabRun) {
    let columns = columns(run);
    let ran: Vec<&ScenarioResult> =
        run.results.iter().filter(|result| result.verdict != ScenarioVerdict::Skipped).collect();
    if ran.len() > 1 && !columns.is_empty() {
        paper.heading("Scenarios by findings");
        table(paper, &ran, &columns);
    }
    let skipped = run.results.iter().filter(|result| result.verdict == ScenarioVerdict::Skipped);
    for (index, result) in skipped.enumerate() {
        if index == 0 {
            paper.heading("Skipped");
        }
        let reason = result.reason.as_deref().unwrap_or("no reason given");
        paper.prose(Line::plain(format!("  {}: ", result.scenario)), Paint::Faint, reason);
    }
    let (good, wrong, skipped) = run.tally();
    paper.gap();
    let paint = if wrong > 0 { Paint::Critical } else { Paint::Good };
    let text = format!(
        "{} as expected, {} wrong, {} skipped",
        number::count(good as u64),
        number::count(wrong as u64),
        number::count(skipped as u64)
    );
    paper.line(Line::of(paint, text));
}

fn table(paper: &mut Paper<'_>, results: &[&ScenarioResult], columns: &[&str]) {
    let letters = || (0..columns.len()).map(letter);
    let head = letters().fold(Line::plain(" ".repeat(NAME + 2)), |line, letter| {
        line.with(Paint::Strong, letter.to_string()).with(Paint::Plain, " ")
    });
    paper.line(head);
    let ascii = paper.page().ascii;
    for result in results {
        let (paint, sign) = mark(result.verdict, ascii);
        let row =
            Line::of(paint, sign).with(Paint::Plain, " ").with(Paint::Plain, &result.scenario).pad(NAME + 2);
        paper.line(columns.iter().fold(row, |row, id| {
            let (paint, cell) = cell(result, id, ascii);
            row.with(paint, cell).with(Paint::Plain, " ")
        }));
    }
    let legend = letters()
        .zip(columns)
        .map(|(letter, id)| Line::of(Paint::Strong, letter.to_string()).with(Paint::Plain, format!(" {id}")));
    paper.gap();
    paper.flow(2, legend);
    paper.flow(
        2,
        [
            "C critical",
            "W warning",
            "N notice",
            "- expected and not told",
            "lower case: told and not expected",
        ]
        .map(|text| Line::of(Paint::Faint, text)),
    );
}

/// What stands where a scenario and a finding meet.
fn cell(result: &ScenarioResult, id: &str, ascii: bool) -> (Paint, String) {
    let expected = result.expected.iter().any(|expected| expected.id == id);
    let worst = result.given.iter().filter(|given| given.id == id).map(|given| given.severity).min();
    match worst {
        None if expected => (Paint::Critical, "-".to_owned()),
        None => (Paint::Faint, if ascii { "." } else { "\u{b7}" }.to_owned()),
        Some(severity) => {
            let (paint, letter) = match severity {
                Severity::Critical => (Paint::Critical, 'C'),
                Severity::Warning => (Paint::Warning, 'W'),
                Severity::Notice => (Paint::Plain, 'N'),
            };
            let letter = if expected { letter } else { letter.to_ascii_lowercase() };
            (paint, letter.to_string())
        }
    }
}

/// The findings that were expected or told, in the order in which they come up.
fn columns(run: &LabRun) -> Vec<&str> {
    let mut columns = Vec::new();
    let expected =
        run.results.iter().flat_map(|result| &result.expected).map(|expected| expected.id.as_str());
    let given = run.results.iter().flat_map(|result| &result.given).map(|given| given.id.as_str());
    for id in expected.chain(given) {
        if !columns.contains(&id) {
            columns.push(id);
        }
    }
    columns
}

/// `A` for the first column, `a` for the 27th.
fn letter(index: usize) -> char {
    let alphabet = ('A'..='Z').chain('a'..='z');
    alphabet.chain(std::iter::repeat('?')).nth(index.min(60)).unwrap_or('?')
}

/// The findings told, with their severities.
fn told(result: &ScenarioResult) -> String {
    let words = result.given.iter().map(|given| {
        let severity = match given.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        };
        format!("{} ({severity})", given.id)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn mark(verdict: ScenarioVerdict, ascii: bool) -> (Paint, &'static str) {
    match (verdict, ascii) {
        (ScenarioVerdict::AsExpected, false) => (Paint::Good, "\u{2713}"),
        (ScenarioVerdict::AsExpected, true) => (Paint::Good, "+"),
        (ScenarioVerdict::Skipped, _) => (Paint::Faint, "-"),
        (_, false) => (Paint::Critical, "\u{2717}"),
        (_, true) => (Paint::Critical, "x"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidewait_model::report::Host;
    use tidewait_model::scenario::{Expected, Given, SCHEMA};

    use super::super::{Page, lab, scenario, scenario_list};
    use super::*;

    fn result(
        name: &str,
        expected: &[&str],
        given: &[(&str, Severity)],
        verdict: ScenarioVerdict,
    ) -> ScenarioResult {
        ScenarioResult {
            scenario: name.to_owned(),
            about: "what goes on".to_owned(),
            expected: expected
                .iter()
                .map(|id| Expected {
                    id: (*id).to_owned(),
                    severity: Severity::Warning,
                    says: vec!["squid".to_owned()],
                    leads: Vec::new(),
                })
                .collect(),
            given: given
                .iter()
                .map(|(id, severity)| Given {
                    id: (*id).to_owned(),
                    severity: *severity,
                    summary: "something is wrong".to_owned(),
                })
                .collect(),
            verdict,
            reason: (verdict != ScenarioVerdict::AsExpected).then(|| "the reason".to_owned()),
            seconds: 2.34,
        }
    }

    /// A run in which everything occurs.
    pub(crate) fn sample() -> LabRun {
        use ScenarioVerdict::{AsExpected, Failed, FalseAlarm, Missed, Skipped};
        LabRun {
            schema: SCHEMA.to_owned(),
            host: Host { hostname: "db1".to_owned(), kernel: "6.18.44".to_owned() },
            results: vec![
                result(
                    "ports-exhausted",
                    &["ports-exhausted"],
                    &[("ports-exhausted", Severity::Critical)],
                    AsExpected,
                ),
                result("close-wait-leak-to-fd-limit", &["close-wait-leak"], &[], Missed),
                result("busy-web-server", &[], &[("fd-limit-near", Severity::Warning)], FalseAlarm),
                result("incoming-60000-time-wait", &[], &[], AsExpected),
                result("bind-pool-squid", &["bind-pool-exhausted"], &[], Skipped),
                result("conntrack-full", &["conntrack-full"], &[], Failed),
            ],
        }
    }

    #[test]
    fn the_table_shows_every_scenario_that_ran_by_every_finding() {
        let page = lab(&sample(), &Page { ascii: true, ..Page::default() });
        let row = |name: &str| {
            page.lines().find(|line| line[2..].starts_with(name)).unwrap()[NAME + 2..].to_owned()
        };
        assert_eq!(row("ports-exhausted"), "C . . . .");
        assert_eq!(row("close-wait-leak-to-fd-limit"), ". - . . .");
        assert_eq!(row("busy-web-server"), ". . . . w");
        assert_eq!(row("incoming-60000-time-wait"), ". . . . .");
        assert!(page.contains("  bind-pool-squid: the reason"), "{page}");
        assert!(page.contains("E fd-limit-near"), "{page}");
        assert!(page.ends_with("2 as expected, 3 wrong, 1 skipped\n"), "{page}");
    }

    #[test]
    fn a_scenario_says_what_was_told_or_why_it_is_wrong() {
        let page = Page { width: 200, ..Page::default() };
        let lines: Vec<String> = sample().results.iter().map(|result| scenario(result, &page)).collect();
        assert!(lines[0].contains("ports-exhausted (critical)"), "{}", lines[0]);
        assert!(lines[1].contains("MISSED: the reason"), "{}", lines[1]);
        assert!(lines[3].contains("nothing told"), "{}", lines[3]);
        assert!(lines[4].contains("skipped: the reason"), "{}", lines[4]);
    }

    #[test]
    fn nothing_is_wider_than_the_page() {
        for width in [20, 40, 80] {
            for ascii in [false, true] {
                let page = Page { width, ascii, ..Page::default() };
                let mut text = lab(&sample(), &page);
                text.push_str(&scenario(&sample().results[1], &page));
                text.push_str(&scenario_list(
                    [("bind-pool-squid", "squid forwards with a bound source address")],
                    &page,
                ));
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= width, "{width}:\n{text}");
            }
        }
    }
}
