//! `tidewait exec`: one command, with its ports and addresses chosen otherwise than the kernel would.

pub mod keeper;
mod library;
mod program;
mod reaper;
mod steering;
mod summary;
mod supervise;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tidewait_act::cgroup::{Cgroup, CgroupError};
use tidewait_diagnose::programs;

use self::keeper::Keeper;
use self::library::Library;
use self::program::Missing;
use self::reaper::Reaper;
use self::summary::{Ended, Summary};
use self::supervise::{NotStarted, Signals};
use crate::cli::Exec;
use crate::commands::steer::steered::{EVERY, Plan};
use crate::exit::{self, NotPermitted, Usage};

/// Exit codes of env(1), nohup(1), timeout(1) and of shells, for what could not be started.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs the command; the exit code is its own.
pub fn run(options: &Exec) -> ExitCode {
    let Some((name, arguments)) = options.command.split_first() else {
        return exit::code(Err(Usage("exec needs a command after `--`".to_owned()).into()));
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let program = match program::find(name, &path) {
        Ok(program) => program,
        Err(missing) => return refuse(name, missing),
    };
    let mut command = Command::new(&program);
    command.arg0(name).args(arguments);
    let started = if options.no_port { may_be_preloaded(&program, arguments, &path) } else { Ok(()) };
    match started.and_then(|()| start(options, &mut command)) {
        Ok(status) => supervise::end_as(status),
        Err(error) => not_run(error),
    }
}

/// The kernel refuses to execute the program.
#[derive(Debug)]
struct CannotStart {
    program: PathBuf,
    source: io::Error,
}

impl Display for CannotStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot start {}: ", self.program.display())?;
        // The program was found a moment ago.
        if self.source.kind() != io::ErrorKind::NotFound {
            return write!(f, "{}", self.source);
        }
        match program::named_interpreter(&self.program) {
            Some(interpreter) => {
                write!(f, "there is no {}, which its first line names", interpreter.display())
            }
            None => write!(f, "the loader that it names is not there (ldd and file tell which)"),
        }
    }
}

impl std::error::Error for CannotStart {}

fn refuse(name: &OsString, missing: Missing) -> ExitCode {
    let name = Path::new(name).display();
    let (words, code) = match missing {
        Missing::NotFound => (format!("{name}: there is no such program"), NOT_FOUND),
        Missing::NotExecutable => (format!("{name}: it cannot be executed"), NOT_EXECUTABLE),
    };
    say(words);
    ExitCode::from(code)
}

