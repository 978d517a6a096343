//! What became of changes of settings: one that was just made, those in force, all there were.

use tidewait_model::Limit;
use tidewait_model::tune::{Entry, Held, Holding, KeptReport, Situation, State, Status, Told, spaced};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// A change that was made just now.
pub fn applied(paper: &mut Paper<'_>, entry: &Entry) {
    paper.gap();
    let number = entry.number;
    for was in &entry.changes {
        let line = Line::of(Paint::Good, "set ").with(Paint::Strong, &was.setting).with(Paint::Plain, " = ");
        paper.line(
            line.with(Paint::Plain, spaced(&was.wanted))
                .with(Paint::Faint, format!("  was {}", shown(&was.before))),
        );
    }
    match &entry.deadline {
        Some(deadline) => {
            let text = format!(
                "change {number} is undone by itself at {} (in {} s), unless this comes before:",
                deadline.at,
                number::seconds(deadline.seconds)
            );
            paper.prose(Line::new(), Paint::Warning, &text);
            paper.command(2, "tidewait tune confirm");
        }
        None => {
            paper.prose(
                Line::new(),
                Paint::Plain,
                &format!("change {number} is in force. What was before comes back with"),
            );
            paper.command(2, &format!("tidewait tune rollback {number}"));
        }
    }
}

/// The changes and what is kept; `all`: also those that are over.
pub fn status(paper: &mut Paper<'_>, status: &Status, all: bool) {
    let journal = format!("journal {}", status.journal);
    if status.changes.is_empty() {
        let text = if all { "No setting was ever changed" } else { "No change of settings is in force" };
        paper.prose(Line::new(), Paint::Strong, text);
    }
    for (index, told) in status.changes.iter().enumerate() {
        if index > 0 {
            paper.gap();
        }
        one(paper, told);
    }
    if !status.persisted.is_empty() {
        paper.heading("Kept across a restart");
        for held in &status.persisted {
            held_line(paper, held);
        }
    }
    for limit in &status.limits {
        paper.gap();
        not_seen(paper, limit);
    }
    paper.gap();
    paper.prose(Line::new(), Paint::Faint, &journal);
}

/// What is kept now, and what a boot would make of it.
pub fn kept(paper: &mut Paper<'_>, report: &KeptReport) {
    paper.prose(Line::new(), Paint::Strong, &format!("{} keeps", report.file));
    for held in &report.kept {
        held_line(paper, held);
    }
    for line in &report.dropped {
        paper.prose(Line::of(Paint::Warning, "dropped  "), Paint::Plain, line);
    }
    let outlook = &report.outlook;
    if outlook.conflicts.is_empty() {
        paper.prose(Line::of(Paint::Good, "at boot  "), Paint::Plain, "nothing that was found overrules it");
    } else {
        paper.heading("At boot it would be otherwise");
        for conflict in &outlook.conflicts {
            paper.prose(Line::of(Paint::Critical, "  x "), Paint::Plain, &conflict.summary);
            paper.prose(Line::plain("    ").with(Paint::Strong, "mend  "), Paint::Plain, &conflict.mend);
        }
    }
    for module in &outlook.modules {
        paper.gap();
        let lead = Line::of(Paint::Warning, "module   ");
        paper.prose(lead, Paint::Plain, &format!("{}: {}", module.settings.join(", "), module.mend));
        paper.command(2, &format!("echo {} > {}", module.line, module.file));
    }
    for note in &outlook.notes {
        paper.prose(Line::of(Paint::Faint, "- "), Paint::Faint, note);
    }
    for limit in &outlook.limits {
        not_seen(paper, limit);
    }
    paper.gap();
    let text = "Containers that run keep what they have, and new ones do not get these: each network namespace begins with the kernel's own \
                values. --as kubernetes, docker, compose or podman prints the lines for them.";
    paper.prose(Line::new(), Paint::Faint, text);
}

