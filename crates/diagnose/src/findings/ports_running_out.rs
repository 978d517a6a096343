//! `ports-running-out`: at the present rate a destination has no local port left within a TIME_WAIT's time.

use tidewait_model::report::{Finding, Severity};

use super::{Case, figure, pool_word, port_evidence};

pub(super) fn check(case: &Case<'_>) -> Option<Finding> {
    let seconds = case.destination.seconds_to_exhaustion?;
    let summary = format!(
        "{} runs out of local ports in {} s: {} connections a second, the ports carry {} (chosen by {})",
        case.subject(),
        figure(seconds),
        figure(case.destination.rate_now_per_second),
        figure(case.limit),
        pool_word(case.destination.pool)
    );
    Some(case.finding("ports-running-out", Severity::Critical, summary, port_evidence(case)))
}
