//! Whoever undoes a change that nobody confirms: a process of its own, which outlives the terminal and whoever made the change.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use tidewait_act::change::{self, ChangeError, Drifted, uptime_ms};
use tidewait_act::journal::{self, Journal, JournalError, Reading};
use tidewait_act::kernel::Sysctl;
use tidewait_model::tune::{Entry, State, Undoing};
use tidewait_observe::places::find_again;
use tidewait_observe::procfs;

use crate::{interrupt, output};

/// What it says once it is ready.
const READY: &str = "ready";

/// How late a confirmation may be noticed; a change that is not confirmed is undone on time.
const NAP: Duration = Duration::from_millis(200);

/// How long to wait for the lock: whoever has it may be measuring.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long after its time a change that is not even made counts as hanging, in milliseconds.
const HANGS: u64 = 2_000;

/// How often an undo is tried.
const TRIES: u32 = 30;

/// Starts a guard for a change that is about to be made, in the namespace that the calling thread is in, and waits until it
/// is ready. Where systemd runs the machine the guard is a unit of its own: not even the end of a login session ends
/// it, and it is started again if it is killed. Elsewhere it is a process in a session of its own.
///
/// # Errors
/// Why there is none.
pub fn start(entry: &Entry, state: &Path) -> Result<(), String> {
    let state = std::path::absolute(state).map_err(|error| error.to_string())?;
    let words = |netns: Option<String>| {
        let pid = std::process::id().to_string();
        let mut words = vec!["tune".into(), "guard".into(), entry.number.to_string(), "--pid".into(), pid];
        words.extend(netns.into_iter().flat_map(|netns| ["--netns".to_owned(), netns]));
        words.extend(["--pid-namespace".to_owned(), pid_namespace()]);
        words.extend(["--state".to_owned(), state.display().to_string()]);
        words
    };
    if unit(entry, &words(Some(format!("net:[{}]", entry.namespace.inode)))) {
        return Ok(());
    }
    if std::process::id() == 1 {
        return Err("tidewait is the first process of its container, and whatever it starts ends with it: run it beside that one \
                    (docker exec, nsenter), or without --confirm-within"
            .to_owned());
    }
    // The file itself rather than its name: that may have been replaced by an upgrade.
    let mut command = Command::new("/proc/self/exe");
    command.args(words(None)).current_dir("/");
    // What it says on standard error is for whoever starts it, and for nobody once it is ready.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(|error| error.to_string())?;
    }
    if said.trim() == READY {
        return Ok(());
    }
    // It ended without a word, or says why it cannot.
    let _ = child.kill();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() { "it ended at once".to_owned() } else { said })
}

/// Starts the guard as a transient unit of systemd; whether that came about.
fn unit(entry: &Entry, words: &[String]) -> bool {
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() || !rustix::process::geteuid().is_root() {
        return false;
    }
    let Ok(program) = std::env::current_exe().and_then(std::fs::canonicalize) else { return false };
    let name = format!("tidewait-guard-{}-{}", entry.number, std::process::id());
    let mut command = Command::new("systemd-run");
    command
        .args(["--quiet", "--no-ask-password", "--collect", "--service-type=notify", "--unit", &name])
        .arg(format!("--description=Undoes change {} of settings unless it is confirmed", entry.number))
        .args([
            "--property=Restart=on-failure",
            "--property=RestartSec=100ms",
            "--property=TimeoutStartSec=10s",
            "--",
        ])
        .arg(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // It returns once the guard has said that it is ready.
    command.status().is_ok_and(|status| status.success())
}

/// The process namespace: a number is that of a process in it alone.
fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.display().to_string()
}

/// Runs the guard. `netns`: in which namespace, where that is not the one it was started in.
pub fn run(
    number: u64,
    pid: i32,
    pid_namespace_of_maker: &str,
    netns: Option<&str>,
    state: &Path,
) -> Result<()> {
    // Out of the reach of the terminal: it may be closed, and Ctrl-C is not for this process. A unit of systemd leads a
    // session already.
    let _ = setsid();
    let over = interrupt::catch()?;
    if pid_namespace_of_maker != pid_namespace() {
        bail!("process {pid} is in another process namespace");
    }
    let maker = match Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(maker)) => Some(maker),
        // It has ended already.
        None | Some(Err(Errno::SRCH)) => None,
        Some(Err(error)) => bail!("cannot watch process {pid}: {error} (pidfd_open(2), Linux 5.3)"),
    };
    let entry = among(journal::read(state)?, |entry| entry.number == number)
        .with_context(|| format!("there is no change {number} in {}", state.display()))?;
    let guard = || guard(&entry, maker, state, &over);
    match netns {
        None => guard(),
        Some(_) => {
            let place = find_again(Path::new("/"), &entry.namespace)?
                .context("its network namespace is not found")?;
            place.enter(guard)?
        }
    }
}

