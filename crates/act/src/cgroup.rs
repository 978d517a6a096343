//! A cgroup of one's own, for a command and whatever that starts: made below the own one, and gone with all that is in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, kill_process};

use tidewait_kernel::cgroup::{mounted_apart, mounts};

/// How long to wait for processes that were killed: one may hang in the kernel, on a disk that is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many names are tried at most.
const NAMES: u32 = 1000;

/// How often an empty cgroup is waited for where nobody says when it is.
const NAP: Duration = Duration::from_millis(5);

/// Why there is no cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel was built without.
    #[error("this kernel has no cgroup v2")]
    None,
    /// The own cgroup lies outside of the part of the tree that can be seen.
    #[error(
        "the cgroup that tidewait runs in, {0}, is not in the part of the tree that is mounted here: start it from where \
         it is, or in a cgroup namespace of its own (unshare --cgroup)"
    )]
    Outside(String),
    /// A call failed.
    #[error("cannot {operation} {place}: {source}{}", hint(.source))]
    Call {
        /// What was tried.
        operation: &'static str,
        /// Where.
        place: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl CgroupError {
    /// Whether more rights would help.
    pub fn is_permission(&self) -> bool {
        matches!(self, CgroupError::Call { source, .. }
            if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
    }
}

/// What helps.
fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => {
            " (in a container: give it a writable tree, as `docker run --cgroupns=private --privileged` does)"
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            " (needs root, or a cgroup that was handed over: systemd-run --user --scope --property=Delegate=yes)"
        }
        Some(Errno::AGAIN) => " (cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached)",
        Some(Errno::OPNOTSUPP) => " (the cgroup is threaded, or hands controllers on to its children)",
        _ => "",
    }
}

/// For `map_err`: what was tried, and where.
fn call<E: Into<io::Error>>(operation: &'static str, place: impl ToString) -> impl FnOnce(E) -> CgroupError {
    move |source| CgroupError::Call { operation, place: place.to_string(), source: source.into() }
}

/// A cgroup that was made here. It stays until [`Cgroup::remove`]: a directory has no owner that the kernel would watch.
///
/// It has no controllers, so that the cgroup above may have processes of its own.
#[derive(Debug)]
pub struct Cgroup {
    /// The directory of the cgroup above: the one that the process was in which made it.
    home: OwnedFd,
    directory: OwnedFd,
    name: String,
}

