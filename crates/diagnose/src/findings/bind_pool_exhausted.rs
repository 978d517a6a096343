//! `bind-pool-exhausted`: bind(address, port 0) finds no port that no connection of the address holds: EADDRINUSE.

use tidewait_model::report::{Finding, Pool, Severity};

use super::{Case, count, port_evidence};

pub(super) fn check(case: &Case<'_>) -> Option<Finding> {
    let destination = case.destination;
    if destination.pool != Pool::Bind || !case.exhausted() {
        return None;
    }
    let summary = format!(
        "the ports of {} that bind() chooses from are used up ({} of {}): bind() fails with EADDRINUSE (\"Address already \
         in use\"), whatever the destination",
        destination.source,
        count(destination.ports_used),
        count(case.usable)
    );
    let mut evidence = port_evidence(case);
    evidence.push(
        "bind(address, port 0) before connect() needs a port that is free for every destination; connect() alone needs \
         one that is free for this destination"
            .to_owned(),
    );
    Some(case.finding("bind-pool-exhausted", Severity::Critical, summary, evidence))
}
