//! Outgoing connections by destination: how full, how fast, how long it can go on, and who does it.
//!
//! One line each where the page is wide enough, two or three where it is not; the widths are taken from the
//! rows at hand, so what fits is decided by the content and not by a table of terminal sizes.

use tidewait_model::report::{Destination, Namespace, Pool};
use tidewait_model::{PortSet, Settings, State, StateCounts};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{bar, number, owner};

/// Below this fill, and without a forecast, a destination gets one short line.
const SMALL: f64 = 0.05;
/// Ports that run out within this many seconds make a bar red, however much of it is free.
const SOON: f64 = 300.0;
/// From this width on, one line a destination is tried.
const ROWS_FROM: usize = 100;
const WIDEST_BAR: usize = 41;
const WIDEST_SPARK: usize = 30;

/// The destinations of a namespace.
pub fn write(paper: &mut Paper<'_>, namespace: &Namespace) {
    let (destinations, total) = (&namespace.destinations, namespace.destinations_total);
    let given = given(namespace);
    let shown = &destinations[..destinations.len().min(paper.page().top)];
    if !shown.is_empty() {
        let mut rows: Vec<Row<'_>> =
            shown.iter().map(|destination| Row::new(paper, destination, given)).collect();
        give_each_reason_once(&mut rows);
        match Columns::fit(&rows, paper.width(), paper.dot()) {
            Some(columns) => columns.write(paper, &rows),
            None => stacked(paper, &rows),
        }
    }
    let hidden = total.max(destinations.len() as u64) - shown.len() as u64;
    if hidden > 0 {
        let most = destinations[shown.len()..].iter().map(|destination| destination.ports_used).max();
        let most = most.or(shown.last().map(|destination| destination.ports_used));
        let each =
            most.map(|ports| format!(", none with more than {}", number::of(ports.into(), "port", "ports")));
        let text =
            format!("and {}{}", number::of(hidden, "destination", "destinations"), each.unwrap_or_default());
        let text = if shown.is_empty() { text } else { text.replacen("destination", "more destination", 1) };
        paper.prose(Line::plain("  "), Paint::Faint, &text);
    }
}

/// How many ports `tidewait steer` has to give, for each destination: all of its processes together.
fn given(namespace: &Namespace) -> u32 {
    let mut ports = PortSet::default();
    for steered in &namespace.steered {
        ports.extend(steered.low..=steered.high);
    }
    ports.subtract(&Settings(namespace.settings.clone()).reserved());
    ports.len()
}

/// How the pool is known takes a line or two, and is the same for most destinations of a program.
fn give_each_reason_once(rows: &mut [Row<'_>]) {
    for index in 1..rows.len() {
        let (above, rest) = rows.split_at_mut(index);
        let Some(row) = rest.first_mut().filter(|row| !row.fact.pool_how.is_empty()) else { continue };
        if above.iter().any(|other| !other.small && other.pool == row.pool) {
            let name = match row.fact.pool {
                Pool::Connect => "connect pool",
                Pool::Bind => "bind pool",
                Pool::Unknown => "pool not known",
            };
            row.pool = format!("{name}, as above");
        }
    }
}

/// `10.0.0.5 -> 10.0.2.9:3306`, with words for the row of a source's bind pool.
pub fn route(destination: &Destination) -> String {
    format!("{} -> {}", destination.source, to(destination))
}

/// The fill, if it is known and a number.
pub fn fill(destination: &Destination) -> Option<f64> {
    destination.fill.filter(|fill| fill.is_finite())
}

/// States in short, most sockets first: `TW 20,000 ESTAB 500`.
pub fn states(states: &StateCounts) -> String {
    let mut counts: Vec<(State, u64)> = states.iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(state, count)| (std::cmp::Reverse(*count), *state));
    let words = counts.into_iter().map(|(state, count)| format!("{} {}", short(state), number::count(count)));
    words.collect::<Vec<_>>().join(" ")
}

/// A state as `ss` users write it, where that is shorter.
fn short(state: State) -> &'static str {
    match state {
        State::Established => "ESTAB",
        State::TimeWait => "TW",
        other => other.title(),
    }
}

/// The destination, with words for the row of a source's bind pool.
fn to(destination: &Destination) -> &str {
    if destination.destination == "*" { "any destination" } else { &destination.destination }
}

