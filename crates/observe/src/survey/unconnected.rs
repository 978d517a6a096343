//! TCP sockets that a program holds though their connection is gone: reset, timed out or destroyed.
//!
//! They are in no table. So they are what is left of a process's TCP sockets when all that are in a table are taken
//! away. A socket may have been made, connected or closed meanwhile, so those that are left are looked at twice: the
//! tables are read again, and each has to be the same file as before.

use std::collections::{HashMap, HashSet};
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

/// How many sockets without a connection each process has.
///
/// Only processes that live in one of `places`, and whose sockets are in the tables of these therefore, are counted.
/// `None` if a table could not be read again.
pub(super) fn confirm<'p>(
    root: &Path,
    mut candidates: Vec<Unconnected>,
    places: impl Iterator<Item = &'p Place> + Clone,
) -> Option<HashMap<u32, u64>> {
    let mut counts = HashMap::new();
    if candidates.is_empty() {
        return Some(counts);
    }
    let mut connected = HashSet::new();
    for place in places.clone() {
        connected.extend(place.enter(inodes).ok()??);
    }
    candidates.retain(|candidate| !connected.contains(&candidate.inode));
    let inside: HashSet<u64> = places.map(|place| place.inode).collect();
    let mut proc = Proc::open(root).ok()?;
    let mut buffer = [0; 64];
    let mut known = HashMap::new();
    for Unconnected { pid, descriptor, inode } in candidates {
        let lives_there = *known.entry(pid).or_insert_with(|| {
            let namespace =
                proc.link(pid, "ns/net", &mut buffer).ok().and_then(|link| link_inode(link, "net"));
            namespace.is_some_and(|namespace| inside.contains(&namespace))
        });
        let same = lives_there
            && (proc.link(pid, &format!("fd/{descriptor}"), &mut buffer).ok())
                .and_then(|link| link_inode(link, "socket"))
                == Some(u64::from(inode));
        if same {
            *counts.entry(pid).or_default() += 1;
        }
    }
    Some(counts)
}

/// What cannot be told apart on kernels before 6.8, which leave bound sockets that do nothing out of the dump
/// (net/ipv4/inet_diag.c, `TCPF_BOUND_INACTIVE`), if there is something to tell apart.
pub(super) fn limit(counts: &HashMap<u32, u64>) -> Option<Limit> {
    let release = procfs::kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().flatten()?, numbers.next().flatten()?);
    (version < (6, 8) && counts.values().any(|sockets| *sockets >= MANY)).then(|| {
        Limit::new(
            "whether sockets without a connection are bound to a port and wait to be used",
            format!("kernel {release}; 6.8 and later show such sockets"),
        )
        .of_detail()
    })
}

/// The inodes of all sockets of the calling thread's namespace.
fn inodes() -> Option<Vec<u32>> {
    let mut inodes = Vec::new();
    let mut netlink = Netlink::open().ok()?;
    for family in Family::BOTH {
        let request = Request::all(family).states_except([State::TimeWait, State::NewSynRecv]);
        netlink.dump(&request, &mut |row| inodes.extend(row.inode())).ok()?;
    }
    Some(inodes)
}
