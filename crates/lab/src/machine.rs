//! A little machine: user, process, mount, host name and network namespaces of its own, gone with its first process.
#![expect(unsafe_code, reason = "fork and unshare have no safe wrapper")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal, wait, waitpid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;
use crate::privilege::{UserNamespace, privileged};

/// Where configuration files of sysctl lie besides /etc/sysctl.conf (sysctl.d(5)); /run is empty in a machine anyway.
const SYSCTL_DIRECTORIES: &[&str] =
    &["/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// Files of the machine's own, in memory, gone with it.
const SCRATCH: &str = "/run/lab";

/// A little machine, seen from inside.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Its network namespace: that of its process 1, so that it is the host to whoever looks from inside.
    pub(crate) netns: NetNs,
    /// The network namespace outside.
    pub(crate) outside: NetNs,
    /// An empty directory of its own.
    pub(crate) scratch: PathBuf,
}

impl Machine {
    /// Puts the calling process and what it starts into a machine of its own, and returns in there, in a process that
    /// is not its first.
    ///
    /// The process that called waits outside and ends as the machine does. The machine ends when the process returned to ends,
    /// or when the one outside does, however that ends. /proc shows the machine's processes alone; /run,
    /// /dev/shm and the directories of sysctl.d are empty and its own, the network is an idle loopback.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] where namespaces are not allowed; or when a mount fails. The process must have a single
    /// thread.
    pub(crate) fn enter() -> Result<Machine> {
        let outside = NetNs::current()?;
        let spaces = UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWNET;
        let unshared = if privileged() {
            // SAFETY: without UnshareFlags::FILES no descriptor changes its meaning for any thread.
            unsafe { unshare_unsafe(spaces) }
        } else {
            UserNamespace::prepare().unshare(spaces | UnshareFlags::NEWUSER)
        };
        unshared.map_err(refused)?;
        // After the unshare: new credentials clear it (kernel/cred.c, commit_creds).
        die_with_parent()?;
        if let Some(first) = fork()? {
            process::exit(code_of(first));
        }
        // Process 1 from here on. Its only work is to collect who died, and to take all with it.
        die_with_parent()?;
        furnish()?;
        if let Some(second) = fork()? {
            reap_until(second);
        }
        let netns = NetNs::own_machine()?;
        Ok(Machine { netns, outside, scratch: PathBuf::from(SCRATCH) })
    }
}

fn die_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("set", "the signal at the parent's death")
}

/// `None` in the child.
fn fork() -> Result<Option<Pid>> {
    // SAFETY: the process has a single thread, so that no lock is held by one that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("fork", "a little machine"),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Waits for `child` and says how it ended, as a shell does.
fn code_of(child: Pid) -> i32 {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return code(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Collects every process that ends, until `child` does, and ends with its code.
fn reap_until(child: Pid) -> ! {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => process::exit(code(status)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => process::exit(1),
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

/// Mounts and names of the new machine; nothing of it is seen outside.
fn furnish() -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| match error {
        // Mounting all the same could show outside.
        Errno::INVAL => Error::NotPermitted(
            "keep the mounts of a scenario to itself: / is a directory of another mount, as in a chroot. Run it outside, or \
             mount the directory on itself before chroot: mount --bind DIR DIR"
                .to_owned(),
        ),
        other => refused(other),
    })?;
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV, None).map_err(|error| match error {
        Errno::PERM | Errno::ACCESS => Error::NotPermitted(
            "mount a /proc of its own: parts of this /proc are covered, as in a container; run it outside, or in a \
             container that may see all of /proc"
                .to_owned(),
        ),
        other => Error::Call { operation: "mount", subject: "/proc".to_owned(), source: other.into() },
    })?;
    empty_directory(Path::new("/run"))?;
    // Where squid and others leave shared memory behind.
    if Path::new("/dev/shm").is_dir() {
        empty_directory(Path::new("/dev/shm"))?;
    }
    for directory in ["/run/netns", "/run/sysctl.d", SCRATCH] {
        fs::create_dir(directory).context("create", directory)?;
    }
    let mut covered = Vec::new();
    for directory in SYSCTL_DIRECTORIES {
        // /lib is a link to /usr/lib on most systems.
        if let Ok(directory) = fs::canonicalize(directory)
            && !covered.contains(&directory)
        {
            empty_directory(&directory)?;
            covered.push(directory);
        }
    }
    let single = "/etc/sysctl.conf";
    if Path::new(single).exists() {
        let empty = "/run/sysctl.conf";
        fs::write(empty, "").context("create", empty)?;
        mount_bind(empty, single).context("mount over", single)?;
    }
    rustix::system::sethostname(b"lab").context("set", "the host name")?;
    // What it is called in lists of processes; a child that is not told otherwise is called the same.
    rustix::thread::set_name(c"lab").context("set", "the process name")
}

fn empty_directory(directory: &Path) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("lab", directory, "tmpfs", flags, Some(c"mode=755")).context("mount over", directory.display())
}

/// The words for a kernel that does not let this user make namespaces.
fn refused(error: Errno) -> Error {
    match error {
        Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS => Error::NotPermitted(format!(
            "make a machine of its own for a scenario: {error}. Run it as root, or allow user namespaces: sysctl \
             user.max_user_namespaces (above 0), kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        )),
        Errno::INVAL => {
            Error::Refused("make a machine of its own: this process has threads already".to_owned())
        }
        other => Error::Call {
            operation: "make",
            subject: "a machine of its own".to_owned(),
            source: other.into(),
        },
    }
}
