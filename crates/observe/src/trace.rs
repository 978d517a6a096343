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
mod listening;
#[cfg(feature = "bpf")]
mod load;
#[cfg(feature = "bpf")]
mod people;
pub mod picture;
#[cfg_attr(feature = "bpf", path = "trace/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "trace/disabled.rs")]
mod tracer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tidewait_model::Limit;
use tidewait_model::trace::{Direction, Flow, Program};

pub use event::{Closed, Event, Kind, Kinds};
pub use tracer::Tracer;

/// What is to be traced. By default: connections are counted, bind() and single events are not followed.
///
/// Beside what is said below, each socket that is followed takes 320 bytes of kernel memory while it lives: 61 MiB for
/// 200,000 (an element of 128 bytes and, as nobody else keeps notes with sockets, a storage of 192, Linux 6.18).
#[derive(Clone, Debug)]
pub struct Wish {
    /// Root of the file system: `/`.
    pub root: PathBuf,
    /// Count and note only what is in the network namespace with this inode: others then take none of the room, and cost
    /// less.
    pub netns: Option<u32>,
    /// How many sockets in TIME_WAIT are remembered with their owners, the latest, rounded up to a power of two; 0 for none.
    /// 24 bytes each.
    pub waiting: u32,
    /// Which events are told one by one; `None` to count only.
    pub events: Option<Telling>,
    /// Follow bind() of TCP sockets that finds no port (EADDRINUSE). It makes every system call of the machine some 15 ns
    /// slower (getppid() 65 ns instead of 50; a connection made and closed on the loopback, about 1 %). Not seen are
    /// bind() of 32-bit processes and by way of io_uring.
    pub binds: bool,
    /// How much is kept at most.
    pub bounds: Bounds,
}

impl Wish {
    /// What suits the machine: as many sockets in TIME_WAIT as the caller's namespace may have (`tcp_max_tw_buckets`; a new
    /// namespace has the same), and their peers where those are on the machine too, within 16,384 and 262,144.
    pub fn at(root: &Path) -> Wish {
        let setting = std::fs::read_to_string(root.join("proc/sys/net/ipv4/tcp_max_tw_buckets"));
        let buckets = setting.ok().and_then(|text| text.trim().parse::<u32>().ok());
        let wish = Wish { root: root.to_owned(), ..Wish::default() };
        let waiting =
            buckets.map_or(wish.waiting, |buckets| buckets.saturating_mul(2).clamp(16_384, 262_144));
        Wish { waiting, ..wish }
    }
}

impl Default for Wish {
    fn default() -> Wish {
        let root = PathBuf::from("/");
        Wish { root, netns: None, waiting: 131_072, events: None, binds: false, bounds: Bounds::default() }
    }
}

/// How much is kept at most. What goes beyond is counted together, and [`Losses`] say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Owners that are told apart, of them three quarters process by process. Some 200 bytes each.
    pub owners: u32,
    /// Rows of counts, of them three quarters as fine as can be. Some 250 bytes each.
    pub flows: u32,
    /// Control groups whose names are kept. Some 1,400 bytes each.
    pub groups: u32,
    /// Ports that are listened on, of all namespaces. Some 70 bytes each.
    pub listening: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { owners: 32_768, flows: 16_384, groups: 1_024, listening: 16_384 }
    }
}

/// Which events are told. What is left out here never leaves the kernel.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// The kinds.
    pub kinds: Kinds,
    /// Only those of this process.
    pub pid: Option<u32>,
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
    /// Changes of state that the kernel showed to neither program, because both were running on the same processor.
    pub missed: u64,
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
            (
                self.missed,
                "all connections",
                "changes of state came while another was being counted on the same processor: the numbers are too low",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_time_wait_are_remembered_as_there_may_be() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("proc/sys/net/ipv4");
        std::fs::create_dir_all(&path).unwrap();
        let waiting = |text: &str| {
            std::fs::write(path.join("tcp_max_tw_buckets"), text).unwrap();
            Wish::at(root.path()).waiting
        };
        assert_eq!(waiting("32768\n"), 65_536);
        assert_eq!(waiting("64\n"), 16_384);
        assert_eq!(waiting("4000000000\n"), 262_144);
        assert_eq!(waiting("?\n"), Wish::default().waiting);
    }

    #[test]
    fn only_what_was_lost_is_told_with_its_number() {
        assert!(Losses::default().limits().is_empty());
        let losses = Losses { events: 7, groups: 2, ..Losses::default() };
        let limits = losses.limits();
        let told: Vec<&str> = limits.iter().map(|limit| limit.why.split(' ').next().unwrap()).collect();
        assert_eq!(told, ["7", "2"]);
        assert!(limits.iter().all(|limit| limit.hides == tidewait_model::observation::Hides::Detail));
    }
}
