//! Which processes matter: those near their limit of open files, and those that hold sockets that go nowhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rustix::fs::stat;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tidewait_model::machine::Process;
use tidewait_model::{Limit, Lingering, NamespaceFacts, OwnerBasis};

use super::unconnected::{Counts, MANY};
use crate::owners;
use crate::places::{Busy, Place};
use crate::procfs::{Proc, Users, link_inode, why_denied};

/// The share of its limit of open files from which a process is told of, in percent: at the usual limit of 1024 the
/// rest is a few seconds' worth of connections.
const NEAR: u64 = 70;
/// The most processes that are told of.
const TOLD: usize = 64;

/// The processes that matter, most descriptors first. `unconnected`: sockets without a connection by process, where they
/// were looked for. `everywhere`: whether processes of namespaces that were not looked into count.
pub(super) fn processes(
    root: &Path,
    busy: &[Busy],
    namespaces: &[(&Place, NamespaceFacts)],
    unconnected: Option<&Counts>,
    everywhere: bool,
) -> Vec<Process> {
    let names: HashMap<u64, &str> =
        namespaces.iter().map(|(place, facts)| (place.inode, facts.name.as_str())).collect();
    let Ok(mut proc) = Proc::open(root) else { return Vec::new() };
    let lingering = namespaces.iter().flat_map(|(_, facts)| &facts.lingering).filter_map(holder);
    let many = unconnected.into_iter().flatten().filter(|(_, sockets)| **sockets >= Some(MANY));
    let holders: HashSet<u32> = lingering.collect();
    let lost: HashSet<u32> = many.map(|(pid, _)| *pid).collect();
    // By process, so that each is told once: its namespace and its descriptors, where they are known already.
    let mut found: BTreeMap<u32, Option<Busy>> = holders.union(&lost).map(|pid| (*pid, None)).collect();
    found.extend(busy.iter().map(|busy| (busy.pid, Some(*busy))));
    let told = proc.tells_descriptors();
    let users = Users::read(root);
    let mut processes = Vec::new();
    for (pid, busy) in found {
        let (soft, hard) = proc.descriptor_limits(pid);
        let known = busy.map(|busy| busy.descriptors);
        let descriptors = known.or_else(|| {
            if told { proc.descriptors(pid) } else { proc.list_descriptors(pid, 0).ok().flatten() }
        });
        let Some(descriptors) = descriptors else { continue };
        let namespace = busy.map_or_else(
            || proc.link(pid, "ns/net", &mut [0; 64]).ok().and_then(|link| link_inode(link, "net")),
            |busy| busy.namespace,
        );
        let namespace = namespace.and_then(|inode| names.get(&inode)).map(|name| (*name).to_owned());
        // The trouble of a namespace that was not asked for is none of the answer.
        let near = soft.is_some_and(|soft| descriptors.saturating_mul(100) >= soft.saturating_mul(NEAR));
        let asked = everywhere || namespace.is_some();
        if !(asked && (near || lost.contains(&pid))) && !holders.contains(&pid) {
            continue;
        }
        let Some(process) = proc.process(pid, &users) else { continue };
        processes.push(Process {
            owner: owners::owner(&process, true, 1.0, OwnerBasis::OpenFiles),
            sockets_without_connection: unconnected.and_then(|counts| match counts.get(&pid) {
                Some(count) => *count,
                None => proc.shows_descriptors(pid).then_some(0),
            }),
            namespace,
            descriptors,
            descriptor_limit: soft,
            descriptor_limit_hard: hard,
            running_seconds: proc.running_seconds(pid),
        });
    }
    processes.sort_by_key(|process| (Reverse(process.descriptors), process.owner.pid));
    processes.truncate(TOLD);
    processes
}

/// What is said where processes do not let their open files be counted.
pub(super) fn uncounted(processes: u64) -> Option<Limit> {
    let what = match processes {
        0 => return None,
        1 => "how many files 1 process has open".to_owned(),
        many => format!("how many files {many} processes have open"),
    };
    let (why, remedy) = why_denied(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH);
    Some(Limit::new(what, format!("{why}; kernels from 6.2 on tell everybody")).remedy(remedy))
}

