//! `ports-exhausted`: connect() finds no local port for a destination and fails with EADDRNOTAVAIL.

use tidewait_model::report::{Finding, Pool, Severity};

use super::{Case, count, figure, port_evidence};

pub(super) fn check(case: &Case<'_>) -> Option<Finding> {
    if case.destination.pool == Pool::Bind || !case.exhausted() {
        return None;
    }
    let left = case.usable.saturating_sub(case.in_the_way());
    let summary = if left == 0 {
        format!(
            "no local port is left for {}: connect() fails with EADDRNOTAVAIL (\"Cannot assign requested address\")",
            case.subject()
        )
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
    Some(case.finding("ports-exhausted", Severity::Critical, summary, evidence))
}
