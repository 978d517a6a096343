//! The binary: wires the crates together, one file per command.

mod cli;
mod commands;
mod exit;
mod interrupt;
mod memory;
mod needs;
mod output;
mod place;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) if commands::check::was_meant() => commands::check::refuse(&error),
        Err(error) => error.exit(),
    }
}
