//! Without root: becoming root of a user namespace of one's own, for a program and for a single test.
#![expect(unsafe_code, reason = "unshare and the moment between fork and exec have no safe wrapper")]

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process};
use rustix::thread::{
    CapabilitySet, CpuSet, UnshareFlags, capabilities, sched_getaffinity, sched_setaffinity, unshare_unsafe,
};

use crate::error::{Context, Error, Result};

/// Set in the child of [`isolated`], so that it runs the test instead of starting another child.
const INSIDE: &str = "TIDEWAIT_LAB_ISOLATED";

/// What lets this process make namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It had CAP_SYS_ADMIN and CAP_NET_ADMIN already.
    Own,
    /// It is root in a user namespace of its own now.
    UserNamespace,
}

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// Makes sure that this process can make network namespaces: without root it becomes root of a new user
/// namespace.
///
/// To be called first in `main`: the kernel refuses it to a process that has started threads.
///
/// # Errors
/// When user namespaces are forbidden here, or the process has threads.
pub fn enter() -> Result<Privilege> {
    if privileged() {
        return Ok(Privilege::Own);
    }
    UserNamespace::prepare().unshare(UnshareFlags::NEWUSER).map_err(|error| match error {
        Errno::INVAL => Error::Refused(
            "become root of a user namespace: this process has threads already; call enter() first in main"
                .to_owned(),
        ),
        other => Error::Call {
            operation: "become root of",
            subject: "a user namespace (run as root, or allow them: user.max_user_namespaces, \
                      kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
                .to_owned(),
            source: other.into(),
        },
    })?;
    Ok(Privilege::UserNamespace)
}

/// Runs a test that makes namespaces: as root at once, else in a child that is root of a user namespace.
///
/// `name` is the test's full path (`module::tests::name`), by which the child, the same test binary, finds
/// it. Where user namespaces are forbidden the test is skipped (see [`skip`]), past the test harness's
/// capture, so that skips can be counted.
///
/// # Panics
/// When the test fails, as a test does.
#[expect(clippy::panic, reason = "the way in which a test fails")]
pub fn isolated(name: &str, test: impl FnOnce()) {
    if privileged() || std::env::var_os(INSIDE).is_some() {
        return test();
    }
    match run_isolated(name) {
        Ok(Some(status)) if status.success() => {}
        Ok(None) => panic!("this test binary has no test {name:?}: isolated() needs the test's full path"),
        Ok(Some(status)) => panic!("{name}, in a user namespace of its own: {status}"),
        Err(error) => skip(name, error),
    }
}

/// A count of sockets for a heavy test, made smaller by the environment variable `TIDEWAIT_TEST_SCALE` (above 0, up to 1):
/// an emulated machine takes twenty times as long for the same.
pub fn scaled(count: u64) -> u64 {
    let scale = std::env::var("TIDEWAIT_TEST_SCALE").ok().and_then(|scale| scale.parse::<f64>().ok());
    let scale = scale.filter(|scale| (0.0..=1.0).contains(scale)).unwrap_or(1.0);
    ((count as f64 * scale) as u64).max(1)
}

/// Says that a test is skipped, and why: a line `SKIPPED <test>: <reason>` on standard error.
pub fn skip(name: &str, reason: impl Display) {
    // Not eprintln: the harness would hide it in a test that passes. Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {reason}");
}

/// Runs the test in a child. `None` when the test binary knows no test of that name.
fn run_isolated(name: &str) -> Result<Option<ExitStatus>> {
    let program = std::env::current_exe().context("find", "the test binary")?;
    let known =
        Command::new(&program).args(["--list", "--exact", name]).output().context("list", "the tests")?;
    if !String::from_utf8_lossy(&known.stdout).lines().any(|line| line == format!("{name}: test")) {
        // Running no test at all would count as success.
        return Ok(None);
    }
    let namespace = UserNamespace::prepare();
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture", "--include-ignored"]).env(INSIDE, "1");
    // SAFETY: only system calls on memory prepared before the fork; no allocation and no lock.
    unsafe {
        command.pre_exec(move || Ok(namespace.unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)?));
    }
    command.status().map(Some).context("start in a user namespace", name)
}

/// Makes the command run as nobody, in a user namespace of its own: its files are those of the present user.
pub(crate) fn as_nobody(command: &mut Command) {
    let namespace = UserNamespace::prepare_as(NOBODY);
    // SAFETY: only system calls on memory prepared before the fork; no allocation and no lock.
    unsafe {
        command.pre_exec(move || Ok(namespace.unshare(UnshareFlags::NEWUSER)?));
    }
}

/// Makes the command take the first processor, whatever others are free; `behind` the others there, if it is to give way.
///
/// The two ends of a wire answer each other within microseconds here. Where the order of their closes matters, this has the one in
/// front close first, as it would over a real network.
pub(crate) fn on_first_processor(command: &mut Command, behind: bool) -> Result<()> {
    let allowed = sched_getaffinity(None).context("ask for", "the processors of this process")?;
    let mut first = CpuSet::new();
    if let Some(processor) = (0..CpuSet::MAX_CPU).find(|processor| allowed.is_set(*processor)) {
        first.set(processor);
    }
    // SAFETY: only system calls on memory prepared before the fork; no allocation and no lock.
    unsafe {
        command.pre_exec(move || {
            sched_setaffinity(None, &first)?;
            if behind {
                setpriority_process(None, 19)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// Has the command killed when the thread that starts it ends, however it ends.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: one system call: no allocation and no lock between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

/// Whether this process may make and change network namespaces.
pub(crate) fn privileged() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// What has to be written into a new user namespace, put together beforehand.
pub(crate) struct UserNamespace {
    uid_map: String,
    gid_map: String,
}

impl UserNamespace {
    /// For this user to be root in.
    pub(crate) fn prepare() -> UserNamespace {
        UserNamespace::prepare_as(0)
    }

    /// For this user to have another number in.
    fn prepare_as(number: u32) -> UserNamespace {
        UserNamespace {
            uid_map: format!("{number} {} 1", rustix::process::geteuid().as_raw()),
            gid_map: format!("{number} {} 1", rustix::process::getegid().as_raw()),
        }
    }

    /// Moves this process, which must have a single thread, into new namespaces, and makes it root there.
    pub(crate) fn unshare(&self, flags: UnshareFlags) -> rustix::io::Result<()> {
        // SAFETY: without UnshareFlags::FILES no descriptor changes its meaning for any thread.
        unsafe { unshare_unsafe(flags) }?;
        // Without it the kernel refuses a group map to the unprivileged (user_namespaces(7)).
        put(c"/proc/self/setgroups", "deny")?;
        put(c"/proc/self/uid_map", &self.uid_map)?;
        put(c"/proc/self/gid_map", &self.gid_map)
    }
}

/// Writes a file of /proc without touching the heap.
fn put(path: &std::ffi::CStr, text: &str) -> rustix::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}
