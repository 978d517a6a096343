//! Which side opened a connection: the question whether its local port was taken from the automatic range.

use foldhash::{HashMap, HashSet};
use tidewait_model::{Endpoint, PortRange, State};

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// This side: the local port was chosen for it.
    Outgoing,
    /// The other side, to this local endpoint.
    Incoming(Endpoint),
}

/// The stock range, to tell client ports from service ports where the namespace's own is not known.
const STOCK: PortRange = PortRange { low: 32_768, high: 60_999 };

/// The listening endpoints seen so far.
#[derive(Default)]
pub(crate) struct Listeners {
    /// Ports that something listens on at every address, with the endpoint to name for them.
    anywhere: HashMap<u16, Endpoint>,
    /// Addresses and ports that something listens on.
    exact: HashSet<Endpoint>,
}

impl Listeners {
    pub(crate) fn add(&mut self, local: Endpoint) {
        if local.address.is_unspecified() {
            self.anywhere.entry(local.port).or_insert(local);
        } else {
            self.exact.insert(local);
        }
    }

    /// Which side opened the connection.
    ///
    /// A listener decides. Without one: a client is in SYN_SENT or has a port of the automatic range; a
    /// half-open connection came in; and where the remote port is a client's and the local one is not, the
    /// listener has closed in the meantime.
    pub(crate) fn direction(
        &self,
        state: State,
        local: Endpoint,
        remote: Endpoint,
        range: Option<PortRange>,
    ) -> Direction {
        if state == State::SynSent {
            return Direction::Outgoing;
        }
        if self.exact.contains(&local) {
            return Direction::Incoming(local);
        }
        if let Some(wildcard) = self.anywhere.get(&local.port) {
            return Direction::Incoming(*wildcard);
        }
        let range = range.unwrap_or(STOCK);
        let half_open = matches!(state, State::NewSynRecv | State::SynRecv);
        // The peer's range is not known; a client elsewhere most likely has a stock port or one of ours.
        let from_client = range.contains(remote.port) || STOCK.contains(remote.port);
        if half_open || (!range.contains(local.port) && from_client) {
            Direction::Incoming(local)
        } else {
            Direction::Outgoing
        }
    }
}