/// A destination in words, ready to be laid out.
struct Row<'a> {
    fact: &'a Destination,
    fill: Option<f64>,
    small: bool,
    /// How the bar and the share are painted: by the fill, or by what is coming.
    paint: Paint,
    percent: Line,
    used: String,
    used_short: String,
    rate: String,
    forecast: Line,
    forecast_short: Line,
    states: String,
    pool: String,
    pool_short: &'static str,
    owners: String,
    rest: String,
}

impl<'a> Row<'a> {
    /// `given`: the ports that are steered.
    fn new(paper: &Paper<'_>, fact: &'a Destination, given: u32) -> Row<'a> {
        let fill = fill(fact);
        let (half, full) = (ahead(fact.seconds_to_half), ahead(fact.seconds_to_exhaustion));
        let used = number::count(fact.ports_used.into());
        let usable = fact.ports_usable.map(|usable| number::count(usable.into()));
        let limit = fact.limit_per_second.map(number::rate);
        let rate = number::rate(fact.rate_now_per_second);
        let (pool, pool_short) = match fact.pool {
            Pool::Connect => ("connect pool", "connect"),
            Pool::Bind => ("bind pool, one for all destinations", "bind"),
            Pool::Unknown => ("pool not known", "pool ?"),
        };
        let hint = if fact.pool_how.is_empty() { String::new() } else { format!(" ({})", fact.pool_how) };
        let mut rest = Vec::new();
        if fact.ports_steered > 0 {
            // One that has been reserved since is not given any more, and may be in use.
            let given = number::count(given.max(fact.ports_steered).into());
            rest.push(format!("{} of {given} steered", number::count(fact.ports_steered.into())));
        }
        if fact.reusable > 0 {
            rest.push(format!("{} may be taken over (tcp_tw_reuse)", number::count(fact.reusable.into())));
        }
        let outside = fact.ports_outside_range.saturating_sub(fact.ports_steered);
        if outside > 0 {
            rest.push(format!("{} on ports outside the range", number::count(outside.into())));
        }
        let paint = match full {
            Some(seconds) if seconds < SOON => Paint::Critical,
            _ => fill.map_or(Paint::Plain, bar::paint),
        };
        Row {
            fact,
            fill,
            paint,
            small: fill.is_some_and(|fill| fill < SMALL) && half.is_none() && full.is_none(),
            percent: match fill {
                Some(fill) => Line::of(paint, number::percent(fill)),
                None => Line::plain("?"),
            },
            used: match &usable {
                Some(usable) => format!("{used} of {usable}"),
                None => format!("{used} ports used"),
            },
            used_short: format!("{used}/{}", usable.as_deref().unwrap_or("?")),
            rate: match &limit {
                Some(limit) => format!("{rate}/s of {limit}"),
                None => format!("{rate}/s"),
            },
            forecast: forecast(half, full, fill),
            forecast_short: forecast_short(half, full, fill),
            states: states(&fact.states),
            pool: format!("{pool}{hint}"),
            pool_short,
            owners: owner::list_of(&fact.owners, &fact.states, fact.traced.as_ref()),
            rest: rest.join(paper.dot()),
        }
    }

    fn route(&self) -> Line {
        Line::plain(&self.fact.source).with(Paint::Faint, " -> ").with(Paint::Strong, to(self.fact))
    }

    fn spark(&self, width: usize, ascii: bool) -> String {
        bar::spark(&self.fact.closed_per_second, width, ascii)
    }

    fn bar(&self, width: usize, ascii: bool) -> Line {
        self.fill.map(|fill| bar::fill(fill, self.paint, width, ascii)).unwrap_or_default()
    }

    /// States, pool and owners, short enough for the end of a line.
    fn details_short(&self, dot: &str) -> Line {
        let owners = owner::first(&self.fact.owners);
        Line::of(Paint::Faint, joined(dot, [&self.states, self.pool_short, &owners, &self.rest]))
    }

    /// The same in full, under a lead: faint, unless there is trouble and so the owner matters.
    fn write_details(&self, paper: &mut Paper<'_>, indent: usize) {
        let details = joined(paper.dot(), [&self.states, &self.owners, &self.pool, &self.rest]);
        let paint = if self.paint == Paint::Good { Paint::Faint } else { Paint::Plain };
        paper.prose(Line::plain(" ".repeat(indent)), paint, &details);
    }
}

fn joined(dot: &str, parts: [&str; 4]) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(dot)
}

