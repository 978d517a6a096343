//! Folds the rows of a dump into the census of a namespace as they arrive; no list of sockets is kept.
//!
//! Memory is bounded whatever the machine holds: a destination is a short list of packed numbers until it is
//! big, then a bitmap; past `DESTINATIONS` of them the smallest are folded together, and the census says how
//! much any other can have lost by that (lossy counting).

pub mod direction;
mod holding;
pub(crate) mod joined;
mod repeats;

use std::collections::hash_map::Entry;

use foldhash::HashMap;
use foldhash::HashMapExt;
use tidewait_model::address::Address;
use tidewait_model::census::Folded;
use tidewait_model::trace::Births;
use tidewait_model::{
    Census, Destination, Endpoint, Incoming, Listener, Occupancy, PortSet, Source, State, StateCounts,
};

use crate::sock_diag::{Row, Timer};
use direction::{Direction, Listeners, Ports};
use holding::{Holding, Packed};
use joined::Join;
pub use joined::Window;
pub(crate) use repeats::Repeats;

/// Destinations kept one by one; 7/8 of a power of two, where the hash table would next double.
const DESTINATIONS: usize = 28_672;
/// Source addresses kept one by one.
const SOURCES: usize = 256;
/// Services kept one by one.
const SERVICES: usize = 16_384;
/// A destination that holds less than this share of the range says by its ports' parity who chose them.
const PARITY_SHARE: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Address,
    peer: Endpoint,
}

#[derive(Default)]
struct Service {
    listening: bool,
    states: StateCounts,
    expiring: Vec<u32>,
}

/// The fold. One for each namespace and each attempt: a dump that had to be begun again needs an empty one.
pub struct Builder<'a> {
    ports: Ports,
    states: StateCounts,
    listeners: Listeners,
    listening: HashMap<Endpoint, Listener>,
    bound: PortSet,
    destinations: HashMap<Key, Holding>,
    sources: HashMap<Address, Occupancy>,
    sources_folded: u64,
    services: HashMap<Endpoint, Service>,
    folded: Folded,
    repeats: Repeats,
    repeated: u64,
    unknown_states: u64,
    join: Option<Join<'a>>,
}

