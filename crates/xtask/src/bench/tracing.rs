//! What tracing costs programs that do nothing but open and close connections, beside its peers, in one run.
//!
//! Short runs of a load alternate: bare, traced, traced, bare (ABBA), so that a machine that becomes busier or less so
//! meanwhile slows both alike. The median of the rounds' ratios is told, and between which the middle half of them lies.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tidewait_lab::{Course, Lab, NetNs, Sprint, Use};

/// How long a run of a load lasts.
const RUN: Duration = Duration::from_millis(250);
/// The longest that a tracer may take until it is attached.
const PATIENCE: Duration = Duration::from_secs(15);
/// What people run today: the names of the columns are bpftrace's.
const COUNT: &str = "tracepoint:sock:inet_sock_set_state { @[pid, comm, args->newstate] = count(); }";
const PRINT: &str = "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d %s %d %s %d\\n\", pid, comm, \
                     args->oldstate, args->newstate, ntop(args->saddr), args->sport, ntop(args->daddr), args->dport); }";

/// Something that may run beside the sprints.
struct Contender {
    name: &'static str,
    command: Vec<OsString>,
    /// Attaches to the kernel; otherwise it is at work from the start.
    traces: bool,
}

/// What is set against itself.
#[derive(Clone, Copy)]
enum Load {
    /// Two processes, one at each end of a wire.
    Race(Use),
    /// One thread that is both ends.
    Sprint,
}

/// One round.
#[derive(Clone, Copy)]
struct Round {
    /// Connections a second, against the bare rate.
    rate: f64,
    /// The bare CPU time for each connection, against this.
    cpu: f64,
    /// Nanoseconds more of CPU time for each connection.
    more: f64,
}

/// The section of the page.
pub fn section(directory: &Path, rounds: usize) -> Result<String> {
    let contenders = contenders(directory);
    let mut section = format!(
        "## Tracing\n\nRuns of {} ms alternate: bare, traced, traced, bare. `rate` is connections a second, traced / bare, \
         `CPU` the CPU time for each\nconnection, bare / traced, at both ends; medians of {rounds} rounds with the middle half of them. \
         On a busy machine the CPU time is the\nsteadier one. What must be reached is a rate of 0.97 with `report --trace` \
         and 0.85 with `trace --json`, of a client at full speed.\n",
        RUN.as_millis()
    );
    for (title, method, load) in [
        (
            "A client at full speed",
            "A client process connects to a server process (8 threads) in another namespace over a veth pair, and closes \
             first. Both ends\nare on this machine, so each connection is traced twice.",
            Load::Race(Use::None),
        ),
        (
            "A client at full speed, 100 bytes each way",
            "The same, with a request and an answer.",
            Load::Race(Use::Request),
        ),
        (
            "The worst case",
            "One thread connects over the loopback, accepts and closes both ends: nothing else is done, no process is \
             woken, and each\nconnection is traced twice. No program is like this.",
            Load::Sprint,
        ),
    ] {
        eprintln!("{title}: {rounds} rounds of {} contenders", contenders.len());
        let begin = section.len();
        let (bare, all) = measure(&contenders, load, rounds)?;
        write!(
            section,
            "\n### {title}\n\n{method} Bare: {:.0} connections a second, {:.1} us of CPU time each.\n\n\
             | beside | rate | CPU | more ns for each connection |\n|---|---|---|---|\n",
            bare.per_second(),
            bare.cpu_each().as_secs_f64() * 1e6
        )?;
        for (contender, rounds) in contenders.iter().zip(&all) {
            let [low, rate, high] = quartiles(rounds.iter().map(|round| round.rate));
            let [low_cpu, cpu, high_cpu] = quartiles(rounds.iter().map(|round| round.cpu));
            let [_, more, _] = quartiles(rounds.iter().map(|round| round.more));
            writeln!(
                section,
                "| {} | {rate:.3} ({low:.2} to {high:.2}) | {cpu:.3} ({low_cpu:.2} to {high_cpu:.2}) | {more:.0} |",
                contender.name,
            )?;
        }
        eprintln!("{}", &section[begin..]);
    }
    eprintln!("many sockets");
    section.push_str(&super::held::section(directory)?);
    Ok(section)
}

