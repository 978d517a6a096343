//! What was traced: whose connections, where to, how many a second, who closed them first, and what was refused.

use tidewait_model::report::{ClosedFirst, ClosedHere, Connections, Namespace, Traced};
use tidewait_model::trace::{Direction, Program};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// From this width on, one line a row is tried.
const ROWS_FROM: usize = 100;
/// Columns between two facts of a row.
const GAP: usize = 2;
/// Columns before a row.
const INDENT: usize = 4;
/// Columns that a name keeps in the table, or there is none.
const SHORTEST_NAME: usize = 12;

/// The traced part of a namespace, where there is one.
pub fn write(paper: &mut Paper<'_>, namespace: &Namespace) {
    let Some(traced) = &namespace.traced else { return };
    let lead =
        Line::plain("  ").with(Paint::Strong, format!("traced for {}  ", number::duration(traced.seconds)));
    if traced.connections.is_empty() {
        paper.prose(lead, Paint::Faint, "no connection was opened or closed meanwhile");
        return;
    }
    paper.prose(lead, Paint::Faint, "who opened connections, and who closed them first");
    let top = paper.page().top;
    let rows: Vec<Row> =
        traced.connections.iter().take(top).map(|row| Row::new(row, traced.seconds)).collect();
    if !table(paper, &rows) {
        stacked(paper, &rows);
    }
    let hidden = traced.connections_total.max(traced.connections.len() as u64) - rows.len() as u64;
    if hidden > 0 {
        let text =
            format!("and {} of a program and a destination", number::of(hidden, "more pair", "more pairs"));
        paper.prose(Line::plain(" ".repeat(INDENT)), Paint::Faint, &text);
    }
    let keepers = keepers(&namespace.closed_here);
    if !keepers.is_empty() {
        let lead = Line::plain("  ").with(Paint::Strong, "who closes first keeps the TIME_WAIT  ");
        paper.prose(lead, Paint::Plain, &keepers);
    }
    owners(paper, traced);
}

