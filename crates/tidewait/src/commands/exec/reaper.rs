//! `tidewait reap` beside the command: a process of its own, which ends with it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tidewait_model::reap::{Begin, Counters, Line};

use crate::exit::{NotPermitted, Usage};

/// Destinations that are named of those whose sockets are left for longer.
const NAMED: usize = 10;

/// A reaper that runs.
pub struct Reaper {
    child: Child,
    /// What it has to say before the command starts.
    notes: Vec<String>,
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
        let notes = match serde_json::from_str(&first) {
            Ok(Line::Begin(begin)) => notes(begin),
            _ => bail!("--reap: `tidewait reap` begins with something else: {}", first.trim()),
        };
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
        Ok(Reaper { child, notes, told: Some(told) })
    }

    /// What would be safer, and whose sockets are left for longer.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Ends it; what it did.
    ///
    /// # Errors
    /// Where it did not go on to the end, and why, in words.
    pub fn end(mut self) -> Result<Counters, String> {
        self.stop();
        let last = self.told.take().and_then(|told| told.join().ok()).unwrap_or_default();
        match serde_json::from_str(&last) {
            Ok(Line::End(end)) => Ok(end.counters),
            Ok(_) => Err("the reaper ended early, without a word".to_owned()),
            Err(_) => {
                Err(format!("the reaper ended early: {}", last.trim().trim_start_matches("tidewait: ")))
            }
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

fn notes(begin: Begin) -> Vec<String> {
    let mut notes = begin.notes;
    let (named, others) = begin.floors.split_at(NAMED.min(begin.floors.len()));
    notes.extend(named.iter().map(|floor| {
        format!("sockets of {} are left for {} s: {}", floor.destination, floor.seconds, floor.evidence)
    }));
    if !others.is_empty() {
        notes.push(format!("sockets of {} other destinations are left for longer, too", others.len()));
    }
    notes
}

#[cfg(test)]
mod tests {
    use tidewait_model::reap::Floor;
    use tidewait_model::report::Host;
    use tidewait_model::stream::Opening;

    use super::*;

    #[test]
    fn what_reap_says_is_passed_on_and_of_many_floors_the_first() {
        let floor = |number: usize| Floor {
            destination: format!("10.0.0.{number}:80"),
            seconds: 4.5,
            evidence: "retransmitted FIN seen 3.5 s into TIME_WAIT".to_owned(),
        };
        let begin = |floors: usize| Begin {
            opening: Opening {
                schema: String::new(),
                at: String::new(),
                host: Host { hostname: String::new(), kernel: String::new() },
            },
            namespace: String::new(),
            older_than_seconds: Some(1.0),
            keep_below: None,
            floor_seconds: 1.0,
            floors: (0..floors).map(floor).collect(),
            states: Vec::new(),
            incoming: false,
            rate: None,
            dry_run: false,
            notes: vec!["safer: another way".to_owned()],
        };
        assert_eq!(notes(begin(0)), ["safer: another way"]);
        let told = notes(begin(NAMED + 3));
        assert_eq!(told.len(), 1 + NAMED + 1);
        assert!(
            told[1].starts_with("sockets of 10.0.0.0:80 are left for 4.5 s: retransmitted FIN"),
            "{told:?}"
        );
        assert!(told[NAMED + 1].contains("3 other destinations"), "{told:?}");
    }
}