impl<'a> Builder<'a> {
    /// An empty fold for a namespace in which `ports` are chosen for connect().
    pub fn new(ports: Ports) -> Builder<'a> {
        Builder {
            ports,
            states: StateCounts::default(),
            listeners: Listeners::default(),
            listening: HashMap::new(),
            bound: PortSet::bitmap(),
            destinations: HashMap::new(),
            sources: HashMap::new(),
            sources_folded: 0,
            services: HashMap::new(),
            folded: Folded::default(),
            repeats: Repeats::default(),
            repeated: 0,
            unknown_states: 0,
            join: None,
        }
    }

    /// The same fold, which also finds whose the sockets in TIME_WAIT were.
    #[must_use]
    pub fn traced(mut self, window: Window<'a>) -> Builder<'a> {
        self.join = Some(Join::new(window));
        self
    }

    /// The sockets in TIME_WAIT until now that were born while it was traced.
    pub fn births(&self) -> Births {
        self.join.as_ref().map(|join| join.births).unwrap_or_default()
    }

    /// Counts one socket. Listeners of a family have to come before its other sockets, as they do in a dump.
    pub fn add(&mut self, row: &Row<'_>) {
        if self.repeats.is_repeated(row.cookie()) {
            self.repeated += 1;
            return;
        }
        let Some(state) = row.state() else {
            self.unknown_states += 1;
            return;
        };
        self.states.add(state, 1);
        let local = row.local();
        match state {
            State::Listen => {
                self.bound.insert(local.port);
                self.listeners.add(local);
                self.listen(local, row);
                self.service(local).listening = true;
            }
            State::BoundInactive => {
                self.bound.insert(local.port);
            }
            _ => self.connection(state, local, row),
        }
    }

    /// Counts a listening socket: its row tells the length of the accept queue, and how long it may get, in the
    /// places of the two byte counts (tcp_diag.c `tcp_diag_get_info`).
    fn listen(&mut self, local: Endpoint, row: &Row<'_>) {
        let (queue, limit) = (row.receive_queue(), row.send_queue());
        let listener = self.listening.entry(local).or_insert_with(|| Listener {
            local,
            sockets: 0,
            full: 0,
            queue,
            limit,
            still_full: None,
            owners: Vec::new(),
        });
        listener.sockets += 1;
        listener.full += u32::from(queue > limit);
        // The fullest of them is the one to tell of: by how far it is from its limit.
        if i64::from(limit) - i64::from(queue) < i64::from(listener.limit) - i64::from(listener.queue) {
            (listener.queue, listener.limit) = (queue, limit);
        }
    }

    fn connection(&mut self, state: State, local: Endpoint, row: &Row<'_>) {
        let remote = row.remote();
        let seconds_left = match row.timer() {
            Timer::TimeWait(ms) if state == State::TimeWait => Some(ms / 1_000),
            _ => None,
        };
        let birth = self.join.as_mut().and_then(|join| join.birth(row));
        match self.listeners.direction(state, local, remote, &self.ports) {
            Direction::Incoming(service) => {
                self.bound.insert(service.port);
                let kept = self.service(service);
                kept.states.add(state, 1);
                if let Some(seconds) = seconds_left {
                    holding::expire(&mut kept.expiring, seconds, 1);
                }
                if let Some((join, owner)) = self.join.as_mut().zip(birth)
                    && self.services.contains_key(&service)
                {
                    join.services.entry(service).or_default().add(owner);
                }
            }
            Direction::Outgoing => {
                let packed = Packed::new(local.port, state, seconds_left);
                let key = Key { source: local.address, peer: remote };
                self.hold(key, packed);
                if let Some((join, owner)) = self.join.as_mut().zip(birth) {
                    join.destinations.entry(key).or_default().add(owner);
                }
                self.hold_source(local.address, packed);
            }
        }
    }

    fn service(&mut self, local: Endpoint) -> &mut Service {
        // Beyond the bound every further service is counted with those of its port, then with port 0.
        let full = self.services.len() >= SERVICES && !self.services.contains_key(&local);
        let key = if full { Endpoint { address: unspecified(), port: 0 } } else { local };
        self.services.entry(key).or_default()
    }

    fn hold(&mut self, key: Key, packed: Packed) {
        if self.destinations.len() >= DESTINATIONS && !self.destinations.contains_key(&key) {
            self.fold_smallest();
        }
        match self.destinations.entry(key) {
            Entry::Occupied(entry) => entry.into_mut().add(packed),
            Entry::Vacant(entry) => entry.insert(Holding::default()).add(packed),
        }
    }

    fn hold_source(&mut self, address: Address, packed: Packed) {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&address) {
            self.sources_folded += 1;
            return;
        }
        let source = self
            .sources
            .entry(address)
            .or_insert_with(|| Occupancy { ports: PortSet::bitmap(), ..Occupancy::default() });
        packed.count_into(source);
    }

    /// Folds the smallest destinations, at least half of all, into one count.
    fn fold_smallest(&mut self) {
        let mut sizes: Vec<u64> = self.destinations.values().map(Holding::sockets).collect();
        let middle = sizes.len() / 2;
        let (_, threshold, _) = sizes.select_nth_unstable(middle);
        let threshold = *threshold;
        let folded = &mut self.folded;
        self.destinations.retain(|_, holding| {
            let keep = holding.sockets() > threshold;
            if !keep {
                folded.entries += 1;
                folded.states += holding.states();
            }
            keep
        });
        folded.missing_at_most += threshold;
        if let Some(join) = &mut self.join {
            join.destinations.retain(|key, _| self.destinations.contains_key(key));
        }
    }

    /// The census. At most `keep` destinations are listed, and beside them all that hold an eighth of the
    /// automatic range or more.
    pub fn finish(mut self, keep: usize) -> Census {
        self.reclassify_closed_services();
        let parity = self.parity_by_source();
        let mut per_source: HashMap<Address, u64> = HashMap::new();
        for key in self.destinations.keys() {
            *per_source.entry(key.source).or_default() += 1;
        }
        let mut sources: Vec<Source> = self
            .sources
            .into_iter()
            .map(|(address, occupancy)| Source {
                address,
                occupancy,
                destinations: per_source.get(&address).copied().unwrap_or(0),
                parity: parity.get(&address).copied().unwrap_or_default(),
            })
            .collect();
        sources.sort_by_key(|source| (std::cmp::Reverse(source.occupancy.ports.len()), source.address));

        let mut holdings: Vec<(Key, Holding)> = self.destinations.into_iter().collect();
        let count = holdings.len();
        holdings.sort_by_key(|(key, holding)| (std::cmp::Reverse(holding.sockets()), key.peer, key.source));
        let eighth = self.ports.range.map_or(u64::MAX, |range| u64::from(range.size()) / 8);
        let kept = holdings.iter().skip(keep).take_while(|(_, holding)| holding.sockets() >= eighth).count();
        holdings.truncate(keep.saturating_add(kept));
        let join = self.join;
        let join = join.as_ref();
        let whose = |key: &Key, waiting| {
            join.and_then(|join| Some(join.owners(join.destinations.get(key)?, waiting))).unwrap_or_default()
        };
        let closers = |local: &Endpoint, waiting| {
            join.and_then(|join| Some(join.owners(join.services.get(local)?, waiting))).unwrap_or_default()
        };
        let destinations: Vec<Destination> = holdings
            .into_iter()
            .map(|(key, holding)| {
                let occupancy = holding.into_occupancy();
                let (owners, births) = whose(&key, occupancy.states[State::TimeWait]);
                let Key { source, peer } = key;
                Destination { source, peer, owners, occupancy, peer_timestamps: None, births }
            })
            .collect();

        let mut incoming: Vec<Incoming> = self
            .services
            .into_iter()
            .filter(|(_, service)| service.states.total() > 0)
            .map(|(local, service)| {
                let (owners, births) = closers(&local, service.states[State::TimeWait]);
                let Service { listening, states, expiring } = service;
                Incoming { local, listening, states, expiring, owners, births }
            })
            .collect();
        incoming.sort_by_key(|service| (std::cmp::Reverse(service.states.total()), service.local));
        let mut listeners: Vec<Listener> = self.listening.into_values().collect();
        listeners
            .sort_by_key(|listener| (std::cmp::Reverse((listener.full, listener.queue)), listener.local));
        Census {
            states: self.states,
            unlisted: (count - destinations.len()) as u64,
            destinations,
            sources,
            incoming,
            listeners,
            bound: self.bound,
            folded: self.folded,
            sources_folded: self.sources_folded,
            repeated: self.repeated,
            unknown_states: self.unknown_states,
        }
    }

    /// A listener that has just closed leaves its connections behind. Where its port lies in the automatic
    /// range they look outgoing: many remote ports, one local port. A client would use many local ports.
    fn reclassify_closed_services(&mut self) {
        let mut by_port: HashMap<u16, u32> = HashMap::new();
        for holding in self.destinations.values() {
            if let Some(port) = holding.only_port() {
                *by_port.entry(port).or_default() += 1;
            }
        }
        let singles: u32 = by_port.values().sum();
        let Ok(ports) = u32::try_from(by_port.len().max(1)) else { return };
        // A client's ports are spread evenly: one that stands 16 times above the mean is no client's.
        let usual = (singles / ports).max(4);
        by_port.retain(|_, count| *count >= usual * 16);
        if by_port.is_empty() {
            return;
        }
        let mut moved: Vec<(Key, Holding)> = Vec::new();
        self.destinations.retain(|key, holding| {
            let stays = holding.only_port().is_none_or(|port| !by_port.contains_key(&port));
            if !stays {
                moved.push((*key, std::mem::take(holding)));
            }
            stays
        });
        for (key, holding) in moved {
            let Some(port) = holding.only_port() else { continue };
            let occupancy = holding.into_occupancy();
            self.bound.insert(port);
            if let Some(source) = self.sources.get_mut(&key.source) {
                source.release(&occupancy);
            }
            let service = Endpoint { address: key.source, port };
            if let Some(join) = &mut self.join
                && let Some(share) = join.destinations.remove(&key)
            {
                join.services.entry(service).or_default().merge(share);
            }
            let service = self.service(service);
            service.states += occupancy.states;
            for (second, count) in occupancy.expiring.iter().enumerate() {
                holding::expire(&mut service.expiring, u32::try_from(second).unwrap_or(u32::MAX), *count);
            }
        }
    }

    fn parity_by_source(&self) -> HashMap<Address, [u64; 2]> {
        let mut parity: HashMap<Address, [u64; 2]> = HashMap::new();
        let Some(range) = self.ports.range else { return parity };
        let telling = u64::from(range.size() / PARITY_SHARE);
        for (key, holding) in &self.destinations {
            if holding.sockets() < telling.max(1) {
                let counts = parity.entry(key.source).or_default();
                holding.each_port(|port| {
                    // Steering chooses by lot.
                    if range.contains(port) && !self.ports.steered.contains(port) {
                        counts[usize::from(port % 2 != range.low % 2)] += 1;
                    }
                });
            }
        }
        parity
    }
}

fn unspecified() -> Address {
    Address::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0)
}

#[cfg(test)]
mod tests;