fn held_line(paper: &mut Paper<'_>, held: &Held) {
    let line = Line::plain("  ")
        .with(Paint::Strong, &held.setting)
        .with(Paint::Plain, format!(" = {}", shown(&held.value)));
    let now = match &held.now {
        Some(now) if spaced(now) == spaced(&held.value) => Line::of(Paint::Good, "  in force"),
        Some(now) => Line::of(Paint::Warning, format!("  now {}", shown(now))),
        None => Line::new(),
    };
    paper.line(line.join(now).with(Paint::Faint, format!("  plan {}", held.plan)));
}

fn not_seen(paper: &mut Paper<'_>, limit: &Limit) {
    let remedy = limit.remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
    paper.prose(
        Line::of(Paint::Warning, "not seen "),
        Paint::Plain,
        &format!("{}: {}{remedy}", limit.what, limit.why),
    );
}

fn one(paper: &mut Paper<'_>, told: &Told) {
    let entry = &told.entry;
    let (paint, words) = situation(told);
    let lead = Line::of(Paint::Strong, format!("change {}  ", entry.number));
    paper.prose(lead, paint, &words);
    let about = format!(
        "{} by {}, from {}, plan {}, network namespace {}",
        entry.begun_at, entry.by, entry.from, entry.plan, entry.namespace.name
    );
    paper.prose(Line::plain("  "), Paint::Faint, &about);
    for was in &entry.changes {
        let line = Line::plain("  ")
            .with(Paint::Plain, &was.setting)
            .with(Paint::Plain, format!(" {} ", shown(&was.before)));
        let line =
            line.with(Paint::Faint, paper.arrow()).with(Paint::Plain, format!(" {}", shown(&was.wanted)));
        let now = told.now.iter().find(|now| now.setting == was.setting);
        let mark = match now.map(|now| (now.held, now.changed_by, now.value.as_deref().unwrap_or_default())) {
            Some((Holding::Wanted, ..)) => Line::of(Paint::Good, "  in force"),
            Some((_, Some(later), value)) => {
                Line::plain(format!("  now {}, by change {later}", shown(value)))
            }
            Some((Holding::Before, ..)) => Line::of(Paint::Plain, "  as before"),
            Some((Holding::Other, _, value)) => {
                Line::of(Paint::Warning, format!("  now {}: changed since", shown(value)))
            }
            Some((Holding::Unknown, ..)) => Line::of(Paint::Warning, "  cannot be read"),
            None => Line::new(),
        };
        paper.line(line.join(mark));
    }
    if let Some(command) = next(told) {
        paper.command(2, &command);
    }
}

fn situation(told: &Told) -> (Paint, String) {
    let entry = &told.entry;
    match told.situation {
        Situation::AtWork => (Paint::Warning, "another tidewait is at work on it".to_owned()),
        Situation::InForce => match &entry.state {
            State::Confirmed { at } => (Paint::Good, format!("in force, confirmed at {at}")),
            _ => (Paint::Good, "in force".to_owned()),
        },
        Situation::Unconfirmed => {
            let left = told
                .seconds_left
                .map_or_else(|| "now".to_owned(), |left| format!("in {} s", number::seconds(left.ceil())));
            (Paint::Warning, format!("in force, and undone by itself {left} unless it is confirmed"))
        }
        Situation::Stranded => match entry.state {
            State::Begun => (Paint::Critical, "interrupted before all of it was written".to_owned()),
            _ if told.now.iter().any(|now| now.held == Holding::Before) => {
                (Paint::Critical, "undone in part: its undo was interrupted".to_owned())
            }
            _ => (
                Paint::Critical,
                "was to be undone by now and was not: whoever was to do it is gone".to_owned(),
            ),
        },
        Situation::Drifted => (Paint::Warning, "changed by somebody else since".to_owned()),
        Situation::ChangedAgain => (Paint::Plain, "changed again by a later change".to_owned()),
        Situation::Undone => match &entry.state {
            State::Undone { at, why, left } if left.is_empty() => {
                (Paint::Plain, format!("undone at {at} {}", why.words()))
            }
            State::Undone { at, why, left } => (
                Paint::Warning,
                format!(
                    "undone at {at} {}; left as somebody else had set them: {}",
                    why.words(),
                    left.join(", ")
                ),
            ),
            _ => (Paint::Plain, "every setting is what it was before".to_owned()),
        },
        Situation::Restarted => (Paint::Plain, "over: the machine was started anew since".to_owned()),
        Situation::NamespaceGone => {
            (Paint::Plain, "over: its network namespace is gone, or out of sight from here".to_owned())
        }
    }
}

