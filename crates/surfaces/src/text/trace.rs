//! Connections as they come and go, one a line; and the table of what was counted.

use tidewait_model::State;
use tidewait_model::report::Connections;
use tidewait_model::trace::line::{Counted, Happening, Line as Told, PortBy, Side};
use tidewait_model::trace::{Direction, Program};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// What the lines of events have room for.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Columns for the name of an event.
    pub word: usize,
    /// Whether events of several network namespaces are told; that of the host goes without saying.
    pub namespace: bool,
}

/// Columns of a process, and of a pair of endpoints; what is longer moves the rest to the right.
const WHO: usize = 14;
const PAIR: usize = 32;

/// The name of the initial network namespace.
const HOST: &str = "host";

/// The line of an event, whole whatever the page's width: it may be searched for any part. `time`: when, as the reader
/// has it.
pub fn event(paper: &mut Paper<'_>, told: &Told, time: &str, columns: Columns) {
    let (word, paint, what) = match told {
        Told::Connect(what) => ("connect", Paint::Plain, what),
        Told::Established(what) => ("established", Paint::Plain, what),
        Told::Accept(what) => ("accept", Paint::Plain, what),
        Told::PeerClosed(what) => ("peer_closed", Paint::Plain, what),
        Told::Close(what) => {
            ("close", if what.cut_off.is_some() { Paint::Warning } else { Paint::Plain }, what)
        }
        Told::TimeWait(what) => ("time_wait", Paint::Plain, what),
        Told::Refused(what) => ("refused", Paint::Critical, what),
        Told::Failed(what) => ("failed", Paint::Warning, what),
        Told::Lost(lost) => {
            let count = number::of(lost.count, "event", "events");
            let text = format!("{count} dropped: more than could be printed");
            paper.whole(&head(time, "lost", Paint::Critical, columns.word).with(Paint::Plain, text));
            return;
        }
        Told::Begin(_) | Told::End(_) => return,
    };
    let arrow = if what.direction == Direction::Incoming { " <- " } else { " -> " };
    let mut pair = Line::plain(port_or_star(&what.local));
    if let Some(remote) = &what.remote {
        pair = pair.with(Paint::Faint, arrow).with(Paint::Plain, remote);
    }
    let who = who(what.program.as_ref()).pad(WHO).with(Paint::Plain, " ");
    let mut line = head(time, word, paint, columns.word).join(who).join(pair.pad(PAIR));
    for (index, detail) in details(told, what).into_iter().enumerate() {
        line = line.with(Paint::Plain, if index == 0 { " " } else { ", " }).join(detail);
    }
    if let Some(home) = what.program.as_ref().and_then(home) {
        line = line.with(Paint::Plain, "  ").with(Paint::Faint, home);
    }
    if columns.namespace && what.namespace != HOST {
        line = line.with(Paint::Plain, "  ").with(Paint::Faint, format!("in {}", what.namespace));
    }
    paper.whole(&line);
}

/// When, and what: `14:03:07.123 connect `.
fn head(time: &str, word: &str, paint: Paint, room: usize) -> Line {
    Line::of(Paint::Faint, time)
        .with(Paint::Plain, " ")
        .join(Line::of(paint, word).pad(room))
        .with(Paint::Plain, " ")
}

/// `10.0.0.5:*` where no port is chosen yet.
fn port_or_star(local: &str) -> String {
    local.strip_suffix(":0").map_or_else(|| local.to_owned(), |address| format!("{address}:*"))
}

