//! Connections as they come and go, one a line; and the table of what was counted.

use tidewait_model::State;
use tidewait_model::report::Connections;
use tidewait_model::trace::line::{Counted, Happening, Line as Told, PortBy, Side};
use tidewait_model::trace::{Direction, Program};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Columns of a process, and of a pair of endpoints; what is longer moves the rest to the right.
const WHO: usize = 16;
const PAIR: usize = 36;

/// The line of an event, whole whatever the page's width: it may be searched for any part. `time`: when, as the reader
/// has it.
pub fn event(paper: &mut Paper<'_>, told: &Told, time: &str) {
    let (word, paint, what) = match told {
        Told::Connect(what) => ("connect", Paint::Plain, what),
        Told::Established(what) => ("estab", Paint::Plain, what),
        Told::Accept(what) => ("accept", Paint::Plain, what),
        Told::PeerClosed(what) => ("peerfin", Paint::Plain, what),
        Told::Close(what) => {
            ("close", if what.cut_off.is_some() { Paint::Warning } else { Paint::Plain }, what)
        }
        Told::TimeWait(what) => ("waiting", Paint::Plain, what),
        Told::Refused(what) => ("refused", Paint::Critical, what),
        Told::Failed(what) => ("failed", Paint::Warning, what),
        Told::Lost(lost) => {
            let count = number::of(lost.count, "event", "events");
            let text = format!("{count} dropped: more than could be printed");
            paper.whole(
                Line::of(Paint::Faint, time)
                    .with(Paint::Plain, "  ")
                    .with(Paint::Critical, "lost     ")
                    .with(Paint::Plain, text),
            );
            return;
        }
        Told::Begin(_) | Told::End(_) => return,
    };
    let arrow = if what.direction == Direction::Incoming { " <- " } else { " -> " };
    let mut pair = Line::plain(port_or_star(&what.local));
    if let Some(remote) = &what.remote {
        pair = pair.with(Paint::Faint, arrow).with(Paint::Plain, remote);
    }
    let mut line = Line::of(Paint::Faint, time)
        .with(Paint::Plain, "  ")
        .join(Line::of(paint, word).pad(7))
        .with(Paint::Plain, "  ")
        .join(who(what.program.as_ref()).pad(WHO))
        .with(Paint::Plain, "  ")
        .join(pair.pad(PAIR));
    for detail in details(told, what) {
        line = line.with(Paint::Plain, "  ").join(detail);
    }
    if let Some(home) = what.program.as_ref().and_then(home) {
        line = line.with(Paint::Plain, "  ").with(Paint::Faint, home);
    }
    paper.whole(line);
}

/// `10.0.0.5:*` where no port is chosen yet.
fn port_or_star(local: &str) -> String {
    local.strip_suffix(":0").map_or_else(|| local.to_owned(), |address| format!("{address}:*"))
}

/// `squid[812]`, or `squid (4)` of four processes.
fn who(program: Option<&Program>) -> Line {
    let Some(program) = program else { return Line::of(Paint::Faint, "not known") };
    let command = if program.command.is_empty() { "unnamed" } else { &program.command };
    Line::plain(match (program.pid, program.processes) {
        (Some(pid), _) => format!("{command}[{pid}]"),
        (None, Some(processes)) => format!("{command} ({processes})"),
        (None, None) => command.to_owned(),
    })
}

/// The container or the unit.
fn home(program: &Program) -> Option<&str> {
    program.container.as_deref().or(program.unit.as_deref())
}

/// What matters of this event.
fn details(told: &Told, what: &Happening) -> Vec<Line> {
    let lifetime = |before: &str| {
        Line::plain(
            what.lifetime_seconds
                .map_or_else(String::new, |seconds| format!("{before}{}", number::duration(seconds))),
        )
    };
    let by = |side| if side == Side::Here { "here" } else { "there" };
    let mut details = match told {
        Told::Connect(_) => vec![Line::of(
            Paint::Faint,
            match what.pool {
                Some(PortBy::Bind) => "port by bind()",
                Some(PortBy::Program) => "port by the program",
                _ => "",
            },
        )],
        Told::Established(_) => vec![lifetime("after ")],
        Told::PeerClosed(_) | Told::TimeWait(_) => vec![lifetime("open ")],
        Told::Close(_) => {
            let mut details = vec![match (what.closed_first, what.cut_off) {
                (Some(side), _) => Line::plain(format!("first {}", by(side))),
                (None, Some(side)) => Line::of(Paint::Warning, format!("cut off {}", by(side))),
                (None, None) => Line::new(),
            }];
            details.extend(what.errno.as_deref().map(Line::plain));
            details.push(lifetime(""));
            if let (Some(sent), Some(received)) = (what.bytes_sent, what.bytes_received) {
                details.push(Line::plain(format!("{} out, {} in", bytes(sent), bytes(received))));
            }
            details
        }
        Told::Refused(_) | Told::Failed(_) => {
            let name = what.errno.as_deref().unwrap_or_default();
            vec![
                Line::plain(name),
                Line::plain(meaning(name, what)),
                match told {
                    Told::Failed(_) => lifetime("after "),
                    _ => Line::new(),
                },
            ]
        }
        _ => Vec::new(),
    };
    details.retain(|detail| !detail.is_empty());
    details
}

