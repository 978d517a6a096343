//! Neighbours: what steering one program costs another that chooses its ports by connect() as ever.

use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, or_gap};
use crate::client::{Client, ClientReport};
use crate::error::Result;

/// Part of the range that each of the two uses: both together do not fit into it.
const PART: f64 = 0.8;

/// Two programs with a destination each, the first steered in one way or another.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let (ports, seconds) = match setup.size {
        Size::Full => (8_000, 10),
        Size::Quick => (2_000, 5),
        Size::Tiny => (200, 1),
    };
    let rate = (f64::from(ports) * PART / f64::from(seconds)) as u32;
    let arrangements = [
        ("no", Remedy::default()),
        ("ports of its own", Remedy::attached(&["steer"])),
        ("kernel's range", Remedy::attached(&["steer", "--range", "kernel"])),
    ];
    let mut rows = Vec::new();
    for (name, remedy) in &arrangements {
        tell(name);
        let mut row = vec![Cell::text(*name), Cell::count(u64::from(rate * seconds))];
        match or_gap(pair(setup, ports, rate, seconds, remedy))? {
            Ok((first, second)) => row.extend([
                Cell::count(first.made),
                Cell::count(first.refused),
                Cell::count(second.made),
                Cell::count(second.refused),
                Cell::Number(second.p99),
            ]),
            Err(gap) => row.extend(std::iter::repeat_n(gap, 5)),
        }
        rows.push(row);
    }
    Ok(vec![Table {
        table: "neighbour-table".to_owned(),
        title: "A program that is not steered beside one that may be".to_owned(),
        columns: vec![
            Column::given("first steered", Unit::Text),
            Column::given("each tries", Unit::Count),
            Column::measured("first: made", Unit::Count),
            Column::measured("first: refused", Unit::Count),
            Column::measured("second: made", Unit::Count),
            Column::measured("second: refused", Unit::Count),
            Column::measured("second: p99", Unit::Microseconds),
        ],
        rows,
        notes: vec![format!(
            "A range of {ports} ports; each program makes {rate} connections a second for {seconds} s, {:.0} % of the range, and closes them \
             at once. They go to a destination each, so that both fit while connect() chooses the ports. A port that somebody has bound \
             serves no other connect(), whatever its destination. The second program is never steered.",
            PART * 100.0
        )],
    }])
}

fn pair(
    setup: &Setup,
    ports: u32,
    rate: u32,
    seconds: u32,
    remedy: &Remedy,
) -> Result<(ClientReport, ClientReport)> {
    let bench = Bench::new(setup, 1, 2, ports)?;
    let work = |number: u8| Client {
        destinations: vec![bench.destination(number)],
        rate: Some(rate.into()),
        count: u64::from(rate * seconds),
        // A busy machine may need longer than that for as many.
        time: Duration::from_secs(u64::from(seconds) * 3),
        ..bench.work()
    };
    let first = bench.start(&work(0), remedy)?;
    let second = bench.start(&work(1), &Remedy::default())?;
    Ok((first.wait()?, second.wait()?))
}
