//! Chores of the project: generate, check, gate, vm. `cargo xtask --help` lists them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore speaks on the terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

mod bench;
mod check;
mod diagnosis;
mod gate;
mod generate;
mod harness;
mod measured;
mod policy;
mod read_only;
mod results;
mod vm;
mod workspace;

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run everything that CI runs, to the end, and sum it up
    Gate(gate::Options),
    /// Check the rules of the house: crate edges, module signs, the map, file sizes
    Check,
    /// Check licences, banned crates, duplicates and sources of the dependencies against deny.toml
    Policy,
    /// Write the generated files anew
    Generate {
        /// Write nothing; fail if a file is not what would be written
        #[arg(long)]
        check: bool,
    },
    /// Boot a Debian kernel in an emulated machine and run a command there
    Vm(vm::Options),
    /// Measure `tidewait report` beside its peers and write docs/benchmarks.md
    Bench(bench::Options),
    /// Run every scenario of the lab and write docs/diagnosis.md: each finding, what proves it, and the measured matrix
    Diagnosis,
    /// Run every experiment on settings and write docs/settings-measured.md: what each does, and who was right about it
    SettingsMeasured,
    /// Make every headline table of the lab and write docs/results.md; a quarter of an hour, on a machine that does nothing else
    Results(results::Options),
    /// Run the workspace's kernel tests in emulated machines
    VmTest(vm::suite::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    let complaints = match chore {
        Chore::Gate(options) => return gate::run(&workspace, &options),
        Chore::Bench(options) => return bench::run(&workspace, &options),
        Chore::SettingsMeasured => return measured::run(&workspace),
        Chore::Results(options) => return results::run(&workspace, &options),
        Chore::Diagnosis => return diagnosis::run(&workspace),
        Chore::Vm(options) => return vm::run(&workspace, &options),
        Chore::VmTest(options) => return vm::suite::run(&workspace, &options),
        Chore::Check => check::complaints(&workspace)?,
        Chore::Policy => policy::complaints(&workspace)?,
        Chore::Generate { check: true } => generate::complaints(&workspace)?,
        Chore::Generate { check: false } => {
            generate::write(&workspace)?;
            Vec::new()
        }
    };
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
