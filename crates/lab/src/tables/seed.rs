//! The table of the mail to NANOG: the rate that never runs out of ports, by how long TIME_WAIT lasts.

use std::thread;
use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, STOCK, or_gap};
use crate::client::{Client, ClientReport};
use crate::error::{Context, Result};

/// Seconds of TIME_WAIT in the kernel.
const KERNEL: u32 = 60;

/// What is asked for, in parts of what the arithmetic allows: once a little less, once a little more.
const BELOW: f64 = 0.95;
const ABOVE: f64 = 1.1;

/// How much longer than TIME_WAIT a client has to run, so that the first ports come back while it does.
const LONGER: f64 = 1.1;
const AND: Duration = Duration::from_secs(3);

/// Seconds of TIME_WAIT, and what the mail says of so many with 32,000 ports (connections a second).
const SAID: [(u32, Option<u32>); 5] =
    [(60, Some(500)), (30, Some(1_000)), (15, Some(2_000)), (10, Some(3_000)), (1, None)];

/// A row before it is measured.
#[derive(Clone, Copy)]
struct Row {
    time_wait: u32,
    said: Option<u32>,
    steered: bool,
}

/// Both figures of a row, or why there are none.
type Outcome = std::result::Result<(ClientReport, ClientReport), Cell>;

/// Rates just below and just above the arithmetic, for longer than a TIME_WAIT.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let (ports, said) = match setup.size {
        Size::Full => (STOCK, &SAID[..]),
        Size::Quick => (2_000, &SAID[..]),
        Size::Tiny => (200, &SAID[4..]),
    };
    let row = |&(time_wait, said): &(u32, Option<u32>), steered| Row { time_wait, said, steered };
    let all: Vec<Row> = said.iter().flat_map(|said| [row(said, false), row(said, true)]).collect();
    // The searches of a full-sized range take a processor each; small ones go together, but for the fastest.
    let together: Vec<Vec<Row>> = if setup.size == Size::Full {
        all.iter().map(|row| vec![*row]).collect()
    } else {
        let (slow, fast): (Vec<Row>, Vec<Row>) = all.iter().partition(|row| row.time_wait > 1);
        [slow]
            .into_iter()
            .chain(fast.into_iter().map(|row| vec![row]))
            .filter(|rows| !rows.is_empty())
            .collect()
    };
    let mut rows = Vec::new();
    for group in together {
        let names: Vec<String> = group.iter().map(|row| format!("{} s", row.time_wait)).collect();
        let takes = group.iter().map(|row| time(row.time_wait).as_secs()).max().unwrap_or(0);
        let steered = group.iter().all(|row| row.steered);
        tell(&format!(
            "TIME_WAIT of {}{}: {takes} s",
            deduplicated(names).join(", "),
            if steered { ", steered" } else { "" }
        ));
        for (row, outcome) in group.iter().zip(measure(setup, ports, &group)?) {
            rows.push(cells(*row, ports, outcome));
        }
    }
    Ok(vec![table(ports, rows)])
}

fn deduplicated(mut names: Vec<String>) -> Vec<String> {
    names.dedup();
    names
}

fn time(time_wait: u32) -> Duration {
    Duration::from_secs_f64(f64::from(time_wait) * LONGER) + AND
}

/// Measures rows at the same time, each rate in namespaces of its own.
fn measure(setup: &Setup, ports: u32, rows: &[Row]) -> Result<Vec<Outcome>> {
    thread::scope(|scope| {
        let mut running = Vec::new();
        for row in rows {
            for part in [BELOW, ABOVE] {
                let measure = move || one(setup, ports, *row, part);
                let thread = thread::Builder::new().name("lab-table".into()).spawn_scoped(scope, measure);
                running.push(thread.context("start", "a thread")?);
            }
        }
        let mut outcomes = running
            .into_iter()
            .map(|running| running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let mut both = Vec::new();
        while let (Some(below), Some(above)) = (outcomes.next(), outcomes.next()) {
            both.push(match (or_gap(below)?, or_gap(above)?) {
                (Ok(below), Ok(above)) => Ok((below, above)),
                (Err(gap), _) | (_, Err(gap)) => Err(gap),
            });
        }
        Ok(both)
    })
}

fn one(setup: &Setup, ports: u32, row: Row, part: f64) -> Result<ClientReport> {
    let bench = Bench::new(setup, 1, 1, ports)?;
    let steer =
        if row.steered { Remedy::attached(&["steer", "--range", "kernel"]) } else { Remedy::default() };
    let reap = if row.time_wait < KERNEL {
        Remedy::beside(&["reap", "--older-than", &format!("{}s", row.time_wait)])
    } else {
        Remedy::default()
    };
    let _reaping = bench.apply(&reap)?;
    let rate = f64::from(ports) / f64::from(row.time_wait) * part;
    let client = Client { rate: Some(rate), time: time(row.time_wait), ..bench.work() };
    bench.run(&client, &steer)
}

fn cells(row: Row, ports: u32, outcome: Outcome) -> Vec<Cell> {
    let mut cells = vec![
        Cell::count(row.time_wait.into()),
        Cell::text(if row.time_wait == KERNEL { "kernel" } else { "reap" }),
        Cell::text(if row.steered { "yes" } else { "no" }),
        row.said.map_or(Cell::text("-"), |said| Cell::count(said.into())),
        Cell::Number(f64::from(ports) / f64::from(row.time_wait)),
    ];
    match outcome {
        Ok((below, above)) => cells.extend([
            Cell::Number(below.per_second()),
            Cell::count(below.refused),
            Cell::count(above.refused),
            above.refused_after.map_or(Cell::text("never"), Cell::Number),
        ]),
        Err(gap) => cells.extend(std::iter::repeat_n(gap, 4)),
    }
    cells
}

fn table(ports: u32, rows: Vec<Vec<Cell>>) -> Table {
    Table {
        table: "seed-table".to_owned(),
        title: "Connections a second that never run out of ports, by TIME_WAIT".to_owned(),
        columns: vec![
            Column::given("lasts", Unit::Seconds),
            Column::given("ended by", Unit::Text),
            Column::given("steered", Unit::Text),
            Column::given("mail", Unit::Text),
            Column::reckoned("ports / seconds", Unit::PerSecond),
            Column::measured("made, of 95 %", Unit::PerSecond),
            Column::measured("refused", Unit::Count),
            Column::measured("refused at 110 %", Unit::Count),
            Column::measured("first after", Unit::Seconds),
        ],
        rows,
        notes: vec![
            format!(
                "A range of {ports} ports, one destination, each connection closed here at once. The client asks for 95 % of what the \
                 arithmetic allows, and in namespaces of their own another for 110 %, for longer than a TIME_WAIT."
            ),
            "Where fewer are made than 95 % and none is refused, it is the search for a port that takes the time: from half the range on \
             each connect() of the stock kernel looks at all ports of one parity in vain (fill-table). Steered, it does not."
                .to_owned(),
            "Ended by reap: `tidewait reap --older-than` runs beside the client. Steered: `tidewait steer --range kernel` chooses its ports."
                .to_owned(),
            "Of 1 s, 5 % are 50 ms. A client that was kept waiting for longer makes up for it at once, and may be refused then though the \
             arithmetic has room; so may one at 95 % while reap is kept waiting."
                .to_owned(),
            "The mail (NANOG, December 2012) speaks of 32,000 ports.".to_owned(),
        ],
    }
}
