//! What a tracer holds and how long it takes to begin and to end, with many sockets; and what joining owners adds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::{Crowd, Lab, Path as Way};

use super::tracing::{attachments, quartiles, racer};

/// Connections held open; twice as many sockets.
const CONNECTIONS: u64 = 100_000;
/// Sockets in TIME_WAIT whose owners are joined.
const WAITING: u64 = 100_000;
/// How often each time is taken.
const TIMES: usize = 3;
/// Until what was freed is given back: a grace period and more.
const SETTLING: Duration = Duration::from_millis(800);
/// The longest that a tracer may take until it is attached.
const PATIENCE: Duration = Duration::from_secs(15);

/// The section of the page.
pub fn section(directory: &Path) -> Result<String> {
    let program = directory.join("tidewait").into_os_string();
    let sockets = CONNECTIONS * 2;
    let per_socket = |growth: i64| growth as f64 / sockets as f64;
    let host = Lab::new().host("held")?;

    let empty = [(); TIMES].map(|()| begin_and_end(&program));
    let before = unreclaimable()?;
    let crowd = Crowd::hold(host.netns(), &racer, CONNECTIONS)?;
    let bare = unreclaimable()? - before;
    let among = [(); TIMES].map(|()| begin_and_end(&program));
    drop(crowd);
    std::thread::sleep(SETTLING);

    let mut tracer =
        Tracer::start(host.command(&program).args(["report", "--json", "--trace", "600"]), Stdio::null())?;
    tracer.attached()?;
    let maps = tracer.maps()?;
    let before = unreclaimable()?;
    let crowd = Crowd::hold(host.netns(), &racer, CONNECTIONS)?;
    let traced = unreclaimable()? - before;
    let resident = tracer.resident()?;
    drop(tracer);
    drop(crowd);
    std::thread::sleep(SETTLING);

    let mut tracer =
        Tracer::start(host.command(&program).args(["trace", "--json", "--refused"]), Stdio::null())?;
    tracer.attached()?;
    let crowd = Crowd::hold(host.netns(), &racer, CONNECTIONS)?;
    let end = tracer.end()?;
    drop(crowd);

    let (begins, ends) = medians(empty)?;
    let (begins_among, ends_among) = medians(among)?;
    let (plain, joined) = join(&program)?;
    Ok(format!(
        "\n### {sockets} live sockets\n\nBoth ends of {CONNECTIONS} connections in a namespace, by 20 processes. Kernel memory is the growth of \
         SUnreclaim while they are opened,\nwithout and with `report --trace`; what other programs take meanwhile \
         is in it. Begin is from the start\nof `trace --json` to its first line, end from SIGINT to its exit; medians of {TIMES}.\n\n\
         | | |\n|---|---|\n\
         | kernel memory for each socket, bare | {:.0} bytes |\n\
         | more with `report --trace` | {:.0} bytes |\n\
         | its maps (memlock) | {:.1} MiB |\n\
         | its resident memory | {:.1} MiB |\n\
         | begin, no sockets / among them | {:.0} / {:.0} ms |\n\
         | end, no sockets / among them | {:.0} / {:.0} ms |\n\
         | end, all of them followed from their beginning | {:.0} ms |\n\n\
         ### Owners of {WAITING} sockets in TIME_WAIT\n\n`report --json --trace`, from SIGINT, which ends the tracing, to its exit: {joined:.0} ms; \
         `report --json` in the same namespace just after: {plain:.0} ms.\nThe join, with what else the tracing adds to a report, \
         takes {:.0} ms (medians of {TIMES}).\n",
        per_socket(bare),
        per_socket(traced - bare),
        maps as f64 / f64::from(1 << 20),
        resident as f64 / 1024.0,
        begins,
        begins_among,
        ends,
        ends_among,
        end.as_secs_f64() * 1e3,
        joined - plain,
    ))
}

/// Milliseconds of a report without and with a trace before it, among sockets in TIME_WAIT.
fn join(program: &OsString) -> Result<(f64, f64)> {
    let (mut plain, mut joined) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let host = Lab::new().host("waiting")?;
        host.set("net.ipv4.tcp_max_tw_buckets", &(WAITING * 2).to_string())?;
        let way =
            (1..=8_u8).fold(Way::within(host.netns()), |way, last| way.to(([127, 0, 0, last], 3_306).into()));
        let mut tracer =
            Tracer::start(host.command(program).args(["report", "--json", "--trace", "600"]), Stdio::null())?;
        tracer.attached()?;
        way.fill_time_wait(WAITING)?;
        joined.push(tracer.end()?);
        let begin = Instant::now();
        host.command(program).args(["report", "--json"]).stdout(Stdio::null()).status()?;
        plain.push(begin.elapsed());
    }
    Ok((middle(&plain), middle(&joined)))
}

fn middle(times: &[Duration]) -> f64 {
    let [_, median, _] = quartiles(times.iter().map(|time| time.as_secs_f64() * 1e3));
    median
}

fn medians(all: [Result<(Duration, Duration)>; TIMES]) -> Result<(f64, f64)> {
    let all = all.into_iter().collect::<Result<Vec<_>>>()?;
    let (begins, ends): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    Ok((middle(&begins), middle(&ends)))
}

/// How long `trace` takes until it follows everything, and to end.
fn begin_and_end(program: &OsString) -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let mut tracer =
        Tracer::start(Command::new(program).args(["trace", "--json", "--refused"]), Stdio::piped())?;
    let output = tracer.0.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(output);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    if line.is_empty() {
        bail!("tidewait trace said nothing: is this root, and a kernel with BPF?");
    }
    let begun = begin.elapsed();
    // The lines must stay readable: whoever writes to nobody is ended by that.
    let ended = tracer.end()?;
    drop(lines);
    Ok((begun, ended))
}

/// Kernel memory that stays until it is freed (SUnreclaim), in bytes.
fn unreclaimable() -> Result<i64> {
    std::thread::sleep(SETTLING);
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kibibytes = super::field(&text, "SUnreclaim:").context("no SUnreclaim in /proc/meminfo")?;
    Ok(i64::try_from(kibibytes)? * 1024)
}

/// A tidewait that traces; killed when it is dropped.
struct Tracer(Child);

impl Tracer {
    fn start(command: &mut Command, output: Stdio) -> Result<Tracer> {
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        Ok(Tracer(command.spawn().context("cannot run tidewait")?))
    }

    /// Waits until it is tied to the kernel, and for no longer than it may take.
    fn attached(&mut self) -> Result<()> {
        let begin = Instant::now();
        let mut before = 0;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = attachments(self.0.id());
            if now > 0 && now == before {
                return Ok(());
            }
            before = now;
            if begin.elapsed() > PATIENCE || self.0.try_wait()?.is_some() {
                bail!("tidewait did not attach to the kernel: is this root, and a kernel with BPF?");
            }
        }
    }

    /// Interrupts it and waits for its end.
    fn end(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("a process number")?;
        kill_process(pid, Signal::INT)?;
        let status = self.0.wait()?;
        if status.code() != Some(0) {
            bail!("tidewait ended with {status}");
        }
        Ok(begin.elapsed())
    }

    /// Kernel memory of its maps, each once, in bytes.
    fn maps(&self) -> Result<u64> {
        let mut maps = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", self.0.id()))? {
            let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
            if let (Some(id), Some(bytes)) = (super::field(&text, "map_id:"), super::field(&text, "memlock:"))
            {
                maps.insert(id, bytes);
            }
        }
        Ok(maps.values().sum())
    }

    /// Its resident memory, in KiB.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        super::field(&status, "VmRSS:").context("no VmRSS")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
