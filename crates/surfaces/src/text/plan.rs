//! A plan of settings: what is to be set and what that is worth, what is left out and why, what is in the way.

use std::path::Path;

use tidewait_model::tune::{Change, LeftOut, Plan, Reason};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Columns that a cell of the table takes at most: a list of reserved ports may be long.
const LONGEST_CELL: usize = 28;

/// The whole plan. `file`: where it was written to.
pub fn write(paper: &mut Paper<'_>, plan: &Plan, file: Option<&Path>) {
    head(paper, plan);
    table(paper, plan);
    for (index, change) in plan.changes.iter().enumerate() {
        if index > 0 {
            paper.gap();
        }
        one(paper, index + 1, change);
    }
    if !plan.left_out.is_empty() {
        paper.heading("Left out");
        let mut said: Vec<&str> = Vec::new();
        for left in &plan.left_out {
            left_out(paper, left, said.contains(&left.why.as_str()));
            said.push(&left.why);
        }
    }
    for blocker in &plan.blockers {
        paper.gap();
        let lead = Line::of(Paint::Critical, "In the way  ");
        paper.prose(lead, Paint::Plain, &format!("{}: {}", blocker.setting, blocker.why));
        paper.prose(Line::plain("  "), Paint::Strong, &blocker.remedy);
        if let Some(offer) = &blocker.offer {
            paper.command(2, &format!("--setting '{}={}'", offer.setting, offer.value));
        }
    }
    if !plan.notes.is_empty() {
        paper.gap();
        for note in &plan.notes {
            paper.prose(Line::of(Paint::Faint, "- "), Paint::Faint, note);
        }
    }
    if let Some(file) = file {
        let file = file.display();
        paper.gap();
        paper.prose(
            Line::new(),
            Paint::Plain,
            &format!("Written to {file}. To apply it, with a way back by itself:"),
        );
        paper.command(2, &format!("tidewait tune apply {file} --confirm-within 60s"));
    }
}

fn head(paper: &mut Paper<'_>, plan: &Plan) {
    let number = plan.changes.len();
    let what = match (number, plan.from.as_str()) {
        (0, "findings") => "Nothing to change: no finding asks for a setting".to_owned(),
        (0, "settings") => "Nothing to change".to_owned(),
        (0, from) => format!("Nothing to change of {from}"),
        (1, "settings") => "1 setting to change".to_owned(),
        (number, "settings") => format!("{number} settings to change"),
        (1, from) => format!("1 setting to change, from {from}"),
        (number, from) => format!("{number} settings to change, from {from}"),
    };
    paper.prose(Line::new(), Paint::Strong, &what);
    if let Some(capacity) = plan.capacity.filter(|_| number > 0) {
        let to = plan
            .subject
            .as_ref()
            .map_or_else(|| "one destination".to_owned(), |subject| format!("one destination ({subject})"));
        let text = if capacity.before_per_second == capacity.after_per_second {
            format!(
                "the ports carry {} connections a second to {to}, before and after",
                number::rate(capacity.before_per_second)
            )
        } else {
            format!(
                "together: {} to {} connections a second that the ports carry to {to}",
                carried(capacity.before_per_second),
                carried(capacity.after_per_second)
            )
        };
        paper.prose(Line::new(), Paint::Plain, &text);
    }
    if let Some(rate) = plan.rate_per_second.filter(|_| number > 0) {
        paper.prose(Line::new(), Paint::Plain, &format!("now come {} a second", number::rate(rate)));
    }
    let about = format!("plan {}, network namespace {}, {}", plan.id, plan.namespace, plan.made_at);
    paper.prose(Line::new(), Paint::Faint, &about);
    if number > 0 {
        paper.gap();
    }
}

