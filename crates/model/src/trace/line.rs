//! The lines of `tidewait trace --json`: the JSON contract `tidewait.trace/1`.
//!
//! Frozen: a key may be added, never renamed or given another unit. Each line is an object of its own whose `event` says
//! what it is. Times are seconds, moments RFC 3339 in UTC, addresses text, IPv6 in brackets where a port follows. What is
//! not known is null.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Direction, Program};
use crate::observation::Limit;
use crate::report::Connections;
use crate::state::State;
use crate::stream::Opening;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.trace/1")]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Begin(Begin),
    /// connect() was called.
    Connect(Happening),
    /// It was answered.
    Established(Happening),
    /// An incoming connection is there.
    Accept(Happening),
    /// The peer's FIN came first.
    PeerClosed(Happening),
    /// This side closes, or the connection was cut off.
    Close(Happening),
    /// The socket went into TIME_WAIT, or into FIN_WAIT2 without a process.
    TimeWait(Happening),
    /// connect() or bind() found no local port.
    Refused(Happening),
    /// connect() failed otherwise.
    Failed(Happening),
    /// Events were dropped, because the reader of the lines was too slow.
    Lost(Lost),
    /// The last line, unless the reader went away.
    End(End),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begin {
    /// `tidewait.trace/1`, when and where.
    #[serde(flatten)]
    pub opening: Opening,
    /// What cannot be seen.
    pub limits: Vec<Limit>,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Happening {
    /// When, to the microsecond.
    pub at: String,
    /// The network namespace, by the name that `report` has for it, or by its inode as `net:[4026531840]`.
    pub namespace: String,
    /// Which way the connection was opened; `bind` where it is a bind() that failed.
    pub direction: Direction,
    /// Whose: who connected, who listens, or who closed; null where nobody is known.
    pub program: Option<Program>,
    /// The thread that made the system call; null where a packet or a timer was the cause.
    pub thread: Option<u32>,
    /// The local address and port; port 0 where none is chosen yet, or none was found.
    pub local: String,
    /// The remote address and port; null for a bind().
    pub remote: Option<String>,
    /// The state that the socket enters; null for a bind(), which enters none.
    pub state: Option<State>,
    /// Who chose the local port; null for incoming connections and where it was not seen.
    pub pool: Option<PortBy>,
    /// Who closed first; null where nobody has, and where the connection was cut off.
    pub closed_first: Option<Side>,
    /// Which side cut the connection off: `here` by RST; `there` by the peer's RST, a time-out or SOCK_DESTROY. Null where
    /// it was not.
    pub cut_off: Option<Side>,
    /// The name of the error; null for none.
    pub errno: Option<String>,
    /// Seconds since connect() was called or the incoming connection was there; null where that was not seen.
    pub lifetime_seconds: Option<f64>,
    /// Bytes sent on the connection; null unless it closes.
    pub bytes_sent: Option<u64>,
    /// Bytes received on it; null unless it closes.
    pub bytes_received: Option<u64>,
    /// The socket's cookie, the same in all events of a connection, as `ss -e` shows it in hexadecimal (`sk:`).
    pub cookie: u64,
}

/// One of the two sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This machine.
    Here,
    /// The peer.
    There,
}

impl Side {
    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Side::Here => "here",
            Side::There => "there",
        }
    }
}

/// Who chose a local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortBy {
    /// connect(): it is taken for one destination.
    Connect,
    /// bind(address, port 0): it is taken for all destinations.
    Bind,
    /// The program asked bind() for this very port.
    Program,
}

impl PortBy {
    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            PortBy::Connect => "connect",
            PortBy::Bind => "bind",
            PortBy::Program => "program",
        }
    }
}

/// Events were dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// When that was noticed.
    pub at: String,
    /// How many since the last such line, of all that were asked of the kernel.
    pub count: u64,
    /// How many since the beginning.
    pub total: u64,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// When the tracing ended.
    pub at: String,
    /// For how long it was traced, in seconds.
    pub seconds: f64,
    /// Events printed.
    pub events: u64,
    /// Events dropped.
    pub lost: u64,
    /// What could not be seen, counted or told.
    pub limits: Vec<Limit>,
    /// Counts by program and destination or service, most first, complete also where events were dropped; null unless a
    /// summary was asked for.
    pub connections: Option<Vec<Counted>>,
}

/// The connections of one program to one destination, or to one service of its own, in one network namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// The network namespace, as in the events.
    pub namespace: String,
    /// Whose, where, and the counts.
    #[serde(flatten)]
    pub connections: Connections,
}
