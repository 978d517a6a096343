//! Trouble at a chosen step of a program: killed before its n-th change, the change refused, a signal in between.
//!
//! A program that promises to leave nothing half done is walked: watched once, or struck at 0, 1, 2 and so on until
//! there is nothing left to strike.
//!
//! ```no_run
//! use std::process::Command;
//! use tidewait_lab::faults::{Plan, run};
//! # fn main() -> tidewait_lab::Result<()> {
//! for at in 0.. {
//!     let walked = run(Command::new("mv").args(["a", "b"]), &Plan::kill(at))?;
//!     let Some(struck) = walked.struck else { break };
//!     println!("killed before {struck}: see that there is an a or a b");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The program runs unmodified under ptrace(2). Its threads are counted together, in the order in which they are
//! seen: with more than one at work at a time that order is not the same in every run.

mod calls;
mod ptrace;
mod tracer;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Context, Error, Result};

pub use calls::Call;

/// Errors from here on are the kernel's own, for calls that it is to make again (include/linux/errno.h).
const FIRST_INTERNAL_ERROR: i32 = 512;

/// What happens to a program at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the program is only watched.
    None,
    /// The process is killed by SIGKILL before the call takes effect.
    Kill,
    /// The call is not made, and fails with this error, such as `libc::EIO`.
    Errno(i32),
    /// The process is sent this signal as the call begins. The call is made all the same, unless it is one that waits and so
    /// is interrupted.
    Signal(i32),
}

/// What is done to a program, and what of it counts.
#[derive(Clone)]
pub struct Plan {
    at: usize,
    fault: Fault,
    children: bool,
    limit: Duration,
    only: Option<Filter>,
}

type Filter = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

impl Plan {
    /// The program is watched, and nothing done to it.
    pub fn watch() -> Plan {
        Plan::strike(0, Fault::None)
    }

    /// The program is killed before its counted call number `at`, from 0.
    pub fn kill(at: usize) -> Plan {
        Plan::strike(at, Fault::Kill)
    }

    /// The program's counted call number `at`, from 0, fails with this error.
    pub fn errno(at: usize, errno: i32) -> Plan {
        Plan::strike(at, Fault::Errno(errno))
    }

    /// The program is sent a signal at its counted call number `at`, from 0.
    pub fn signal(at: usize, signal: i32) -> Plan {
        Plan::strike(at, Fault::Signal(signal))
    }

    /// Any fault at the counted call number `at`, from 0.
    pub fn strike(at: usize, fault: Fault) -> Plan {
        Plan { at, fault, children: false, limit: Duration::from_secs(60), only: None }
    }

    /// Processes that the program starts count as parts of it, and are waited for.
    ///
    /// A fault is for the process that makes the call. Without this they run on untouched, whatever happens to the program.
    #[must_use]
    pub fn with_children(mut self) -> Plan {
        self.children = true;
        self
    }

    /// Counts only the calls of which this is true.
    #[must_use]
    pub fn only(mut self, counts: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Plan {
        self.only = Some(Arc::new(counts));
        self
    }

    /// How long the program may take, in place of a minute.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Plan {
        self.limit = limit;
        self
    }

    fn counts(&self, call: &Call) -> bool {
        self.only.as_ref().is_none_or(|counts| counts(call))
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {}", self.fault, self.at)
    }
}

/// A program that has run to its end, or was brought to it.
#[derive(Debug)]
pub struct Walked {
    /// How it ended.
    pub status: ExitStatus,
    /// What was on standard output by then.
    pub stdout: Vec<u8>,
    /// What was on standard error by then.
    pub stderr: Vec<u8>,
    /// The calls that counted. The struck one is among them, at the place that was asked for.
    pub calls: Vec<Call>,
    /// The call at which the fault struck. `None` when the program made no so many, or when nothing was to strike.
    pub struck: Option<Call>,
}

