//! What `tidewait study` takes from a machine's traffic: throughput of a saturated stream, and connections a second, with it and
//! without, in turn in one run; writes docs/benchmarks-study.md.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::sockopt;
use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::{Lab, NetNs};

use super::median;

/// How long one measurement lasts: the study looks at interfaces and listeners every second.
const RUN: Duration = Duration::from_secs(2);
/// The longest that it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is written and read at once.
const CHUNK: usize = 256 << 10;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 443);

/// What is measured, in what unit, how much of it that is, and how.
type Row<'a> = (&'a str, &'a str, f64, &'a dyn Fn() -> Result<f64>);

/// The page.
pub fn page(directory: &Path, rounds: usize) -> Result<String> {
    let program = directory.join("tidewait");
    let (client, server) = Lab::new().pair()?;
    let (client, server) = (client.netns(), server.netns());
    let wire = SocketAddr::from(([10, 77, 0, 2], 443));
    let mut page = format!(
        "# Benchmark: traffic beside study\n\nMade by `cargo xtask bench --only-study` on {}, Linux {}, {} cores. One stream as fast as it goes, and connections that one \
         thread\nopens, accepts and resets; without, with, with and without `tidewait study` in each round. Medians of {rounds} rounds. Ratios are what\n\
         counts: times belong to the machine. What must be reached: 0.97 of the throughput.\n\n\
         | | without | with | with / without | method | segments looked at, of a run |\n|---|---|---|---|---|---|\n",
        said("date", &["-u", "+%Y-%m-%d"])?,
        said("uname", &["-r"])?,
        thread::available_parallelism()?,
    );
    let rows: [Row<'_>; 3] = [
        ("stream over veth, where it is received", "MB/s", 1e6, &|| stream(client, server, wire)),
        ("stream over the loopback", "MB/s", 1e6, &|| stream(server, server, LOOPBACK)),
        ("connections over the loopback", "k/s", 1e3, &|| connections(server, LOOPBACK)),
    ];
    for (name, unit, scale, measure) in rows {
        // The first is slower, whatever is measured.
        measure()?;
        let (mut bare, mut beside, mut ratios, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
        for _ in 0..rounds {
            let first = measure()?;
            let study = Studied::start(&program, server)?;
            let with = f64::midpoint(measure()?, measure()?);
            last = Some(study.end()?);
            let without = f64::midpoint(first, measure()?);
            bare.push(without / scale);
            beside.push(with / scale);
            ratios.push(with / without);
        }
        let (method, looked_at) = last.context("no rounds")?;
        writeln!(
            page,
            "| {name} | {:.1} {unit} | {:.1} {unit} | {:.3} | {method} | {} |",
            median(bare),
            median(beside),
            median(ratios),
            looked_at.map_or("only those for TIME_WAIT".to_owned(), |count| (count / 2).to_string()),
        )?;
    }
    Ok(page)
}

/// A study that runs; killed when dropped.
struct Studied(Child);

impl Drop for Studied {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Studied {
    /// Starts it, and waits until its program is in the kernel.
    fn start(program: &Path, netns: &NetNs) -> Result<Studied> {
        let mut command = netns.command(program);
        command.args(["study", "--no-memory", "--json"]).stdout(Stdio::piped());
        let mut study = Studied(command.spawn().context("cannot run tidewait study")?);
        let begin = Instant::now();
        while !holds_link(study.0.id())? {
            if let Some(status) = study.0.try_wait()? {
                bail!("tidewait study ended with {status}");
            }
            ensure!(begin.elapsed() < PATIENCE, "tidewait study does not begin");
            thread::sleep(Duration::from_millis(10));
        }
        // All interfaces, and the first look at the sockets.
        thread::sleep(Duration::from_millis(200));
        Ok(study)
    }

    /// Ends it; how it saw the segments, and how many it looked up.
    fn end(mut self) -> Result<(String, Option<u64>)> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("a process number")?;
        kill_process(pid, Signal::INT)?;
        let mut said = String::new();
        self.0.stdout.take().context("no pipe")?.read_to_string(&mut said)?;
        let study: serde_json::Value = serde_json::from_str(&said).context("tidewait study")?;
        let looked_at = study["segments_looked_at"].as_u64();
        ensure!(looked_at != Some(0), "the study saw nothing of the load");
        Ok((study["method"].as_str().unwrap_or("?").to_owned(), looked_at))
    }
}

/// Whether a process holds a program in the kernel by a link.
fn holds_link(pid: u32) -> Result<bool> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Ok(false) };
    for entry in entries {
        // It may have been closed since.
        if fs::read_to_string(entry?.path()).is_ok_and(|text| text.contains("link_type:")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes a second of one stream, as they are received.
fn stream(from: &NetNs, to: &NetNs, address: SocketAddr) -> Result<f64> {
    let listener = to.run(|| TcpListener::bind(address))??;
    let mut near = from.run(|| TcpStream::connect(address))??;
    let (mut far, _) = listener.accept()?;
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let (begin, chunk) = (Instant::now(), vec![7; CHUNK]);
        while begin.elapsed() < RUN {
            near.write_all(&chunk)?;
        }
        Ok(())
    });
    let (begin, mut bytes, mut buffer) = (Instant::now(), 0_u64, vec![0; CHUNK]);
    loop {
        match far.read(&mut buffer)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    match sender.join() {
        Ok(outcome) => outcome?,
        Err(_) => bail!("the sender panicked"),
    }
    Ok(bytes as f64 / seconds)
}

/// Connections a second, each closed by a reset, so that no port is used up.
fn connections(netns: &NetNs, address: SocketAddr) -> Result<f64> {
    netns.run(|| {
        let listener = TcpListener::bind(address)?;
        let (begin, mut count) = (Instant::now(), 0_u32);
        while begin.elapsed() < RUN {
            let near = TcpStream::connect(address)?;
            let (_far, _) = listener.accept()?;
            sockopt::set_socket_linger(&near, Some(Duration::ZERO))?;
            drop(near);
            count += 1;
        }
        Ok(f64::from(count) / begin.elapsed().as_secs_f64())
    })?
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{program} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
