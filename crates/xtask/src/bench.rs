//! The benchmarks of `report` and of tracing beside their peers, alternating in one run; writes docs/benchmarks.md.
//!
//! A load is made in a namespace of its own, and this program runs itself inside it to measure. Each figure is the median
//! of several rounds; ratios are what counts, times belong to the machine.

mod held;
mod reap;
mod steer;
mod study;
mod tracing;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::workspace::Workspace;

/// Rounds of each command; the median is told.
const ROUNDS: usize = 15;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Sockets in TIME_WAIT for the comparison
    #[arg(long, default_value_t = 100_000)]
    sockets: u64,
    /// Sockets in TIME_WAIT for the memory figure
    #[arg(long, default_value_t = 1_000_000)]
    memory_sockets: u64,
    /// Rounds of the tracing benchmark
    #[arg(long, default_value_t = 5)]
    tracing_rounds: usize,
    /// Write the section on tracing anew and leave the others
    #[arg(long)]
    only_tracing: bool,
    /// Measure `tidewait reap` alone, and write docs/benchmarks-reap.md
    #[arg(long, conflicts_with = "only_tracing")]
    only_reap: bool,
    /// Rounds of that
    #[arg(long, default_value_t = 7)]
    reap_rounds: usize,
    /// Measure steer and spread only, and write docs/benchmarks-steer.md
    #[arg(long)]
    only_steer: bool,
    /// Measure traffic beside study only, and write docs/benchmarks-study.md
    #[arg(long)]
    only_study: bool,
    /// Measure the programs that were built before
    #[arg(long)]
    no_build: bool,
    /// Measure here, inside the load, and print rows: what the benchmark calls itself with
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    inside: Option<PathBuf>,
    /// Be an end of the load of steer's benchmark: what the benchmark calls itself with
    #[arg(long, hide = true, value_name = "END")]
    steer_load: Option<String>,
    /// Be a process of the tracing benchmark's load: what the benchmark calls itself with
    #[arg(long, hide = true, num_args = 1.., value_name = "WORD")]
    race: Vec<String>,
}

/// A command's medians.
struct Figures {
    wall: Duration,
    cpu: Duration,
}

/// Builds, loads, measures, writes the table.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if !options.race.is_empty() {
        tidewait_lab::race(&options.race)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(end) = &options.steer_load {
        return (if end == "server" { steer::server() } else { steer::client() }).map(|()| ExitCode::SUCCESS);
    }
    if let Some(directory) = &options.inside {
        print!("{}", measure(directory)?);
        return Ok(ExitCode::SUCCESS);
    }
    let needed = [
        &["--package", "tidewait"][..],
        &["--package", "tidewait-lab", "--example", "load"],
        &["--package", "tidewait-observe", "--example", "bare_dump"],
    ];
    for arguments in needed.into_iter().take(if options.no_build {
        0
    } else if options.only_tracing || options.only_reap || options.only_steer || options.only_study {
        1
    } else {
        needed.len()
    }) {
        let status =
            Command::new("cargo").args(["build", "--release", "--locked"]).args(arguments).status()?;
        if !status.success() {
            bail!("cargo build failed");
        }
    }
    let directory = workspace.target().join("release");
    if options.only_reap {
        let page = reap::page(&directory, options.reap_rounds)?;
        std::fs::write(workspace.root.join("docs/benchmarks-reap.md"), &page)?;
        println!("{page}");
        return Ok(ExitCode::SUCCESS);
    }
    if options.only_study {
        let page = study::page(&directory, options.tracing_rounds)?;
        std::fs::write(workspace.root.join("docs/benchmarks-study.md"), &page)?;
        println!("{page}");
        return Ok(ExitCode::SUCCESS);
    }
    let file = workspace.root.join("docs/benchmarks.md");
    if options.only_steer {
        let page = steer::page(&directory, options.tracing_rounds)?;
        std::fs::write(workspace.root.join("docs/benchmarks-steer.md"), &page)?;
        println!("{page}");
        return Ok(ExitCode::SUCCESS);
    }
    let tracing = tracing::section(&directory, options.tracing_rounds)?;
    if options.only_tracing {
        let page = std::fs::read_to_string(&file)?;
        let (others, _) = page.split_once("\n## Tracing\n").unwrap_or((page.as_str(), ""));
        std::fs::write(&file, format!("{others}\n{tracing}"))?;
        println!("{tracing}");
        return Ok(ExitCode::SUCCESS);
    }
    let comparison = loaded(&directory, options.sockets, 8)?;
    let memory = loaded(&directory, options.memory_sockets, 40)?;
    let page = format!("{}\n{tracing}", page(options, &comparison, &memory)?);
    std::fs::write(&file, &page)?;
    println!("{page}");
    Ok(ExitCode::SUCCESS)
}