/// `squid[812]`, or `squid (40 processes)`.
fn who(program: Option<&Program>) -> Line {
    let Some(program) = program else { return Line::of(Paint::Faint, "not known") };
    let command = if program.command.is_empty() { "unnamed" } else { &program.command };
    Line::plain(match (program.pid, program.processes) {
        (Some(pid), _) => format!("{command}[{pid}]"),
        (None, Some(count)) => {
            format!("{command} ({})", number::of(count.into(), "process", "processes"))
        }
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
            what.lifetime_seconds.map_or_else(String::new, |seconds| format!("{before}{}", lived(seconds))),
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
            details.extend(what.errno.as_deref().map(|name| match name {
                // Of a connection that was there, only tcp_abort() leaves this one behind.
                "ECONNABORTED" => Line::plain("ECONNABORTED: destroyed as by ss -K"),
                _ => Line::plain(name),
            }));
            details.push(lifetime(""));
            if let (Some(sent), Some(received)) = (what.bytes_sent, what.bytes_received) {
                details.push(Line::plain(format!("{}/{}", bytes(sent), bytes(received))));
            }
            details
        }
        Told::Refused(_) | Told::Failed(_) => {
            let name = what.errno.as_deref().unwrap_or_default();
            let meaning = meaning(name, what);
            let parted = !name.is_empty() && !meaning.is_empty();
            vec![
                Line::plain(if parted { format!("{name}: {meaning}") } else { format!("{name}{meaning}") }),
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
        ("EADDRINUSE", Direction::Bind) => match what.pool {
            Some(PortBy::Program) => "bind() asked for a port that is taken",
            _ => "bind() found no port that is free",
        },
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

/// A lifetime. Many connections live for less than a millisecond, and by how much may matter.
fn lived(seconds: f64) -> String {
    match seconds * 1_000.0 {
        milliseconds if (0.0..0.01).contains(&milliseconds) => "<0.01 ms".to_owned(),
        milliseconds if (0.0..0.995).contains(&milliseconds) => format!("{milliseconds:.2} ms"),
        _ => number::duration(seconds),
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

/// The column that is trouble whatever its number.
const NO_PORT: &str = "no port";

const COLUMNS: [Column; 12] = [
    ("connects", |row| some(row.connects)),
    ("per s", |row| if row.connects > 0 { number::rate(row.connects_per_second) } else { String::new() }),
    ("accepts", |row| some(row.accepts)),
    ("first here", |row| some(row.closed_here)),
    ("first there", |row| some(row.closed_there)),
    ("cut off", |row| some(row.aborted_here + row.aborted_there)),
    ("lived", |row| row.mean_lifetime_seconds.map(lived).unwrap_or_default()),
    ("out", |row| if row.bytes_sent > 0 { bytes(row.bytes_sent) } else { String::new() }),
    ("in", |row| if row.bytes_received > 0 { bytes(row.bytes_received) } else { String::new() }),
    (NO_PORT, |row| some(row.no_port)),
    ("refused", |row| some(row.refused)),
    ("failed", |row| some(row.unanswered + row.failed)),
];

fn some(count: u64) -> String {
    if count > 0 { number::count(count) } else { String::new() }
}

/// The counts, a row for each program and destination or service. Columns without a number are left out; where the page is
/// too narrow for them, each number stands behind its name.
pub fn summary(paper: &mut Paper<'_>, rows: &[Counted]) {
    let Some(first) = rows.first() else {
        paper.prose(Line::new(), Paint::Plain, "No connection of those asked for began, ended or failed.");
        return;
    };
    let shown = &rows[..rows.len().min(paper.page().top)];
    let one_namespace = rows.iter().all(|row| row.namespace == first.namespace);
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
    let columns = columns(shown);
    let numbers: usize = columns.iter().map(|column| column.width + 2).sum();
    let table = owners + 2 + places + numbers <= paper.width();
    if table {
        let mut line = Line::of(Paint::Faint, "program").pad(owners + 2 + places);
        for column in &columns {
            let heading = Line::of(Paint::Faint, column.heading).pad_left(column.width);
            line = line.with(Paint::Plain, "  ").join(heading);
        }
        paper.line(line);
    }
    for (index, (owner, place)) in names.into_iter().enumerate() {
        let cells = columns.iter().map(|column| (column, Line::of(column.paint(), &column.cells[index])));
        if table {
            let mut line = owner.pad(owners + 2).join(place.pad(places));
            for (column, cell) in cells {
                line = line.with(Paint::Plain, "  ").join(cell.pad_left(column.width));
            }
            paper.line(line);
        } else {
            paper.flow(0, [owner, place]);
            let told = cells.filter(|(_, cell)| !cell.is_empty());
            let facts =
                told.map(|(column, cell)| Line::of(Paint::Faint, format!("{} ", column.heading)).join(cell));
            paper.flow(4, facts);
        }
    }
    let hidden = (rows.len() - shown.len()) as u64;
    if hidden > 0 {
        let text = format!("and {}; --top 0 shows all", number::of(hidden, "more row", "more rows"));
        paper.prose(Line::new(), Paint::Faint, &text);
    }
}

/// A column that has a number in some row.
struct Filled {
    heading: &'static str,
    width: usize,
    cells: Vec<String>,
}

impl Filled {
    fn paint(&self) -> Paint {
        if self.heading == NO_PORT { Paint::Critical } else { Paint::Plain }
    }
}

fn columns(rows: &[Counted]) -> Vec<Filled> {
    let filled = COLUMNS.iter().map(|(heading, show)| {
        let cells: Vec<String> = rows.iter().map(|row| show(&row.connections)).collect();
        let width = cells.iter().map(String::len).max().unwrap_or(0).max(heading.len());
        Filled { heading, width, cells }
    });
    filled.filter(|column| column.cells.iter().any(|cell| !cell.is_empty())).collect()
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
        Direction::Bind => {
            Line::plain(format!("bind() {}", any(if row.local.is_some() { &row.local } else { &row.source })))
        }
    };
    match namespace {
        Some(namespace) => line.with(Paint::Faint, format!(" in {namespace}")),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tidewait_model::trace::line::Lost;
    use unicode_width::UnicodeWidthStr;

    use super::super::{Page, event, trace_summary};
    use super::*;

    fn squid() -> Program {
        Program {
            command: "squid".to_owned(),
            pid: Some(812),
            processes: Some(1),
            unit: Some("squid.service".to_owned()),
            container: None,
            user: Some("proxy".to_owned()),
        }
    }

    fn happening() -> Happening {
        Happening {
            at: "2026-11-22T14:03:07.123456Z".to_owned(),
            namespace: "host".to_owned(),
            direction: Direction::Outgoing,
            program: Some(squid()),
            thread: Some(812),
            local: "10.0.0.5:40312".to_owned(),
            remote: Some("10.0.2.9:3306".to_owned()),
            state: None,
            pool: Some(PortBy::Connect),
            closed_first: None,
            cut_off: None,
            errno: None,
            lifetime_seconds: None,
            bytes_sent: None,
            bytes_received: None,
            cookie: 4_711,
        }
    }

    fn errno(name: &str) -> Happening {
        Happening {
            errno: Some(name.to_owned()),
            state: Some(State::Close),
            lifetime_seconds: Some(0.000_4),
            ..happening()
        }
    }

    /// One of each.
    fn all() -> Vec<Told> {
        let unchosen = Happening { local: "10.0.0.5:0".to_owned(), ..happening() };
        let closed = |first, cut, errno: Option<&str>| Happening {
            closed_first: first,
            cut_off: cut,
            errno: errno.map(str::to_owned),
            lifetime_seconds: Some(1.234),
            bytes_sent: Some(812),
            bytes_received: Some(1_540_000),
            ..happening()
        };
        let incoming = Happening {
            direction: Direction::Incoming,
            pool: None,
            program: Some(Program { container: Some("0123456789ab".to_owned()), ..squid() }),
            ..happening()
        };
        vec![
            Told::Connect(unchosen.clone()),
            Told::Connect(Happening { pool: Some(PortBy::Bind), ..happening() }),
            Told::Connect(Happening { pool: Some(PortBy::Program), program: None, ..happening() }),
            Told::Established(Happening { lifetime_seconds: Some(0.000_31), ..happening() }),
            Told::Accept(incoming),
            Told::PeerClosed(Happening {
                lifetime_seconds: Some(61.0),
                namespace: "blue".to_owned(),
                ..happening()
            }),
            Told::Close(closed(Some(Side::Here), None, None)),
            Told::Close(Happening { lifetime_seconds: None, ..closed(Some(Side::There), None, None) }),
            Told::Close(closed(None, Some(Side::Here), None)),
            Told::Close(closed(None, Some(Side::There), Some("ECONNRESET"))),
            Told::Close(closed(None, Some(Side::There), Some("ECONNABORTED"))),
            Told::TimeWait(Happening { lifetime_seconds: Some(0.000_001), ..happening() }),
            Told::Refused(Happening { local: "10.0.0.5:0".to_owned(), ..errno("EADDRNOTAVAIL") }),
            Told::Refused(Happening { pool: Some(PortBy::Bind), ..errno("EADDRNOTAVAIL") }),
            Told::Refused(Happening {
                direction: Direction::Bind,
                local: "10.0.0.5:0".to_owned(),
                remote: None,
                state: None,
                ..errno("EADDRINUSE")
            }),
            Told::Refused(Happening {
                direction: Direction::Bind,
                local: "10.0.0.5:3128".to_owned(),
                remote: None,
                state: None,
                pool: Some(PortBy::Program),
                ..errno("EADDRINUSE")
            }),
            Told::Failed(errno("ECONNREFUSED")),
            Told::Failed(Happening { lifetime_seconds: Some(127.0), ..errno("ETIMEDOUT") }),
            Told::Failed(Happening { errno: None, ..errno("") }),
            Told::Lost(Lost { at: String::new(), count: 1_234, total: 1_234 }),
        ]
    }

    fn page_of(told: &[Told], page: &Page) -> String {
        told.iter()
            .map(|told| event(told, "14:03:07.123", Columns { word: 11, namespace: true }, page))
            .collect()
    }

    fn rows() -> Vec<Counted> {
        let row = |direction, connections| Counted {
            namespace: "host".to_owned(),
            connections: Connections { program: Some(squid()), direction, ..connections },
        };
        vec![
            row(
                Direction::Outgoing,
                Connections {
                    source: Some("10.0.0.5".to_owned()),
                    destination: Some("10.0.2.9:3306".to_owned()),
                    connects: 12_345,
                    connects_per_second: 1_234.5,
                    closed_here: 12_000,
                    closed_there: 300,
                    aborted_here: 40,
                    aborted_there: 2,
                    mean_lifetime_seconds: Some(0.012),
                    bytes_sent: 1_500,
                    bytes_received: 2_500_000,
                    no_port: 17,
                    unanswered: 3,
                    ..Connections::default()
                },
            ),
            row(
                Direction::Incoming,
                Connections { local: Some("[::]:3128".to_owned()), accepts: 1, ..Connections::default() },
            ),
            Counted {
                namespace: "blue".to_owned(),
                connections: Connections {
                    direction: Direction::Bind,
                    program: Some(Program { pid: None, processes: Some(40), ..squid() }),
                    source: Some("10.0.0.5".to_owned()),
                    no_port: 1_000,
                    ..Connections::default()
                },
            },
            row(
                Direction::Bind,
                Connections {
                    source: Some("10.0.0.5".to_owned()),
                    local: Some("10.0.0.5:3128".to_owned()),
                    no_port: 1,
                    ..Connections::default()
                },
            ),
        ]
    }

    #[test]
    fn every_event_on_a_line_of_its_own() {
        assert_snapshot!("events", page_of(&all(), &Page::default()));
    }

    #[test]
    fn events_in_colour_and_in_ascii() {
        let colour = Page { colour: true, ..Page::default() };
        assert_snapshot!("events_colour", page_of(&all(), &colour).replace('\u{1b}', "^"));
        let hostile = Program { command: "\u{1b}[2Jü".to_owned(), ..squid() };
        let told = Told::Accept(Happening { program: Some(hostile), ..happening() });
        let text = page_of(&[told], &Page { ascii: true, ..Page::default() });
        assert!(text.contains("?[2J?[812]"), "{text}");
    }

    #[test]
    fn the_table_and_what_becomes_of_it_on_a_narrow_page() {
        let table = |width| trace_summary(&rows(), &Page { width, ..Page::default() });
        assert_snapshot!("summary_180", table(180));
        assert_snapshot!("summary_80", table(80));
        for width in 20..200 {
            let widest = table(width).lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
            assert!(widest <= width, "{width}:\n{}", table(width));
        }
        assert!(trace_summary(&rows(), &Page { top: 1, ..Page::default() }).ends_with("--top 0 shows all\n"));
        assert_eq!(
            trace_summary(&[], &Page::default()),
            "No connection of those asked for began, ended or failed.\n"
        );
    }

    #[test]
    fn bytes_and_lifetimes_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_960, "10 kB"),
            (999_600, "1.0 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in
            [(0.0, "<0.01 ms"), (0.000_31, "0.31 ms"), (0.002, "2 ms"), (f64::NAN, "?"), (-1.0, "?")]
        {
            assert_eq!(lived(seconds), text);
        }
    }
}
