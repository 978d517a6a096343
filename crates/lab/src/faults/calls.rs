//! The system calls that change something, and how to say of each what it is about.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use libc::{c_long, pid_t};

use super::ptrace::Entry;

/// A system call that changes something, as it was about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name: `renameat2`.
    pub name: &'static str,
    /// What it is about: the path, absolute, or what the descriptor leads to, as in /proc/PID/fd; two paths as `a -> b`; the
    /// signal that is sent; a thread or a process that is started. Empty where there is nothing to tell.
    pub about: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.about.is_empty() { f.write_str(self.name) } else { write!(f, "{} {}", self.name, self.about) }
    }
}

/// Which arguments tell what a call is about; numbers count from 0.
#[derive(Debug, Clone, Copy)]
enum About {
    /// A path, from the working directory, and flags: a change only when it may write, create or truncate.
    Open(usize, Flags),
    /// As that, from the directory in the first argument.
    OpenAt(usize, Flags),
    /// A descriptor.
    Descriptor(usize),
    /// A path from the working directory.
    Path(usize),
    /// A path from the directory in the first of the two.
    PathAt(usize, usize),
    /// Two paths from the working directory.
    Paths(usize, usize),
    /// Two, each with its directory before it.
    PathsAt([usize; 2], [usize; 2]),
    /// A text that is no path, and a path with its directory.
    TextAt(usize, [usize; 2]),
    /// A new thread or process, by the flags in this argument.
    Clone(usize),
    /// The same, by the flags in the structure that this argument points to.
    Clone3(usize),
    /// A new process.
    Process,
    /// A signal.
    Signal(usize),
    /// Flags, in hexadecimal.
    Hexadecimal(usize),
    /// Nothing to tell.
    Nothing,
}

/// Where the flags of an open are.
#[derive(Debug, Clone, Copy)]
enum Flags {
    /// In this argument.
    In(usize),
    /// First in the structure that this argument points to (`struct open_how`).
    Behind(usize),
    /// What creat(2) means.
    Create,
}

/// fchmodat2, since Linux 6.6; the same number everywhere, and not in every C library's list.
const SYS_FCHMODAT2: c_long = 452;

