//! What it costs to end a socket in TIME_WAIT, beside `ss -K`, in turn in one run; and 20,000 a second for a while. Writes
//! docs/benchmarks-reap.md.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tidewait_lab::{Lab, NetNs, Path as Way};

use super::{Figures, ended, typical};

/// Sockets of each round.
const SOCKETS: u64 = 50_000;
/// Destinations that they go to.
const DESTINATIONS: u16 = 4;
/// Sockets a second, and for how long.
const RATE: u64 = 20_000;
const SECONDS: u64 = 5;

/// The page.
pub fn page(directory: &Path, rounds: usize) -> Result<String> {
    let program = directory.join("tidewait");
    let (client, server) = Lab::new().pair()?;
    let (client, server) = (client.netns(), server.netns());
    // All that are there, whatever their age: what is measured is the ending.
    let age = ["--older-than", "10ms", "--floor", "0"];
    let mut reap = Vec::new();
    let mut ss = Vec::new();
    for _ in 0..rounds {
        fill(client, server, SOCKETS)?;
        let mut command = client.command(&program);
        command.arg("reap").args(age).args(["--once", "--json"]);
        reap.push(measured(&mut command, client)?);
        fill(client, server, SOCKETS)?;
        let mut command = client.command("ss");
        command.args(["-K", "-t", "-n", "-H", "state", "time-wait"]);
        ss.push(measured(&mut command, client)?);
    }
    let (reap, ss) = (typical(&reap), typical(&ss));
    fill(client, server, RATE * SECONDS)?;
    let mut command = client.command(&program);
    command.arg("reap").args(age).args(["--rate", &RATE.to_string()]);
    command.args(["--for", &SECONDS.to_string(), "--json"]);
    let before = client.sockstat()?.time_wait;
    let sustained = ended(&mut command)?;
    let killed = before.saturating_sub(client.sockstat()?.time_wait);
    let share = sustained.cpu.as_secs_f64() / sustained.wall.as_secs_f64();
    Ok(format!(
        "# Benchmark: ending sockets in TIME_WAIT\n\nMade by `cargo xtask bench --only-reap` on {}, Linux {}, {} cores. Whole processes, with the dump and their start, in turn in one run:\n{SOCKETS} \
         sockets in TIME_WAIT to {DESTINATIONS} destinations, filled anew for each; medians of {rounds} rounds. Ratios are what counts: times belong to\nthe machine. What must be \
         reached: 1.2 us of CPU a socket at most, 5 times cheaper than `ss -K`, 20,000 a second under a tenth of a core.\n\n\
         | command | wall ms | CPU ms | CPU us a socket | CPU, it / reap |\n|---|---|---|---|---|\n{}{}\n\
         At `--rate {RATE}` for {SECONDS} s: {:.0} sockets a second, {:.1} % of a core.\n",
        said("date", &["-u", "+%Y-%m-%d"])?,
        said("uname", &["-r"])?,
        std::thread::available_parallelism()?,
        row("tidewait reap --older-than 10ms --floor 0 --once", &reap, &reap),
        row("ss -K -tnH state time-wait", &ss, &reap),
        killed as f64 / sustained.wall.as_secs_f64(),
        share * 100.0,
    ))
}

fn row(command: &str, figures: &Figures, reap: &Figures) -> String {
    format!(
        "| `{command}` | {:.1} | {:.1} | {:.2} | {:.1} |\n",
        figures.wall.as_secs_f64() * 1e3,
        figures.cpu.as_secs_f64() * 1e3,
        figures.cpu.as_secs_f64() * 1e6 / SOCKETS as f64,
        figures.cpu.as_secs_f64() / reap.cpu.as_secs_f64().max(f64::MIN_POSITIVE),
    )
}

/// Leaves so many sockets in TIME_WAIT where there were none.
fn fill(client: &NetNs, server: &NetNs, count: u64) -> Result<()> {
    let destination = |number: u16| SocketAddr::from(([10, 77, 0, 2], 3_306 + number));
    let way = (0..DESTINATIONS.max(count.div_ceil(25_000) as u16))
        .map(destination)
        .fold(Way::between(client, server), Way::to);
    way.fill_time_wait(count)?;
    // What is to go has to be 10 ms old.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Runs a command that is to leave no socket.
fn measured(command: &mut Command, netns: &NetNs) -> Result<Figures> {
    let figures = ended(command)?;
    let left = netns.sockstat()?.time_wait;
    ensure!(left < SOCKETS / 100, "{left} sockets are left after {command:?}");
    Ok(figures)
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).stderr(Stdio::inherit()).output().context("cannot run")?;
    if !output.status.success() {
        bail!("{program} ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