fn contenders(directory: &Path) -> Vec<Contender> {
    let own = |name, arguments: &[&str]| Contender {
        name,
        command: std::iter::once(directory.join("tidewait").into_os_string())
            .chain(arguments.iter().map(OsString::from))
            .collect(),
        traces: true,
    };
    let shell = |name, script: String, traces| Contender {
        name,
        command: vec!["unshare".into(), "--mount".into(), "sh".into(), "-c".into(), script.into()],
        traces,
    };
    let mut contenders = vec![
        own("`tidewait report --trace`", &["report", "--json", "--trace", "30"]),
        own("`tidewait trace --json > /dev/null`", &["trace", "--json"]),
        own("`tidewait trace --summary`", &["trace", "--summary"]),
        // Who asks for one peer is not shown bind() that fails, so it is not followed.
        own("the same without bind() (`--to PEER`)", &["trace", "--summary", "--to", "192.0.2.1"]),
        shell("`ss -tan` each second", "while ss -tan; do sleep 1; done".to_owned(), false),
    ];
    // Tracepoints are found by way of tracefs, which need not be mounted here.
    let mount = "[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing";
    if Command::new("bpftrace").arg("--version").stdout(Stdio::null()).status().is_ok() {
        for (name, program) in
            [("bpftrace, counting by process and state", COUNT), ("bpftrace, a line for each change", PRINT)]
        {
            contenders.push(shell(name, format!("{mount}; exec bpftrace -e '{program}'"), true));
        }
    }
    contenders
}

/// The median bare run, and the rounds of each contender.
fn measure(contenders: &[Contender], load: Load, rounds: usize) -> Result<(Sprint, Vec<Vec<Round>>)> {
    let mut all: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut bares = Vec::new();
    // The first warms up.
    once(load)?;
    for _ in 0..rounds {
        for (contender, rounds) in contenders.iter().zip(&mut all) {
            let before = once(load)?;
            let traced = {
                let _running = Running::start(contender)?;
                [once(load)?, once(load)?]
            };
            let bare = [before, once(load)?];
            rounds.push(round(&bare, &traced));
            bares.extend(bare);
        }
    }
    bares.sort_by_key(Sprint::cpu_each);
    let middle = bares.get(bares.len() / 2).copied().context("no rounds")?;
    Ok((middle, all))
}

/// A run in fresh namespaces, so that none finds another's sockets.
fn once(load: Load) -> Result<Sprint> {
    match load {
        Load::Sprint => Ok(Lab::new().host("sprint")?.sprint(RUN, Use::None)?),
        Load::Race(used) => Ok(Course::new()?.run(&racer, RUN, used)?),
    }
}

/// This program as a process of a load.
pub fn racer(namespace: &NetNs) -> Command {
    let mut command = namespace.command("/proc/self/exe");
    command.args(["bench", "--race"]);
    command
}

fn round(bare: &[Sprint; 2], traced: &[Sprint; 2]) -> Round {
    let mean = |of: &dyn Fn(&Sprint) -> f64, [one, other]: &[Sprint; 2]| f64::midpoint(of(one), of(other));
    let nanoseconds = |sprint: &Sprint| sprint.cpu_each().as_secs_f64() * 1e9;
    let (cpu, more) = (mean(&nanoseconds, bare), mean(&nanoseconds, traced));
    let rate = mean(&Sprint::per_second, traced) / mean(&Sprint::per_second, bare);
    Round { rate, cpu: cpu / more, more: more - cpu }
}

/// Lower quartile, median, upper quartile.
pub fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| values.get(last * quarter / 4).copied().unwrap_or(f64::NAN))
}

/// A contender at work; ended when it is dropped.
struct Running(Child);

impl Running {
    fn start(contender: &Contender) -> Result<Running> {
        let (program, arguments) = contender.command.split_first().context("an empty command")?;
        let mut running = Running(
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?,
        );
        if !contender.traces {
            return Ok(running);
        }
        let begin = Instant::now();
        let mut attached = 0;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = attachments(running.0.id());
            // No more than a moment ago: it has begun.
            if now > 0 && now == attached {
                return Ok(running);
            }
            attached = now;
            if begin.elapsed() > PATIENCE || running.0.try_wait()?.is_some() {
                bail!(
                    "{} did not attach to the kernel: is this root, and a kernel with BPF?",
                    contender.name
                );
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Descriptors of a process that tie a BPF program to something.
pub fn attachments(pid: u32) -> usize {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    descriptors
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| {
            let target = target.to_string_lossy();
            ["bpf_link", "bpf-link", "raw-tracepoint", "perf_event"].iter().any(|kind| target.contains(kind))
        })
        .count()
}
