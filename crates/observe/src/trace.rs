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
mod load;
#[cfg(feature = "bpf")]
mod people;
pub mod picture;
#[cfg(feature = "bpf")]
mod refusal;
#[cfg_attr(feature = "bpf", path = "trace/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "trace/disabled.rs")]
mod tracer;

use std::collections::HashMap;
use std::path::PathBuf;

use tidewait_model::Limit;
use tidewait_model::trace::{Direction, Flow, Program};

pub use event::{Closed, Event, Kind, Kinds};
pub use tracer::Tracer;

/// What is to be traced. By default: connections are counted, bind() and single events are not followed.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Root of the file system: `/`.
    pub root: PathBuf,
    /// How many sockets in TIME_WAIT are remembered with their owners, the latest, rounded up to a power of two; 0 for none.
    /// 24 bytes each.
    pub waiting: u32,
    /// Which events are told one by one; `None` to count only.
    pub events: Option<Telling>,
    /// Follow bind() that finds no port (EADDRINUSE). It makes every system call of the machine some 15 ns slower.
    pub binds: bool,
    /// How much is kept at most.
    pub bounds: Bounds,
}

impl Default for Wish {
    fn default() -> Wish {
        let root = PathBuf::from("/");
        Wish { root, waiting: 131_072, events: None, binds: false, bounds: Bounds::default() }
    }
}

/// How much is kept at most. What goes beyond is counted together, and [`Losses`] say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Owners that are told apart, of them three quarters process by process. Some 200 bytes each.
    pub owners: u32,
    /// Rows of counts, of them three quarters as fine as can be. Some 250 bytes each.
    pub flows: u32,
    /// Control groups whose names are kept. Some 850 bytes each.
    pub groups: u32,
    /// Ports that are listened on, of all namespaces. Some 70 bytes each.
    pub listening: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { owners: 32_768, flows: 16_384, groups: 2_048, listening: 16_384 }
    }
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
    pub waiting: foldhash::HashMap<u64, Waiting>,
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
    /// Owners whose control group, and with it unit and container, was not kept.
    pub groups: u64,
    /// Listening ports that were not kept: the direction of connections from before the tracing may be wrong.
    pub listening: u64,
}

impl Losses {
    /// What to say of them in a report.
    pub fn limits(&self) -> Vec<Limit> {
        let all = [
            (
                self.processes,
                "processes one by one",
                "events are of processes beyond the bound: they are counted by command",
            ),
            (
                self.destinations,
                "destinations one by one",
                "events are of destinations beyond the bound: they are counted by command, some without a destination",
            ),
            (self.counts, "all connections", "events found no room to be counted: the numbers are too low"),
            (
                self.sockets,
                "owners of all connections",
                "sockets had no kernel memory to be followed with: their owners and lifetimes are not known",
            ),
            (
                self.events,
                "all events",
                "events were dropped because the reader was too slow; they are counted",
            ),
            (self.waiting, "owners of all TIME_WAIT", "sockets in TIME_WAIT were forgotten for younger ones"),
            (
                self.groups,
                "units and containers",
                "processes are in control groups beyond the bound: those that have ended have no unit or container",
            ),
            (
                self.listening,
                "direction of connections from before",
                "listening ports are beyond the bound: incoming connections opened before may count as outgoing",
            ),
        ];
        all.into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, what, why)| {
                Limit::new(format!("traced: {what}"), format!("{count} {why}")).of_detail()
            })
            .collect()
    }
}