/// Runs a command to its end, with trouble as planned. May be called from any thread, and from several at a time.
///
/// Standard output and standard error go to memory; standard input is as the command says. Its first execve, which
/// makes the program, does not count, nor what the command does before that, nor writing to those two.
///
/// # Errors
/// - When the command cannot be started.
/// - [`Error::NotPermitted`] where ptrace is refused, as in some containers or under another tracer;
///   [`Error::Unavailable`] with a kernel before 5.3, on a processor other than x86_64 and aarch64, or for a program of 32 bits.
/// - [`Error::TooLong`] when the limit passes. What was traced has been killed then.
pub fn run(command: &mut Command, plan: &Plan) -> Result<Walked> {
    if ptrace::ARCHITECTURE.is_none() {
        return Err(Error::Unavailable(format!(
            "faults cannot be made on {}: the registers of x86_64 and aarch64 are the only ones known here",
            std::env::consts::ARCH
        )));
    }
    if let Fault::Errno(errno) = plan.fault
        && !(1..FIRST_INTERNAL_ERROR).contains(&errno)
    {
        return Err(Error::Refused(format!(
            "error number {errno}: must be one of errno(3), such as libc::EIO"
        )));
    }
    if let Fault::Signal(signal) = plan.fault {
        named(signal)?;
    }
    let (stdout, stderr) = (Captured::new("stdout")?, Captured::new("stderr")?);
    command.stdout(stdout.writer()?).stderr(stderr.writer()?);
    let unseen = [stdout.name()?, stderr.name()?];
    let processes = Processes::default();
    // A tracee belongs to one thread. A thread for that alone also has no children that are not of this run.
    let traced = thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let processes = &processes;
        let tracing = thread::Builder::new()
            .name("tracer".into())
            .spawn_scoped(scope, move || {
                let _ended = ended;
                tracer::trace(command, plan, &unseen, processes)
            })
            .context("start", "a thread")?;
        if end.recv_timeout(plan.limit) == Err(RecvTimeoutError::Timeout) {
            processes.expire();
        }
        tracing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if processes.expired() {
        return Err(Error::TooLong {
            what: traced.program,
            seconds: plan.limit.as_secs_f64(),
            last: traced.calls.last().map_or_else(|| "nothing".to_owned(), Call::to_string),
        });
    }
    Ok(Walked {
        status: ExitStatus::from_raw(traced.status),
        stdout: stdout.read()?,
        stderr: stderr.read()?,
        calls: traced.calls,
        struck: traced.struck,
    })
}

fn named(signal: i32) -> Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| {
        Error::Refused(format!("signal {signal}: must be one that has a name, such as libc::SIGINT"))
    })
}

/// Where an output goes: a file in memory. A pipe would be held open by what the program leaves behind.
struct Captured(File);

impl Captured {
    fn new(name: &str) -> Result<Captured> {
        Ok(Captured(
            memfd_create(name, MemfdFlags::CLOEXEC).context("make a file in memory for", name)?.into(),
        ))
    }

    fn writer(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("duplicate", "a descriptor")?.into())
    }

    /// As /proc/PID/fd shows it.
    fn name(&self) -> Result<String> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(std::fs::read_link(&link).context("read", link)?.to_string_lossy().into_owned())
    }

    fn read(&self) -> Result<Vec<u8>> {
        let length = self.0.metadata().context("examine", "an output")?.len();
        let mut bytes = vec![0; length as usize];
        // The place in the file is the program's: what it left behind may be writing yet.
        self.0.read_exact_at(&mut bytes, 0).context("read", "an output")?;
        Ok(bytes)
    }
}

/// The processes that are traced, so that they can be ended from beside.
#[derive(Default)]
struct Processes(Mutex<(bool, Vec<(Pid, OwnedFd)>)>);

impl Processes {
    fn locked(&self) -> std::sync::MutexGuard<'_, (bool, Vec<(Pid, OwnedFd)>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one, which stands still; ends it when time is up already.
    fn add(&self, process: Pid) -> Result<()> {
        let handle =
            pidfd_open(process, PidfdFlags::empty()).context("open", format!("process {process}"))?;
        let mut inner = self.locked();
        if inner.0 {
            kill(&handle);
        }
        inner.1.push((process, handle));
        Ok(())
    }

    fn remove(&self, process: Pid) {
        self.locked().1.retain(|(known, _)| *known != process);
    }

    fn kill_all(&self) {
        self.locked().1.iter().for_each(|(_, handle)| kill(handle));
    }

    fn expire(&self) {
        self.locked().0 = true;
        self.kill_all();
    }

    fn expired(&self) -> bool {
        self.locked().0
    }
}

/// A handle is not of another process after the end of the one it was opened for.
fn kill(process: &OwnedFd) {
    // It may have ended.
    let _ = pidfd_send_signal(process, Signal::KILL);
}
