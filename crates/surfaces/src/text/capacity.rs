//! The capacity answer: the figure first, what was taken for granted, then the same by length of TIME_WAIT.

use tidewait_model::capacity::{Answer, Capacity, Quantity, whole_rate};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// The answers and the table.
pub fn write(paper: &mut Paper<'_>, capacity: &Capacity) {
    match &capacity.answers[..] {
        [only] => {
            paper.prose(Line::new(), Paint::Strong, &single(capacity, only));
            if let Some(fast) = only.half_range_value {
                paper.prose(Line::plain("  "), Paint::Plain, &fast_sentence(only.quantity, fast));
            }
            if let Some(note) = &only.note {
                paper.prose(Line::plain("  "), Paint::Warning, note);
            }
        }
        several => {
            let rate = capacity.known.rate_per_second.map(number::rate).unwrap_or_default();
            paper.prose(Line::new(), Paint::Strong, &format!("{rate} connections a second need one of"));
            for answer in several {
                alternative(paper, answer);
            }
        }
    }
    paper.prose(Line::new(), Paint::Faint, &with(capacity));
    if let Some(preset) = &capacity.preset {
        let text = format!("{}: {} ({})", preset.title, preset.meaning, preset.source);
        paper.prose(Line::new(), Paint::Faint, &text);
    }
    table(paper, capacity);
}

/// The value as it is shown, without its unit.
fn figure(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::RatePerSecond if value < 10.0 => number::rate(value),
        Quantity::RatePerSecond => number::count(whole_rate(value)),
        Quantity::TimeWaitSeconds => number::seconds(value),
        Quantity::Ports | Quantity::Sources | Quantity::Destinations => number::count(value as u64),
    }
}

/// The value with its unit: `470 connections a second`, `TIME_WAIT 14.1 s`, `5 source addresses`.
pub fn amount(quantity: Quantity, value: f64) -> String {
    let figure = figure(quantity, value);
    let one = value == 1.0;
    match quantity {
        Quantity::RatePerSecond => format!("{figure} connections a second"),
        Quantity::Ports => format!("{figure} {}", if one { "port" } else { "ports" }),
        Quantity::TimeWaitSeconds => format!("TIME_WAIT {figure} s"),
        Quantity::Sources => format!("{figure} source {}", if one { "address" } else { "addresses" }),
        Quantity::Destinations => format!("{figure} {}", if one { "destination" } else { "destinations" }),
    }
}

fn single(capacity: &Capacity, answer: &Answer) -> String {
    let amount = amount(answer.quantity, answer.value);
    match (answer.quantity, capacity.known.rate_per_second) {
        (Quantity::RatePerSecond, _) => amount,
        (_, _) if !answer.possible && answer.value == 0.0 => "out of reach".to_owned(),
        (Quantity::TimeWaitSeconds, Some(rate)) => {
            format!("{} connections a second need {amount} or less", number::rate(rate))
        }
        (_, Some(rate)) => format!("{} connections a second need {amount}", number::rate(rate)),
        (_, None) => amount,
    }
}

fn fast_sentence(quantity: Quantity, value: f64) -> String {
    let amount = amount(quantity, value);
    match quantity {
        Quantity::RatePerSecond => {
            format!("{amount} while connect() stays fast: with more than half the ports in use it slows down")
        }
        _ => {
            format!("{amount} for connect() to stay fast: it slows down with more than half the ports in use")
        }
    }
}

fn alternative(paper: &mut Paper<'_>, answer: &Answer) {
    let mut text = if answer.value > 0.0 {
        amount(answer.quantity, answer.value)
    } else {
        format!("no length of {}", answer.quantity.words().trim_end_matches(" seconds"))
    };
    if let Some(fast) = answer.half_range_value {
        text.push_str(&format!("; {} for connect() to stay fast", amount(answer.quantity, fast)));
    }
    if let Some(note) = &answer.note {
        text.push_str(&format!(" ({note})"));
    }
    let (paint, lead) = if answer.possible { (Paint::Plain, "  - ") } else { (Paint::Faint, "  x ") };
    paper.prose(Line::plain(lead), paint, &text);
}

/// What the answers rest on.
fn with(capacity: &Capacity) -> String {
    let known = &capacity.known;
    let values = [
        (Quantity::Ports, known.ports.map(f64::from)),
        (Quantity::TimeWaitSeconds, known.time_wait_seconds),
        (Quantity::Sources, known.sources.map(f64::from)),
        (Quantity::Destinations, known.destinations.map(f64::from)),
    ];
    let part = |assumed: bool| {
        let parts: Vec<String> = values
            .iter()
            .filter_map(|(quantity, value)| Some((*quantity, (*value)?)))
            .filter(|(quantity, _)| capacity.assumed.contains(quantity) == assumed)
            .map(|(quantity, value)| amount(quantity, value))
            .collect();
        parts.join(", ")
    };
    let (given, assumed) = (part(false), part(true));
    match (given.is_empty(), assumed.is_empty()) {
        (_, true) => format!("with {given}"),
        (true, false) => format!("with {assumed} ({})", capacity.assumed_from),
        (false, false) => format!("with {given}, and {assumed} ({})", capacity.assumed_from),
    }
}

fn table(paper: &mut Paper<'_>, capacity: &Capacity) {
    let table = &capacity.table;
    if table.rows.is_empty() {
        return;
    }
    let wanted = capacity.known.rate_per_second.filter(|_| table.quantity == Quantity::RatePerSecond);
    let halves = table.rows.iter().any(|row| row.half_range_value.is_some());
    let unit = match table.quantity {
        Quantity::RatePerSecond => "connects/s",
        Quantity::Ports => "ports",
        Quantity::TimeWaitSeconds => "seconds",
        Quantity::Sources => "sources",
        Quantity::Destinations => "destinations",
    };
    paper.gap();
    let wide = paper.width() >= 40;
    let (first, second, third) = if wide { (9, unit.len().max(11) + 2, 19) } else { (5, 8, 7) };
    let unit = if wide { unit } else { "all" };
    let heading = |text: &str, width| Line::of(Paint::Faint, text).pad_left(width);
    let mut line = heading(if wide { "TIME_WAIT" } else { "TW" }, first).join(heading(unit, second));
    if halves {
        line = line.join(heading(if wide { "in half the ports" } else { "half" }, third));
    }
    paper.line(line);
    for row in &table.rows {
        let cell = |value: Option<f64>, width| {
            let text = value.map_or("-".to_owned(), |value| figure(table.quantity, value));
            let enough = wanted.zip(value).is_some_and(|(wanted, value)| value >= wanted);
            Line::of(if enough { Paint::Good } else { Paint::Plain }, text).pad_left(width)
        };
        let seconds = Line::plain(format!("{} s", number::seconds(row.time_wait_seconds))).pad_left(first);
        let mut line = seconds.join(cell(Some(row.value), second));
        if halves {
            line = line.join(cell(row.half_range_value, third));
        }
        if wide && let Some(wanted) = wanted {
            let text = match (row.value >= wanted, row.half_range_value.is_some_and(|half| half >= wanted)) {
                (true, true) => "  enough",
                (true, false) if halves => "  enough, but connect() is slow",
                (true, false) => "  enough",
                (false, _) => "",
            };
            line = line.with(Paint::Good, text);
        }
        paper.line(line);
    }
}
