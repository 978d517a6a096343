//! Who holds the live sockets of what is listed, and whether the peers send timestamps.
//!
//! A second, smaller dump gives the inodes of live sockets (the kernel leaves out those in TIME_WAIT, which have
//! none), one pass over /proc finds the processes that have them open.

use std::collections::HashMap;
use std::time::Instant;

use tidewait_model::{Limit, Listener, NamespaceFacts, OwnerBasis, State, Timing};

use super::plan::Inuse;
use super::traced::are_traced;
use super::{Question, timing};
use crate::owners::{Holders, Search, holders, summarise};
use crate::places::Place;
use crate::sock_diag::{DumpError, Family, Netlink, Request, Row, Sockets};

/// Live sockets of a destination that are looked up; more would not tell more.
const SAMPLE: usize = 4_096;

/// What was learned of a destination's or a service's live sockets.
#[derive(Default)]
struct Live {
    inodes: Vec<u32>,
    more: bool,
    timestamps: Option<bool>,
}

impl Live {
    fn add(&mut self, row: &Row<'_>) {
        if let Some(info) = row.tcp_info()
            && row.state() == Some(State::Established)
        {
            self.timestamps = Some(info.timestamps || self.timestamps == Some(true));
        }
        if let Some(inode) = row.inode() {
            if self.inodes.len() < SAMPLE { self.inodes.push(inode) } else { self.more = true }
        }
    }
}

struct Found {
    destinations: Vec<Live>,
    services: Vec<Live>,
    listeners: Vec<Live>,
}

/// What owners are looked for, beside those of `sockets`.
pub(super) struct Wanted {
    /// Those of every destination that is listed.
    pub(super) destinations: bool,
    /// Those of listeners whose accept queue is not half full, too.
    pub(super) listeners: bool,
    /// The sockets whose holders are wanted anyway, and what else is looked for on the way.
    pub(super) search: Search,
}

/// Fills in the owners of what is listed. Returns who holds what, what could not be seen and what it cost.
pub(super) fn attribute(
    question: &Question,
    namespaces: &mut [(&Place, NamespaceFacts)],
    mut wanted: Wanted,
) -> (Holders, Vec<Limit>, Vec<Timing>) {
    let begin = Instant::now();
    let mut limits = Vec::new();
    let mut found = Vec::new();
    for (at, (place, facts)) in namespaces.iter().enumerate() {
        if facts.census.states.total() == 0 {
            continue;
        }
        match place.enter(|| live_sockets(question, facts, &wanted)) {
            Ok(Ok(live)) => found.push((at, live)),
            Ok(Err(error)) => {
                limits.push(
                    Limit::new(format!("{}: owners of its sockets", facts.name), error.to_string())
                        .of_detail(),
                );
            }
            Err(error) => limits.push(error.limit()),
        }
    }
    let live = found
        .iter()
        .flat_map(|(_, found)| [&found.destinations, &found.services, &found.listeners])
        .flatten()
        .flat_map(|live| live.inodes.iter().copied());
    wanted.search.wanted.extend(live);
    let mut timings = vec![timing("live sockets", begin, wanted.search.wanted.len() as u64)];
    let holders = holders(&question.root, &wanted.search);
    limits.extend(holders.limits.iter().cloned());
    timings.push(holders.timing());
    for (at, found) in found {
        let census = &mut namespaces[at].1.census;
        for (destination, live) in census.destinations.iter_mut().zip(found.destinations) {
            let how = if live.more { OwnerBasis::LiveSocketsSampled } else { OwnerBasis::LiveSockets };
            if !are_traced(&destination.owners) {
                destination.owners = summarise(&holders, live.inodes, how);
            }
            destination.peer_timestamps = live.timestamps;
        }
        for (service, live) in census.incoming.iter_mut().zip(found.services) {
            if !are_traced(&service.owners) {
                service.owners = summarise(&holders, live.inodes, OwnerBasis::ListeningSocket);
            }
        }
        for (listener, live) in census.listeners.iter_mut().zip(found.listeners) {
            listener.owners = summarise(&holders, live.inodes, OwnerBasis::ListeningSocket);
        }
    }
    (holders, limits, timings)
}

/// Whether the accept queue of a listener is more than half full.
pub(super) fn is_half_full(listener: &Listener) -> bool {
    listener.full > 0 || u64::from(listener.queue) * 2 > u64::from(listener.limit)
}

/// The live sockets of what is listed in `facts`, in the calling thread's namespace.
fn live_sockets(question: &Question, facts: &NamespaceFacts, wanted: &Wanted) -> Result<Found, DumpError> {
    let census = &facts.census;
    let mut found = Found {
        destinations: census.destinations.iter().map(|_| Live::default()).collect(),
        services: census.incoming.iter().map(|_| Live::default()).collect(),
        listeners: census.listeners.iter().map(|_| Live::default()).collect(),
    };
    let destinations: HashMap<_, _> =
        census.destinations.iter().enumerate().map(|(at, d)| ((d.source, d.peer), at)).collect();
    let services: HashMap<_, _> = census.incoming.iter().enumerate().map(|(at, s)| (s.local, at)).collect();
    let listeners: HashMap<_, _> = (census.listeners.iter().enumerate())
        .filter(|(_, listener)| wanted.listeners || is_half_full(listener))
        .map(|(at, listener)| (listener.local, at))
        .collect();
    // A walk through the table costs as much as a tenth of a dump even if it finds nothing: not without need.
    let connected = wanted.destinations
        && census.destinations.iter().any(|destination| destination.occupancy.states.live() > 0);
    let inuse = Inuse::from(&facts.counters);
    let mut netlink = Netlink::open()?;
    for (family, inuse) in [(Family::V4, inuse.v4), (Family::V6, inuse.v6)] {
        if inuse == Some(0) {
            continue;
        }
        netlink.dump(&Request::all(family).states([State::Listen]), &mut |row| {
            if let Some(at) = services.get(&row.local()) {
                found.services[*at].add(row);
            }
            if let Some(at) = listeners.get(&row.local()) {
                found.listeners[*at].add(row);
            }
        })?;
        if !connected {
            continue;
        }
        let live = Request::all(family)
            .states_except([State::TimeWait, State::Listen, State::BoundInactive, State::NewSynRecv])
            .to(question.to)
            .with_tcp_info();
        netlink.dump(&live, &mut |row| {
            if let Some(at) = destinations.get(&(row.local().address, row.remote())) {
                found.destinations[*at].add(row);
            }
        })?;
    }
    Ok(found)
}
