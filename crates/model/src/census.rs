//! The census of one network namespace: what a dump of its sockets adds up to.
//!
//! It answers the questions that matter for ports: which local ports each destination holds, in which
//! states, and when the sockets in TIME_WAIT let go of them. Sockets themselves are not kept.

use crate::address::{Address, Endpoint};
use crate::observation::Owner;
use crate::ports::PortSet;
use crate::state::StateCounts;
use crate::trace::Births;

/// What holds ports: the sockets of one destination, or of one source address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// The sockets by state.
    pub states: StateCounts,
    /// Their local ports, each once, whether inside the automatic range or not.
    pub ports: PortSet,
    /// Sockets in TIME_WAIT by whole seconds left: `expiring[0]` let go within the next second.
    pub expiring: Vec<u32>,
}

impl Occupancy {
    /// Takes out what `other` holds, as far as it was counted here.
    pub fn release(&mut self, other: &Occupancy) {
        self.states -= other.states;
        self.ports.subtract(&other.ports);
        for (mine, theirs) in self.expiring.iter_mut().zip(&other.expiring) {
            *mine = mine.saturating_sub(*theirs);
        }
    }

    /// Adds what `other` holds. Ports that both hold count once.
    pub fn merge(&mut self, other: &Occupancy) {
        self.states += other.states;
        self.ports.union(&other.ports);
        if self.expiring.len() < other.expiring.len() {
            self.expiring.resize(other.expiring.len(), 0);
        }
        for (mine, theirs) in self.expiring.iter_mut().zip(&other.expiring) {
            *mine += theirs;
        }
    }
}

/// Outgoing connections from one local address to one remote address and port. This is the scope in which
/// connect() needs a local port of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The local address.
    pub source: Address,
    /// The remote address and port.
    pub peer: Endpoint,
    /// What it holds.
    pub occupancy: Occupancy,
    /// Who it belongs to, where that was asked for and could be found.
    pub owners: Vec<Owner>,
    /// Whether the peer sends TCP timestamps (RFC 7323), as seen on a live connection; `None` if there was
    /// none to look at. tcp_tw_reuse works only where it does.
    pub peer_timestamps: Option<bool>,
    /// Its sockets in TIME_WAIT from while it was traced: what traced owners are owners of.
    pub births: Births,
}

/// All outgoing connections of one local address. This is the scope in which bind(address, port 0) needs a
/// port of its own: one that no connection of that address holds, whatever its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The local address.
    pub address: Address,
    /// What all its outgoing connections hold.
    pub occupancy: Occupancy,
    /// Different destinations, those that were folded left out.
    pub destinations: u64,
    /// Sockets in the automatic range that went to destinations holding less than a third of it, by the
    /// parity of their port: `[parity of the range's first port, the other]`. connect() tries the first
    /// parity first, bind() the other, so this tells which of the two chose (net/ipv4/inet_hashtables.c
    /// `__inet_hash_connect`, inet_connection_sock.c `inet_csk_find_open_port`).
    pub parity: [u64; 2],
}

/// Connections that came in to one local endpoint. Those in TIME_WAIT cost memory, but no local port.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The listening endpoint (its address may be 0.0.0.0 or ::), or the local endpoint where no listener
    /// was seen any more.
    pub local: Endpoint,
    /// Whether a listener was seen for it.
    pub listening: bool,
    /// Its connections by state, listeners not counted.
    pub states: StateCounts,
    /// Sockets in TIME_WAIT by whole seconds left.
    pub expiring: Vec<u32>,
    /// Who listens, where that was asked for and could be found.
    pub owners: Vec<Owner>,
    /// Its sockets in TIME_WAIT from while it was traced: what traced owners are owners of.
    pub births: Births,
}

/// What listens at one endpoint, and its accept queue.
///
/// With SO_REUSEPORT several sockets listen at one endpoint, each with a queue of its own; a connection goes to one of
/// them whether its queue has room or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The listening address and port.
    pub local: Endpoint,
    /// How many sockets listen there.
    pub sockets: u32,
    /// How many of them have a full accept queue: more connections wait than the limit says
    /// (include/net/sock.h `sk_acceptq_is_full`).
    pub full: u32,
    /// Connections that wait to be accepted, in the fullest of the queues.
    pub queue: u32,
    /// How many may wait in it: the backlog given to listen(), at most net.core.somaxconn at that time.
    pub limit: u32,
    /// How many of the sockets had a full queue when they were looked at again, a moment after one was found full; `None`
    /// where that was not done.
    pub still_full: Option<u32>,
    /// Who listens, where that was asked for and could be found.
    pub owners: Vec<Owner>,
}

/// Destinations that were too many and too small to be kept one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many entries were folded. A destination that came back counts again, so this is an upper bound.
    pub entries: u64,
    /// Their sockets by state.
    pub states: StateCounts,
    /// No destination that is still listed can have lost more sockets than this to folding.
    pub missing_at_most: u64,
}

/// What was counted in one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// All sockets by state.
    pub states: StateCounts,
    /// Outgoing connections by destination, most ports first.
    pub destinations: Vec<Destination>,
    /// The same sockets by local address, most ports first.
    pub sources: Vec<Source>,
    /// Incoming connections by local endpoint, most sockets first.
    pub incoming: Vec<Incoming>,
    /// Listening sockets by endpoint, those with the fullest accept queues first.
    pub listeners: Vec<Listener>,
    /// Ports that an explicit bind() or a listener is known to hold, on whatever local address: connect()
    /// does not choose them (`tb->fastreuse >= 0`, inet_hashtables.c).
    pub bound: PortSet,
    /// Destinations that were counted and are not listed, because many others hold more.
    pub unlisted: u64,
    /// Small destinations that were counted together.
    pub folded: Folded,
    /// Sockets of source addresses beyond the number that is kept one by one.
    pub sources_folded: u64,
    /// Rows that the dump gave twice, and that were counted once.
    pub repeated: u64,
    /// Sockets in a state that this program does not know.
    pub unknown_states: u64,
}
