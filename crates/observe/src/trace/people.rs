//! Owners as the kernel noted them, made into names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use tidewait_model::Limit;
use tidewait_model::trace::Program;

use super::layout::{CgroupPath, LEVELS, Owner};
use crate::procfs::{Membership, Proc, Users, printable};

/// Inode of the initial PID namespace (`PID_NS_INIT_INO`, include/uapi/linux/nsfs.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What is needed to name owners.
pub(super) struct Names {
    proc: Option<Proc>,
    users: Users,
    /// Whether /proc counts processes as the kernel's own list does.
    same_numbers: bool,
    /// The kernel noted control groups of cgroup v1, and there may be more to say in other hierarchies.
    pids_tree: bool,
}

/// Whether the controller `pids`, which systemd and all runtimes use for whatever they start, is one of cgroup v1.
pub(super) fn pids_tree(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() != Some("0")
            && fields.next().is_some_and(|names| names.split(',').any(|name| name == "pids"))
    })
}

impl Names {
    pub(super) fn read(root: &Path) -> Names {
        let namespace = std::fs::metadata(root.join("proc/self/ns/pid")).ok();
        let same_numbers = namespace.is_none_or(|file| file.ino() == FIRST_PID_NAMESPACE);
        Names {
            proc: Proc::open(root).ok(),
            users: Users::read(root),
            same_numbers,
            pids_tree: pids_tree(root),
        }
    }

    /// What is to be said of the numbers of processes.
    pub(super) fn limit(&self) -> Option<Limit> {
        (!self.same_numbers).then(|| {
            Limit::new(
                "traced: process numbers as they are here",
                "this PID namespace has numbers of its own; those traced are the machine's, and of who listened before only \
                 processes of this namespace are known",
            )
            .remedy("run it in the machine's PID namespace (docker run --pid=host)")
            .of_detail()
        })
    }

    /// The owner in words.
    pub(super) fn program(&mut self, owner: &Owner, path: Option<&CgroupPath>) -> Program {
        let membership = path.map(|path| Membership::parse(&format!("0::{}", text(path))));
        let whole = path.is_some_and(whole);
        let membership = match membership {
            Some(told) if told.container.is_some() => told,
            Some(told) if whole && told.unit.is_some() && !self.pids_tree => told,
            // Of a process that still lives there is more to be read.
            told => self.of_process(owner).or(told).unwrap_or_default(),
        };
        Program {
            command: printable(&lossy(&owner.command)),
            pid: (owner.tgid != 0).then_some(owner.tgid),
            processes: (owner.tgid != 0).then_some(1),
            unit: membership.unit,
            container: membership.container,
            user: Some(self.users.name(owner.uid)),
        }
    }

    /// What /proc tells of an owner, if the process with its number is still the one that was noted: it was started before.
    fn of_process(&mut self, owner: &Owner) -> Option<Membership> {
        if owner.tgid == 0 || !self.same_numbers {
            return None;
        }
        let proc = self.proc.as_mut()?;
        let running = proc.running_seconds(owner.tgid)?;
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
        // /proc counts in hundredths of a second.
        let noted = now - owner.since as f64 / 1e9 - 0.02;
        (running >= noted).then(|| proc.membership(owner.tgid))
    }
}

/// The path of a control group from the outermost name that was kept.
fn text(path: &CgroupPath) -> String {
    let levels = usize::try_from(path.levels).unwrap_or(LEVELS).min(LEVELS);
    let mut text = String::new();
    for name in path.names.iter().take(levels).rev() {
        text.push('/');
        text.push_str(&lossy(name));
    }
    text
}

/// Whether every name of the path was kept, and to its end.
fn whole(path: &CgroupPath) -> bool {
    let levels = usize::try_from(path.levels).unwrap_or(usize::MAX);
    let cut = |name: &[u8]| name.iter().position(|byte| *byte == 0).is_none_or(|end| end + 1 == name.len());
    levels <= LEVELS && !path.names.iter().take(levels).any(|name| cut(name))
}

/// Bytes up to the first zero.
fn lossy(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::layout::NAME;

    fn path(names: &[&str], levels: u32) -> CgroupPath {
        let mut path = CgroupPath { levels, unused: 0, names: [[0; NAME]; LEVELS] };
        for (place, name) in path.names.iter_mut().zip(names) {
            let length = name.len().min(place.len() - 1);
            place[..length].copy_from_slice(&name.as_bytes()[..length]);
        }
        path
    }

    #[test]
    fn a_path_is_whole_unless_levels_or_ends_of_names_are_missing() {
        let (nested, deeper) = (path(&["b", "a"], 2), path(&["x"; 8], 9));
        assert_eq!((text(&nested).as_str(), whole(&nested)), ("/a/b", true));
        assert_eq!((text(&deeper).as_str(), whole(&deeper)), ("/x/x/x/x/x/x/x/x", false));
        let long = "n".repeat(300);
        assert!(!whole(&path(&[&long], 1)));
        assert!(whole(&path(&[], 0)));
    }

    #[test]
    fn only_a_process_that_was_there_already_is_asked() {
        let mut names = Names { same_numbers: true, ..Names::read(Path::new("/")) };
        let now = clock_gettime(ClockId::Monotonic);
        let now = u64::try_from(now.tv_sec).unwrap() * 1_000_000_000;
        let owner = |tgid, since| Owner { tgid, since, ..Owner::default() };
        let me = std::process::id();
        assert!(names.of_process(&owner(me, now + 1_000_000_000)).is_some());
        // Whoever was noted when the machine had just started was another with the same number.
        assert_eq!(names.of_process(&owner(me, 1)), None);
        assert_eq!(names.of_process(&owner(0, now)), None);
        let mut elsewhere = Names { same_numbers: false, ..names };
        assert_eq!(elsewhere.of_process(&owner(me, now + 1_000_000_000)), None);
        assert!(elsewhere.limit().is_some());
    }

    #[test]
    fn the_hierarchy_of_pids_is_looked_for_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let tree = |text: &str| {
            std::fs::write(root.path().join("proc/self/cgroup"), text).unwrap();
            pids_tree(root.path())
        };
        assert!(tree("9:name=systemd:/\n8:cpu,pids:/a\n0::/a\n"));
        assert!(!tree("9:name=pids:/\n8:cpu,cpuacct:/pids\n0::/pids\n"));
        assert!(!tree("0::/user.slice\n"));
    }

    #[test]
    fn another_pid_namespace_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("proc/self/ns/pid");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
        assert!(!Names::read(root.path()).same_numbers);
    }
}
