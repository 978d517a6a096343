//! The pass over /proc/PID/fd.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tidewait_model::Limit;

use super::{Held, Holders, Process, Search, Unconnected};
use crate::procfs::{Proc, Readable, Users, link_inode, why_denied};

/// Finds who holds the sockets that `search` is about, by one pass over the file descriptors of every process
/// below `root`/proc. The first thread's descriptors stand for the process.
///
/// The pass never stops early, though every socket may have a holder before its end: whoever comes later may
/// share one, and a server's first process would be taken for its only one. It costs about two microseconds a
/// descriptor, nearly all of them in the kernel; [`Holders::timing`] tells. A process that ends meanwhile is no
/// error: its sockets are gone too. What may not be read is a limit.
pub fn holders(root: &Path, search: &Search) -> Holders {
    let start = Instant::now();
    let mut found = Holders::default();
    if !search.wanted.is_empty() || search.connected.is_some() {
        walk(root, search, &mut found);
    }
    found.seconds = start.elapsed().as_secs_f64();
    found
}

fn walk(root: &Path, search: &Search, found: &mut Holders) {
    let no_proc =
        |error: Errno| Limit::new("owners of sockets", format!("/proc: {error}")).remedy("mount /proc");
    let opened = Proc::open(root).and_then(|proc| Ok((proc.pids()?, proc)));
    let (pids, mut proc) = match opened {
        Ok(opened) => opened,
        Err(error) => return found.limits.push(no_proc(error)),
    };
    let users = Users::read(root);
    // (socket, index of the process): flat, so that a million sockets are no million small lists.
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    let mut entries = [MaybeUninit::uninit(); 16 * 1024];
    let mut denied = 0_u64;
    for pid in pids {
        let first = pairs.len();
        let Ok(index) = u32::try_from(found.processes.len()) else { break };
        let unconnected = &mut found.unconnected;
        let each = |descriptor: &str, inode: u32| {
            if search.wanted.contains(&inode) {
                pairs.push((inode, index));
            } else if let Some(connected) = &search.connected
                && connected.binary_search(&inode).is_err()
                && let Ok(descriptor) = descriptor.parse()
                && is_tcp(root, pid, descriptor)
            {
                unconnected.push(Unconnected { pid, descriptor, inode });
            }
        };
        match sockets(&mut proc, pid, &mut entries, each) {
            Ok(descriptors) => found.descriptors += descriptors,
            Err(error) => denied += u64::from(proc.meaning(pid, error) == Readable::Denied),
        }
        if pairs.len() > first {
            match proc.process(pid, &users) {
                Some(process) => found.processes.push(process),
                None => pairs.truncate(first),
            }
        }
    }
    if denied > 0 {
        found.limits.push(cannot_read(denied));
    }
    found.by_inode = by_inode(pairs, &found.processes);
}

/// Calls `each` with every descriptor of process `pid` that is a socket, and its inode; tells how many descriptors
/// there are.
fn sockets(
    proc: &mut Proc,
    pid: u32,
    entries: &mut [MaybeUninit<u8>],
    mut each: impl FnMut(&str, u32),
) -> Result<u64, Errno> {
    let path = proc.path(pid, "fd").to_owned();
    let descriptors = proc.directory.directory(&path)?;
    let mut buffer = [0; 64];
    let mut count = 0;
    descriptors.names(entries, |descriptor| {
        count += 1;
        if let Ok(link) = descriptors.link(descriptor, &mut buffer)
            && let Some(inode) = link_inode(link, "socket")
            && let Ok(inode) = u32::try_from(inode)
        {
            each(descriptor, inode);
        }
    })?;
    Ok(count)
}

/// Whether a socket is a TCP socket, though no table shows it: every socket carries the name of its protocol
/// (net/socket.c `sockfs_xattr_get`).
fn is_tcp(root: &Path, pid: u32, descriptor: u32) -> bool {
    let path = root.join(format!("proc/{pid}/fd/{descriptor}"));
    let mut name = [0_u8; 32];
    let length = rustix::fs::getxattr(&path, "system.sockprotoname", &mut name[..]).unwrap_or(0);
    matches!(name.get(..length), Some(b"TCP\0" | b"TCPv6\0"))
}

/// For each socket, its leading process. `pairs` are (socket, index of a process that holds it).
fn by_inode(mut pairs: Vec<(u32, u32)>, processes: &[Process]) -> HashMap<u32, Held> {
    pairs.sort_unstable();
    pairs.dedup();
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .filter_map(|holders| Some((holders.first()?.0, lead(holders, processes)?)))
        .collect()
}

/// Chooses among the processes that hold one socket: the one with the lowest number, which in most cases is the
/// parent of the others, and counts those of the same command. systemd comes last: it keeps the listening sockets
/// that it hands to services. `processes` ascend by number.
fn lead(holders: &[(u32, u32)], processes: &[Process]) -> Option<Held> {
    let process = |index: u32| processes.get(usize::try_from(index).ok()?);
    let known = holders.iter().filter_map(|&(_, index)| Some((index, process(index)?)));
    let keeps_for_others = |process: &Process| process.pid == 1 || process.command == "systemd";
    let (leader, chosen) =
        known.clone().find(|(_, process)| !keeps_for_others(process)).or_else(|| known.clone().next())?;
    let sharers = known.filter(|(_, process)| process.command == chosen.command).count();
    Some(Held { leader, sharers: u32::try_from(sharers).unwrap_or(u32::MAX).max(1) })
}

fn cannot_read(denied: u64) -> Limit {
    let (why, remedy) = why_denied(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH);
    let what = match denied {
        1 => "the sockets of 1 process".to_owned(),
        many => format!("the sockets of {many} processes"),
    };
    Limit::new(what, why).remedy(remedy).of_detail()
}

#[cfg(test)]
mod tests;
