//! Sockets that may end before their time: what was seen of them, and the JSON contract `tidewait.reap/1`.
//!
//! Frozen: a key may be added, never renamed or given another unit. Each line is an object of its own whose `event` says
//! what it is. Times are seconds, moments RFC 3339 in UTC, addresses text, IPv6 in brackets where a port follows. What is
//! not known is null.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Endpoint};
use crate::ports::PortSet;
use crate::state::State;
use crate::stream::{Opening, Reason};
use crate::trace::Direction;

/// The value of [`Opening::schema`].
pub const SCHEMA: &str = "tidewait.reap/1";

/// The states in which a socket may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reapable {
    /// Closed on both sides: nobody holds it any more.
    TimeWait,
    /// Closed here, not by the peer; with or without a program that still holds it.
    FinWait2,
    /// Closed by the peer; a program still holds it.
    CloseWait,
}

impl Reapable {
    /// All of them.
    pub const ALL: [Reapable; 3] = [Reapable::TimeWait, Reapable::FinWait2, Reapable::CloseWait];

    /// The state.
    pub fn state(self) -> State {
        match self {
            Reapable::TimeWait => State::TimeWait,
            Reapable::FinWait2 => State::FinWait2,
            Reapable::CloseWait => State::CloseWait,
        }
    }

    /// What ending such a socket does beyond freeing its port; `None` where it does nothing else (net/ipv4/tcp.c `tcp_abort`).
    pub fn consequences(self) -> Option<&'static str> {
        match self {
            Reapable::TimeWait => None,
            Reapable::FinWait2 => Some(
                "FIN_WAIT2: what the peer still sends is lost. A socket that a program holds is cut off by an RST, and the program's \
                 next call ends with ECONNABORTED; of an orphan the peer hears nothing until it sends, then gets an RST",
            ),
            Reapable::CloseWait => Some(
                "CLOSE_WAIT: what the program had not sent yet is lost and the peer gets an RST; the program's next send() ends with \
                 ECONNABORTED. The kernel's socket goes, the program's file descriptor stays: a leak of descriptors goes on, and is \
                 no longer seen by ss or `tidewait report`",
            ),
        }
    }
}

/// What shares local ports: the connections from one local address to one destination; or those that came in to one
/// service, which share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Opened here.
    Outgoing {
        /// The local address.
        source: Address,
        /// The remote address and port.
        peer: Endpoint,
    },
    /// Opened by the peer.
    Incoming {
        /// The local address and port; the address may be 0.0.0.0 or ::, as the listener's is.
        service: Endpoint,
    },
}

impl Group {
    /// Which way its connections were opened, and the end that they have in common.
    pub fn end(&self) -> (Direction, Endpoint) {
        match self {
            Group::Outgoing { peer, .. } => (Direction::Outgoing, *peer),
            Group::Incoming { service } => (Direction::Incoming, *service),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Outgoing { source, peer } => write!(f, "{source} -> {peer}"),
            Group::Incoming { service } => write!(f, "incoming to {service}"),
        }
    }
}

/// A group as one look found it.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub group: Group,
    /// Its local ports in use, whatever the sockets' states; only those of the states looked for where no more was asked.
    pub ports: PortSet,
}

/// A socket that may be ended. `K` is what names it to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<K> {
    /// Its group, by its place in [`Look::groups`].
    pub group: u32,
    /// Its local port.
    pub port: u16,
    /// For how long it has been waiting: in TIME_WAIT and in an orphan's FIN_WAIT2 since the state, or its timer, began; else
    /// since the peer's last segment. As of the beginning of the look; 0 where it is not known.
    pub age_ms: u32,
    /// The socket.
    pub key: K,
}

