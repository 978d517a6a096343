//! `bind-pool-exhausted`: bind(address, port 0) finds no port that no connection of the address holds: EADDRINUSE.

use tidewait_model::report::{Pool, Severity};

use super::refusals::OWN_RANGE;
use super::{Case, Found, count, evidence};
use crate::Kind;
use crate::findings::words::who;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "bind-pool-exhausted",
    title: "bind() finds no port for a source address",
    means: "bind(address, port 0) before connect() fails with EADDRINUSE (98, \"Address already in use\"), whatever the destination: \
            it needs a port that no connection of the address holds.",
    told_by: "The ports of the source address have the parity that bind() prefers, or no port is used twice; and \
              all are held. Or, while traced, bind(address, port 0) was seen to find none.",
    causes: &[
        "a proxy with a fixed source address that binds it without IP_BIND_ADDRESS_NO_PORT",
        "another program's connections from the same address: those of connect() hold ports too",
    ],
    severity: "critical: connections from this source address fail now.",
    scenario: "bind-pool-exhausted",
    see_also: &["two-pools", "IP_BIND_ADDRESS_NO_PORT", "net.ipv4.ip_autobind_reuse"],
    sources: &["net/ipv4/inet_connection_sock.c inet_csk_find_open_port (6.18)"],
};

/// Why bind() lacks ports where connect() would find one.
pub(super) const NEEDS: &str = "bind(address, port 0) before connect() needs a port that is free for every destination; connect() \
    alone needs one that is free for this destination";

pub(super) fn check(case: &Case<'_>) -> Option<Found> {
    let destination = case.destination;
    let refusal = case.refused_binds.as_ref();
    let full = case.exhausted();
    if refusal.is_none() && (destination.pool != Pool::Bind || !full) {
        return None;
    }
    let mut summary = format!(
        "the ports of {} that bind() chooses from are used up ({} of {}): bind() fails with EADDRINUSE (\"Address already \
         in use\"), whatever the destination",
        destination.source,
        count(destination.ports_used),
        count(case.usable)
    );
    let mut evidence = evidence(case);
    if let Some(refusal) = refusal.filter(|_| !full) {
        summary = format!(
            "bind() found no port for {} {} (EADDRINUSE, \"Address already in use\"), although {} of {} are free now",
            destination.source,
            refusal.often,
            count(case.free),
            count(case.usable)
        );
        evidence.push(OWN_RANGE.to_owned());
    }
    // Calls in vain tell who wants ports, not who holds them.
    let wants = refusal.and_then(|refusal| refusal.owner.as_ref());
    if let (true, Some(wants), Some(holds)) = (full, wants, case.owner())
        && (wants.pid, &wants.command) != (holds.pid, &holds.command)
    {
        evidence.push(format!("most of the ports are held by {}", who(holds)));
    }
    evidence.push(NEEDS.to_owned());
    let owner = refusal.map_or_else(|| case.owner(), |refusal| case.refused_owner(refusal));
    Some(case.finding(&KIND, Severity::Critical, summary, evidence).owner(owner))
}
