//! Numbers in the sentences of the catalogue: times in words, and the sums that retransmissions come to.

/// The longest time between two retransmissions, in seconds (`TCP_RTO_MAX`).
const RTO_MAX: f64 = 120.0;

/// The shortest, from which the kernel reckons how long an open connection may stay unanswered (`TCP_RTO_MIN`).
const RTO_MIN: f64 = 0.2;

/// A time in words, in the two largest units: `2 h`, `11 min 15 s`, `5 days`.
pub fn seconds(seconds: i64) -> String {
    if seconds < 0 {
        return format!("{seconds} s");
    }
    let parts = [
        ("days", seconds / 86_400),
        ("h", seconds / 3_600 % 24),
        ("min", seconds / 60 % 60),
        ("s", seconds % 60),
    ];
    let first = parts.iter().position(|(_, amount)| *amount > 0).unwrap_or(3);
    let words: Vec<String> = parts[first..]
        .iter()
        .take(2)
        .filter(|(unit, amount)| *amount > 0 || (first == 3 && *unit == "s"))
        .map(|(unit, amount)| match (*unit, *amount) {
            ("days", 1) => "1 day".to_owned(),
            _ => format!("{amount} {unit}"),
        })
        .collect();
    words.join(" ")
}

/// How long `retries` retransmissions take and the wait after the last, in seconds, when the first comes after
/// `first` seconds and each waits twice as long as the one before, up to two minutes.
pub fn doubling(first: f64, retries: i64) -> i64 {
    let (mut total, mut wait) = (0.0, first);
    for _ in 0..=retries {
        total += wait;
        wait = (wait * 2.0).min(RTO_MAX);
    }
    // Whole seconds, and far below what an i64 holds: retries are at most a byte.
    total.round() as i64
}

/// The same for a connection that is open: an estimate from below, since its own round-trip time sets the pace.
pub fn open_connection(retries: i64) -> i64 {
    doubling(RTO_MIN, retries)
}