/// Every call that counts. Sending on sockets is none: questions are sent as well.
#[rustfmt::skip]
const CALLS: &[(c_long, &str, About)] = &[
    // Files are opened to be changed.
    (libc::SYS_openat,           "openat",           About::OpenAt(1, Flags::In(2))),
    (libc::SYS_openat2,          "openat2",          About::OpenAt(1, Flags::Behind(2))),
    // Their contents.
    (libc::SYS_write,            "write",            About::Descriptor(0)),
    (libc::SYS_pwrite64,         "pwrite64",         About::Descriptor(0)),
    (libc::SYS_writev,           "writev",           About::Descriptor(0)),
    (libc::SYS_pwritev,          "pwritev",          About::Descriptor(0)),
    (libc::SYS_pwritev2,         "pwritev2",         About::Descriptor(0)),
    (libc::SYS_sendfile,         "sendfile",         About::Descriptor(0)),
    (libc::SYS_copy_file_range,  "copy_file_range",  About::Descriptor(2)),
    (libc::SYS_splice,           "splice",           About::Descriptor(2)),
    (libc::SYS_truncate,         "truncate",         About::Path(0)),
    (libc::SYS_ftruncate,        "ftruncate",        About::Descriptor(0)),
    (libc::SYS_fallocate,        "fallocate",        About::Descriptor(0)),
    (libc::SYS_fsync,            "fsync",            About::Descriptor(0)),
    (libc::SYS_fdatasync,        "fdatasync",        About::Descriptor(0)),
    (libc::SYS_sync_file_range,  "sync_file_range",  About::Descriptor(0)),
    (libc::SYS_syncfs,           "syncfs",           About::Descriptor(0)),
    // Their names.
    (libc::SYS_renameat,         "renameat",         About::PathsAt([0, 1], [2, 3])),
    (libc::SYS_renameat2,        "renameat2",        About::PathsAt([0, 1], [2, 3])),
    (libc::SYS_unlinkat,         "unlinkat",         About::PathAt(0, 1)),
    (libc::SYS_mkdirat,          "mkdirat",          About::PathAt(0, 1)),
    (libc::SYS_mknodat,          "mknodat",          About::PathAt(0, 1)),
    (libc::SYS_linkat,           "linkat",           About::PathsAt([0, 1], [2, 3])),
    (libc::SYS_symlinkat,        "symlinkat",        About::TextAt(0, [1, 2])),
    // Their owners, permissions, times and locks.
    (libc::SYS_fchmod,           "fchmod",           About::Descriptor(0)),
    (libc::SYS_fchmodat,         "fchmodat",         About::PathAt(0, 1)),
    (SYS_FCHMODAT2,              "fchmodat2",        About::PathAt(0, 1)),
    (libc::SYS_fchown,           "fchown",           About::Descriptor(0)),
    (libc::SYS_fchownat,         "fchownat",         About::PathAt(0, 1)),
    (libc::SYS_utimensat,        "utimensat",        About::PathAt(0, 1)),
    (libc::SYS_flock,            "flock",            About::Descriptor(0)),
    // Processes and threads.
    (libc::SYS_clone,            "clone",            About::Clone(0)),
    (libc::SYS_clone3,           "clone3",           About::Clone3(0)),
    (libc::SYS_execve,           "execve",           About::Path(0)),
    (libc::SYS_execveat,         "execveat",         About::PathAt(0, 1)),
    (libc::SYS_setsid,           "setsid",           About::Nothing),
    (libc::SYS_kill,             "kill",             About::Signal(1)),
    (libc::SYS_tkill,            "tkill",            About::Signal(1)),
    (libc::SYS_tgkill,           "tgkill",           About::Signal(2)),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", About::Signal(1)),
    // Namespaces and mounts.
    (libc::SYS_setns,            "setns",            About::Descriptor(0)),
    (libc::SYS_unshare,          "unshare",          About::Hexadecimal(0)),
    (libc::SYS_mount,            "mount",            About::Path(1)),
    (libc::SYS_umount2,          "umount2",          About::Path(0)),
];

/// Those that newer architectures do without.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_CALLS: &[(c_long, &str, About)] = &[
    (libc::SYS_open,             "open",             About::Open(0, Flags::In(1))),
    (libc::SYS_creat,            "creat",            About::Open(0, Flags::Create)),
    (libc::SYS_rename,           "rename",           About::Paths(0, 1)),
    (libc::SYS_unlink,           "unlink",           About::Path(0)),
    (libc::SYS_rmdir,            "rmdir",            About::Path(0)),
    (libc::SYS_mkdir,            "mkdir",            About::Path(0)),
    (libc::SYS_mknod,            "mknod",            About::Path(0)),
    (libc::SYS_link,             "link",             About::Paths(0, 1)),
    (libc::SYS_symlink,          "symlink",          About::TextAt(0, [CWD, 1])),
    (libc::SYS_chmod,            "chmod",            About::Path(0)),
    (libc::SYS_chown,            "chown",            About::Path(0)),
    (libc::SYS_lchown,           "lchown",           About::Path(0)),
    (libc::SYS_fork,             "fork",             About::Process),
    (libc::SYS_vfork,            "vfork",            About::Process),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(c_long, &str, About)] = &[];

/// In place of an argument's number: the working directory.
const CWD: usize = usize::MAX;

/// A path is no longer than this (PATH_MAX).
const LONGEST_PATH: usize = 4096;