/// How it ends where the command did not run, or not to its end.
fn not_run(error: anyhow::Error) -> ExitCode {
    if let Some(NotStarted(signal)) = error.downcast_ref() {
        return supervise::end_as(ExitStatus::from_raw(signal.as_raw()));
    }
    match error.downcast_ref::<CannotStart>().map(|cannot| cannot.source.kind()) {
        Some(io::ErrorKind::NotFound) => failed(&error, NOT_FOUND),
        Some(_) => failed(&error, NOT_EXECUTABLE),
        None => exit::code(Err(error)),
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    say(exit::words(error));
    ExitCode::from(code)
}

/// Says something on standard error. Where that cannot be written (a terminal that is gone, a full disk, a pipe that the command
/// made non-blocking) the command goes on all the same: it is what all this is for.
fn say(words: impl Display) {
    // In one piece: it shares standard error with the command.
    let _ = anstream::stderr().write_all(format!("tidewait: {words}\n").as_bytes());
}

/// Starts the command, and how it ended; nothing is left then.
fn start(options: &Exec, command: &mut Command) -> Result<ExitStatus> {
    if !options.goes_on() {
        if options.report.is_some() {
            return Err(Usage(
                "--report needs --steer, --spread or --reap: with --no-port alone tidewait becomes the command, and counts nothing".to_owned(),
            )
            .into());
        }
        return Err(become_it(options, command));
    }
    supervise::wait_for_children()?;
    // What is wrong with it shows here, before anything is started.
    let plan = steering::plan(options)?;
    let summary = Summary::open(options)?;
    let reaper = options.reap.map(Reaper::start).transpose()?;
    if let (Some(age), Some(reaper)) = (options.reap, &reaper) {
        say(format_args!(
            "while this runs every outgoing connection of the network namespace leaves TIME_WAIT after {} s: whose it was is not \
             known any more",
            age.as_secs_f64()
        ));
        reaper.notes().iter().for_each(say);
    }
    let mut signals = Signals::catch()?;
    let library = preloaded(options, command)?;
    let cgroup = Cgroup::create(&format!("tidewait-exec-{}", std::process::id())).map_err(not_permitted);
    let outcome =
        cgroup.and_then(|cgroup| supervised(options, command, &cgroup, plan, library.as_ref(), &mut signals));
    if let Some(library) = library {
        library.remove();
    }
    let reaped = reaper.map(Reaper::end);
    let ended = outcome?;
    let status = ended.status;
    summary.tell(ended, reaped);
    Ok(status)
}

/// Runs the command inside the cgroup, which is gone afterwards.
fn supervised(
    options: &Exec,
    command: &mut Command,
    cgroup: &Cgroup,
    plan: Option<Plan>,
    library: Option<&Library>,
    signals: &mut Signals,
) -> Result<Ended> {
    let keeper = match Keeper::start(Some(cgroup), library) {
        Ok(keeper) => keeper,
        Err(error) => {
            cgroup.remove()?;
            // Until it is in a process group of its own the terminal reaches the keeper as well.
            return Err(signals.end().map_or(error, |signal| NotStarted(signal).into()));
        }
    };
    let outcome = steered(options, command, cgroup, plan, signals);
    // Where something went wrong there may be somebody in it.
    let removed = cgroup.kill().and_then(|()| cgroup.remove());
    keeper.dismiss();
    let ended = outcome?;
    removed?;
    Ok(ended)
}

fn steered(
    options: &Exec,
    command: &mut Command,
    cgroup: &Cgroup,
    plan: Option<Plan>,
    signals: &mut Signals,
) -> Result<Ended> {
    let mut steered = plan.map(|plan| steering::begin(plan, cgroup)).transpose()?;
    let begun = Instant::now();
    let status = supervise::run(command, cgroup, signals, || {
        let steered = steered.as_mut()?;
        steered.keep_up().iter().for_each(say);
        Some(EVERY)
    })?;
    let ran = begun.elapsed();
    let chosen = steered.map(|steered| steering::chosen(options, &steered)).transpose()?;
    Ok(Ended { status, ran, chosen })
}

/// Becomes the command: its number, its signals and its exit code are its own. Returns why it could not.
fn become_it(options: &Exec, command: &mut Command) -> anyhow::Error {
    let started = preloaded(options, command).and_then(|library| {
        let keeper = Keeper::start(None, library.as_ref());
        if keeper.is_err()
            && let Some(library) = library
        {
            library.remove();
        }
        keeper
    });
    match started {
        // The keeper removes the library, also when this fails.
        Ok(_) => CannotStart { program: command.get_program().into(), source: command.exec() }.into(),
        Err(error) => error,
    }
}

/// The library, if it is asked for, and the command told of it.
fn preloaded(options: &Exec, command: &mut Command) -> Result<Option<Library>> {
    let library = options.no_port.then(Library::write).transpose()?;
    if let Some(library) = &library {
        command.env("LD_PRELOAD", program::preload(std::env::var_os("LD_PRELOAD"), library.path()));
    }
    Ok(library)
}

fn not_permitted(error: CgroupError) -> anyhow::Error {
    if error.is_permission() { NotPermitted(error.to_string()).into() } else { error.into() }
}

/// Refuses a program that no library can be loaded before, with what helps instead.
fn may_be_preloaded(program: &Path, arguments: &[OsString], path: &OsString) -> Result<()> {
    let found = match program::obstacle(program, arguments, path) {
        // Of a script there is no interpreter: the kernel is to say so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => found.with_context(|| {
            format!("cannot see whether a library can be loaded before {}", program.display())
        })?,
    };
    let Some((which, obstacle)) = found else { return Ok(()) };
    Err(Usage(format!(
        "--no-port does nothing for {}: it {}. {}",
        which.display(),
        obstacle.words(),
        instead(&which)
    ))
    .into())
}

/// What helps where a library cannot: the program's own setting, where it has one; else the address given from outside.
fn instead(program: &Path) -> String {
    let own = program
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(programs::of)
        .filter(|program| program.configuration(programs::Need::PortAtConnect).is_some())
        .map(|program| {
            format!("{} has a setting of its own: `tidewait explain {}` shows it. ", program.name, program.id)
        });
    format!(
        "{}Without its source address in the program's configuration connect() chooses the port; `tidewait exec --spread \
         ADDRESS -- COMMAND` then sets the address from outside",
        own.unwrap_or_default()
    )
}
