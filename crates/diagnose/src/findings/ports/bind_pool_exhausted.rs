//! `bind-pool-exhausted`: bind(address, port 0) finds no port that no connection of the address holds: EADDRINUSE.

use tidewait_model::report::{Pool, Severity};

use super::{Case, Found, count, evidence};
use crate::Kind;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "bind-pool-exhausted",
    title: "bind() finds no port for a source address",
    means: "bind(address, port 0) before connect() fails with EADDRINUSE (98, \"Address already in use\"), whatever the destination: \
            it needs a port that no connection of the address holds.",
    told_by: "The ports of the source address have the parity that bind() prefers, or no port is used twice; and all are held.",
    causes: &["a proxy with a fixed source address that binds it without IP_BIND_ADDRESS_NO_PORT"],
    severity: "critical: connections from this source address fail now.",
    scenario: "bind-pool-exhausted",
    see_also: &["two-pools", "IP_BIND_ADDRESS_NO_PORT", "net.ipv4.ip_autobind_reuse"],
    sources: &["net/ipv4/inet_connection_sock.c inet_csk_find_open_port (6.18)"],
};

pub(super) fn check(case: &Case<'_>) -> Option<Found> {
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
    let mut evidence = evidence(case);
    evidence.push(
        "bind(address, port 0) before connect() needs a port that is free for every destination; connect() alone needs \
         one that is free for this destination"
            .to_owned(),
    );
    Some(case.finding(&KIND, Severity::Critical, summary, evidence))
}
