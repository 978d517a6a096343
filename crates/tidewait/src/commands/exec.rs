//! `tidewait exec`: one command, with its ports and addresses chosen otherwise than the kernel would.

pub mod keeper;
mod library;
mod program;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use tidewait_diagnose::programs;

use self::library::Library;
use self::program::Missing;
use crate::cli::Exec;
use crate::exit::{self, Usage};

/// Exit codes of env(1), nohup(1), timeout(1) and of shells, for what could not be started.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs the command; returns only if it could not be started.
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
    match may_be_preloaded(&program, arguments, &path).and_then(|()| become_it(&mut command)) {
        Ok(never) => match never {},
        Err(error) => match error.downcast_ref::<CannotStart>().map(|cannot| cannot.source.kind()) {
            Some(io::ErrorKind::NotFound) => failed(&error, NOT_FOUND),
            Some(_) => failed(&error, NOT_EXECUTABLE),
            None => exit::code(Err(error)),
        },
    }
}

/// The kernel refuses to execute the program.
#[derive(Debug)]
struct CannotStart {
    program: String,
    source: io::Error,
}

impl std::fmt::Display for CannotStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot start {}: {}", self.program, self.source)
    }
}

impl std::error::Error for CannotStart {}

fn refuse(name: &OsString, missing: Missing) -> ExitCode {
    let name = Path::new(name).display();
    let (words, code) = match missing {
        Missing::NotFound => (format!("{name}: there is no such program"), NOT_FOUND),
        Missing::NotExecutable => (format!("{name}: it cannot be executed"), NOT_EXECUTABLE),
    };
    anstream::eprintln!("tidewait: {words}");
    ExitCode::from(code)
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    anstream::eprintln!("tidewait: {error:#}");
    ExitCode::from(code)
}

/// Becomes the command: its number, its signals and its exit code are its own.
fn become_it(command: &mut Command) -> Result<Infallible> {
    let library = Library::write()?;
    command.env("LD_PRELOAD", program::preload(std::env::var_os("LD_PRELOAD"), library.path()));
    if let Err(error) = keeper::start(None, Some(&library)) {
        library.remove();
        return Err(error);
    }
    // The keeper removes the library, also when this fails.
    let source = command.exec();
    Err(CannotStart { program: command.get_program().display().to_string(), source }.into())
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
