//! The commands: one file each.

mod capacity;
pub mod check;
mod doctor;
#[cfg(feature = "act")]
mod exec;
mod explain;
mod generate;
mod lab;
mod reap;
mod report;
#[cfg(feature = "act")]
mod steer;
mod study;
mod trace;
mod tune;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::exit;

/// Runs what was typed; the exit code it ends with.
pub fn run(cli: Cli) -> ExitCode {
    #[cfg(feature = "act")]
    if !matches!(
        cli.command,
        Some(
            Command::Check(_)
                | Command::Tune(_)
                | Command::Exec(_)
                | Command::ExecKeeper(_)
                | Command::Completions { .. }
                | Command::Man { .. }
                | Command::Lab(_)
        )
    ) {
        tune::notice::say();
    }
    exit::code(match cli.command {
        Some(Command::Check(options)) => return check::run(&options),
        #[cfg(feature = "act")]
        Some(Command::Exec(options)) => return exec::run(&options),
        #[cfg(feature = "act")]
        Some(Command::ExecKeeper(options)) => exec::keeper::run(&options),
        #[cfg(not(feature = "act"))]
        Some(Command::Exec(_) | Command::Steer(_) | Command::Spread(_)) => Err(anyhow::anyhow!(
            "this tidewait was built without the feature `act`: it only reads, and has no `exec`, `steer` and `spread`"
        )),
        None => report::run(&cli.report),
        Some(Command::Report(options)) => report::run(&options),
        Some(Command::Capacity(options)) => capacity::run(&options),
        Some(Command::Explain(options)) => explain::run(&options),
        Some(Command::Trace(options)) => trace::run(&options),
        Some(Command::Study(options)) => study::run(&options),
        Some(Command::Tune(options)) => tune::run(&options),
        Some(Command::Reap(options)) => reap::run(&options),
        #[cfg(feature = "act")]
        Some(Command::Steer(options)) => steer::run(&options),
        #[cfg(feature = "act")]
        Some(Command::Spread(options)) => steer::spread(&options),
        Some(Command::Doctor(options)) => doctor::run(options),
        Some(Command::Lab(options)) => lab::run(&options),
        Some(Command::Completions { shell }) => generate::completions(shell),
        Some(Command::Man { command }) => generate::man(&command),
    })
}
