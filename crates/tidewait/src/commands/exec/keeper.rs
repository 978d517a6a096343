//! Whoever cleans up behind a command, however that ends: a process of its own, in a session of its own.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGIO, SIGTERM};
use tidewait_act::cgroup::Cgroup;

use super::library::Library;
use crate::cli::ExecKeeper;
use crate::output;

/// What it says once it is ready; its number follows.
const READY: &str = "ready ";

/// How often it looks whether the library is still loaded: less and less often where it is.
const NAP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// For how long it has to be found unused: what has just been executed has not loaded it yet.
const UNUSED: Duration = Duration::from_secs(1);

/// A keeper that runs.
#[derive(Debug)]
pub struct Keeper(OwnedFd);

impl Keeper {
    /// Starts the keeper of this process, and waits until it is ready. When this process has ended, in whatever way, it kills
    /// what is left in the cgroup and removes that, and it removes the library once nobody has it loaded.
    ///
    /// It is not a child of this process: a command that waits for all its children would wait for it too.
    pub fn start(cgroup: Option<&Cgroup>, library: Option<&Library>) -> Result<Keeper> {
        let mut command = itself();
        command.args(["--apart", "--pid", &std::process::id().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Out of the reach of the terminal as soon as can be: Ctrl-C is for the command.
        command.process_group(0);
        if let Some(cgroup) = cgroup {
            // The tree may be mounted nowhere, so that there is no path to it.
            let home = cgroup.home().try_clone_to_owned().context("cannot duplicate a descriptor")?;
            command.stdin(home).args(["--cgroup", cgroup.name()]);
        }
        if let Some(library) = library {
            command.arg("--library").arg(library.path());
        }
        let mut child = command.spawn().context("cannot start tidewait a second time")?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).context("cannot hear the keeper")?;
        }
        let mut why = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut why).context("cannot hear the keeper")?;
        }
        // Where whoever started tidewait had it ignore SIGCHLD there is nobody to wait for, and the command is to find that as it was.
        let _ = child.wait();
        let number = said.trim().strip_prefix(READY).and_then(|number| number.parse().ok());
        let Some(number) = number.and_then(Pid::from_raw) else {
            bail!("whoever is to clean up did not start: {}", why.trim());
        };
        let process = pidfd_open(number, PidfdFlags::empty()).context("cannot watch the keeper")?;
        Ok(Keeper(process))
    }

    /// Ends it: everything is cleaned up already.
    pub fn dismiss(self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        wait(&self.0);
    }
}

/// This program once more: the file itself rather than its name, which may have been replaced by an upgrade.
fn itself() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("tidewait").arg("exec-keeper").current_dir("/");
    command
}

/// Waits until a process has ended.
fn wait(process: &OwnedFd) {
    // A signal ends the waiting early.
    while poll(&mut [PollFd::new(process, PollFlags::IN)], None) == Err(Errno::INTR) {}
}

/// Runs it.
pub fn run(options: &ExecKeeper) -> Result<()> {
    if options.apart {
        return leave(options);
    }
    // Out of the reach of the terminal.
    let _ = setsid();
    // It ends when what it waits for has. SIGIO says that somebody opens a file while that is looked at.
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGIO] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .context("cannot catch signals")?;
    }
    // With SIGTERM it hurries after that: whoever ends all of a service waits for its keeper as well.
    let (told, tell) = UnixStream::pair().context("cannot catch signals")?;
    signal_hook::low_level::pipe::register(SIGTERM, tell).context("cannot catch signals")?;
    let process = match Pid::from_raw(options.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(process)) => Some(process),
        None | Some(Err(Errno::SRCH)) => None,
        Some(Err(error)) => {
            bail!("cannot watch process {}: {error} (pidfd_open(2), Linux 5.3)", options.pid)
        }
    };
    let cgroup = match &options.cgroup {
        Some(name) => {
            let home =
                rustix::stdio::stdin().try_clone_to_owned().context("cannot duplicate a descriptor")?;
            Cgroup::find(home, name)?
        }
        None => None,
    };
    let library = options.library.as_deref().map(Library::open).transpose()?;
    output::text(&format!("{READY}{}\n", std::process::id()))?;
    let null =
        OpenOptions::new().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot let go of standard input")?;
    rustix::stdio::dup2_stdout(&null).context("cannot let go of standard output")?;
    rustix::stdio::dup2_stderr(&null).context("cannot let go of standard error")?;
    if let Some(process) = &process {
        wait(process);
    }
    // Whoever ended without removing it was killed.
    let removed = cgroup.map_or(Ok(()), |cgroup| cgroup.kill().and_then(|()| cgroup.remove()));
    if let Some(library) = library {
        until_unused(&library, &told)?;
        library.remove();
    }
    Ok(removed?)
}

/// Waits until nobody has the library loaded, and nobody is about to. Once there is something to read from `told` nobody is waited
/// for who has not loaded it yet: all are ending.
fn until_unused(library: &Library, told: &UnixStream) -> Result<()> {
    let (mut seen, mut nap, mut hurries) = (Instant::now(), NAP.0, false);
    loop {
        if hurries {
            sleep(NAP.0);
        } else {
            let patience = Timespec::try_from(nap).context("cannot wait for so long")?;
            hurries =
                poll(&mut [PollFd::new(told, PollFlags::IN)], Some(&patience)).is_ok_and(|ready| ready > 0);
        }
        nap = NAP.0;
        if library.is_loaded() {
            nap = (seen.elapsed() * 2).clamp(NAP.0, NAP.1);
            seen = Instant::now();
        } else if hurries || seen.elapsed() >= UNUSED {
            return Ok(());
        }
    }
}

/// Starts the keeper and ends, so that the keeper is nobody's child.
fn leave(options: &ExecKeeper) -> Result<()> {
    let mut command = itself();
    command.args(["--pid", &options.pid.to_string()]);
    if let Some(name) = &options.cgroup {
        command.args(["--cgroup", name]);
    }
    if let Some(library) = &options.library {
        command.arg("--library").arg(library);
    }
    command.spawn().context("cannot start tidewait a third time")?;
    Ok(())
}
