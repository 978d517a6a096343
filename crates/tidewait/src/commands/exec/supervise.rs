//! A command in a cgroup of its own, and what tidewait does meanwhile: waits, passes signals on, ends as the command did.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit, kill_process, pidfd_open,
    pidfd_send_signal, setrlimit, waitpid,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::Cause;
use tidewait_act::cgroup::Cgroup;

use super::{CannotStart, say};
use crate::interrupt;

/// Signals that are for the command. Those that stop and continue do that with tidewait and the command alike.
const PASSED_ON: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Undoes that whoever started tidewait had it ignore SIGCHLD: the kernel then forgets children as they end, and how. What is caught
/// is not ignored, and what is not ignored here is not in what is started.
pub fn wait_for_children() -> Result<()> {
    signal_hook::flag::register(SIGCHLD, Arc::default()).context("cannot catch signals")?;
    Ok(())
}

/// Signals that came to this process.
pub struct Signals(SignalDelivery<UnixStream, WithOrigin>);

impl Signals {
    /// From now on they do nothing to this process. SIGHUP stays ignored where it was, by nohup.
    pub fn catch() -> Result<Signals> {
        const CANNOT: &str = "cannot catch signals";
        let (read, write) = UnixStream::pair().context(CANNOT)?;
        // SIGCHLD only ends a wait, so that orphans are buried.
        let signals = PASSED_ON.into_iter().chain([SIGCHLD]).filter(|signal| !interrupt::is_ignored(*signal));
        Ok(Signals(SignalDelivery::with_pipe(read, write, WithOrigin::default(), signals).context(CANNOT)?))
    }

    /// The one that ends tidewait before there is a command that could have it: each of them does by default, except the one that
    /// only tells of another size of the terminal.
    pub fn end(&mut self) -> Option<Signal> {
        self.came().map(|came| came.signal).find(|signal| *signal != Signal::WINCH)
    }

    /// Those that came since.
    fn came(&mut self) -> impl Iterator<Item = Came> {
        self.0.pending().filter_map(|origin| {
            let signal = Signal::from_named_raw(origin.signal).filter(|signal| *signal != Signal::CHILD)?;
            Some(Came { signal, by_kernel: matches!(origin.cause, Cause::Kernel) })
        })
    }
}

/// A signal that came.
struct Came {
    signal: Signal,
    /// By the kernel, that is, on behalf of the terminal.
    by_kernel: bool,
}

impl Came {
    /// Whether `process` got it by itself. On Ctrl-C the terminal sends it to each process of its foreground process group, and
    /// to nobody else: not to daemons, and not to what timeout(1) and setsid(1) start.
    fn was_sent_to(&self, process: Pid) -> bool {
        let own = Place::of(getpid());
        // When the terminal goes only the leader of its session is told (drivers/tty/tty_jobctrl.c).
        let to_one = self.signal == Signal::HUP && own.is_some_and(|own| own.leads_the_session);
        self.by_kernel && !to_one && own.map(|own| own.group) == Place::of(process).map(|its| its.group)
    }
}

/// Where a process is among others. The calls that tell it have no word for a process group from outside of the own process
/// namespace; in /proc that is 0.
#[derive(Clone, Copy)]
struct Place {
    group: i32,
    leads_the_session: bool,
}

impl Place {
    /// `None` where /proc does not tell.
    fn of(process: Pid) -> Option<Place> {
        let process = process.as_raw_nonzero().get();
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name before may have blanks and brackets; after it come state, parent, group and session.
        let (_, rest) = text.rsplit_once(')')?;
        let mut numbers = rest.split_whitespace().skip(2).map(str::parse);
        let (group, session): (i32, i32) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Place { group, leads_the_session: session == process })
    }
}

/// A signal came before the command was started: it was not.
#[derive(Debug)]
pub struct NotStarted(pub Signal);

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signal {} came before the command was started", self.0.as_raw())
    }
}

impl std::error::Error for NotStarted {}

