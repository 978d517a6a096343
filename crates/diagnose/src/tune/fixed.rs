//! Ports that programs ask for by number, and that a wider port range would take in.

use tidewait_model::{Listener, PortRange, PortSet, Settings};

use super::Place;
use crate::findings::words::{count, who};

/// How many ports are named one by one.
const NAMED: usize = 4;

/// Ports in use that the automatic choice would begin to give out.
pub(super) struct Taken {
    pub(super) ports: PortSet,
    /// Who has them, as a clause: `nginx[7] listens on 20000`.
    pub(super) words: String,
}

/// What programs have asked for by number inside `range` and outside the present one, and nobody has reserved.
pub(super) fn taken(place: &Place<'_>, settings: &Settings, range: &str) -> Option<Taken> {
    let wanted = PortRange::parse(range)?;
    let present = settings.port_range()?;
    let reserved = settings.reserved();
    let new = |port: &u16| wanted.contains(*port) && !present.contains(*port) && !reserved.contains(*port);
    let census = &place.facts.census;
    let listening: PortSet =
        census.listeners.iter().map(|listener| listener.local.port).filter(new).collect();
    // A listener is among the bound ones too.
    let bound: PortSet = census.bound.iter().filter(new).filter(|port| !listening.contains(*port)).collect();
    let udp: PortSet = place.udp.iter().filter(new).collect();
    // The automatic choice gives none outside its range: whoever connects from there chose the port.
    let chosen: PortSet = census
        .destinations
        .iter()
        .flat_map(|row| row.occupancy.ports.iter())
        .filter(new)
        .filter(|port| !bound.contains(*port) && !listening.contains(*port))
        .collect();
    let mut ports = listening.clone();
    for others in [&bound, &udp, &chosen] {
        ports.union(others);
    }
    if ports.is_empty() {
        return None;
    }
    let listener = |port: u16| census.listeners.iter().find(|listener| listener.local.port == port);
    let mut parts = Vec::new();
    if let Some(first) = listening.iter().next() {
        let name = listener(first).and_then(owner).unwrap_or_else(|| "a program".to_owned());
        parts.push(match listening.len() {
            1 => format!("{name} listens on {first}"),
            number => format!("{} ports are listened on ({})", count(number), listed(&listening)),
        });
    }
    if !bound.is_empty() {
        parts.push(format!("connections are bound to {}", listed(&bound)));
    }
    if !chosen.is_empty() {
        parts.push(format!("connections go out from {}, which their program chose", listed(&chosen)));
    }
    if !udp.is_empty() {
        parts.push(format!("UDP has {}", listed(&udp)));
    }
    Some(Taken { ports, words: parts.join(", ") })
}

fn owner(listener: &Listener) -> Option<String> {
    listener.owners.first().map(who)
}

fn listed(ports: &PortSet) -> String {
    let mut named: Vec<String> = ports.iter().take(NAMED).map(|port| port.to_string()).collect();
    let more = ports.len() as usize - named.len();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}
