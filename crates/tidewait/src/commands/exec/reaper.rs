//! `tidewait reap` beside the command: a process of its own, which ends with it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::{NotPermitted, Usage};

/// A reaper that runs.
pub struct Reaper {
    child: Child,
    /// What it says, once a second; the last line has the counts.
    told: Option<JoinHandle<String>>,
}

impl Reaper {
    /// Starts it, and waits until it has begun.
    ///
    /// It writes a line each second into a pipe that only tidewait reads, so that it ends too when tidewait is killed.
    pub fn start(age: Duration) -> Result<Reaper> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("tidewait")
            .args(["reap", "--json", "--older-than"])
            .arg(format!("{}ms", age.as_millis()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the command, which may go on after it.
        command.process_group(0);
        let mut child = command.spawn().context("cannot start `tidewait reap`")?;
        let mut output = BufReader::new(child.stdout.take().context("`tidewait reap` has no output")?);
        let mut first = String::new();
        output.read_line(&mut first).context("cannot hear `tidewait reap`")?;
        if first.is_empty() {
            let ended = child.wait_with_output().context("cannot wait for `tidewait reap`")?;
            let said = String::from_utf8_lossy(&ended.stderr);
            let why = said.trim().trim_start_matches("tidewait: ").to_owned();
            match ended.status.code() {
                Some(2) => return Err(Usage(format!("--reap: {why}")).into()),
                Some(77) => return Err(NotPermitted(why).into()),
                _ => bail!("--reap: {why}"),
            }
        }
        let mut errors = child.stderr.take();
        let told = std::thread::Builder::new()
            .name("reap".into())
            .spawn(move || {
                let mut last = String::new();
                for line in output.lines().map_while(Result::ok) {
                    last = line;
                }
                // What it says in the end, where it ends before its time.
                let mut said = String::new();
                if let Some(errors) = &mut errors {
                    let _ = errors.read_to_string(&mut said);
                }
                if said.is_empty() { last } else { said }
            })
            .context("cannot start a thread")?;
        Ok(Reaper { child, told: Some(told) })
    }

    /// Ends it; how many sockets it ended, or why it did not go on.
    pub fn end(mut self) -> String {
        self.stop();
        let last = self.told.take().and_then(|told| told.join().ok()).unwrap_or_default();
        match serde_json::from_str::<serde_json::Value>(&last) {
            Ok(end) => format!("{} sockets in TIME_WAIT were ended", end["killed"].as_u64().unwrap_or(0)),
            Err(_) => format!("the reaper ended early: {}", last.trim().trim_start_matches("tidewait: ")),
        }
    }

    fn stop(&mut self) {
        let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        if !has_ended {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop();
    }
}
