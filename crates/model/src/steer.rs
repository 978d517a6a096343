//! What steering did: `tidewait steer`, `tidewait spread`, `tidewait exec`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of connect(), for TCP sockets of those who are steered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Got its local port here.
    pub steered: u64,
    /// Of those: it was not known yet which source address routing chooses, so that the port was held against every one.
    pub learning: u64,
    /// Of those: the port was that of a TIME_WAIT older than asked for, of a peer with timestamps.
    pub reused: u64,
    /// Got its source address here.
    pub spread: u64,
    /// No candidate was free: the kernel chose the port.
    pub fell_back: u64,
    /// The source address was not known yet and there are too many to try them all: the kernel chose the port.
    pub unknown_source: u64,
    /// Left alone: the program had bound a port.
    pub left_with_port: u64,
    /// Kept its source address: the program had bound one.
    pub left_with_source: u64,
    /// Left alone: bound to a device, with a port range of its own, or to a destination that is on the link or on this machine.
    pub left_apart: u64,
    /// Ports that were looked at.
    pub candidates: u64,
    /// Of those: free by all that was seen, but bind() was refused, because somebody has bound it otherwise or listens.
    pub refused_by_bind: u64,
    /// How often a source address was refused by bind(), because it is not there any more.
    pub sources_gone: u64,
}
