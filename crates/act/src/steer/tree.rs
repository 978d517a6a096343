//! The cgroup v2 tree: where it is mounted, or in a mount that this process alone has.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use tidewait_kernel::cgroup::{mounted_apart, mounts};

use super::SteerError;

/// The tree, by its root.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// Where it is mounted for all to see.
    mounted: Option<PathBuf>,
}

/// A control group, opened.
#[derive(Debug)]
pub struct Group {
    /// Its directory.
    pub directory: OwnedFd,
    /// Its path from the root of the tree, as in /proc/PID/cgroup.
    pub path: String,
}

impl Tree {
    /// The tree that is mounted, else one that is mounted for this process alone: with cgroup v1 only, every process is in the
    /// root of version 2 all the same.
    ///
    /// # Errors
    /// Where the kernel has no cgroup v2, or does not let it be mounted.
    pub fn find() -> Result<Tree, SteerError> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
            SteerError::Failed(format!("/proc/self/mountinfo: {error}; /proc must be mounted"))
        })?;
        let failed = |error: Errno| match error {
            Errno::NODEV => SteerError::Unsupported("this kernel has no cgroup v2".to_owned()),
            Errno::PERM | Errno::ACCESS => SteerError::NotPermitted(
                "no cgroup v2 tree is mounted here, and to mount one takes CAP_SYS_ADMIN: run it as root"
                    .to_owned(),
            ),
            error => SteerError::Failed(format!("the cgroup v2 tree cannot be opened: {error}")),
        };
        if let Some(point) = whole(&mountinfo) {
            return Ok(Tree { root: directory(&point).map_err(failed)?, mounted: Some(point) });
        }
        let root = mounted_apart().map_err(failed)?;
        Ok(Tree { root, mounted: None })
    }

    /// Where it is mounted for all to see, if it is.
    pub fn mounted(&self) -> Option<&Path> {
        self.mounted.as_deref()
    }

    /// The control group at `path` from the root.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn group(&self, path: &str) -> io::Result<Group> {
        let directory = directory(&self.at(path))?;
        Ok(Group { directory, path: format!("/{}", path.trim_matches('/')) })
    }

    /// The paths of all control groups of this name, from the root.
    pub fn named(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![String::new()];
        while let Some(path) = waiting.pop() {
            // One that goes meanwhile has no entries.
            for entry in fs::read_dir(self.at(&path)).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let below = format!("{path}/{}", entry.file_name().to_string_lossy());
                if entry.file_name() == name {
                    found.push(below.clone());
                }
                waiting.push(below);
            }
        }
        found.sort();
        found
    }

    fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd())).join(path.trim_start_matches('/'))
    }
}

impl Group {
    /// The processes in it and in the groups below: all those that it steers.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut waiting = vec![PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))];
        while let Some(directory) = waiting.pop() {
            // One that goes meanwhile has neither processes nor entries.
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            let pids = processes.lines().filter_map(|line| line.parse::<u32>().ok());
            found.extend(pids.filter(|pid| *pid != 0));
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            waiting.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        found
    }

    /// Whether it was removed. The root never is.
    pub fn is_gone(&self) -> bool {
        self.path != "/"
            && !Path::new(&format!("/proc/self/fd/{}/cgroup.procs", self.directory.as_raw_fd())).exists()
    }
}

fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The first mount that shows the whole tree.
fn whole(mountinfo: &str) -> Option<PathBuf> {
    mounts(mountinfo).into_iter().find(|mount| mount.root == "/").map(|mount| mount.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_shows_the_whole_tree_is_taken() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:4 - cgroup cgroup rw,cpu\n\
                      40 31 0:38 /a /part rw - cgroup2 none rw\n\
                      41 31 0:38 / /mnt/my\\040groups rw,relatime shared:5 master:1 - cgroup2 none rw\n";
        assert_eq!(whole(mounts), Some(PathBuf::from("/mnt/my groups")));
        assert_eq!(whole("nonsense\n"), None);
    }
}
