//! What tracing costs a program that does nothing but open and close connections, beside its peers, in one run.
//!
//! Short sprints without and with a tracer alternate. Each is paired with the bare one before and the one after it, and
//! the median of the pairs' ratios is told: a machine that is busy with other things slows all three.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tidewait_lab::{Lab, NetNs, Sprint, Use};

/// How long a sprint lasts.
const SPRINT: Duration = Duration::from_millis(250);
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

/// One measurement beside its bare neighbours.
#[derive(Clone, Copy)]
struct Pair {
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
        "## Tracing\n\nA thread connects over the loopback, accepts and closes both ends, as fast as it goes, in a \
         namespace of its own; every\nconnection is traced twice, from either end. Sprints of {} ms with a tracer \
         alternate with bare ones; medians of {rounds} ratios to\nthe mean of the bare sprint before and the one after. \
         The CPU time is that of the thread. What must be reached: 0.97 with\n`report --trace`, 0.85 with \
         `trace --json`.\n",
        SPRINT.as_millis()
    );
    for (title, used) in
        [("Connect and close", Use::None), ("Connect, 100 bytes each way, close", Use::Request)]
    {
        let (bare, pairs) = measure(&contenders, used, rounds)?;
        write!(
            section,
            "\n### {title}\n\nBare: {:.0} connections a second, {:.1} us of CPU time each.\n\n\
             | beside | rate | CPU time, bare / it | more ns for each connection |\n|---|---|---|---|\n",
            bare.per_second(),
            bare.cpu_each().as_secs_f64() * 1e6
        )?;
        for (contender, pairs) in contenders.iter().zip(&pairs) {
            writeln!(
                section,
                "| {} | {:.3} | {:.3} | {:.0} |",
                contender.name,
                median(pairs.iter().map(|pair| pair.rate)),
                median(pairs.iter().map(|pair| pair.cpu)),
                median(pairs.iter().map(|pair| pair.more))
            )?;
        }
    }
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
        own("`tidewait trace --json`", &["trace", "--json"]),
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

/// The median bare sprint, and the pairs of each contender.
fn measure(contenders: &[Contender], used: Use, rounds: usize) -> Result<(Sprint, Vec<Vec<Pair>>)> {
    let mut all: Vec<Vec<Pair>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut bares = Vec::new();
    // The first warms up.
    sprint(used)?;
    let mut before = sprint(used)?;
    for _ in 0..rounds {
        for (contender, pairs) in contenders.iter().zip(&mut all) {
            let traced = {
                let _running = Running::start(contender)?;
                sprint(used)?
            };
            let after = sprint(used)?;
            pairs.push(pair(&before, &traced, &after));
            bares.push(before);
            before = after;
        }
    }
    bares.sort_by_key(Sprint::cpu_each);
    let middle = bares.get(bares.len() / 2).copied().context("no rounds")?;
    Ok((middle, all))
}

/// A sprint in a fresh namespace, so that none finds another's sockets.
fn sprint(used: Use) -> Result<Sprint> {
    let namespace: NetNs = Lab::new().host("sprint")?.netns().clone();
    Ok(namespace.sprint(SPRINT, used)?)
}

fn pair(before: &Sprint, traced: &Sprint, after: &Sprint) -> Pair {
    let nanoseconds = |sprint: &Sprint| sprint.cpu_each().as_secs_f64() * 1e9;
    let rate = f64::midpoint(before.per_second(), after.per_second());
    let cpu = f64::midpoint(nanoseconds(before), nanoseconds(after));
    Pair { rate: traced.per_second() / rate, cpu: cpu / nanoseconds(traced), more: nanoseconds(traced) - cpu }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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
fn attachments(pid: u32) -> usize {
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