impl Cgroup {
    /// Makes a cgroup named `name` below the one that this process is in, or `name-1` and so on where there is one already: of a
    /// process in another process namespace, or left by one that was killed; what nobody holds any more is removed. Where no cgroup v2 tree is mounted, or only for
    /// reading, it is made in a mount of its own that nobody else sees.
    ///
    /// # Errors
    /// Where there is no cgroup v2, the own cgroup is out of sight, or the kernel refuses.
    pub fn create(name: &str) -> Result<Cgroup, CgroupError> {
        let mounted = match mounted_home()? {
            Some((home, shown)) => match Cgroup::create_in(home, &shown, name) {
                Err(error @ CgroupError::Call { .. }) if error.is_permission() => Some(error),
                other => return other,
            },
            None => None,
        };
        match (private_home(), mounted) {
            (Ok((home, shown)), _) => Cgroup::create_in(home, &shown, name),
            // What was in the way at the tree that is there says more.
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error),
        }
    }

    fn create_in(home: OwnedFd, shown: &str, wanted: &str) -> Result<Cgroup, CgroupError> {
        let (mut name, mut number) = (wanted.to_owned(), 0);
        loop {
            let path = through(home.as_fd()).join(&name);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES => {
                    if !remove_left(&path) {
                        number += 1;
                        name = format!("{wanted}-{number}");
                    }
                }
                made => {
                    let place = format!("{}/{name}", shown.trim_end_matches('/'));
                    made.map_err(call("make the cgroup", &place))?;
                    return Cgroup::hold(home, &path, name, &place);
                }
            }
        }
    }

    /// The cgroup that was just made at `path`.
    fn hold(home: OwnedFd, path: &Path, name: String, place: &str) -> Result<Cgroup, CgroupError> {
        match held(path) {
            Ok(directory) => Ok(Cgroup { home, directory, name }),
            Err(source) => {
                // Nothing is in it yet.
                let _ = std::fs::remove_dir(path);
                Err(call("open the cgroup", place)(source))
            }
        }
    }

    /// The cgroup `name` below `home`, made by another process; `None` if it is not there any more.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn find(home: OwnedFd, name: &str) -> Result<Option<Cgroup>, CgroupError> {
        match held(&through(home.as_fd()).join(name)) {
            Ok(directory) => Ok(Some(Cgroup { home, directory, name: name.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(call("open the cgroup", name)(error)),
        }
    }

    /// The directory above, for a process that is to [`Cgroup::find`] it again.
    pub fn home(&self) -> BorrowedFd<'_> {
        self.home.as_fd()
    }

    /// Its name below [`Cgroup::home`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path to it for as long as the value lives and for this process alone: the tree need not be mounted.
    pub fn path(&self) -> PathBuf {
        through(self.directory.as_fd())
    }

    /// Does `work` inside the cgroup: what it starts is in there from its first instruction on. Afterwards this process is where
    /// it was.
    ///
    /// # Errors
    /// When the process cannot be moved; then nothing was done, or what was done stays and this process is inside.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, CgroupError> {
        let join = |place: BorrowedFd<'_>, operation| {
            std::fs::write(through(place).join("cgroup.procs"), "0").map_err(call(operation, &self.name))
        };
        join(self.directory.as_fd(), "move into the cgroup")?;
        let done = work();
        join(self.home.as_fd(), "move out of the cgroup")?;
        Ok(done)
    }

    /// Whether a process is in it or below it, and a descriptor that poll(2) finds in exceptional state (POLLPRI) once that
    /// changes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn population(&self) -> Result<(bool, File), CgroupError> {
        use io::Read as _;
        let cannot = |source| call::<io::Error>("read cgroup.events of", &self.name)(source);
        let mut file = File::open(self.path().join("cgroup.events")).map_err(cannot)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(cannot)?;
        Ok((text.lines().any(|line| line == "populated 1"), file))
    }

    /// The processes in it and below it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut found = Vec::new();
        each(&self.path(), &mut |directory| {
            let text = std::fs::read_to_string(directory.join("cgroup.procs"))?;
            found.extend(text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw));
            Ok(())
        })
        .map_err(call("list the processes of", &self.name))?;
        Ok(found)
    }

    fn signal(&self, signal: Signal) -> Result<(), CgroupError> {
        for process in self.processes()? {
            // It may just have ended.
            let _ = kill_process(process, signal);
        }
        Ok(())
    }

    /// Kills every process in it and below it, and waits until none is left.
    ///
    /// # Errors
    /// When they cannot be reached, or one does not end within ten seconds.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.leave()?;
        let begin = Instant::now();
        while self.population()?.0 {
            // Linux 5.14: all at once, and none escapes by starting others.
            if std::fs::write(self.path().join("cgroup.kill"), "1").is_err() {
                self.signal(Signal::KILL)?;
            }
            if begin.elapsed() > PATIENCE {
                let source = io::Error::new(io::ErrorKind::TimedOut, "a process in it does not end");
                return Err(call("empty the cgroup", &self.name)(source));
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Makes sure that this process is not in it, where [`Cgroup::within`] could not bring it back.
    fn leave(&self) -> Result<(), CgroupError> {
        if !self.processes()?.contains(&getpid()) {
            return Ok(());
        }
        std::fs::write(through(self.home.as_fd()).join("cgroup.procs"), "0")
            .map_err(call("move out of the cgroup", &self.name))
    }

    /// Removes it, and what the command has made below it.
    ///
    /// # Errors
    /// When a process is in it (EBUSY).
    pub fn remove(&self) -> Result<(), CgroupError> {
        let path = through(self.home.as_fd()).join(&self.name);
        let remove = |directory: &Path| match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        each(&path, &mut |directory| remove(directory)).map_err(call("remove the cgroup", &self.name))
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Visits the cgroups below `directory` and then itself; one that goes meanwhile is left out.
fn each(directory: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            each(&entry.path(), visit)?;
        }
    }
    match visit(directory) {
        // ENODEV: a file of a cgroup that was removed while it was open.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || Errno::from_io_error(&error) == Some(Errno::NODEV) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn through(directory: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn directory_at(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory with a lock on it for as long as it is open: it is not [`remove_left`] then, though nobody may be in it yet.
fn held(path: &Path) -> Result<OwnedFd, Errno> {
    let directory = directory_at(path)?;
    flock(&directory, FlockOperation::NonBlockingLockShared)?;
    Ok(directory)
}

/// Removes a cgroup that nobody holds and nobody is in; whether it is gone.
fn remove_left(path: &Path) -> bool {
    let is_free = |directory: &OwnedFd| flock(directory, FlockOperation::NonBlockingLockExclusive).is_ok();
    match directory_at(path) {
        Ok(directory) => is_free(&directory) && std::fs::remove_dir(path).is_ok(),
        Err(error) => error == Errno::NOENT,
    }
}

/// The own cgroup, in a tree that is mounted, and how it is shown; `None` where no cgroup v2 tree is.
fn mounted_home() -> Result<Option<(OwnedFd, String)>, CgroupError> {
    let read = |path| std::fs::read_to_string(path).map_err(call("read", path));
    let mounts = mounts(&read("/proc/self/mountinfo")?);
    if mounts.is_empty() {
        return Ok(None);
    }
    let own = membership(&read("/proc/self/cgroup")?);
    let path = mounts
        .iter()
        .find_map(|mount| mount.path_of(&own))
        .ok_or_else(|| CgroupError::Outside(own.clone()))?;
    let home = directory_at(&path).map_err(call("open the cgroup", path.display()))?;
    Ok(Some((home, path.display().to_string())))
}

/// The own cgroup in a mount that this process alone sees, and that ends with its descriptors. Where only the hierarchies of
/// version 1 are mounted each process is in the root of version 2 all the same.
fn private_home() -> Result<(OwnedFd, String), CgroupError> {
    let failed = |error: Errno| match error {
        Errno::NODEV => CgroupError::None,
        error => call("mount a cgroup v2 tree for", "this process")(error),
    };
    let mount = mounted_apart().map_err(failed)?;
    let own =
        membership(&std::fs::read_to_string("/proc/self/cgroup").map_err(call("read", "/proc/self/cgroup"))?);
    if own.starts_with("/..") {
        return Err(CgroupError::Outside(own));
    }
    let path = through(mount.as_fd()).join(own.trim_start_matches('/'));
    let home = directory_at(&path).map_err(call("open the cgroup", &own))?;
    Ok((home, own))
}

/// The own cgroup, from /proc/self/cgroup. The kernel leaves the line out for as long as nobody has mounted the tree.
fn membership(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_no_line_is_in_the_root() {
        assert_eq!(membership("3:cpu:/a\n0::/b/c\n"), "/b/c");
        assert_eq!(membership("3:cpu:/a\n"), "/");
    }

    #[test]
    fn a_refusal_says_what_helps() {
        let refused = |errno: Errno| CgroupError::Call {
            operation: "make the cgroup",
            place: "/x".to_owned(),
            source: errno.into(),
        };
        assert!(refused(Errno::ROFS).to_string().contains("docker run"));
        assert!(
            refused(Errno::PERM).is_permission() && refused(Errno::PERM).to_string().contains("Delegate=yes")
        );
        assert!(!refused(Errno::NOSPC).is_permission());
    }
}
