//! `ports-exhausted`: connect() finds no local port for a destination and fails with EADDRNOTAVAIL.

use tidewait_model::report::{Pool, Severity};

use super::refusals::OWN_RANGE;
use super::{Case, Found, count, evidence, figure};
use crate::Kind;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "ports-exhausted",
    title: "no local port is left for a destination",
    means: "connect() fails with EADDRNOTAVAIL (99, \"Cannot assign requested address\") for this source address and this \
            destination address and port. Other destinations still work, each has the whole range to itself.",
    told_by: "Every usable port of the range is held by a connection of this one destination, in TIME_WAIT or open; or, while \
              traced, connect() was seen to find none. A full range of the source address by bind() is another thing: \
              bind-pool-exhausted.",
    causes: &[
        "a program that opens a connection for every request and closes it first",
        "a connection pool larger than the port range",
        "one destination address for all the work, behind one source address",
        "a program that has narrowed the range of its sockets (IP_LOCAL_PORT_RANGE)",
    ],
    severity: "critical: connections fail now. A warning where tcp_tw_reuse may still let connect() take over TIME_WAIT.",
    scenario: "ports-exhausted",
    see_also: &[
        "ports-running-out",
        "port-search-cliff",
        "two-pools",
        "TIME_WAIT",
        "net.ipv4.ip_local_port_range",
    ],
    sources: &["net/ipv4/inet_hashtables.c __inet_hash_connect (6.18)", "RFC 6056"],
};

/// connect() was seen to find no port: so it is, whatever the arithmetic says.
pub(super) fn refused(case: &Case<'_>) -> Option<Found> {
    let refusal = case.refused.as_ref()?;
    let full = case.exhausted();
    let rest = if full {
        format!(": {} of {} are in use", count(case.destination.ports_used), count(case.usable))
    } else {
        format!(", although {} of {} are free now", count(case.free), count(case.usable))
    };
    let summary = format!(
        "connect() found no local port for {} {} (EADDRNOTAVAIL, \"Cannot assign requested address\"){rest}",
        case.subject(),
        refusal.often
    );
    let mut evidence = evidence(case);
    if !full {
        evidence.push(OWN_RANGE.to_owned());
    }
    let found = case.finding(&KIND, Severity::Critical, summary, evidence);
    // Who opens most need not be who is refused.
    Some(found.owner(case.refused_owner(refusal)))
}

pub(super) fn check(case: &Case<'_>) -> Option<Found> {
    if case.destination.pool == Pool::Bind || !case.exhausted() {
        return None;
    }
    let left = case.usable.saturating_sub(case.in_the_way());
    let errors = match case.destination.pool {
        Pool::Connect => "connect() fails with EADDRNOTAVAIL (\"Cannot assign requested address\")",
        _ => "connect() fails with EADDRNOTAVAIL, or bind() before it with EADDRINUSE",
    };
    let summary = if left == 0 {
        format!("no local port is left for {}: {errors}", case.subject())
    } else {
        format!(
            "{} of {} local ports are left for {}, the ones just let go: connect() is slow and fails whenever it finds \
             none (EADDRNOTAVAIL)",
            count(left),
            count(case.usable),
            case.subject()
        )
    };
    let mut evidence = evidence(case);
    if case.destination.rate_now_per_second > 0.0 {
        evidence.push(format!(
            "a port comes free {} times a second; every connection beyond that is refused",
            figure(case.limit)
        ));
    }
    if let Some(seen) = case.destination.traced.filter(|seen| seen.opened_per_second > 0.0) {
        evidence.push(format!(
            "traced: connections came about, {} a second, and none was refused meanwhile",
            figure(seen.opened_per_second)
        ));
    }
    // Reuse helps if connect() chose these ports, and does nothing if bind() did.
    let perhaps = case.destination.pool == Pool::Unknown && case.reuse_is_on() && may_be_reused(case);
    if perhaps {
        evidence.push(
            "tcp_tw_reuse is on: if connect() chose these ports it can take over those in TIME_WAIT; if bind() did, \
             it cannot. Which of them chose cannot be told from a full range"
                .to_owned(),
        );
    }
    let severity = if perhaps { Severity::Warning } else { Severity::Critical };
    Some(case.finding(&KIND, severity, summary, evidence))
}

/// Whether nothing speaks against sockets in TIME_WAIT being taken over: both ends send timestamps, as far as is known, and
/// where connections go on, some have been.
fn may_be_reused(case: &Case<'_>) -> bool {
    let recycled = case.view.facts.counters.get("TcpExt.TWRecycled");
    let goes_on = case.destination.rate_now_per_second > 0.0;
    case.view.number("net.ipv4.tcp_timestamps") != Some(0)
        && case.peer_timestamps() != Some(false)
        && !(goes_on && recycled == Some(&0))
}
