//! Probes of the cgroup v2 tree, and the temporary cgroup that BPF programs are tried in.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use tidewait_kernel::cgroup::{mounted_apart, mounts, v1_hierarchies};

use super::{Answer, Doing, Failure, Spec};

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "cgroup2",
        title: "a cgroup v2 tree",
        enables: "steer, spread, trace: by unit or container",
        needs: CapabilitySet::empty(),
        remedy: "root, or mount -t cgroup2 none /sys/fs/cgroup/unified (any directory will do)",
        run: |_| tree(),
    },
    Spec {
        id: "cgroup-create",
        title: "make a cgroup of one's own",
        enables: "exec --steer, exec --spread: for one command",
        needs: CapabilitySet::DAC_OVERRIDE,
        remedy: "a cgroup v2 tree that is mounted writable, or delegation by systemd (Delegate=yes)",
        run: |_| {
            let temporary = Temporary::new()?;
            let path = match temporary.path.strip_prefix("/proc/self/fd") {
                Ok(apart) => format!("/{}", apart.iter().skip(1).collect::<PathBuf>().display()),
                Err(_) => temporary.path.display().to_string(),
            };
            temporary.remove().doing("rmdir")?;
            Ok(format!("made and removed {path}"))
        },
    },
];

/// How the v2 tree is reached. Where it is mounted nowhere, it is as by the commands: in a mount that this process alone has.
fn tree() -> Answer {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").doing("/proc/self/mountinfo")?;
    let (v2, v1) = (mounts(&mountinfo), v1_hierarchies(&mountinfo));
    match (v2.first(), v1) {
        (Some(mount), 0) => Ok(format!("at {}", mount.point.display())),
        (Some(mount), v1) => Ok(format!("at {}, beside cgroup v1 ({v1}, hybrid)", mount.point.display())),
        (None, v1) => {
            apart()?;
            let beside = if v1 == 0 { String::new() } else { format!(", beside cgroup v1 ({v1})") };
            Ok(format!(
                "mounted nowhere{beside}; tidewait mounts it for itself, with every process in its root"
            ))
        }
    }
}

fn apart() -> Result<OwnedFd, Failure> {
    mounted_apart().map_err(|error| match error {
        Errno::NODEV => Failure::Unsupported("this kernel has no cgroup v2".to_owned()),
        Errno::PERM => Failure::Unknown(
            "the cgroup v2 tree is mounted nowhere, and to mount it takes CAP_SYS_ADMIN".to_owned(),
        ),
        error => Failure::of("mounting the cgroup v2 tree, which is mounted nowhere", &error.into()),
    })
}

/// The directory of the cgroup that this process is in; with the mount that it is to be seen in, if nobody else has one.
fn home() -> Result<(PathBuf, Option<OwnedFd>), Failure> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").doing("/proc/self/mountinfo")?;
    let membership = fs::read_to_string("/proc/self/cgroup").doing("/proc/self/cgroup")?;
    // The kernel leaves the line out for as long as nobody has mounted the tree: then everybody is in its root.
    let own = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mounts = mounts(&mountinfo);
    if let Some(path) = mounts.iter().find_map(|mount| mount.path_of(own)) {
        return Ok((path, None));
    }
    if let Some(mount) = mounts.into_iter().next() {
        // "/../…": a place outside of this cgroup namespace.
        return Ok((mount.point, None));
    }
    let root = apart()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    Ok((path, Some(root)))
}

/// A cgroup named after this process, for as long as the value lives.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    home: PathBuf,
    /// Where the tree is mounted for this alone.
    _mount: Option<OwnedFd>,
}

impl Temporary {
    pub(super) fn new() -> Result<Self, Failure> {
        let (home, mount) = home()?;
        let path = home.join(name(rustix::process::getpid()));
        fs::create_dir(&path).doing(&format!("mkdir {}", path.display()))?;
        Ok(Self { path, home, _mount: mount })
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
    if let Ok((home, _mount)) = home() {
        let _ = fs::remove_dir(home.join(name(worker)));
    }
}

fn name(process: Pid) -> String {
    format!("tidewait-probe-{}", process.as_raw_nonzero())
}