/// What this program, run inside a load of `sockets`, prints.
fn loaded(directory: &Path, sockets: u64, destinations: u64) -> Result<String> {
    let output = Command::new(directory.join("examples/load"))
        .arg("time-wait")
        .args(["--destinations", &destinations.to_string(), "--count", &sockets.to_string(), "--"])
        .arg(std::env::current_exe()?)
        .args(["bench", "--inside"])
        .arg(directory)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the load")?;
    if !output.status.success() {
        bail!("the measurement ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rows of the table, measured where this process is.
fn measure(directory: &Path) -> Result<String> {
    let program = |name: &str| directory.join(name).into_os_string();
    let commands: Vec<(&str, Vec<std::ffi::OsString>)> = vec![
        ("`tidewait report --json`", vec![program("tidewait"), "report".into(), "--json".into()]),
        ("bare dump, received and discarded", vec![program("examples/bare_dump")]),
        ("`ss -tan`", vec!["ss".into(), "-tan".into()]),
        ("`netstat -tan`", vec!["netstat".into(), "-tan".into()]),
    ];
    let mut samples: Vec<Vec<Figures>> = commands.iter().map(|_| Vec::new()).collect();
    let mut peaks = Vec::new();
    let begin = Instant::now();
    for round in 0..=ROUNDS {
        // The load lasts a minute; what is measured later would be measured on less.
        if begin.elapsed() > Duration::from_secs(25) {
            break;
        }
        for ((_, command), samples) in commands.iter().zip(&mut samples) {
            // The first round warms up, and watches the memory: watching slows the watched one down.
            if round == 0 {
                peaks.push(peak(command)?);
            } else {
                samples.push(once(command)?);
            }
        }
    }
    let medians: Vec<Figures> = samples.iter().map(|samples| typical(samples)).collect();
    let Some(own) = medians.first() else { bail!("nothing was measured") };
    let mut rows = String::new();
    for (((name, _), figures), peak) in commands.iter().zip(&medians).zip(&peaks) {
        writeln!(
            rows,
            "| {name} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} |",
            figures.wall.as_secs_f64() * 1e3,
            figures.cpu.as_secs_f64() * 1e3,
            ratio(own.wall, figures.wall),
            ratio(own.cpu, figures.cpu),
            *peak as f64 / 1024.0
        )?;
    }
    Ok(rows)
}

fn ratio(own: Duration, other: Duration) -> f64 {
    own.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn spawn(command: &[std::ffi::OsString]) -> Result<Child> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    silent(Command::new(program).args(arguments))
}

fn silent(command: &mut Command) -> Result<Child> {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Runs a command once. CPU time is the scheduler's account of it (/proc/PID/schedstat, the first thread's), read
/// when it has ended and was not yet waited for.
fn once(command: &[std::ffi::OsString]) -> Result<Figures> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    ended(Command::new(program).args(arguments))
}

/// The same for a command that is ready.
fn ended(command: &mut Command) -> Result<Figures> {
    let begin = Instant::now();
    let mut child = silent(command)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process number")?;
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = begin.elapsed();
    let schedstat = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id()))?;
    let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    child.wait()?;
    Ok(Figures { wall, cpu: Duration::from_nanos(nanoseconds) })
}

/// The most memory that a command held (VmHWM), as last seen while it ran, in KiB.
fn peak(command: &[std::ffi::OsString]) -> Result<u64> {
    let mut child = spawn(command)?;
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        peak = field(&status, "VmHWM:").unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_micros(300));
    }
    Ok(peak)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The middle one of an odd number of values; of an even number, the upper of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn typical(samples: &[Figures]) -> Figures {
    let middle = |figure: fn(&Figures) -> Duration| {
        let middle = median(samples.iter().map(|sample| figure(sample).as_secs_f64()).collect());
        Duration::try_from_secs_f64(middle).unwrap_or_default()
    };
    Figures { wall: middle(|sample| sample.wall), cpu: middle(|sample| sample.cpu) }
}

fn page(options: &Options, comparison: &str, memory: &str) -> Result<String> {
    let output = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let date = output("date", &["-u", "+%Y-%m-%d"])?;
    let kernel = output("uname", &["-r"])?;
    let cores = std::thread::available_parallelism()?;
    let head = "| command | wall ms | CPU ms | report / it, wall | report / it, CPU | peak MiB |\n|---|---|---|---|---|---|\n";
    Ok(format!(
        "# Benchmarks\n\nMade by `cargo xtask bench` on {date}, Linux {kernel}, {cores} cores. Whole processes, in turn, in one run; medians \
         of up to {ROUNDS}\nrounds; the peak is of a run of its own. Ratios are what counts: times belong to the machine. What must be reached: report at most \
         1/5\n(0.20) of `ss -tan`, 1/10 (0.10) of `netstat -tan`, 1.5 times the bare dump, and under 20 MiB at a million sockets.\n\n\
         ## {} sockets in TIME_WAIT, 8 destinations\n\n{head}{comparison}\n## {} sockets in TIME_WAIT, 40 destinations\n\n{head}{memory}",
        options.sockets, options.memory_sockets
    ))
}
