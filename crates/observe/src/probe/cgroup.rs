//! Probes of the cgroup v2 tree, and the temporary cgroup that BPF programs are tried in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;

use super::{Answer, Doing, Failure, Spec};

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "cgroup2",
        title: "a cgroup v2 tree",
        enables: "steer, spread, trace: by unit or container",
        needs: CapabilitySet::empty(),
        remedy: "mount -t cgroup2 none /sys/fs/cgroup/unified (any directory will do)",
        run: |_| mounted(),
    },
    Spec {
        id: "cgroup-create",
        title: "make a cgroup of one's own",
        enables: "exec --steer, exec --spread: for one command",
        needs: CapabilitySet::DAC_OVERRIDE,
        remedy: "a cgroup v2 tree that is mounted writable, or delegation by systemd (Delegate=yes)",
        run: |_| {
            let temporary = Temporary::new()?;
            let path = temporary.path.display().to_string();
            temporary.remove().doing("rmdir")?;
            Ok(format!("made and removed {path}"))
        },
    },
];

/// The first cgroup2 mount of this process's mount namespace, and how many v1 hierarchies there are beside it.
fn mounts() -> io::Result<(Option<PathBuf>, usize)> {
    Ok(parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse_mounts(mountinfo: &str) -> (Option<PathBuf>, usize) {
    let (mut v2, mut v1) = (None, 0);
    for line in mountinfo.lines() {
        // "31 23 0:28 / /sys/fs/cgroup rw,… shared:9 - cgroup2 cgroup2 rw" (proc_pid_mountinfo(5))
        let Some((left, right)) = line.split_once(" - ") else { continue };
        match right.split(' ').next() {
            Some("cgroup") => v1 += 1,
            Some("cgroup2") if v2.is_none() => {
                v2 = left.split(' ').nth(4).map(|path| PathBuf::from(unescape(path)));
            }
            _ => {}
        }
    }
    (v2, v1)
}

/// Undoes the octal escapes of mountinfo: blank, tab, newline and backslash.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn mounted() -> Answer {
    match mounts().doing("/proc/self/mountinfo")? {
        (Some(path), 0) => Ok(format!("at {}", path.display())),
        (Some(path), v1) => Ok(format!("at {}, beside {v1} v1 hierarchies (hybrid)", path.display())),
        (None, 0) => Err(Failure::Unknown("no cgroup tree is mounted here".to_owned())),
        (None, v1) => Err(Failure::Unknown(format!("only {v1} v1 hierarchies are mounted here"))),
    }
}

/// The cgroup this process is in, as a directory.
fn own_directory(mount: &Path) -> io::Result<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup")?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // "/../…" is a place outside of this cgroup namespace.
    Ok(if path.starts_with("..") { mount.to_owned() } else { mount.join(path) })
}

/// A cgroup named after this process, for as long as the value lives.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    home: PathBuf,
}

impl Temporary {
    pub(super) fn new() -> Result<Self, Failure> {
        let (mount, _) = mounts().doing("/proc/self/mountinfo")?;
        let mount = mount
            .ok_or_else(|| Failure::Unknown("not tried: no cgroup v2 tree is mounted here".to_owned()))?;
        let home = own_directory(&mount).doing("/proc/self/cgroup")?;
        let path = home.join(name(rustix::process::getpid()));
        fs::create_dir(&path).doing(&format!("mkdir {}", path.display()))?;
        Ok(Self { path, home })
    }

    /// Moves this process in; it moves out when the value is dropped.
    #[cfg_attr(not(feature = "bpf"), expect(dead_code, reason = "only BPF programs are tried from inside"))]
    pub(super) fn join(&self) -> Result<(), Failure> {
        fs::write(self.path.join("cgroup.procs"), "0").doing(&format!("joining {}", self.path.display()))
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What fails here the parent tries once more, when this process is no longer in the way.
        let _ = fs::write(self.home.join("cgroup.procs"), "0");
        let _ = self.remove();
    }
}

/// Removes the temporary cgroup of a worker that ended before it could; usually there is none.
pub(super) fn clean_up_after(worker: Pid) {
    if let Ok((Some(mount), _)) = mounts()
        && let Ok(home) = own_directory(&mount)
    {
        let _ = fs::remove_dir(home.join(name(worker)));
    }
}

fn name(process: Pid) -> String {
    format!("tidewait-probe-{}", process.as_raw_nonzero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_v2_tree_wherever_it_is_mounted() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /mnt/my\\040groups rw,relatime shared:5 master:1 - cgroup2 none rw\n";
        assert_eq!(parse_mounts(hybrid), (Some(PathBuf::from("/mnt/my groups")), 1));
        assert_eq!(parse_mounts("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").1, 0);
        assert_eq!(parse_mounts("nonsense\n"), (None, 0));
    }
}
