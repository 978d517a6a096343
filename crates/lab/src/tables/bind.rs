//! The bind pool: how many connections a program gets that calls bind(address, port 0) before connect().

use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, or_gap};
use crate::client::Client;
use crate::error::Result;

/// What is tried once more after a refusal, and when: tcp_tw_reuse takes a TIME_WAIT over that is older than a second.
const AGAIN: (Duration, u64) = (Duration::from_millis(1_300), 50);

/// Connections to one and to four destinations until the first refusal at the last.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let ports = match setup.size {
        Size::Full => 4_000,
        Size::Quick => 1_000,
        Size::Tiny => 100,
    };
    let reuse = Remedy::setting("net.ipv4.tcp_tw_reuse", "1");
    let clients = [
        ("bind() and connect()", true, Remedy::default()),
        ("bind, tcp_tw_reuse=1", true, reuse.clone()),
        ("bind, exec --no-port", true, Remedy::around(&["--no-port"])),
        ("bind, both of these", true, Remedy { settings: reuse.settings, ..Remedy::around(&["--no-port"]) }),
        ("connect() alone", false, Remedy::default()),
    ];
    let mut rows = Vec::new();
    for destinations in [1, 4] {
        for (name, bind, remedy) in &clients {
            tell(&format!("{name}, {destinations} of 4 destinations"));
            let arithmetic =
                if *bind && remedy.around.is_empty() { ports } else { ports * u32::from(destinations) };
            let mut row =
                vec![Cell::count(destinations.into()), Cell::text(*name), Cell::count(arithmetic.into())];
            row.extend(one(setup, ports, destinations, *bind, remedy)?);
            rows.push(row);
        }
    }
    let notes = vec![
        format!(
            "A range of {ports} ports, each connection closed here at once. A port that bind() chose serves one connection whatever its \
             destination; one that connect() chose, one for each destination."
        ),
        format!(
            "Once more: of {} attempts to the last destination {} ms after the refusal, those that were let in. tcp_tw_reuse lets \
             connect() take over a TIME_WAIT older than a second; bind() does not look at it.",
            AGAIN.1,
            AGAIN.0.as_millis()
        ),
    ];
    Ok(vec![Table {
        table: "bind-table".to_owned(),
        title: "Programs that bind() before connect(): connections until the first refusal".to_owned(),
        columns: vec![
            Column::given("servers", Unit::Count),
            Column::given("client", Unit::Text),
            Column::reckoned("ports", Unit::Count),
            Column::measured("until refused", Unit::Count),
            Column::measured("refused with", Unit::Text),
            Column::measured("once more", Unit::Count),
        ],
        rows,
        notes,
    }])
}

/// The measured cells of a row.
fn one(setup: &Setup, ports: u32, destinations: u8, bind: bool, remedy: &Remedy) -> Result<Vec<Cell>> {
    let bench = Bench::new(setup, 1, destinations, ports)?;
    bench.apply(remedy)?;
    let client = Client {
        destinations: (0..destinations).map(|number| bench.destination(number)).collect(),
        until_refused: true,
        bind: bind.then(|| bench.source(0)),
        again: Some(AGAIN),
        // tcp_tw_reuse has a fast client begin anew with the oldest: it would go on for ever.
        count: u64::from(ports) * u64::from(destinations) + 1,
        ..bench.work()
    };
    Ok(match or_gap(bench.run(&client, remedy))? {
        // It went on until it was enough: the last destination refused nothing.
        Ok(report) if report.made >= client.count => {
            vec![Cell::AtLeast(report.made as f64), Cell::text("not refused"), Cell::count(report.again)]
        }
        Ok(report) => vec![
            Cell::count(report.made),
            Cell::text(report.error.map_or("not refused", name_of)),
            Cell::count(report.again),
        ],
        Err(gap) => vec![gap.clone(), gap.clone(), gap],
    })
}

/// The name of an error number.
fn name_of(error: i32) -> &'static str {
    match error {
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        _ => "another error",
    }
}