/// All of it at a glance, where there is room for that: a row for each setting, those that are left out struck.
fn table(paper: &mut Paper<'_>, plan: &Plan) {
    const ROOM: usize = 72;
    if plan.changes.is_empty() || paper.width() < ROOM {
        return;
    }
    let short = |name: &str| name.strip_prefix("net.ipv4.").unwrap_or(name).to_owned();
    let dash = |value: Option<&str>| value.filter(|value| !value.is_empty()).unwrap_or("-").to_owned();
    let mut rows: Vec<[Line; 5]> =
        vec![["setting", "now", "wanted", "connects/s", "scope"].map(|word| Line::of(Paint::Faint, word))];
    for change in &plan.changes {
        let capacity = change.capacity.map_or_else(
            || "as now".to_owned(),
            |capacity| {
                let rate = |value: f64| number::count(value as u64);
                format!(
                    "{} {} {}",
                    rate(capacity.before_per_second),
                    paper.arrow(),
                    rate(capacity.after_per_second)
                )
            },
        );
        rows.push([
            Line::of(Paint::Strong, short(&change.setting)),
            Line::plain(dash(Some(&change.now))),
            Line::of(Paint::Good, dash(Some(&change.wanted))),
            Line::plain(capacity),
            Line::plain(&change.scope),
        ]);
    }
    for left in plan.left_out.iter().filter(|left| left.wanted.is_some() && left.reason != Reason::AlreadySo)
    {
        rows.push([
            Line::of(Paint::Struck, short(&left.setting)),
            Line::plain(dash(left.now.as_deref())),
            Line::of(Paint::Struck, dash(left.wanted.as_deref())),
            Line::of(Paint::Faint, left.reason.words()),
            Line::new(),
        ]);
    }
    let widths: Vec<usize> = (0..5)
        .map(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0).min(LONGEST_CELL))
        .collect();
    for row in rows {
        let cells = row.into_iter().zip(&widths);
        let line = cells.fold(Line::plain(" "), |line, (cell, width)| {
            line.with(Paint::Plain, " ").join(cell.clip(*width, paper.ellipsis()).pad(width + 1))
        });
        paper.line(line);
    }
    paper.gap();
}

/// Connections a second that ports carry. More than 100,000 no processor opens to one destination.
fn carried(rate: f64) -> String {
    if rate > 100_000.0 { "> 100,000".to_owned() } else { number::count(rate as u64) }
}

fn one(paper: &mut Paper<'_>, number: usize, change: &Change) {
    let lead = Line::plain(format!("{number:>2}. ")).with(Paint::Strong, &change.setting);
    let value = |value: &str| if value.is_empty() { "(empty)".to_owned() } else { value.to_owned() };
    let values = [
        Line::plain(value(&change.now)),
        Line::of(Paint::Faint, paper.arrow()),
        Line::of(Paint::Good, value(&change.wanted)),
    ];
    let values =
        values.into_iter().fold(Line::plain(" "), |line, part| line.with(Paint::Plain, " ").join(part));
    if lead.width() + values.width() <= paper.width() {
        paper.line(lead.join(values));
    } else {
        paper.line(lead);
        paper.flow(5, [values]);
    }
    let scope = match change.scope.as_str() {
        "host" => "the whole machine",
        _ => "this network namespace",
    };
    for (word, text) in [
        ("effect  ", change.effect.as_str()),
        ("risk    ", change.risk.as_str()),
        ("undo    ", change.reversible.as_str()),
        ("scope   ", scope),
        ("why     ", change.why.as_str()),
    ] {
        if !text.is_empty() {
            paper.prose(Line::plain("    ").with(Paint::Faint, word), Paint::Plain, text);
        }
    }
}

fn left_out(paper: &mut Paper<'_>, left: &LeftOut, again: bool) {
    let what = match &left.wanted {
        Some(wanted) => format!("{} = {wanted}", left.setting),
        None => left.setting.clone(),
    };
    let paint = match left.reason {
        Reason::AlreadySo | Reason::Unwanted => Paint::Faint,
        Reason::NoEffect | Reason::NotHere | Reason::Refused | Reason::Harmful => Paint::Struck,
    };
    // Where nothing can be struck out, the mark says it.
    let mark = if paint == Paint::Struck { "x " } else { "= " };
    let reason = Line::of(Paint::Strong, left.reason.words());
    paper.flow(2, [Line::of(Paint::Faint, mark).with(paint, what), reason]);
    if left.reason != Reason::AlreadySo && left.reason != Reason::Unwanted {
        paper.prose(Line::plain("    "), Paint::Plain, if again { "as above" } else { &left.why });
    }
}
