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

use tidewait_model::Limit;
use tidewait_model::study::{Destination, Method, Seen};

use crate::places::Place;
use crate::sock_diag::Filter;

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
    pub only: Filter,
    /// One of so many connections, chosen by a hash over addresses and ports; at least 1.
    pub sample: u32,
    /// How long TIME_WAIT lasts there.
    pub time_wait: Duration,
    /// How many destinations are told apart, at most.
    pub destinations: u32,
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