/// A forecast that can be said.
fn ahead(seconds: Option<f64>) -> Option<f64> {
    seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

fn forecast(half: Option<f64>, full: Option<f64>, fill: Option<f64>) -> Line {
    let past = reached(fill);
    match (half, full) {
        _ if fill.is_none() => Line::of(Paint::Faint, "no forecast"),
        (_, Some(0.0)) => Line::of(Paint::Critical, "full now"),
        (Some(0.0), Some(full)) => {
            Line::of(Paint::Warning, past).with(Paint::Critical, format!(", full in {}", number::ahead(full)))
        }
        (Some(0.0), None) => Line::of(Paint::Warning, past).with(Paint::Faint, ", full not in sight"),
        (Some(half), Some(full)) => Line::of(Paint::Warning, format!("half in {}", number::ahead(half)))
            .with(Paint::Critical, format!(", full in {}", number::ahead(full))),
        (Some(half), None) => Line::of(Paint::Warning, format!("half in {}", number::ahead(half))),
        (None, Some(full)) => Line::of(Paint::Critical, format!("full in {}", number::ahead(full))),
        (None, None) => Line::of(Paint::Faint, "not in sight"),
    }
}

/// What to call a half that is in use.
fn reached(fill: Option<f64>) -> &'static str {
    if fill.is_some_and(|fill| fill > 0.5) { "past half" } else { "half in use" }
}

/// The next thing that happens.
fn forecast_short(half: Option<f64>, full: Option<f64>, fill: Option<f64>) -> Line {
    match (half, full) {
        (Some(0.0), Some(seconds)) if seconds > 0.0 && fill.is_some() => {
            Line::of(Paint::Critical, format!("full in {}", number::ahead(seconds)))
        }
        (Some(0.0), None) if fill.is_some() => Line::of(Paint::Warning, reached(fill)),
        (Some(seconds), Some(full)) if seconds > 0.0 && full > 0.0 => forecast(Some(seconds), None, fill),
        _ => forecast(half, full, fill),
    }
}

/// The widths of one line a destination.
struct Columns {
    to: usize,
    from: usize,
    bar: usize,
    used: usize,
    rate: usize,
    forecast: usize,
    spark: usize,
    long: bool,
    details: Details,
}

#[derive(Clone, Copy, PartialEq)]
enum Details {
    Beside,
    Below,
}

impl Columns {
    const INDENT: usize = 2;
    const PERCENT: usize = 5;

    /// The richest layout that fits into `width`, if any does.
    fn fit(rows: &[Row<'_>], width: usize, dot: &str) -> Option<Columns> {
        if width < ROWS_FROM {
            return None;
        }
        let widest = |of: &dyn Fn(&Row<'_>) -> usize, heading: &str| {
            rows.iter().map(of).max().unwrap_or(0).max(heading.len())
        };
        let beside = widest(&|row| row.details_short(dot).width(), "");
        let variants = [
            (true, Details::Beside),
            (false, Details::Beside),
            (true, Details::Below),
            (false, Details::Below),
        ];
        variants.into_iter().find_map(|(long, details)| {
            let text = |row: &Row<'_>| if long { row.used.len() } else { row.used_short.len() };
            let forecast = |row: &Row<'_>| {
                if long { row.forecast.width() } else { row.forecast_short.width() }
            };
            let mut columns = Columns {
                to: widest(&|row| Line::plain(to(row.fact)).width(), "to"),
                from: widest(&|row| Line::plain(&row.fact.source).width(), "from"),
                bar: 13,
                used: widest(&text, "used"),
                rate: widest(&|row| row.rate.len(), "connects of limit"),
                forecast: widest(&forecast, "forecast"),
                spark: 12,
                long,
                details,
            };
            let end = if details == Details::Beside { 2 + beside } else { 0 };
            let needed = columns.width() + end;
            let spare = width.checked_sub(needed)?;
            // What is left over goes to the bar first: it is what the eye compares.
            let wider = (spare * 2 / 3).min(WIDEST_BAR - columns.bar) / 2 * 2;
            columns.bar += wider;
            columns.spark = (columns.spark + spare - wider).min(WIDEST_SPARK);
            Some(columns)
        })
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        Self::INDENT + widths.iter().sum::<usize>() + 2 * (widths.len() - 1)
    }

