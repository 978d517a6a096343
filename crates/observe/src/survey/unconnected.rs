//! TCP sockets that a program holds though their connection is gone: reset, timed out or destroyed.
//!
//! They are in no table. So they are what is left of a process's TCP sockets when all that are in a table are taken
//! away. A socket may have been made, connected or closed meanwhile, so those that are left are looked at twice: the
//! tables are read again, and each has to be the same file as before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use tidewait_model::{Limit, State};

use crate::owners::Unconnected;
use crate::places::Place;
use crate::procfs::{self, Proc, link_inode};
use crate::sock_diag::{Family, Netlink, Request, Sockets};

/// So many sockets without a connection, over those that every program has for a moment between socket() and
/// connect(), are worth a search through all open files.
pub(super) const SUSPICIOUS: u64 = 50;

/// So many of them make a process worth telling of.
pub(super) const MANY: u64 = 20;

/// How many sockets without a connection each process has: those with a few are not worth a second look, and have
/// `None`; those with none are left out.
pub(super) type Counts = HashMap<u32, Option<u64>>;

/// Counts them.
///
/// Only processes that live in one of `places`, and whose sockets are in the tables of these therefore, are counted.
/// `None` if a table could not be read again.
pub(super) fn confirm<'p>(
    root: &Path,
    candidates: Vec<Unconnected>,
    places: impl Iterator<Item = &'p Place>,
) -> Option<Counts> {
    let mut by_process: BTreeMap<u32, Vec<Unconnected>> = BTreeMap::new();
    for candidate in candidates {
        by_process.entry(candidate.pid).or_default().push(candidate);
    }
    let mut counts: Counts = by_process.keys().map(|pid| (*pid, None)).collect();
    by_process.retain(|_, candidates| candidates.len() as u64 >= MANY);
    if by_process.is_empty() {
        return Some(counts);
    }
    let proc = Proc::open(root).ok()?;
    let mut buffer = [0; 64];
    let mut inode = |path: &str, kind| link_inode(proc.directory.link(path, &mut buffer).ok()?, kind);
    let homes: HashMap<u32, u64> =
        by_process.keys().filter_map(|pid| Some((*pid, inode(&format!("{pid}/ns/net"), "net")?))).collect();
    let wanted: HashSet<u64> = homes.values().copied().collect();
    let mut connected = HashMap::new();
    for place in places.filter(|place| wanted.contains(&place.inode)) {
        connected.insert(place.inode, place.enter(inodes).ok()??);
    }
    for (pid, candidates) in by_process {
        let Some(connected) = homes.get(&pid).and_then(|home| connected.get(home)) else { continue };
        let still = |candidate: &&Unconnected| {
            let path = format!("{pid}/fd/{}", candidate.descriptor);
            !connected.contains(&candidate.inode) && inode(&path, "socket") == Some(candidate.inode.into())
        };
        counts.insert(pid, Some(candidates.iter().filter(still).count() as u64));
    }
    Some(counts)
}

/// What cannot be told apart on kernels before 6.8, which leave bound sockets that do nothing out of the dump
/// (net/ipv4/inet_diag.c, `TCPF_BOUND_INACTIVE`), if there is something to tell apart.
pub(super) fn limit(counts: &Counts) -> Option<Limit> {
    let release = procfs::kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().flatten()?, numbers.next().flatten()?);
    (version < (6, 8) && counts.values().any(|sockets| *sockets >= Some(MANY))).then(|| {
        Limit::new(
            "whether sockets without a connection are bound to a port and wait to be used",
            format!("kernel {release}; 6.8 and later show such sockets"),
        )
        .of_detail()
    })
}

/// The inodes of all sockets of the calling thread's namespace.
fn inodes() -> Option<HashSet<u32>> {
    let mut inodes = HashSet::new();
    let mut netlink = Netlink::open().ok()?;
    for family in Family::BOTH {
        let request = Request::all(family).states_except([State::TimeWait, State::NewSynRecv]);
        netlink.dump(&request, &mut |row| inodes.extend(row.inode())).ok()?;
    }
    Some(inodes)
}
