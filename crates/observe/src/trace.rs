//! Follows TCP connections while they live: who opens them, who closes them first, which connect() finds no port.
//!
//! A socket in TIME_WAIT has no process any more, but it keeps the cookie of the connection that it was. [`Tracer`] notes
//! owner and cookie while there is a process (`bpf/connections.bpf.c`, in the kernel, in maps of fixed size), and whoever
//! dumps the sockets later asks [`Picture::waiting`] whose a cookie was. Where BPF is missing, [`Tracer::start`] says why
//! and everything else goes on without.

mod event;
#[cfg(feature = "bpf")]
mod layout;
#[cfg(feature = "bpf")]
mod people;
pub mod picture;
#[cfg_attr(feature = "bpf", path = "trace/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "trace/disabled.rs")]
mod tracer;

use std::collections::HashMap;
use std::path::PathBuf;

use tidewait_model::Limit;
use tidewait_model::trace::{Direction, Flow, Program};

pub use event::{Closed, Event, Kind, Kinds};
pub use tracer::Tracer;

/// What is to be traced.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Root of the file system: `/`.
    pub root: PathBuf,
    /// How many sockets in TIME_WAIT are remembered with their owners, the latest, rounded up to a power of two; 0 for none.
    /// 24 bytes each.
    pub waiting: u32,
    /// Which events are told one by one; `None` to count only.
    pub events: Option<Telling>,
}

/// Which events are told. What is left out here never leaves the kernel.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// The kinds.
    pub kinds: Kinds,
    /// Only those of this process.
    pub pid: Option<u32>,
    /// Only those of the namespace with this inode.
    pub netns: Option<u32>,
    /// Only connections with this local port.
    pub local_port: Option<u16>,
    /// Only connections with this remote address.
    pub remote: Option<std::net::IpAddr>,
    /// Only connections with this remote port.
    pub remote_port: Option<u16>,
    /// Bytes that may wait to be read before events are lost; rounded up to a power of two.
    pub buffer: u32,
}

/// Whose a socket in TIME_WAIT was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The number of the owner in [`Picture::people`]: who connected, or for incoming connections who closed. 0: nobody.
    pub owner: u32,
    /// The number of who closed.
    pub closer: u32,
    /// Which way the connection was opened.
    pub direction: Direction,
}

/// What was counted until now.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The inode of a network namespace, and what was counted there.
    pub flows: Vec<(u32, Flow)>,
    /// Owners by number.
    pub people: HashMap<u32, Program>,
    /// Whose the sockets in TIME_WAIT were, by cookie.
    pub waiting: HashMap<u64, Waiting>,
    /// What could not be counted or told.
    pub losses: Losses,
}

/// What could not be counted, kept or told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events of processes beyond those that can be told apart; counted with others of the same command.
    pub processes: u64,
    /// Events counted with others of the same command, or without their destination.
    pub destinations: u64,
    /// Events that were not counted.
    pub counts: u64,
    /// Sockets that nothing could be kept with, for want of kernel memory.
    pub sockets: u64,
    /// Events that were not told because the reader was too slow.
    pub events: u64,
    /// Sockets in TIME_WAIT that were forgotten for younger ones within the minute that they last.
    pub waiting: u64,
}

impl Losses {
    /// What to say of them in a report.
    pub fn limits(&self) -> Vec<Limit> {
        let all = [
            (
                self.processes,
                "processes one by one",
                "events of processes beyond the bound were counted by command",
            ),
            (
                self.destinations,
                "destinations one by one",
                "events of destinations beyond the bound were counted by command",
            ),
            (self.counts, "all connections", "events found no room to be counted"),
            (self.sockets, "all connections", "sockets could not be followed for want of kernel memory"),
            (self.events, "all events", "events were dropped because the reader was too slow"),
            (self.waiting, "owners of all TIME_WAIT", "sockets in TIME_WAIT were forgotten for younger ones"),
        ];
        all.into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, what, why)| {
                Limit::new(format!("traced: {what}"), format!("{count} {why}")).of_detail()
            })
            .collect()
    }
}
