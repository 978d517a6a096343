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
use tidewait_observe::places::{PlaceError, find_again};
use tidewait_observe::procfs;

use crate::{interrupt, output};

/// What it says once it is ready.
const READY: &str = "ready";

/// How late a confirmation may be noticed; a change that is not confirmed is undone on time.
const NAP: Duration = Duration::from_millis(200);

/// How long to wait for the lock: whoever has it may be measuring.
const PATIENCE: Duration = Duration::from_secs(60);

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
        words.extend(["--state".to_owned(), state.display().to_string()]);
        words
    };
    if unit(entry, &words(Some(format!("net:[{}]", entry.namespace.inode)))) {
        return Ok(());
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
        .args(["--quiet", "--collect", "--service-type=notify", "--unit", &name])
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

/// Runs the guard. `netns`: in which namespace, where that is not the one it was started in.
pub fn run(number: u64, pid: i32, netns: Option<&str>, state: &Path) -> Result<()> {
    // Out of the reach of the terminal: it may be closed, and Ctrl-C is not for this process. A unit of systemd leads a
    // session already.
    let _ = setsid();
    let over = interrupt::catch()?;
    let maker = match Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(maker)) => Some(maker),
        // It has ended already.
        None | Some(Err(Errno::SRCH)) => None,
        Some(Err(error)) => bail!("cannot watch process {pid}: {error} (pidfd_open(2), Linux 5.3)"),
    };
    let entry = find(state, number)?
        .with_context(|| format!("there is no change {number} in {}", state.display()))?;
    let root = Path::new("/");
    if netns.is_some() {
        find_again(root, &entry.namespace)?.context("its network namespace is not found")?;
    }
    output::text(&format!("{READY}\n"))?;
    // Not started by systemd: then there is nobody to tell.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).context("cannot let go of standard output")?;
    let Some(why) = wait(&entry, maker, state, &over) else { return Ok(()) };
    for _ in 0..TRIES {
        let undone = if netns.is_none() {
            undo(&entry, why, state).map_err(anyhow::Error::from)
        } else {
            // Found anew: the process that led there may have ended, and the namespace not.
            match find_again(root, &entry.namespace)?.map(|place| place.enter(|| undo(&entry, why, state))) {
                Some(Ok(undone)) => undone.map_err(anyhow::Error::from),
                // Its settings went with it.
                None | Some(Err(PlaceError::Vanished { .. })) => return Ok(()),
                Some(Err(error)) => Err(error.into()),
            }
        };
        if undone.is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    bail!("change {number} could not be undone")
}

/// Waits until the change has to be undone, and why; `None` if it has not.
fn wait(entry: &Entry, maker: Option<OwnedFd>, state: &Path, over: &AtomicBool) -> Option<Undoing> {
    let deadline = entry.deadline.as_ref()?.uptime_ms;
    let mut maker = maker;
    loop {
        // A journal that cannot be read any more confirms nothing.
        let now = find(state, entry.number).ok().flatten().unwrap_or_else(|| entry.clone());
        match now.state {
            State::Confirmed { .. } | State::Undone { .. } => return None,
            State::Begun if maker.as_ref().is_none_or(has_ended) => return Some(Undoing::Interrupted),
            State::Begun => {}
            State::Applied { .. } => maker = None,
        }
        let left = Duration::from_millis(deadline.saturating_sub(uptime_ms()));
        // Whoever ends this process ends what it was to wait for.
        if left.is_zero() || over.load(Ordering::Relaxed) {
            if let Some(maker) = maker.as_ref().filter(|_| now.state == State::Begun) {
                // It was to be done long ago, and is stopped or hangs in the middle: it must not go on after the undo.
                end(maker);
                return Some(Undoing::Interrupted);
            }
            return Some(Undoing::NotConfirmed);
        }
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

/// Undoes the change; where its journal is gone, from what is known of it.
fn undo(entry: &Entry, why: Undoing, state: &Path) -> Result<(), ChangeError> {
    let boot = procfs::boot_id(Path::new("/"));
    let mut journal = match Journal::open(state, PATIENCE) {
        Ok(journal) => journal,
        // Whoever has the lock may be about to change these very settings.
        Err(error @ JournalError::Busy { .. }) => return Err(error.into()),
        Err(_) => return change::restore(&Sysctl, entry),
    };
    match journal.entry(entry.number).map(|entry| &entry.state) {
        // Confirmed or undone while the lock was waited for.
        Some(State::Confirmed { .. } | State::Undone { .. }) => return Ok(()),
        Some(_) => {}
        None => return change::restore(&Sysctl, entry),
    }
    change::undo(&Sysctl, &mut journal, entry.number, &boot, why, Drifted::Leave).map(|_| ())
}

/// The entry as the journal has it now. It is asked for again and again, and nearly always among the last.
fn find(state: &Path, number: u64) -> Result<Option<Entry>> {
    let among = |reading: Option<Reading>| {
        reading.and_then(|reading| reading.entries.into_iter().find(|entry| entry.number == number))
    };
    match among(journal::recent(state)?) {
        None => Ok(among(journal::read(state)?)),
        found => Ok(found),
    }
}
