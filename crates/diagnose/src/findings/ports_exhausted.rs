//! `ports-exhausted`: connect() finds no local port for a destination and fails with EADDRNOTAVAIL.

use tidewait_model::report::{Finding, Pool, Severity};

use super::{Case, count, figure, port_evidence};

pub(super) fn check(case: &Case<'_>) -> Option<Finding> {
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
    let mut evidence = port_evidence(case);
    if case.destination.rate_now_per_second > 0.0 {
        evidence.push(format!(
            "a port comes free {} times a second; every connection beyond that is refused",
            figure(case.limit)
        ));
    }
    // Reuse helps if connect() chose these ports, and does nothing if bind() did.
    let perhaps = case.destination.pool == Pool::Unknown && case.reuse_is_on();
    if perhaps {
        evidence.push(
            "tcp_tw_reuse is on: if connect() chose these ports it can take over those in TIME_WAIT; if bind() did, \
             it cannot. Which of them chose cannot be told from a full range"
                .to_owned(),
        );
    }
    let severity = if perhaps { Severity::Warning } else { Severity::Critical };
    Some(case.finding("ports-exhausted", severity, summary, evidence))
}
