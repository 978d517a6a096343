//! `listener-in-port-range`: a service listens on a port that connect() would choose from.

use std::collections::BTreeMap;

use tidewait_model::PortSet;
use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, advice, setting};
use crate::findings::view::{Found, View};
use crate::findings::words::{count, listed, who};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "listener-in-port-range",
    title: "a service listens on a port of the automatic range",
    means: "connect() leaves the port out, for every destination and on every address. And when the service restarts, a connection \
            may have taken it: then bind() fails with EADDRINUSE.",
    told_by: "A listening port inside net.ipv4.ip_local_port_range that net.ipv4.ip_local_reserved_ports does not name. A service \
              that asked for any port (bind to port 0) looks the same, and will take another one next time.",
    causes: &[
        "a service with a port above the start of the range",
        "a range that was widened over the ports of services",
    ],
    severity: "a notice: one port less, and a restart that may fail.",
    scenario: "listener-in-port-range",
    see_also: &["net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range", "ports-exhausted"],
    sources: &["net/ipv4/inet_hashtables.c __inet_hash_connect (6.18)", "ip-sysctl: ip_local_reserved_ports"],
};

/// How many services are named.
const NAMED: usize = 5;

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let range = view.facts.settings.port_range()?;
    let reserved = view.facts.settings.reserved();
    let inside = view.facts.census.listeners.iter().filter(|listener| {
        let port = listener.local.port;
        range.contains(port) && !reserved.contains(port)
    });
    let by_port: BTreeMap<u16, String> = inside
        .map(|listener| {
            let owner = listener.owners.first().map(|owner| format!(" ({})", who(owner))).unwrap_or_default();
            (listener.local.port, format!("{}{owner}", listener.local))
        })
        .collect();
    let names: Vec<&String> = by_port.values().collect();
    let first = names.first()?;
    let ports: PortSet = by_port.keys().copied().collect();
    let number = ports.len();
    let summary = if number == 1 {
        format!(
            "{first} listens inside the automatic range {range}: connect() has one port less, and a connection may hold the \
             port when the service restarts"
        )
    } else {
        format!(
            "{} services listen inside the automatic range {range}: connect() has as many ports less, and connections may \
             hold theirs when they restart",
            count(number)
        )
    };
    let mut merged = reserved.clone();
    merged.union(&ports);
    let reserve = Step::new(
        "reserve-ports",
        format!("reserve {}: net.ipv4.ip_local_reserved_ports = {merged}", if number == 1 { "the port" } else { "the ports" }),
        "connect() and bind(port 0) leave them out also while the service is down; they are lost to connect() already",
    )
    .sets(view, [("net.ipv4.ip_local_reserved_ports", merged.to_string())])
    .risk("the setting is one list: the command keeps what is in it now; a service that takes any free port needs none of this");
    let subject = if number == 1 { (*first).clone() } else { format!("{} listening ports", count(number)) };
    Some(
        view.found(&KIND, Severity::Notice, subject, summary)
            .evidence([format!("listening: {}", listed(&names, NAMED, names.len()))])
            .remedies([Some(reserve)])
            .no_help([
                advice("SO_REUSEADDR in the service", "it shares a port with old connections of the service, not with one that connect() gave the port to"),
                setting(view, "net.ipv4.tcp_tw_reuse", "it is for connect(); the service calls bind()"),
            ]),
    )
}
