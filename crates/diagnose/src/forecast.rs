//! How fast connections come, and how long the ports last: read off the TIME_WAIT timers of one dump.
//!
//! A socket in TIME_WAIT says when it will let go, and so how long ago it was closed. The sockets of a
//! destination are therefore a history of its last minute, and the list of coming expiries is known exactly; only
//! the rate at which new connections arrive has to be assumed to stay as it is.
//!
//! What the timers do not show: a late segment sets the timer back to its full length (the socket then counts as
//! younger than it is), and sockets that were taken over by tcp_tw_reuse, destroyed, or closed first by the peer
//! are not there at all. Rates are therefore lower bounds where any of that happens.

use tidewait_model::report::Trend;

/// Seconds over which the present rate is taken.
const NOW: usize = 5;
/// Length of the blocks by which a rate that comes in batches is seen.
const BLOCK: usize = 10;
/// A rate that differs from the mean by more than this share is rising or falling.
const TREND_SHARE: f64 = 0.25;

/// The history that the TIME_WAIT timers of a destination give.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Connections closed in each second of the last TIME_WAIT, the oldest first.
    pub closed_per_second: Vec<u32>,
    /// Mean rate over the last TIME_WAIT; where connections still come, over the part of it since the oldest
    /// socket that is there, so that a stream which began half a minute ago is not halved.
    pub mean: f64,
    /// Present rate.
    pub now: f64,
    /// Present rate against the mean.
    pub trend: Trend,
}

/// Reads the history off `expiring` (sockets by whole seconds left), where TIME_WAIT lasts `time_wait` seconds.
/// `reuse_after` is the age in seconds at which a socket may be taken over by a new connection, if that is so.
pub fn history(expiring: &[u32], time_wait: u32, reuse_after: Option<f64>) -> History {
    let length = time_wait.max(1) as usize;
    let mut by_age = vec![0_u32; length];
    for (left, count) in expiring.iter().enumerate() {
        // A timer that shows more than the whole length was set just now.
        let age = &mut by_age[(length - 1).saturating_sub(left)];
        *age = age.saturating_add(*count);
    }
    let covered = by_age.iter().rposition(|count| *count > 0).map_or(0, |oldest| oldest + 1);
    let total: u64 = by_age.iter().map(|count| u64::from(*count)).sum();
    let now = match reuse_after {
        // Older sockets are taken over, so only the youngest tell the rate; a single second's burst does not.
        Some(age) if age < NOW as f64 => {
            f64::from(by_age[0]).min(2.0 * f64::from(by_age.get(1).copied().unwrap_or(0)))
        }
        _ => present_rate(&by_age),
    };
    let window = if now > 0.0 { covered.max(1) } else { length };
    let mean = total as f64 / window as f64;
    let trend = match covered {
        // Too short a time to speak of a trend.
        0..BLOCK => Trend::Steady,
        _ if now > mean * (1.0 + TREND_SHARE) => Trend::Rising,
        _ if now < mean * (1.0 - TREND_SHARE) => Trend::Falling,
        _ => Trend::Steady,
    };
    by_age.reverse();
    History { closed_per_second: by_age, mean, now, trend }
}

/// The rate that goes on: the median of the last seconds, so that one burst is not taken for a stream, or the
/// median of the last three blocks of ten seconds, so that a stream of batches is not taken for calm.
fn present_rate(by_age: &[u32]) -> f64 {
    let seconds = median(by_age.iter().take(NOW).map(|count| f64::from(*count)).collect());
    let blocks: Vec<f64> = by_age
        .chunks_exact(BLOCK.min(by_age.len()))
        .take(3)
        .map(|block| block.iter().map(|count| f64::from(*count)).sum::<f64>() / block.len() as f64)
        .collect();
    if blocks.len() < 3 { seconds } else { seconds.max(median(blocks)) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// What the forecast starts from.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Ports that may be used.
    pub usable: u32,
    /// Ports held by sockets that are not in TIME_WAIT. They are taken to stay.
    pub live: u32,
    /// Sockets in TIME_WAIT by whole seconds left.
    pub expiring: &'a [u32],
    /// Seconds that a socket stays in TIME_WAIT.
    pub time_wait: u32,
    /// Age in seconds at which a socket in TIME_WAIT may be taken over, if that is so.
    pub reuse_after: Option<f64>,
    /// New connections a second.
    pub rate: f64,
}

/// What the forecast says. Times are in seconds from now, 0 for what is so already, `None` when not in sight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Connections a second that the ports can carry for ever.
    pub limit: f64,
    /// Sockets in TIME_WAIT that a new connection may take over now.
    pub reusable: u32,
    /// Until half the ports are used.
    pub to_half: Option<f64>,
    /// Until none is left.
    pub to_exhaustion: Option<f64>,
}

impl Situation<'_> {
    /// Seconds for which a closed connection keeps its port from a new one.
    fn hold(&self) -> f64 {
        self.reuse_after.unwrap_or(f64::from(self.time_wait)).min(f64::from(self.time_wait))
    }

    /// Walks the known expiries and the assumed arrivals forward.
    pub fn forecast(&self) -> Forecast {
        let hold = self.hold();
        let early = f64::from(self.time_wait) - hold;
        let in_the_way =
            self.expiring.iter().enumerate().map(|(left, count)| (left as f64 - early, f64::from(*count)));
        // Where the takeover age lies inside a second's bin, its share of the sockets is taken to have reached it.
        let blocking = |at: f64| -> f64 {
            in_the_way.clone().map(|(left, count)| count * (left + 1.0 - at).clamp(0.0, 1.0)).sum()
        };
        let used = |at: f64| f64::from(self.live) + blocking(at) + self.rate * at.min(hold);
        let closed: f64 = self.expiring.iter().map(|count| f64::from(*count)).sum();
        let free = f64::from(self.usable.saturating_sub(self.live));
        let reusable = if self.reuse_after.is_some() { (closed - blocking(0.0)).max(0.0) as u32 } else { 0 };
        Forecast {
            limit: if hold > 0.0 { free / hold } else { f64::INFINITY },
            reusable,
            to_half: self.crossing(&used, f64::from(self.usable) / 2.0),
            to_exhaustion: self.crossing(&used, f64::from(self.usable)),
        }
    }

    /// When `used` first reaches `threshold`. Beyond the length of TIME_WAIT nothing changes any more.
    fn crossing(&self, used: &dyn Fn(f64) -> f64, threshold: f64) -> Option<f64> {
        const STEP: f64 = 0.25;
        let mut before = used(0.0);
        if before >= threshold {
            return Some(0.0);
        }
        if self.rate <= 0.0 {
            return None;
        }
        let steps = (f64::from(self.time_wait) / STEP) as u32;
        for step in 1..=steps {
            let at = f64::from(step) * STEP;
            let after = used(at);
            if after >= threshold {
                return Some(at - STEP + STEP * (threshold - before) / (after - before));
            }
            before = after;
        }
        None
    }
}