/// Runs `command` inside the cgroup, and waits until nobody is in there any more: a service that goes into the background is what
/// it is all for. How the command itself ended.
///
/// `meanwhile` is done before each wait, and says how long that may take.
pub fn run(
    command: &mut Command,
    cgroup: &Cgroup,
    signals: &mut Signals,
    mut meanwhile: impl FnMut() -> Option<Duration>,
) -> Result<ExitStatus> {
    let mut orphans = Orphans::besides();
    let started = cgroup.within(|| {
        if let Some(signal) = signals.end() {
            return Err(anyhow::Error::from(NotStarted(signal)));
        }
        let child = match command.spawn() {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => {
                by_the_shell(command).spawn()
            }
            other => other,
        };
        let child = child.map_err(|source| CannotStart { program: command.get_program().into(), source })?;
        // Whether the command was there yet when these came nobody can tell: rather twice than not at all.
        Ok((child, signals.came().collect::<Vec<Came>>()))
    })?;
    let (mut child, early) = started?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch the command")?;
    orphans.own.push(pid);
    for came in early {
        let _ = pidfd_send_signal(&process, came.signal);
    }
    while !wait_for(
        &[(process.as_fd(), PollFlags::IN), (signals.0.get_read().as_fd(), PollFlags::IN)],
        meanwhile(),
    )? {
        orphans.bury();
        for came in signals.came().filter(|came| !came.was_sent_to(pid)) {
            // It may just have ended.
            let _ = pidfd_send_signal(&process, came.signal);
        }
    }
    let status = child.wait().context("cannot wait for the command")?;
    // Its number may be that of an orphan now.
    orphans.own.pop();
    let mut told = false;
    loop {
        let (populated, events) = cgroup.population()?;
        if !populated {
            return Ok(status);
        }
        if !told {
            let count = cgroup.processes()?.len();
            let (go, is) =
                if count == 1 { ("process goes", "it has") } else { ("processes go", "they have") };
            say(format_args!(
                "{} has ended ({status}), and {count} {go} on that it started: tidewait goes on until {is} ended",
                command.get_program().display()
            ));
            told = true;
        }
        wait_for(
            &[(events.as_fd(), PollFlags::PRI), (signals.0.get_read().as_fd(), PollFlags::IN)],
            meanwhile(),
        )?;
        orphans.bury();
        for came in signals.came() {
            for process in cgroup.processes()?.into_iter().filter(|process| !came.was_sent_to(*process)) {
                // It may just have ended.
                let _ = kill_process(process, came.signal);
            }
        }
    }
}

/// Processes whose parents have ended, where tidewait is the first process of its namespace, as in a container: the kernel makes them
/// its children, and nobody else can wait for them.
struct Orphans {
    /// Children that somebody here waits for.
    own: Vec<Pid>,
}

impl Orphans {
    /// All but those that there are already.
    fn besides() -> Orphans {
        Orphans { own: Orphans::children() }
    }

    /// Those that have ended are no zombies any more.
    fn bury(&self) {
        for child in Orphans::children().into_iter().filter(|child| !self.own.contains(child)) {
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
    }

    fn children() -> Vec<Pid> {
        if !getpid().is_init() {
            return Vec::new();
        }
        // The first thread inherits them.
        let text = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).filter_map(Pid::from_raw).collect()
    }
}

/// A file that the kernel does not know how to run is a script for sh(1), as for execvp(3), env(1) and every shell.
fn by_the_shell(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Waits until something happens to one of them, or for so long; whether it did to the first.
fn wait_for(what: &[(BorrowedFd<'_>, PollFlags)], patience: Option<Duration>) -> Result<bool> {
    let patience = patience.map(Timespec::try_from).transpose().context("cannot wait for so long")?;
    let mut fds: Vec<PollFd<'_>> =
        what.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    match poll(&mut fds, patience.as_ref()) {
        Ok(_) => Ok(fds.first().is_some_and(|first| !first.revents().is_empty())),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("cannot wait"),
    }
}

/// The exit code that passes on how the command ended. Where a signal ended it this does not return: the same signal ends
/// tidewait, so that whoever started it sees what it would have seen, and a shell script stops at Ctrl-C.
pub fn end_as(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        let code = ExitCode::from(128_u8.wrapping_add(u8::try_from(signal).unwrap_or(0)));
        // The first process of a namespace gets no signal from itself, and would be aborted instead.
        if getpid().is_init() {
            return code;
        }
        // The core of the command is what matters, not one of tidewait.
        let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
        let _ = setrlimit(Resource::Core, limit);
        // It knows no real-time signals.
        let _ = emulate_default_handler(signal);
        return code;
    }
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}
