//! `port-search-cliff`: more than half the ports are in the way, so that each connect() searches the rest at length.
//!
//! connect() tries all ports of one parity before the other (`__inet_hash_connect`). Past half of the range the
//! first parity is full, and each call walks it in vain: about 1.5 ms of CPU on the stock range, where it took
//! microseconds before. No error is returned.

use tidewait_model::report::{Pool, Severity};

use super::{Case, Found, evidence, figure};
use crate::Kind;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "port-search-cliff",
    title: "more than half of the ports are in the way, and each connect() searches at length",
    means: "No connection fails, but each connect() walks through one half of the range in vain before it finds a port in the \
            other: about 1.5 ms of CPU on the stock range. Users meet it as a proxy that burns CPU.",
    told_by: "Ports in use by one destination, less those that tcp_tw_reuse lets connect() take over, exceed half of the range.",
    causes: &[
        "the causes of ports-running-out, at a rate that the range just bears",
        "a large pool of open connections",
    ],
    severity: "a warning from 5 % of a core on, reckoned from the present rate; else a notice.",
    scenario: "port-search-cliff",
    see_also: &["half-range-cliff", "ports-running-out", "net.ipv4.tcp_tw_reuse"],
    sources: &["net/ipv4/inet_hashtables.c __inet_hash_connect (6.18)"],
};

/// CPU time that a port takes to be tried in vain, in seconds: 0.1 us for one in TIME_WAIT on 6.18.
const PER_PORT: f64 = 1.0e-7;
/// From this share of a core on, the search is felt.
const FELT: f64 = 0.05;
/// A search that takes less, in seconds, is nothing to speak of unless it is felt: a range of a few hundred ports.
const SHORT: f64 = 1.0e-4;

pub(super) fn check(case: &Case<'_>) -> Option<Found> {
    let destination = case.destination;
    if destination.pool == Pool::Bind {
        return None;
    }
    let per_connect = f64::from(case.usable) / 2.0 * PER_PORT;
    let rate = case.connects_per_second();
    let share = rate * per_connect;
    if per_connect < SHORT && share < FELT {
        return None;
    }
    let (severity, summary) = if case.in_the_way().saturating_mul(2) > case.usable {
        let severity = if share >= FELT { Severity::Warning } else { Severity::Notice };
        let summary = format!(
            "{} uses more than half of its local ports: each connect() searches the full half first, about {} of CPU, \
             and says nothing",
            case.subject(),
            cost(per_connect)
        );
        (severity, summary)
    } else {
        let seconds = destination.seconds_to_half?;
        if share < FELT {
            return None;
        }
        let summary = format!(
            "{} reaches half of its local ports in {} s; from there on each connect() costs about {} of CPU",
            case.subject(),
            figure(seconds),
            cost(per_connect)
        );
        (Severity::Warning, summary)
    };
    let mut evidence = evidence(case);
    if rate > 0.0 {
        evidence.push(format!(
            "at {} connects a second the search takes about {:.0} % of a core",
            figure(rate),
            share * 100.0
        ));
    }
    Some(case.finding(&KIND, severity, summary, evidence))
}

/// A time of CPU, in the unit that it has digits in: a range of a few hundred ports is searched in microseconds.
fn cost(seconds: f64) -> String {
    if seconds < SHORT {
        format!("{:.0} microseconds", seconds * 1e6)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_has_digits() {
        assert_eq!(cost(0.001_5), "1.5 ms");
        assert_eq!(cost(0.000_1), "0.1 ms");
        assert_eq!(cost(0.000_010_4), "10 microseconds");
    }
}
