//! A network namespace held by a descriptor: it goes when the last holder goes, however that ends.
#![expect(unsafe_code, reason = "unshare and the moment between fork and exec have no safe wrapper")]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::error::{Context, Error, Result};
use crate::netlink;

/// Where `ip netns` keeps the namespaces that have a name.
const NAMED: &str = "/run/netns";

/// A network namespace.
///
/// Clones share it. One from [`NetNs::new`] has no name and no owner but its descriptors, so the kernel
/// removes it, with the devices and sockets in it, as soon as this process and the commands started in it
/// have ended: after a panic, Ctrl-C or `kill -9` nothing is left.
#[derive(Debug, Clone)]
pub struct NetNs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    inode: u64,
    /// False for a namespace that was here before: the lab writes no settings there.
    made_here: bool,
    /// The bind mount to remove in the end, for a namespace with a name.
    mounted: Option<PathBuf>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(path) = &self.mounted {
            // Nobody is left to tell: a name that stays is seen by `ip netns list`.
            let _ = unmount(path, UnmountFlags::DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

impl NetNs {
    /// Makes a namespace without a name and brings its loopback up.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN (see [`crate::enter`]), or when the kernel has no room for another namespace.
    pub fn new() -> Result<NetNs> {
        let descriptor = on_new_thread(|| -> Result<OwnedFd> {
            // SAFETY: without UnshareFlags::FILES no descriptor changes its meaning for any thread.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("make", "a network namespace")?;
            let descriptor = current_descriptor()?;
            netlink::Route::open()?.bring_up("lo")?;
            Ok(descriptor)
        })??;
        NetNs::from_descriptor(descriptor, true, None)
    }

    /// Makes a namespace that others find as `/run/netns/NAME`, like `ip netns add`; the name goes on Drop.
    ///
    /// The name, unlike a namespace from [`NetNs::new`], outlives `kill -9`.
    ///
    /// # Errors
    /// As [`NetNs::new`]; and when the name is no file name or is taken.
    pub fn named(name: &str) -> Result<NetNs> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) || name.len() > 255 {
            return Err(Error::Refused(format!(
                "namespace name {name:?}: must be one file name, without '/'"
            )));
        }
        let unnamed = NetNs::new()?;
        fs::create_dir_all(NAMED).context("create", NAMED)?;
        let path = Path::new(NAMED).join(name);
        fs::File::create_new(&path).context("create", path.display())?;
        // From here on Drop takes the name away again, also when the mount fails.
        let descriptor = unnamed.0.descriptor.try_clone().context("duplicate", "a descriptor")?;
        let source = unnamed.path();
        let named = NetNs::from_descriptor(descriptor, true, Some(path.clone()))?;
        mount_bind(source, &path).context("mount", path.display())?;
        Ok(named)
    }

    /// The namespace behind a path such as `/proc/1234/ns/net` or `/run/netns/blue`. Its settings stay
    /// untouched.
    ///
    /// # Errors
    /// When the path cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<NetNs> {
        let path = path.as_ref();
        NetNs::from_descriptor(fs::File::open(path).context("open", path.display())?.into(), false, None)
    }

    /// The namespace of the calling thread. Its settings stay untouched.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<NetNs> {
        NetNs::from_descriptor(current_descriptor()?, false, None)
    }

    /// The namespace that this process has just been given by [`crate::machine`]: it counts as made here. Brings its
    /// loopback up.
    pub(crate) fn own_machine() -> Result<NetNs> {
        netlink::Route::open()?.bring_up("lo")?;
        NetNs::from_descriptor(current_descriptor()?, true, None)
    }

    fn from_descriptor(descriptor: OwnedFd, made_here: bool, mounted: Option<PathBuf>) -> Result<NetNs> {
        let inode = rustix::fs::fstat(&descriptor).context("examine", "a network namespace")?.st_ino;
        Ok(NetNs(Arc::new(Inner { descriptor, inode, made_here, mounted })))
    }

    /// The inode number that identifies the namespace, as `readlink /proc/PID/ns/net` shows it.
    pub fn inode(&self) -> u64 {
        self.0.inode
    }

    /// A path by which other processes can enter (`nsenter --net=PATH`) while this one lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.descriptor.as_raw_fd()))
    }

    /// Runs `work` on a thread of its own inside the namespace and returns its value; a panic in it goes on
    /// here.
    ///
    /// Sockets made there stay in the namespace and may be used anywhere. `/proc/net` shows the namespace
    /// of the main thread; inside, read `/proc/thread-self/net`.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_new_thread(|| {
            self.enter_on_this_thread()?;
            Ok(work())
        })?
    }

    /// Starts a thread inside the namespace that may outlive the caller.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the thread not started.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>> {
        // A new thread begins in the namespaces of the one that starts it.
        self.run(|| thread::Builder::new().name("lab".into()).spawn(work).context("start", "a thread"))?
    }

    /// A command that runs inside the namespace. `/proc/self/net` and `/proc/net` are right in it; /sys is
    /// the host's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let namespace = self.clone();
        let mut command = Command::new(program);
        // SAFETY: setns is one system call: no allocation and no lock between fork and exec.
        unsafe {
            command.pre_exec(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(())
            });
        }
        command
    }

    /// Reads a setting, for example `net.ipv4.ip_local_port_range`, as the namespace sees it, without the
    /// line end.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn get(&self, setting: &str) -> Result<String> {
        let path = setting_path(setting)?;
        let text = self.run(|| fs::read_to_string(&path))?.context("read", setting)?;
        Ok(text.trim_end().to_owned())
    }

    /// Writes a setting inside the namespace.
    ///
    /// # Errors
    /// When the lab did not make this namespace (the host's settings are not for experiments), when there
    /// is no such setting, or when the kernel refuses the value.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        if !self.0.made_here {
            return Err(Error::Refused(format!(
                "{setting} stays as it is: the lab changes settings only in namespaces it made itself"
            )));
        }
        let path = setting_path(setting)?;
        self.run(|| fs::write(&path, value))?.context("write", format!("{setting} = {value}"))
    }

    fn enter_on_this_thread(&self) -> Result<()> {
        move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter", format!("network namespace {}", self.inode()))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.descriptor.as_fd()
    }
}

/// The file of a setting. Only network settings belong to a network namespace, so nothing else is accepted.
fn setting_path(setting: &str) -> Result<PathBuf> {
    // A name may hold an interface whose own dots are written as slashes: the two swap, as in sysctl(8).
    let path: String = setting
        .chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    if !path.starts_with("net/") || path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::Refused(format!(
            "setting {setting:?}: must be a name like net.ipv4.tcp_tw_reuse"
        )));
    }
    Ok(Path::new("/proc/sys").join(path))
}

fn current_descriptor() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    Ok(fs::File::open(path).context("open", path)?.into())
}

/// Namespaces are changed per thread: whatever changes one does it on a thread that ends with it.
fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("lab".into())
            .spawn_scoped(scope, work)
            .context("start", "a thread")?;
        handle.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}
