//! One event of a connection, as it is told.

use tidewait_model::Endpoint;
use tidewait_model::report::Pool;
use tidewait_model::trace::Direction;

/// What happened. The numbers are those of `enum kind` in `bpf/layout.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// connect() was called: SYN_SENT.
    Connect,
    /// It was answered: ESTABLISHED.
    Established,
    /// An incoming connection is there: ESTABLISHED.
    Accept,
    /// The peer's FIN came first: CLOSE_WAIT.
    PeerClosed,
    /// This side closes (FIN_WAIT1 or LAST_ACK), or the connection is cut off (CLOSE).
    Close,
    /// The socket goes into TIME_WAIT.
    TimeWait,
    /// connect() or bind() found no local port.
    Refused,
    /// connect() failed otherwise.
    Failed,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Kind; 8] = [
        Kind::Connect,
        Kind::Established,
        Kind::Accept,
        Kind::PeerClosed,
        Kind::Close,
        Kind::TimeWait,
        Kind::Refused,
        Kind::Failed,
    ];
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(pub u32);

impl Kinds {
    /// These kinds.
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Kinds {
        Kinds(kinds.into_iter().fold(0, |mask, kind| mask | 1 << kind as u8))
    }

    /// Whether `kind` is among them.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// Who closed a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// This side sent FIN first.
    Here,
    /// The peer did.
    There,
    /// This side sent RST.
    AbortedHere,
    /// The peer's RST, a time-out, SOCK_DESTROY.
    AbortedThere,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What happened.
    pub kind: Kind,
    /// The socket's cookie, as sock_diag and `ss -e` give it.
    pub cookie: u64,
    /// The number of the owner for [`super::Tracer::program`]; 0: nobody known.
    pub owner: u32,
    /// The thread that was running; it is the owner's only where a system call caused the event.
    pub thread: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Which way the connection was opened.
    pub direction: Direction,
    /// The local address and port; port 0 where none is chosen yet.
    pub local: Endpoint,
    /// The remote address and port; `None` for a failed bind().
    pub remote: Option<Endpoint>,
    /// Who chose the local port; `None` for a port that the program itself asked for.
    pub pool: Option<Pool>,
    /// Who closed first, for [`Kind::Close`].
    pub closed: Option<Closed>,
    /// The error number: why connect() or bind() failed, or the connection was cut off.
    pub error: Option<u32>,
    /// Nanoseconds since connect() or accept(); `None` where that was not seen.
    pub lived_ns: Option<u64>,
    /// Bytes sent; of [`Kind::Close`] only.
    pub sent: u64,
    /// Bytes received; of [`Kind::Close`] only.
    pub received: u64,
}