/// What one look found.
#[derive(Clone, Debug)]
pub struct Look<K> {
    /// The groups that have sockets.
    pub groups: Vec<Found>,
    /// The sockets that may be ended.
    pub waiting: Vec<Waiting<K>>,
    /// Ports that an explicit bind(), a listener or an incoming connection holds.
    pub bound: PortSet,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.reap/1")]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Begin(Begin),
    /// Once a second.
    Progress(Progress),
    /// The last line, unless the reader went away.
    End(End),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begin {
    /// `tidewait.reap/1`, when and where.
    #[serde(flatten)]
    pub opening: Opening,
    /// The network namespace, by the name that `report` has for it.
    pub namespace: String,
    /// Sockets that have waited for longer are ended, in seconds; null where a share is kept below instead.
    pub older_than_seconds: Option<f64>,
    /// The oldest sockets are ended where more than this share of a destination's ports is in use, 0 to 1; null where the age
    /// decides.
    pub keep_below: Option<f64>,
    /// Seconds that every socket is left, whatever happens.
    pub floor_seconds: f64,
    /// Destinations whose sockets are left for longer than was asked, and why; only those that the selection can meet.
    pub floors: Vec<Floor>,
    /// The states that are ended.
    pub states: Vec<State>,
    /// Whether connections that the peers opened are ended too.
    pub incoming: bool,
    /// At most so many a second; null for no limit.
    pub rate: Option<u32>,
    /// Whether nothing is ended, only counted.
    pub dry_run: bool,
    /// What would be safer, and what else ought to be known.
    pub notes: Vec<String>,
}

/// A destination whose sockets are left for longer than others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Floor {
    /// Outgoing: the remote address and port; incoming: the local ones.
    pub destination: String,
    /// For how long, in seconds.
    pub seconds: f64,
    /// What was seen that makes it so.
    pub evidence: String,
}

/// Counts since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Sockets ended; with `dry_run`, that would have been.
    pub killed: u64,
    /// Sockets that had gone by themselves, or in another state's order, when their turn came.
    pub gone: u64,
    /// Sockets that the kernel refused to end.
    pub refused: u64,
    /// Sockets of which the kernel's answer was lost: ended or gone.
    pub unclear: u64,
    /// How often the sockets were looked at.
    pub looks: u64,
    /// CPU time of this process, in the program and in the kernel for it.
    pub cpu_seconds: f64,
}

/// Once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// When.
    pub at: String,
    /// Seconds since the beginning.
    pub seconds: f64,
    /// Counts since the beginning.
    #[serde(flatten)]
    pub counters: Counters,
    /// Sockets ended a second, since the line before.
    pub killed_per_second: f64,
    /// Sockets that waited at the last look.
    pub waiting: u64,
    /// Of those, how many the floor alone keeps.
    pub held: u64,
    /// How long the oldest that was left has waited, as of the last look; null for none.
    pub oldest_seconds: Option<f64>,
    /// The fullest destination as of the last look; null for none.
    pub busiest: Option<Busiest>,
}

/// The fullest destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Busiest {
    /// The local address and the remote address and port.
    pub destination: String,
    /// Its local ports in use: with `keep_below` those of all states, else those of the states that are ended.
    pub ports_used: u64,
    /// The share of the ports that it may use, 0 to 1; null where they are not known.
    pub share: Option<f64>,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// When it ended.
    pub at: String,
    /// For how long it ran, in seconds.
    pub seconds: f64,
    /// Why.
    pub reason: Reason,
    /// Counts since the beginning.
    #[serde(flatten)]
    pub counters: Counters,
    /// By destination, most ended first.
    pub destinations: Vec<Row>,
    /// Destinations beyond the bound, together; null for none.
    pub others: Option<Row>,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The local address and the remote address and port; or the service that connections came in to.
    pub destination: String,
    /// Sockets ended; with `dry_run`, that would have been.
    pub killed: u64,
    /// Sockets that had gone when their turn came, that the kernel refused to end, or whose fate is not known.
    pub not_killed: u64,
    /// Sockets that wait, as of the last look, without those ended since.
    pub waiting: u64,
    /// Of those, how many the floor alone keeps.
    pub held: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_wait_ends_without_consequences() {
        let quiet: Vec<Reapable> =
            Reapable::ALL.into_iter().filter(|state| state.consequences().is_none()).collect();
        assert_eq!(quiet, [Reapable::TimeWait]);
        for state in Reapable::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.state().key());
        }
    }
}
