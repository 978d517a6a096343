//! The look at the machine, in a process of its own that can be left behind.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::report::Report;

use super::Failure;
use crate::cli::Check;

/// This program as it runs, whatever became of its file since.
const THIS: &str = "/proc/self/exe";
/// Seconds that counters are watched if nothing else is asked for, and the least that `report` takes.
const WATCH_FOR: f64 = 1.0;
const SHORTEST: f64 = 0.1;
/// How often it is looked whether a process that closed its output is gone.
const POLL: Duration = Duration::from_millis(1);

/// What `tidewait report --json` says, if it says so before `end`.
pub fn look(options: &Check, end: Instant) -> Result<Report, Failure> {
    let mut child = command(options).spawn().map_err(|error| {
        let words = format!("cannot start {THIS} report: {error}");
        Failure::Other(words, vec!["mount /proc, and let this user run processes".to_owned()])
    })?;
    let outcome = wait(&mut child, end);
    if outcome.is_err() {
        // It may be stuck in the kernel for long; then it ends when it gets out, and init takes care of it.
        let _ = child.kill();
    }
    let (status, stdout, stderr) = outcome?;
    if status.success() {
        return serde_json::from_slice(&stdout)
            .map_err(|error| Failure::Other(format!("the report could not be read: {error}"), Vec::new()));
    }
    let said = String::from_utf8_lossy(&stderr);
    let mut lines = said.lines().map(str::to_owned).filter(|line| !line.is_empty());
    let words = lines.next().map_or_else(
        || format!("the look at this machine ended with {status} and no word"),
        |line| line.trim_start_matches("tidewait: ").trim_start_matches("error: ").to_owned(),
    );
    Err(Failure::Other(words, lines.collect()))
}

fn command(options: &Check) -> Command {
    let mut command = Command::new(THIS);
    command.arg0("tidewait");
    let watch_for = options.watch_for.unwrap_or_else(|| WATCH_FOR.min(options.timeout / 2.0).max(SHORTEST));
    command.args(["report", "--json", "--for", &watch_for.to_string()]);
    if let Some(netns) = &options.netns {
        command.arg("--netns").arg(netns);
    }
    if let Some(to) = &options.to {
        command.arg("--to").arg(to.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How the process ended and what it wrote.
fn wait(child: &mut Child, end: Instant) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Failure> {
    let stdout = read(child.stdout.take());
    let stderr = read(child.stderr.take());
    let (stdout, stderr) = (receive(&stdout, end)?, receive(&stderr, end)?);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((status, stdout, stderr)),
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            Ok(None) => return Err(Failure::TimedOut),
            Err(error) => return Err(fault(&error)),
        }
    }
}

/// Reads a pipe to its end, beside.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody listens any more if time was up.
        let _ = sender.send(result.map(|_| bytes));
    });
    receiver
}

fn receive(from: &Receiver<io::Result<Vec<u8>>>, end: Instant) -> Result<Vec<u8>, Failure> {
    match from.recv_timeout(end.saturating_duration_since(Instant::now())) {
        Ok(result) => result.map_err(|error| fault(&error)),
        Err(RecvTimeoutError::Timeout) => Err(Failure::TimedOut),
        Err(RecvTimeoutError::Disconnected) => Err(fault(&io::ErrorKind::BrokenPipe.into())),
    }
}

fn fault(error: &io::Error) -> Failure {
    Failure::Other(format!("the report could not be read: {error}"), Vec::new())
}
