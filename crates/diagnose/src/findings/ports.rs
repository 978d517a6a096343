//! Local ports: too few for a destination, or for a source address whose ports bind() chooses.

mod bind_pool_exhausted;
mod port_search_cliff;
mod ports_exhausted;
mod ports_running_out;
mod remedies;

use tidewait_model::State;
use tidewait_model::report::{Destination, Pool, Severity};

use super::view::{Found, Ties, View};
use super::words::{count, figure, pool_word};
use crate::Kind;

/// The kinds that are found here.
pub(super) const KINDS: [&Kind; 4] =
    [&ports_exhausted::KIND, &ports_running_out::KIND, &bind_pool_exhausted::KIND, &port_search_cliff::KIND];

/// A destination that is looked at, and where it lies.
struct Case<'a> {
    view: &'a View<'a>,
    destination: &'a Destination,
    usable: u32,
    free: u32,
    limit: f64,
}

impl Case<'_> {
    /// Ports that stand in the way of a new connection: all used ones but those that may be taken over.
    fn in_the_way(&self) -> u32 {
        self.destination.ports_used.saturating_sub(self.destination.reusable)
    }

    /// Whether no port is left, or so few that only the one that has just been let go is found.
    fn exhausted(&self) -> bool {
        let left = self.usable.saturating_sub(self.in_the_way());
        // A full range under load always shows the few ports whose TIME_WAIT ended while it was dumped.
        let let_go = self.limit / 10.0;
        self.usable > 0
            && (left == 0 || (f64::from(left) <= let_go && f64::from(left) * 200.0 <= f64::from(self.usable)))
    }

    /// Whether net.ipv4.tcp_tw_reuse lets connect() take over TIME_WAIT everywhere.
    fn reuse_is_on(&self) -> bool {
        self.view.number("net.ipv4.tcp_tw_reuse") == Some(1)
    }

    /// Whether the peer sends timestamps, as seen on a live connection.
    fn peer_timestamps(&self) -> Option<bool> {
        let row = self.destination;
        let seen = self.view.facts.census.destinations.iter();
        seen.filter(|seen| seen.source.to_string() == row.source && seen.peer.to_string() == row.destination)
            .find_map(|seen| seen.peer_timestamps)
    }

    /// Whether most of its ports wait in TIME_WAIT, rather than being in use.
    fn mostly_closed(&self) -> bool {
        self.destination.states[State::TimeWait] * 2 >= self.destination.states.total()
    }

    fn subject(&self) -> String {
        match self.destination.destination.as_str() {
            "*" => format!("{} -> any destination", self.destination.source),
            peer => format!("{} -> {peer}", self.destination.source),
        }
    }

    fn finding(&self, kind: &Kind, severity: Severity, summary: String, evidence: Vec<String>) -> Found {
        let destination = self.destination;
        self.view
            .found(kind, severity, self.subject(), summary)
            .evidence(evidence)
            .owner(destination.owners.first())
            .remedies(remedies::for_ports(self))
            .no_help(remedies::no_help(self))
            .ties(Ties {
                states: destination.states,
                used: u64::from(destination.ports_used),
                ..Ties::default()
            })
    }
}

/// A destination gives the worst that is so, not three names for one thing.
pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let mut findings = Vec::new();
    let mut bind_pools = Vec::new();
    for destination in &view.namespace.destinations {
        let (Some(usable), Some(free), Some(limit)) =
            (destination.ports_usable, destination.ports_free, destination.limit_per_second)
        else {
            continue;
        };
        // The pool of the source says it for every destination of it.
        if destination.pool == Pool::Bind && bind_pools.contains(&&destination.source) {
            continue;
        }
        let case = Case { view, destination, usable, free, limit };
        let finding = bind_pool_exhausted::check(&case)
            .or_else(|| ports_exhausted::check(&case))
            .or_else(|| ports_running_out::check(&case))
            .or_else(|| port_search_cliff::check(&case));
        if let Some(finding) = finding {
            if destination.pool == Pool::Bind {
                bind_pools.push(&destination.source);
            }
            findings.push(finding);
        }
    }
    findings
}

/// The sentences about ports and rates that every port finding rests on.
fn evidence(case: &Case<'_>) -> Vec<String> {
    let destination = case.destination;
    let mut evidence = vec![format!(
        "{} of {} usable ports are in use ({:.0} %), {} free",
        count(destination.ports_used),
        count(case.usable),
        destination.fill.unwrap_or(0.0) * 100.0,
        count(case.free)
    )];
    let states: Vec<String> = destination
        .states
        .iter()
        .filter(|(_, sockets)| *sockets > 0)
        .map(|(state, sockets)| format!("{} {}", count(sockets), state.title()))
        .collect();
    evidence.push(states.join(", "));
    let closed = destination.states[State::TimeWait];
    if closed > 0 {
        evidence.push(format!(
            "{} connections closed here in the last {} s, {} a second now; the ports carry {} a second",
            count(closed),
            case.view.namespace.time_wait_seconds,
            figure(destination.rate_now_per_second),
            figure(case.limit)
        ));
    }
    if destination.pool != Pool::Unknown {
        evidence.push(format!("ports chosen by {} ({})", pool_word(destination.pool), destination.pool_how));
    }
    evidence
}