    fn write(&self, paper: &mut Paper<'_>, rows: &[Row<'_>]) {
        let (ascii, dot) = (paper.page().ascii, paper.dot());
        let heading = |text: &str| Line::of(Paint::Faint, text);
        self.row(
            paper,
            [
                heading("from"),
                heading("to"),
                heading("ports in use").clip(self.bar, ""),
                heading("fill").pad_left(Self::PERCENT),
                heading("used").pad_left(self.used),
                heading("connects of limit").pad_left(self.rate),
                heading("forecast"),
                heading("last minute").clip(self.spark, ""),
            ],
            Line::new(),
        );
        for row in rows {
            let beside = if self.details == Details::Beside { row.details_short(dot) } else { Line::new() };
            let used = if self.long { &row.used } else { &row.used_short };
            self.row(
                paper,
                [
                    Line::plain(&row.fact.source),
                    Line::of(Paint::Strong, to(row.fact)),
                    row.bar(self.bar, ascii),
                    row.percent.clone().pad_left(Self::PERCENT),
                    Line::plain(used).pad_left(self.used),
                    Line::plain(&row.rate).pad_left(self.rate),
                    if self.long { row.forecast.clone() } else { row.forecast_short.clone() },
                    Line::plain(row.spark(self.spark, ascii)),
                ],
                beside,
            );
            if self.details == Details::Below && !row.small {
                row.write_details(paper, Self::INDENT * 2);
            }
        }
    }

    fn row(&self, paper: &mut Paper<'_>, cells: [Line; 8], beside: Line) {
        let mut line = Line::plain(" ".repeat(Self::INDENT - 2));
        for (cell, width) in cells.into_iter().zip(self.widths()) {
            line = line.with(Paint::Plain, "  ").join(cell.pad(width));
        }
        if !beside.is_empty() {
            line = line.with(Paint::Plain, "  ").join(beside);
        }
        paper.line(line);
    }

    fn widths(&self) -> [usize; 8] {
        [self.from, self.to, self.bar, Self::PERCENT, self.used, self.rate, self.forecast, self.spark]
    }
}

/// Two or three lines a destination, and one for those with next to nothing.
fn stacked(paper: &mut Paper<'_>, rows: &[Row<'_>]) {
    let (width, ascii) = (paper.width(), paper.page().ascii);
    let indent = if width < 40 { 1 } else { 4 };
    let large = || rows.iter().filter(|row| !row.small);
    let used = large().map(|row| row.used.len()).max().unwrap_or(0);
    let forecast = large().map(|row| row.forecast.width()).max().unwrap_or(0);
    let beside = indent + 2 + Columns::PERCENT + 2 + used + 2 + forecast;
    // An odd width puts the mark in the middle. Where nothing fits beside the bar it has a line of its own.
    let room = match width.checked_sub(beside) {
        Some(room) if room >= bar::NARROWEST => room,
        _ => width - indent,
    };
    let bar = (room.min(WIDEST_BAR) - 1) / 2 * 2 + 1;
    let small_route = rows.iter().filter(|row| row.small).map(|row| row.route().width()).max().unwrap_or(0);
    for row in rows {
        if row.small {
            let route = if small_route + 40 <= width { row.route().pad(small_route) } else { row.route() };
            let percent = row.percent.clone().pad_left(Columns::PERCENT);
            paper.flow(2, [route, percent, Line::plain(&row.used), Line::plain(&row.rate)]);
            continue;
        }
        let rate = Line::plain(&row.rate);
        let left = Line::plain("  ").join(row.route());
        let spark = width.saturating_sub(left.width() + rate.width() + 4).min(WIDEST_SPARK);
        if spark >= 8 {
            let right = Line::plain(row.spark(spark, ascii)).with(Paint::Plain, "  ").join(rate);
            let left = left.pad(width - right.width());
            paper.line(left.join(right));
        } else {
            let spark = Line::plain(row.spark(width.min(WIDEST_SPARK) - 2, ascii));
            let to = Line::of(Paint::Faint, "-> ").with(Paint::Strong, to(row.fact));
            let route = [Line::plain(&row.fact.source), to];
            paper.flow(2, route.into_iter().chain([rate, spark]));
        }
        let facts = [
            row.bar(bar, ascii),
            row.percent.clone().pad_left(Columns::PERCENT),
            Line::plain(&row.used).pad_left(if room < width - indent { used } else { 0 }),
            row.forecast.clone(),
        ];
        paper.flow(indent, facts);
        row.write_details(paper, indent);
    }
}
