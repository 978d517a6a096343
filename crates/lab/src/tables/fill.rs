//! The half-range cliff: what connect() costs, by how much of the range is in use and by what.

use std::thread;
use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, STOCK, or_gap, range};
use crate::client::{Client, ClientReport};
use crate::error::{Error, Result};

/// How long TIME_WAIT stays before tcp_tw_reuse takes it over, and a little.
const OLD: Duration = Duration::from_millis(1_200);

/// The longest that one figure takes, and the stock kernel's takes beyond half the range.
const WINDOW: Duration = Duration::from_secs(2);

/// The most connections of a client that leaves a TIME_WAIT behind: more would fill the range themselves.
const LEAVING: u64 = 500;

/// Percent of the range in use.
const LEVELS: [u8; 10] = [10, 25, 45, 49, 51, 60, 75, 90, 95, 99];

/// What holds the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    TimeWait,
    Live,
}

/// How a client finds its port.
struct Way {
    name: &'static str,
    remedy: Remedy,
    /// It sets IP_LOCAL_PORT_RANGE to the whole range itself.
    own_range: bool,
}

/// What became of every way, at a level.
type Outcomes = Vec<std::result::Result<ClientReport, Cell>>;

/// Rate, median and 99th percentile of connect(), each as a table.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let (ports, samples, levels): (u32, u64, &[u8]) = match setup.size {
        Size::Full => (STOCK, 20_000, &LEVELS),
        Size::Quick => (5_000, 2_000, &LEVELS),
        Size::Tiny => (400, 20, &[10, 95]),
    };
    let ways = ways();
    let mut measured = Vec::new();
    for holder in [Holder::TimeWait, Holder::Live] {
        for &level in levels {
            let by = if holder == Holder::TimeWait { "TIME_WAIT" } else { "live" };
            tell(&format!("{level} % in use by {by}"));
            let outcomes = at_level(setup, ports, samples, holder, level, &ways)?;
            measured.push((Cell::Number(level.into()), Cell::text(by), outcomes));
        }
    }
    let table = |table: &str, title: &str, unit: Unit, figure: &dyn Fn(&ClientReport) -> f64| {
        let mut columns = vec![Column::given("in use", Unit::Percent), Column::given("held by", Unit::Text)];
        columns.extend(ways.iter().map(|way| Column::measured(way.name, unit)));
        let row = |(level, by, outcomes): &(Cell, Cell, Outcomes)| {
            let mut row = vec![level.clone(), by.clone()];
            row.extend(outcomes.iter().map(|outcome| match outcome {
                Ok(report) if report.made == 0 => Cell::text("refused"),
                Ok(report) => Cell::Number(figure(report)),
                Err(gap) => gap.clone(),
            }));
            row
        };
        Table {
            table: table.to_owned(),
            title: title.to_owned(),
            columns,
            rows: measured.iter().map(row).collect(),
            notes: Vec::new(),
        }
    };
    let mut rate = table(
        "fill-table",
        "Connections a second, by how much of the range is in use",
        Unit::PerSecond,
        &ClientReport::per_second,
    );
    rate.notes = vec![
        format!(
            "A range of {ports} ports and one destination. One thread connects, accepts and resets, so that the ports in use stay as they are; \
             up to {samples} connections a figure, and up to {} s. Where tcp_tw_reuse=1 takes over a TIME_WAIT it closes the usual way instead, {LEAVING} times at most: what was one is one again.",
            WINDOW.as_secs()
        ),
        "connect() searches the ports of one parity first. They are used up at half the range, and from there on it looks at all of them \
         in vain before it comes to the others."
            .to_owned(),
        "Steered: `tidewait steer --range kernel` for the client. IP_LOCAL_PORT_RANGE: the client sets the socket option to the whole \
         range (Linux 6.3); from 6.8 on the search then takes every port in turn, whatever its parity."
            .to_owned(),
    ];
    Ok(vec![
        rate,
        table("fill-table: median", "Median of connect()", Unit::Microseconds, &|report| report.median),
        table(
            "fill-table: p99",
            "99 of 100 calls of connect() took at most",
            Unit::Microseconds,
            &|report| report.p99,
        ),
    ])
}

fn ways() -> Vec<Way> {
    let way = |name, remedy, own_range| Way { name, remedy, own_range };
    vec![
        way("stock", Remedy::default(), false),
        way("steered", Remedy::attached(&["steer", "--range", "kernel"]), false),
        way("IP_LOCAL_ PORT_RANGE", Remedy::default(), true),
        // The last: it changes the namespace for good.
        way("tcp_tw_reuse=1", Remedy::setting("net.ipv4.tcp_tw_reuse", "1"), false),
    ]
}

fn at_level(
    setup: &Setup,
    ports: u32,
    samples: u64,
    holder: Holder,
    level: u8,
    ways: &[Way],
) -> Result<Outcomes> {
    let bench = Bench::new(setup, 1, 1, ports)?;
    let count = u64::from(ports) * u64::from(level) / 100;
    // To the end of all measurements: live connections go when this does.
    let _held = match holder {
        Holder::TimeWait => {
            bench.path().fill_time_wait(count)?;
            thread::sleep(OLD);
            None
        }
        Holder::Live => match bench.path().hold_on_ports(range(ports), count) {
            Ok(held) => Some(held),
            Err(error @ Error::Descriptors { .. }) => {
                return Ok(vec![Err(Cell::Missing(error.to_string())); ways.len()]);
            }
            Err(error) => return Err(error),
        },
    };
    let measure = |way: &Way| {
        bench.apply(&way.remedy)?;
        let reset = way.remedy.settings.is_empty() || holder == Holder::Live;
        let client = Client {
            count: if reset { samples } else { samples.min(LEAVING) },
            time: WINDOW,
            reset,
            range: way.own_range.then(|| range(ports)),
            ..bench.work()
        };
        let report = bench.run(&client, &way.remedy)?;
        if way.own_range && report.made == 0 && report.error == Some(libc::ENOPROTOOPT) {
            return Err(Error::Unavailable("this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)".to_owned()));
        }
        Ok(report)
    };
    ways.iter().map(|way| or_gap(measure(way))).collect()
}
