//! Other kernels: boots Debian's kernel images in an emulated machine and runs a command there.
//!
//! The image is unpacked, never installed; the root file system is an archive in memory; no KVM is needed. Nothing of
//! the machine that runs this is visible inside, and there is no network between the two.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::workspace::{Workspace, cargo};
use image::{Entry, Image};
use kernel::Offer;
use machine::{Machine, Streams};

mod image;
mod kernel;
mod machine;
pub mod suite;

/// What to boot and what to run there.
#[derive(Args)]
pub struct Options {
    /// Series of the kernel, as in the names of Debian's linux-image packages: 6.1, 6.12
    kernel: String,
    /// Put this program into /usr/local/bin there, with its shared libraries; without any, tidewait is built and taken
    #[arg(long = "binary", value_name = "PATH[:NAME]")]
    binaries: Vec<String>,
    /// Have this kernel module at hand there, with what it needs, besides the usual ones; the kernel or modprobe loads it
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    #[command(flatten)]
    machine: Machine,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Boots, runs the command, passes on what it prints. The command's exit code becomes that of the chore.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if let Some(obstacle) = machine::obstacle() {
        bail!("no emulated machine: {obstacle}");
    }
    let kernel = match kernel::obtain(&options.kernel, &store(workspace))? {
        Offer::Unpacked(kernel) => kernel,
        Offer::Nothing(reason) => bail!("no kernel {}: {reason}", options.kernel),
    };
    let mut entries = Vec::new();
    for binary in &options.binaries {
        entries.push(program(binary)?);
    }
    if options.binaries.is_empty() {
        entries.push(Entry::stripped(tidewait(workspace)?, "/usr/local/bin/tidewait"));
    }
    let script = options.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let image =
        Image { kernel: &kernel, modules: &options.modules, entries, script: format!("exec {script}\n") };
    let streams = Streams {
        stdout: Box::new(|from| pass_on(from, io::stdout())),
        stderr: Box::new(|from| pass_on(from, io::stderr())),
    };
    let code = options.machine.run(&image, &store(workspace), streams)?;
    Ok(ExitCode::from(code))
}

/// Where kernels and the archives of running machines are kept.
fn store(workspace: &Workspace) -> PathBuf {
    workspace.target().join("vm")
}

/// Builds tidewait if it is not what the sources say, and returns where it is.
fn tidewait(workspace: &Workspace) -> Result<PathBuf> {
    let status = Command::new(cargo())
        .args(["build", "--quiet", "--locked", "--release", "--package", "tidewait"])
        .current_dir(&workspace.root)
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo build of tidewait failed");
    Ok(workspace.target().join("release/tidewait"))
}

/// `PATH[:NAME]` as an entry of the archive.
fn program(argument: &str) -> Result<Entry> {
    let (path, name) = match argument.split_once(':') {
        Some((path, name)) => (PathBuf::from(path), Some(name.to_owned())),
        None => (PathBuf::from(argument), None),
    };
    let name = name.or_else(|| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    ensure!(path.is_file(), "--binary {argument}: {} is no file", path.display());
    let name = name.with_context(|| format!("--binary {argument}: name it, as PATH:NAME"))?;
    Ok(Entry::stripped(path, format!("/usr/local/bin/{name}")))
}

/// One word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Copies as it comes, so that a long command can be watched. A closed pipe ends the copying.
fn pass_on(from: &mut dyn Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => {
                to.write_all(&buffer[..read])?;
                to.flush()?;
            }
        }
    }
}

/// Runs a tool to its end; its output is shown only if it fails.
fn tool(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    ensure!(
        output.status.success(),
        "{name} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output.stdout)
}

/// How long a machine may take, on the command line in whole seconds.
fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
