//! Watches what TIME_WAIT absorbs: every segment that arrives for a socket in TIME_WAIT, its kind and its age.
//!
//! The segments are counted in the kernel (`bpf/late.bpf.c`), in maps of fixed size, in one of two ways: at the entry of the
//! kernel's own function (fentry), or at the interfaces of the namespace (tc). The sockets, without which a count of
//! segments says little, are counted here from dumps some seconds apart (module `sockets`). Where BPF is missing,
//! [`Watch::start`] says why.

#[cfg(feature = "bpf")]
pub(crate) mod interfaces;
#[cfg(feature = "bpf")]
mod layout;
#[cfg(feature = "bpf")]
mod load;
#[cfg(feature = "bpf")]
mod sockets;
#[cfg_attr(feature = "bpf", path = "study/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "study/disabled.rs")]
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use tidewait_model::study::{Destination, Method, Seen};
use tidewait_model::{AddressFilter, Endpoint, Limit};

use crate::places::Place;

pub use watch::Watch;

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Root of the file system: `/`.
    pub root: PathBuf,
    /// The network namespace.
    pub place: Place,
    /// How; `None`: by fentry where the kernel allows it, else by tc.
    pub method: Option<Method>,
    /// Which connections.
    pub only: Selection,
    /// One of so many connections, chosen by a hash over addresses and ports; at least 1.
    pub sample: u32,
    /// How long TIME_WAIT lasts there.
    pub time_wait: Duration,
    /// How many destinations are told apart, at most.
    pub destinations: u32,
}

/// Which connections are meant: those that meet every condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The peer.
    pub to: Option<AddressFilter>,
    /// The local end.
    pub from: Option<AddressFilter>,
    /// The port at either end.
    pub port: Option<u16>,
}

impl Selection {
    /// Whether a connection is meant.
    pub fn passes(&self, local: Endpoint, remote: Endpoint) -> bool {
        let is = |filter: Option<AddressFilter>, end: Endpoint| {
            filter.is_none_or(|filter| {
                filter.ip == end.address.ip && filter.port.is_none_or(|port| port == end.port)
            })
        };
        is(self.to, remote)
            && is(self.from, local)
            && self.port.is_none_or(|port| port == local.port || port == remote.port)
    }
}

/// What was seen until now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// All destinations together.
    pub total: Seen,
    /// One entry a destination or service, the latest needed segment first.
    pub destinations: Vec<Destination>,
    /// TCP segments that were looked up; `None` where only those for TIME_WAIT are seen.
    pub looked_at: Option<u64>,
    /// Packets that could not be looked at: IP fragments, and headers that could not be read.
    pub not_looked_at: u64,
    /// Segments for orphans in FIN_WAIT2.
    pub fin_wait2: u64,
    /// What could not be seen.
    pub limits: Vec<Limit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Endpoint {
        let filter: AddressFilter = text.parse().unwrap();
        Endpoint { address: filter.ip.into(), port: filter.port.unwrap() }
    }

    #[test]
    fn a_selection_holds_each_end_to_its_own_condition() {
        let (local, remote) = (end("10.0.0.1:40000"), end("10.0.0.2:80"));
        let select = |to: Option<&str>, from: Option<&str>, port| Selection {
            to: to.map(|text| text.parse().unwrap()),
            from: from.map(|text| text.parse().unwrap()),
            port,
        };
        for (selection, passes) in [
            (select(None, None, None), true),
            (select(Some("10.0.0.2"), None, None), true),
            (select(Some("10.0.0.2:81"), None, None), false),
            (select(None, Some("10.0.0.2"), None), false),
            (select(None, Some("10.0.0.1"), Some(80)), true),
            (select(None, None, Some(40_000)), true),
            (select(None, None, Some(443)), false),
        ] {
            assert_eq!(selection.passes(local, remote), passes, "{selection:?}");
        }
    }
}