/// The call, if it is one that changes something. To be asked while the thread stands at its entry.
///
/// `unseen` are descriptors to which writing is no change, as /proc/PID/fd names them.
pub(super) fn counted(thread: pid_t, entry: &Entry, unseen: &[String]) -> Option<Call> {
    let (_, name, about) = CALLS.iter().chain(OLD_CALLS).find(|(number, ..)| *number == entry.number)?;
    let caller = Caller { thread, arguments: &entry.arguments };
    let about = match *about {
        About::Open(path, flags) => caller.opened_to_change(flags)?.path(CWD, path),
        About::OpenAt(path, flags) => caller.opened_to_change(flags)?.path(0, path),
        About::Descriptor(which) => caller.descriptor(which),
        About::Path(path) => caller.path(CWD, path),
        About::PathAt(directory, path) => caller.path(directory, path),
        About::Paths(from, to) => format!("{} -> {}", caller.path(CWD, from), caller.path(CWD, to)),
        About::PathsAt(from, to) => {
            format!("{} -> {}", caller.path(from[0], from[1]), caller.path(to[0], to[1]))
        }
        About::TextAt(text, to) => format!("{} -> {}", caller.text(text), caller.path(to[0], to[1])),
        About::Clone(flags) => Caller::started(caller.argument(flags)),
        About::Clone3(structure) => Caller::started(caller.word_behind(structure)),
        About::Process => Caller::started(0),
        About::Signal(which) => format!("signal {}", caller.argument(which)),
        About::Hexadecimal(which) => format!("{:#x}", caller.argument(which)),
        About::Nothing => String::new(),
    };
    (!unseen.contains(&about)).then_some(Call { name, about })
}

/// The thread that makes a call, stopped.
struct Caller<'a> {
    thread: pid_t,
    arguments: &'a [u64; 6],
}

impl Caller<'_> {
    fn argument(&self, which: usize) -> u64 {
        self.arguments.get(which).copied().unwrap_or(0)
    }

    /// Itself, when the flags ask for more than reading.
    fn opened_to_change(&self, flags: Flags) -> Option<&Self> {
        let flags = match flags {
            Flags::In(which) => self.argument(which) as i32,
            Flags::Behind(which) => self.word_behind(which) as i32,
            Flags::Create => libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
        };
        let changes =
            flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
        // With O_PATH nothing but the place is opened, and the other flags are not looked at (open(2)).
        (changes && flags & libc::O_PATH == 0).then_some(self)
    }

    /// What a descriptor leads to.
    fn descriptor(&self, which: usize) -> String {
        let number = self.argument(which) as i32;
        self.link(&format!("fd/{number}")).unwrap_or_else(|| format!("descriptor {number}"))
    }

    /// A path, with the directory before it that it is meant from.
    fn path(&self, directory: usize, which: usize) -> String {
        let path = self.text(which);
        if path.starts_with('/') {
            return path;
        }
        let from = match self.arguments.get(directory).map(|number| *number as i32) {
            None | Some(libc::AT_FDCWD) => self.link("cwd"),
            Some(number) => self.link(&format!("fd/{number}")),
        };
        match from {
            Some(from) if path.is_empty() => from,
            Some(from) => format!("{}/{path}", from.trim_end_matches('/')),
            None => path,
        }
    }

    fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(format!("/proc/{}/{name}", self.thread)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// The text that an argument points to, as far as it can be read.
    fn text(&self, which: usize) -> String {
        let mut bytes = self.memory(which, LONGEST_PATH);
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first eight bytes that an argument points to.
    fn word_behind(&self, which: usize) -> u64 {
        self.memory(which, 8).try_into().map_or(0, u64::from_ne_bytes)
    }

    fn memory(&self, which: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = File::open(format!("/proc/{}/mem", self.thread))
            .and_then(|memory| memory.read_at(&mut bytes, self.argument(which)));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }

    fn started(flags: u64) -> String {
        let what = if flags & libc::CLONE_THREAD as u64 != 0 { "a thread" } else { "a process" };
        what.to_owned()
    }
}
