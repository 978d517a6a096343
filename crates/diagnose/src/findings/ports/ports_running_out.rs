//! `ports-running-out`: at the present rate a destination has no local port left within a TIME_WAIT's time.

use tidewait_model::report::Severity;

use super::{Case, Found, evidence, figure, pool_word};
use crate::Kind;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "ports-running-out",
    title: "a destination will have no local port left within a minute or so",
    means: "Connections come faster than TIME_WAIT lets go of their ports. Once all are held, connect() or bind() fails.",
    told_by: "The TIME_WAIT timers of one look tell how fast connections closed here over the last minute; that rate is held \
              against what the ports carry, and the sockets' own expiry is reckoned forward.",
    causes: &[
        "a program that opens a connection for every request and closes it first",
        "a burst that the range would bear if it were shorter",
    ],
    severity: "critical: at the present rate connections fail within the length of a TIME_WAIT.",
    scenario: "ports-running-out",
    see_also: &["ports-exhausted", "why-60-seconds", "TIME_WAIT"],
    sources: &["net/ipv4/tcp_minisocks.c tcp_time_wait (6.18)", "include/net/tcp.h TCP_TIMEWAIT_LEN"],
};

pub(super) fn check(case: &Case<'_>) -> Option<Found> {
    let seconds = case.destination.seconds_to_exhaustion?;
    let summary = format!(
        "{} runs out of local ports in {} s: {} connections a second, the ports carry {} (chosen by {})",
        case.subject(),
        figure(seconds),
        figure(case.destination.rate_now_per_second),
        figure(case.limit),
        pool_word(case.destination.pool)
    );
    Some(case.finding(&KIND, Severity::Critical, summary, evidence(case)))
}
