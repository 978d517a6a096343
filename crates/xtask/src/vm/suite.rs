//! The kernel tests on other kernels: builds the test programs here, runs them in one machine per kernel, side by side.

use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::Message;
use clap::Args;

use super::image::{Entry, Image};
use super::kernel::{self, Kernel, Offer};
use super::machine::{self, Machine, PANIC, Streams};
use super::{quoted, store};
use crate::harness::{Outcome, read_along};
use crate::workspace::{Workspace, cargo};

/// The kernels of the gate: the oldest that is supported, and the newest that Debian 12 offers.
const SERIES: &[&str] = &["6.1", "6.12"];

/// The crates whose tests meet the kernel.
const CRATES: &[&str] = &["tidewait-act", "tidewait-observe", "tidewait-lab", "tidewait"];

/// What tests find in the environment there: an emulated machine runs at about a tenth of the speed, and cargo, which
/// insta asks for the root, is not there. It may be thrown away, so that scenarios may fill its limits. Tests wait most of the
/// time, so that two of them share the one processor well.
const ENVIRONMENT: &str = "export TIDEWAIT_TEST_SCALE=0.1 RUST_TEST_THREADS=2 TIDEWAIT_LAB_DISPOSABLE=1 PROPTEST_CASES=16 INSTA_UPDATE=no RUST_BACKTRACE=1";

/// Which kernels to test on.
#[derive(Args)]
pub struct Options {
    /// Series of the kernels; 6.1 and 6.12 if none is given
    kernels: Vec<String>,
}

/// A test program, or a program that tests start.
struct Program {
    /// `crate/target`, to call it by.
    name: String,
    path: PathBuf,
    /// The directory of the crate, where tests are started.
    home: PathBuf,
    is_test: bool,
}

