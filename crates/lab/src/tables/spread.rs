//! One destination from several source addresses: each has the ports of the range for itself.

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, or_gap};
use crate::client::{Client, ClientReport};
use crate::error::Result;

/// Connections until the first refusal, and their rate, with so many addresses.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let (ports, counts): (u32, &[u8]) = match setup.size {
        Size::Full => (4_000, &[1, 2, 4, 8]),
        Size::Quick => (1_000, &[1, 2, 4, 8]),
        Size::Tiny => (100, &[1, 2]),
    };
    tell("without spread");
    let stock = one(setup, ports, 1, &Remedy::default())?;
    let mut rows = vec![row(None, ports, Ok(&stock), stock.1)];
    for &count in counts {
        tell(&format!("{count} source addresses"));
        let sources: Vec<String> = (0..count).map(source).collect();
        let remedy = Remedy::attached(&["spread", "--sources", &sources.join(",")]);
        let outcome = or_gap(one(setup, ports, count, &remedy))?;
        rows.push(row(Some(count), ports, outcome.as_ref(), stock.1));
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
            "A range of {ports} ports, each connection closed here at once, by a client that knows nothing of it. The rate is that of the \
             first two fifths of the ports, before the search takes its time; one thread connects, accepts and closes."
        )],
    }])
}

fn source(number: u8) -> String {
    format!("10.77.0.{}", if number == 0 { 1 } else { 100 + number })
}

fn row(
    sources: Option<u8>,
    ports: u32,
    outcome: std::result::Result<&(ClientReport, f64), &Cell>,
    stock: f64,
) -> Vec<Cell> {
    let words = sources.map_or("1, without spread".to_owned(), |count| count.to_string());
    let mut row = vec![Cell::text(words), Cell::count(u64::from(ports) * u64::from(sources.unwrap_or(1)))];
    match outcome {
        Ok((report, rate)) => row.extend([
            if report.refused == 0 { Cell::AtLeast(report.made as f64) } else { Cell::count(report.made) },
            Cell::count(report.sources),
            Cell::Number(*rate),
            Cell::Number(rate / stock.max(f64::EPSILON)),
        ]),
        Err(gap) => row.extend(std::iter::repeat_n(gap.clone(), 4)),
    }
    row
}

/// What a client makes until it is refused, and its rate in fresh namespaces while ports are plenty.
fn one(setup: &Setup, ports: u32, sources: u8, remedy: &Remedy) -> Result<(ClientReport, f64)> {
    let all = u64::from(ports) * u64::from(sources);
    let bench = Bench::new(setup, sources, 1, ports)?;
    let early = bench.run(&Client { count: all * 2 / 5, ..bench.work() }, remedy)?;
    let bench = Bench::new(setup, sources, 1, ports)?;
    let client = Client { until_refused: true, count: all + 1, ..bench.work() };
    Ok((bench.run(&client, remedy)?, early.per_second()))
}
