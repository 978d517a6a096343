//! A change proved before it is made: what connections can do with a machine's settings, and with the change, measured.

use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::PortRange;
use tidewait_model::experiment::{Figure, Measured, Metric, Proof, Verdict};

use super::RANGE;
use super::site::{Client, Place, Site};
use crate::error::{Error, Result};

/// How many ports at a time are offered while the range is filled: connect() and bind() look through all that they are
/// offered, which among tens of thousands takes milliseconds.
const SLICE: u32 = 256;

/// Ports that are left to the search over the whole range.
const LAST: u32 = 64;

/// Connections beyond the ports of the range after which it counts as without end.
const BEYOND: u64 = 1_000;

/// Older than the second from which TIME_WAIT may be taken over.
const OLD: Duration = Duration::from_millis(1_100);

/// How long connections are counted when every port is in TIME_WAIT.
const WINDOW: Duration = Duration::from_millis(1_000);

/// Who chooses the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// connect().
    Connect,
    /// bind(address, port 0).
    Bind,
    /// Each by itself.
    Both,
}

/// A machine's settings, and what is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Names and values as they are now; what a namespace cannot have is left out of the proof and named in it.
    pub settings_before: &'a [(&'a str, &'a str)],
    /// Names and values as they are to be.
    pub changes: &'a [(&'a str, &'a str)],
    /// Whose ports.
    pub pool: Pool,
}

/// Measures what a change does, in namespaces with the settings of a machine: connections until the kernel refuses one, and
/// connections a second when every port is in TIME_WAIT, before and after. Takes about five seconds with the longest range, and ten
/// for both pools. Without root, [`crate::enter`] comes first.
///
/// # Errors
/// [`Error::Call`] or [`Error::NotPermitted`] where namespaces cannot be made, [`Error::Unavailable`] where a change cannot be
/// made in one, and what goes wrong in the measurement.
pub fn prove(case: &Case<'_>) -> Result<Proof> {
    let begin = Instant::now();
    let pools: &[bool] = match case.pool {
        Pool::Connect => &[false],
        Pool::Bind => &[true],
        Pool::Both => &[false, true],
    };
    // Before anything takes time.
    let left_out = write(&Site::new(Place::Wire, 1)?, case, true)?;
    let mut measured = Vec::new();
    let mut unprotected = [0, 0];
    for bind in pools {
        let client = Client { bind: *bind, ..Client::default() };
        let figures = |changed: bool| figures(case, changed, client);
        // One processor each, where there are two.
        let (before, after) = thread::scope(|scope| {
            let before = thread::Builder::new().name("lab".into()).spawn_scoped(scope, || figures(false));
            let after = figures(true);
            let before = match before {
                Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => figures(false),
            };
            (before, after)
        });
        let metrics = if *bind {
            [Metric::BindsUntilRefused, Metric::BindRateWhenFull]
        } else {
            [Metric::ConnectsUntilRefused, Metric::RateWhenFull]
        };
        let ((before, lost_before), (after, lost_after)) = (before?, after?);
        unprotected[0] += lost_before;
        unprotected[1] += lost_after;
        for ((metric, before), after) in metrics.into_iter().zip(before).zip(after) {
            measured.push(side_by_side(metric, before, after));
        }
    }
    let [unprotected_before, unprotected_after] = unprotected;
    Ok(Proof {
        measured,
        unprotected_before,
        unprotected_after,
        left_out,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// Rates that are measured side by side in one run tell a smaller difference than the factor of three between runs.
fn side_by_side(metric: Metric, before: Figure, after: Figure) -> Measured {
    /// Seen to differ by a tenth on a busy machine.
    const TELLING: f64 = 1.5;
    let mut measured = Measured::new(metric, before, after);
    let is_rate = matches!(metric, Metric::RateWhenFull | Metric::BindRateWhenFull);
    if is_rate && before.value > 0.0 && after.value > 0.0 {
        if after.value >= before.value * TELLING {
            measured.verdict = Verdict::Helps;
        } else if after.value * TELLING <= before.value {
            measured.verdict = Verdict::Worse;
        }
    }
    measured
}

/// Writes a machine's settings, and the changes to them; which of the first a namespace cannot have.
fn write(site: &Site, case: &Case<'_>, changed: bool) -> Result<Vec<String>> {
    let left_out = write_all(site, case.settings_before).into_iter().map(|(name, _)| name).collect();
    let changes = if changed { case.changes } else { &[] };
    match write_all(site, changes).into_iter().next() {
        None => Ok(left_out),
        Some((name, error)) => {
            Err(Error::Unavailable(format!("{name} cannot be tried in a namespace: {error}")))
        }
    }
}

/// Writes settings, and names those that were refused, with the reason. What depends on another setting is tried again after it.
fn write_all(site: &Site, settings: &[(&str, &str)]) -> Vec<(String, Error)> {
    let write = |settings: &[(&str, &str)]| -> Vec<(usize, Error)> {
        let tried = settings.iter().enumerate();
        tried.filter_map(|(index, (name, value))| Some((index, site.set(name, value).err()?))).collect()
    };
    let again: Vec<(&str, &str)> = write(settings).into_iter().map(|(index, _)| settings[index]).collect();
    write(&again).into_iter().map(|(index, error)| (again[index].0.to_owned(), error)).collect()
}

/// Connections until refused, connections a second when every port is in TIME_WAIT, and how many connections of the first ended
/// without TIME_WAIT.
fn figures(case: &Case<'_>, changed: bool, client: Client) -> Result<([Figure; 2], u64)> {
    let mut site = Site::new(Place::Wire, 1)?;
    write(&site, case, changed)?;
    let whole = site.client.get(RANGE)?;
    let range =
        PortRange::parse(&whole).ok_or_else(|| Error::Refused(format!("{RANGE} {whole:?}: not a range")))?;
    site.listen()?;
    let mut made = 0;
    let end = u32::from(range.high) + 1;
    let mut low = u32::from(range.low);
    while low + LAST < end {
        let high = (low + SLICE).min(end - LAST) - 1;
        site.set(RANGE, &format!("{low} {high}"))?;
        made += site.until_refused(client, u64::from(high - low) + 1)?.made;
        low = high + 1;
    }
    site.set(RANGE, &whole)?;
    let last = site.until_refused(client, u64::from(LAST) + BEYOND)?;
    made += last.made;
    let count = if last.refused { Figure::exact(made as f64) } else { Figure::at_least(made as f64) };
    thread::sleep(OLD);
    let unprotected = site.client.time_wait_overflow()?;
    Ok(([count, Figure::exact(site.rate(client, WINDOW)?)], unprotected))
}