/// Which side closed first, and what that costs here; empty if neither did.
fn keepers(closed: &ClosedHere) -> String {
    let side = |side: &Option<ClosedFirst>, way: &str, cost: &str, peer: &str| {
        let side = side.as_ref().filter(|side| side.here.saturating_add(side.there) > 0)?;
        let cost = if side.here > 0 { cost } else { "" };
        Some(format!("{way}: {} here{cost}, {} {peer}", number::count(side.here), number::count(side.there)))
    };
    let sides = [
        side(&closed.outgoing, "outgoing", ", each with a local port", "at the peer"),
        side(&closed.incoming, "incoming", ", without a port", "at the client"),
    ];
    sides.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Of how many sockets in TIME_WAIT it is known whose they are.
fn owners(paper: &mut Paper<'_>, traced: &Traced) {
    if traced.time_wait_born > 0 {
        let text = format!(
            "of {} in TIME_WAIT since then the owner of {} is known",
            number::of(traced.time_wait_born, "socket", "sockets"),
            number::count(traced.time_wait_attributed)
        );
        paper.prose(Line::plain("  "), Paint::Faint, &text);
    }
}

/// One row in words.
struct Row {
    name: String,
    place: String,
    opened: String,
    closed: String,
    lived: String,
    /// What failed, worst first.
    failed: Vec<Line>,
}

impl Row {
    fn new(row: &Connections, seconds: f64) -> Row {
        let opened = row.connects.saturating_sub(row.no_port).saturating_add(row.accepts);
        let rate = number::rate(opened as f64 / seconds);
        let some = |number: u64, paint: Paint, what: &str| {
            (number > 0).then(|| Line::of(paint, format!("{what} {}", number::count(number))))
        };
        Row {
            name: row.program.as_ref().map_or_else(|| "nobody known".to_owned(), name),
            place: place(row),
            opened: if opened > 0 { format!("{rate}/s") } else { String::new() },
            closed: closed(row),
            lived: row.mean_lifetime_seconds.map(number::duration).unwrap_or_default(),
            failed: [
                some(row.no_port, Paint::Critical, "no port"),
                some(row.unanswered, Paint::Warning, "unanswered"),
                some(row.refused, Paint::Warning, "refused"),
                some(row.failed, Paint::Plain, "given up"),
                some(row.aborted_here.saturating_add(row.aborted_there), Paint::Plain, "cut off"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }

    fn failures(&self) -> Line {
        let mut line = Line::new();
        for (index, failure) in self.failed.iter().enumerate() {
            line = line.with(Paint::Faint, if index > 0 { ", " } else { "" }).join(failure.clone());
        }
        line
    }
}

/// `squid (squid.service, pid 812)`, `curl (cron.service, 40 processes)`.
fn name(program: &Program) -> String {
    let mut parts = Vec::new();
    parts.extend(program.container.as_ref().map(|container| format!("container {container}")));
    parts.extend(program.unit.clone());
    parts.push(match (program.pid, program.processes) {
        (Some(pid), _) => format!("pid {pid}"),
        (None, Some(processes)) => number::of(processes.into(), "process", "processes"),
        (None, None) => "many processes".to_owned(),
    });
    let command = if program.command.is_empty() { "unnamed process" } else { &program.command };
    format!("{command} ({})", parts.join(", "))
}

/// Where the connections went, or came in.
fn place(row: &Connections) -> String {
    match (row.direction, &row.destination, &row.local, &row.source) {
        (Direction::Outgoing, Some(to), ..) => format!("-> {to}"),
        (Direction::Outgoing, None, ..) => "-> other destinations".to_owned(),
        (Direction::Incoming, _, Some(local), _) => format!("at {local}"),
        (Direction::Incoming, _, None, _) => "at other services".to_owned(),
        (Direction::Bind, _, Some(local), _) => format!("bind() to {local}"),
        (Direction::Bind, _, None, Some(source)) => format!("bind() to a port of {source}"),
        (Direction::Bind, _, None, None) => "bind() to a port".to_owned(),
    }
}

/// Which side closed first.
fn closed(row: &Connections) -> String {
    let both = row.closed_here.saturating_add(row.closed_there);
    let share = |part: u64| number::percent(part as f64 / both as f64);
    match (row.closed_here, row.closed_there) {
        (0, 0) => String::new(),
        (_, 0) => "here 100 %".to_owned(),
        (0, _) => "peer 100 %".to_owned(),
        (here, there) => format!("here {}, peer {}", share(here), share(there)),
    }
}

/// Two or three lines a row.
fn stacked(paper: &mut Paper<'_>, rows: &[Row]) {
    for row in rows {
        let place = Line::of(Paint::Strong, &row.place);
        paper.flow_with(INDENT, " ", [Line::plain(&row.name), place]);
        let mut facts = vec![Line::plain(&row.opened)];
        if !row.closed.is_empty() {
            facts.push(Line::of(Paint::Faint, "closed first ").with(Paint::Plain, &row.closed));
        }
        if !row.lived.is_empty() {
            facts.push(Line::of(Paint::Faint, "lived ").with(Paint::Plain, &row.lived));
        }
        facts.extend(row.failed.iter().cloned());
        paper.flow(INDENT + 2, facts);
    }
}

/// One line a row under a heading; false if that does not fit.
fn table(paper: &mut Paper<'_>, rows: &[Row]) -> bool {
    let width = paper.width();
    let heads = ["opened", "closed first", "lived"];
    let cells = |row: &Row| [row.opened.clone(), row.closed.clone(), row.lived.clone()];
    let mut widths = heads.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(cells(row)) {
            *width = (*width).max(Line::plain(&cell).width());
        }
    }
    let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let places = widest(&|row| Line::plain(&row.place).width());
    let fixed = widths.iter().sum::<usize>() + widest(&|row| row.failures().width());
    let taken = INDENT + places + fixed + 5 * GAP;
    // Of a name the end may go: the command comes first.
    let names = widest(&|row| Line::plain(&row.name).width()).min(width.saturating_sub(taken));
    if width < ROWS_FROM || names < SHORTEST_NAME {
        return false;
    }
    let (ellipsis, gap) = (paper.ellipsis(), " ".repeat(GAP));
    let lay = |lead: Line, cells: [Line; 3], failures: Line| {
        let [opened, closed, lived] = cells;
        let line = lead.with(Paint::Plain, &gap).join(opened.pad_left(widths[0]));
        let line = line.with(Paint::Plain, &gap).join(closed.pad(widths[1]));
        let line = line.with(Paint::Plain, &gap).join(lived.pad_left(widths[2]));
        line.with(Paint::Plain, &gap).join(failures)
    };
    let heads = heads.map(|head| Line::of(Paint::Faint, head));
    paper.line(lay(Line::new().pad(INDENT + names + GAP + places), heads, Line::new()));
    for row in rows {
        let name = Line::plain(&row.name).clip(names, ellipsis).pad(names).with(Paint::Plain, &gap);
        let lead = Line::new().pad(INDENT).join(name).join(Line::of(Paint::Strong, &row.place).pad(places));
        paper.line(lay(lead, cells(row).map(Line::plain), row.failures()));
    }
    true
}
