//! What was traced: who opened connections, who closed them first, and which connect() was refused.

pub mod line;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Endpoint};
use crate::report::Pool;

/// The value of `schema` in the first line of `tidewait trace --json`.
pub const SCHEMA: &str = "tidewait.trace/1";

/// A process under one name, or all processes alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// The command name of the leading thread, as in /proc/PID/comm, when it was first seen.
    pub command: String,
    /// The process number on the host; null where it is more than one process.
    pub pid: Option<u32>,
    /// How many processes it was; null where they were too many to be told apart.
    pub processes: Option<u32>,
    /// The systemd unit, where there is one.
    pub unit: Option<String>,
    /// The container, by its short id or its name.
    pub container: Option<String>,
    /// The user name, or the number where it has no name.
    pub user: Option<String>,
}

/// Sockets in TIME_WAIT that were born while it was traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Births {
    /// How many.
    pub born: u64,
    /// Of those, how many have an owner.
    pub attributed: u64,
}

/// Which way connections were opened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// By connect() here.
    #[default]
    Outgoing,
    /// By a peer, to a listening socket here.
    Incoming,
    /// No connection: a bind() that found no port.
    Bind,
}

/// What was counted of the connections of one program to one destination, or to one service of its own.
///
/// Each number is of events while it was traced: a connection opened before and closed then counts as closed only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// connect() called, as far as SYN_SENT.
    pub connects: u64,
    /// Of those, the local port had been chosen by bind(address, port 0).
    pub port_by_bind: u64,
    /// Of those, the program had asked bind() for this very local port.
    pub port_by_program: u64,
    /// Incoming connections established.
    pub accepts: u64,
    /// Closed here first: FIN sent before one came. This side keeps the TIME_WAIT.
    pub closed_here: u64,
    /// Closed by the peer first. The TIME_WAIT sits there.
    pub closed_there: u64,
    /// Cut off from here by RST: unread data, SO_LINGER 0. No TIME_WAIT.
    pub aborted_here: u64,
    /// Cut off otherwise: the peer's RST, a time-out, SOCK_DESTROY.
    pub aborted_there: u64,
    /// Went on into TIME_WAIT, or into FIN_WAIT2 without a process.
    pub time_wait: u64,
    /// Nanoseconds that connections lived, the sum over `aged`.
    pub lived_ns: u64,
    /// Connections of which both begin and end were seen.
    pub aged: u64,
    /// Bytes sent on connections that closed.
    pub sent: u64,
    /// Bytes received on connections that closed.
    pub received: u64,
    /// connect() found no local port (EADDRNOTAVAIL), or bind() did not (EADDRINUSE).
    pub no_port: u64,
    /// connect() was refused by the peer (ECONNREFUSED).
    pub refused: u64,
    /// connect() got no answer (ETIMEDOUT).
    pub unanswered: u64,
    /// connect() failed otherwise, was given up by the program, or the program had asked for a port that is taken
    /// (EADDRNOTAVAIL too, but no want of ports).
    pub failed: u64,
}

impl Counts {
    /// How long the connections lived on average, in seconds; `None` if none was seen from begin to end.
    pub fn mean_lifetime(&self) -> Option<f64> {
        (self.aged > 0).then(|| self.lived_ns as f64 / self.aged as f64 / 1e9)
    }

    /// All connections that ended.
    pub fn closed(&self) -> u64 {
        self.closed_here + self.closed_there + self.aborted_here + self.aborted_there
    }

    /// Who chose the local ports; [`Pool::Unknown`] if no connect() was seen, or if both ways were used.
    pub fn pool(&self) -> Pool {
        let by_connect = self.connects - self.port_by_bind.min(self.connects);
        match (by_connect.saturating_sub(self.port_by_program), self.port_by_bind) {
            (0, 0) => Pool::Unknown,
            (_, 0) => Pool::Connect,
            (0, _) => Pool::Bind,
            _ => Pool::Unknown,
        }
    }

    /// Adds the counts of another flow.
    pub fn merge(&mut self, other: &Counts) {
        self.with(other, u64::saturating_add);
    }

    /// What was counted after an `earlier` reading of the same counts.
    #[must_use]
    pub fn since(mut self, earlier: &Counts) -> Counts {
        self.with(earlier, u64::saturating_sub);
        self
    }

    fn with(&mut self, other: &Counts, each: fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.connects, other.connects),
            (&mut self.port_by_bind, other.port_by_bind),
            (&mut self.port_by_program, other.port_by_program),
            (&mut self.accepts, other.accepts),
            (&mut self.closed_here, other.closed_here),
            (&mut self.closed_there, other.closed_there),
            (&mut self.aborted_here, other.aborted_here),
            (&mut self.aborted_there, other.aborted_there),
            (&mut self.time_wait, other.time_wait),
            (&mut self.lived_ns, other.lived_ns),
            (&mut self.aged, other.aged),
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.no_port, other.no_port),
            (&mut self.refused, other.refused),
            (&mut self.unanswered, other.unanswered),
            (&mut self.failed, other.failed),
        ];
        for (mine, theirs) in pairs {
            *mine = each(*mine, theirs);
        }
    }
}

/// The connections of one program to one destination, or to one service of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Whose; `None` where nobody is known, as for connections that a thread of the kernel closed.
    pub program: Option<Program>,
    /// Which way they were opened.
    pub direction: Direction,
    /// The local address; `None` where destinations were too many to be told apart.
    pub local: Option<Address>,
    /// Incoming: the local port. A failed bind(): the port asked for, 0 for any.
    pub port: u16,
    /// Outgoing: the remote address and port; `None` where they were too many to be told apart.
    pub remote: Option<Endpoint>,
    /// What was counted.
    pub counts: Counts,
}

/// What tracing showed of one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traced {
    /// For how long, in seconds.
    pub seconds: f64,
    /// By program and destination, most connections first.
    pub flows: Vec<Flow>,
    /// Those of the sockets in TIME_WAIT now.
    pub births: Births,
}
