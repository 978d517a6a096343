//! One destination from several source addresses: each has the ports of the range for itself.

use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, or_gap};
use crate::client::{Client, ClientReport};
use crate::error::Result;

/// How large a run is.
struct Scale {
    ports: u32,
    /// How many source addresses.
    counts: &'static [u8],
    /// How long a rate is measured at a time, in milliseconds.
    window: u64,
    /// How often: stock, spread, spread, stock.
    rounds: usize,
}

/// What came of one number of addresses.
struct Outcome {
    /// Until it was refused.
    report: ClientReport,
    /// Connections a second while ports are plenty,
    rate: f64,
    /// and by how much more that is than without spread.
    ratio: f64,
}

/// Connections until the first refusal, and their rate, with so many addresses.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let scale = match setup.size {
        Size::Full => Scale { ports: 4_000, counts: &[1, 2, 4, 8], window: 700, rounds: 3 },
        Size::Quick => Scale { ports: 1_000, counts: &[1, 2, 4, 8], window: 200, rounds: 1 },
        Size::Tiny => Scale { ports: 100, counts: &[1, 2], window: 20, rounds: 1 },
    };
    let ports = scale.ports;
    tell("without spread");
    let stock = one(setup, &scale, 1, &Remedy::default())?;
    let mut rows = vec![row(None, ports, Ok(&stock))];
    for &count in scale.counts {
        tell(&format!("{count} source addresses"));
        let sources: Vec<String> = (0..count).map(source).collect();
        let remedy = Remedy::attached(&["spread", "--sources", &sources.join(",")]);
        let outcome = or_gap(one(setup, &scale, count, &remedy))?;
        rows.push(row(Some(count), ports, outcome.as_ref()));
    }
    Ok(vec![Table {
        table: "spread-table".to_owned(),
        title: "Connections to one destination, by source addresses (tidewait spread)".to_owned(),
        columns: vec![
            Column::given("source addresses", Unit::Text),
            Column::reckoned("ports", Unit::Count),
            Column::measured("until refused", Unit::Count),
            Column::measured("addresses seen", Unit::Count),
            Column::measured("rate", Unit::PerSecond),
            Column::measured("rate to stock", Unit::Times),
        ],
        rows,
        notes: vec![format!(
            "A range of {ports} ports, each connection closed here at once, by a client that knows nothing of it. The rate is that of a free \
             range: one thread connects, accepts and resets, {} x {} ms, in turn with one that is not spread, to whose rate it is compared; \
             the first row compares stock with stock.",
            2 * scale.rounds,
            scale.window
        )],
    }])
}

fn source(number: u8) -> String {
    format!("10.77.0.{}", if number == 0 { 1 } else { 100 + number })
}

fn row(sources: Option<u8>, ports: u32, outcome: std::result::Result<&Outcome, &Cell>) -> Vec<Cell> {
    let words = sources.map_or("1, without spread".to_owned(), |count| count.to_string());
    let mut row = vec![Cell::text(words), Cell::count(u64::from(ports) * u64::from(sources.unwrap_or(1)))];
    match outcome {
        Ok(Outcome { report, rate, ratio }) => row.extend([
            if report.refused == 0 { Cell::AtLeast(report.made as f64) } else { Cell::count(report.made) },
            Cell::count(report.sources),
            Cell::Number(*rate),
            Cell::Number(*ratio),
        ]),
        Err(gap) => row.extend(std::iter::repeat_n(gap.clone(), 4)),
    }
    row
}

/// What a client makes until it is refused, and its rate in fresh namespaces while ports are plenty.
fn one(setup: &Setup, scale: &Scale, sources: u8, remedy: &Remedy) -> Result<Outcome> {
    let bench = Bench::new(setup, sources, 1, scale.ports)?;
    let free = Client { reset: true, time: Duration::from_millis(scale.window), ..bench.work() };
    let rate = |remedy: &Remedy| bench.run(&free, remedy).map(|report| report.per_second());
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let before = rate(&Remedy::default())?;
        let with = (rate(remedy)? + rate(remedy)?) / 2.0;
        let stock = (before + rate(&Remedy::default())?) / 2.0;
        rates.push(with);
        ratios.push(with / stock.max(f64::EPSILON));
    }
    let all = u64::from(scale.ports) * u64::from(sources);
    let bench = Bench::new(setup, sources, 1, scale.ports)?;
    let client = Client { until_refused: true, count: all + 1, ..bench.work() };
    let report = bench.run(&client, remedy)?;
    Ok(Outcome { report, rate: median(rates), ratio: median(ratios) })
}

/// Of an odd number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
