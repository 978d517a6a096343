//! One scenario: the process that makes it and looks at it, and the parent that listens.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tidewait_lab::{Error, Scenario, Stage};
use tidewait_model::report::Report;

use crate::exit::{self, Usage};

/// The longest that a scenario may take. They take seconds; an emulated machine takes twenty times as long.
const PATIENCE: Duration = Duration::from_secs(300);

/// This very program, whatever has become of its file.
const SELF: &str = "/proc/self/exe";

/// What the process of a scenario says, a line of JSON each.
#[derive(Serialize, Deserialize)]
enum Word {
    /// What it does now.
    Step(String),
    /// How it has ended; the last word.
    End(Ending),
}

/// How a scenario has ended.
#[derive(Serialize, Deserialize)]
pub enum Ending {
    /// It was made, and this is what tidewait says of it.
    Report(Box<Report>),
    /// It cannot be made here.
    Skipped(String),
    /// It may not be made here.
    NotPermitted(String),
    /// It could not be made although it should.
    Failed(String),
}

/// The process of a scenario: makes it, looks, and says what it sees.
pub fn play(name: &str) -> Result<()> {
    let scenario = Scenario::all().into_iter().find(|scenario| scenario.name == name);
    let scenario = scenario.ok_or_else(|| Usage(format!("no scenario is called {name:?}")))?;
    // Kept to the end: the kernel takes the machine down faster than it can be taken apart here.
    let mut stage = scenario.stage(|step| say(&Word::Step(step.to_owned())));
    let ending = match &stage {
        Ok(stage) => {
            say(&Word::Step("looking".to_owned()));
            match look(stage) {
                Ok(report) => Ending::Report(Box::new(report)),
                Err(error) => Ending::Failed(exit::words(&error)),
            }
        }
        Err(Error::Unavailable(reason)) => Ending::Skipped(reason.clone()),
        Err(error @ Error::Descriptors { .. }) => Ending::Skipped(error.to_string()),
        Err(error @ Error::NotPermitted(_)) => Ending::NotPermitted(error.to_string()),
        Err(error) => Ending::Failed(error.to_string()),
    };
    if let Ok(stage) = &mut stage {
        stage.put_back();
    }
    say(&Word::End(ending));
    std::process::exit(0);
}

/// One line to the parent. When it is gone, so is this process.
fn say(word: &Word) {
    if let Ok(line) = serde_json::to_string(word) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// What `tidewait report` says in the machine.
fn look(stage: &Stage) -> Result<Report> {
    let lens = stage.lens();
    let mut command = match &lens.from_outside {
        Some(outside) => outside.command(SELF),
        None => Command::new(SELF),
    };
    command.args(["report", "--json"]);
    if lens.everywhere {
        command.args(["--netns", "all"]);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot run `tidewait report`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "`tidewait report`: {}: {}", output.status, said.trim());
    serde_json::from_slice(&output.stdout).context("cannot read what `tidewait report --json` printed")
}

/// Runs a scenario in a process of its own and passes on what it does; how it ended, and after how many seconds.
pub fn watch(name: &str, step: impl FnMut(String)) -> (Ending, f64) {
    let begin = Instant::now();
    let ending = start(name)
        .map_err(anyhow::Error::from)
        .and_then(|child| listen(child, step))
        .unwrap_or_else(|error| Ending::Failed(exit::words(&error)));
    (ending, begin.elapsed().as_secs_f64())
}

fn start(name: &str) -> io::Result<Child> {
    Command::new(SELF)
        .args(["lab", "stage", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Hears the child out.
fn listen(mut child: Child, mut step: impl FnMut(String)) -> Result<Ending> {
    let stdout = child.stdout.take().context("the scenario has no output")?;
    let mut stderr = child.stderr.take().context("the scenario has no error output")?;
    let (tell, hear) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let complaints = thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read counts.
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let deadline = Instant::now() + PATIENCE;
    let ending = loop {
        match hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match serde_json::from_str(&line).context("the scenario speaks in riddles")? {
                Word::Step(text) => step(text),
                Word::End(ending) => break Some(ending),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // The machine goes with it.
                child.kill()?;
                break Some(Ending::Failed(format!("not over after {} s", PATIENCE.as_secs())));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
        }
    };
    let status = child.wait()?;
    Ok(ending.unwrap_or_else(|| {
        let said = complaints.join().unwrap_or_default();
        Ending::Failed(format!("the scenario ended without a word, {status}: {said}"))
    }))
}
