//! One client that would run out of ports within seconds, without and with `tidewait reap` beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tidewait_model::table::{Cell, Column, Size, Table, Unit};

use super::Setup;
use super::bench::{Bench, Remedy, STOCK, or_gap};
use crate::client::{Client, ClientReport};
use crate::error::{Context, Result};

/// Connections a second on the stock range: the range is used up after 9.4 s, and six times over within a TIME_WAIT.
const RATE: f64 = 3_000.0;

/// How often the sockets in TIME_WAIT are counted.
const OFTEN: Duration = Duration::from_millis(100);

/// How large a run is.
struct Scale {
    ports: u32,
    /// How much faster everything goes than on the stock range, beside what fewer ports take away.
    pace: u32,
    /// Seconds with reap.
    seconds: u32,
    /// Seconds without: what comes after the first refusal is refused until the first TIME_WAIT ends.
    without: u32,
    /// Whether all clients run at the same time.
    together: bool,
}

/// A client's report, and the most sockets in TIME_WAIT beside it.
type Outcome = Result<(ClientReport, u64)>;

/// The same client without reap, by age, and by pressure.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let scale = match setup.size {
        Size::Full => Scale { ports: STOCK, pace: 1, seconds: 90, without: 45, together: false },
        Size::Quick => Scale { ports: 2_000, pace: 1, seconds: 20, without: 20, together: true },
        Size::Tiny => Scale { ports: 200, pace: 5, seconds: 3, without: 3, together: true },
    };
    let rate = RATE * f64::from(scale.ports) / f64::from(STOCK) * f64::from(scale.pace);
    let age = format!("{}s", 5 / scale.pace);
    let ways = [
        ("nothing".to_owned(), Remedy::default(), scale.without),
        (format!("reap --older-than {age}"), Remedy::beside(&["reap", "--older-than", &age]), scale.seconds),
        ("reap --keep-below 45%".to_owned(), Remedy::beside(&["reap", "--keep-below", "45%"]), scale.seconds),
    ];
    let one = |(_, remedy, seconds): &(String, Remedy, u32)| one(setup, scale.ports, rate, remedy, *seconds);
    let outcomes: Vec<Outcome> = if scale.together {
        tell(&format!("all at the same time: {} s", scale.seconds));
        thread::scope(|scope| {
            let threads: Vec<_> = ways.iter().map(|way| scope.spawn(|| one(way))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    } else {
        let tell_of = |way| {
            let (name, _, seconds): &(String, Remedy, u32) = way;
            tell(&format!("{name} beside it: {seconds} s"));
            one(way)
        };
        ways.iter().map(tell_of).collect()
    };
    let mut rows = Vec::new();
    for ((name, _, seconds), outcome) in ways.iter().zip(outcomes) {
        let mut row = vec![Cell::text(name.as_str()), Cell::count(u64::from(*seconds)), Cell::Number(rate)];
        match or_gap(outcome)? {
            Ok((report, most)) => row.extend([
                Cell::Number(report.per_second()),
                Cell::count(report.refused),
                report.refused_after.map_or(Cell::text("never"), Cell::Number),
                Cell::Number(report.p99),
                Cell::count(most),
            ]),
            Err(gap) => row.extend(std::iter::repeat_n(gap, 5)),
        }
        rows.push(row);
    }
    Ok(vec![table(&scale, rows)])
}

/// Runs the client for so many seconds, and counts the sockets in TIME_WAIT meanwhile.
fn one(setup: &Setup, ports: u32, rate: f64, remedy: &Remedy, seconds: u32) -> Outcome {
    let bench = Bench::new(setup, 1, 1, ports)?;
    let _beside = bench.apply(remedy)?;
    let client = Client { rate: Some(rate), time: Duration::from_secs(seconds.into()), ..bench.work() };
    let running = bench.start(&client, &Remedy::default())?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let counts = || {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(bench.client.sockstat()?.time_wait);
                thread::sleep(OFTEN);
            }
            Ok::<_, crate::Error>(most)
        };
        let counting = thread::Builder::new().name("lab-table".into()).spawn_scoped(scope, counts);
        let counting = counting.context("start", "a thread")?;
        let report = running.wait();
        over.store(true, Ordering::Relaxed);
        let most = counting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((report?, most?))
    })
}

fn table(scale: &Scale, rows: Vec<Vec<Cell>>) -> Table {
    Table {
        table: "reap-table".to_owned(),
        title: "One client and one destination, with and without reap".to_owned(),
        columns: vec![
            Column::given("beside it", Unit::Text),
            Column::given("runs for", Unit::Seconds),
            Column::given("asks for", Unit::PerSecond),
            Column::measured("made", Unit::PerSecond),
            Column::measured("refused", Unit::Count),
            Column::measured("first after", Unit::Seconds),
            Column::measured("p99", Unit::Microseconds),
            Column::measured("most in TIME_WAIT", Unit::Count),
        ],
        rows,
        notes: vec![
            format!(
                "A range of {} ports, each connection closed here at once, by a client that knows nothing of it. By arithmetic the ports are \
                 used up after {:.1} s, and the first is free again after 60 s.{}",
                scale.ports,
                f64::from(STOCK) / RATE / f64::from(scale.pace),
                if scale.together { " All rows at the same time, each in namespaces of its own." } else { "" }
            ),
            "By age: as many sockets wait as are made in that time, on the stock range 15,000 of 28,232: above half, where connect() searches. By pressure (--keep-below): each waits for as long as less than the \
             share is in use; below half of the range connect() finds a port at once (fill-table)."
                .to_owned(),
        ],
    }
}