/// The network namespace that the sysctl files of this root are applied to at boot: that of process 1, if this /etc is
/// also process 1's. In a container nothing applies them, unless systemd runs there.
///
/// # Errors
/// What to say where process 1 does not show the one or the other.
pub(super) fn configured_namespace(root: &Path) -> Result<Option<u64>, Limit> {
    let refused = |error: Errno| {
        let (why, remedy) = match error {
            Errno::ACCESS | Errno::PERM => why_denied(CapabilitySet::SYS_PTRACE),
            other => (other.to_string(), "mount /proc".to_owned()),
        };
        Limit::new("settings that differ from what the sysctl files set", format!("process 1: {why}"))
            .remedy(remedy)
            .of_detail()
    };
    let identity = |path: &str| stat(root.join(path)).map(|file| (file.st_dev, file.st_ino));
    let Ok(ours) = identity("etc") else { return Ok(None) };
    let mut proc = Proc::open(root).map_err(refused)?;
    // sd_booted(3).
    if stat(root.join("run/systemd/system")).is_err() && is_container_image(root) {
        return Ok(None);
    }
    let namespace = link_inode(proc.link(1, "ns/net", &mut [0; 64]).map_err(refused)?, "net");
    let theirs = identity("proc/1/root/etc").map_err(refused)?;
    Ok(namespace.filter(|_| theirs == ours))
}

/// Whether this root is that of a container, by the file that podman keeps in one, and by the variable that container
/// managers give to process 1 (systemd.io/CONTAINER_INTERFACE). docker's /.dockerenv proves nothing: machines are made of
/// images too.
fn is_container_image(root: &Path) -> bool {
    let environment = || std::fs::read(root.join("proc/1/environ")).unwrap_or_default();
    stat(root.join("run/.containerenv")).is_ok()
        || environment().split(|byte| *byte == 0).any(|variable| variable.starts_with(b"container="))
}

/// The one process that holds these sockets.
fn holder(lingering: &Lingering) -> Option<u32> {
    lingering.owner.as_ref()?.pid
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root whose process 1 has this /etc.
    fn root(own_etc: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        for directory in ["etc", "run", "other/etc", "proc/1/ns"] {
            create_dir_all(path(directory)).unwrap();
        }
        symlink("net:[77]", path("proc/1/ns/net")).unwrap();
        symlink(path(if own_etc { "." } else { "other" }), path("proc/1/root")).unwrap();
        root
    }

    #[test]
    fn files_belong_to_the_namespace_of_process_1_if_its_files_are_ours() {
        let home = |root: &tempfile::TempDir| configured_namespace(root.path()).unwrap();
        assert_eq!(home(&root(true)), Some(77));
        assert_eq!(home(&root(false)), None);
        for (mark, text) in [("run/.containerenv", ""), ("proc/1/environ", "PATH=/bin\0container=lxc\0")] {
            let container = root(true);
            write(container.path().join(mark), text).unwrap();
            assert_eq!(home(&container), None, "{mark}");
            create_dir_all(container.path().join("run/systemd/system")).unwrap();
            assert_eq!(home(&container), Some(77), "{mark}");
        }
        let other = root(true);
        write(other.path().join("proc/1/environ"), "PATH=/bin\0my_container=x\0").unwrap();
        assert_eq!(home(&other), Some(77));
    }

    #[test]
    fn what_process_1_does_not_show_is_said() {
        let root = root(true);
        std::fs::remove_file(root.path().join("proc/1/ns/net")).unwrap();
        assert!(configured_namespace(root.path()).unwrap_err().why.starts_with("process 1: "));
    }

    #[test]
    fn a_process_is_told_from_seven_tenths_of_its_limit_on() {
        let root = tempfile::tempdir().unwrap();
        let process = root.path().join("proc/30");
        create_dir_all(process.join("fd")).unwrap();
        write(process.join("comm"), "web\n").unwrap();
        write(process.join("limits"), "Max open files  1000  4000  files\n").unwrap();
        let told = |descriptors, everywhere| {
            let busy = [Busy { pid: 30, namespace: None, descriptors }];
            processes(root.path(), &busy, &[], Some(&Counts::new()), everywhere)
        };
        assert_eq!(told(699, true), []);
        assert_eq!(told(700, false), [], "of a namespace that was not looked into");
        let lost = Counts::from([(30, Some(50))]);
        let few = [Busy { pid: 30, namespace: None, descriptors: 60 }];
        let of_lost = |everywhere| processes(root.path(), &few, &[], Some(&lost), everywhere).len();
        assert_eq!((of_lost(false), of_lost(true)), (0, 1), "lost connections of another namespace");
        let near = told(700, true);
        assert_eq!(
            (near[0].descriptors, near[0].descriptor_limit, near[0].descriptor_limit_hard),
            (700, Some(1_000), Some(4_000))
        );
        assert_eq!((near[0].owner.command.as_str(), near[0].sockets_without_connection), ("web", Some(0)));
    }
}
