//! What `tidewait steer` and `tidewait spread` are worth and what they cost; writes docs/benchmarks-steer.md.
//!
//! Client processes in one namespace connect over the loopback to a server there and close by RST, so that the number of ports
//! in use stays as it was filled. Steered and stock clients take turns in one run; ratios are what counts.

mod load;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::NetNs;

use super::median;

pub use load::{client, server};

/// Ports of the stock range, and as many beside it for steering.
const STOCK: (u16, u16) = (32_768, 60_999);
const OWN: (u16, u16) = (4_536, 32_767);
/// How long one measurement lasts.
const RUN: Duration = Duration::from_millis(700);
/// Fewer connections than this would be those of a moment.
const LEAST: u64 = 10_000;
/// The longest that steering may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace with a server, and a cgroup for those who are steered.
struct Bench {
    net: NetNs,
    group: PathBuf,
    server: Child,
    tidewait: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for _ in 0..500 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Bench {
    fn new(directory: &Path, number: usize) -> Result<Bench> {
        let net = NetNs::new()?;
        // A fill is not to end while it is measured, and what is refused is to be refused for want of ports.
        net.set("net.ipv4.tcp_max_tw_buckets", "1000000")?;
        net.set("net.ipv4.tcp_rfc1337", "1")?;
        // As between machines: by default the kernel reuses TIME_WAIT over the loopback only.
        net.set("net.ipv4.tcp_tw_reuse", "0")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .context("no cgroup v2 tree is mounted")?;
        let group = PathBuf::from(mount).join(format!("tidewait-bench-{}-{number}", std::process::id()));
        fs::create_dir(&group).context("cannot make a cgroup")?;
        let mut server = net
            .command(std::env::current_exe()?)
            .args(["bench", "--steer-load", "server"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("no pipe")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the server does not listen");
        Ok(Bench { net, group, server, tidewait: directory.join("tidewait") })
    }

    fn client(&self, steered: bool) -> Result<Client> {
        let mut child = self
            .net
            .command(std::env::current_exe()?)
            .args(["bench", "--steer-load", "client"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if steered {
            fs::write(self.group.join("cgroup.procs"), child.id().to_string())?;
        }
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Client { child, input, output })
    }

    /// Steers the group until it is dropped.
    fn steer(&self, arguments: &[String]) -> Result<Steered> {
        let mut child = self
            .net
            .command(&self.tidewait)
            .args(arguments)
            .arg("--json")
            .arg("--cgroup")
            .arg(&self.group)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let begin = Instant::now();
        let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
        output.read_line(&mut line)?;
        if !line.contains("\"begin\"") || begin.elapsed() > PATIENCE {
            let _ = child.kill();
            bail!("{arguments:?} does not begin: {line}");
        }
        Ok(Steered { child, output })
    }
}

/// Steering that goes on. It writes a line a second, and ends when nobody reads any more.
struct Steered {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Steered {
    /// Ends it, and makes sure that it was what was measured.
    fn end(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::INT).context("steering has ended by itself")?;
        let last = self.output.by_ref().lines().last().context("steering said nothing")??;
        let said: serde_json::Value = serde_json::from_str(&last)?;
        let count = |key: &str| said[key].as_u64().unwrap_or(0);
        let chosen = count("steered").max(count("spread"));
        ensure!(
            chosen >= LEAST,
            "{chosen} connections were steered or spread, too few to have been measured: {last}"
        );
        Ok(())
    }
}

impl Drop for Steered {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.input, "{command}")?;
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "{command}: the client has ended");
        Ok(line.trim().to_owned())
    }

    /// Microseconds for each connect() and close(), over `destinations` in turn.
    fn each(&mut self, destinations: u32) -> Result<f64> {
        let answer = self.ask(&format!("run {} {destinations}", RUN.as_millis()))?;
        answer.parse().with_context(|| format!("the client says {answer}"))
    }
}

/// The page.
pub fn page(directory: &Path, rounds: usize) -> Result<String> {
    let output = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (date, kernel) = (output("date", &["-u", "+%Y-%m-%d"])?, output("uname", &["-r"])?);
    let cores = std::thread::available_parallelism()?;
    let mut page = format!(
        "# Benchmarks of steer and spread\n\nMade by `cargo xtask bench --only-steer` on {date}, Linux {kernel}, {cores} cores. One client process \
         connects over the loopback\nand closes by RST; us is the CPU time of the client for one connect() and close(), in which \
         the\nkernel does nearly all of the handshake, the peer's part too. Medians of {rounds} rounds,\nsteered and stock in turn. What must be reached: the rate at 95 % fill at least 0.9 of \
         that at 20 %, at least 50 times stock at 95 %;\nless than 3 us more for each connect() than stock; spread within 5 % of stock.\n\n"
    );
    filled(directory, rounds, &mut page)?;
    many(directory, rounds, &mut page)?;
    cost(directory, rounds, &mut page)?;
    Ok(page)
}

fn steer(range: (u16, u16)) -> Vec<String> {
    vec!["steer".to_owned(), "--range".to_owned(), format!("{}-{}", range.0, range.1)]
}

/// One destination, 28,232 ports, a share of them in TIME_WAIT: stock as connect() itself fills them, all even ones first; steered at places drawn by lot.
fn filled(directory: &Path, rounds: usize, page: &mut String) -> Result<()> {
    let mut figures = Vec::new();
    for (number, steered) in [(0, false), (1, true)] {
        for fill in [20, 95] {
            let bench = Bench::new(directory, number * 10 + fill)?;
            let (low, high) = if steered { OWN } else { STOCK };
            let steering = if steered { Some(bench.steer(&steer(OWN))?) } else { None };
            bench.client(false)?.ask(&format!("fill {low} {high} {fill} 1 {}", u8::from(steered)))?;
            let mut client = bench.client(steered)?;
            let each = median((0..rounds).map(|_| client.each(1)).collect::<Result<_>>()?);
            drop(client);
            if let Some(steering) = steering {
                steering.end()?;
            }
            figures.push(each);
        }
    }
    let [stock20, stock95, own20, own95] = figures[..] else { bail!("not all was measured") };
    writeln!(
        page,
        "## One destination, 28,232 ports\n\nStock is filled as connect() itself does, all even ports first; for steer the ports in TIME_WAIT are drawn by lot.\n\n| | us at 20 % | us at 95 % | rate at 95 % / at 20 % | rate / stock, at 95 % |\n|---|---|---|---|---|\n\
         | stock | {stock20:.1} | {stock95:.1} | {:.3} | 1 |\n| steer | {own20:.1} | {own95:.1} | {:.2} | {:.0} |\n",
        stock20 / stock95,
        own20 / own95,
        stock95 / own95
    )?;
    Ok(())
}

/// 1,000 destinations, 100 ports.
fn many(directory: &Path, rounds: usize, page: &mut String) -> Result<()> {
    let mut figures = Vec::new();
    for fill in [20, 95] {
        let bench = Bench::new(directory, 100 + fill)?;
        let steering = bench.steer(&steer((20_000, 20_099)))?;
        bench.client(false)?.ask(&format!("fill 20000 20099 {fill} 1000 1"))?;
        let mut client = bench.client(true)?;
        figures.push(median((0..rounds).map(|_| client.each(1_000)).collect::<Result<_>>()?));
        steering.end()?;
    }
    let [low, high] = figures[..] else { bail!("not all was measured") };
    writeln!(
        page,
        "## 1,000 destinations, 100 ports each\n\n| | us at 20 % | us at 95 % | rate at 95 % / at 20 % |\n|---|---|---|---|\n\
         | steer | {low:.1} | {high:.1} | {:.2} |\n",
        low / high
    )?;
    Ok(())
}

/// What it costs where there is nothing to be gained: few ports in use.
fn cost(directory: &Path, rounds: usize, page: &mut String) -> Result<()> {
    writeln!(
        page,
        "## Their own cost\n\nA free range; stock, with, with, stock in each round.\n\n| | us stock | us with | more, us | rate / stock |\n|---|---|---|---|---|"
    )?;
    let spread =
        ["spread", "--sources", "127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5"].map(str::to_owned).to_vec();
    let both = [steer(OWN), spread[1..].to_vec()].concat();
    for (number, (name, destinations, arguments)) in [
        ("steer", 1, steer(OWN)),
        ("steer, 1,000 destinations", 1_000, steer(OWN)),
        ("spread", 1, spread),
        ("both", 1, both),
    ]
    .into_iter()
    .enumerate()
    {
        let bench = Bench::new(directory, 300 + number)?;
        let steering = bench.steer(&arguments)?;
        let (mut stock, mut with) = (bench.client(false)?, bench.client(true)?);
        let (mut bare, mut more, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let first = stock.each(destinations)?;
            let own = (with.each(destinations)? + with.each(destinations)?) / 2.0;
            let plain = (first + stock.each(destinations)?) / 2.0;
            bare.push(plain);
            more.push(own - plain);
            ratio.push(plain / own);
        }
        steering.end()?;
        let (bare, more) = (median(bare), median(more));
        writeln!(page, "| {name} | {bare:.1} | {:.1} | {more:.2} | {:.3} |", bare + more, median(ratio))?;
    }
    Ok(())
}
