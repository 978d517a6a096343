//! Where the processes live: one pass over /proc.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::{Busy, MANY_DESCRIPTORS};
use crate::procfs::{Proc, Readable, link_inode};

/// `PROC_PID_INIT_INO`, include/linux/proc_ns.h: the inode of the initial process namespace on every kernel
/// since 3.8.
pub(super) const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Processes of the initial process namespace that are in the initial network namespace: the parent of the kernel's
/// threads, which cannot leave it, and init, which a security module may shield.
pub(super) const ON_THE_HOST: [u32; 2] = [2, 1];

/// What the processes tell of network namespaces.
///
/// A process tells the inode of its namespace only to those who might trace it. Everybody may look into its `net`
/// directory, though, and the files in there have inodes of their own in every namespace (`proc_alloc_inum`,
/// fs/proc/generic.c): the *mark* of a namespace here. So a process that refuses still shows whether it lives where
/// others do.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Inode of the calling thread's network namespace.
    pub(super) own: Option<u64>,
    /// Mark of the same.
    own_mark: Option<u64>,
    /// The calling thread below /proc: `1234/task/1235`.
    pub(super) own_thread: Option<String>,
    /// Whether the process namespace is the machine's, if that can be told.
    pub(super) machines_own: Option<bool>,
    /// Inode of the namespace that the kernel's threads or init live in, if the process namespace is the machine's.
    pub(super) of_init: Option<u64>,
    /// Inode of each namespace that a process lives in, with the lowest number of such a process.
    pub(super) leaders: BTreeMap<u64, u32>,
    /// The lowest process number of each namespace whose inode nobody in it tells, by mark.
    pub(super) closed: BTreeMap<u64, u32>,
    /// Processes that show nothing at all.
    pub(super) denied: u64,
    /// Those with many open files.
    pub(super) busy: Vec<Busy>,
    /// Those whose open files could not be counted.
    pub(super) uncounted: u64,
    /// Whether /proc leaves out other users' processes.
    pub(super) hidden: bool,
}

impl Processes {
    /// One readlink a process; a process that has gone meanwhile is no loss.
    pub(super) fn look(proc: &mut Proc) -> Processes {
        let mut buffer = [0; 64];
        let inode = |link: Result<&[u8], Errno>, kind: &str| link_inode(link.ok()?, kind);
        let thread = proc.directory.link("thread-self", &mut buffer).ok().map(<[u8]>::to_vec);
        let pid_namespace = inode(proc.directory.link("self/ns/pid", &mut buffer), "pid");
        let mut found = Processes {
            own: inode(proc.directory.link("thread-self/ns/net", &mut buffer), "net"),
            own_mark: proc.directory.inode("thread-self/net/dev").ok(),
            own_thread: thread.and_then(|path| String::from_utf8(path).ok()),
            machines_own: pid_namespace.map(|inode| inode == INITIAL_PID_NAMESPACE),
            ..Processes::default()
        };
        if found.machines_own == Some(true) {
            found.of_init =
                ON_THE_HOST.into_iter().find_map(|pid| found.namespace_of(proc, pid).ok().flatten());
        }
        let pids = proc.pids().unwrap_or_default();
        found.hidden = pids.first().is_some_and(|first| *first != 1);
        let told = proc.tells_descriptors();
        for pid in pids {
            let namespace = found.namespace_of(proc, pid);
            found.count_descriptors(proc, pid, namespace.ok().flatten(), told);
            match namespace {
                Ok(Some(inode)) => {
                    found.leaders.entry(inode).or_insert(pid);
                }
                Ok(None) => {}
                Err(Some(mark)) => {
                    found.closed.entry(mark).or_insert(pid);
                }
                Err(None) => found.denied += 1,
            }
        }
        if !found.closed.is_empty() {
            for pid in found.leaders.values() {
                if let Ok(mark) = mark(proc, *pid) {
                    found.closed.remove(&mark);
                }
            }
        }
        found
    }

    /// Keeps process `pid` if it has many open files. `told`: whether the kernel tells their number.
    fn count_descriptors(&mut self, proc: &mut Proc, pid: u32, namespace: Option<u64>, told: bool) {
        let descriptors = if told {
            proc.descriptors(pid)
        } else {
            proc.list_descriptors(pid, MANY_DESCRIPTORS).unwrap_or_else(|error| {
                self.uncounted += u64::from(proc.meaning(pid, error) == Readable::Denied);
                None
            })
        };
        if let Some(descriptors) = descriptors.filter(|count| *count >= MANY_DESCRIPTORS) {
            self.busy.push(Busy { pid, namespace, descriptors });
        }
    }

    /// The inode of the namespace that process `pid` lives in; `None` if it is gone. If the process refuses: the
    /// mark of its namespace, where that shows.
    pub(super) fn namespace_of(&self, proc: &mut Proc, pid: u32) -> Result<Option<u64>, Option<u64>> {
        match proc.link(pid, "ns/net", &mut [0; 64]) {
            Ok(link) => Ok(link_inode(link, "net")),
            Err(Errno::ACCESS | Errno::PERM) => match mark(proc, pid) {
                Ok(mark) if self.own_mark == Some(mark) => Ok(self.own),
                Ok(mark) => Err(Some(mark)),
                Err(Errno::ACCESS | Errno::PERM) => Err(None),
                Err(_) => Ok(None),
            },
            Err(_) => Ok(None),
        }
    }
}

/// The mark of the namespace that process `pid` lives in.
fn mark(proc: &mut Proc, pid: u32) -> Result<u64, Errno> {
    proc.inode(pid, "net/dev")
}
