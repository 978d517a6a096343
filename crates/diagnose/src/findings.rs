//! What is wrong or about to be: one file a finding, each with its check and its words.

mod bind_pool_exhausted;
mod port_search_cliff;
mod ports_exhausted;
mod ports_running_out;
mod remedies;

use crate::Kind;
use tidewait_model::report::{Destination, Finding, Namespace, Pool, Severity};
use tidewait_model::{NamespaceFacts, State};

/// Every kind of finding, those of local ports first.
pub const KINDS: &[Kind] =
    &[ports_exhausted::KIND, ports_running_out::KIND, port_search_cliff::KIND, bind_pool_exhausted::KIND];

/// A destination that is looked at, and where it lies.
pub(crate) struct Case<'a> {
    pub(crate) facts: &'a NamespaceFacts,
    pub(crate) namespace: &'a Namespace,
    pub(crate) destination: &'a Destination,
    pub(crate) usable: u32,
    pub(crate) free: u32,
    pub(crate) limit: f64,
}

impl Case<'_> {
    /// Ports that stand in the way of a new connection: all used ones but those that may be taken over.
    pub(crate) fn in_the_way(&self) -> u32 {
        self.destination.ports_used.saturating_sub(self.destination.reusable)
    }

    /// Whether no port is left, or so few that only the one that has just been let go is found.
    pub(crate) fn exhausted(&self) -> bool {
        let left = self.usable.saturating_sub(self.in_the_way());
        // A full range under load always shows the few ports whose TIME_WAIT ended while it was dumped.
        let let_go = self.limit / 10.0;
        self.usable > 0
            && (left == 0 || (f64::from(left) <= let_go && f64::from(left) * 200.0 <= f64::from(self.usable)))
    }

    /// Whether net.ipv4.tcp_tw_reuse lets connect() take over TIME_WAIT everywhere.
    pub(crate) fn reuse_is_on(&self) -> bool {
        self.facts.settings.number("net.ipv4.tcp_tw_reuse") == Some(1)
    }

    pub(crate) fn subject(&self) -> String {
        match self.destination.destination.as_str() {
            "*" => format!("{} -> any destination", self.destination.source),
            peer => format!("{} -> {peer}", self.destination.source),
        }
    }

    pub(crate) fn finding(
        &self,
        id: &str,
        severity: Severity,
        summary: String,
        evidence: Vec<String>,
    ) -> Finding {
        Finding {
            id: id.to_owned(),
            severity,
            namespace: self.namespace.name.clone(),
            subject: self.subject(),
            summary,
            evidence,
            owner: self.destination.owners.first().cloned(),
            since: None,
            remedies: remedies::for_ports(self),
            no_help: remedies::no_help(self),
            consequences: Vec::new(),
        }
    }
}

/// The findings of a namespace. A destination gives the worst that is so, not three names for one thing.
pub(crate) fn find(facts: &NamespaceFacts, namespace: &Namespace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bind_pools = Vec::new();
    for destination in &namespace.destinations {
        let (Some(usable), Some(free), Some(limit)) =
            (destination.ports_usable, destination.ports_free, destination.limit_per_second)
        else {
            continue;
        };
        // The pool of the source says it for every destination of it.
        if destination.pool == Pool::Bind && bind_pools.contains(&&destination.source) {
            continue;
        }
        let case = Case { facts, namespace, destination, usable, free, limit };
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

/// A count with its thousands set apart.
pub(crate) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or a number of seconds, rounded down to whole numbers, small ones with a tenth: what the ports carry
/// is never said to be more than it is.
pub(crate) fn figure(value: f64) -> String {
    if value < 10.0 && value.fract() >= 0.05 { format!("{value:.1}") } else { count(value.max(0.0) as u64) }
}

/// The sentences about ports and rates that every port finding rests on.
pub(crate) fn port_evidence(case: &Case<'_>) -> Vec<String> {
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
            case.namespace.time_wait_seconds,
            figure(destination.rate_now_per_second),
            figure(case.limit)
        ));
    }
    if destination.pool != Pool::Unknown {
        evidence.push(format!("ports chosen by {} ({})", pool_word(destination.pool), destination.pool_how));
    }
    evidence
}

/// The call that chose the ports of a pool.
pub(crate) fn pool_word(pool: Pool) -> &'static str {
    match pool {
        Pool::Connect => "connect()",
        Pool::Bind => "bind()",
        Pool::Unknown => "an unknown way",
    }
}
