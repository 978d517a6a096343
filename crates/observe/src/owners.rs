//! Whose sockets: inode to process by one pass over /proc/PID/fd, process to user, unit and container.
//!
//! A socket in TIME_WAIT or without a process has inode 0 and no holder; live sockets to the same destination
//! are the nearest thing to an answer for it, and the caller says so with [`OwnerBasis`].

mod walk;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use tidewait_model::{Limit, Owner, OwnerBasis, Timing};

pub use crate::procfs::Process;
pub use walk::holders;

/// The most owners that are told of one subject.
pub const OWNERS_SHOWN: usize = 5;

/// Who holds one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Index of the leading process in [`Holders::processes`].
    leader: u32,
    /// How many processes with the leader's command hold it: more than 1 after fork(), as in a prefork server.
    pub sharers: u32,
}

/// What is looked for among the open files.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The sockets, by inode, whose holders are wanted.
    pub wanted: HashSet<u32>,
    /// Where TCP sockets without a connection are looked for: the inodes of all sockets that have one, ascending.
    pub connected: Option<Vec<u32>>,
}

/// A TCP socket among the files of a process that was in no socket table when those were read. It may be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconnected {
    /// The process.
    pub pid: u32,
    /// Its file descriptor.
    pub descriptor: u32,
    /// The socket.
    pub inode: u32,
}

/// Who holds the sockets that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holders {
    /// The processes that hold at least one of them, by ascending number.
    pub processes: Vec<Process>,
    /// TCP sockets that were in no table, if they were looked for; by process.
    pub unconnected: Vec<Unconnected>,
    /// What could not be seen.
    pub limits: Vec<Limit>,
    /// File descriptors that were looked at.
    pub descriptors: u64,
    /// Wall-clock seconds that it took.
    pub seconds: f64,
    by_inode: HashMap<u32, Held>,
}

impl Holders {
    /// How many of the sockets that were asked for have a holder.
    pub fn found(&self) -> usize {
        self.by_inode.len()
    }

    /// The leading process that holds the socket `inode`, and how many share it.
    pub fn holder(&self, inode: u32) -> Option<(&Process, Held)> {
        let held = *self.by_inode.get(&inode)?;
        Some((self.processes.get(usize::try_from(held.leader).ok()?)?, held))
    }

    /// What the search cost, in file descriptors.
    pub fn timing(&self) -> Timing {
        Timing { step: "owners".to_owned(), seconds: self.seconds, items: self.descriptors }
    }
}

/// The owners of the sockets with the inodes `sockets`, those with most sockets first, at most
/// [`OWNERS_SHOWN`].
///
/// Processes of one command, unit, container and user are one owner; its pid is told where it is one process.
/// A socket whose holder is not known counts towards the whole, so that the shares may add up to less than 1.
/// Leave out inode 0: such a socket has no process.
pub fn summarise(holders: &Holders, sockets: impl IntoIterator<Item = u32>, how: OwnerBasis) -> Vec<Owner> {
    struct Group<'h> {
        process: &'h Process,
        sockets: u64,
        one: bool,
    }
    let mut groups: HashMap<_, Group<'_>> = HashMap::new();
    let mut all = 0_u64;
    for inode in sockets {
        all += 1;
        let Some((process, held)) = holders.holder(inode) else { continue };
        let Process { pid, command, user, unit, container } = process;
        let group = groups.entry((command, unit, container, user)).or_insert(Group {
            process,
            sockets: 0,
            one: true,
        });
        group.sockets += 1;
        group.one &= group.process.pid == *pid && held.sharers == 1;
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| (Reverse(group.sockets), group.process.pid));
    groups.truncate(OWNERS_SHOWN);
    let owner = |group: Group<'_>| owner(group.process, group.one, share(group.sockets, all), how);
    groups.into_iter().map(owner).collect()
}

/// `process` as the owner of a `share` of some sockets; `one`: whether it is the only process of its kind that has any.
pub(crate) fn owner(process: &Process, one: bool, share: f64, how: OwnerBasis) -> Owner {
    Owner {
        command: process.command.clone(),
        pid: one.then_some(process.pid),
        unit: process.unit.clone(),
        container: process.container.clone(),
        user: process.user.clone(),
        share,
        how,
    }
}

/// `part` of `all`, 0 to 1. Exact up to 2^53 sockets.
pub(crate) fn share(part: u64, all: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of sockets are far below 2^53")]
    let share = part as f64 / all.max(1) as f64;
    share
}

#[cfg(test)]
mod tests;
