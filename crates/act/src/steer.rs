//! Chooses the local port and the source address for connect() of programs that know nothing of it.
//!
//! [`Steering::start`] loads `bpf/steer.bpf.c` and attaches it to a control group, beside whatever is attached there. Nothing
//! is pinned: the links go with the process that holds them, however it ends. [`Claim`] keeps two of them from giving the
//! same ports in one network namespace.

mod claim;
#[cfg(feature = "bpf")]
mod layout;
#[cfg_attr(feature = "bpf", path = "steer/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "steer/disabled.rs")]
mod steering;
mod tree;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tidewait_model::PortSet;
pub use tidewait_model::steer::{Counts, Holder};

pub use claim::{Claim, ClaimError};
pub use steering::Steering;
pub use tree::{Group, Tree};

/// The most source addresses of one family.
pub const SOURCES: usize = 64;
/// The most local addresses of one family that are looked at where it is not known yet which one routing chooses.
pub const LOCALS: usize = 16;

/// What is to be chosen for whom.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The directory of a cgroup v2: its processes and those of the groups below.
    pub cgroup: BorrowedFd<'a>,
    /// Inode of the network namespace that the ports and addresses belong to; sockets of others are left alone.
    pub netns: u64,
    /// Only this process, by its number in the first process namespace.
    pub process: Option<u32>,
    /// What may be given. Whether it has ports, or sources, holds for good: of what it does not begin with [`Steering::offer`] gives
    /// nothing.
    pub offer: Offer,
    /// How old a TIME_WAIT must be for its port to be taken, in whole seconds, rounded up; `None`: never.
    pub reuse_after: Option<Duration>,
    /// BPF programs that run after these may change where a connection goes, as load balancers do: ports are then given only for
    /// destinations to which a connection has gone, and the first one to each has the kernel's.
    pub careful: bool,
}

/// What may be given at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The ports; none: the kernel chooses the port.
    pub ports: PortSet,
    /// Source addresses to take in turn, at most [`SOURCES`] of a family; none: routing chooses.
    pub sources: Vec<IpAddr>,
    /// Every address of the network namespace. A tuple is free only if none of those that may be its source has it; which one
    /// routing chooses is learned with the first connection. A family with more than [`LOCALS`] is left out: the kernel then
    /// chooses the port of the first connection to each destination.
    pub locals: Vec<IpAddr>,
}

/// Why nothing is steered. Nothing is left attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// Not for this user, or not here; in words that lead to the remedy.
    #[error("{0}")]
    NotPermitted(String),
    /// The kernel has not what it takes.
    #[error("{0}")]
    Unsupported(String),
    /// What is asked for cannot be.
    #[error("{0}")]
    Impossible(String),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}
