//! Sockets from the kernel's sock_diag dump, row by row: own wire structs over one netlink socket.
//!
//! A dump is not a snapshot: the kernel resumes by (hash bucket, position in it), so under churn a socket may
//! be missed or come twice (inet_diag.c `inet_diag_dump_icsk`). Whoever folds the rows has to bear that.

#[cfg(test)]
pub(crate) mod encode;
mod filter;
mod netlink;
mod proc_net;
mod recording;
mod row;

pub use filter::Filter;
pub use netlink::Netlink;
pub use proc_net::ProcNet;
pub use recording::{Recorder, Recording};
pub(crate) use row::TCP_INFO_LAST_ACK;
pub use row::{Row, SocketOptions, TcpInfo, Timer};
pub use tidewait_kernel::wire::{Handle, Malformed, Message, messages};

use tidewait_model::{AddressFilter, State};

/// Which addresses a request is about. The kernel has no request for both (AF_UNSPEC ends in ENOENT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AF_INET sockets.
    V4,
    /// AF_INET6 sockets, among them those that hold an IPv4 tuple through a v4-mapped address.
    V6,
}

impl Family {
    /// Both, in the order in which they are asked for.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The kernel's number of the address family.
    fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }
}

/// A question to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address family.
    pub family: Family,
    /// Bit mask of wanted states ([`State::mask`]). The kernel leaves out the others.
    pub states: u32,
    /// Only sockets that pass; checked in the kernel.
    pub only: Filter,
    /// Ask for `struct tcp_info` too. It makes each row 3 times as dear, so only for few sockets.
    pub tcp_info: bool,
}

/// The mask of all states, those included that older kernels do not know and then ignore.
pub const ALL_STATES: u32 = {
    let mut mask = 0;
    let mut at = 0;
    while at < State::ALL.len() {
        mask |= 1 << State::ALL[at] as u8;
        at += 1;
    }
    mask
};

impl Request {
    /// Every socket of a family.
    pub fn all(family: Family) -> Request {
        Request { family, states: ALL_STATES, only: Filter::default(), tcp_info: false }
    }

    /// Only sockets in these states.
    #[must_use]
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Request {
        self.states = states.into_iter().fold(0, |mask, state| mask | state.mask());
        self
    }

    /// Only sockets in states other than these.
    #[must_use]
    pub fn states_except(mut self, states: impl IntoIterator<Item = State>) -> Request {
        self.states = states.into_iter().fold(ALL_STATES, |mask, state| mask & !state.mask());
        self
    }

    /// Only sockets with this peer.
    #[must_use]
    pub fn to(mut self, to: Option<AddressFilter>) -> Request {
        self.only.to = to;
        self
    }

    /// Only sockets that pass.
    #[must_use]
    pub fn only(mut self, only: Filter) -> Request {
        self.only = only;
        self
    }

    /// With `struct tcp_info`.
    #[must_use]
    pub fn with_tcp_info(mut self) -> Request {
        self.tcp_info = true;
        self
    }
}

/// What a finished dump was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows given.
    pub rows: u64,
    /// Rows that could not be read and were left out.
    pub malformed: u64,
    /// Bytes received.
    pub bytes: u64,
    /// The kernel said that the table changed under the dump (`NLM_F_DUMP_INTR`). inet_diag never does in
    /// the versions read (4.1 to 7.1), but it may learn to.
    pub interrupted: bool,
}

/// Why a dump failed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The kernel has no sock_diag for TCP, or may not load it.
    #[error(
        "the kernel offers no inet_diag for TCP: {0}; is the module tcp_diag loaded? (modprobe tcp_diag)"
    )]
    Unsupported(std::io::Error),
    /// The kernel refused.
    #[error("the kernel refused the socket dump: {0}")]
    NotPermitted(std::io::Error),
    /// Messages were lost because the receive buffer was full (ENOBUFS).
    #[error("messages of the socket dump were lost (ENOBUFS)")]
    Overrun,
    /// A message was longer than the receive buffer.
    #[error("a message of {0} bytes of the socket dump was cut short")]
    Truncated(usize),
    /// The dump ended before it was done.
    #[error("the recording ends before the dump is done")]
    Incomplete,
    /// Something else.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where rows come from: the kernel, or a recording that stands in for it.
pub trait Sockets {
    /// Gives every socket that `request` asks for to `each`, as it arrives. Nothing is kept.
    fn dump(&mut self, request: &Request, each: &mut dyn FnMut(&Row<'_>)) -> Result<Outcome, DumpError>;
}

/// Reads `bytes` as a received datagram and touches every row, as the fuzz target does. Returns how many.
pub fn survives(bytes: &[u8]) -> usize {
    let mut rows = 0;
    for message in messages(bytes) {
        if let Ok(Message::Socket { payload, .. }) = message
            && let Some(row) = Row::read(payload)
        {
            rows += 1;
            let (_, _, _) = (row.mark(), row.cgroup_id(), row.options());
            let _ = row.tcp_info();
            let _ = (row.local(), row.remote(), row.state());
        }
    }
    rows
}

#[cfg(test)]
mod tests;