/// What an error means for the connection.
fn meaning(errno: &str, what: &Happening) -> &'static str {
    match (errno, what.direction) {
        ("EADDRINUSE", Direction::Bind) => "bind() found no port that is free",
        ("EADDRNOTAVAIL", _) => match what.pool {
            Some(PortBy::Bind | PortBy::Program) => "a connection with these ends is there already",
            _ => "no local port is left for this destination",
        },
        ("ECONNREFUSED", _) => "nothing listens there",
        ("ETIMEDOUT", _) => "no answer",
        ("ECONNRESET", _) => "reset by the peer",
        ("EHOSTUNREACH", _) => "no way to the host",
        ("ENETUNREACH", _) => "no way to the network",
        ("", _) if what.state == Some(State::Close) => "given up by the program",
        _ => "",
    }
}

/// Bytes in at most four characters and a unit: `812 B`, `1.5 kB`, `20 MB`.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    if count < 1_000 {
        return format!("{count} B");
    }
    for unit in ["kB", "MB", "GB", "TB"] {
        value /= 1_000.0;
        if value < 9.95 {
            return format!("{value:.1} {unit}");
        }
        if value < 999.5 {
            return format!("{value:.0} {unit}");
        }
    }
    format!("{value:.0} TB")
}

/// A column of numbers: its heading, and how a row is shown in it, empty for nothing.
type Column = (&'static str, fn(&Connections) -> String);

const COLUMNS: [Column; 12] = [
    ("connects", |row| some(row.connects)),
    ("/s", |row| if row.connects > 0 { number::rate(row.connects_per_second) } else { String::new() }),
    ("accepts", |row| some(row.accepts)),
    ("first here", |row| some(row.closed_here)),
    ("there", |row| some(row.closed_there)),
    ("cut off", |row| some(row.aborted_here + row.aborted_there)),
    ("lived", |row| row.mean_lifetime_seconds.map(number::duration).unwrap_or_default()),
    ("out", |row| if row.bytes_sent > 0 { bytes(row.bytes_sent) } else { String::new() }),
    ("in", |row| if row.bytes_received > 0 { bytes(row.bytes_received) } else { String::new() }),
    ("no port", |row| some(row.no_port)),
    ("refused", |row| some(row.refused)),
    ("failed", |row| some(row.unanswered + row.failed)),
];

fn some(count: u64) -> String {
    if count > 0 { number::count(count) } else { String::new() }
}

/// The counts, a row for each program and destination or service. Columns without a number are left out; where a row does
/// not fit, its numbers go on a line of their own.
pub fn summary(paper: &mut Paper<'_>, rows: &[Counted]) {
    if rows.is_empty() {
        paper.line(Line::plain("No connection that was asked for began or ended."));
        return;
    }
    let shown = &rows[..rows.len().min(paper.page().top)];
    let one_namespace = rows.iter().all(|row| row.namespace == rows[0].namespace);
    let mut columns = Vec::new();
    for (heading, show) in COLUMNS {
        let cells: Vec<String> = shown.iter().map(|row| show(&row.connections)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading.len());
            columns.push((heading, width, cells));
        }
    }
    let names: Vec<(Line, Line)> = shown
        .iter()
        .map(|row| {
            let namespace = (!one_namespace).then_some(row.namespace.as_str());
            (owner(&row.connections), place(&row.connections, namespace))
        })
        .collect();
    let widest =
        |of: fn(&(Line, Line)) -> &Line| names.iter().map(|name| of(name).width()).max().unwrap_or(0);
    let (owners, places) = (widest(|name| &name.0), widest(|name| &name.1));
    let numbers: usize = columns.iter().map(|(_, width, _)| width + 2).sum();
    let on_one_line = owners + 2 + places + numbers <= paper.width();
    let lead = if on_one_line { owners + 2 + places } else { 4 };
    let mut heading = Line::of(Paint::Faint, if on_one_line { "program" } else { "" }).pad(lead);
    for (text, width, _) in &columns {
        heading = heading.with(Paint::Plain, "  ").join(Line::of(Paint::Faint, text).pad_left(*width));
    }
    paper.line(heading);
    for (index, (owner, place)) in names.into_iter().enumerate() {
        let mut line = owner.pad(if on_one_line { owners } else { 0 }).with(Paint::Plain, "  ").join(place);
        if !on_one_line {
            paper.whole(std::mem::replace(&mut line, Line::new()));
        }
        line = line.pad(lead);
        for (heading, width, cells) in &columns {
            let paint = if *heading == "no port" { Paint::Critical } else { Paint::Plain };
            line = line.with(Paint::Plain, "  ").join(Line::of(paint, &cells[index]).pad_left(*width));
        }
        paper.whole(line);
    }
    let hidden = (rows.len() - shown.len()) as u64;
    if hidden > 0 {
        let text = format!("and {}; --top 0 shows all", number::of(hidden, "more row", "more rows"));
        paper.prose(Line::new(), Paint::Faint, &text);
    }
}

/// `squid[812] squid.service`
fn owner(row: &Connections) -> Line {
    let line = who(row.program.as_ref());
    match row.program.as_ref().and_then(home) {
        Some(home) => line.with(Paint::Plain, " ").with(Paint::Faint, home),
        None => line,
    }
}

/// `10.0.0.5 -> 10.0.2.9:3306`, `0.0.0.0:80 <-`, with the namespace where there are several.
fn place(row: &Connections, namespace: Option<&str>) -> Line {
    let any = |text: &Option<String>| text.clone().unwrap_or_else(|| "*".to_owned());
    let line = match row.direction {
        Direction::Outgoing => {
            Line::plain(any(&row.source)).with(Paint::Faint, " -> ").with(Paint::Plain, any(&row.destination))
        }
        Direction::Incoming => Line::plain(any(&row.local)).with(Paint::Faint, " <-"),
        Direction::Bind => Line::plain(format!("bind() {}", any(&row.source))),
    };
    match namespace {
        Some(namespace) => line.with(Paint::Faint, format!(" in {namespace}")),
        None => line,
    }
}
