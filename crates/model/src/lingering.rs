//! Sockets that stay in a state that ought to pass: closing on one side only, or waiting for an answer that never comes.
//!
//! A connection is in CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING or SYN_SENT for moments if all goes well.
//! Those that are not are grouped by state and by who holds them; the groups are what the findings about leaks
//! and silent peers rest on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observation::Owner;
use crate::state::State;

/// Sockets of one namespace in one state, held by one owner or by none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lingering {
    /// The state.
    pub state: State,
    /// Whether a file of some process still refers to them. An orphan (closed by its program, or its program gone) is the kernel's
    /// alone and has a timer; one that is held lasts for as long as its program likes. In CLOSE_WAIT there are no orphans: those
    /// that are not held wait in an accept queue, and their peer gave up before a program took them.
    pub held: bool,
    /// Who holds them, with its share of those in the same state that were looked at; null for orphans, and where it could not
    /// be found out.
    pub owner: Option<Owner>,
    /// How many there are.
    pub sockets: u64,
    /// How many of them were looked at closely: the counts below are of those.
    pub looked_at: u64,
    /// Peers with most sockets first, at most [`Lingering::PEERS`].
    pub peers: Vec<Peer>,
    /// How many different peers there are among those looked at.
    pub peers_total: u64,
    /// For how long nothing has been heard from their peers; null where the kernel did not tell: in SYN_SENT, and of an orphan in
    /// FIN_WAIT2.
    pub silence: Option<Silence>,
    /// Sockets whose end of file alone was not read: the program does not even look at them (receive queue 1: the FIN).
    pub unread_end: u64,
    /// Sockets with data that was not read.
    pub unread_data: u64,
    /// Bytes that were not read, of all of them together.
    pub unread_bytes: u64,
    /// Sockets whose keepalive timer runs (SO_KEEPALIVE).
    pub keepalive: u64,
    /// Sockets that retransmit, their peer being silent.
    pub retransmitting: u64,
    /// Sockets whose peer has closed its window: zero-window probes are sent.
    pub zero_window: u64,
    /// The most retransmissions that one of them has behind it.
    pub retransmits_max: u32,
}

impl Lingering {
    /// The most peers that are told of one group.
    pub const PEERS: usize = 5;
}

/// Sockets of a [`Lingering`] group with one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// The remote address and port where the connection went out, the remote address alone where it came in.
    pub peer: String,
    /// The local address and port of the service where the connection came in; null where it went out.
    pub service: Option<String>,
    /// How many sockets.
    pub sockets: u64,
}

/// For how long nothing has been heard from the peers of a group of sockets, in seconds.
///
/// Since the last ACK (`tcpi_last_ack_recv`, include/uapi/linux/tcp.h). The FIN of the peer carries one, so a
/// socket has been in CLOSE_WAIT for at least as long. Answers to keepalive probes are ACKs too: where keepalive is set,
/// the socket may be much older than this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// The least.
    pub shortest: f64,
    /// Half of the sockets have less.
    pub median: f64,
    /// The most.
    pub longest: f64,
    /// How many sockets have less than a minute: they came within it.
    pub last_minute: u64,
}
