//! The cgroup v2 tree: where it is mounted, and a mount of it that this process alone has.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Mounts the tree where nobody else sees it, for as long as the descriptor is open; the root of it. Where only the
/// hierarchies of version 1 are mounted each process is in the root of version 2 all the same.
///
/// # Errors
/// NODEV where the kernel has no cgroup v2, PERM without CAP_SYS_ADMIN.
pub fn mounted_apart() -> Result<OwnedFd, Errno> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A cgroup v2 tree, or a part of it, that is mounted.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// The cgroup that is at the mount point.
    pub root: String,
    /// Where it is mounted.
    pub point: PathBuf,
}

impl Mount {
    /// Where the cgroup `own` is, if it is in this part.
    pub fn path_of(&self, own: &str) -> Option<PathBuf> {
        let below = if self.root == "/" { own } else { own.strip_prefix(&self.root)? };
        let is_path = below.is_empty() || below.starts_with('/');
        (is_path && !below.starts_with("/..")).then(|| self.point.join(below.trim_start_matches('/')))
    }
}

/// The cgroup v2 mounts among the lines of /proc/self/mountinfo (proc_pid_mountinfo(5)).
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    let unescape = |path: &str| {
        path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    };
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut words = left.split(' ').skip(3);
        let (root, point) = (unescape(words.next()?), PathBuf::from(unescape(words.next()?)));
        (right.split(' ').next() == Some("cgroup2")).then_some(Mount { root, point })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// How many hierarchies of cgroup v1 are mounted, among the same lines.
pub fn v1_hierarchies(mountinfo: &str) -> usize {
    let kinds = mountinfo.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next());
    kinds.filter(|kind| *kind == "cgroup").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_in_the_part_that_is_mounted() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /mnt/my\\040groups rw,relatime shared:5 master:1 - cgroup2 none rw\n\
                      42 31 0:38 /pods/a /part rw,relatime - cgroup2 none rw\n";
        let found = mounts(hybrid);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path_of("/x/y"), Some(PathBuf::from("/mnt/my groups/x/y")));
        assert_eq!(found[1].path_of("/pods/a/b"), Some(PathBuf::from("/part/b")));
        assert_eq!(found[1].path_of("/pods/a"), Some(PathBuf::from("/part/")));
        assert_eq!(found[1].path_of("/pods/ab"), None);
        assert_eq!(found[0].path_of("/../elsewhere"), None);
        assert!(mounts("nonsense\n").is_empty());
        assert_eq!((v1_hierarchies(hybrid), v1_hierarchies("nonsense\n")), (1, 0));
    }
}