/// What to do about a change, where something is.
fn next(told: &Told) -> Option<String> {
    let number = told.entry.number;
    match told.situation {
        Situation::Unconfirmed => Some(format!("tidewait tune confirm {number}")),
        Situation::Stranded => Some(format!("tidewait tune rollback {number}")),
        _ => None,
    }
}

fn shown(value: &str) -> String {
    let value = spaced(value);
    if value.is_empty() { "(empty)".to_owned() } else { value }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Page, applied, kept, plan, tune_status};
    use crate::samples::tune as samples;

    fn pages(page: &Page) -> String {
        let mut text = plan(&samples::plan(), Some(Path::new("plan.json")), page);
        text.push_str(&plan(&samples::no_plan(), None, page));
        text.push_str(&applied(&samples::entry(), page));
        text.push_str(&tune_status(&samples::status(), true, page));
        text.push_str(&kept(&samples::kept(), page));
        text
    }

    #[test]
    fn nothing_is_wider_than_the_page_and_ascii_is_ascii() {
        for width in [20, 40, 66, 80, 132] {
            for ascii in [false, true] {
                let text = pages(&Page { width, ascii, ..Page::default() });
                for line in text.lines() {
                    assert!(line.chars().count() <= width.max(20), "{width}: {line}");
                }
                assert!(!ascii || text.is_ascii(), "{text}");
            }
        }
    }

    #[test]
    fn what_does_nothing_is_struck_out_and_said_to_do_nothing() {
        let painted = plan(&samples::plan(), None, &Page { colour: true, ..Page::default() });
        assert!(painted.contains("\u{1b}[9m"), "{painted}");
        let plain = plan(&samples::plan(), None, &Page::default());
        assert!(plain.contains("x net.ipv4.tcp_keepalive_intvl = 30  does nothing here"), "{plain}");
        assert!(plain.contains("    as above\n"), "{plain}");
        assert!(!plain.contains("\u{1b}"), "{plain}");
    }

    #[test]
    fn every_situation_has_its_words_and_its_next_step() {
        let page = tune_status(&samples::status(), true, &Page { width: 200, ..Page::default() });
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "in force, and undone by itself in 42 s unless it is confirmed",
            "confirmed at 2026-11-26T03:13:45Z",
            "interrupted before all of it was written",
            "was to be undone by now and was not",
            "changed by somebody else since",
            "another tidewait is at work on it",
            "because nobody confirmed it in time; left as somebody else had set them: net.ipv4.tcp_tw_reuse",
            "by a rollback",
            "started anew since",
            "its network namespace is gone",
            "$ tidewait tune confirm 3",
            "$ tidewait tune rollback 3",
            "now 0: changed since",
        ] {
            assert!(page.contains(words), "{words:?} is not in\n{page}");
        }
    }

    #[test]
    fn a_plan_begins_with_what_it_comes_to() {
        let page = plan(&samples::plan(), None, &Page::default());
        let head: Vec<&str> = page.lines().take(3).collect();
        assert_eq!(head[0], "3 settings to change, from findings");
        assert!(head[1].starts_with("together: 470 to 55,296 connections a second"), "{page}");
        assert!(
            plan(&samples::no_plan(), None, &Page::default())
                .starts_with("Nothing to change: no finding asks")
        );
    }
}
