//! The commands: one file each.

mod capacity;
mod doctor;
mod generate;
mod lab;
mod report;

use crate::cli::{Cli, Command};

/// Runs what was typed.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        None => report::run(&cli.report),
        Some(Command::Report(options)) => report::run(&options),
        Some(Command::Capacity(options)) => capacity::run(&options),
        Some(Command::Doctor(options)) => doctor::run(options),
        Some(Command::Lab(options)) => lab::run(&options),
        Some(Command::Completions { shell }) => generate::completions(shell),
        Some(Command::Man { command }) => generate::man(command.as_deref()),
    }
}