/// Runs the kernel tests and fails if one of them does.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let outcome = outcome(workspace, &options.kernels)?;
    for what in &outcome.skipped {
        println!("SKIPPED {what}");
    }
    for failure in &outcome.failures {
        eprintln!("error: {failure}");
    }
    let tests = outcome.tests;
    println!("vm-test: {} passed, {} failed, {} skipped", tests.passed, tests.failed, outcome.skipped.len());
    Ok(if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the kernel tests on the given kernels, or the usual ones.
pub fn outcome(workspace: &Workspace, kernels: &[String]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if let Some(obstacle) = machine::obstacle() {
        outcome.skipped.push(format!("vm-test: {obstacle}"));
        return Ok(outcome);
    }
    let usual: Vec<String> = SERIES.iter().map(|series| (*series).to_owned()).collect();
    let programs = build(workspace)?;
    let mut obtained = Vec::new();
    for series in if kernels.is_empty() { &usual } else { kernels } {
        match kernel::obtain(series, &store(workspace))? {
            Offer::Nothing(reason) => outcome.skipped.push(format!("vm-test {series}: {reason}")),
            Offer::Unpacked(kernel) => obtained.push((series, kernel)),
        }
    }
    let ended = thread::scope(|scope| {
        let mut running = Vec::new();
        for (series, kernel) in &obtained {
            // What the first one prints is shown as it comes, and that of each other one behind it, in one piece.
            let told = if running.is_empty() { Told::Now } else { Told::Later(Arc::default()) };
            let (tests, words) = (&programs, told.clone());
            running.push((series, told, scope.spawn(move || test_on(workspace, kernel, tests, &words))));
        }
        let mut ended = Vec::new();
        for (series, told, machine) in running {
            let on_it = machine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            told.show();
            ended.push((series, on_it));
        }
        ended
    });
    for (series, on_it) in ended {
        let on_it = on_it?;
        outcome.tests.add(on_it.tests);
        outcome.failures.extend(on_it.failures);
        outcome.failing.extend(on_it.failing.into_iter().map(|test| format!("{series}: {test}")));
        outcome.skipped.extend(on_it.skipped.into_iter().map(|what| format!("{series}: {what}")));
    }
    Ok(outcome)
}

/// Has cargo build the tests, and asks it where they are.
fn build(workspace: &Workspace) -> Result<Vec<Program>> {
    let mut command = Command::new(cargo());
    // The whole workspace, as in the gate's own step: another choice of packages means other features and a new build.
    command.args(["test", "--workspace", "--no-run", "--locked", "--quiet"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.current_dir(&workspace.root).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let messages = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let mut programs = Vec::new();
    for message in Message::parse_stream(messages) {
        let Message::CompilerArtifact(artifact) = message.context("reading what cargo says")? else {
            continue;
        };
        let Some(path) = artifact.executable else { continue };
        let package = &workspace.metadata[&artifact.package_id].name;
        if !CRATES.contains(&package.as_str()) {
            continue;
        }
        let home = artifact.manifest_path.parent().context("a manifest without a directory")?;
        programs.push(Program {
            name: format!("{package}/{}", artifact.target.name),
            path: path.into_std_path_buf(),
            home: home.to_path_buf().into_std_path_buf(),
            is_test: artifact.profile.test,
        });
    }
    let status = child.wait().context("waiting for cargo")?;
    ensure!(status.success(), "building the tests failed");
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Where a machine's words go: both its streams, line by line.
#[derive(Clone)]
enum Told {
    Now,
    Later(Arc<Mutex<Vec<u8>>>),
}

impl Told {
    /// Shows what was kept.
    fn show(&self) {
        if let Told::Later(kept) = self
            && let Ok(kept) = kept.lock()
        {
            // Nobody is left to tell when this fails.
            let _ = io::stdout().write_all(&kept);
        }
    }
}

impl Write for Told {
    fn write(&mut self, words: &[u8]) -> io::Result<usize> {
        match self {
            Told::Now => io::stdout().write(words),
            Told::Later(kept) => {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(words);
                }
                Ok(words.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

fn test_on(workspace: &Workspace, kernel: &Kernel, programs: &[Program], told: &Told) -> Result<Outcome> {
    // Tests know by absolute path where their fixtures and the programs they start are.
    let mut entries: Vec<Entry> =
        programs.iter().map(|program| Entry::stripped(&program.path, &program.path)).collect();
    let mut homes: Vec<&PathBuf> = programs.iter().map(|program| &program.home).collect();
    homes.dedup();
    entries.extend(homes.into_iter().map(|home| Entry::copied(home, home)));
    let script = script(workspace, programs);
    let image = Image { kernel, modules: &[], entries, script };

    let mut words = told.clone();
    let _ = writeln!(words, "-- kernel {}", kernel.release);
    let (mut ended, mut outcome) = once(workspace, &image, told);
    if let Err(error) = &ended
        && format!("{error:#}").contains(PANIC)
    {
        // Emulated, a kernel panics now and then when it changes its own code for a tracepoint. Twice is no accident.
        let _ = writeln!(words, "-- kernel {} once more: {error:#}", kernel.release);
        (ended, outcome) = once(workspace, &image, told);
    }
    match ended {
        Ok(0) => {}
        Ok(_) => outcome.failures.push(format!("tests failed on kernel {}", kernel.release)),
        Err(error) => outcome.failures.push(format!("{error:#}")),
    }
    Ok(outcome)
}

/// Runs the tests in a machine: how it ended, and what the tests said.
fn once(workspace: &Workspace, image: &Image<'_>, told: &Told) -> (Result<u8>, Outcome) {
    let seen = Arc::new(Mutex::new(Outcome::default()));
    let (results, skips) = (Arc::clone(&seen), Arc::clone(&seen));
    let (out, errors) = (told.clone(), told.clone());
    let streams = Streams {
        stdout: Box::new(move |from| read_along(from, out, &results)),
        // Tests say there what they skip.
        stderr: Box::new(move |from| read_along(from, errors, &skips)),
    };
    // One processor each: two that are emulated fall over each other where the kernel changes its own code, and take little
    // less time.
    let machine = Machine { memory: 2048, cpus: 1, timeout: Duration::from_secs(2_400) };
    let ended = machine.run(image, &store(workspace), streams);
    let outcome = match seen.lock() {
        Ok(mut seen) => std::mem::take(&mut *seen),
        Err(_) => Outcome::from(vec!["the reader of the machine's output has panicked".to_owned()]),
    };
    (ended, outcome)
}

/// Runs each test program in its crate's directory and says how it went; ends with 1 if one failed.
fn script(workspace: &Workspace, programs: &[Program]) -> String {
    let mut script = format!("{ENVIRONMENT}\nexport INSTA_WORKSPACE_ROOT={}\n", path(&workspace.root));
    script.push_str(
        "failed=0\n\
         run() {\n    cd \"$2\"; export CARGO_MANIFEST_DIR=\"$2\"; begun=$(date +%s)\n    \
         if \"$3\" --show-output; then verdict=passed; else verdict=FAILED; failed=1; fi\n    \
         echo \"$(uname -r): $1 $verdict ($(($(date +%s) - begun)) s)\"\n}\n",
    );
    for program in programs.iter().filter(|program| program.is_test) {
        let words = [quoted(&program.name), path(&program.home), path(&program.path)];
        script.push_str(&format!("run {}\n", words.join(" ")));
    }
    script.push_str("exit $failed\n");
    script
}

fn path(path: &std::path::Path) -> String {
    quoted(&path.display().to_string())
}
