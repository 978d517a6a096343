//! Which side opened a connection: the question whether its local port was chosen for it, from the automatic range or by
//! `tidewait steer`.

use std::path::Path;

use foldhash::{HashMap, HashSet};
use tidewait_model::steer::Holder;
use tidewait_model::{Endpoint, PortRange, PortSet, Settings, State};

use crate::procfs;

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

/// The ports of a namespace that are chosen for connect().
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// The automatic range, where it is known.
    pub range: Option<PortRange>,
    /// Those that are steered, inside of it or outside.
    pub steered: PortSet,
}

impl Ports {
    /// Where nobody steers.
    pub fn of(range: Option<PortRange>) -> Ports {
        Ports { range, steered: PortSet::default() }
    }

    /// Those of the calling thread's namespace.
    pub(crate) fn in_this_namespace(root: &Path, settings: &Settings) -> Ports {
        let (steered, _) = procfs::steered(root);
        Ports { range: settings.port_range(), steered: Holder::ports(&steered) }
    }

    fn contain(&self, port: u16) -> bool {
        self.range.unwrap_or(STOCK).contains(port) || self.steered.contains(port)
    }

    /// Whether the peer most likely opened the connection, by the ports alone: it has one that is chosen for connect(), and this
    /// side has none. The peer's range is not known; it is stock, or like ours.
    pub(crate) fn came_in(&self, local: u16, remote: u16) -> bool {
        !self.contain(local) && (self.contain(remote) || STOCK.contains(remote))
    }

    /// All of them; some twice.
    #[cfg(feature = "bpf")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let range = self.range.unwrap_or(STOCK);
        (range.low..=range.high).chain(self.steered.iter())
    }
}

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
    /// A listener decides. Without one: a client is in SYN_SENT or has a port that is chosen for connect(); a
    /// half-open connection came in; and where the remote port is a client's and the local one is not, the
    /// listener has closed in the meantime.
    pub(crate) fn direction(
        &self,
        state: State,
        local: Endpoint,
        remote: Endpoint,
        ports: &Ports,
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
        let half_open = matches!(state, State::NewSynRecv | State::SynRecv);
        if half_open || ports.came_in(local.port, remote.port) {
            Direction::Incoming(local)
        } else {
            Direction::Outgoing
        }
    }
}