/// Waits and undoes, in the namespace that the calling thread is in.
fn guard(entry: &Entry, maker: Option<OwnedFd>, state: &Path, over: &AtomicBool) -> Result<()> {
    output::text(&format!("{READY}\n"))?;
    // Not started by systemd: then there is nobody to tell.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("cannot let go of standard output")?;
    let mut maker = maker;
    let mut tries = 0;
    while tries < TRIES {
        let Some(why) = wait(entry, &mut maker, state, over) else { return Ok(()) };
        match undo(entry, why, state) {
            Ok(true) => return Ok(()),
            // It was finished after all while the lock was waited for.
            Ok(false) => maker = None,
            Err(_) => {
                tries += 1;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    bail!("change {} could not be undone", entry.number)
}

/// Waits until the change has to be undone, and why; `None` if it has not.
fn wait(entry: &Entry, maker: &mut Option<OwnedFd>, state: &Path, over: &AtomicBool) -> Option<Undoing> {
    let deadline = entry.deadline.as_ref()?.uptime_ms;
    let mut last = entry.state.clone();
    loop {
        // A journal that cannot be read any more, or is another, confirms nothing.
        if let Ok(Some(now)) = find(state, entry) {
            last = now.state;
        }
        match last {
            State::Confirmed { .. } | State::Undone { .. } => return None,
            State::Begun if maker.as_ref().is_none_or(has_ended) => return Some(Undoing::Interrupted),
            State::Begun => {}
            State::Applied { .. } => *maker = None,
        }
        let now = uptime_ms();
        if over.load(Ordering::Relaxed) || now >= deadline {
            match maker.as_ref() {
                None => return Some(Undoing::NotConfirmed),
                // It was to be done long ago, and is stopped or hangs in the middle: it must not go on after the undo.
                Some(maker) if now >= deadline + HANGS => {
                    end(maker);
                    return Some(Undoing::Interrupted);
                }
                // It may just be about to end.
                Some(_) => {}
            }
        }
        let left = Duration::from_millis(deadline.saturating_sub(now)).max(Duration::from_millis(1));
        sleep(left.min(NAP), maker.as_ref());
    }
}

/// Sleeps for so long, or until the process ends.
fn sleep(time: Duration, process: Option<&OwnedFd>) {
    let Ok(timeout) = Timespec::try_from(time) else { return };
    let mut events: Vec<PollFd<'_>> = process.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    // A signal ends it early, which does no harm.
    let _ = poll(&mut events, Some(&timeout));
}

/// Ends a process for good, and waits until it has.
fn end(process: &OwnedFd) {
    // It may have ended by itself.
    let _ = pidfd_send_signal(process, Signal::KILL);
    let mut events = [PollFd::new(process, PollFlags::IN)];
    let _ = poll(&mut events, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }));
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut events = [PollFd::new(process, PollFlags::IN)];
    let timeout = Timespec::default();
    poll(&mut events, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Undoes the change; where its journal is gone, from what is known of it. Whether that is done, and nothing is to be waited for any
/// more.
fn undo(entry: &Entry, why: Undoing, state: &Path) -> Result<bool, ChangeError> {
    let boot = procfs::boot_id(Path::new("/"));
    let mut journal = match Journal::open(state, PATIENCE) {
        Ok(journal) => journal,
        // Whoever has the lock may be about to change these very settings.
        Err(error @ JournalError::Busy { .. }) => return Err(error.into()),
        Err(_) => return change::restore(&Sysctl, entry).map(|()| true),
    };
    let now = journal.entry(entry.number).filter(|now| is_same(entry, now)).map(|now| now.state.clone());
    match now {
        // Confirmed or undone while the lock was waited for.
        Some(State::Confirmed { .. } | State::Undone { .. }) => Ok(true),
        Some(State::Applied { .. }) if why == Undoing::Interrupted => Ok(false),
        Some(_) => {
            change::undo(&Sysctl, &mut journal, entry.number, &boot, why, Drifted::Leave).map(|_| true)
        }
        None => change::restore(&Sysctl, entry).map(|()| true),
    }
}

/// The entry as the journal has it now. It is asked for again and again, and nearly always among the last.
fn find(state: &Path, entry: &Entry) -> Result<Option<Entry>> {
    match among(journal::recent(state)?, |now| is_same(entry, now)) {
        None => Ok(among(journal::read(state)?, |now| is_same(entry, now))),
        found => Ok(found),
    }
}

fn among(reading: Option<Reading>, is_meant: impl Fn(&Entry) -> bool) -> Option<Entry> {
    reading.and_then(|reading| reading.entries.into_iter().find(is_meant))
}

/// Whether two entries are of one change: a journal that is begun anew numbers from 1 again.
fn is_same(one: &Entry, other: &Entry) -> bool {
    (one.number, one.pid, &one.begun_at, &one.plan) == (other.number, other.pid, &other.begun_at, &other.plan)
}
